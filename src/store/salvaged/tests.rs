//! From a damaged file to the rows in the new one, with the writer and without a broker.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};

use super::*;
use crate::config::Synchronous;
use crate::store::{Queue, Settings, Writer, schema};

const TABLES: [&str; 6] = ["source", "weather_data", "magnetic_flux_data", "quarantine", "event", "alert_episode"];

fn settings(path: &Path) -> Settings {
    Settings {
        path: path.to_owned(),
        synchronous: Synchronous::Normal,
        batch_max: 512,
        quarantine_bytes_max: 64 << 20,
        write_failures_max: 10,
        tap: None,
        reserve_bytes: 0,
    }
}

/// Makes a database with rows of all kinds, and leaves their log beside them.
fn make(path: &Path, readings: i64) {
    let connection = schema::open(path, Synchronous::Normal, true).unwrap();
    connection
        .execute_batch(&format!(
            "BEGIN;
             INSERT INTO source(id, topic, first_seen_ms, rhythm_ms) VALUES (3, 'a/weathermeters', 1, 5000), (9, 'b/flux', 2, NULL);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {readings})
               INSERT INTO weather_data(timestamp, temperature, rain_gauge_count, created_at, source_id, received_ms)
               SELECT 1764000000 + i, i / 3.0, i, datetime(1764000000 + i, 'unixepoch'), 3, 1764000000000 + i FROM n;
             INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id)
               SELECT id, id * 1.5, -id, created_at, 9 FROM weather_data WHERE id % 5 = 0;
             INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
               SELECT id, 't', 'c', 1, 'not JSON', 'at 0', zeroblob(id % 6000) FROM weather_data WHERE id % 20 = 0;
             INSERT INTO outbox(received_ms, topic, retain, payload) SELECT received_ms, 'o', 0, zeroblob(id) FROM weather_data
               WHERE id % 20 = 0;
             INSERT INTO event(at_ms, kind, text) VALUES (5, 'clock.step', 'the clock was set');
             INSERT INTO run(boot, started_ms, alive_ms) VALUES ('x', 1, 2);
             INSERT INTO alert_episode VALUES (4, 'frost', 'a', 'warning', 'cold', 1, NULL, NULL, 0, 1);
             INSERT INTO retained VALUES ('house/lamp', 'p', NULL, x'01');
             COMMIT"
        ))
        .unwrap();
}

fn rows(path: &Path, sql: &str) -> Vec<Vec<Value>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let found = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    found.map(Result::unwrap).collect()
}

fn number(path: &Path, sql: &str) -> i64 {
    match rows(path, sql)[0][0] {
        Value::Integer(number) => number,
        ref other => panic!("{other:?}"),
    }
}

fn start(path: &Path) -> (Writer, Arc<Queue>) {
    let queue = Arc::new(Queue::new(8 << 20));
    (Writer::start(settings(path), queue.clone(), None).unwrap(), queue)
}

fn stop(writer: Writer) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(writer.stop(Duration::from_secs(3))).unwrap().unwrap();
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_finished(path: &Path, files: i64) -> bool {
    number(path, "SELECT count(*) FROM sqlite_schema WHERE name = 'salvage'") == 1
        && number(path, "SELECT count(*) FROM salvage WHERE finished_ms IS NOT NULL") == files
}

fn zero(path: &Path, at: u64, bytes: usize) {
    fs::File::options().write(true).open(path).unwrap().write_all_at(&vec![0; bytes], at).unwrap();
}

fn all(path: &Path) -> BTreeMap<&'static str, Vec<Vec<Value>>> {
    let of = |table| (table, rows(path, &format!("SELECT * FROM {table} WHERE id < 1000000000 ORDER BY 1")));
    TABLES.into_iter().map(of).collect()
}

#[test]
fn rows_of_every_kind_come_back_under_their_numbers_and_new_ones_have_higher() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    make(&path, 1_000);
    let mut before = all(&path);
    let outbox = rows(&path, "SELECT received_ms, topic, payload FROM outbox ORDER BY id");
    zero(&path, 0, 100);
    let (writer, _queue) = start(&path);
    assert!(number(&path, "SELECT min(seq) FROM sqlite_sequence WHERE name IN ('weather_data')") >= 1_000);
    wait_for("the salvage", || is_finished(&path, 1));
    let events: Vec<String> = writer.progress().journal.corruption().into_iter().map(|event| event.kind).collect();
    assert_eq!(events, ["store.corrupt"]);
    stop(writer);
    let mut after = all(&path);
    // What the hub itself has noted since.
    let noted = after.get_mut("event").unwrap();
    noted.retain(|row| row[2] == Value::Text("clock.step".into()));
    before.get_mut("event").unwrap().truncate(1);
    assert_eq!(after, before);
    assert_eq!(rows(&path, "SELECT received_ms, topic, payload FROM outbox ORDER BY id"), outbox);
    assert_eq!(number(&path, "SELECT messages FROM outbox_total"), outbox.len() as i64);
    assert_eq!(
        number(&path, "SELECT count(*) FROM retained"),
        0,
        "SQLite cannot read those of a file without its header"
    );
}

#[test]
fn what_the_broker_keeps_is_taken_over_where_it_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    make(&path, 1_000);
    let (writer, _queue) = start(&path);
    stop(writer);
    // A leaf of the readings.
    zero(&path, fs::metadata(&path).unwrap().len() / 2, 4096);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch("UPDATE run SET stopped_ms = NULL").unwrap();
    drop(connection);
    let (writer, _queue) = start(&path);
    assert_eq!(number(&path, "SELECT count(*) FROM retained"), 1);
    stop(writer);
}

#[test]
fn a_salvage_that_is_cut_off_goes_on_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    make(&path, 30_000);
    zero(&path, 0, 100);
    let count = || number(&path, "SELECT count(*) FROM weather_data");
    let mut cuts = 0;
    loop {
        let (writer, _queue) = start(&path);
        let before = count();
        wait_for("some of it", || count() >= (before + 8_000).min(30_000));
        stop(writer);
        if is_finished(&path, 1) || count() == 30_000 {
            break;
        }
        cuts += 1;
    }
    assert!(cuts >= 1, "it was never cut off");
    let (writer, _queue) = start(&path);
    wait_for("the end", || is_finished(&path, 1));
    stop(writer);
    assert_eq!(count(), 30_000);
    assert_eq!(number(&path, "SELECT count(DISTINCT timestamp) FROM weather_data"), 30_000);
    assert_eq!(number(&path, "SELECT count(*) FROM outbox"), 1_500);
}

#[test]
fn a_new_database_that_is_damaged_before_the_old_one_is_salvaged_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    make(&path, 10_000);
    zero(&path, 0, 100);
    let (writer, _queue) = start(&path);
    wait_for("some of it", || number(&path, "SELECT count(*) FROM weather_data") > 1_000);
    stop(writer);
    zero(&path, 0, 100);
    let (writer, _queue) = start(&path);
    wait_for("both salvages", || is_finished(&path, 2));
    stop(writer);
    assert_eq!(number(&path, "SELECT count(*) FROM weather_data"), 10_000);
    assert_eq!(number(&path, "SELECT count(DISTINCT timestamp) FROM weather_data"), 10_000);
    assert_eq!(number(&path, "SELECT count(*) FROM magnetic_flux_data"), 2_000);
}

#[test]
fn a_large_database_is_used_at_once_and_replaced_when_its_pages_were_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    make(&path, 20_000);
    let connection = Connection::open(&path).unwrap();
    let insert = "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
                  VALUES (1, 't', 'c', 1, 'r', 'd', zeroblob(10000000))";
    connection.execute_batch(&format!("{insert};{insert};{insert};{insert};{insert};{insert};{insert}")).unwrap();
    let leaf: i64 = connection
        .query_row(
            "SELECT pageno FROM dbstat WHERE name = 'weather_data' AND pagetype = 'leaf' LIMIT 1 OFFSET 40",
            [],
            |row| row.get(0),
        )
        .unwrap_or(100);
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    drop(connection);
    zero(&path, (leaf as u64 - 1) * 4096, 4096);
    let (writer, _queue) = start(&path);
    let aside = || aside::list(&path).len();
    assert_eq!(aside(), 0, "its pages are not read first");
    wait_for("a new one", || aside() == 1);
    wait_for("the salvage", || path.exists() && is_finished(&path, 1));
    stop(writer);
    let rows = number(&path, "SELECT count(*) FROM weather_data");
    assert!((19_800..20_000).contains(&rows), "{rows}: one page is gone");
    assert_eq!(
        number(&path, "SELECT sum(octet_length(payload) = 10000000) FROM quarantine"),
        6,
        "as many as it has room for"
    );
}

#[test]
fn a_file_that_never_was_a_database_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("letter.txt");
    let text = "Dear reader,\nthis is no database.\n".repeat(2_000);
    fs::write(&path, &text).unwrap();
    let error = Writer::start(settings(&path), Arc::new(Queue::new(1 << 20)), None).unwrap_err();
    assert!(matches!(error, StoreError::NoDatabase { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}
