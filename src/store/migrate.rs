//! How an older database becomes today's, step by step.
//!
//! Owns the steps. They go forward only, each in one transaction that also writes the version it leads to, so that a database
//! is always at one version or the next; before each it is looked whether the disk has room for it. A step adds, and takes away
//! only what is the hub's own: columns and rows of the station's tables, and whatever others have added, stay as they are.

use std::collections::HashSet;
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};
use rustix::fs::statvfs;

use super::error::{Doing, StoreError};
use super::schema::{HUB_TABLES, STATION_TABLES, VERSION};
use crate::clock::now_ms;
use crate::place::directory;

const DOING: &str = "cannot bring the database's schema up to date";
/// The hub's own columns on the station's tables. `marks`, added up: 1 the sensor sent no time, 2 its time is far from the
/// hub's clock, 4 the hub's clock was not to be trusted when the reading came, 8 its time of receipt was set right since.
const ADDED_COLUMNS: [&str; 3] = ["source_id", "received_ms", "marks"];
/// Pages that a table takes with its index, and what is written of the schema beside it.
const PAGES_PER_TABLE: u64 = 4;

/// Numbers of the outbox begin above the time of its making, Unix microseconds: upstream, a message is known by its number,
/// and no database may give out those of one that was there before it. A clock that is not set (before 2020) says too little,
/// so chance is added.
const OUTBOX_BEGINS: &str = "INSERT INTO sqlite_sequence(name, seq)
  SELECT 'outbox', iif(?1 < 1577836800000, ?1 * 1000 + abs(random() % 1000000000000), ?1 * 1000)
  WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'outbox')";

/// One step.
struct Step {
    /// The version that it leads to.
    to: i64,
    /// The hub's tables that it makes, where they are not there.
    tables: &'static [&'static str],
    /// What it changes besides.
    change: fn(&Connection) -> rusqlite::Result<()>,
    /// Bytes that it writes beside its tables: a step that rewrites rows says how many that may be.
    bytes: fn(&Connection) -> rusqlite::Result<u64>,
}

const STEPS: [Step; 5] = [
    Step { to: 1, tables: &["source", "quarantine", "delivery"], change: add_columns, bytes: none },
    Step { to: 2, tables: &["retained", "session", "session_message"], change: nothing, bytes: none },
    Step { to: 3, tables: &["outbox", "outbox_total"], change: begin_outbox, bytes: none },
    Step { to: 4, tables: &["alert_episode", "alert_notice"], change: add_rhythm, bytes: none },
    Step {
        to: 5,
        tables: &[
            "run",
            "event",
            "wear",
            "hour_count",
            "hour_counted",
            "unstored",
            "untimed",
            "rollup_hour",
            "rollup_day",
            "rollup_state",
            "rollup_late",
            "salvage",
            "upload",
        ],
        change: drop_heartbeat,
        bytes: none,
    },
];

fn nothing(_: &Connection) -> rusqlite::Result<()> {
    Ok(())
}

fn none(_: &Connection) -> rusqlite::Result<u64> {
    Ok(0)
}

fn add_columns(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(STATION_TABLES)?;
    for table in ["weather_data", "magnetic_flux_data"] {
        for column in ADDED_COLUMNS {
            add_column(connection, table, column)?;
        }
    }
    Ok(())
}

fn begin_outbox(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute(OUTBOX_BEGINS, [now_ms()]).map(drop)
}

fn add_rhythm(connection: &Connection) -> rusqlite::Result<()> {
    add_column(connection, "source", "rhythm_ms")
}

/// Takes away what version 4 had in the place of `run`.
fn drop_heartbeat(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DROP TABLE IF EXISTS heartbeat")
}

fn add_column(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let has: bool = connection.query_row(
        "SELECT count(*) > 0 FROM pragma_table_info(?1) WHERE name = ?2",
        [table, column],
        |row| row.get(0),
    )?;
    if has { Ok(()) } else { connection.execute_batch(&format!("ALTER TABLE {table} ADD COLUMN {column} INTEGER")) }
}

/// Brings the schema up to date, one step after the other, and makes what is missing although the version is today's: somebody
/// may have dropped a table.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found = version(connection)?;
    match found {
        // What is not the hub's yet becomes so at once.
        0 => take(connection, path, &STEPS)?,
        _ => {
            for step in STEPS.iter().filter(|step| step.to > found) {
                take(connection, path, std::slice::from_ref(step))?;
            }
        }
    }
    if found == 0 || !missing(connection)?.is_empty() {
        add_what_is_missing(connection, path)?;
    }
    Ok(())
}

/// Returns the version of the schema.
pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).doing("cannot read the database")
}

/// Takes steps in one transaction.
fn take(connection: &mut Connection, path: &Path, steps: &[Step]) -> Result<(), StoreError> {
    let (tables, to) = (steps.iter().map(|step| step.tables.len()).sum(), steps.last().map_or(0, |step| step.to));
    let bytes = steps.iter().try_fold(0, |sum, step| Ok(sum + (step.bytes)(connection)?)).doing(DOING)?;
    check_room(connection, path, to, tables, bytes)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
    for step in steps {
        create(&transaction, step.tables)?;
        (step.change)(&transaction).doing(DOING)?;
    }
    transaction.pragma_update(None, "user_version", to).doing(DOING)?;
    transaction.commit().doing(DOING)
}

fn add_what_is_missing(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let names = missing(connection)?;
    check_room(connection, path, VERSION, names.len(), 0)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).doing(DOING)?;
    add_columns(&transaction).doing(DOING)?;
    create(&transaction, &names)?;
    begin_outbox(&transaction).doing(DOING)?;
    transaction.commit().doing(DOING)
}

fn create(connection: &Connection, names: &[&str]) -> Result<(), StoreError> {
    for (name, columns) in HUB_TABLES.iter().filter(|(name, _)| names.contains(name)) {
        connection.execute_batch(&format!("CREATE TABLE IF NOT EXISTS {name} {columns}")).doing(DOING)?;
    }
    Ok(())
}

/// Returns the tables, the hub's and the station's, that are not there.
fn missing(connection: &Connection) -> Result<Vec<&'static str>, StoreError> {
    const DOING: &str = "cannot read the database's schema";
    let mut statement = connection.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").doing(DOING)?;
    let names: HashSet<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).doing(DOING)?;
    let hubs = HUB_TABLES.iter().map(|(name, _)| *name);
    let all = ["weather_data", "magnetic_flux_data"].into_iter().chain(hubs);
    Ok(all.filter(|name| !names.contains(*name)).collect())
}

/// Sees that a transaction which makes so many tables, and writes so many bytes, finds room: it is written to the log first, and
/// then to the file, unless pages are free there.
fn check_room(connection: &Connection, path: &Path, to: i64, tables: usize, bytes: u64) -> Result<(), StoreError> {
    let number = |pragma| -> Result<u64, StoreError> {
        let found: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0)).doing(DOING)?;
        Ok(found.unsigned_abs())
    };
    let (page, spare) = (number("page_size")?, number("freelist_count")?);
    let written = tables as u64 * PAGES_PER_TABLE * page + bytes;
    let needed = written + written.saturating_sub(spare * page);
    // Where the disk does not say, SQLite will.
    let free = statvfs(directory(path)).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    if free >= needed {
        return Ok(());
    }
    Err(StoreError::NoRoom { path: path.to_owned(), to, needed, free })
}

#[cfg(test)]
#[path = "migrate_tests.rs"]
mod tests;
