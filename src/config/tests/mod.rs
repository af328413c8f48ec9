//! Tests of the configuration: what comes from where, what is refused, and in which words.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod alerts;
mod bridge;
mod broker;
mod homeassistant;
mod tls;
mod upload;

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use tracing::Level;

use super::{Config, ConfigErrors, Flags, Pattern, SourceSilence, Synchronous};
use crate::reading::Kind;

const BUILT_IN: &str = include_str!("../../../rumqttd.toml");
const EXAMPLE: &str = include_str!("../../../deploy/hub.toml");

/// A directory with a `hub.toml`, and what to load it with.
struct Case {
    dir: TempDir,
    flags: Flags,
    env: Vec<(OsString, OsString)>,
}

impl Case {
    fn new(hub: &str) -> Case {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hub.toml"), hub).unwrap();
        let flags = Flags { config: Some(dir.path().join("hub.toml")), ..Flags::default() };
        Case { dir, flags, env: Vec::new() }
    }

    fn env(mut self, name: &str, value: &str) -> Case {
        self.env.push((name.into(), value.into()));
        self
    }

    fn flags(mut self, change: impl FnOnce(&mut Flags)) -> Case {
        change(&mut self.flags);
        self
    }

    fn rumqttd(self, text: &str) -> Case {
        fs::write(self.path("rumqttd.toml"), text).unwrap();
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        Config::load(&self.flags, self.env.clone())
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|errors| panic!("{errors}"))
    }

    /// Returns the error lines, with the directory taken off.
    fn errors(&self) -> Vec<String> {
        let dir = format!("{}/", self.dir.path().display());
        let errors = self.load().expect_err("there should be errors");
        errors.to_string().lines().map(|line| line.replace(&dir, "")).collect()
    }
}

fn same(left: &Config, right: &Config) {
    assert_eq!(format!("{left:#?}"), format!("{right:#?}"));
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn nothing_given_means_the_defaults() {
    let case = Case::new("");
    let config = case.config();
    assert_eq!(config.station.name, "station");
    assert_eq!(config.store.path, case.path("weather_data.db"));
    assert_eq!(config.store.synchronous, Synchronous::Full);
    assert_eq!(config.ingest.queue_bytes, 33_554_432);
    assert_eq!(config.broker.limits.connections, 1_000);
    assert_eq!(config.broker.listeners[0].address, address("127.0.0.1:1883"));
    assert_eq!(config.broker.listeners[0].connect_timeout, Duration::from_secs(10));
    assert!(config.broker.listeners[0].packet_bytes_max > 1_048_576 + 65_536);
    assert_eq!(config.broker.config, None);
    assert_eq!(config.http.listen, Some(address("127.0.0.1:8080")));
    assert_eq!((config.log.level, config.log.file, config.log.stderr), (Level::INFO, None, true));
    assert_eq!(config.pid, Path::new("stationhub.pid"));
    let routes: Vec<_> = config.ingest.routes.into_iter().map(|route| (route.kind, route.pattern)).collect();
    let level = |level: &str| Pattern::Level(level.to_owned());
    assert_eq!(routes, [(Kind::Weather, level("weathermeters")), (Kind::Magnetic, level("magneticfluxsensor"))]);
}

#[test]
fn all_errors_are_reported_at_once_each_with_its_key_and_origin() {
    let case = Case::new(
        r#"
        [station]
        latitude = 91
        [broker]
        allow_anonymous = "yes"
        [broker.limits]
        connections = 0
        [ingest]
        queue_bytes = -5
        [[ingest.route]]
        kind = "wether"
        level = "a/b"
        [store]
        synchronous = "off"
        "#,
    );
    let case = case
        .env("STATIONHUB_STORE__BATCH_MAX", "many")
        .flags(|flags| (flags.http, flags.listen) = (Some("nowhere".into()), Some("1883".into())));
    let errors = case.errors();
    let expected = [
        "hub.toml: station.latitude: must be a number between -90 and 90, is 91",
        "hub.toml: broker.allow_anonymous: must be true or false, is \"yes\"",
        "hub.toml: broker.limits.connections: must be a whole number between 1 and 65000, is 0",
        "hub.toml: ingest.queue_bytes: must be a whole number between 65536 and 1073741824, is -5",
        "hub.toml: ingest.route[0].kind: must be \"weather\" or \"magnetic\", is \"wether\"",
        "hub.toml: ingest.route[0].level: must be one topic level, without '/', '+' and '#', is \"a/b\"",
        "hub.toml: store.synchronous: must be \"full\" or \"normal\", is \"off\"",
        "environment STATIONHUB_STORE__BATCH_MAX: store.batch_max: must be a whole number between 1 and 10000, is \"many\"",
        "--http: http.listen: must be an IP address and a port, such as 127.0.0.1:8080, or empty for no HTTP, is \"nowhere\"",
        "--listen: must be an IP address and a port, such as 127.0.0.1:1883 or [::1]:1883, is \"1883\"",
    ];
    for line in expected {
        assert!(errors.contains(&line.to_owned()), "{line}\nnot in\n{}", errors.join("\n"));
    }
    assert_eq!(errors.len(), expected.len(), "{}", errors.join("\n"));
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let case = Case::new("[http]\nlisten = \"127.0.0.1:1\"\n[stats]\ninterval_s = 7\n[health]\ninterval_s = 8\n");
    let case = case.env("STATIONHUB_HTTP__LISTEN", "127.0.0.1:2").env("STATIONHUB_HEALTH__INTERVAL_S", "9");
    let config = case.config();
    assert_eq!(config.http.listen, Some(address("127.0.0.1:2")));
    assert_eq!(config.health.interval, Duration::from_secs(9));
    assert_eq!(config.stats.interval, Duration::from_secs(7));
    assert_eq!(config.health.write_silence, Duration::from_secs(60));
    let config = case.flags(|flags| flags.http = Some("127.0.0.1:3".into())).config();
    assert_eq!(config.http.listen, Some(address("127.0.0.1:3")));
}

#[test]
fn unknown_keys_are_errors_with_the_key_that_was_probably_meant() {
    let case = Case::new(
        "colour = 1\n[store]\npaht = \"x\"\nqueue_bytes = 1\n[brigde]\n[http]\nListen = \"\"\n\"a.b\" = 1\n\
         [[ingest.route]]\nkind = \"weather\"\nlevel = \"a\"\nshape = 1\n",
    );
    let case =
        case.env("STATIONHUB_STORE__PTH", "y").env("STATIONHUB_X", "1").env("STATIONHUB_A-B", "1").env("OTHER", "1");
    let mut errors = case.errors();
    errors.sort();
    assert_eq!(
        errors,
        [
            "environment STATIONHUB_A-B: a-b: unknown key",
            "environment STATIONHUB_STORE__PTH: store.pth: unknown key; did you mean store.path?",
            "environment STATIONHUB_X: x: unknown key",
            "hub.toml: brigde: unknown key; did you mean bridge?",
            "hub.toml: colour: unknown key",
            "hub.toml: http.Listen: unknown key; keys are lower-case letters, digits and underscores",
            "hub.toml: http.a.b: unknown key; keys are lower-case letters, digits and underscores",
            "hub.toml: ingest.route[0].shape: unknown key",
            "hub.toml: store.paht: unknown key; did you mean store.path?",
            "hub.toml: store.queue_bytes: unknown key; did you mean ingest.queue_bytes?",
        ]
    );
}

#[test]
fn keys_that_look_like_paths_are_unknown_and_do_no_harm() {
    let case = Case::new("\"store[-1]\" = 1\n\"x[99999999999]\" = 1\n");
    assert_eq!(case.errors().len(), 2);
}

#[test]
fn environment_values_are_read_as_the_type_of_their_key() {
    let case = Case::new("")
        .env("STATIONHUB_BROKER__ALLOW_ANONYMOUS", "true")
        .env("STATIONHUB_STATION__ALTITUDE_M", "12.5")
        .env("STATIONHUB_STATION__NAME", "17")
        .env("STATIONHUB_BROKER__LIMITS__FILTERS", "20")
        .env("STATIONHUB_HTTP__LISTEN", "");
    let config = case.config();
    assert!(config.broker.allow_anonymous);
    assert_eq!(config.station.altitude_m, Some(12.5));
    assert_eq!(config.station.name, "17");
    assert_eq!(config.broker.limits.filters, 20);
    assert_eq!(config.http.listen, None);
}

#[test]
fn a_value_over_a_section_is_an_error() {
    let case = Case::new("[store]\nbatch_max = 1\n").env("STATIONHUB_STORE", "x").env("STATIONHUB_STORE__PATH", "y");
    assert_eq!(case.errors(), ["environment STATIONHUB_STORE: store: must be a section, written [store], is \"x\""]);
}

#[test]
fn a_syntax_error_names_file_line_and_column() {
    let errors = Case::new("[store]\npath = \"x\"\nbatch_max = = 3\n").errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("hub.toml: line 3, column 13: "), "{}", errors[0]);
    let errors = Case::new("").rumqttd("id = 0\n[router\n").errors();
    assert!(errors[0].starts_with("rumqttd.toml: line 2, column 8: "), "{}", errors[0]);
}

#[test]
fn a_named_configuration_file_that_is_missing_is_an_error() {
    let case = Case::new("").flags(|flags| flags.config = Some(PathBuf::from("/nowhere/hub.toml")));
    let errors = case.errors();
    assert!(errors[0].starts_with("/nowhere/hub.toml: cannot be read: "), "{}", errors[0]);
}

#[test]
fn paths_in_the_file_are_relative_to_it_and_others_to_the_working_directory() {
    let case = Case::new("[store]\npath = \"data/a.db\"\n[log]\nfile = \"/var/log/b.log\"\n");
    let config = case.config();
    assert_eq!(config.store.path, case.path("data/a.db"));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("/var/log/b.log")));
    let case = case.env("STATIONHUB_STORE__PATH", "c.db").flags(|flags| flags.log = Some("d.log".into()));
    let config = case.config();
    assert_eq!(config.store.path, Path::new("c.db"));
    assert_eq!(config.log.file.as_deref(), Some(Path::new("d.log")));
    let config = case.flags(|flags| flags.db = Some("e.db".into())).config();
    assert_eq!(config.store.path, Path::new("e.db"));
}

#[test]
fn a_database_in_memory_is_refused() {
    for path in [":memory:", "file:x?mode=memory", ""] {
        let case = Case::new("").flags(|flags| flags.db = Some(path.into()));
        assert_eq!(case.errors(), [format!("--db: store.path: must be a file, is {path:?}")]);
    }
}

#[test]
fn verbose_logs_more_and_never_less() {
    let level = |hub: &str| Case::new(hub).flags(|flags| flags.verbose = true).config().log.level;
    assert_eq!(level(""), Level::DEBUG);
    assert_eq!(level("[log]\nlevel = \"trace\"\n"), Level::TRACE);
    assert!(!Case::new("").flags(|flags| flags.silent = true).config().log.stderr);
}

#[test]
fn the_effective_configuration_feeds_back_to_the_same() {
    let everything = r#"
        [station]
        name = "back \"acres\" \\ é"
        latitude = 51
        longitude = -0.125
        altitude_m = 85.5
        timezone = "Europe/London"
        [broker]
        config = "rumqttd.toml"
        allow_anonymous = true
        [broker.limits]
        connections = 11
        connections_pending = 12
        inflight = 13
        session_queue_messages = 14
        session_queue_bytes = 1500
        subscriptions = 16
        filters = 17
        partial_bytes = 1048577
        sessions = 18
        retained_messages = 19
        retained_bytes = 20
        session_expiry_s_max = 21
        topic_aliases = 22
        keep_alive_s_max = 23
        [ingest]
        queue_bytes = 70000
        payload_bytes_max = 2300
        clock_skew_max_s = 24
        [[ingest.route]]
        kind = "magnetic"
        filter = "a/+/b"
        [[ingest.route]]
        kind = "weather"
        level = "c"
        [store]
        path = "d.db"
        synchronous = "normal"
        batch_max = 25
        quarantine_bytes_max = 70001
        reserve_bytes = 70002
        [store.backup]
        directory = "e"
        every_hours = 33
        keep = 34
        [health]
        interval_s = 26
        write_silence_s = 27
        write_failures_max = 28
        degraded_is_503 = true
        disk_free_bytes_min = 30
        wal_bytes_max = 16777217
        memory_bytes_max = 31
        [[health.source]]
        filter = "a/+/b"
        silence_s = 32
        [[health.source]]
        filter = "d/+"
        silence_s = 0
        [stats]
        interval_s = 29
        [http]
        listen = ""
        [log]
        level = "warn"
        file = "e.log"
    "#;
    for hub in [everything, ""] {
        let case = Case::new(hub);
        let case = if hub.is_empty() { case } else { case.rumqttd(BUILT_IN) };
        let config = case.config();
        let fed_back = Case::new(&config.effective()).config();
        same(&config, &fed_back);
        if !hub.is_empty() {
            let printed = config.effective();
            for key in everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim()) {
                assert!(printed.contains(&format!("\n{key} = ")), "{key}");
                assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is not in deploy/hub.toml");
            }
        }
    }
}

#[test]
fn the_example_in_deploy_holds_the_defaults() {
    let example = Case::new(EXAMPLE);
    let config = example.config();
    fs::write(example.path("hub.toml"), "").unwrap();
    same(&config, &example.config());
}

#[test]
fn a_sources_silence_needs_a_filter_and_a_time_and_a_slash_at_the_end_makes_no_difference() {
    let case = Case::new("[[health.source]]\nfilter = \"a/weathermeters/\"\nsilence_s = 0\n");
    let expected = SourceSilence { filter: "a/weathermeters".to_owned(), silence_max: None };
    assert_eq!(case.config().health.sources, [expected]);
    for (text, key) in [
        ("[[health.source]]\nfilter = \"a\"\n", "health.source[0].silence_s"),
        ("[[health.source]]\nsilence_s = 1\n", "health.source[0].filter"),
        ("[[health.source]]\nfilter = \"a/#/b\"\nsilence_s = 1\n", "health.source[0].filter"),
        ("[[health.source]]\nfilter = \"a\"\nsilence_s = -1\n", "health.source[0].silence_s"),
        ("[health.source]\nfilter = \"a\"\nsilence_s = 1\n", "health.source"),
    ] {
        let errors = Case::new(text).errors().join("\n");
        assert!(errors.contains(key), "{errors}");
    }
    let many = "[[health.source]]\nfilter = \"a\"\nsilence_s = 1\n".repeat(101);
    assert!(Case::new(&many).errors().join("\n").contains("at most 100 sections, are 101"));
}
