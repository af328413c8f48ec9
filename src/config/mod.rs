//! The one validated configuration, out of defaults, `hub.toml`, `STATIONHUB_*` variables and flags.
//!
//! Owns every key with its default and its range, and reports all errors at once, each with its key and its origin.
//! It never does I/O beyond reading files, and never reads the process environment: that is an argument.

mod alerting;
pub mod alerts;
mod backup;
mod bridge;
mod changes;
mod channels;
mod effective;
mod error;
mod homeassistant;
mod listeners;
mod reader;
mod sections;
mod sources;
pub mod template;
#[cfg(test)]
mod tests;
pub mod upload;
mod upstream;
mod weather;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;

use self::reader::Reader;
use crate::reading::Kind;

pub use self::alerting::is_name as is_alert_name;
pub use self::alerts::Alerts;
pub use self::backup::Backup;
pub use self::bridge::{Bridge, BridgeTls, Password, Protocol};
pub(crate) use self::effective::quoted;
pub use self::error::{ConfigErrors, Problem};
pub use self::homeassistant::HomeAssistant;
pub use self::listeners::Listener;
pub use self::sources::Flags;
pub use self::weather::Weather;

/// The whole configuration, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where and what the station is.
    pub station: Station,
    /// From raw readings to weather.
    pub weather: Weather,
    /// The MQTT side.
    pub broker: Broker,
    /// Which messages are readings, and what may wait to be stored.
    pub ingest: Ingest,
    /// The database.
    pub store: Store,
    /// The hub's checks of itself.
    pub health: Health,
    /// The line of statistics.
    pub stats: Stats,
    /// The way upstream; `None` where there is none.
    pub bridge: Option<Bridge>,
    /// What is told to whom.
    pub alerts: Alerts,
    /// Which weather networks get the station's weather.
    pub uploads: upload::Uploads,
    /// What is told to Home Assistant.
    pub homeassistant: HomeAssistant,
    /// Health and status over HTTP.
    pub http: Http,
    /// The log.
    pub log: Log,
    /// The PID file.
    pub pid: PathBuf,
    /// The file to write once the hub serves.
    pub ready_file: Option<PathBuf>,
}

/// Section `[station]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Station {
    /// The station's name.
    pub name: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Metres above sea level.
    pub altitude_m: Option<f64>,
    /// IANA name of the time zone; its existence is not checked.
    pub timezone: Option<String>,
}

/// Section `[broker]`, with what `rumqttd.toml` says.
#[derive(Clone, Debug)]
pub struct Broker {
    /// The `rumqttd.toml` that was read; `None` stands for the built-in default.
    pub config: Option<PathBuf>,
    /// Whether clients without a login are let in although there are users, and from other machines although there are
    /// none.
    pub allow_anonymous: bool,
    /// The hub's own file of users.
    pub users: Option<PathBuf>,
    /// A file of users in Mosquitto's format.
    pub password_file: Option<PathBuf>,
    /// Access rules in Mosquitto's format.
    pub acl_file: Option<PathBuf>,
    /// Bounds on what clients may cost.
    pub limits: Limits,
    /// Settings of rumqttd's router.
    pub router: rumqttd::RouterConfig,
    /// The listeners, at least one, no two on one address.
    pub listeners: Vec<Listener>,
    /// What is not wrong, but should be known.
    pub warnings: Vec<String>,
}

/// Section `[broker.limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Established connections.
    pub connections: usize,
    /// Established connections of one address.
    pub connections_per_address: usize,
    /// Sockets that have not sent their CONNECT.
    pub connections_pending: usize,
    /// Unacknowledged publishes at QoS 1 and 2 of a client, in each direction.
    pub inflight: u16,
    /// Messages waiting for a client that is slow or away.
    pub session_queue_messages: usize,
    /// Bytes waiting for a client that is slow or away.
    pub session_queue_bytes: usize,
    /// Subscriptions of a client.
    pub subscriptions: usize,
    /// Bytes that wait for all clients together.
    pub queued_bytes: usize,
    /// Subscriptions of all clients together.
    pub filters: usize,
    /// Topics that the router knows by their names; further ones take a shared way through it.
    pub topics: usize,
    /// Sessions kept of clients that are away.
    pub sessions: usize,
    /// Bytes of large packets that have not come or gone whole, on all connections together.
    pub partial_bytes: usize,
    /// Retained messages.
    pub retained_messages: usize,
    /// Bytes of retained messages.
    pub retained_bytes: usize,
    /// Longest time that the session of a client that is away is kept.
    pub session_expiry_max: Duration,
    /// MQTT 5 topic aliases of a connection, in each direction.
    pub topic_aliases: u16,
    /// Longest MQTT 5 keep alive, seconds; at the type's maximum, clients may do without one.
    pub keep_alive_max: u16,
}

/// Section `[ingest]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Ingest {
    /// Which topics carry which readings; the first that matches counts.
    pub routes: Vec<Route>,
    /// Bytes of readings that may wait for the writer.
    pub queue_bytes: usize,
    /// Largest payload of a reading, bytes.
    pub payload_bytes_max: usize,
    /// Distance of a sensor's time from the hub's clock from which it is marked.
    pub clock_skew_max: Duration,
}

/// One `[[ingest.route]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// What the matching topics carry.
    pub kind: Kind,
    /// Which topics match.
    pub pattern: Pattern,
}

/// Which topics a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Topics that have this as a whole level, anywhere.
    Level(String),
    /// Topics that this MQTT filter matches.
    Filter(String),
}

/// Section `[store]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The database file.
    pub path: PathBuf,
    /// SQLite's `synchronous`.
    pub synchronous: Synchronous,
    /// Most readings in one transaction.
    pub batch_max: usize,
    /// Bytes of raw payloads that the quarantine keeps.
    pub quarantine_bytes_max: u64,
    /// Bytes kept back on the disk for when it is full.
    pub reserve_bytes: u64,
    /// How long rows are kept.
    pub retention: Retention,
    /// The backups that the hub makes by itself.
    pub backup: Backup,
}

/// Section `[store.retention]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// How long raw readings are kept; `None` for ever.
    pub raw: Option<Duration>,
    /// How long messages stay in quarantine, where its size lets them; `None` for ever.
    pub quarantine: Option<Duration>,
}

/// SQLite's `synchronous`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synchronous {
    /// An acknowledged reading survives a power cut.
    Full,
    /// A power cut may take the last transactions, though acknowledged.
    Normal,
}

impl Synchronous {
    /// Returns the name in `hub.toml` and in SQLite.
    pub fn name(self) -> &'static str {
        match self {
            Synchronous::Full => "full",
            Synchronous::Normal => "normal",
        }
    }
}

/// Section `[health]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Time between checks.
    pub interval: Duration,
    /// Age of the last commit from which it is an issue.
    pub write_silence: Duration,
    /// Consecutive failed writes from which the hub is degraded.
    pub write_failures_max: u32,
    /// Whether `/healthz` answers 503 where something is wrong and the hub works.
    pub degraded_is_503: bool,
    /// Free space below which the disk is about to be full, bytes.
    pub disk_free_bytes_min: u64,
    /// Size of the write-ahead log from which it is an issue, bytes.
    pub wal_bytes_max: u64,
    /// Memory of the hub from which it is an issue, bytes; `None` for no such bound.
    pub memory_bytes_max: Option<u64>,
    /// Sources whose silence is not judged by their own rhythm; the first that matches decides.
    pub sources: Vec<SourceSilence>,
}

/// Section `[[health.source]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSilence {
    /// The topics.
    pub filter: String,
    /// How long a source may be silent; `None` for ever.
    pub silence_max: Option<Duration>,
}

/// Section `[stats]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Time between lines of statistics.
    pub interval: Duration,
}

/// Section `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where HTTP is served; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// The file of those who may ask where that is not loopback; `None` for everybody.
    pub users: Option<PathBuf>,
    /// Names by which the hub is known, besides its addresses and its own.
    pub hosts: Vec<String>,
}

/// Section `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least important lines that are logged.
    pub level: Level,
    /// The log file.
    pub file: Option<PathBuf>,
    /// Whether lines go to stderr.
    pub stderr: bool,
}

impl Config {
    /// Returns what is not wrong, but should be known.
    pub fn warnings(&self) -> impl Iterator<Item = &String> {
        self.broker
            .warnings
            .iter()
            .chain(self.bridge.iter().flat_map(|bridge| &bridge.warnings))
            .chain(&self.alerts.warnings)
            .chain(&self.uploads.warnings)
            .chain(&self.weather.warnings)
    }

    /// Reads the configuration: defaults < file < environment < flags.
    ///
    /// `env` is the process environment (`std::env::vars_os()`), of which only `STATIONHUB_*` is looked at.
    ///
    /// # Errors
    /// Returns everything that is wrong, unless a file cannot be read at all.
    pub fn load(flags: &Flags, env: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Config, ConfigErrors> {
        let merged = sources::merge(flags, env)?;
        let mut problems = merged.problems;
        let mut reader = Reader::new(merged.tree, &merged.file);
        let base = &merged.base;
        sections::accept(&mut reader);
        let station = sections::station(&mut reader);
        let weather = weather::weather(&mut reader, base);
        let broker = sections::broker(&mut reader, base, flags);
        let (ingest, store) = (sections::ingest(&mut reader), sections::store(&mut reader, base));
        let (health, stats) = (sections::health(&mut reader), sections::stats(&mut reader));
        let bridge = upstream::bridge(&mut reader, base, &station.name);
        let alerts = alerting::alerts(&mut reader, base, station.timezone.as_deref());
        let uploads = upload::uploads(&mut reader, base, &station);
        let homeassistant = homeassistant::homeassistant(&mut reader, &station.name, &ingest.routes);
        let (http, log) = (sections::http(&mut reader, base), sections::log(&mut reader, base, flags));
        let (pid, ready_file) = sections::process_files(flags, &mut problems);
        problems.extend(reader.finish());
        match broker {
            Ok(broker) if problems.is_empty() => Ok(Config {
                station,
                weather,
                broker,
                ingest,
                store,
                health,
                stats,
                bridge,
                alerts,
                uploads,
                homeassistant,
                http,
                log,
                pid,
                ready_file,
            }),
            Ok(_) => Err(ConfigErrors::from(problems)),
            Err(in_broker) => {
                problems.extend(in_broker);
                Err(ConfigErrors::from(problems))
            }
        }
    }
}
