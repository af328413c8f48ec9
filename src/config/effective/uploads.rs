//! Prints the sections `[[upload]]`. A password is never shown.

use super::Text;
use crate::config::Password;
use crate::config::upload::{Network, Place, Upload, Uploads};

pub(super) fn uploads(text: &mut Text, uploads: &Uploads) {
    for upload in &uploads.list {
        one(text, upload);
    }
    for warning in &uploads.warnings {
        text.comment(&format!("warning: {warning}"));
    }
}

fn one(text: &mut Text, upload: &Upload) {
    text.section("[upload]");
    text.string("name", &upload.name);
    text.string("network", upload.network.name());
    text.string("station", &upload.station);
    match &upload.password {
        Some(Password::Text(_)) => text.comment("password = \"***\""),
        Some(Password::File(file)) => text.path("password_file", file),
        None => {}
    }
    text.seconds("interval_s", upload.interval);
    text.seconds("age_s_max", upload.age_max);
    match &upload.place {
        Place::Official if upload.network == Network::Cwop => text.comment("server: CWOP's own"),
        Place::Official => text.comment("url: the network's own"),
        Place::Url(url) => text.string("url", &url.to_string()),
        Place::Server(host, port) if host.contains(':') => text.string("server", &format!("[{host}]:{port}")),
        Place::Server(host, port) => text.string("server", &format!("{host}:{port}")),
    }
    if let Some(ca) = &upload.ca {
        text.path("ca", ca);
    }
}
