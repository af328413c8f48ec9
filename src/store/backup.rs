//! A copy of the database while it is written, and the proof that the copy is whole.
//!
//! Owns the copying, page by page, and the checks of a copy. It never writes to the database that it copies, and never gives
//! a copy its final name.
//!
//! SQLite begins a copy anew whenever another connection has written between two steps, which under a steady load is for
//! ever. So one read transaction is held over all steps: what is copied is the database as it was at their beginning. While it
//! is held, the write-ahead log cannot begin anew and grows by what is written meanwhile; so the pauses between the steps end
//! where it has grown much, and the copy is given up where it has grown too much.

use std::fs::{self, File};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::error::{Class, Doing, StoreError};
use crate::place::{beside, resolved};

/// Pages of one step.
const STEP_PAGES: i32 = 64;
/// After so many bytes the copy is synced: little at a time, so that the writer's sync never waits for much of it.
const SYNC_BYTES: u64 = 1 << 20;
/// A pause is so many times as long as the work before it, within these bounds.
const PAUSE_TIMES: u32 = 3;
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long a check works until it pauses, and after how many of SQLite's operations it looks.
const CHECK_STRETCH: Duration = Duration::from_millis(5);
const CHECK_OPERATIONS: i32 = 1_000;
/// From this growth of the log on there are no pauses; at the next one the copy is given up.
const LOG_GROWTH_HURRY: u64 = 128 << 20;
const LOG_GROWTH_MAX: u64 = 1 << 30;
/// Steps in a row that a lock may refuse.
const REFUSED_MAX: u32 = 100;
/// The tables whose rows are compared.
const COMPARED: [&str; 3] = ["weather_data", "magnetic_flux_data", "quarantine"];
const COPYING: &str = "cannot copy the database";
const CHECKING: &str = "cannot check the copy";

/// Whether the copying makes room for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// A hub may write meanwhile: more pause than work.
    Gentle,
    /// Nobody waits for the disk.
    Full,
}

/// How far the copying is, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Copying {
    /// What is copied.
    pub done: u64,
    /// What there is.
    pub total: u64,
}

/// A table's first and last number.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ends {
    table: &'static str,
    ends: Option<(i64, i64)>,
}

/// What was copied: to be compared with the copy.
#[derive(Clone, Debug)]
pub struct Copied {
    /// The copy's size, bytes.
    pub bytes: u64,
    ends: Vec<Ends>,
}

/// What a copy holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// The table.
    pub table: &'static str,
    /// Its rows.
    pub rows: u64,
}

/// Copies `source` into `target`, an empty file that the caller has open as `file` and holds; the copy is on disk when this
/// returns. `told` is called after each step, and may end the copying.
///
/// # Errors
/// SQLite's and the system's, [`StoreError::LogGrows`] and [`StoreError::Stopped`].
pub fn copy(
    source: &Path,
    target: &Path,
    file: &File,
    pace: Pace,
    mut told: impl FnMut(Copying) -> ControlFlow<()>,
) -> Result<Copied, StoreError> {
    let from = open(source)?;
    // The snapshot begins with the first read.
    from.execute_batch("BEGIN").doing(COPYING)?;
    let ends = ends(&from)?;
    let page: i64 = from.pragma_query_value(None, "page_size", |row| row.get(0)).doing(COPYING)?;
    let log = Log::of(source);
    let mut to = Connection::open(target).doing("cannot open the copy")?;
    // A copy that is not finished is thrown away, so nothing needs to be undone; its pages go to the file as they come.
    to.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -1024")
        .doing(COPYING)?;
    let on_disk = || file.sync_data().map_err(|source| io("cannot sync the copy", target, source));
    let backup = Backup::new(&from, &mut to).doing(COPYING)?;
    let (mut refused, mut synced) = (0, 0);
    loop {
        let begun = Instant::now();
        let step = backup.step(STEP_PAGES).doing(COPYING)?;
        let progress = backup.progress();
        let pages = |count: i32| u64::from(count.unsigned_abs()) * page.unsigned_abs();
        let total = pages(progress.pagecount);
        let done = total.saturating_sub(pages(progress.remaining));
        if told(Copying { done, total }).is_break() {
            return Err(StoreError::Stopped);
        }
        match step {
            StepResult::Done => break,
            StepResult::More => refused = 0,
            _ => refused += 1,
        }
        if refused > REFUSED_MAX {
            let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(busy, None)).doing(COPYING);
        }
        if done >= synced + SYNC_BYTES {
            on_disk()?;
            synced = done;
        }
        let grown = log.grown();
        if grown > LOG_GROWTH_MAX {
            return Err(StoreError::LogGrows { bytes: grown });
        }
        if refused > 0 || (pace == Pace::Gentle && grown <= LOG_GROWTH_HURRY) {
            pause_after(begun.elapsed());
        }
    }
    drop(backup);
    from.close().map_err(|(_, error)| error).doing(COPYING)?;
    // One file that stands alone, on a medium that may be read-only when it is needed.
    let mode = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
    to.pragma_update_and_check(None, "journal_mode", "DELETE", mode).doing(COPYING)?;
    to.close().map_err(|(_, error)| error).doing(COPYING)?;
    file.sync_all().map_err(|source| io("cannot sync the copy", target, source))?;
    let bytes = file.metadata().map_err(|source| io("cannot read", target, source))?.len();
    Ok(Copied { bytes, ends })
}

/// Checks a copy: that its pages make a database, and that each table begins and ends where it did in the source. Returns
/// what it holds.
///
/// # Errors
/// SQLite's, and [`StoreError::Damaged`].
pub fn verify(copy: &Path, copied: &Copied, pace: Pace) -> Result<Vec<Holds>, StoreError> {
    let mut connection = open(copy)?;
    if pace == Pace::Gentle {
        go_gently(&mut connection)?;
    }
    check(&connection, copy, "quick_check")?;
    let found = ends(&connection)?;
    if found != copied.ends {
        let what = format!("its tables reach from and to {found:?}, those of the database {:?}", copied.ends);
        return Err(StoreError::Damaged { path: copy.to_owned(), what });
    }
    let held = count(&connection)?;
    if held.is_empty() {
        let what = "it has none of a station's tables: is it the right database?".to_owned();
        return Err(StoreError::Damaged { path: copy.to_owned(), what });
    }
    Ok(held)
}

/// Checks a database that may be in use, by `quick_check`.
///
/// # Errors
/// SQLite's, and [`StoreError::Damaged`].
pub fn quick_check(database: &Path) -> Result<(), StoreError> {
    check(&open(database)?, database, "quick_check")
}

/// Counts the rows of a database's tables.
///
/// # Errors
/// SQLite's.
pub fn rows(database: &Path) -> Result<Vec<Holds>, StoreError> {
    count(&open(database)?)
}

/// Opens a copy as the hub would, which brings its schema up to date, and counts its rows.
///
/// # Errors
/// SQLite's, and those of a schema that cannot be brought up to date.
pub fn open_as_the_hub(copy: &Path) -> Result<Vec<Holds>, StoreError> {
    let connection = super::schema::open(copy, crate::config::Synchronous::Normal, false)?;
    let held = count(&connection)?;
    connection.close().map_err(|(_, error)| error).doing(CHECKING)?;
    Ok(held)
}

fn pause_after(worked: Duration) {
    std::thread::sleep((worked * PAUSE_TIMES).clamp(PAUSE_MIN, PAUSE_MAX));
}

/// Has a connection's statements pause as the copying does.
fn go_gently(connection: &mut Connection) -> Result<(), StoreError> {
    let mut begun = Instant::now();
    let pausing = move || {
        let worked = begun.elapsed();
        if worked >= CHECK_STRETCH {
            pause_after(worked);
            begun = Instant::now();
        }
        false
    };
    connection.progress_handler(CHECK_OPERATIONS, Some(pausing)).doing(CHECKING)
}

fn check(connection: &Connection, path: &Path, pragma: &str) -> Result<(), StoreError> {
    let words = connection.query_row(&format!("PRAGMA {pragma}(1)"), [], |row| row.get::<_, String>(0));
    let words = match words {
        Err(error) => match Err::<String, _>(error).doing("cannot check the database") {
            Err(error) if error.class() == Class::Corrupt => error.to_string(),
            other => other?,
        },
        Ok(words) => words,
    };
    if words == "ok" {
        Ok(())
    } else {
        Err(StoreError::Damaged { path: path.to_owned(), what: crate::log::one_line(&words) })
    }
}

fn count(connection: &Connection) -> Result<Vec<Holds>, StoreError> {
    let mut held = Vec::new();
    for table in COMPARED {
        if is_there(connection, table)? {
            let rows: i64 = connection
                .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
                .doing("cannot count the rows")?;
            held.push(Holds { table, rows: rows.unsigned_abs() });
        }
    }
    Ok(held)
}

fn ends(connection: &Connection) -> Result<Vec<Ends>, StoreError> {
    let mut found = Vec::new();
    for table in COMPARED {
        if is_there(connection, table)? {
            // Apart, so that each is found at its end of the table.
            let end = |which| {
                connection
                    .query_row(&format!("SELECT {which}(id) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
                    .doing(COPYING)
            };
            found.push(Ends { table, ends: end("min")?.zip(end("max")?) });
        }
    }
    Ok(found)
}

fn is_there(connection: &Connection, table: &str) -> Result<bool, StoreError> {
    let sql = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(sql, [table], |_| Ok(())).optional().doing(COPYING).map(|found| found.is_some())
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing("cannot open the database for reading")?;
    connection.busy_timeout(Duration::from_secs(5)).doing("cannot set the busy timeout")?;
    Ok(connection)
}

fn io(doing: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { doing, path: path.to_owned(), source }
}

/// The write-ahead log of the source, by its size alone: to open it would take SQLite's locks from this process when it is
/// closed.
struct Log {
    path: PathBuf,
    at_first: u64,
}

impl Log {
    fn of(database: &Path) -> Log {
        let mut log = Log { path: beside(&resolved(database), "-wal"), at_first: 0 };
        log.at_first = log.grown();
        log
    }

    fn grown(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len()).saturating_sub(self.at_first)
    }
}
