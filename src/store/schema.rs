//! The database's tables, and the connection that writes them.
//!
//! Owns every `CREATE`; how an older file becomes today's is `migrate`'s. The first two tables and their indexes are the old
//! station's: columns are added at their end, nothing that its programs read is changed.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{Doing, StoreError};
use super::migrate::{migrate, version};
use super::rollup;
use crate::config::Synchronous;

/// The newest schema version that this hub knows, kept in `PRAGMA user_version`.
pub const VERSION: i64 = 5;

/// The page of a new database, bytes. A commit writes each page that it touches as a whole, and a reading touches four: with
/// half of SQLite's usual 4,096 an SD card is written half as much, and reading takes no longer. With a quarter it would.
const PAGE_BYTES: u32 = 2_048;

/// How long SQLite itself waits for another program's lock before it gives up.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) const STATION_TABLES: &str = "
CREATE TABLE IF NOT EXISTS weather_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp INTEGER NOT NULL,
  sample_interval INTEGER,
  temperature REAL,
  humidity REAL,
  pressure REAL,
  irradiance REAL,
  wind_direction INTEGER,
  rain_gauge_count INTEGER,
  anemometer_count INTEGER,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE TABLE IF NOT EXISTS magnetic_flux_data (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  x REAL NOT NULL,
  y REAL NOT NULL,
  z REAL NOT NULL,
  created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX IF NOT EXISTS idx_weather_timestamp ON weather_data(timestamp);
CREATE INDEX IF NOT EXISTS idx_weather_created ON weather_data(created_at);
CREATE INDEX IF NOT EXISTS idx_flux_created ON magnetic_flux_data(created_at);
";

/// A table of the hub's own: its name and its columns.
pub(super) type Table = (&'static str, &'static str);

pub(super) const HUB_TABLES: [Table; 23] = [
    // Who sends, and the usual time between its readings.
    (
        "source",
        "(
  id INTEGER PRIMARY KEY,
  topic TEXT NOT NULL UNIQUE,
  first_seen_ms INTEGER NOT NULL,
  rhythm_ms INTEGER
)",
    ),
    // Each run of the hub: from its start, as long as it was alive, to its orderly stop. See `heartbeat`.
    (
        "run",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  boot TEXT NOT NULL,
  started_ms INTEGER NOT NULL,
  alive_ms INTEGER NOT NULL,
  stopped_ms INTEGER
)",
    ),
    // What happened that its owner should know of later, too. See `journal`.
    (
        "event",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms INTEGER NOT NULL,
  kind TEXT NOT NULL,
  text TEXT NOT NULL,
  acknowledged_ms INTEGER
)",
    ),
    // Bytes written to the disk by day (days since 1970, UTC). See `wear`.
    (
        "wear",
        "(
  day INTEGER PRIMARY KEY,
  bytes INTEGER NOT NULL
)",
    ),
    // What could not be read, with its bytes.
    (
        "quarantine",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  received_ms INTEGER NOT NULL,
  topic TEXT NOT NULL,
  client_id TEXT NOT NULL,
  qos INTEGER NOT NULL,
  reason TEXT NOT NULL,
  detail TEXT NOT NULL,
  payload BLOB NOT NULL
)",
    ),
    // Which QoS 1 and 2 publishes are stored, one row per client and transaction, `marks` being 10 bytes each: packet id, digest.
    (
        "delivery",
        "(
  id INTEGER PRIMARY KEY,
  client_id TEXT NOT NULL,
  marks BLOB NOT NULL
)",
    ),
    // What the broker keeps over a restart, with the next two: see `kept`.
    (
        "retained",
        "(
  topic TEXT PRIMARY KEY,
  publisher TEXT NOT NULL,
  expires_ms INTEGER,
  packet BLOB NOT NULL
) WITHOUT ROWID",
    ),
    (
        "session",
        "(
  client_id TEXT PRIMARY KEY,
  expiry_s INTEGER NOT NULL,
  away_since_ms INTEGER,
  state TEXT NOT NULL
) WITHOUT ROWID",
    ),
    (
        "session_message",
        "(
  client_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  publisher TEXT NOT NULL,
  expires_ms INTEGER,
  packet BLOB NOT NULL,
  PRIMARY KEY (client_id, number)
) WITHOUT ROWID",
    ),
    // What was wrong, and with the next one who was told: see `alerts`.
    (
        "alert_episode",
        "(
  id INTEGER PRIMARY KEY,
  rule TEXT NOT NULL,
  subject TEXT NOT NULL,
  severity TEXT NOT NULL,
  text TEXT NOT NULL,
  fired_ms INTEGER NOT NULL,
  resolved_ms INTEGER,
  acknowledged_ms INTEGER,
  repeats INTEGER NOT NULL,
  told_ms INTEGER NOT NULL
)",
    ),
    (
        "alert_notice",
        "(
  episode INTEGER NOT NULL,
  what TEXT NOT NULL,
  channel TEXT NOT NULL,
  severity TEXT NOT NULL,
  text TEXT NOT NULL,
  made_ms INTEGER NOT NULL,
  done_ms INTEGER,
  outcome TEXT,
  UNIQUE (episode, what, channel)
)",
    ),
    // What the upstream is still to get.
    (
        "outbox",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  received_ms INTEGER NOT NULL,
  topic TEXT NOT NULL,
  retain INTEGER NOT NULL,
  payload BLOB NOT NULL,
  properties TEXT,
  lost TEXT
)",
    ),
    // How much that is, so that nobody has to count it.
    (
        "outbox_total",
        "(
  one INTEGER PRIMARY KEY CHECK (one = 1),
  messages INTEGER NOT NULL,
  bytes INTEGER NOT NULL
)",
    ),
    // How many readings of each source are stored in each hour, and up to which row of each table they are counted. See `ledger`.
    (
        "hour_count",
        "(
  source_id INTEGER NOT NULL,
  hour INTEGER NOT NULL,
  stored INTEGER NOT NULL,
  interval_ms INTEGER,
  PRIMARY KEY (source_id, hour)
) WITHOUT ROWID",
    ),
    (
        "hour_counted",
        "(
  readings TEXT PRIMARY KEY,
  up_to INTEGER NOT NULL
) WITHOUT ROWID",
    ),
    // Which readings came and were not stored: rejected, or lost for want of room; a row for each source and minute.
    (
        "unstored",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source_id INTEGER NOT NULL,
  minute INTEGER NOT NULL,
  cause TEXT NOT NULL,
  first_ms INTEGER NOT NULL,
  last_ms INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  UNIQUE (source_id, minute, cause)
)",
    ),
    // Which readings were received while the clock was not to be trusted, and how far it was from the boot's. See `untimed`.
    (
        "untimed",
        "(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  boot TEXT NOT NULL,
  offset_ms INTEGER NOT NULL,
  readings TEXT NOT NULL,
  first_id INTEGER NOT NULL,
  last_id INTEGER NOT NULL
)",
    ),
    // What hours and days came to, and how far that is done: see `rollup`.
    ("rollup_hour", rollup::HOUR_COLUMNS),
    ("rollup_day", rollup::DAY_COLUMNS),
    ("rollup_state", rollup::STATE_COLUMNS),
    ("rollup_late", rollup::LATE_COLUMNS),
    // Up to which time each weather network has taken the weather, Unix seconds. See `uploads`.
    (
        "upload",
        "(
  name TEXT PRIMARY KEY,
  sent_s INTEGER NOT NULL
) WITHOUT ROWID",
    ),
    // Which damaged databases rows are salvaged from, and how far that is. See `salvaged`.
    (
        "salvage",
        "(
  file TEXT PRIMARY KEY,
  begun_ms INTEGER NOT NULL,
  pages INTEGER NOT NULL,
  found TEXT NOT NULL,
  finished_ms INTEGER
)",
    ),
];

/// Opens the database for writing, making a new one only where `create` says so, brings its schema up to date and sets what every connection of the hub needs.
///
/// # Errors
/// SQLite's, and [`StoreError::Newer`] where the file was written by a newer hub.
pub fn open(path: &Path, synchronous: Synchronous, create: bool) -> Result<Connection, StoreError> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, create);
    let mut connection = Connection::open_with_flags(path, flags).doing("cannot open the database")?;
    connection.busy_timeout(BUSY_TIMEOUT).doing("cannot set the busy timeout")?;
    refuse_newer(&connection, path)?;
    // Heeded while the file is empty; an older database keeps its own.
    connection.pragma_update(None, "page_size", PAGE_BYTES).doing("cannot set the size of the database's pages")?;
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .doing("cannot switch the database to WAL")?;
    if mode != "wal" {
        return Err(StoreError::NoWal { path: path.to_owned(), mode });
    }
    for (name, value) in [
        ("synchronous", synchronous.name()),
        ("foreign_keys", "ON"),
        ("temp_store", "MEMORY"),
        ("journal_size_limit", "8388608"),
    ] {
        connection
            .pragma_update_and_check(None, name, value, |_| Ok(()))
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                other => Err(other),
            })
            .doing("cannot set up the database connection")?;
    }
    migrate(&mut connection, path)?;
    Ok(connection)
}

fn refuse_newer(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection)?;
    if found > VERSION {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: VERSION });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::clock::now_ms;

    #[test]
    fn an_old_database_keeps_its_rows_and_its_columns_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.db");
        let old = Connection::open(&path).unwrap();
        old.execute_batch(STATION_TABLES).unwrap();
        old.execute_batch("INSERT INTO weather_data(timestamp, temperature) VALUES (7, 1.5)").unwrap();
        drop(old);

        let connection = open(&path, Synchronous::Full, true).unwrap();
        let columns: Vec<String> = connection
            .prepare("SELECT name FROM pragma_table_info('weather_data')")
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(columns[..3], ["id", "timestamp", "sample_interval"]);
        assert_eq!(columns[11..], ["source_id", "received_ms", "marks"]);
        let row: (i64, f64, Option<i64>) = connection
            .query_row("SELECT timestamp, temperature, source_id FROM weather_data", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .unwrap();
        assert_eq!(row, (7, 1.5, None));
    }

    #[test]
    fn what_a_restored_dump_lacks_is_added_and_what_it_has_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("restored.db");
        let connection = open(&path, Synchronous::Full, true).unwrap();
        connection.execute_batch("PRAGMA user_version = 0; DROP TABLE delivery").unwrap();
        drop(connection);
        let connection = open(&path, Synchronous::Full, true).unwrap();
        connection.execute_batch("DROP TABLE quarantine").unwrap();
        drop(connection);
        let connection = open(&path, Synchronous::Full, true).unwrap();
        connection.execute_batch("SELECT 1 FROM quarantine, delivery").unwrap();
    }

    #[test]
    fn the_outbox_of_a_new_database_begins_above_the_time_and_keeps_its_numbers_later() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let add = |connection: &Connection| {
            let sql = "INSERT INTO outbox(received_ms, topic, retain, payload) VALUES (1, 'a', 0, x'') RETURNING id";
            connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
        };
        let before = now_ms();
        let connection = open(&path, Synchronous::Full, true).unwrap();
        let first = add(&connection);
        assert!((before * 1000 + 1..=now_ms() * 1000 + 1).contains(&first), "{first}");
        connection.execute_batch("DELETE FROM outbox; PRAGMA user_version = 2").unwrap();
        drop(connection);
        assert_eq!(add(&open(&path, Synchronous::Full, true).unwrap()), first + 1);
    }

    #[test]
    fn a_newer_database_is_refused_untouched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.db");
        let newer = Connection::open(&path).unwrap();
        newer.pragma_update(None, "user_version", 9999).unwrap();
        drop(newer);
        let error = open(&path, Synchronous::Full, true).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error}");
    }

    #[test]
    fn a_new_database_has_small_pages_and_an_old_one_keeps_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("old.db");
        Connection::open(&old).unwrap().execute_batch("PRAGMA page_size = 4096; CREATE TABLE mine(x)").unwrap();
        for (path, bytes) in [(old, 4_096), (dir.path().join("new.db"), PAGE_BYTES)] {
            let connection = open(&path, Synchronous::Full, true).unwrap();
            let found: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
            assert_eq!(found, bytes, "{}", path.display());
        }
    }

    #[test]
    fn connections_are_wal_and_full_by_default() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let pragma = |name| -> String {
            connection
                .pragma_query_value(None, name, |row| {
                    row.get::<_, rusqlite::types::Value>(0).map(|value| format!("{value:?}"))
                })
                .unwrap()
        };
        assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
        assert_eq!(pragma("synchronous"), "Integer(2)");
        assert_eq!(pragma("foreign_keys"), "Integer(1)");
        assert_eq!(pragma("busy_timeout"), "Integer(5000)");
    }
}
