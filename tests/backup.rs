//! Copies of the database: whole, of one moment, under their name only when they are checked.
//!
//! Owns what `stationhub backup` and the backups that the hub makes by itself promise.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use rusqlite::Connection;
use support::mqtt::Connect;
use support::sensor::{Fleet, Load, weather, weather_topic};
use support::{PATIENTLY, SOON, Site, reader, rows, wait_for};

const MARKED: u64 = 99;

fn backup(site: &Site, file: &str, more: &[&str]) -> Output {
    let mut command = site.command("backup");
    command.arg(site.file(file)).args(more);
    site.refused(command, PATIENTLY)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

fn is_whole(copy: &Path) {
    assert_eq!(rows(&reader(copy), "PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

/// Makes a database of about `mib` MiB with the hub's tables.
fn large(site: &Site, mib: u32) {
    site.start().stop();
    let connection = Connection::open(site.db()).unwrap();
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
             INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
             SELECT i, 'a', 'b', 0, 'c', 'd', randomblob(1000) FROM n",
            [mib * 1000],
        )
        .unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
}

#[test]
fn a_copy_under_full_load_is_whole_and_has_every_reading_acked_before_it_began() {
    let site = Site::new();
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load { pause: Duration::ZERO, ..Load::qos1(4) });
    let mut client = Connect::new(4, "marked").open(hub.mqtt);
    for round in 0..3 {
        for number in 0..20 {
            client.publish_through(&weather_topic(MARKED), &weather(MARKED, round * 20 + number), 1);
        }
        let acked = fleet.acked();
        let file = format!("copy-{round}.db");
        let output = backup(&site, &file, &[]);
        assert!(output.status.success(), "{}", said(&output));
        let copy = site.file(&file);
        is_whole(&copy);
        let copied = reader(&copy);
        let count = |sql: &str| copied.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64;
        let marked =
            format!("SELECT count(DISTINCT anemometer_count) FROM weather_data WHERE rain_gauge_count = {MARKED}");
        assert_eq!(count(&marked), (round + 1) * 20);
        assert!(count("SELECT count(*) FROM weather_data") >= acked, "fewer than the {acked} acked before");
        assert!(fleet.acked() > acked, "the hub served meanwhile");
    }
    fleet.halt();
}

#[test]
fn a_copy_stands_alone_and_can_be_made_while_no_hub_runs() {
    let site = Site::new();
    let hub = site.start();
    Connect::new(4, "a").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 1), 1);
    // Its log still holds the reading.
    hub.kill_9();
    let output = backup(&site, "copy.db", &[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 rows of weather_data"), "{}", said(&output));
    let copy = site.file("copy.db");
    assert_eq!(rows(&reader(&copy), "PRAGMA journal_mode"), [["delete".to_owned().into()]]);
    let beside = |name: &&str| site.file(name).exists();
    let left: Vec<&str> = ["copy.db-wal", "copy.db-shm", "copy.db.partial"].into_iter().filter(beside).collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn a_file_that_is_there_is_replaced_only_where_that_is_asked_for() {
    let site = Site::new();
    let _hub = site.start();
    fs::write(site.file("precious"), "kept").unwrap();
    let output = backup(&site, "precious", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("--force"), "{}", said(&output));
    assert_eq!(fs::read(site.file("precious")).unwrap(), b"kept");
    assert!(backup(&site, "precious", &["--force"]).status.success());
    is_whole(&site.file("precious"));
}

#[test]
fn a_copy_is_never_put_where_a_log_would_be_taken_for_its_own_nor_over_the_database() {
    let site = Site::new();
    let _hub = site.start();
    fs::write(site.file("copy.db-wal"), "another's").unwrap();
    for file in ["copy.db", "weather_data.db"] {
        let output = backup(&site, file, &["--force"]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        assert!(said(&output).contains("name another file"), "{}", said(&output));
    }
    assert!(!site.file("copy.db").exists());
}

#[test]
fn a_copy_of_a_damaged_database_gets_no_name() {
    let site = Site::new();
    large(&site, 2);
    let database = fs::OpenOptions::new().write(true).open(site.db()).unwrap();
    database.write_all_at(&[0xA5; 4096 * 8], 4096 * 40).unwrap();
    let output = backup(&site, "copy.db", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("damaged"), "{}", said(&output));
    assert!(!site.file("copy.db").exists() && !site.file("copy.db.partial").exists());
}

/// Returns the names in the directory of the backups.
fn made(site: &Site) -> Vec<String> {
    let entries = fs::read_dir(site.file("backups")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_hub_makes_backups_by_itself_and_removes_the_oldest_of_its_own_alone() {
    let site = Site::with_config("[store.backup]\ndirectory = \"backups\"\nevery_hours = 1\nkeep = 2\n");
    fs::create_dir(site.file("backups")).unwrap();
    let old = ["weather_data-20240101T000000Z.db", "weather_data-20250101T000000Z.db"];
    let others = ["other-20240101T000000Z.db", "weather_data-20240101T000000Z.db-notes", "weather_data-2024.db"];
    let killed = "weather_data-20240202T000000Z.db.partial";
    for name in old.iter().chain(&others).chain([&killed]) {
        fs::write(site.file("backups").join(name), "").unwrap();
    }
    let hub = site.start();
    Connect::new(4, "a").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 1), 1);
    hub.wait_said(0, &["a backup was made"], PATIENTLY);
    wait_for("the oldest to go", SOON, || !made(&site).iter().any(|name| name == old[0]));
    let left = made(&site);
    let newest = left
        .iter()
        .find(|name| name.starts_with("weather_data-2") && *name > &old[1].to_owned() && name.ends_with("Z.db"));
    let newest = site.file("backups").join(newest.expect("a new one"));
    is_whole(&newest);
    let mut expected: Vec<String> = others.iter().chain([&old[1]]).map(|name| (*name).to_owned()).collect();
    expected.push(newest.file_name().unwrap().to_str().unwrap().to_owned());
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(site.status()["backup"]["last"], newest.to_str().unwrap());
    // The next one is due in an hour, also after a restart.
    hub.stop();
    let hub = site.start();
    wait_for("the newest to be found", SOON, || !site.status()["backup"]["last"].is_null());
    assert_eq!(hub.said_since(0, &["a backup was made"]).len(), 1, "{}", hub.log());
}

#[test]
fn a_backup_that_fails_is_told_and_removes_nothing() {
    let site = Site::with_config("[health]\ninterval_s = 1\n[store.backup]\ndirectory = \"gone\"\nevery_hours = 1\n");
    let hub = site.start();
    hub.wait_said(0, &["warn", "no backup was made", "gone"], PATIENTLY);
    wait_for("the issue", SOON, || {
        site.status()["issues"].as_array().unwrap().iter().any(|issue| issue["id"] == "store.backup")
    });
    wait_for("the event", SOON, || site.number("SELECT count(*) FROM event WHERE kind = 'store.backup'") == 1);
    drop(hub);
}

#[test]
fn a_copy_that_was_killed_has_no_name_and_the_next_one_takes_over_what_it_left() {
    let site = Site::new();
    large(&site, 40);
    let mut command = site.command("backup");
    let mut child = command.arg(site.file("copy.db")).spawn().unwrap();
    let partial = site.file("copy.db.partial");
    wait_for("part of the copy", SOON, || fs::metadata(&partial).is_ok_and(|file| file.len() > 2 << 20));
    let output = backup(&site, "copy.db", &[]);
    assert!(said(&output).contains("being written by another"), "{}", said(&output));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(partial.exists() && !site.file("copy.db").exists());
    assert!(backup(&site, "copy.db", &[]).status.success());
    is_whole(&site.file("copy.db"));
    assert!(!partial.exists());
}
