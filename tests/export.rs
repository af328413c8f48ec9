//! Readings as CSV and JSON lines: all that were asked for, in order, while the hub writes.
//!
//! Owns what `stationhub export` promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Output, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use support::mqtt::Connect;
use support::{PATIENTLY, SOON, Site, wait_for};

const WEATHER: &str = "backacres/house/weatherstation/weathermeters/";
const FLUX: &str = "backacres/house/weatherstation/magneticfluxsensor/";

fn export(site: &Site, args: &[&str]) -> Output {
    let mut command = site.command("export");
    command.args(args);
    // What it says goes to a file: a pipe would be full before it ends.
    let said = fs::File::create(site.file("said")).unwrap();
    let mut child = command.stdout(said).stderr(Stdio::piped()).spawn().unwrap();
    wait_for("the export", PATIENTLY, || child.try_wait().unwrap().is_some());
    let output = child.wait_with_output().unwrap();
    Output { stdout: fs::read(site.file("said")).unwrap(), ..output }
}

fn lines(output: &Output) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Makes a database with `rows` weather readings, ten in each second from 1,000,000,000 on.
fn filled(site: &Site, rows: u32) {
    site.start().stop();
    let connection = Connection::open(site.db()).unwrap();
    connection
        .execute(
            "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1)
             INSERT INTO weather_data(timestamp, temperature, anemometer_count) SELECT 1000000000 + i / 10, 0.5, i FROM n",
            [rows],
        )
        .unwrap();
}

#[test]
fn a_reading_is_exported_with_what_its_sensor_sent() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "a").open(hub.mqtt);
    client.publish_through(
        WEATHER,
        br#"{"utc":1759479845,"temperature":5.22,"pressure":1004.0,"raingaugecount":170}"#,
        1,
    );
    client.publish_through(FLUX, br#"{"x":1115,"y":-558,"z":-305.5}"#, 1);
    let found = lines(&export(&site, &[]));
    assert_eq!(
        found[0],
        "id,source,time,created_at,received_ms,marks,timestamp,sample_interval,temperature,humidity,pressure,irradiance,\
         wind_direction,rain_gauge_count,anemometer_count"
    );
    assert!(
        found[1].starts_with("1,backacres/house/weatherstation/weathermeters,2025-10-03T08:24:05Z,"),
        "{}",
        found[1]
    );
    assert!(found[1].ends_with(",1759479845,,5.22,,1004.0,,,170,"), "{}", found[1]);
    let found = lines(&export(&site, &["--table", "magnetic", "--format", "jsonl"]));
    let row: serde_json::Value = serde_json::from_str(&found[0]).unwrap();
    assert_eq!((&row["x"], &row["z"], &row["id"]), (&1115.0.into(), &(-305.5).into(), &1.into()));
    assert_eq!(lines(&export(&site, &["--source", "backacres/#"])).len(), 2);
    assert_eq!(lines(&export(&site, &["--source", "other/#"])).len(), 1);
}

#[test]
fn a_time_range_is_exported_whole_and_in_order_however_many_pages_it_has() {
    let site = Site::new();
    filled(&site, 50_000);
    let numbers = |args: &[&str]| -> Vec<u64> {
        let found = lines(&export(&site, args));
        found[1..].iter().map(|line| line.rsplit(',').next().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(numbers(&[]), (0..50_000).collect::<Vec<u64>>());
    let range = ["--from", "2001-09-09T01:46:50Z", "--to", "2001-09-09T04:30:00+02:00"];
    assert_eq!(numbers(&range), (100..26_000).collect::<Vec<u64>>());
}

#[test]
fn many_readings_of_one_second_are_exported_each_once() {
    let site = Site::new();
    filled(&site, 1);
    let connection = Connection::open(site.db()).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4999)
             INSERT INTO weather_data(timestamp, anemometer_count) SELECT 1000000000, i FROM n",
        )
        .unwrap();
    let found = lines(&export(&site, &[]));
    let mut unique: Vec<&String> = found.iter().collect();
    unique.sort();
    unique.dedup();
    assert_eq!((found.len(), unique.len()), (5_001, 5_001));
}

#[test]
fn an_export_holds_neither_the_writer_nor_the_log() {
    let site = Site::new();
    filled(&site, 100_000);
    let hub = site.start();
    let mut command = site.command("export");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut first).unwrap();
    // The pipe is full now: the export stands in the middle.
    let mut client = Connect::new(4, "a").open(hub.mqtt);
    client.publish_through(WEATHER, br#"{"utc":1759479845}"#, 1);
    let connection = Connection::open(site.db()).unwrap();
    connection.busy_timeout(Duration::from_secs(1)).unwrap();
    wait_for("a checkpoint that begins the log anew", SOON, || {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() == 0
    });
    assert!(child.try_wait().unwrap().is_none(), "the export is not done");
    // A reader that has seen enough.
    drop(output);
    let ended = child.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn a_file_appears_only_when_it_is_whole_and_is_not_replaced_unasked() {
    let site = Site::new();
    filled(&site, 3);
    let path = site.file("out.jsonl");
    let out = ["--format", "jsonl", "--out", path.to_str().unwrap()];
    assert_eq!(lines(&export(&site, &out)), [""; 0]);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
    assert_eq!(export(&site, &out).status.code(), Some(1));
    assert!(export(&site, &[&out[..], &["--force"]].concat()).status.success());
    assert!(!site.file("out.jsonl.partial").exists());
    assert_eq!(export(&site, &["--from", "yesterday"]).status.code(), Some(2));
}

#[test]
fn a_database_that_no_hub_has_opened_is_exported_too_and_stays_as_it_is() {
    let site = Site::new();
    let connection = Connection::open(site.db()).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE magnetic_flux_data(id INTEGER PRIMARY KEY, x REAL, y REAL, z REAL, created_at TIMESTAMP);
             INSERT INTO magnetic_flux_data(x, y, z, created_at) VALUES (1, 2, 3.5, '2025-10-03 08:24:05')",
        )
        .unwrap();
    let found = lines(&export(&site, &["--table", "magnetic", "--from", "2025-10-03T08:24", "--to", "2025-10-04"]));
    assert_eq!(found[1..], ["1,,2025-10-03T08:24:05Z,2025-10-03 08:24:05,,,1.0,2.0,3.5"]);
    assert_eq!(lines(&export(&site, &["--table", "magnetic", "--source", "a"])).len(), 1);
    assert_eq!(site.number("SELECT count(*) FROM sqlite_schema"), 1);
}

#[test]
fn nothing_is_written_over_the_database_or_what_belongs_to_it() {
    let site = Site::new();
    filled(&site, 10);
    let hub = site.start();
    for suffix in ["", "-wal", ".lock", ".sock", ".reserve"] {
        let target = site.beside_db(suffix);
        for (name, flag) in [("export", Some("--out")), ("backup", None)] {
            let mut command = site.command(name);
            command.args(flag).arg(&target).arg("--force");
            let output = site.refused(command, SOON);
            assert_eq!(output.status.code(), Some(1), "{name} over {suffix:?}: {output:?}");
        }
    }
    assert_eq!(site.number("SELECT count(*) FROM weather_data"), 10);
    assert_eq!(site.status()["status"], "ok");
    assert!(hub.stop().success());
}
