//! Another station's database: every reading of it comes in once, however often that is tried, and it stays as it was.
//!
//! Owns what `stationhub import` promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use rusqlite::Connection;
use support::mqtt::Connect;
use support::sensor::{Fleet, Load, assert_all_sent_are_stored_once};
use support::{PATIENTLY, SOON, Site, rows, wait_for};

/// The tables as the old daemon makes them.
const OLD: &str = "
CREATE TABLE weather_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL, sample_interval INTEGER,
  temperature REAL, humidity REAL, pressure REAL, irradiance REAL, wind_direction INTEGER, rain_gauge_count INTEGER,
  anemometer_count INTEGER, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE magnetic_flux_data (id INTEGER PRIMARY KEY AUTOINCREMENT, x REAL NOT NULL, y REAL NOT NULL, z REAL NOT NULL,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);";
/// All that is compared, in an order that does not depend on where the rows are.
const WEATHER: &str = "SELECT timestamp, sample_interval, temperature, humidity, pressure, irradiance, wind_direction,
  rain_gauge_count, anemometer_count, created_at FROM weather_data ORDER BY 1, 9, 10";
const FLUX: &str = "SELECT x, y, z, created_at FROM magnetic_flux_data ORDER BY 4, 1, 2, 3";

fn import(site: &Site, file: &Path) -> Output {
    let mut command = site.command("import");
    command.arg(file);
    site.refused(command, PATIENTLY)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Makes an old daemon's database: a reading every 5 s, magnetometers at rest, of which four are equal in each second.
fn old(site: &Site, readings: u32) -> PathBuf {
    let path = site.file("old.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(OLD).unwrap();
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO weather_data(timestamp, temperature, pressure, anemometer_count, created_at)
             SELECT 1700000000 + 5 * i, 0.1 * i / 3, iif(i % 7, 1000.0 + i, NULL), i,
               datetime(1700000000 + 5 * i, 'unixepoch') FROM n",
            [readings],
        )
        .unwrap();
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO magnetic_flux_data(x, y, z, created_at)
             SELECT 1115, iif(i % 5, -558, -559), -305, datetime(1700000000 + i / 5, 'unixepoch') FROM n",
            [readings],
        )
        .unwrap();
    path
}

fn same_rows(site: &Site, other: &Path) {
    let other = Connection::open(other).unwrap();
    for sql in [WEATHER, FLUX] {
        assert!(site.rows(sql) == rows(&other, sql), "{sql}");
    }
}

#[test]
fn an_old_daemons_readings_come_in_once_however_often_they_are_imported() {
    let site = Site::new();
    let path = old(&site, 3_000);
    let before = fs::read(&path).unwrap();
    let first = import(&site, &path);
    assert!(first.status.success(), "{}", said(&first));
    let text = said(&first);
    let weather = "weather_data: 3000 found from 2023-11-14T22:13:20Z to 2023-11-15T02:23:15Z: 3000 imported, 0 there already, 0 refused";
    assert!(text.contains(weather), "{text}");
    same_rows(&site, &path);
    let hub = site.start();
    let again = import(&site, &path);
    assert!(said(&again).contains("0 imported, 3000 there already"), "{}", said(&again));
    same_rows(&site, &path);
    drop(hub);
    assert_eq!(fs::read(&path).unwrap(), before, "it stays as it was");
    assert!(!site.file("old.db-journal").exists() && !site.file("old.db-wal").exists());
}

#[test]
fn an_import_that_was_killed_is_completed_by_the_next_one_while_sensors_publish() {
    let site = Site::new();
    let path = old(&site, 4_000);
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 1_000_000, Load::qos1(2));
    let mut command = site.command("import");
    let mut child = command.arg(&path).spawn().unwrap();
    let imported = "SELECT count(*) FROM weather_data WHERE rain_gauge_count IS NULL";
    wait_for("part of it", SOON, || site.number(imported) > 500);
    child.kill().unwrap();
    child.wait().unwrap();
    let part = site.number(imported);
    assert!(part < 4_000, "killed too late");
    let output = import(&site, &path);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(site.number(imported), 4_000);
    let sensors = fleet.finish(PATIENTLY);
    let connection = Connection::open(site.db()).unwrap();
    connection.execute_batch("DELETE FROM weather_data WHERE rain_gauge_count IS NULL").unwrap();
    assert_all_sent_are_stored_once(site.db(), &sensors);
    drop(hub);
}

#[test]
fn another_hubs_readings_keep_their_sources_and_times_of_receipt() {
    let (site, other) = (Site::new(), Site::new());
    let hub = other.start();
    let mut client = Connect::new(4, "a").open(hub.mqtt);
    for number in 0..3 {
        client.publish_through(
            "garden/weathermeters",
            format!(r#"{{"utc":1759479845,"raingaugecount":{number}}}"#).as_bytes(),
            1,
        );
        client.publish_through("cellar/magneticfluxsensor/", br#"{"x":1,"y":2,"z":3}"#, 1);
    }
    hub.stop();
    site.start().stop();
    let beside = || ["-wal", "-shm"].map(|suffix| other.beside_db(suffix).exists());
    let before = beside();
    let output = import(&site, other.db());
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(beside(), before, "nothing is made beside it");
    for table in ["weather_data", "magnetic_flux_data"] {
        let sql = format!(
            "SELECT topic, received_ms, marks, created_at FROM {table} JOIN source ON source.id = source_id ORDER BY 2, {table}.id"
        );
        assert_eq!(site.rows(&sql), other.rows(&sql));
        assert_eq!(site.rows(&sql).len(), 3);
    }
}

#[test]
fn readings_that_are_there_in_part_are_completed_to_as_many_as_there_are() {
    let site = Site::new();
    let path = old(&site, 50);
    site.start().stop();
    let connection = Connection::open(site.db()).unwrap();
    // One of four equal ones, and one that the other database does not have.
    connection
        .execute_batch(
            "INSERT INTO magnetic_flux_data(x, y, z, created_at) VALUES (1115, -558, -305, '2023-11-14 22:13:20'),
             (1, 1, 1, '2023-11-14 22:13:20')",
        )
        .unwrap();
    drop(connection);
    let output = import(&site, &path);
    assert!(said(&output).contains("50 found from 2023-11-14 22:13:20 UTC"), "{}", said(&output));
    assert!(said(&output).contains("49 imported, 1 there already"), "{}", said(&output));
    assert_eq!(site.number("SELECT count(*) FROM magnetic_flux_data"), 51);
}

#[test]
fn what_is_no_whole_database_of_a_station_is_said_and_nothing_of_it_comes_in() {
    let site = Site::new();
    let path = old(&site, 3_000);
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xA5; 4096], 4096 * 20).unwrap();
    let output = import(&site, &path);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("damaged") && said(&output).contains(".recover"), "{}", said(&output));
    fs::write(site.file("text"), "no database at all, but a text that is long enough to be taken for one").unwrap();
    assert_eq!(import(&site, &site.file("text")).status.code(), Some(1));
    Connection::open(site.file("empty")).unwrap().execute_batch("CREATE TABLE a(b)").unwrap();
    let output = import(&site, &site.file("empty"));
    assert!(said(&output).contains("no station's database"), "{}", said(&output));
    assert_eq!(import(&site, site.db()).status.code(), Some(1), "itself");
    if site.db().exists() {
        assert_eq!(site.weather_count(), 0);
    }
}
