#![allow(clippy::unwrap_used)]
use super::*;
use crate::reading::{Magnetic, Marks as TimeMarks, Number, Reading, Sample, Weather};
use crate::store::tables::quarantine_bytes;
use crate::store::{Delivery, Entry, Forward, Incoming, Lane, Origin, OutboxSettings, Reader};

fn open(path: &Path) -> Database {
    Database::open(path, Synchronous::Full, 2000, None, true, None, false).unwrap()
}

fn job(entry: Entry, delivery: Option<Delivery>) -> Job {
    let origin =
        Origin { source: "a/weathermeters".into(), client: "esp32".into(), qos: 1, received_ms: 1_759_479_845_999 };
    let content =
        Content::Message(Incoming { origin, entry, payload: b"raw bytes".as_slice().into(), forward: None, delivery });
    Job { content, ticket: None }
}

fn incoming(job: &mut Job) -> &mut Incoming {
    match &mut job.content {
        Content::Message(message) => message,
        _ => panic!("not a message"),
    }
}

fn reading(timestamp: i64) -> Entry {
    let weather = Weather {
        timestamp,
        temperature: Some(Number::Real(5.22)),
        wind_direction: Some(Number::Int(96)),
        ..Weather::default()
    };
    Entry::Reading(Box::new(Reading { sample: Sample::Weather(weather), marks: TimeMarks::default() }))
}

fn count(database: &Database, table: &str) -> i64 {
    database.connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
}

#[test]
fn a_reading_is_stored_as_it_was_sent() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    database.store(&[job(reading(-5), None)]).unwrap();
    let row: (i64, f64, Option<f64>, i64, String, i64, Option<i64>) = database
        .connection
        .query_row(
            "SELECT timestamp, temperature, humidity, wind_direction, created_at, received_ms, marks FROM weather_data",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?, row.get(6)?)),
        )
        .unwrap();
    assert_eq!(row, (-5, 5.22, None, 96, "2025-10-03 08:24:05".into(), 1_759_479_845_999, None));
}

#[test]
fn one_message_that_the_database_refuses_is_quarantined_and_the_rest_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    database
        .connection
        .execute_batch(
            "CREATE TRIGGER no_seven BEFORE INSERT ON weather_data WHEN new.timestamp = 7
             BEGIN SELECT raise(ABORT, 'seven'); END",
        )
        .unwrap();
    let outcome = database.store(&[job(reading(6), None), job(reading(7), None), job(reading(8), None)]).unwrap();
    assert_eq!(outcome, Outcome { readings: 2, quarantined: 1, ..Outcome::default() });
    let raw: Vec<u8> = database.connection.query_row("SELECT payload FROM quarantine", [], |row| row.get(0)).unwrap();
    assert_eq!(raw, b"raw bytes");
}

#[test]
fn a_failed_transaction_leaves_nothing_behind_and_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    let delivery = Some(Delivery { id: 1, digest: 2, dup: false });
    let batch = [job(reading(1), delivery)];
    database.connection.execute_batch("ALTER TABLE delivery RENAME TO elsewhere").unwrap();
    database.store(&batch).unwrap_err();
    assert_eq!((count(&database, "weather_data"), count(&database, "source")), (0, 0));
    database.connection.execute_batch("ALTER TABLE elsewhere RENAME TO delivery").unwrap();
    assert_eq!(database.store(&batch).unwrap().readings, 1);
    let again = job(reading(1), Some(Delivery { id: 1, digest: 2, dup: true }));
    assert_eq!(database.store(&[again]).unwrap().duplicates, 1);
    assert_eq!((count(&database, "weather_data"), count(&database, "source")), (1, 1));
}

#[test]
fn the_quarantine_drops_its_oldest_beyond_its_bound() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    let mut dropped = 0;
    for number in 0..10 {
        let mut rejected = job(Entry::Rejected { reason: "not JSON", detail: number.to_string() }, None);
        incoming(&mut rejected).payload = vec![0; 300].into();
        dropped += database.store(&[rejected]).unwrap().quarantine_dropped;
    }
    assert_eq!((dropped, count(&database, "quarantine")), (7, 3));
    let oldest: String = database
        .connection
        .query_row("SELECT detail FROM quarantine ORDER BY id LIMIT 1", [], |row| row.get(0))
        .unwrap();
    assert_eq!(oldest, "7");
}

#[test]
fn a_moved_file_is_noticed_before_anything_is_written_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let mut database = open(&here);
    std::fs::rename(&here, &there).unwrap();
    let error = database.store(&[job(reading(1), None)]).unwrap_err();
    assert!(matches!(error, StoreError::Moved { .. }), "{error}");
    std::fs::rename(&there, &here).unwrap();
    database.store(&[job(reading(1), None)]).unwrap();
}

#[test]
fn a_log_that_is_gone_is_noticed_and_closing_saves_what_was_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let mut database = open(&path);
    database.store(&[job(reading(1), None)]).unwrap();
    std::fs::remove_file(dir.path().join("a.db-wal")).unwrap();
    let error = database.store(&[job(reading(2), None)]).unwrap_err();
    assert!(matches!(error, StoreError::LogGone { .. }), "{error}");
    database.close().unwrap();
    assert_eq!(count(&open(&path), "weather_data"), 1);
}

#[test]
fn a_file_moved_behind_a_link_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (here, there) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let mut database = open(&here);
    database.store(&[job(reading(1), None)]).unwrap();
    std::fs::rename(&here, &there).unwrap();
    std::os::unix::fs::symlink(&there, &here).unwrap();
    let error = database.store(&[job(reading(2), None)]).unwrap_err();
    assert!(matches!(error, StoreError::Moved { .. }), "{error}");
    database.close().unwrap();
    let mut database = open(&here);
    database.store(&[job(reading(2), None)]).unwrap();
    assert_eq!(count(&database, "weather_data"), 2);
}

#[test]
fn a_clean_close_leaves_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    let flux = Magnetic { x: Number::Int(1115), y: Number::Int(-558), z: Number::Real(-305.5) };
    let entry = Entry::Reading(Box::new(Reading { sample: Sample::Magnetic(flux), marks: TimeMarks::TIME_MISSING }));
    database.store(&[job(entry, None)]).unwrap();
    database.close().unwrap();
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn the_quarantines_size_is_what_its_rows_say_in_any_alphabet() {
    let dir = tempfile::tempdir().unwrap();
    let mut database = open(&dir.path().join("a.db"));
    for number in 0..20 {
        let mut rejected = job(Entry::Rejected { reason: "not JSON", detail: "été".repeat(number) }, None);
        incoming(&mut rejected).origin.source = "été/weathermeters".into();
        database.store(&[rejected]).unwrap();
    }
    let rows: i64 = database
        .connection
        .query_row(concat!("SELECT sum(", quarantine_bytes!(), ") FROM quarantine"), [], |row| row.get(0))
        .unwrap();
    assert_eq!(database.cached.quarantine_bytes, rows);
}

#[test]
fn a_commit_in_doubt_that_holds_nothing_but_outbox_rows_is_found_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let settings = OutboxSettings { bytes_max: 1 << 20, age_max: None, maybe_sent: 0 };
    let outbox = Arc::new(Outbox::new(settings));
    let mut database = Database::open(&path, Synchronous::Full, 2000, Some(outbox.clone()), true, None, false).unwrap();
    let mut passing = job(Entry::Passing, None);
    incoming(&mut passing).forward = Some(Box::new(Forward { topic: "a/b".into(), retain: false, properties: None }));
    let outcome = database.store(&[passing]).unwrap();
    let (id, received_ms) = (outbox.newest(), 1_759_479_845_999);
    let doubt = |id| Doubt { row: RowName { table: "outbox", id, received_ms }, outcome };
    outbox.doubt();
    let read = |outbox: &Outbox| Reader::open(&path).unwrap().outbox(outbox, Lane::Backlog, 0, 10, 1000).unwrap().len();
    assert_eq!(read(&outbox), 0, "what is in doubt is not sent");
    assert_eq!(database.settle(doubt(id)).unwrap(), Some(outcome));
    assert_eq!((outbox.added(), read(&outbox)), (2, 1));
    assert_eq!(database.settle(doubt(id + 1)).unwrap(), None);
}
