//! Storage that is locked, moved away, read-only or full: told, survived, and healed without a lost reading.
//!
//! Owns promise 6 as far as storage goes. It never kills the hub; `crash.rs` does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::disk::SmallDisk;
use support::mqtt::{Connect, Packet};
use support::sensor::{
    Fleet, Load, assert_acked_are_stored_once, assert_all_sent_are_stored_once, stored, weather, weather_topic,
};
use support::{PATIENTLY, SOON, Site, is_root, set_mode, wait_for};

/// An unprivileged user: root may write where a mode forbids it.
const NOBODY: u32 = 65534;

/// How long another program holds the database.
fn lock_time() -> Duration {
    let asked = |name| std::env::var_os(name).is_some();
    let long = asked("CI") || asked("STATIONHUB_LONG_TESTS");
    Duration::from_secs(if long { 30 } else { 8 })
}

#[test]
fn exclusive_lock_for_30_s_loses_nothing() {
    let site = Site::new();
    let mut hub = site.start();
    let asking = Fleet::start(hub.mqtt, 0, Load::qos1(10));
    let telling = Fleet::start(hub.mqtt, 100, Load::qos0(3));
    wait_for("acks before the lock", SOON, || asking.acked() > 500);

    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let (locked_at, mark, sent) = (Instant::now(), hub.log_end(), telling.sent());
    let committed = stored(site.db());
    let asked = committed.keys().filter(|(sensor, _)| *sensor < 100).count() as u64;
    hub.wait_said(mark, &[" warn ", "lock"], lock_time());
    wait_for("the end of the lock", lock_time(), || locked_at.elapsed() >= lock_time());
    assert!(hub.is_running());
    assert!(asking.acked() <= asked, "{} acked, {asked} stored", asking.acked());
    assert!(telling.sent() > sent, "QoS 0 goes on");
    assert_eq!(stored(site.db()).len(), committed.len());
    let warnings = hub.said_since(mark, &[" warn "]).len();
    assert!(warnings < 100, "{warnings} warnings: the log is not flooded");
    other.execute_batch("COMMIT").unwrap();

    let mut sensors = asking.finish(PATIENTLY);
    sensors.extend(telling.finish(PATIENTLY));
    let sent: u64 = sensors.iter().map(|sensor| sensor.sent).sum();
    wait_for("all rows", PATIENTLY, || site.weather_count() >= sent as i64);
    assert_all_sent_are_stored_once(site.db(), &sensors);
}

#[test]
fn a_locked_database_lets_other_messages_pass() {
    let site = Site::new();
    let hub = site.start();
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish(&weather_topic(1), &weather(1, 1), 1, 1, false);
    sensor.ping();
    let mut lamp = Connect::new(4, "lamp").open(hub.mqtt);
    lamp.subscribe("house/#", 1);
    lamp.publish_through("house/lamp", b"on", 1);
    assert_eq!(lamp.receive().payload, b"on");
    other.execute_batch("COMMIT").unwrap();
    sensor.expect_puback(1);
}

#[test]
fn database_moved_away_and_back() {
    moved_away_and_back(&[""]);
}

#[test]
fn database_moved_away_with_its_wal_and_back() {
    moved_away_and_back(&["", "-wal", "-shm"]);
}

fn moved_away_and_back(suffixes: &[&str]) {
    let site = Site::with_config("[health]\ninterval_s = 1\n");
    let mut hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(3));
    wait_for("acks before the move", SOON, || fleet.acked() > 200);

    let mark = hub.log_end();
    let away = site.file("elsewhere");
    fs::create_dir(&away).unwrap();
    let moves: Vec<(PathBuf, PathBuf)> = suffixes
        .iter()
        .map(|suffix| site.beside_db(suffix))
        .map(|file| (file.clone(), away.join(file.file_name().unwrap())))
        .collect();
    for (here, there) in &moves {
        fs::rename(here, there).unwrap();
    }
    let mut late = Connect::new(4, "late").open(hub.mqtt);
    late.publish(&weather_topic(50), &weather(50, 0), 1, 1, false);
    hub.wait_said(mark, &[" warn "], SOON);
    late.assert_silent_for(Duration::from_secs(2));
    assert!(hub.is_running());
    assert!(!site.db().exists(), "a new database must not take the place of the old one");

    for (here, there) in &moves {
        if there.exists() {
            fs::rename(there, here).unwrap();
        }
    }
    let ack = late.read(PATIENTLY).expect("the late reading is acked");
    assert!(matches!(ack, Packet::PubAck { id: 1, .. }), "{ack:?}");
    let acked = fleet.acked();
    wait_for("acks after the move", PATIENTLY, || fleet.acked() > acked + 100);
    let sensors = fleet.finish(PATIENTLY);
    assert_acked_are_stored_once(site.db(), &sensors);
    assert_eq!(stored(site.db()).get(&(50, 0)), Some(&1));
    assert!(hub.stop().success());
    assert_acked_are_stored_once(site.db(), &sensors);
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn directory_read_only_is_told_and_healed() {
    if !is_root() {
        // The tests' own user is bound by modes: no other user is needed.
        return read_only_and_back(Site::with_config("[health]\ninterval_s = 1\n"));
    }
    read_only_and_back(Site::with_config("[health]\ninterval_s = 1\n").owned_by(NOBODY));
}

fn read_only_and_back(site: Site) {
    let mut hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(3));
    wait_for("acks before", SOON, || fleet.acked() > 200);

    let mark = hub.log_end();
    set_mode(site.dir(), 0o555);
    hub.wait_said(mark, &[" warn "], PATIENTLY);
    let told = hub.said_since(mark, &[" warn "]).join("\n").to_lowercase();
    let words = ["read-only", "read only", "writable", "permission", "written", "writ"];
    assert!(words.iter().any(|word| told.contains(word)), "{told}");
    let acked = fleet.acked();
    wait_for("acks while read-only", SOON, || fleet.acked() > acked + 100);

    let mark = hub.log_end();
    set_mode(site.dir(), 0o755);
    wait_for("a line of recovery", PATIENTLY, || {
        let lines = hub.said_since(mark, &[" info "]).join("\n").to_lowercase();
        ["recover", "again", "healthy", "resolved", "cleared"].iter().any(|w| lines.contains(w))
    });
    let sensors = fleet.finish(SOON);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert!(hub.is_running());
}

#[test]
fn a_full_disk_loses_nothing() {
    let site = Site::new().with_db("disk/weather_data.db");
    let Some(disk) = SmallDisk::mount(site.file("disk"), "16m") else {
        return;
    };
    let mut hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(5));
    wait_for("acks before", SOON, || fleet.acked() > 200);

    let mark = hub.log_end();
    let ballast = disk.fill();
    hub.wait_said(mark, &[" warn "], PATIENTLY);
    let (mut acked, mut since) = (fleet.acked(), Instant::now());
    wait_for("a second without acks", PATIENTLY, || {
        let now = fleet.acked();
        if std::mem::replace(&mut acked, now) != now {
            since = Instant::now();
        }
        since.elapsed() >= Duration::from_secs(1)
    });
    assert!(hub.is_running());
    assert!(fleet.acked() <= stored(site.db()).len() as u64, "acked, not stored");
    let told = hub.said_since(mark, &[" warn "]).join("\n").to_lowercase();
    assert!(told.contains("full") || told.contains("space"), "{told}");

    let acked = fleet.acked();
    fs::remove_file(ballast).unwrap();
    wait_for("acks once there is room", PATIENTLY, || fleet.acked() > acked + 100);
    let sensors = fleet.finish(PATIENTLY);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
    assert!(hub.stop().success());
}

#[test]
fn a_reader_that_stays_in_its_transaction_stops_nobody() {
    let site = Site::new();
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(3));
    wait_for("acks before", SOON, || fleet.acked() > 100);
    let reader = support::reader(site.db());
    reader.execute_batch("BEGIN").unwrap();
    let seen = count(&reader);
    let acked = fleet.acked();
    wait_for("acks beside the reader", SOON, || fleet.acked() > acked + 2_000);
    assert_eq!(count(&reader), seen, "a reader's transaction is a snapshot");
    reader.execute_batch("COMMIT").unwrap();
    assert_all_sent_are_stored_once(site.db(), &fleet.finish(SOON));
}

fn count(connection: &Connection) -> i64 {
    connection.query_row("SELECT count(*) FROM weather_data", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_database_in_a_missing_directory_is_told_with_its_path() {
    let site = Site::new().with_db("nowhere/weather_data.db");
    let output = site.refused(site.run_command(), SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{said}");
    assert!(said.contains("nowhere"), "{said}");
    assert!(!Path::new(&site.file("ready.json")).exists());
}

#[test]
fn a_disk_whose_syncs_fail_for_a_while_loses_nothing_and_doubles_nothing() {
    let site = Site::new();
    let fault = site.file("fault");
    let mut command = site.run_command_on_a_bad_disk();
    command.env("FAILSYNC", &fault);
    let hub = site.start_with(command);
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(5));
    let telling = Fleet::start(hub.mqtt, 100, Load::qos0(3));
    for _ in 0..5 {
        let acked = fleet.acked();
        wait_for("acks", PATIENTLY, || fleet.acked() > acked + 50);
        let mark = hub.log_end();
        fs::write(&fault, "").unwrap();
        hub.wait_said(mark, &[" warn ", "i/o error"], PATIENTLY);
        fs::remove_file(&fault).unwrap();
        hub.wait_said(mark, &["written again"], PATIENTLY);
    }
    let mut sensors = fleet.finish(PATIENTLY);
    sensors.extend(telling.finish(PATIENTLY));
    let sent: u64 = sensors.iter().map(|sensor| sensor.sent).sum();
    wait_for("all rows", PATIENTLY, || site.weather_count() >= sent as i64);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert!(hub.stop().success());
}

#[test]
fn a_disk_whose_syncs_keep_failing_gives_no_ack() {
    let site = Site::new();
    let fault = site.file("fault");
    let mut command = site.run_command_on_a_bad_disk();
    command.env("FAILSYNC", &fault);
    let hub = site.start_with(command);
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(2));
    wait_for("acks", PATIENTLY, || fleet.acked() > 50);
    fs::write(&fault, "").unwrap();
    let failures = || site.status()["figures"]["write_failures"].as_u64().unwrap_or_default();
    wait_for("a failed write", PATIENTLY, || failures() > 0);
    let (acked, failed) = (fleet.acked(), failures());
    // Time enough for the hub to read back what it has written and could not sync.
    wait_for("more of them", PATIENTLY, || failures() >= failed + 4);
    assert_eq!(fleet.acked(), acked, "nothing of it is on disk");
    fs::remove_file(&fault).unwrap();
    wait_for("acks", PATIENTLY, || fleet.acked() > acked + 50);
    let sensors = fleet.finish(PATIENTLY);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert!(hub.stop().success());
}
