//! The files that come of a plan.
//!
//! Owns their names, their text and their modes. Nothing that is there is overwritten unless it is asked for.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::ImportError;
use super::translate::{Listener, Plan};
use crate::broker::auth::acl::Acl;
use crate::broker::auth::users::Users;
use crate::config::quoted;

pub(super) const HUB: &str = "hub.toml";
pub(super) const PASSWORDS: &str = "mosquitto.passwd";
const RUMQTTD: &str = "rumqttd.toml";
const RULES: &str = "mosquitto.acl";
const USERS: &str = "users";
/// What the hub has by default for one message, bytes.
const PAYLOAD_BYTES: u64 = 1 << 20;

/// The files, with what had to be left out of them.
pub(super) struct Files {
    files: Vec<(&'static str, String, u32)>,
    pub(super) notes: Vec<String>,
    pub(super) has_passwords: bool,
}

/// Makes the files' texts; reads the users and rules that are to be copied.
pub(super) fn files(plan: &Plan) -> Result<Files, ImportError> {
    let mut files = Files { files: Vec::new(), notes: Vec::new(), has_passwords: false };
    let mut broker = format!("config = \"{RUMQTTD}\"\nallow_anonymous = {}\n", plan.allow_anonymous);
    if let Some(path) = &plan.password_file {
        let text = passwords(path, &read(path)?, &mut files.notes);
        files.files.push((PASSWORDS, text, 0o600));
        files.has_passwords = true;
        broker += &format!("password_file = \"{PASSWORDS}\"\n");
    } else if !plan.allow_anonymous && plan.listeners.iter().any(|listener| !listener.address.ip().is_loopback()) {
        let text = "nobody can log in: there is no password_file, and anonymous clients are not allowed; add users \
                    with `stationhub passwd add NAME`";
        files.notes.push(text.to_owned());
        files.files.push((USERS, String::new(), 0o600));
        broker += &format!("users = \"{USERS}\"\n");
    }
    if let Some(path) = &plan.acl_file {
        let text = read(path)?;
        if let Err(wrong) = Acl::parse(&text) {
            let (line, text) = wrong.into_iter().next().unwrap_or_default();
            return Err(ImportError::Acl { path: path.clone(), line, text });
        }
        files.files.push((RULES, text, 0o644));
        broker += &format!("acl_file = \"{RULES}\"\n");
    }
    files.files.push((RUMQTTD, rumqttd(plan), 0o644));
    files.files.push((HUB, hub(plan, &broker), 0o644));
    Ok(files)
}

/// Writes the files into `out`, which is made where it is missing; returns their paths.
pub(super) fn write(files: &Files, out: &Path, force: bool) -> Result<Vec<PathBuf>, ImportError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Write { path, source }
    };
    let paths: Vec<PathBuf> = files.files.iter().map(|(name, ..)| out.join(name)).collect();
    if let Some(taken) = paths.iter().find(|path| !force && path.exists()) {
        return Err(ImportError::Exists(taken.clone()));
    }
    fs::create_dir_all(out).map_err(failed(out))?;
    for ((_, text, mode), path) in files.files.iter().zip(&paths) {
        if force && path.exists() {
            // Its mode may be wider than the new one's.
            fs::remove_file(path).map_err(failed(path))?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(*mode).open(path).map_err(failed(path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed(path))?;
    }
    Ok(paths)
}

fn read(path: &Path) -> Result<String, ImportError> {
    fs::read_to_string(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })
}

/// Returns the text without the lines that Mosquitto passes over and the hub would refuse.
fn passwords(path: &Path, text: &str, notes: &mut Vec<String>) -> String {
    let wrong = Users::parse(text).err().unwrap_or_default();
    for (line, why) in &wrong {
        notes.push(format!("{}:{line}: {why}; the line is left out", path.display()));
    }
    let is_good = |index: usize| wrong.iter().all(|(line, _)| *line != index + 1);
    let lines = text.lines().enumerate().filter(|(index, _)| is_good(*index));
    lines.map(|(_, line)| format!("{line}\n")).collect()
}

fn rumqttd(plan: &Plan) -> String {
    let mut text = String::from(
        "# The MQTT side of the hub, in rumqttd's own format, made from a mosquitto.conf.\n\nid = 0\n\n[router]\n\
         max_connections = 1024\nmax_outgoing_packet_count = 100\nmax_segment_size = 262144\nmax_segment_count = 4\n",
    );
    let payload_bytes_max = plan.payload_bytes_max.unwrap_or(PAYLOAD_BYTES);
    for websockets in [false, true] {
        let listeners = plan.listeners.iter().filter(|listener| listener.websockets == websockets);
        for (index, listener) in listeners.enumerate() {
            text += &table(listener, index + 1, payload_bytes_max);
        }
    }
    text
}

fn table(listener: &Listener, number: usize, payload_bytes_max: u64) -> String {
    let kind = if listener.websockets { "ws" } else { "v4" };
    let mut text = format!(
        "\n[{kind}.{number}]\nname = \"{kind}-{number}\"\nlisten = \"{}\"\nnext_connection_delay_ms = 1\n\n\
         [{kind}.{number}.connections]\nconnection_timeout_ms = 10000\nmax_payload_size = {payload_bytes_max}\n\
         max_inflight_count = 64\n",
        listener.address
    );
    if let Some(tls) = &listener.tls {
        text += &format!("\n[{kind}.{number}.tls]\n");
        for (key, path) in
            [("certpath", Some(&tls.cert)), ("keypath", Some(&tls.key)), ("capath", tls.client_ca.as_ref())]
        {
            if let Some(path) = path {
                text += &format!("{key} = {}\n", in_toml(path));
            }
        }
    }
    text
}

fn hub(plan: &Plan, broker: &str) -> String {
    let mut text = format!(
        "# Made from a mosquitto.conf; docs/configuration.md says what else there is.\n\n\
         # [store]\n# path = \"/var/lib/stationhub/weather_data.db\"   # without it, weather_data.db beside this file\n\n\
         [broker]\n{broker}"
    );
    if !plan.limits.is_empty() {
        text += "\n[broker.limits]\n";
    }
    for (key, number) in &plan.limits {
        text += &format!("{key} = {number}\n");
    }
    if let Some(level) = plan.log_level {
        text += &format!("\n[log]\nlevel = \"{level}\"\n");
    }
    text
}

/// Returns a path as TOML has it; a relative one is relative to the working directory, as it is for Mosquitto.
fn in_toml(path: &Path) -> String {
    quoted(&std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()).display().to_string())
}
