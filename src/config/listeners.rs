//! Reads `rumqttd.toml`: the router's settings and the MQTT listeners.
//!
//! Owns what of rumqttd's format the hub takes, and refuses in clear words what it does not do. It never opens a socket.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ::config::{Map, Value, ValueKind};

use super::error::Problem;
use super::reader::Reader;
use super::sources;

/// Stands in for `rumqttd.toml` where there is none.
const BUILT_IN: &str = include_str!("../../rumqttd.toml");

/// Room in a packet beside its payload: a topic of 65,535 bytes, the headers, and MQTT 5 properties.
const PACKET_HEADROOM_BYTES: usize = 65_536 + 4_096;

/// Largest payload: what MQTT's packet length of 268,435,455 leaves.
const PAYLOAD_BYTES_MAX: u64 = 268_435_455 - PACKET_HEADROOM_BYTES as u64;

/// The words for a socket address in error lines.
pub(super) const ADDRESS: &str = "an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883";

/// Parts of rumqttd's format that the hub does not do.
const REFUSED: [(&str, &str); 9] = [
    ("ws", "WebSocket listeners are not supported; remove [ws]"),
    ("cluster", "clusters are not supported; remove [cluster]"),
    ("bridge", "rumqttd's bridge is not supported; remove [bridge]"),
    ("console", "rumqttd's console is not supported; remove [console]"),
    ("prometheus", "rumqttd's metrics are not supported; remove [prometheus]"),
    ("metrics", "rumqttd's metrics are not supported; remove [metrics]"),
    ("router.custom_segment", "is not supported: all filters share one segment size; remove it"),
    ("router.initialized_filters", "is not supported; remove it"),
    ("router.shared_subscriptions_strategy", "is not supported: the hub shares out messages itself; remove it"),
];

/// A TCP listener, which speaks MQTT 3.1.1 and 5.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its name in `rumqttd.toml`.
    pub name: String,
    /// Where it listens; port 0 lets the system choose.
    pub address: SocketAddr,
    /// Largest packet that a client may send, bytes.
    pub packet_bytes_max: usize,
    /// How long a client may take to send its CONNECT.
    pub connect_timeout: Duration,
}

impl Listener {
    /// Tells whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

/// What the hub takes from `rumqttd.toml`.
pub(super) struct Bus {
    pub(super) router: rumqttd::RouterConfig,
    pub(super) listeners: Vec<Listener>,
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
    let listeners = listeners.iter().filter_map(|(table, name)| {
        let table = if *table == "v4" { &parsed.v4 } else { &parsed.v5 };
        table.as_ref()?.get(name).map(listener)
    });
    Ok(Bus { listeners: listeners.collect(), router: parsed.router, from_file: text.is_some(), source })
}

impl Bus {
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
            match same {
                None => merged.push(listener),
                Some(other) if alike(other, &listener) => {}
                Some(other) => problems.push(Problem::new(
                    &self.source,
                    "listen",
                    format!(
                        "{:?} and {:?} share {} but not max_payload_size and connection_timeout_ms; make them equal",
                        other.name, listener.name, listener.address
                    ),
                )),
            }
        }
        self.listeners = merged;
        problems
    }
}

/// Returns the tables and keys of all listeners, v4 before v5, numbers in their order.
fn listener_keys(values: &Map<String, Value>) -> Vec<(&'static str, String)> {
    let mut keys = Vec::new();
    for table in ["v4", "v5"] {
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
    for section in ["router", "v4", "v5"] {
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
    reader.refuse(&format!("{listener}.tls"), "TLS is not supported; remove it");
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

fn require_whole(reader: &mut Reader, key: &str, low: u64, high: u64) {
    reader.require(key);
    reader.whole(key, low..=high);
}

fn listener(settings: &rumqttd::ServerSettings) -> Listener {
    Listener {
        name: settings.name.clone(),
        address: settings.listen,
        packet_bytes_max: settings.connections.max_payload_size + PACKET_HEADROOM_BYTES,
        connect_timeout: Duration::from_millis(settings.connections.connection_timeout_ms.into()),
    }
}

fn alike(left: &Listener, right: &Listener) -> bool {
    left.packet_bytes_max == right.packet_bytes_max && left.connect_timeout == right.connect_timeout
}
