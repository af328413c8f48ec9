//! One transaction: a batch of jobs becomes rows.
//!
//! Owns the writing connection and what is cached beside it (source numbers, delivery marks, the quarantine's
//! size), keeping cache and file in step across rollbacks. It never retries: the writer does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, params};
use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

use super::delivery::{Bounds, Marks};
use super::error::{Class, Doing, StoreError};
use super::job::{Content, Entry, Incoming, Job, Origin};
use super::{kept, schema};
use crate::config::Synchronous;
use crate::reading::{Marks as TimeMarks, Number, Reading, Sample, SourceId};

/// How long SQLite waits for another program's lock while the hub stops.
const BUSY_TIMEOUT_HURRIED: Duration = Duration::from_millis(500);
/// Sources that get a number of their own; readings of further ones are stored without.
const SOURCES_MAX: usize = 4096;

/// What a message in quarantine is counted with, bytes, as an SQL expression over its row.
macro_rules! quarantine_bytes {
    () => {
        "256 + octet_length(payload) + octet_length(topic) + octet_length(client_id) + octet_length(detail)"
    };
}

/// What a COMMIT that failed may have left in the file all the same: SQLite takes up whatever stands whole in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    table: &'static str,
    id: i64,
    received_ms: i64,
    outcome: Outcome,
}

/// Where a message went.
enum Inserted {
    Reading { table: &'static str },
    Quarantined { bytes: i64 },
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) readings: u64,
    pub(super) quarantined: u64,
    pub(super) duplicates: u64,
    pub(super) quarantine_dropped: u64,
    /// Jobs of changes to what the broker keeps that the database refused.
    pub(super) kept_refused: u64,
}

/// The database, open for writing.
#[derive(Debug)]
pub(super) struct Database {
    path: PathBuf,
    /// What the path itself names, the file or a symbolic link to it.
    entry: Option<(u64, u64)>,
    file: (u64, u64),
    log_path: PathBuf,
    log: Option<(u64, u64)>,
    connection: Connection,
    sources: HashMap<SourceId, i64>,
    sources_staged: Vec<SourceId>,
    marks: Marks,
    quarantine_bytes: i64,
    quarantine_bytes_max: i64,
    created_at: CreatedAt,
    doubt: Option<Doubt>,
}

impl Database {
    /// Opens the database and reads what is cached beside it.
    pub(super) fn open(
        path: &Path,
        synchronous: Synchronous,
        quarantine_bytes_max: u64,
        create: bool,
    ) -> Result<Database, StoreError> {
        let connection = schema::open(path, synchronous, create)?;
        // SQLite keeps the log beside the file itself, not beside a link to it.
        let place = path.canonicalize().map_err(|_| StoreError::Moved { path: path.to_owned() })?;
        let mut log_path = place.clone().into_os_string();
        log_path.push("-wal");
        let marks = Marks::load(&connection, Bounds::default())?;
        let sources = load_sources(&connection)?;
        let quarantine_bytes = connection
            .query_row(concat!("SELECT coalesce(sum(", quarantine_bytes!(), "), 0) FROM quarantine"), [], |row| {
                row.get(0)
            })
            .doing("cannot read the quarantine")?;
        Ok(Database {
            path: path.to_owned(),
            file: identity(&place, Follow::Yes).ok_or_else(|| StoreError::Moved { path: path.to_owned() })?,
            entry: identity(path, Follow::No),
            log_path: log_path.into(),
            log: None,
            connection,
            sources,
            sources_staged: Vec::new(),
            marks,
            quarantine_bytes,
            quarantine_bytes_max: i64::try_from(quarantine_bytes_max).unwrap_or(i64::MAX),
            created_at: CreatedAt::default(),
            doubt: None,
        })
    }

    /// Returns the device and inode of the file that is written.
    pub(super) fn file(&self) -> (u64, u64) {
        self.file
    }

    /// Stores a batch in one transaction: all of it is on disk, or none.
    pub(super) fn store(&mut self, batch: &[Job]) -> Result<Outcome, StoreError> {
        self.doubt = None;
        self.check_place()?;
        let quarantine_bytes = self.quarantine_bytes;
        let stored = self.store_in_transaction(batch);
        if stored.is_ok() {
            self.marks.committed();
            if self.log.is_none() {
                self.log = identity(&self.log_path, Follow::No);
            }
        } else {
            if !self.connection.is_autocommit() {
                self.connection
                    .execute_batch("ROLLBACK")
                    .unwrap_or_else(|error| tracing::debug!(%error, "rollback failed"));
            }
            self.marks.rolled_back();
            self.quarantine_bytes = quarantine_bytes;
            for source in self.sources_staged.drain(..) {
                self.sources.remove(&source);
            }
        }
        self.sources_staged.clear();
        stored
    }

    /// Returns what the last transaction may have left in the file although it failed.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Tells what became of a transaction that was in doubt: its outcome where it is in the file after all. A row is its
    /// own where both number and time of receipt are.
    pub(super) fn settle(&self, doubt: Doubt) -> Result<Option<Outcome>, StoreError> {
        let Doubt { table, id, received_ms, outcome } = doubt;
        self.connection
            .query_row(
                &format!("SELECT count(*) > 0 FROM {table} WHERE id = ?1 AND received_ms = ?2"),
                [id, received_ms],
                |row| row.get(0),
            )
            .map(|is_there: bool| is_there.then_some(outcome))
            .doing("cannot see whether the last transaction is in the database")
    }

    /// Waits only shortly for other programs' locks from now on: the hub stops.
    pub(super) fn hurry(&self) -> Result<(), StoreError> {
        self.connection.busy_timeout(BUSY_TIMEOUT_HURRIED).doing("cannot set the busy timeout")
    }

    /// Moves the log into the database file and closes it; the last one out removes `-wal` and `-shm`.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .doing("cannot move the write-ahead log into the database")?;
        self.connection.close().map_err(|(_, error)| error).doing("cannot close the database")
    }

    /// Sees that the file and its log are still where they were opened. SQLite would go on writing to moved or deleted
    /// ones, and the next to open the database would not find what was acked.
    fn check_place(&self) -> Result<(), StoreError> {
        let entry = identity(&self.path, Follow::No);
        // Where the path is no link, its entry is the file.
        let file = if entry == Some(self.file) { entry } else { identity(&self.path, Follow::Yes) };
        if entry != self.entry || file != Some(self.file) {
            return Err(StoreError::Moved { path: self.path.clone() });
        }
        if self.log.is_some() && identity(&self.log_path, Follow::No) != self.log {
            return Err(StoreError::LogGone { path: self.log_path.clone() });
        }
        Ok(())
    }

    fn store_in_transaction(&mut self, batch: &[Job]) -> Result<Outcome, StoreError> {
        self.execute("BEGIN IMMEDIATE").doing("cannot begin a transaction")?;
        let mut outcome = Outcome::default();
        let mut last = None;
        {
            let mut tables = Tables::prepare(&self.connection)?;
            for job in batch {
                let message = match &job.content {
                    Content::Message(message) => message,
                    Content::Kept(changes) => {
                        outcome.kept_refused += u64::from(!self.keep(changes)?);
                        continue;
                    }
                };
                let Incoming { origin, delivery, .. } = message;
                if let Some(delivery) = *delivery {
                    if self.marks.knows(&origin.client, delivery) {
                        outcome.duplicates += 1;
                        continue;
                    }
                    self.marks.stage(&origin.client, delivery);
                }
                let source = source_number(&mut self.sources, &mut self.sources_staged, &mut tables, origin)?;
                let table = match tables.insert(message, source, &mut self.created_at)? {
                    Inserted::Reading { table } => {
                        outcome.readings += 1;
                        table
                    }
                    Inserted::Quarantined { bytes } => {
                        outcome.quarantined += 1;
                        self.quarantine_bytes += bytes;
                        "quarantine"
                    }
                };
                last = Some((table, self.connection.last_insert_rowid(), origin.received_ms));
            }
        }
        self.marks.write(&self.connection)?;
        outcome.quarantine_dropped = self.trim_quarantine()?;
        self.execute("COMMIT").doing("cannot commit").inspect_err(|_| {
            self.doubt = last.map(|(table, id, received_ms)| Doubt { table, id, received_ms, outcome });
        })?;
        Ok(outcome)
    }

    /// Applies changes of what the broker keeps; false where the database refuses them, whatever is tried.
    fn keep(&self, changes: &[kept::Change]) -> Result<bool, StoreError> {
        match kept::apply(&self.connection, changes) {
            Ok(()) => Ok(true),
            Err(error) if error.class() == Class::Reject => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Runs a statement that is kept prepared.
    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    /// Drops the oldest messages of the quarantine beyond its bound, and tells how many.
    fn trim_quarantine(&mut self) -> Result<u64, StoreError> {
        let mut dropped = 0;
        while self.quarantine_bytes > self.quarantine_bytes_max {
            let bytes: Option<i64> = self
                .connection
                .prepare_cached(concat!(
                    "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine) RETURNING ",
                    quarantine_bytes!()
                ))
                .and_then(|mut delete| delete.query_map([], |row| row.get(0))?.next().transpose())
                .doing("cannot drop from the quarantine")?;
            match bytes {
                Some(bytes) => self.quarantine_bytes -= bytes,
                None => self.quarantine_bytes = 0,
            }
            dropped += 1;
        }
        Ok(dropped)
    }
}

/// The statements of one transaction.
struct Tables<'c> {
    weather: CachedStatement<'c>,
    magnetic: CachedStatement<'c>,
    quarantine: CachedStatement<'c>,
    source: CachedStatement<'c>,
}

impl<'c> Tables<'c> {
    fn prepare(connection: &'c Connection) -> Result<Tables<'c>, StoreError> {
        let prepare = |sql| connection.prepare_cached(sql).doing("cannot prepare a statement");
        Ok(Tables {
            weather: prepare(
                "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance,
                   wind_direction, rain_gauge_count, anemometer_count, created_at, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?,
            magnetic: prepare(
                "INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            quarantine: prepare(concat!(
                "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 RETURNING ",
                quarantine_bytes!()
            ))?,
            source: prepare("INSERT INTO source(topic, first_seen_ms) VALUES (?1, ?2) RETURNING id")?,
        })
    }

    /// Inserts one message, into its table or into quarantine.
    fn insert(
        &mut self,
        message: &Incoming,
        source: Option<i64>,
        created_at: &mut CreatedAt,
    ) -> Result<Inserted, StoreError> {
        let reading = match &message.entry {
            Entry::Reading(reading) => reading,
            Entry::Rejected { reason, detail } => {
                return self.reject(message, reason, detail);
            }
        };
        let inserted = self.insert_reading(reading, source, &message.origin, created_at);
        match inserted.doing("cannot insert a reading") {
            Ok(table) => Ok(Inserted::Reading { table }),
            Err(error) if error.class() == Class::Reject => {
                self.reject(message, "refused by the database", &error.to_string())
            }
            Err(error) => Err(error),
        }
    }

    fn insert_reading(
        &mut self,
        reading: &Reading,
        source: Option<i64>,
        origin: &Origin,
        created_at: &mut CreatedAt,
    ) -> rusqlite::Result<&'static str> {
        let created_at = created_at.text(origin.received_ms);
        let marks = TimeMarks::column(reading.marks);
        match &reading.sample {
            Sample::Weather(weather) => {
                self.weather.execute(params![
                    weather.timestamp,
                    weather.sample_interval,
                    weather.temperature,
                    weather.humidity,
                    weather.pressure,
                    weather.irradiance,
                    weather.wind_direction,
                    weather.rain_gauge_count,
                    weather.anemometer_count,
                    created_at,
                    source,
                    origin.received_ms,
                    marks,
                ])?;
                Ok("weather_data")
            }
            Sample::Magnetic(flux) => {
                self.magnetic.execute(params![
                    flux.x,
                    flux.y,
                    flux.z,
                    created_at,
                    source,
                    origin.received_ms,
                    marks
                ])?;
                Ok("magnetic_flux_data")
            }
        }
    }

    fn reject(&mut self, message: &Incoming, reason: &str, detail: &str) -> Result<Inserted, StoreError> {
        let Origin { source, client, qos, received_ms } = &message.origin;
        self.quarantine
            .query_row(params![received_ms, &**source, &**client, qos, reason, detail, &*message.payload], |row| {
                Ok(Inserted::Quarantined { bytes: row.get(0)? })
            })
            .doing("cannot write to the quarantine")
    }
}

fn source_number(
    sources: &mut HashMap<SourceId, i64>,
    staged: &mut Vec<SourceId>,
    tables: &mut Tables,
    origin: &Origin,
) -> Result<Option<i64>, StoreError> {
    if let Some(&number) = sources.get(&origin.source) {
        return Ok(Some(number));
    }
    if sources.len() >= SOURCES_MAX {
        return Ok(None);
    }
    let number = tables
        .source
        .query_row(params![&*origin.source, origin.received_ms], |row| row.get(0))
        .doing("cannot add a source")?;
    sources.insert(origin.source.clone(), number);
    staged.push(origin.source.clone());
    Ok(Some(number))
}

fn load_sources(connection: &Connection) -> Result<HashMap<SourceId, i64>, StoreError> {
    const DOING: &str = "cannot read the sources";
    let mut statement = connection.prepare("SELECT topic, id FROM source").doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?.into(), row.get(1)?))).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

/// Whether a symbolic link is followed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    Yes,
    No,
}

/// Returns device and inode, which stay with a file wherever it is moved.
///
/// Asks for nothing but the inode: since Linux 6.13, whoever is told a file's time makes the next write to it change that
/// time, and the sync after it write the inode as well. On a quick disk that cost a third of a commit.
fn identity(path: &Path, follow: Follow) -> Option<(u64, u64)> {
    let flags = if follow == Follow::Yes { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let found = statx(CWD, path, flags, StatxFlags::INO).ok()?;
    Some((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}

/// The text of `created_at`, made once for each second: `YYYY-MM-DD HH:MM:SS` in UTC, as SQLite's
/// `CURRENT_TIMESTAMP` writes it.
#[derive(Debug, Default)]
struct CreatedAt {
    second: Option<i64>,
    text: String,
}

impl CreatedAt {
    fn text(&mut self, received_ms: i64) -> &str {
        let second = received_ms.div_euclid(1000);
        if self.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
            self.second = Some(second);
        }
        &self.text
    }
}

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Number::Int(value) => value.into(),
            Number::Real(value) => value.into(),
        })
    }
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
