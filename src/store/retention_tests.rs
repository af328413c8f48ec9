#![allow(clippy::unwrap_used)]
use std::path::PathBuf;

use super::*;
use crate::config::Synchronous;
use crate::store::rollup::note_late;
use crate::store::schema;

const HOUR_S: i64 = 3_600;
const BEGIN_S: i64 = 1_711_756_800;

/// A database with a reading a minute for ten hours in both tables, which are rolled up for so many hours.
fn database(done_hours: i64) -> (tempfile::TempDir, Connection, Cached) {
    let dir = tempfile::tempdir().unwrap();
    let path: PathBuf = dir.path().join("a.db");
    let connection = schema::open(&path, Synchronous::Normal, true).unwrap();
    connection.execute_batch("BEGIN").unwrap();
    for minute in 0..600 {
        let time_s = BEGIN_S + minute * 60;
        let text = created_at(time_s);
        let weather = "INSERT INTO weather_data(timestamp, created_at, received_ms) VALUES (?1, ?2, ?1 * 1000)";
        connection.execute(weather, (time_s, &text)).unwrap();
        let flux = "INSERT INTO magnetic_flux_data(x, y, z, created_at) VALUES (1, 2, 3, ?1)";
        connection.execute(flux, [&text]).unwrap();
    }
    for kind in ["weather", "magnetic"] {
        let state = "INSERT INTO rollup_state VALUES (?1, ?2, NULL, 'UTC', NULL)";
        connection.execute(state, (kind, BEGIN_S + done_hours * HOUR_S)).unwrap();
    }
    connection.execute_batch("COMMIT").unwrap();
    let cached = Cached::load(&connection, 1 << 20, None).unwrap();
    (dir, connection, cached)
}

/// Deletes until nothing is left to do; returns how many rows went, in how many looks.
fn delete(connection: &Connection, cached: &mut Cached, old: Old, rows_max: u32) -> (u64, usize) {
    let (mut deleted, mut looks, mut after) = (0, 0, Place::default());
    loop {
        let told = Arc::new(Told::default());
        let retention = Retention { old, rows_max, after, told: told.clone() };
        cached.delete_old(connection, &retention).unwrap();
        deleted += told.deleted();
        looks += 1;
        after = told.last();
        if told.looked_at() == 0 {
            return (deleted, looks);
        }
    }
}

fn count(connection: &Connection, table: &str) -> i64 {
    connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn exactly_the_rows_before_the_time_go_a_few_in_each_look() {
    let (_dir, connection, mut cached) = database(10);
    for (kind, table) in [(Kind::Weather, "weather_data"), (Kind::Magnetic, "magnetic_flux_data")] {
        let (deleted, looks) = delete(&connection, &mut cached, Old::Raw(kind, BEGIN_S + 4 * HOUR_S), 50);
        assert_eq!(deleted, 240, "{table}");
        assert!(looks > 4, "{looks}");
        assert_eq!(count(&connection, table), 360);
        let oldest: String =
            connection.query_row(&format!("SELECT min(created_at) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(oldest, created_at(BEGIN_S + 4 * HOUR_S));
    }
    let gone: i64 = connection.query_row("SELECT min(gone_s) FROM rollup_state", [], |row| row.get(0)).unwrap();
    assert_eq!(gone, BEGIN_S + 4 * HOUR_S);
}

#[test]
fn what_is_in_no_rollup_yet_stays() {
    let (_dir, connection, mut cached) = database(3);
    let old = Old::Raw(Kind::Weather, BEGIN_S + 4 * HOUR_S);
    assert_eq!(delete(&connection, &mut cached, old, 50).0, 0, "hours are not done");
    connection.execute("UPDATE rollup_state SET done_s = done_s + 36000", []).unwrap();
    note_late(&connection, "weather", BEGIN_S).unwrap();
    assert_eq!(delete(&connection, &mut cached, old, 50).0, 0, "an hour is to be done again");
    connection.execute("DELETE FROM rollup_late", []).unwrap();
    assert_eq!(delete(&connection, &mut cached, old, 50).0, 240);
}

#[test]
fn a_row_whose_own_time_is_not_old_stays_and_keeps_no_other_from_going() {
    let (_dir, connection, mut cached) = database(10);
    connection.execute("UPDATE weather_data SET timestamp = timestamp + 86400 WHERE id <= 100", []).unwrap();
    // By the hub's mark, nonsense: it counts for the hour of its receipt.
    connection.execute("UPDATE weather_data SET marks = 2, timestamp = 4000000000 WHERE id <= 20", []).unwrap();
    let (deleted, _) = delete(&connection, &mut cached, Old::Raw(Kind::Weather, BEGIN_S + 4 * HOUR_S), 30);
    assert_eq!(deleted, 240 - 80);
    assert_eq!(count(&connection, "weather_data"), 440);
}

#[test]
fn old_messages_leave_the_quarantine_and_its_size_is_known_after_it() {
    let (_dir, connection, mut cached) = database(0);
    for number in 0..10 {
        let sql = "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
          VALUES (?1, 't', 'c', 0, 'r', 'd', x'00')";
        connection.execute(sql, [number]).unwrap();
    }
    cached.quarantine_bytes = 10_000;
    assert_eq!(delete(&connection, &mut cached, Old::Quarantine(7), 3).0, 7);
    assert_eq!(count(&connection, "quarantine"), 3);
    assert_eq!(cached.quarantine_bytes, 10_000 - 7 * (256 + 4));
}
