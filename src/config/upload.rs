//! Sections `[[upload]]`: which weather networks get the station's weather.
//!
//! Owns their keys, and the networks' own rules on how often and how late they take it. A secret never gets into the text of a
//! problem. It never asks a network.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::http::Uri;

use super::alerting::{NAME_WORDS, is_name};
use super::channels::{authorities, password};
use super::reader::Reader;
use super::{Password, Station};

/// Sections, at most: each has a task of its own.
const UPLOADS_MAX: usize = 10;
/// Longest interval, seconds.
const INTERVAL_S_MAX: u64 = 3_600;
/// Longest id of a station, characters.
const STATION_CHARS_MAX: usize = 64;
/// Longest call sign, with what follows it, characters.
const CALL_CHARS_MAX: usize = 9;
const URL_WORDS: &str =
    "must be \"https://HOST/PATH\", without a login and without a query; http:// only for this machine";
const SERVER_WORDS: &str = "a server of APRS-IS as HOST:PORT, such as \"cwop.aprs.net:14580\"";

/// A weather network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Weather Underground, and whoever takes its protocol.
    Wunderground,
    /// Windy.
    Windy,
    /// The Citizen Weather Observer Program.
    Cwop,
}

/// What a network asks of stations.
struct Rules {
    /// Seconds between two observations: what it likes, and the least that it takes.
    interval_s: u64,
    interval_s_min: u64,
    /// The least seconds between two requests.
    pause_s_min: u64,
    /// How old an observation may be: what is sent where nobody says, and the most that it takes.
    age_s: u64,
    age_s_max: u64,
}

impl Network {
    /// Every network.
    pub const ALL: [Network; 3] = [Network::Wunderground, Network::Windy, Network::Cwop];

    /// Returns its name.
    pub fn name(self) -> &'static str {
        match self {
            Network::Wunderground => "wunderground",
            Network::Windy => "windy",
            Network::Cwop => "cwop",
        }
    }

    fn rules(self) -> Rules {
        let (interval_s, interval_s_min, pause_s_min, age_s, age_s_max) = match self {
            Network::Wunderground => (60, 60, 2, 86_400, 7 * 86_400),
            // It takes one request in five minutes, and nothing that is older than two hours.
            Network::Windy => (300, 300, 300, 0, 6_900),
            Network::Cwop => (600, 300, 300, 0, 0),
        };
        Rules { interval_s, interval_s_min, pause_s_min, age_s, age_s_max }
    }
}

/// Where a network is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where its own documentation says.
    Official,
    /// By HTTP, elsewhere.
    Url(Uri),
    /// By APRS-IS, elsewhere: host and port.
    Server(String, u16),
}

impl Place {
    /// Tells whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        match self {
            Place::Official => false,
            Place::Url(url) => is_loopback(url.host().unwrap_or_default()),
            Place::Server(host, _) => is_loopback(host),
        }
    }
}

/// One `[[upload]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// Its name, by which the database remembers what was sent.
    pub name: String,
    /// The network.
    pub network: Network,
    /// The station's id there.
    pub station: String,
    /// The station's password there; `None` for CWOP, which asks for none.
    pub password: Option<Password>,
    /// The time between two observations.
    pub interval: Duration,
    /// How old an observation may be that is sent, counted from the newest.
    pub age_max: Duration,
    /// The least time between two requests.
    pub pause_min: Duration,
    /// Where the network is.
    pub place: Place,
    /// The authorities that its certificate may come from; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Degrees north and degrees east; of CWOP alone.
    pub position: Option<(f64, f64)>,
}

/// All sections `[[upload]]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Uploads {
    /// The networks.
    pub list: Vec<Upload>,
    /// What is not wrong, but should be known.
    pub warnings: Vec<String>,
}

/// Reads every `[[upload]]`.
pub(super) fn uploads(reader: &mut Reader, base: &Path, station: &Station) -> Uploads {
    if !reader.is_set("upload") {
        return Uploads::default();
    }
    let keys = reader.list("upload");
    if keys.len() > UPLOADS_MAX {
        reader.complain("upload", format!("at most {UPLOADS_MAX} can stand here, are {}", keys.len()));
    }
    let mut uploads = Uploads::default();
    for key in &keys {
        let Some(upload) = upload(reader, base, key, station, &mut uploads.warnings) else { continue };
        if uploads.list.iter().any(|other| other.name == upload.name) {
            let text = format!("{:?} is the name of another one, too; give each a name of its own", upload.name);
            reader.complain(&format!("{key}.name"), text);
        }
        uploads.list.push(upload);
    }
    if station.altitude_m.is_none() {
        let text = "upload: without station.altitude_m no air pressure is sent: networks want that at sea level";
        uploads.warnings.push(text.to_owned());
    }
    uploads
}

fn upload(
    reader: &mut Reader,
    base: &Path,
    key: &str,
    station: &Station,
    warnings: &mut Vec<String>,
) -> Option<Upload> {
    let of = |name: &str| format!("{key}.{name}");
    reader.require(&of("network"));
    reader.require(&of("station"));
    let known = |text: &str| Network::ALL.into_iter().find(|network| network.name() == text);
    let Some(network) = reader.text(&of("network"), "\"wunderground\", \"windy\" or \"cwop\"", known) else {
        // Which keys go with it is not known.
        reader.accept_all(key);
        return None;
    };
    let name = reader.text(&of("name"), NAME_WORDS, |text| is_name(text).then(|| text.to_owned()));
    let id = id(reader, &of("station"), network);
    let secret = secret(reader, base, key, network, warnings);
    let place = place(reader, key, network);
    let is_here = place.as_ref().is_none_or(Place::is_loopback);
    let rules = network.rules();
    let interval_s_min = if is_here { 1 } else { rules.interval_s_min };
    let interval_s = reader.whole(&of("interval_s"), interval_s_min..=INTERVAL_S_MAX).unwrap_or(rules.interval_s);
    let interval = Duration::from_secs(interval_s);
    let age_s = reader.whole(&of("age_s_max"), 0..=rules.age_s_max).unwrap_or(rules.age_s);
    let ca = if network == Network::Cwop { None } else { authorities(reader, base, &of("ca")) };
    let position = match network {
        Network::Cwop => position(reader, key, station),
        _ => None,
    };
    Some(Upload {
        name: name.unwrap_or_else(|| network.name().to_owned()),
        network,
        station: id?,
        password: secret,
        interval,
        age_max: Duration::from_secs(age_s),
        // What this machine takes is its own affair, but what was missed is to get through beside what comes.
        pause_min: Duration::from_secs(rules.pause_s_min).min(interval / if is_here { 2 } else { 1 }),
        place: place?,
        ca,
        position,
    })
}

fn id(reader: &mut Reader, key: &str, network: Network) -> Option<String> {
    let is_plain = |text: &str, more: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    match network {
        Network::Cwop => {
            let words = "the station's id, such as \"CW1234\", or an amateur's call sign";
            reader.text(key, words, |text| {
                (text.len() <= CALL_CHARS_MAX && is_plain(text, b"-")).then(|| text.to_ascii_uppercase())
            })
        }
        _ => {
            let words = "the station's id, up to 64 letters, digits, '-' and '_'";
            reader.text(key, words, |text| {
                (text.len() <= STATION_CHARS_MAX && is_plain(text, b"-_")).then(|| text.to_owned())
            })
        }
    }
}

/// Reads the password; CWOP's is a passcode, which only amateurs have.
fn secret(
    reader: &mut Reader,
    base: &Path,
    key: &str,
    network: Network,
    warnings: &mut Vec<String>,
) -> Option<Password> {
    let secret = password(reader, base, key, warnings);
    let password_key = format!("{key}.password");
    match &secret {
        Some(Password::Text(text)) if text.chars().any(char::is_control) => {
            reader.complain(&password_key, "must not hold control characters");
        }
        Some(Password::Text(text)) if network == Network::Cwop && text.parse::<i32>().is_err() => {
            reader.complain(
                &password_key,
                "must be a passcode of APRS-IS, a whole number; leave it out where there is none",
            );
        }
        None if network != Network::Cwop
            && !reader.is_set(&password_key)
            && !reader.is_set(&format!("{key}.password_file")) =>
        {
            reader.complain(&password_key, "is missing: set password_file or password as the network shows it");
        }
        _ => {}
    }
    secret
}

/// Reads where the network is; `None` where that is wrong.
fn place(reader: &mut Reader, key: &str, network: Network) -> Option<Place> {
    if network == Network::Cwop {
        let key = format!("{key}.server");
        let is_set = reader.is_set(&key);
        let found = reader.text(&key, SERVER_WORDS, server);
        return if is_set { found } else { Some(Place::Official) };
    }
    let key = format!("{key}.url");
    let is_set = reader.is_set(&key);
    let found = reader.parsed(&key, |text| url(text).ok_or_else(|| URL_WORDS.to_owned()));
    if is_set { found } else { Some(Place::Official) }
}

fn url(text: &str) -> Option<Place> {
    let url: Uri = text.parse().ok()?;
    let authority = url.authority()?;
    let is_safe = match url.scheme_str()? {
        "https" => true,
        "http" => is_loopback(authority.host()),
        _ => false,
    };
    let is_port_wrong = authority.as_str().len() > authority.host().len() && authority.port_u16().is_none();
    let is_plain = url.query().is_none() && !authority.as_str().contains('@') && !authority.host().is_empty();
    (is_safe && is_plain && !is_port_wrong).then_some(Place::Url(url))
}

fn server(text: &str) -> Option<Place> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_host = !host.is_empty() && !host.contains(['/', '@', ' ']);
    let port = port.parse().ok().filter(|port| *port > 0)?;
    is_host.then(|| Place::Server(host.to_owned(), port))
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns where the station is, which every packet says.
fn position(reader: &mut Reader, key: &str, station: &Station) -> Option<(f64, f64)> {
    for (name, is_set) in [("latitude", station.latitude.is_some()), ("longitude", station.longitude.is_some())] {
        let place = format!("station.{name}");
        if !is_set && !reader.is_set(&place) {
            reader.complain(&place, format!("is missing: {key} sends it, as CWOP asks of every station"));
        }
    }
    station.latitude.zip(station.longitude)
}
