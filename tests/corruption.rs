//! A database that is damaged never stops the hub: it is put aside, the next reading is taken, and what can be read is salvaged.
//!
//! Owns the whole way, with the real binary. How much of a file can be salvaged is tested beside the code that does it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use support::mqtt::Connect;
use support::sensor::{Fleet, Load, assert_acked_are_stored_once, stored, weather, weather_topic};
use support::{Dice, PATIENTLY, SOON, Site, skip, wait_for};

fn aside(site: &Site) -> Vec<PathBuf> {
    let entries = fs::read_dir(site.dir()).unwrap().map(|entry| entry.unwrap().path());
    let is_database = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.contains(".db.corrupt-") && name.ends_with('Z')
    };
    entries.filter(is_database).collect()
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

/// Fills a database, kills its hub so that there is a log, too, and returns how many readings were acked.
fn filled(site: &Site, count: u64) -> u64 {
    let load = |hub: &support::Hub, first, count| {
        let fleet = Fleet::start(hub.mqtt, first, Load::qos1(4));
        wait_for("readings", PATIENTLY, || fleet.acked() >= count);
        fleet.halt().iter().map(|sensor| sensor.acked).sum::<u64>()
    };
    let hub = site.start();
    let in_file = load(&hub, 0, count);
    // An orderly stop moves them into the file.
    assert!(hub.stop().success());
    let hub = site.start();
    let in_log = load(&hub, 10, count / 4);
    hub.kill_9();
    in_file + in_log
}

/// Returns the readings of a database; rows in which damage has left something else than a reading of a sensor's are left out.
fn readable(db: &Path) -> Vec<(u64, u64)> {
    let connection = support::reader(db);
    let sql = "SELECT rain_gauge_count, anemometer_count FROM weather_data";
    let Ok(mut statement) = connection.prepare(sql) else { return Vec::new() };
    let number = |row: &rusqlite::Row<'_>, column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    let found = statement.query_map([], |row| Ok((number(row, 0)?, number(row, 1)?))).unwrap();
    found.filter_map(Result::ok).collect()
}

/// Returns the readings that SQLite's own recovery, which `program` is, finds in a copy.
fn recovered(site: &Site, program: &OsStr) -> Vec<(u64, u64)> {
    let (copy, into) = (Site::new(), Site::new());
    for suffix in ["", "-wal"] {
        fs::copy(site.beside_db(suffix), copy.beside_db(suffix)).unwrap();
    }
    Command::new(program).arg(copy.db()).arg(into.db()).output().unwrap();
    readable(into.db())
}

fn takes_a_reading(mqtt: std::net::SocketAddr, sensor: u64) {
    let mut client = Connect::new(4, "new").open(mqtt);
    client.publish(&weather_topic(sensor), &weather(sensor, 0), 1, 1, false);
    client.expect_puback(1);
}

#[test]
fn a_database_without_its_beginning_is_put_aside_and_salvaged_to_the_last_row() {
    let site = Site::new();
    let acked = filled(&site, 500);
    overwrite(site.db(), 0, &[0; 100]);
    let hub = site.start();
    takes_a_reading(hub.mqtt, 77);
    hub.wait_said(0, &["salvaged from"], PATIENTLY);
    let rows = site.weather_count() as u64;
    assert!(rows > acked, "{rows} rows, {acked} acked and one more");
    assert!(stored(site.db()).values().all(|&count| count == 1));
    assert_eq!(aside(&site).len(), 1);
    let issues = site.status()["issues"].to_string();
    assert!(issues.contains("store.corrupt") && issues.contains("events ack"), "{issues}");
    assert!(!hub.said_since(0, &["error", "put aside as"]).is_empty());
    assert!(hub.stop().success());

    let hub = site.start();
    assert_eq!(site.weather_count() as u64, rows);
    assert!(site.status()["issues"].to_string().contains("store.corrupt"), "told until somebody knows");
    assert_eq!(aside(&site).len(), 1);
    assert!(hub.stop().success());
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn pages_overwritten_under_load_lose_nothing_that_is_acked_later() {
    let site = Site::new();
    let mut hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(4));
    // The log is moved into the file now and then.
    let len = || fs::metadata(site.db()).unwrap().len();
    wait_for("readings in the file", PATIENTLY, || len() > 200_000);
    let (mark, len) = (hub.log_end(), len());
    overwrite(site.db(), 4096, &vec![0xa5; len as usize - 4096 - 40_000]);
    hub.wait_said(mark, &["error", "put aside as"], PATIENTLY);
    let acked = fleet.acked();
    let later = Fleet::start(hub.mqtt, 100, Load::qos1(2));
    wait_for("acks from the new one", PATIENTLY, || fleet.acked() > acked + 500 && later.acked() > 500);
    let sensors = fleet.finish(PATIENTLY);
    assert_acked_are_stored_once(site.db(), &later.finish(PATIENTLY));
    hub.wait_said(mark, &["salvaged from"], PATIENTLY);
    assert!(hub.is_running());
    let there = stored(site.db());
    assert!(there.values().all(|&count| count == 1), "nothing is stored twice");
    let of = |sensor: &support::sensor::Sensor| (0..sensor.acked).map(|n| (sensor.number, n)).collect::<Vec<_>>();
    let missing = sensors.iter().flat_map(of).filter(|reading| !there.contains_key(reading)).count() as u64;
    println!("{missing} of {acked} readings were on the pages that are noise");
    assert!(missing <= acked, "{missing} are missing, {acked} were acked before the new one");
    assert!(hub.stop().success());
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn wherever_the_dice_strike_the_hub_starts_and_takes_a_reading() {
    let rounds = std::env::var("STATIONHUB_DAMAGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let made = Site::new();
    filled(&made, 800);
    let copy = Site::new();
    for suffix in ["", "-wal"] {
        fs::copy(made.beside_db(suffix), copy.beside_db(suffix)).unwrap();
    }
    let whole = stored(copy.db());
    let recovery = std::env::var_os("STATIONHUB_RECOVER");
    if recovery.is_none() {
        skip("STATIONHUB_RECOVER names no recovery of SQLite's: what is salvaged is compared with nothing", true);
    }
    let mut dice = Dice::new();
    for round in 0..rounds {
        let site = Site::new();
        for suffix in ["", "-wal"] {
            fs::copy(made.beside_db(suffix), site.beside_db(suffix)).unwrap();
        }
        let file = if dice.below(4) == 0 { site.beside_db("-wal") } else { site.db().to_owned() };
        let len = fs::metadata(&file).unwrap().len();
        let at = if dice.below(3) == 0 { dice.below(60) } else { dice.below(len) };
        let count = [4, 60, 4096][dice.below(3) as usize];
        let noise: Vec<u8> = (0..count.min(len - at)).map(|_| dice.below(256) as u8).collect();
        println!("round {round}: {} bytes at {at} of {len} of {}", noise.len(), file.display());
        overwrite(&file, at, &noise);
        let recovered = recovery.as_deref().map(|program| recovered(&site, program)).unwrap_or_default();
        let hub = site.start();
        takes_a_reading(hub.mqtt, 9_000);
        let is_aside = !aside(&site).is_empty();
        if is_aside {
            hub.wait_said(0, &["salvaged from"], PATIENTLY);
        }
        let all = readable(site.db());
        assert_eq!(all.iter().filter(|reading| **reading == (9_000, 0)).count(), 1);
        let there: HashSet<(u64, u64)> = all.into_iter().collect();
        let sound = |reading: &&(u64, u64)| whole.contains_key(*reading);
        let missing = recovered.iter().filter(sound).filter(|reading| !there.contains(*reading)).count();
        let of_those = there.iter().filter(|reading| whole.contains_key(*reading)).count();
        println!(
            "  aside: {is_aside}, {of_those} readings salvaged, {} by .recover",
            recovered.iter().filter(sound).count()
        );
        assert_eq!(missing, 0, "readings that .recover reads");
        assert!(hub.stop().success());
    }
}

#[test]
fn a_log_that_lost_its_first_sectors_is_salvaged_to_what_is_behind_them() {
    for bytes in [64, 512, 4096] {
        let site = Site::new();
        let hub = site.start();
        let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(4));
        wait_for("readings", PATIENTLY, || fleet.acked() >= 300);
        let acked = fleet.halt().iter().map(|sensor| sensor.acked).sum::<u64>() as usize;
        hub.kill_9();
        overwrite(&site.beside_db("-wal"), 0, &vec![0xa5; bytes]);
        let hub = site.start();
        hub.wait_said(0, &["error", "the database is damaged", "put aside"], SOON);
        hub.wait_said(0, &["salvaged from"], PATIENTLY);
        let left = stored(site.db()).len();
        assert!(left > acked / 2, "{left} of {acked} readings are left of a log that lost {bytes} bytes");
    }
}

#[test]
fn what_other_programs_wrote_or_need_is_no_damage() {
    let site = Site::new();
    filled(&site, 20);
    let other = Connection::open(site.db()).unwrap();
    other
        .execute_batch(
            "INSERT INTO weather_data(timestamp, temperature) VALUES (1759479850.5, 1), ('2023-11-14 22:13:20', 2);
             CREATE TABLE notes(t TEXT)",
        )
        .unwrap();
    drop(other);
    for _ in 0..2 {
        let hub = site.start();
        Connect::new(4, "sensor").open(hub.mqtt).publish_through(&weather_topic(9), &weather(9, 1), 1);
        assert!(hub.said_since(0, &["put aside"]).is_empty(), "{}", hub.log());
        hub.kill_9();
    }
    assert_eq!(site.number("SELECT count(*) FROM weather_data WHERE typeof(timestamp) <> 'integer'"), 2);
}
