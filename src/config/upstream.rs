//! Reads section `[bridge]` of `hub.toml`: its keys, their defaults and ranges, and what they say together.
//!
//! Owns the rules for the upstream's URL and for the topics on both sides. It never connects to anything.

use std::net::Ipv6Addr;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustls::pki_types::ServerName;

use super::bridge::PASSWORD_BYTES_MAX;
use super::listeners::PAYLOAD_BYTES_MAX;
use super::reader::Reader;
use super::sections::{DAY_S, GIB, MIB, seconds};
use super::{Bridge, BridgeTls, Password, Protocol};
use crate::tls::{self, Role};
use crate::topic::{is_shared, overlap, valid_filter};

/// Stands for the topic in `bridge.prefix`.
const TOPIC: &str = "{topic}";
/// Stands for the station's name in several keys.
const STATION: &str = "{station}";
/// The prefix where none is set.
const PREFIX: &str = "stations/{station}/{topic}";
/// Longest client id, characters.
const CLIENT_ID_CHARS_MAX: usize = 128;
/// Longest prefix, bytes: most of MQTT's 65,535 are the topic's.
const PREFIX_BYTES_MAX: usize = 1_024;
const URL_WORDS: &str =
    "must be \"mqtt://HOST\", \"mqtt://HOST:PORT\", or the same with mqtts for TLS; an IPv6 address in brackets";

/// The upstream, as the URL names it.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    host: String,
    port: u16,
    tls: bool,
}

/// Reads the section; `None` where it names no upstream. All other keys are checked all the same.
pub(super) fn bridge(reader: &mut Reader, base: &Path, station: &str) -> Option<Bridge> {
    let url = reader.parsed("bridge.url", url).flatten();
    let (protocol, client_id) = (protocol(reader), client_id(reader, station));
    let username = reader.parsed("bridge.username", |text| mqtt_text(text, "username"));
    let (password, mut warnings) = password(reader, base, url.is_some());
    if protocol == Protocol::V4 && password.is_some() && username.is_none() {
        reader.complain("bridge.username", "is missing: protocol 4 has a password only beside a user name");
    }
    let certificates = certificates(reader, base, url.as_ref(), &mut warnings);
    let (forward, prefix, subscribe) = topics(reader, station, url.is_some());
    if protocol == Protocol::V4 {
        warnings.extend(echoes(&forward, &prefix, &subscribe));
    }
    let (outbox_bytes_max, outbox_age_max, payload_bytes_max) = outbox(reader);
    let bridge = Bridge {
        host: String::new(),
        port: 0,
        tls: None,
        protocol,
        client_id,
        username,
        password,
        forward,
        prefix,
        keep_retained: reader.switch("bridge.keep_retained").unwrap_or(true),
        subscribe,
        local_user: local_user(reader),
        qos: if number(reader, "bridge.qos", 1, 1..=2) == 2 { 2 } else { 1 },
        window: u16::try_from(number(reader, "bridge.window", 100, 1..=1_000)).unwrap_or(u16::MAX),
        outbox_bytes_max,
        outbox_age_max,
        payload_bytes_max,
        rate_max: u32::try_from(number(reader, "bridge.rate_max", 0, 0..=1_000_000)).ok().filter(|rate| *rate > 0),
        live_first: reader.switch("bridge.live_first").unwrap_or(false),
        keep_alive: seconds(reader, "bridge.keep_alive_s", 60, 5..=u64::from(u16::MAX)),
        ack_wait_max: seconds(reader, "bridge.ack_wait_s_max", 30, 1..=3_600),
        reconnect_max: seconds(reader, "bridge.reconnect_s_max", 60, 1..=3_600),
        warnings,
    };
    url.map(|Url { host, port, tls }| Bridge { host, port, tls: tls.then_some(certificates), ..bridge })
}

fn number(reader: &mut Reader, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
    reader.whole(key, allowed).unwrap_or(default)
}

/// Takes a URL apart; an empty one is no upstream. A login in it is kept out of the error.
fn url(text: &str) -> Result<Option<Url>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    if text.contains('@') {
        return Err("must not hold a login; take it out, and set bridge.username with bridge.password_file or \
                    bridge.password"
            .to_owned());
    }
    let wrong = || format!("{URL_WORDS}; is {text:?}");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    let (tls, default_port) = match scheme {
        "mqtt" => (false, 1883),
        "mqtts" => (true, 8883),
        _ => return Err(wrong()),
    };
    if rest.contains(['/', '?', '#']) {
        return Err(format!("must end after the host or the port, without path and query; is {text:?}"));
    }
    let (host, port) = match rest.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) => (host.parse::<Ipv6Addr>().map_err(|_| wrong())?.to_string(), port),
        Some(None) => return Err(wrong()),
        None => {
            let (host, port) = rest.split_at(rest.find(':').unwrap_or(rest.len()));
            (host.to_owned(), port)
        }
    };
    // What may be in a certificate is a name in the DNS, or an address; without TLS no other host can be reached either.
    if ServerName::try_from(host.as_str()).is_err() {
        return Err(format!("must name a host as the DNS has it, or an IP address; is {text:?}"));
    }
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => default_port,
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            digits.parse().ok().filter(|port| *port > 0).ok_or_else(wrong)?
        }
        _ => return Err(wrong()),
    };
    Ok(Some(Url { host, port, tls }))
}

fn protocol(reader: &mut Reader) -> Protocol {
    match number(reader, "bridge.protocol", 5, 4..=5) {
        4 => Protocol::V4,
        _ => Protocol::V5,
    }
}

fn client_id(reader: &mut Reader, station: &str) -> String {
    let words = "1 to 128 characters without control characters, \"{station}\" standing for the station's name";
    let filled = |text: &str| {
        let id = text.replace(STATION, station);
        is_word(&id, CLIENT_ID_CHARS_MAX).then_some(id)
    };
    reader.text("bridge.client_id", words, filled).unwrap_or_else(|| format!("stationhub-{station}"))
}

fn local_user(reader: &mut Reader) -> String {
    let name = |text: &str| is_word(text, CLIENT_ID_CHARS_MAX).then(|| text.to_owned());
    let words = "the name of a user, 1 to 128 characters without control characters";
    reader.text("bridge.local_user", words, name).unwrap_or_else(|| "bridge".to_owned())
}

fn is_word(text: &str, chars_max: usize) -> bool {
    (1..=chars_max).contains(&text.chars().count()) && !text.contains(char::is_control)
}

/// Takes a text that MQTT can carry; it may be a secret, and stays out of the error.
fn mqtt_text(text: &str, what: &str) -> Result<String, String> {
    match text.len() {
        0 => Err(format!("must not be empty; leave it out where there is no {what}")),
        1..=PASSWORD_BYTES_MAX if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(format!("must have at most {PASSWORD_BYTES_MAX} bytes, and no NUL")),
    }
}

/// Reads where the password comes from, and whether it is there where it will be `needed`.
fn password(reader: &mut Reader, base: &Path, needed: bool) -> (Option<Password>, Vec<String>) {
    let text = reader.parsed("bridge.password", |text| mqtt_text(text, "password")).map(Password::Text);
    let file = file(reader, base, "bridge.password_file").map(Password::File);
    if text.is_some() && file.is_some() {
        reader.complain("bridge.password_file", "must not stand beside bridge.password; leave one of them out");
    }
    let mut warnings = Vec::new();
    if let Some(source @ Password::File(path)) = file.as_ref().filter(|_| needed) {
        if let Err(error) = source.read() {
            reader.complain("bridge.password_file", format!("{} cannot be used: {error}", path.display()));
        }
        if std::fs::metadata(path).is_ok_and(|facts| facts.permissions().mode() & 0o004 != 0) {
            let path = path.display();
            warnings.push(format!("{path}: bridge.password_file: everybody on this machine can read it; chmod 600 it"));
        }
    }
    (text.or(file), warnings)
}

/// Reads the files of certificates, where the `url` wants TLS.
fn certificates(reader: &mut Reader, base: &Path, url: Option<&Url>, warnings: &mut Vec<String>) -> BridgeTls {
    const KEYS: [&str; 3] = ["bridge.ca", "bridge.client_cert", "bridge.client_key"];
    let [ca, certificate, key] = KEYS.map(|key| file(reader, base, key));
    let set = KEYS.map(|key| reader.is_set(key));
    let mut complain = |key, text: String| reader.complain(key, text);
    if set[1] != set[2] {
        let (is, is_not) = if set[1] { (KEYS[1], KEYS[2]) } else { (KEYS[2], KEYS[1]) };
        complain(is, format!("needs {is_not} beside it"));
    }
    let files = BridgeTls { ca, client: certificate.zip(key) };
    match url {
        Some(Url { tls: true, .. }) => {
            for (role, error) in files.settings().err().unwrap_or_default() {
                complain(tls_key(role), error.to_string());
            }
            let own = files.client.iter().flat_map(|(certificate, _)| tls::warnings(certificate));
            warnings.extend(own.map(|text| format!("bridge.client_cert: {text}")));
        }
        Some(Url { tls: false, .. }) => {
            for (key, _) in KEYS.into_iter().zip(set).filter(|(_, is_set)| *is_set) {
                complain(key, "needs TLS: write bridge.url with mqtts://, or leave this key out".to_owned());
            }
        }
        None => {}
    }
    files
}

fn tls_key(role: Role) -> &'static str {
    match role {
        Role::Authorities => "bridge.ca",
        Role::Certificate => "bridge.client_cert",
        Role::Key => "bridge.client_key",
    }
}

fn file(reader: &mut Reader, base: &Path, key: &str) -> Option<PathBuf> {
    reader.path(key, base, "a file", |text| !text.is_empty())
}

/// Reads what goes up, as what, and what comes down; all of it has to fit the station's name where it is `needed`.
fn topics(reader: &mut Reader, station: &str, needed: bool) -> (Vec<String>, String, Vec<String>) {
    let is_filter = |filter: &str| valid_filter(filter) && !is_shared(filter) && filter.len() <= usize::from(u16::MAX);
    let words = "an MQTT topic filter, not of a shared subscription";
    let forward = reader.texts("bridge.forward", words, is_filter).unwrap_or_else(|| vec!["#".to_owned()]);
    let upward = reader.parsed("bridge.prefix", |text| prefix(text, station));
    let upward = upward.unwrap_or_else(|| {
        prefix(PREFIX, station).unwrap_or_else(|text| {
            if needed && !reader.is_set("bridge.prefix") {
                reader.complain("bridge.prefix", text);
            }
            String::new()
        })
    });
    let fill = |filter: &str| filter.replace(STATION, station);
    let subscribe = reader.texts("bridge.subscribe", words, |filter| is_filter(&fill(filter))).unwrap_or_default();
    (forward, upward, subscribe.iter().map(|filter| fill(filter)).collect())
}

/// Fills the station's name in; what is left has the topic for its end.
fn prefix(text: &str, station: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("{what}, such as {PREFIX:?}; is {text:?}"));
    let Some(levels) = text.strip_suffix(TOPIC).filter(|levels| levels.is_empty() || levels.ends_with('/')) else {
        return wrong("must end with {topic}, as a level of its own");
    };
    if levels.contains(TOPIC) {
        return wrong("must have {topic} once, at its end");
    }
    let levels = levels.replace(STATION, "");
    if levels.contains(['+', '#', '{', '}']) || levels.contains(char::is_control) {
        return wrong(
            "must be topic levels without '+', '#', control characters, and braces but those of {station} and {topic}",
        );
    }
    if text.contains(STATION) && station.contains(['{', '}']) {
        return Err(format!("takes no station's name with braces, and it is {station:?}; write another name out"));
    }
    let filled = text.replace(STATION, station);
    if filled.len() > PREFIX_BYTES_MAX {
        return Err(format!("must have at most {PREFIX_BYTES_MAX} bytes, has {}", filled.len()));
    }
    Ok(filled)
}

/// Says which subscriptions bring the hub's own messages back.
fn echoes(forward: &[String], prefix: &str, subscribe: &[String]) -> Vec<String> {
    let sent: Vec<String> = forward.iter().map(|filter| prefix.replace(TOPIC, filter)).collect();
    let told = |filter: &&String| sent.iter().any(|sent| overlap(filter, sent));
    let words = |filter: &String| {
        format!(
            "bridge.subscribe: {filter:?} matches what the hub forwards: with protocol = 4 the upstream sends it back, \
             and the hub can only drop it; use protocol = 5, or filters and a prefix that lie apart"
        )
    };
    subscribe.iter().filter(told).map(words).collect()
}

/// Reads the limits of what waits.
fn outbox(reader: &mut Reader) -> (u64, Option<Duration>, usize) {
    const AGE_S: RangeInclusive<u64> = 60..=10 * 366 * DAY_S;
    let bytes_max = number(reader, "bridge.outbox_bytes_max", GIB, MIB..=1_024 * GIB);
    let age_s = number(reader, "bridge.outbox_age_s_max", 0, 0..=*AGE_S.end());
    if age_s != 0 && !AGE_S.contains(&age_s) {
        let text = format!("must be 0, for none, or between {} and {}, is {age_s}", AGE_S.start(), AGE_S.end());
        reader.complain("bridge.outbox_age_s_max", text);
    }
    let payload = reader.size("bridge.payload_bytes_max", 1..=PAYLOAD_BYTES_MAX).unwrap_or(1_000_000);
    if payload as u64 > bytes_max {
        let text = format!("must not be above bridge.outbox_bytes_max, {bytes_max}, is {payload}");
        reader.complain("bridge.payload_bytes_max", text);
    }
    (bytes_max, (age_s > 0).then(|| Duration::from_secs(age_s)), payload)
}
