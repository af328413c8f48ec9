//! Whether a database is damaged: what is looked at before SQLite opens it, after, and when somebody doubts it.
//!
//! Owns what counts as damage. The looks at the start are cheap; all pages are read only after an end that was not orderly, and where
//! that takes long, in the background on a connection that cannot write. It repairs nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use tracing::warn;

use super::error::{Class, Doing, StoreError};
use super::salvage::{Log, Pages};
use super::schema::{HUB_TABLES, STATION_TABLES, VERSION};
use crate::config::Synchronous;
use crate::place::beside;

/// A database that is read as a whole before the hub serves; a larger one is read meanwhile.
const READ_FIRST_BYTES_MAX: u64 = 64 << 20;
/// No hub has a version like that: the bytes that hold it are damaged.
const VERSION_MAX: u32 = 65_535;
const HEADER_BYTES: usize = 100;
/// What a log has at least, if it holds anything.
const LOG_BYTES_MIN: u64 = 32;
/// Each reads a page of a table or an index.
const ROOTS: [&str; 8] = [
    "SELECT id FROM weather_data ORDER BY id DESC LIMIT 1",
    "SELECT timestamp FROM weather_data ORDER BY timestamp DESC LIMIT 1",
    "SELECT created_at FROM weather_data ORDER BY created_at DESC LIMIT 1",
    "SELECT id FROM magnetic_flux_data ORDER BY id DESC LIMIT 1",
    "SELECT created_at FROM magnetic_flux_data ORDER BY created_at DESC LIMIT 1",
    "SELECT id FROM quarantine ORDER BY id DESC LIMIT 1",
    "SELECT id FROM outbox ORDER BY id DESC LIMIT 1",
    "SELECT id FROM event ORDER BY id DESC LIMIT 1",
];

/// Doubts about the database that runs, and what became of them.
#[derive(Debug, Default)]
pub struct Doubts {
    asked: AtomicBool,
    salvage: AtomicBool,
    found: Mutex<Option<String>>,
}

impl Doubts {
    /// Asks for all pages to be read.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
    }

    /// Tells whether somebody asked, once.
    pub(super) fn take_asked(&self) -> bool {
        self.asked.swap(false, Ordering::AcqRel)
    }

    /// Says that there may be something to salvage.
    pub(super) fn want_salvage(&self) {
        self.salvage.store(true, Ordering::Release);
    }

    /// Tells whether there may be something to salvage, once.
    pub(super) fn take_salvage_wanted(&self) -> bool {
        self.salvage.swap(false, Ordering::AcqRel)
    }

    /// Notes what was found.
    pub(super) fn confirm(&self, what: String) {
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    /// Returns what was found, once.
    pub(super) fn take_found(&self) -> Option<String> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Looks at a database and its log before SQLite does, at the start, which would take a log that is damaged in the middle for one that ends there.
/// Tells whether there is a log with something in it, as after an end that was not orderly.
///
/// # Errors
/// [`StoreError::Damaged`], and [`StoreError::NoDatabase`] for a file that never was one.
pub(super) fn before_opening(path: &Path, synchronous: Synchronous) -> Result<bool, StoreError> {
    let Ok(mut file) = File::open(path) else { return Ok(false) };
    let Ok(found) = file.metadata() else { return Ok(false) };
    let log = File::open(beside(path, "-wal")).ok();
    let has_log = log.as_ref().and_then(|log| log.metadata().ok()).is_some_and(|log| log.len() > LOG_BYTES_MIN);
    let damaged = |what: String| Err(StoreError::Damaged { path: path.to_owned(), what });
    if found.len() == 0 {
        return if has_log { damaged("it is empty, and its write-ahead log is not".to_owned()) } else { Ok(false) };
    }
    let mut header = [0; HEADER_BYTES];
    let what = match file.read_exact(&mut header) {
        Ok(()) => of_header(&header),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Some("it is cut off"),
        // What the disk does not give back may come later.
        Err(_) => return Ok(has_log),
    };
    if let Some(what) = what {
        if !header.starts_with(b"SQLite") && !has_log && !was_a_database(path, &header) {
            return Err(StoreError::NoDatabase { path: path.to_owned() });
        }
        return damaged(what.to_owned());
    }
    let page_size = Some(usize::from(header[16]) << 8 | usize::from(header[17]));
    // Where not every commit is synced, a power cut leaves holes in the log, and what is behind them was never promised.
    let log = log.filter(|_| synchronous == Synchronous::Full);
    match log.map(|log| Log::read(&log, page_size)).and_then(|log| log.damage) {
        Some(what) => damaged(what),
        None => Ok(has_log),
    }
}

/// Tells whether a file without the beginning of a database is one all the same: pages of trees, or nothing but zeros, as a power cut
/// leaves them. Anything else is somebody's file, named by mistake.
fn was_a_database(path: &Path, header: &[u8]) -> bool {
    header.iter().all(|&byte| byte == 0) || Pages::open(path).is_ok_and(|pages| pages.look_like_trees())
}

/// Returns what is wrong with the header of a database.
fn of_header(header: &[u8; HEADER_BYTES]) -> Option<&'static str> {
    let word = |at: usize| header.get(at..at + 4).and_then(|four| four.try_into().ok()).map_or(0, u32::from_be_bytes);
    let size = usize::from(header[16]) << 8 | usize::from(header[17]);
    let checks = [
        (header.starts_with(b"SQLite format 3\0"), "it does not begin as a database does"),
        (size == 1 || size.is_power_of_two() && size >= 512, "its header names no size of a page"),
        (header[18] <= 2 && header[19] <= 2 && header[18] > 0 && header[19] > 0, "its header names no known format"),
        (header[20] <= 32 && header[21..24] == [64, 32, 32], "its header names no known layout of pages"),
        (word(44) <= 4, "its header names no known format of the schema"),
        (word(56) <= 3, "its header names no known encoding"),
        (word(60) <= VERSION_MAX, "its header names no version of a hub"),
    ];
    checks.into_iter().find_map(|(holds, what)| (!holds).then_some(what))
}

/// Looks at an open database: its schema and the roots of its tables always, all of it after an end that was not orderly. Tells
/// whether all of it is still to be read, in the background.
///
/// # Errors
/// [`StoreError::Damaged`].
pub(super) fn after_opening(connection: &Connection, path: &Path, has_log: bool) -> Result<bool, StoreError> {
    for sql in ROOTS {
        let read = connection.query_row(sql, [], |_| Ok(())).optional();
        read.doing("cannot read the database").or_else(|error| match error.class() {
            Class::Corrupt => Err(error),
            // A lock or a table that is not there is for others to judge.
            _ => Ok(None),
        })?;
    }
    let last = connection.query_row("SELECT stopped_ms FROM run ORDER BY id DESC LIMIT 1", [], |row| row.get(0));
    let was_killed = last.optional().ok().flatten().is_some_and(|stopped: Option<i64>| stopped.is_none());
    if !has_log && !was_killed {
        return Ok(false);
    }
    if path.metadata().map_or(0, |found| found.len()) > READ_FIRST_BYTES_MAX {
        return Ok(true);
    }
    match quick_check(connection) {
        Ok(Some(what)) => Err(StoreError::Damaged { path: path.to_owned(), what }),
        Ok(None) => Ok(false),
        // Somebody's own table may need what only his program has, such as a collation.
        Err(error) if error.class() == Class::Fatal => {
            warn!("{error}; whether its pages are whole is not known");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Reads all pages of a database, on a connection of its own; returns what is wrong.
///
/// # Errors
/// What says nothing of damage: a lock, a disk that does not answer.
pub(super) fn read_all(path: &Path) -> Result<Option<String>, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).doing("cannot open the database for reading")?;
    quick_check(&connection)
}

fn quick_check(connection: &Connection) -> Result<Option<String>, StoreError> {
    let said: Result<String, StoreError> = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .doing("cannot read the database as a whole");
    match said {
        Ok(said) if said == "ok" => Ok(None),
        Ok(said) => Ok(Some(said.replace('\n', ": "))),
        Err(error) if error.class() == Class::Corrupt => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Returns why an error means that the file is damaged; `None` where it does not.
pub(super) fn of_error(error: &StoreError, path: &Path) -> Option<String> {
    let spoils_the_schema = || {
        let StoreError::Sqlite { source, .. } = error else { return false };
        // The hub's statements are always the same: a column that is not there is one that was there when the hub made it.
        let text = source.to_string();
        let misses = ["no such column", "no such table", "has no column"].iter().any(|words| text.contains(words))
            && text.rsplit([' ', '.']).next().is_some_and(is_a_name_of_ours);
        source.sqlite_error_code() == Some(ErrorCode::Unknown) && misses && is_of_a_hub(path)
    };
    (error.class() == Class::Corrupt || spoils_the_schema()).then(|| match error {
        StoreError::Damaged { what, .. } => what.clone(),
        other => other.to_string(),
    })
}

/// Tells whether a word is the name of a table or a column that the hub makes: a trigger of somebody else's may miss others.
fn is_a_name_of_ours(name: &str) -> bool {
    let is_in =
        |sql: &str| sql.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name);
    is_in(STATION_TABLES) || HUB_TABLES.iter().any(|(table, columns)| *table == name || is_in(columns))
}

fn is_of_a_hub(path: &Path) -> bool {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let version = Connection::open_with_flags(path, flags)
        .and_then(|connection| connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)));
    version.is_ok_and(|version| (1..=VERSION).contains(&version))
}
