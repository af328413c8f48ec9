//! Hours and days are rolled up while readings come, late ones are taken in, and old rows go only after that.
//!
//! Owns promises of rollups and retention as far as a user sees them in the database. What they come to, to the last
//! figure, is held by the tests beside `store/rollup`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::path::Path;

use rusqlite::{Connection, params};
use support::mqtt::Connect;
use support::sensor::{Fleet, Load};
use support::{PATIENTLY, SOON, Site, now_s, wait_for};

const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// The time between two old readings.
const RHYTHM_S: i64 = 60;

/// Makes a database as the old station's program left it, its last reading at `last_s`.
fn old_station(path: &Path, rows: i64, last_s: i64) {
    let mut connection = Connection::open(path).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE weather_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL,
               sample_interval INTEGER, temperature REAL, humidity REAL, pressure REAL, irradiance REAL,
               wind_direction INTEGER, rain_gauge_count INTEGER, anemometer_count INTEGER,
               created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
             CREATE TABLE magnetic_flux_data (id INTEGER PRIMARY KEY AUTOINCREMENT, x REAL NOT NULL, y REAL NOT NULL,
               z REAL NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);",
        )
        .unwrap();
    let transaction = connection.transaction().unwrap();
    for number in 0..rows {
        let time_s = last_s - (rows - 1 - number) * RHYTHM_S;
        transaction
            .execute(
                "INSERT INTO weather_data(timestamp, temperature, rain_gauge_count, created_at)
                 VALUES (?1, ?2, ?3, datetime(?1, 'unixepoch'))",
                params![time_s, number % 30, number],
            )
            .unwrap();
        let flux = "INSERT INTO magnetic_flux_data(x, y, z, created_at) VALUES (1, 2, ?2, datetime(?1, 'unixepoch'))";
        transaction.execute(flux, [time_s, number]).unwrap();
    }
    transaction.commit().unwrap();
}

/// The end of the last whole hour, a minute after which it is done.
fn last_hour_s() -> i64 {
    (now_s() - 61).div_euclid(HOUR_S) * HOUR_S
}

#[test]
fn old_rows_are_rolled_up_and_deleted_to_the_last_one_beside_new_readings() {
    let site = Site::with_config("[station]\ntimezone = \"Europe/Berlin\"\n[store.retention]\nraw_days = 2\n");
    let last_s = last_hour_s() - 3 * HOUR_S + 900;
    let rows = 5 * 24 * 60;
    old_station(site.db(), rows, last_s);
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(3));
    let rolled_up = "SELECT coalesce(sum(count), 0) FROM rollup_hour WHERE source_id = 0 AND quantity = 'temperature'";
    wait_for("all old rows in rollups", PATIENTLY, || site.number(rolled_up) == rows);
    for (kind, table, own_time) in
        [("weather", "weather_data", "timestamp"), ("magnetic", "magnetic_flux_data", "unixepoch(created_at)")]
    {
        let gone = format!("SELECT coalesce(max(gone_s), 0) FROM rollup_state WHERE kind = '{kind}'");
        wait_for("old rows to be looked for", PATIENTLY, || site.number(&gone) > 0);
        // Two days before the end of the last hour that was done.
        let gone_s = site.number(&gone);
        assert!((last_s - 2 * DAY_S..=now_s() - 2 * DAY_S).contains(&gone_s), "{gone_s}");
        let stay = (last_s - gone_s) / RHYTHM_S + 1;
        let old = format!("SELECT count(*) FROM {table} WHERE source_id IS NULL");
        wait_for("old rows to go", PATIENTLY, || site.number(&old) <= stay);
        assert_eq!(site.number(&old), stay);
        let oldest_s = site.number(&format!("SELECT min({own_time}) FROM {table}"));
        assert!((gone_s..gone_s + RHYTHM_S).contains(&oldest_s), "{oldest_s}");
    }
    let sent: u64 = fleet.finish(SOON).iter().map(|sensor| sensor.sent).sum();
    assert_eq!(site.number("SELECT count(*) FROM weather_data WHERE source_id IS NOT NULL").unsigned_abs(), sent);
    assert_eq!(site.number(rolled_up), rows, "the rollups stay");
    let rain = "SELECT cast(sum(sum) AS INTEGER) FROM rollup_day WHERE quantity = 'rain_gauge_count' AND source_id = 0";
    assert_eq!(site.number(rain), rows - 1);
    assert!(hub.stop().success());
    assert_eq!(site.number("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check <> 'ok'"), 0);
}

#[test]
fn a_reading_that_comes_hours_late_is_in_its_hour_and_its_day_also_after_a_restart() {
    let site = Site::with_config("[station]\ntimezone = \"UTC\"\n");
    let hub = site.start();
    let hour_s = last_hour_s() - 5 * HOUR_S;
    let publish = |hub: &support::Hub, time_s: i64, temperature: i64| {
        let mut sensor = Connect::new(4, "late").open(hub.mqtt);
        let payload = format!(r#"{{"utc":{time_s},"temperature":{temperature}}}"#);
        sensor.publish_through("garden/weathermeters", payload.as_bytes(), 1);
    };
    // The hub looks for hours that are over when it starts, and every 20 s.
    publish(&hub, hour_s + 10, 4);
    let seen = |sql: &str| site.number(sql);
    let count =
        format!("SELECT coalesce(sum(count), 0) FROM rollup_hour WHERE quantity = 'temperature' AND hour = {hour_s}");
    wait_for("the hour", PATIENTLY, || seen(&count) == 1);
    publish(&hub, hour_s + 20, -6);
    wait_for("the late reading in its hour", PATIENTLY, || seen(&count) == 2);
    let lowest = "SELECT cast(min(minimum) AS INTEGER) FROM rollup_day WHERE quantity = 'temperature'";
    assert_eq!(seen(lowest), -6);
    assert!(hub.stop().success());

    let hub = site.start();
    publish(&hub, hour_s + 30, 50);
    wait_for("a late reading after a restart", PATIENTLY, || seen(&count) == 3);
    assert_eq!(seen("SELECT cast(max(maximum) AS INTEGER) FROM rollup_day WHERE quantity = 'temperature'"), 50);
    assert_eq!(seen("SELECT count(*) FROM rollup_late"), 0);
    assert!(hub.stop().success());
}

#[test]
fn catching_up_goes_on_after_a_kill_and_counts_nothing_twice() {
    let site = Site::with_config("[station]\ntimezone = \"UTC\"\n");
    let rows = 60 * 24 * 60;
    old_station(site.db(), rows, last_hour_s() - HOUR_S);
    let hub = site.start();
    let rolled_up = "SELECT coalesce(sum(count), 0) FROM rollup_day WHERE quantity = 'temperature'";
    wait_for("a beginning", PATIENTLY, || site.number(rolled_up) > 10 * 24 * 60);
    hub.kill_9();
    let hub = site.start();
    wait_for("all of it", PATIENTLY, || site.number(rolled_up) >= rows);
    assert_eq!(site.number(rolled_up), rows);
    assert_eq!(site.number("SELECT sum(count) FROM rollup_hour WHERE quantity = 'temperature'"), rows);
    assert!(hub.stop().success());
}
