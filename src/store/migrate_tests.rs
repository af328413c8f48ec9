#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::Synchronous;
use crate::store::schema;

/// The schemas that earlier versions made.
const OLDER: [(i64, &str); 5] = [
    (0, include_str!("../../tests/data/schema_v0.sql")),
    (1, include_str!("../../tests/data/schema_v1.sql")),
    (2, include_str!("../../tests/data/schema_v2.sql")),
    (3, include_str!("../../tests/data/schema_v3.sql")),
    (4, include_str!("../../tests/data/schema_v4.sql")),
];

fn made(path: &Path, sql: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

/// Returns tables and their columns, and indexes, without regard to the order in which tables came.
fn shape(connection: &Connection) -> Vec<String> {
    let sql = "SELECT s.type || ' ' || s.name || coalesce(' ' || c.name || ' ' || c.type || c.pk || c.'notnull', '')
               FROM sqlite_schema s LEFT JOIN pragma_table_info(s.name) c ON s.type = 'table' ORDER BY 1";
    connection.prepare(sql).unwrap().query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn every_older_version_becomes_what_a_new_database_is() {
    let dir = tempfile::tempdir().unwrap();
    let new = schema::open(&dir.path().join("new.db"), Synchronous::Full, true).unwrap();
    for (older, sql) in OLDER {
        let path = dir.path().join(format!("v{older}.db"));
        assert_eq!(version(&made(&path, sql)).unwrap(), older);
        let connection = schema::open(&path, Synchronous::Full, false).unwrap();
        assert_eq!(version(&connection).unwrap(), VERSION);
        assert_eq!(shape(&connection), shape(&new), "from version {older}");
    }
}

#[test]
fn the_outbox_of_an_older_database_keeps_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    drop(made(&path, OLDER[3].1));
    let connection = schema::open(&path, Synchronous::Full, false).unwrap();
    let next = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
    assert_eq!(connection.query_row(next, [], |row| row.get::<_, i64>(0)).unwrap(), 1_700_000_000_000_000);
}

#[test]
fn a_step_that_fails_leaves_the_version_before_it_whole_and_is_taken_later() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    // An index of that name stands in the way of the last step's table.
    made(&path, OLDER[3].1).execute_batch("CREATE TABLE mine(x); CREATE INDEX run ON mine(x)").unwrap();
    let error = schema::open(&path, Synchronous::Full, false).unwrap_err();
    assert!(error.to_string().contains("run"), "{error}");
    let connection = Connection::open(&path).unwrap();
    assert_eq!(version(&connection).unwrap(), 4);
    let absent = missing(&connection).unwrap();
    assert!(absent.contains(&"run") && absent.contains(&"event") && !absent.contains(&"alert_episode"), "{absent:?}");
    connection.execute_batch("DROP INDEX run").unwrap();
    let connection = schema::open(&path, Synchronous::Full, false).unwrap();
    assert_eq!((version(&connection).unwrap(), missing(&connection).unwrap().len()), (VERSION, 0));
}

#[test]
fn a_step_that_the_disk_has_no_room_for_says_how_much_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    let connection = made(&path, OLDER[4].1);
    let error = check_room(&connection, &path, 6, 1, 1 << 60).unwrap_err();
    assert!(matches!(error, StoreError::NoRoom { to: 6, .. }), "{error}");
    assert!(error.to_string().contains("make room for"), "{error}");
    check_room(&connection, &path, 6, 1, 0).unwrap();
}
