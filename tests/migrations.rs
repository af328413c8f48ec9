//! Databases of every earlier version, with what their owners did to them, under today's hub.
//!
//! Owns the promise that the old station's programs read the same rows before and after. The schemas are in `tests/data`, as
//! the versions made them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;

use rusqlite::Connection;
use rusqlite::types::Value;
use support::disk::SmallDisk;
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{SOON, Site, wait_for};

const OLDER: [(i64, &str); 5] = [
    (0, include_str!("data/schema_v0.sql")),
    (1, include_str!("data/schema_v1.sql")),
    (2, include_str!("data/schema_v2.sql")),
    (3, include_str!("data/schema_v3.sql")),
    (4, include_str!("data/schema_v4.sql")),
];

/// What owners do: columns, an index, a view and a table of their own; and what happened to them: duplicate rows.
const LIVED_IN: &str = "
ALTER TABLE weather_data ADD COLUMN dew_point REAL;
ALTER TABLE magnetic_flux_data ADD COLUMN remark TEXT DEFAULT 'none';
CREATE INDEX by_temperature ON weather_data(temperature);
CREATE VIEW frost AS SELECT created_at, temperature FROM weather_data WHERE temperature < 0;
CREATE TABLE notes(text TEXT);
INSERT INTO notes VALUES ('the mast was moved');
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance, wind_direction,
    rain_gauge_count, anemometer_count, created_at, dew_point)
  SELECT 1759479845 + i / 2 * 5, 5000, i / 2 % 40 - 10.25, 61.5, 1004.94, 0.83, 96, 170 + i / 20, 1047952 + i / 2,
    datetime(1759479845 + i / 2 * 5, 'unixepoch'), 1.5 FROM n;
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
INSERT INTO magnetic_flux_data(x, y, z, created_at)
  SELECT 1115, -558, -305, datetime(1759479845 + i / 2 * 5, 'unixepoch') FROM n;
";

/// What the old station's window and plotters ask.
const ASKED: [&str; 6] = [
    "SELECT created_at, temperature, humidity, pressure, irradiance, wind_direction, rain_gauge_count, anemometer_count
     FROM weather_data WHERE created_at BETWEEN '2025-10-03 08:24:05' AND '2025-10-03 08:50:00' ORDER BY created_at, id",
    "SELECT created_at, x, y, z FROM magnetic_flux_data
     WHERE created_at BETWEEN '2025-10-03 08:24:05' AND '2025-10-03 08:50:00' ORDER BY created_at, id",
    "SELECT timestamp, count(*) FROM weather_data WHERE id <= 1000 GROUP BY timestamp HAVING count(*) > 1",
    "SELECT id, dew_point FROM weather_data WHERE id <= 1000 ORDER BY id",
    "SELECT id, remark FROM magnetic_flux_data WHERE id <= 1000 ORDER BY id",
    "SELECT text FROM notes",
];

fn answers(site: &Site) -> Vec<Vec<Vec<Value>>> {
    ASKED.iter().map(|sql| site.rows(sql)).collect()
}

#[test]
fn old_programs_read_the_same_rows_before_and_after_whatever_version_made_them() {
    for (version, schema) in OLDER {
        let site = Site::new();
        let old = Connection::open(site.db()).unwrap();
        old.execute_batch(schema).unwrap();
        old.execute_batch(LIVED_IN).unwrap();
        if version > 0 {
            old.execute_batch("INSERT INTO quarantine VALUES (7, 1, 'a', 'b', 0, 'c', 'd', x'01')").unwrap();
        }
        drop(old);
        assert_eq!(site.number("PRAGMA user_version"), version);
        let before = answers(&site);
        assert!(before.iter().all(|rows| !rows.is_empty()), "each statement finds something");

        let hub = site.start();
        let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
        sensor.publish_through(&weather_topic(1), &weather(1, 7), 1);
        assert!(answers(&site) == before, "from version {version}, while the hub runs");
        assert!(hub.stop().success());
        assert!(answers(&site) == before, "from version {version}, after it");
        assert_eq!(site.number("SELECT count(*) FROM weather_data"), 1001, "duplicates stay, and the new one is there");
        assert_eq!(site.number("SELECT max(id) FROM weather_data WHERE dew_point IS NULL"), 1001);
        assert_eq!(site.number("SELECT count(*) FROM quarantine"), i64::from(version > 0));
        assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
    }
}

#[test]
fn a_disk_without_room_for_a_new_schema_is_told_with_what_is_missing_and_the_database_stays_as_it_is() {
    let site = Site::new().with_db("disk/weather_data.db");
    let Some(disk) = SmallDisk::mount(site.file("disk"), "8m") else { return };
    let old = Connection::open(site.db()).unwrap();
    old.execute_batch("PRAGMA journal_mode = WAL").unwrap();
    old.execute_batch(OLDER[4].1).unwrap();
    old.execute_batch(LIVED_IN).unwrap();
    // The window, open beside it: the files that SQLite needs are there.
    let rows: i64 = old.query_row("SELECT count(*) FROM weather_data", [], |row| row.get(0)).unwrap();
    fs::write(site.beside_db(".lock"), "99999999 of an earlier hub\n").unwrap();
    let ballast = disk.fill();
    let output = site.refused(site.run_command(), SOON);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot be brought to schema version 5") && said.contains("make room for"), "{said}");
    assert_eq!(site.number("PRAGMA user_version"), 4);
    fs::remove_file(ballast).unwrap();
    let hub = site.start();
    wait_for("today's schema", SOON, || site.number("PRAGMA user_version") == 5);
    assert_eq!(site.weather_count(), rows);
    assert!(hub.stop().success());
}
