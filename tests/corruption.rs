//! A database that is damaged never stops the hub: it is put aside, the next reading is taken, and what can be read is salvaged.
//!
//! Owns the whole way, with the real binary. How much of a file can be salvaged is tested beside the code that does it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use support::mqtt::Connect;
use support::sensor::{Fleet, Load, assert_acked_are_stored_once, stored, weather, weather_topic};
use support::{Dice, PATIENTLY, SOON, Site, wait_for};

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

/// Fills a database and kills its hub, so that there is a log, too; returns how many readings were acked.
fn filled(site: &Site, count: u64) -> u64 {
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(4));
    wait_for("readings", PATIENTLY, || fleet.acked() >= count);
    let acked = fleet.acked();
    hub.kill_9();
    drop(fleet);
    acked
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
    wait_for("readings", PATIENTLY, || fleet.acked() >= 3_000);
    let mark = hub.log_end();
    // The log is moved into the file now and then; from some page on there is nothing but noise.
    let len = fs::metadata(site.db()).unwrap().len();
    assert!(len > 200_000, "{len}");
    overwrite(site.db(), 4096, &vec![0xa5; len as usize - 4096 - 40_000]);
    hub.wait_said(mark, &["error", "put aside as"], PATIENTLY);
    let acked = fleet.acked();
    wait_for("acks from the new one", PATIENTLY, || fleet.acked() > acked + 500);
    let sensors = fleet.finish(PATIENTLY);
    hub.wait_said(mark, &["salvaged from"], PATIENTLY);
    assert!(hub.is_running());
    let there = stored(site.db());
    assert!(there.values().all(|&count| count == 1), "nothing is stored twice");
    let missing: u64 = sensors
        .iter()
        .map(|sensor| (0..sensor.acked).filter(|&n| !there.contains_key(&(sensor.number, n))).count() as u64)
        .sum();
    let in_file = 3_500;
    println!("{missing} readings were on the pages that are noise");
    assert!(missing <= acked.max(in_file), "{missing} of {acked} are missing: more than were acked before");
    assert!(hub.stop().success());
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn wherever_the_dice_strike_the_hub_starts_and_takes_a_reading() {
    let rounds = std::env::var("STATIONHUB_DAMAGE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20) / 5;
    let made = Site::new();
    filled(&made, 800);
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
        let hub = site.start();
        takes_a_reading(hub.mqtt, 9_000);
        if !aside(&site).is_empty() {
            hub.wait_said(0, &["salvaged from"], PATIENTLY);
        }
        assert_eq!(stored(site.db()).get(&(9_000, 0)), Some(&1));
        assert!(hub.stop().success());
    }
}
