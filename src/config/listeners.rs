//! Reads `rumqttd.toml`: the router's settings and the MQTT listeners, with the certificates that they name.
//!
//! Owns what of rumqttd's format the hub takes, and refuses in clear words what it does not do. It never opens a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};
use rumqttd::TlsConfig;

use super::error::Problem;
use super::reader::Reader;
use super::sources;
use crate::tls::{Certificates, Files, Role, TlsError};

/// Stands in for `rumqttd.toml` where there is none.
const BUILT_IN: &str = include_str!("../../rumqttd.toml");

/// Room in a packet beside its payload: a topic of 65,535 bytes, the headers, and MQTT 5 properties.
const PACKET_HEADROOM_BYTES: usize = 65_536 + 4_096;

/// Largest payload: what MQTT's packet length of 268,435,455 leaves.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 268_435_455 - PACKET_HEADROOM_BYTES as u64;

/// The words for a socket address in error lines.
pub(super) const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883";

/// Parts of rumqttd's format that the hub does not do.
const REFUSED: [(&str, &str); 8] = [
    ("cluster", "clusters are not supported; remove [cluster]"),
    ("bridge", "rumqttd's bridge is not supported; remove [bridge]"),
    ("console", "rumqttd's console is not supported; remove [console]"),
    ("prometheus", "rumqttd's metrics are not supported; remove [prometheus]"),
    ("metrics", "rumqttd's metrics are not supported; remove [metrics]"),
    ("router.custom_segment", "is not supported: all filters share one segment size; remove it"),
    ("router.initialized_filters", "is not supported; remove it"),
    ("router.shared_subscriptions_strategy", "is not supported: the hub shares out messages itself; remove it"),
];

/// The tables that listeners stand in.
const TABLES: [&str; 3] = ["v4", "v5", "ws"];

/// A listener, which speaks MQTT 3.1.1 and 5.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its name in `rumqttd.toml`.
    pub name: String,
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Largest packet that a client may send, bytes.
    pub packet_bytes_max: usize,
    /// How long a client may take to send its CONNECT.
    pub connect_timeout: Duration,
    /// Whether MQTT comes in WebSocket messages.
    pub websocket: bool,
    /// The certificates, where it speaks TLS.
    pub tls: Option<Arc<Certificates>>,
}

impl Listener {
    /// Names what it speaks below MQTT.
    pub fn kind(&self) -> &'static str {
        match (self.websocket, &self.tls) {
            (false, None) => "TCP",
            (false, Some(_)) => "TLS",
            (true, None) => "WebSocket",
            (true, Some(_)) => "WebSocket over TLS",
        }
    }

    /// Tells whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What the hub takes from `rumqttd.toml`.
pub(super) struct Bus {
    pub(super) router: rumqttd::RouterConfig,
    pub(super) listeners: Vec<Listener>,
    /// What is not wrong with them, but should be known.
    pub(super) warnings: Vec<String>,
    /// Whether it came from a file and not from the built-in default.
    pub(super) from_file: bool,
    /// Its origin in error lines.
    pub(super) source: String,
}

/// Reads the file, or the built-in default where it is missing and was not `named`.
pub(super) fn read(path: &Path, named: bool) -> Result<Bus, Vec<Problem>> {
    let file = path.display().to_string();
    let text = sources::read(path, named).map_err(|text| {
        let text = format!("{file} {text}; correct the path, or leave broker.config out for the built-in default");
        vec![Problem::new(&file, "broker.config", text)]
    })?;
    let source = if text.is_some() { file } else { format!("built-in {file}") };
    let values = sources::parse(&source, text.as_deref().unwrap_or(BUILT_IN)).map_err(|problem| vec![problem])?;

    let listeners = listener_keys(&values);
    let tree = Value::new(Some(&source), values);
    let problems = check(Reader::new(tree.clone(), &source), &listeners);
    if !problems.is_empty() {
        return Err(problems);
    }
    let parsed: rumqttd::Config =
        tree.try_deserialize().map_err(|error| vec![Problem::new(&source, "", error.to_string())])?;
    let mut bus =
        Bus { listeners: Vec::new(), warnings: Vec::new(), router: parsed.router, from_file: text.is_some(), source };
    let tables = [parsed.v4, parsed.v5, parsed.ws];
    let base = path.parent().unwrap_or(Path::new(""));
    let mut problems = Vec::new();
    for (table, name) in &listeners {
        let settings =
            TABLES.iter().position(|other| other == table).and_then(|place| tables[place].as_ref()?.get(name));
        if let Some(settings) = settings {
            bus.add(settings, &format!("{table}.{name}"), base, &mut problems);
        }
    }
    if problems.is_empty() { Ok(bus) } else { Err(problems) }
}

impl Bus {
    /// Adds a listener, its certificates read.
    fn add(&mut self, settings: &rumqttd::ServerSettings, key: &str, base: &Path, problems: &mut Vec<Problem>) {
        let tls = match &settings.tls {
            Some(TlsConfig::Rustls { capath, certpath, keypath }) => {
                let files = Files {
                    certificate: base.join(certpath),
                    key: base.join(keypath),
                    client_ca: capath.as_ref().map(|path| base.join(path)),
                };
                match Certificates::read(&settings.name, files) {
                    Ok((certificates, warnings)) => {
                        self.warnings.extend(warnings);
                        Some(Arc::new(certificates))
                    }
                    Err(faults) => {
                        let problem = |(role, error): &(Role, TlsError)| {
                            Problem::new(&self.source, format!("{key}.tls.{}", tls_key(*role)), error.to_string())
                        };
                        return problems.extend(faults.iter().map(problem));
                    }
                }
            }
            Some(TlsConfig::NativeTls { .. }) | None => None,
        };
        self.listeners.push(Listener {
            name: settings.name.clone(),
            address: settings.listen,
            packet_bytes_max: settings.connections.max_payload_size + PACKET_HEADROOM_BYTES,
            connect_timeout: Duration::from_millis(settings.connections.connection_timeout_ms.into()),
            websocket: key.starts_with("ws."),
            tls,
        });
    }

    /// Puts `address` in the place of the first listener's.
    pub(super) fn listen_on(&mut self, address: SocketAddr) {
        if let Some(first) = self.listeners.first_mut() {
            first.address = address;
        }
    }

    /// Merges listeners on one address, as one socket speaks both versions; they must agree on the rest.
    pub(super) fn merge_listeners(&mut self) -> Vec<Problem> {
        let mut merged: Vec<Listener> = Vec::new();
        let mut problems = Vec::new();
        for listener in self.listeners.drain(..) {
            let same = merged.iter().find(|other| other.address == listener.address && listener.address.port() != 0);
            let apart = match same {
                None => {
                    merged.push(listener);
                    continue;
                }
                Some(other) if other.kind() != listener.kind() => {
                    format!("one speaks {} and the other {}; give them an address each", other.kind(), listener.kind())
                }
                Some(other) if !alike(other, &listener) => {
                    "not max_payload_size, connection_timeout_ms and the files of tls; make them equal".to_owned()
                }
                Some(_) => continue,
            };
            let other = same.map(|other| other.name.as_str()).unwrap_or_default();
            let text = format!("{other:?} and {:?} share {} but {apart}", listener.name, listener.address);
            problems.push(Problem::new(&self.source, "listen", text));
        }
        self.listeners = merged;
        problems
    }
}

/// Returns the tables and keys of all listeners, v4 before v5 before ws, numbers in their order.
fn listener_keys(values: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    for table in TABLES {
        if let Some(ValueKind::Table(listeners)) = values.get(table).map(|value| &value.kind) {
            keys.extend(listeners.keys().map(|key| (table, key.clone())));
        }
    }
    keys.sort_by_cached_key(|(table, key)| (*table, key.parse().unwrap_or(u64::MAX), key.clone()));
    keys
}

fn check(mut reader: Reader, listeners: &[(&str, String)]) -> Vec<Problem> {
    for (key, text) in REFUSED {
        reader.refuse(key, text);
    }
    for key in ["id", "router.id"] {
        reader.whole(key, 0..=u64::from(u16::MAX));
    }
    reader.require("id");
    for section in ["router"].iter().chain(&TABLES) {
        reader.section(section);
    }
    require_whole(&mut reader, "router.max_connections", 16, 1_000_000);
    require_whole(&mut reader, "router.max_outgoing_packet_count", 1, 100_000);
    require_whole(&mut reader, "router.max_segment_size", 65_536, 1 << 30);
    require_whole(&mut reader, "router.max_segment_count", 2, 1_000);
    if listeners.is_empty() {
        reader.complain("v4", "there must be at least one listener, such as [v4.1]");
    }
    for (table, key) in listeners {
        check_listener(&mut reader, &format!("{table}.{key}"));
    }
    reader.finish()
}

fn check_listener(reader: &mut Reader, listener: &str) {
    reader.section(listener);
    reader.section(&format!("{listener}.connections"));
    check_tls(reader, &format!("{listener}.tls"));
    let auth = format!("{listener}.connections.auth");
    reader.refuse(&auth, "plain passwords are not supported; remove it, make the users with `stationhub passwd add NAME`, and name their file with users = \"FILE\" under [broker] in hub.toml");
    for (key, words) in [("name", "a name"), ("listen", ADDRESS)] {
        let full = format!("{listener}.{key}");
        reader.require(&full);
        reader.text(&full, words, |text| {
            match key {
                "name" => !text.trim().is_empty(),
                _ => text.parse::<SocketAddr>().is_ok(),
            }
            .then_some(())
        });
    }
    require_whole(reader, &format!("{listener}.next_connection_delay_ms"), 0, 60_000);
    let connections = format!("{listener}.connections");
    require_whole(reader, &format!("{connections}.connection_timeout_ms"), 100, u64::from(u16::MAX));
    require_whole(reader, &format!("{connections}.max_payload_size"), 1, PAYLOAD_BYTES_MAX);
    require_whole(reader, &format!("{connections}.max_inflight_count"), 1, u64::from(u16::MAX));
    reader.switch(&format!("{connections}.dynamic_filters"));
}

fn check_tls(reader: &mut Reader, tls: &str) {
    if !reader.is_set(tls) {
        return;
    }
    reader.section(tls);
    for key in ["pkcs12path", "pkcs12pass"] {
        let text = "PKCS #12 is not supported; give certpath and keypath in PEM form instead";
        reader.refuse(&format!("{tls}.{key}"), text);
    }
    for key in ["certpath", "keypath", "capath"] {
        let full = format!("{tls}.{key}");
        if key != "capath" {
            reader.require(&full);
        }
        reader.text(&full, "a file", |text| (!text.is_empty()).then_some(()));
    }
}

fn tls_key(role: Role) -> &'static str {
    match role {
        Role::Certificate => "certpath",
        Role::Key => "keypath",
        Role::Authorities => "capath",
    }
}

fn require_whole(reader: &mut Reader, key: &str, low: u64, high: u64) {
    reader.require(key);
    reader.whole(key, low..=high);
}

fn alike(left: &Listener, right: &Listener) -> bool {
    let files = |listener: &Listener| listener.tls.as_ref().map(|certificates| certificates.files().clone());
    left.packet_bytes_max == right.packet_bytes_max
        && left.connect_timeout == right.connect_timeout
        && files(left) == files(right)
}
