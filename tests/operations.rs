//! The hub in service: ready file, status, log file, health and statistics lines, old databases, quarantine, simulator.
//!
//! Owns what an operator and the operator's scripts rely on. Configuration is in `configuration.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::process::Output;

use rusqlite::Connection;
use rusqlite::types::Value::{Integer, Null, Real, Text};
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{Hub, PATIENTLY, SOON, Signal, Site, program, wait_for};

fn publish_reading(hub: &Hub, number: u64) {
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish_through(&weather_topic(1), &weather(1, number), 1);
}

fn status(site: &Site, flags: &[&str]) -> Output {
    let mut command = site.command("status");
    command.args(flags);
    site.refused(command, SOON)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_ready_file_tells_where_the_hub_serves() {
    let site = Site::new();
    let hub = site.start();
    assert_eq!(hub.ready["pid"], hub.pid());
    let addresses = hub.ready["mqtt"].as_array().unwrap();
    for address in addresses {
        let address: SocketAddr = address.as_str().unwrap().parse().unwrap();
        assert_ne!(address.port(), 0, "the port that the system chose");
        Connect::new(4, "ready").open(address).ping();
    }
    assert!(!addresses.is_empty());
    assert!(hub.ready["http"].is_string() || hub.ready["http"].is_null());
}

#[test]
fn status_says_healthy_or_not_running_by_its_exit_code() {
    let site = Site::new();
    assert_eq!(status(&site, &[]).status.code(), Some(2), "before the first start");
    let hub = site.start();
    let output = status(&site, &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(!output.stdout.is_empty());
    let output = status(&site, &["--json"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["status"], "ok", "{json}");
    assert!(json["issues"].as_array().is_some_and(Vec::is_empty), "{json}");
    assert!(hub.stop().success());
    assert_eq!(status(&site, &[]).status.code(), Some(2), "after a stop");
    site.start().kill_9();
    let output = status(&site, &["--json"]);
    assert_eq!(output.status.code(), Some(2), "after kill -9: {output:?}");
    let hub = site.start();
    assert_eq!(status(&site, &[]).status.code(), Some(0), "a stale socket is replaced");
    drop(hub);
}

#[test]
fn the_owners_socket_is_the_owners() {
    let site = Site::new();
    let _hub = site.start();
    let socket = fs::metadata(site.beside_db(".sock")).unwrap();
    assert!(socket.file_type().is_socket());
    assert_eq!(socket.permissions().mode() & 0o777, 0o600);
}

#[test]
fn sigusr1_reopens_the_log_file() {
    let site = Site::with_config("[stats]\ninterval_s = 1\n");
    let mut hub = site.start();
    let (log, rotated) = (site.file("hub.log"), site.file("hub.log.1"));
    fs::rename(&log, &rotated).unwrap();
    hub.signal(Signal::USR1);
    wait_for("the new log file", SOON, || log.exists());
    hub.wait_said(0, &["statistics"], SOON);
    let length = fs::metadata(&rotated).unwrap().len();
    let mark = hub.log_end();
    hub.wait_said(mark, &["statistics"], SOON);
    assert_eq!(fs::metadata(&rotated).unwrap().len(), length, "the old file is let go");
    assert!(hub.is_running());
}

#[test]
fn health_issues_are_one_line_and_so_is_recovery() {
    let site = Site::with_config("[health]\ninterval_s = 1\nwrite_silence_s = 1\n");
    let hub = site.start();
    publish_reading(&hub, 0);
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mark = hub.log_end();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish(&weather_topic(1), &weather(1, 1), 1, 1, false);
    hub.wait_said(mark, &[" warn ", "health check issues:"], PATIENTLY);
    let output = status(&site, &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    let mark = hub.log_end();
    other.execute_batch("COMMIT").unwrap();
    client.expect_puback(1);
    hub.wait_said(mark, &[" info ", "health"], PATIENTLY);
    assert_eq!(status(&site, &[]).status.code(), Some(0));
}

#[test]
fn statistics_come_at_their_interval_and_once_more_at_the_end() {
    let site = Site::with_config("[stats]\ninterval_s = 1\n");
    let hub = site.start();
    wait_for("three lines", SOON, || hub.said_since(0, &[" info ", "statistics"]).len() >= 3);
    drop(hub);

    let site = Site::with_config("[stats]\ninterval_s = 3600\n");
    let mut hub = site.start();
    publish_reading(&hub, 0);
    hub.signal(Signal::TERM);
    assert!(hub.wait_exit(SOON).success());
    assert_eq!(hub.said_since(0, &[" info ", "statistics"]).len(), 1);
}

#[test]
fn the_log_goes_to_stderr_too_unless_silent() {
    let site = Site::new();
    drop(site.start());
    assert!(!fs::read(site.file("output")).unwrap().is_empty());
    let mut silent = site.run_command();
    silent.arg("--silent");
    let hub = site.start_with(silent);
    assert!(!hub.log().is_empty());
    drop(hub);
    let output = fs::read_to_string(site.file("output")).unwrap();
    assert!(output.is_empty(), "{output}");
    let mut verbose = site.run_command();
    verbose.arg("--verbose");
    let hub = site.start_with(verbose);
    publish_reading(&hub, 0);
    hub.wait_said(0, &["debug"], SOON);
}

/// The old daemon's own way to make its database, and some rows of it.
const OLD_DATABASE: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executescript("""
CREATE TABLE IF NOT EXISTS weather_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL,
  sample_interval INTEGER, temperature REAL, humidity REAL, pressure REAL, irradiance REAL, wind_direction INTEGER,
  rain_gauge_count INTEGER, anemometer_count INTEGER, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS magnetic_flux_data (id INTEGER PRIMARY KEY AUTOINCREMENT, x REAL NOT NULL,
  y REAL NOT NULL, z REAL NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE INDEX IF NOT EXISTS idx_weather_timestamp ON weather_data(timestamp);
CREATE INDEX IF NOT EXISTS idx_weather_created ON weather_data(created_at);
CREATE INDEX IF NOT EXISTS idx_flux_created ON magnetic_flux_data(created_at);
""")
for n in range(1000):
    db.execute("INSERT INTO weather_data (timestamp, sample_interval, temperature, humidity, pressure, irradiance,"
               " wind_direction, rain_gauge_count, anemometer_count, created_at) VALUES (?,?,?,?,?,?,?,?,?,?)",
               (1759479845 + 5 * n, 5000, 5.22, 61.5, 1004.94, 0.83, 96, 170, 1047952 + n, "2025-10-03 08:24:05"))
    db.execute("INSERT INTO magnetic_flux_data (x, y, z) VALUES (1115, -558, -305)")
db.commit()
"#;

#[test]
fn a_database_of_the_python_daemon_opens_as_it_is() {
    let Some(mut python) = program("python3") else {
        return;
    };
    let site = Site::new();
    assert!(python.args(["-c", OLD_DATABASE]).arg(site.db()).status().unwrap().success());
    let old_rows = |site: &Site| {
        let columns = "id, timestamp, sample_interval, temperature, humidity, pressure, irradiance, \
             wind_direction, rain_gauge_count, anemometer_count, created_at";
        site.rows(&format!("SELECT {columns} FROM weather_data WHERE id <= 1000 ORDER BY id"))
    };
    let names = |site: &Site, table: &str| site.rows(&format!("SELECT name, type FROM pragma_table_info('{table}')"));
    let indexes = "SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE 'idx%' ORDER BY 1";
    let (rows, columns) = (old_rows(&site), names(&site, "weather_data"));
    let flux_columns = names(&site, "magnetic_flux_data");
    let old_indexes = site.rows(indexes);

    let hub = site.start();
    publish_reading(&hub, 7);
    assert_eq!(old_rows(&site), rows);
    assert_eq!(names(&site, "weather_data")[..columns.len()], columns);
    assert_eq!(names(&site, "magnetic_flux_data")[..flux_columns.len()], flux_columns);
    assert!(old_indexes.iter().all(|index| site.rows(indexes).contains(index)));
    assert_eq!(site.number("SELECT max(id) FROM weather_data"), 1001);
    assert!(hub.stop().success());
    // A second start finds today's schema and leaves it alone.
    assert!(site.start().stop().success());
    let new = site.rows(
        "SELECT sample_interval, temperature, wind_direction, anemometer_count, \
         strftime('%Y-%m-%d %H:%M:%S', created_at) = created_at FROM weather_data WHERE id = 1001",
    );
    assert_eq!(new, [[Integer(5000), Real(5.22), Integer(96), Integer(7), Integer(1)]]);
    assert_eq!(site.number("SELECT count(*) FROM magnetic_flux_data"), 1000);
}

#[test]
fn old_rows_have_null_where_the_hub_knows_more() {
    let site = Site::new();
    let old = Connection::open(site.db()).unwrap();
    old.execute_batch(
        "CREATE TABLE weather_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL, \
         sample_interval INTEGER, temperature REAL, humidity REAL, pressure REAL, irradiance REAL, \
         wind_direction INTEGER, rain_gauge_count INTEGER, anemometer_count INTEGER, \
         created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP); \
         INSERT INTO weather_data (timestamp) VALUES (1)",
    )
    .unwrap();
    drop(old);
    let hub = site.start();
    publish_reading(&hub, 0);
    let rows = site.rows("SELECT source_id IS NULL, received_ms IS NULL FROM weather_data ORDER BY id");
    assert_eq!(rows, [[Integer(1), Integer(1)], [Integer(0), Integer(0)]]);
    // As the daemon's programs write, beside the hub.
    let beside = Connection::open(site.db()).unwrap();
    beside.busy_timeout(SOON).unwrap();
    beside.execute_batch("INSERT INTO weather_data (timestamp, temperature) VALUES (2, 1.5)").unwrap();
    assert_eq!(site.rows("SELECT source_id FROM weather_data WHERE id = 3"), [[Null]]);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let site = Site::new();
    let newer = Connection::open(site.db()).unwrap();
    newer.execute_batch("CREATE TABLE future (x); PRAGMA user_version = 9999").unwrap();
    drop(newer);
    let before = fs::read(site.db()).unwrap();
    let output = site.refused(site.run_command(), SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("9999") && said.contains("weather_data.db"), "{said}");
    assert!(fs::read(site.db()).unwrap() == before, "the file was changed");
}

#[test]
fn the_quarantine_is_listed_whether_the_hub_runs_or_not() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "broken-sensor").open(hub.mqtt);
    client.publish_through("attic/weathermeters", b"hello", 1);
    client.publish_through("attic/magneticfluxsensor/", br#"{"y":1,"z":2}"#, 1);
    let list = || {
        let mut command = site.command("quarantine");
        command.arg("list");
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        stdout(&output)
    };
    let running = list();
    for word in ["attic/weathermeters", "attic/magneticfluxsensor"] {
        assert!(running.contains(word), "{running}");
    }
    let reasons = site.rows("SELECT reason FROM quarantine");
    for reason in &reasons {
        assert!(matches!(&reason[0], Text(reason) if running.contains(reason)), "{running}");
    }
    assert!(hub.stop().success());
    assert_eq!(list(), running);
}

#[test]
fn the_simulator_fills_the_tables() {
    let site = Site::new();
    let hub = site.start();
    for qos in ["0", "1", "2"] {
        let before = site.weather_count();
        let mut simulate = site.command("simulate");
        simulate.args(["--count", "5", "--interval-s", "0.1", "--qos", qos]);
        simulate.args(["--broker", &hub.mqtt.to_string()]);
        let output = site.refused(simulate, PATIENTLY);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        wait_for("five rows", SOON, || site.weather_count() == before + 5);
    }
    wait_for("the magnetometer's rows", SOON, || site.number("SELECT count(*) FROM magnetic_flux_data") == 15);
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
    assert_eq!(site.number("SELECT count(*) FROM weather_data WHERE temperature IS NULL OR pressure IS NULL"), 0);
    assert!(hub.stop().success());
    let mut nobody = site.command("simulate");
    nobody.args(["--count", "1", "--interval-s", "0.1", "--broker", "127.0.0.1:9"]);
    assert_eq!(site.refused(nobody, PATIENTLY).status.code(), Some(1));
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let site = Site::new();
    let (unread, stderr) = std::io::pipe().unwrap();
    let mut command = site.run_command();
    // A pipe holds 64 KiB; each of these connections is told.
    command.arg("--verbose").stdout(std::process::Stdio::null()).stderr(stderr);
    let hub = site.start_as_it_is(command);
    for _ in 0..1500 {
        Connect::new(4, &"talker".repeat(10)).open(hub.mqtt).disconnect();
    }
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(&weather_topic(1), &weather(1, 1), 1);
    assert!(hub.stop().success());
    drop(unread);
}

#[test]
fn a_database_deep_in_the_tree_has_its_owners_socket_too() {
    let site = Site::new();
    let deep = "a_directory_with_quite_a_long_name/".repeat(6);
    fs::create_dir_all(site.file(&deep)).unwrap();
    let site = site.with_db(&format!("{deep}weather_data.db"));
    assert_eq!(status(&site, &[]).status.code(), Some(2));
    let hub = site.start();
    assert_eq!(status(&site, &[]).status.code(), Some(0));
    assert!(hub.stop().success());
}
