//! Reads each section of `hub.toml`: every key, its default and its range stand here, once.
//!
//! It never looks at anything but the values that it is given, and the `rumqttd.toml` that they name.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;

use super::Synchronous;
use super::backup::backup;
use super::error::Problem;
use super::listeners::{self, ADDRESS, Bus};
use super::reader::Reader;
use super::{
    Broker, Flags, Health, Http, Ingest, Limits, Log, Pattern, Retention, Route, SourceSilence, Station, Stats, Store,
};
use crate::reading::Kind;
use crate::topic::valid_filter;

const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const DAY_S: u64 = 86_400;
const STATION_NAME_CHARS_MAX: usize = 64;
const SOURCE_SECTIONS_MAX: usize = 100;

/// Accepts the names of all sections.
pub(super) fn accept(reader: &mut Reader) {
    for section in [
        "station",
        "weather",
        "broker",
        "broker.limits",
        "ingest",
        "store",
        "store.retention",
        "store.backup",
        "health",
        "stats",
        "bridge",
        "alerts",
        "homeassistant",
        "http",
        "log",
    ] {
        reader.section(section);
    }
}

pub(super) fn station(reader: &mut Reader) -> Station {
    let words = "1 to 64 characters without '/', '+', '#' and control characters";
    let name = |text: &str| is_name(text, STATION_NAME_CHARS_MAX).then(|| text.to_owned());
    let zone = |text: &str| is_zone(text).then(|| text.to_owned());
    Station {
        name: reader.text("station.name", words, name).unwrap_or_else(|| "station".to_owned()),
        latitude: reader.real("station.latitude", -90.0..=90.0),
        longitude: reader.real("station.longitude", -180.0..=180.0),
        altitude_m: reader.real("station.altitude_m", -500.0..=9_000.0),
        timezone: reader.text("station.timezone", "a time zone such as \"Europe/Berlin\"", zone),
    }
}

/// Reads `[broker]` and the `rumqttd.toml` that it names.
pub(super) fn broker(reader: &mut Reader, base: &Path, flags: &Flags) -> Result<Broker, Vec<Problem>> {
    let named = reader.is_set("broker.config");
    let path = reader.path("broker.config", base, "a file", |text| !text.is_empty());
    let path = path.unwrap_or_else(|| base.join("rumqttd.toml"));
    let allow_anonymous = reader.switch("broker.allow_anonymous").unwrap_or(false);
    let mut file = |key| reader.path(key, base, "a file", |text| !text.is_empty());
    let (users, password_file) = (file("broker.users"), file("broker.password_file"));
    let acl_file = file("broker.acl_file");
    let limits = limits(reader);

    let mut problems = Vec::new();
    let address = flags.listen.as_ref().and_then(|text| {
        let wrong = || Problem::new("--listen", "", format!("must be {ADDRESS}, is {text:?}"));
        text.parse().map_err(|_| problems.push(wrong())).ok()
    });
    let mut bus = match listeners::read(&path, named) {
        Ok(bus) => bus,
        Err(in_file) => {
            problems.extend(in_file);
            return Err(problems);
        }
    };
    if let Some(address) = address {
        bus.listen_on(address);
    }
    problems.append(&mut bus.merge_listeners());
    if !allow_anonymous && users.is_none() && password_file.is_none() {
        problems.append(&mut refuse_open(&bus, flags));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let config = bus.from_file.then_some(path);
    let (router, listeners, warnings) = (bus.router, bus.listeners, bus.warnings);
    Ok(Broker { config, allow_anonymous, users, password_file, acl_file, limits, router, listeners, warnings })
}

/// Refuses listeners that other machines can reach: nobody would have to say who they are.
fn refuse_open(bus: &Bus, flags: &Flags) -> Vec<Problem> {
    let open = bus.listeners.iter().enumerate().filter(|(_, listener)| !listener.is_loopback());
    open.map(|(index, listener)| {
        let source = if index == 0 && flags.listen.is_some() { "--listen" } else { &bus.source };
        let text = format!(
            "listener {:?} on {} can be reached by other machines, and there are no users; let it listen on \
             127.0.0.1, name a file of users with users = \"FILE\" under [broker] in hub.toml, or set \
             allow_anonymous = true there to let anybody in",
            listener.name, listener.address
        );
        Problem::new(source, "broker.allow_anonymous", text)
    })
    .collect()
}

fn limits(reader: &mut Reader) -> Limits {
    let mut size = |name: &str, default: usize, allowed: RangeInclusive<u64>| {
        reader.size(&format!("broker.limits.{name}"), allowed).unwrap_or(default)
    };
    Limits {
        connections: size("connections", 1_000, 1..=65_000),
        connections_per_address: size("connections_per_address", 1_000, 1..=65_000),
        connections_pending: size("connections_pending", 256, 1..=65_000),
        topic_aliases: u16::try_from(size("topic_aliases", 16, 0..=1_024)).unwrap_or(u16::MAX),
        keep_alive_max: u16::try_from(size("keep_alive_s_max", 65_535, 1..=65_535)).unwrap_or(u16::MAX),
        inflight: u16::try_from(size("inflight", 64, 1..=65_535)).unwrap_or(u16::MAX),
        session_queue_messages: size("session_queue_messages", 1_000, 1..=1_000_000),
        session_queue_bytes: size("session_queue_bytes", 4_194_304, KIB..=GIB),
        queued_bytes: size("queued_bytes", 134_217_728, KIB..=1_024 * GIB),
        subscriptions: size("subscriptions", 1000, 1..=100_000),
        filters: size("filters", 10_000, 1..=100_000),
        topics: size("topics", 4_096, 0..=1_000_000),
        partial_bytes: size("partial_bytes", 33_554_432, MIB..=GIB),
        sessions: size("sessions", 1_000, 0..=65_000),
        retained_messages: size("retained_messages", 10_000, 0..=1_000_000),
        retained_bytes: size("retained_bytes", 8_388_608, 0..=GIB),
        session_expiry_max: seconds(reader, "broker.limits.session_expiry_s_max", 604_800, 0..=10 * 366 * DAY_S),
    }
}

pub(super) fn ingest(reader: &mut Reader) -> Ingest {
    let routes = routes(reader);
    let queue_bytes = reader.size("ingest.queue_bytes", 64 * KIB..=GIB).unwrap_or(33_554_432);
    let payload_bytes_max = reader.size("ingest.payload_bytes_max", 128..=16 * MIB).unwrap_or(65_536);
    if payload_bytes_max > queue_bytes {
        let text = format!("must not be above ingest.queue_bytes, {queue_bytes}, is {payload_bytes_max}");
        reader.complain("ingest.payload_bytes_max", text);
    }
    let clock_skew_max = seconds(reader, "ingest.clock_skew_max_s", DAY_S, 1..=366 * DAY_S);
    Ingest { routes, queue_bytes, payload_bytes_max, clock_skew_max }
}

fn routes(reader: &mut Reader) -> Vec<Route> {
    if !reader.is_set("ingest.route") {
        let route = |kind, level: &str| Route { kind, pattern: Pattern::Level(level.to_owned()) };
        return vec![route(Kind::Weather, "weathermeters"), route(Kind::Magnetic, "magneticfluxsensor")];
    }
    reader.list("ingest.route").iter().filter_map(|key| route(reader, key)).collect()
}

fn route(reader: &mut Reader, key: &str) -> Option<Route> {
    let (kind_key, level_key, filter_key) = (format!("{key}.kind"), format!("{key}.level"), format!("{key}.filter"));
    if !reader.is_set(&kind_key) {
        reader.complain(key, "needs kind = \"weather\" or \"magnetic\"");
    }
    let has_both = reader.is_set(&level_key) && reader.is_set(&filter_key);
    let has_none = !reader.is_set(&level_key) && !reader.is_set(&filter_key);
    if has_both || has_none {
        reader.complain(key, "needs exactly one of level = \"…\" and filter = \"…\"");
    }
    let kind = |text: &str| [Kind::Weather, Kind::Magnetic].into_iter().find(|kind| kind.name() == text);
    let kind = reader.text(&kind_key, "\"weather\" or \"magnetic\"", kind);
    let level = |text: &str| is_name(text, usize::from(u16::MAX)).then(|| Pattern::Level(text.to_owned()));
    let filter = |text: &str| valid_filter(text).then(|| Pattern::Filter(text.to_owned()));
    let level = reader.text(&level_key, "one topic level, without '/', '+' and '#'", level);
    let filter = reader.text(&filter_key, "an MQTT topic filter", filter);
    Some(Route { kind: kind?, pattern: level.or(filter)? })
}

pub(super) fn store(reader: &mut Reader, base: &Path) -> Store {
    // SQLite would keep ":memory:" in memory, and take a URI apart: neither is a file that keeps what was acked.
    let is_file = |text: &str| !text.is_empty() && text != ":memory:" && !text.starts_with("file:");
    let path = reader.path("store.path", base, "a file", is_file);
    let synchronous =
        |text: &str| [Synchronous::Full, Synchronous::Normal].into_iter().find(|mode| mode.name() == text);
    Store {
        path: path.unwrap_or_else(|| base.join("weather_data.db")),
        synchronous: reader
            .text("store.synchronous", "\"full\" or \"normal\"", synchronous)
            .unwrap_or(Synchronous::Full),
        batch_max: reader.size("store.batch_max", 1..=10_000).unwrap_or(512),
        quarantine_bytes_max: reader.whole("store.quarantine_bytes_max", 64 * KIB..=1_024 * GIB).unwrap_or(67_108_864),
        reserve_bytes: reader.whole("store.reserve_bytes", 0..=GIB).unwrap_or(16_777_216),
        retention: Retention {
            raw: days(reader, "store.retention.raw_days"),
            quarantine: days(reader, "store.retention.quarantine_days"),
        },
        backup: backup(reader, base),
    }
}

/// Reads an age in days, up to a hundred years; `None` for 0, which stands for ever.
fn days(reader: &mut Reader, key: &str) -> Option<Duration> {
    let days = reader.whole(key, 0..=36_525)?;
    (days > 0).then(|| Duration::from_secs(days * DAY_S))
}

pub(super) fn health(reader: &mut Reader) -> Health {
    let failures = reader.whole("health.write_failures_max", 1..=1_000);
    Health {
        interval: seconds(reader, "health.interval_s", 60, 1..=3_600),
        write_silence: seconds(reader, "health.write_silence_s", 60, 1..=DAY_S),
        write_failures_max: failures.and_then(|failures| u32::try_from(failures).ok()).unwrap_or(10),
        degraded_is_503: reader.switch("health.degraded_is_503").unwrap_or(false),
        disk_free_bytes_min: reader.whole("health.disk_free_bytes_min", 0..=1_024 * GIB).unwrap_or(67_108_864),
        wal_bytes_max: reader.whole("health.wal_bytes_max", 16 * MIB..=1_024 * GIB).unwrap_or(67_108_864),
        memory_bytes_max: reader.whole("health.memory_bytes_max", 0..=1_024 * GIB).filter(|bytes| *bytes > 0),
        sources: sources(reader),
    }
}

fn sources(reader: &mut Reader) -> Vec<SourceSilence> {
    let sections = reader.list("health.source");
    if sections.len() > SOURCE_SECTIONS_MAX {
        let text = format!("must be at most {SOURCE_SECTIONS_MAX} sections, are {}", sections.len());
        reader.complain("health.source", text);
    }
    sections.iter().take(SOURCE_SECTIONS_MAX).filter_map(|key| source(reader, key)).collect()
}

fn source(reader: &mut Reader, key: &str) -> Option<SourceSilence> {
    let (filter_key, silence_key) = (format!("{key}.filter"), format!("{key}.silence_s"));
    reader.require(&filter_key);
    reader.require(&silence_key);
    // A source's name has no slash at its end.
    let filter = |text: &str| {
        let text = if text.len() > 1 { text.strip_suffix('/').unwrap_or(text) } else { text };
        valid_filter(text).then(|| text.to_owned())
    };
    let filter = reader.text(&filter_key, "an MQTT topic filter", filter);
    let silence_s = reader.whole(&silence_key, 0..=366 * DAY_S);
    Some(SourceSilence { filter: filter?, silence_max: silence_s.filter(|s| *s > 0).map(Duration::from_secs) })
}

pub(super) fn stats(reader: &mut Reader) -> Stats {
    Stats { interval: seconds(reader, "stats.interval_s", 300, 1..=DAY_S) }
}

pub(super) fn http(reader: &mut Reader, base: &Path) -> Http {
    let address = |text: &str| match text {
        "" => Some(None),
        _ => text.parse::<SocketAddr>().ok().map(Some),
    };
    let words = "an IP address and a port, such as 127.0.0.1:8080, or empty for no HTTP";
    let listen = reader.text("http.listen", words, address);
    let users = reader.path("http.users", base, "a file", |text| !text.is_empty());
    let is_host = |text: &str| {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '.' | '-' | '_');
        (1..=253).contains(&text.len()) && text.chars().all(allowed)
    };
    let hosts = reader.texts("http.hosts", "names of hosts without a port, such as \"weather.example.org\"", is_host);
    let listen = listen.unwrap_or(Some(SocketAddr::from(([127, 0, 0, 1], 8080))));
    Http { listen, users, hosts: hosts.unwrap_or_default() }
}

pub(super) fn log(reader: &mut Reader, base: &Path, flags: &Flags) -> Log {
    const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
    let level = |text: &str| LEVELS.contains(&text).then(|| text.parse::<Level>().ok()).flatten();
    let level = reader.text("log.level", "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"", level);
    let level = level.unwrap_or(Level::INFO);
    let file = reader.path("log.file", base, "a file", |text| !text.is_empty());
    // Levels compare by how much they let through.
    let level = if flags.verbose { level.max(Level::DEBUG) } else { level };
    Log { level, file, stderr: !flags.silent }
}

/// Returns the PID file and the ready file.
pub(super) fn process_files(flags: &Flags, problems: &mut Vec<Problem>) -> (PathBuf, Option<PathBuf>) {
    for (flag, path) in [("--pid", &flags.pid), ("--ready-file", &flags.ready_file)] {
        if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            problems.push(Problem::new(flag, "", "must be a file, is \"\""));
        }
    }
    let pid = flags.pid.clone().unwrap_or_else(|| PathBuf::from("stationhub.pid"));
    (pid, flags.ready_file.clone())
}

pub(super) fn seconds(reader: &mut Reader, key: &str, default: u64, allowed: RangeInclusive<u64>) -> Duration {
    Duration::from_secs(reader.whole(key, allowed).unwrap_or(default))
}

fn is_name(text: &str, chars_max: usize) -> bool {
    let allowed = |letter: char| !matches!(letter, '/' | '+' | '#') && !letter.is_control();
    (1..=chars_max).contains(&text.chars().count()) && !text.trim().is_empty() && text.chars().all(allowed)
}

fn is_zone(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '/' | '_' | '+' | '-'))
}
