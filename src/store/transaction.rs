//! One transaction: a batch of jobs becomes rows.
//!
//! Owns the writing connection, and sees that it still writes to the file that stands at its place. It never retries: the
//! writer does.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ffi};

use super::cached::{Cached, RowName};
use super::error::{Class, Doing, StoreError};
use super::heartbeat::Heartbeat;
use super::job::{Content, Entry, Job};
use super::journal::Journal;
use super::losses::Losses;
use super::outbox::{Claims, Outbox};
use super::progress::Progress;
use super::rollup::Late;
use super::tables::Tables;
use super::wear::Wear;
use super::{alerts, damage, kept, ledger, losses, salvaged, schema, uploads};
use crate::clock::now_ms;
use crate::config::Synchronous;
use crate::place::{Follow, beside, identity, resolved};

/// How long SQLite waits for another program's lock while the hub stops.
const BUSY_TIMEOUT_HURRIED: Duration = Duration::from_millis(500);
/// Statements that are kept prepared.
const STATEMENTS_KEPT: usize = 48;

/// What a COMMIT that failed may have left in the file all the same: SQLite takes up whatever stands whole in the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    row: RowName,
    outcome: Outcome,
}

/// What a transaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) readings: u64,
    pub(super) quarantined: u64,
    pub(super) duplicates: u64,
    /// Samples that their sensor sent again as new messages.
    pub(super) repeats: u64,
    pub(super) quarantine_dropped: u64,
    /// Messages added to the outbox.
    pub(super) forwarded: u64,
    /// Messages that the database did not take into the outbox.
    pub(super) forwards_refused: u64,
    /// Messages moved from the outbox to quarantine, which count as quarantined too.
    pub(super) set_aside: u64,
    /// Messages dropped from the outbox for its limits.
    pub(super) outbox_dropped: u64,
    /// Jobs of changes to what the broker keeps that the database refused.
    pub(super) kept_refused: u64,
    /// Jobs of changes to what is kept of alerts that the database refused.
    pub(super) alerts_refused: u64,
    /// Changes of the ledger of readings that the database refused.
    pub(super) ledger_refused: u64,
    /// Jobs of rollups, of retention and of what networks took that the database refused.
    pub(super) upkeep_refused: u64,
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
    pub(super) connection: Connection,
    pub(super) cached: Cached,
    pub(super) outbox: Option<Arc<Outbox>>,
    heartbeat: Arc<Heartbeat>,
    journal: Arc<Journal>,
    wear: Arc<Wear>,
    losses: Arc<Losses>,
    late: Late,
    doubt: Option<Doubt>,
    /// Whether this connection knows how long its log, and how large the database, may become.
    pub(super) is_bounded: bool,
    /// Whether a transaction holds its jobs alone, since only what makes room may be written.
    pub(super) is_frugal: bool,
    /// Whether all of its pages are still to be read.
    is_in_doubt: bool,
}

impl Database {
    /// Opens the database and reads what is cached beside it; `why_new` is what was wrong with the one before, where that was put
    /// aside just now, and `has_log` whether it has a log from before the start.
    pub(super) fn open(
        path: &Path,
        synchronous: Synchronous,
        quarantine_bytes_max: u64,
        outbox: Option<Arc<Outbox>>,
        create: bool,
        why_new: Option<&str>,
        has_log: bool,
    ) -> Result<Database, StoreError> {
        let mut connection = schema::open(path, synchronous, create)?;
        // Closed on the way out, a damaged database is left as it is.
        keep_as_it_is(&connection, true)?;
        let is_in_doubt = damage::after_opening(&connection, path, has_log)?;
        salvaged::register(&mut connection, &resolved(path), why_new)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        // SQLite keeps the log beside the file itself, not beside a link to it.
        let place = path.canonicalize().map_err(|_| StoreError::Moved { path: path.to_owned() })?;
        let cached = Cached::load(&connection, quarantine_bytes_max, outbox.clone())?;
        keep_as_it_is(&connection, false)?;
        Ok(Database {
            path: path.to_owned(),
            file: identity(&place, Follow::Yes).ok_or_else(|| StoreError::Moved { path: path.to_owned() })?,
            entry: identity(path, Follow::No),
            log_path: beside(&place, "-wal"),
            log: None,
            connection,
            cached,
            outbox,
            heartbeat: Arc::default(),
            journal: Arc::default(),
            wear: Arc::default(),
            losses: Arc::default(),
            late: Late::default(),
            doubt: None,
            is_bounded: false,
            is_frugal: false,
            is_in_doubt,
        })
    }

    /// Lets a heartbeat that is asked for, and events, ride in the transactions from now on.
    pub(super) fn with_riders(self, progress: &Progress) -> Result<Database, StoreError> {
        progress.heartbeat.opened(&self.connection)?;
        progress.journal.look(&self.connection)?;
        if self.is_in_doubt {
            progress.doubts.ask();
        }
        progress.doubts.want_salvage();
        progress.wear.opened(&self.connection)?;
        let late = Late::opened(&self.connection, progress.claims.clone())?;
        Ok(Database {
            heartbeat: progress.heartbeat.clone(),
            journal: progress.journal.clone(),
            losses: progress.losses.clone(),
            wear: progress.wear.clone(),
            late,
            ..self
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
        let outbox = self.outbox.clone();
        // Held until it is known whether the rows that are dropped are gone.
        let mut claims = None;
        let stored = self.store_in_transaction(batch, outbox.as_deref(), &mut claims);
        match &stored {
            Ok(outcome) => {
                self.cached.committed();
                if self.log.is_none() {
                    self.log = identity(&self.log_path, Follow::No);
                }
                drop(claims);
                self.tell_bridge(*outcome);
            }
            Err(error) => {
                self.roll_back();
                // The row that commits found no room, so none of it is there.
                self.doubt = self.doubt.filter(|_| !error.is_full());
                if let (Some(_), Some(_), Some(outbox)) = (&claims, self.doubt, &outbox) {
                    outbox.doubt();
                }
            }
        }
        stored
    }

    pub(super) fn begin(&self) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE").doing("cannot begin a transaction")
    }

    pub(super) fn commit(&self) -> Result<(), StoreError> {
        self.execute("COMMIT").doing("cannot commit")
    }

    pub(super) fn roll_back(&mut self) {
        if !self.connection.is_autocommit() {
            self.connection
                .execute_batch("ROLLBACK")
                .unwrap_or_else(|error| tracing::debug!(%error, "rollback failed"));
        }
        self.cached.rolled_back();
    }

    /// Returns the size of the write-ahead log, bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log_path).map_or(0, |found| found.len())
    }

    /// Counts what a transaction did to the outbox, and lets the bridge read it.
    fn tell_bridge(&self, outcome: Outcome) {
        let Some(outbox) = &self.outbox else { return };
        outbox.settled();
        outbox.count(outcome.forwarded, outcome.outbox_dropped, now_ms());
    }

    /// Returns what the last transaction may have left in the file although it failed.
    pub(super) fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// Tells what became of a transaction that was in doubt: its outcome where it is in the file after all. A row is its
    /// own where both number and time of receipt are.
    pub(super) fn settle(&self, doubt: Doubt) -> Result<Option<Outcome>, StoreError> {
        let Doubt { row: RowName { table, id, received_ms }, outcome } = doubt;
        let settled = self
            .connection
            .query_row(
                &format!("SELECT count(*) > 0 FROM {table} WHERE id = ?1 AND received_ms = ?2"),
                [id, received_ms],
                |row| row.get(0),
            )
            .map(|is_there: bool| is_there.then_some(outcome))
            .doing("cannot see whether the last transaction is in the database")?;
        if settled.is_some() {
            self.put_on_disk()?;
        }
        self.tell_bridge(settled.unwrap_or_default());
        Ok(settled)
    }

    /// Writes what the log holds into the database file and syncs that: a transaction that is read back may stand in the
    /// system's memory alone, and its log's next sync may succeed without having written it.
    fn put_on_disk(&self) -> Result<(), StoreError> {
        const DOING: &str = "cannot put the last transaction on disk";
        let (is_busy, in_log, written): (bool, i64, i64) = self
            .connection
            .query_row("PRAGMA wal_checkpoint(FULL)", [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .doing(DOING)?;
        if is_busy || written < in_log {
            let busy = rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_BUSY), None);
            return Err(busy).doing(DOING);
        }
        Ok(())
    }

    /// Waits only shortly for other programs' locks from now on: the hub stops.
    pub(super) fn hurry(&self) -> Result<(), StoreError> {
        self.connection.busy_timeout(BUSY_TIMEOUT_HURRIED).doing("cannot set the busy timeout")
    }

    /// Notes that the hub stops in order.
    pub(super) fn stopped(&self) -> Result<(), StoreError> {
        self.check_place()?;
        self.begin()?;
        self.write_losses(true)?;
        self.journal.write(&self.connection)?;
        self.heartbeat.stopped(&self.connection)?;
        self.wear.write(&self.connection)?;
        self.commit()
    }

    /// Moves the log into the database file and closes it; the last one out removes `-wal` and `-shm`.
    pub(super) fn close(self) -> Result<(), StoreError> {
        self.connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .doing("cannot move the write-ahead log into the database")?;
        self.connection.close().map_err(|(_, error)| error).doing("cannot close the database")
    }

    /// Closes a damaged database and leaves it as it is, its log, too.
    pub(super) fn abandon(self) -> Result<(), StoreError> {
        keep_as_it_is(&self.connection, true)?;
        self.connection.close().map_err(|(_, error)| error).doing("cannot close the damaged database")
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

    fn store_in_transaction<'o>(
        &mut self,
        batch: &[Job],
        outbox: Option<&'o Outbox>,
        claims: &mut Option<MutexGuard<'o, Claims>>,
    ) -> Result<Outcome, StoreError> {
        self.begin()?;
        let mut outcome = Outcome::default();
        let mut last = None;
        self.late.begin();
        {
            let mut tables = Tables::prepare(&self.connection, outbox.is_some())?;
            for job in batch {
                match &job.content {
                    Content::Message(message) => {
                        let row = self.cached.store(&self.connection, &mut tables, message, &mut outcome)?;
                        if let (Some(_), Entry::Reading(reading)) = (&row, &message.entry) {
                            self.late.look_at(message, reading);
                        }
                        last = row.or(last);
                    }
                    Content::Kept(changes) => {
                        outcome.kept_refused += u64::from(!taken(kept::apply(&self.connection, changes))?)
                    }
                    Content::Alerts(changes) => {
                        outcome.alerts_refused += u64::from(!taken(alerts::apply(&self.connection, changes))?);
                    }
                    Content::Errand(errand) => {
                        errand.apply(&self.connection, &mut self.cached, &mut tables, &mut outcome)?;
                        self.late.added_beside();
                    }
                    Content::Heartbeat => {}
                    Content::Sent(sent) => {
                        outcome.upkeep_refused += u64::from(!taken(uploads::apply(&self.connection, sent))?);
                    }
                    Content::Ledger(change) => {
                        outcome.ledger_refused += u64::from(!taken(ledger::apply(&self.connection, change))?)
                    }
                    Content::Rollup(changes) => {
                        outcome.upkeep_refused += u64::from(!taken(self.late.apply(&self.connection, changes))?);
                    }
                    Content::Retention(old) => {
                        outcome.upkeep_refused += u64::from(!taken(self.cached.delete_old(&self.connection, old))?);
                    }
                    Content::Salvaged(batch) => {
                        salvaged::apply(&self.connection, &mut self.cached, &mut tables, batch)?;
                        self.late.added_beside();
                    }
                    Content::Outbox(changes) => {
                        self.cached.change_outbox(&self.connection, changes, &mut outcome)?;
                    }
                }
            }
        }
        // Only beside a row by which a doubt can be settled: what was dropped is then counted once.
        let now_ms = now_ms();
        if let (Some(outbox), Some(rows), Some(_)) = (outbox, self.cached.outbox(), last)
            && rows.may_have_to_drop(now_ms)
        {
            let claims = claims.insert(outbox.claims());
            outcome.outbox_dropped = rows.drop_beyond_limits(&self.connection, claims, now_ms)?;
        }
        self.cached.finish(&self.connection, &mut outcome)?;
        if !self.is_frugal {
            self.write_losses(false)?;
        }
        self.late.write(&self.connection)?;
        let beats = !self.is_frugal && self.heartbeat.write(&self.connection)?;
        let worn = if beats { self.wear.write(&self.connection)? } else { None };
        let events = if self.is_frugal { 0 } else { self.journal.write(&self.connection)? };
        self.commit().inspect_err(|_| {
            self.doubt = last.map(|row| Doubt { row, outcome });
        })?;
        if beats {
            self.heartbeat.written();
            self.heartbeat.take_unclean().into_iter().for_each(|words| self.journal.note("hub.unclean", words));
        }
        worn.into_iter().for_each(|worn| self.wear.written(worn));
        self.journal.written(events);
        if !self.is_frugal {
            self.losses.written();
        }
        let has_salvaged = batch.iter().any(|job| matches!(job.content, Content::Salvaged(_)));
        if events > 0 || has_salvaged {
            self.journal.look(&self.connection).unwrap_or_else(|error| tracing::debug!(%error, "events are not seen"));
        }
        Ok(outcome)
    }

    /// Writes what found no room in the queue, where it is due, and notes it as an event once.
    fn write_losses(&self, at_once: bool) -> Result<(), StoreError> {
        let Some((places, is_new)) = self.losses.due(at_once) else { return Ok(()) };
        if is_new {
            self.journal.note("store.lost", losses::in_words(&places));
        }
        ledger::write_lost(&self.connection, &places, |source| self.cached.number(source))
    }

    /// Runs a statement that is kept prepared.
    fn execute(&self, sql: &str) -> rusqlite::Result<()> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }
}

/// Tells whether changes were taken; false where the database refuses them, whatever is tried.
fn taken(applied: Result<(), StoreError>) -> Result<bool, StoreError> {
    match applied {
        Ok(()) => Ok(true),
        Err(error) if error.class() == Class::Reject => Ok(false),
        Err(error) => Err(error),
    }
}

/// Lets SQLite leave the log where it is when the connection is closed, or move it into the database.
fn keep_as_it_is(connection: &Connection, keep: bool) -> Result<(), StoreError> {
    let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, keep);
    set.map(drop).doing("cannot set up the database connection")
}

#[cfg(test)]
#[path = "transaction_tests.rs"]
mod tests;
