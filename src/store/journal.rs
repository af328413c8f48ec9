//! The journal: what happened to the hub that its owner should know of later, too.
//!
//! Owns the table of events. An event rides in the next transaction, whatever else that holds; the heartbeat sees to it that
//! there is one. It never decides what is an event.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, Row};
use serde::Serialize;

use super::error::{Doing, StoreError};
use super::schema;
use crate::clock::now_ms;
use crate::config::Synchronous;

/// Events that wait for a transaction; beyond, the oldest go.
const WAITING_MAX: usize = 1_000;
/// Events that are remembered.
const KEPT_MAX: i64 = 10_000;
const ADD: &str = "INSERT INTO event(at_ms, kind, text) VALUES (?1, ?2, ?3) RETURNING id";
const FORGET: &str = "DELETE FROM event WHERE id <= ?1";
const ACKNOWLEDGE: &str = "UPDATE event SET acknowledged_ms = ?2 WHERE id = ?1 AND acknowledged_ms IS NULL";
const HAS: &str = "SELECT count(*) > 0 FROM event WHERE id = ?1";
const LIST: &str = "SELECT id, at_ms, kind, text, acknowledged_ms FROM event ORDER BY id DESC LIMIT ?1";

const CORRUPTION: &str = "SELECT id, at_ms, kind, text, acknowledged_ms FROM event
  WHERE kind = 'store.corrupt' AND acknowledged_ms IS NULL ORDER BY id DESC LIMIT 1";

/// An event, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Its number.
    pub id: i64,
    /// When it happened, Unix milliseconds.
    pub at_ms: i64,
    /// What happened, in one word with dots, as checks have them.
    pub kind: String,
    /// What happened, for a person.
    pub text: String,
    /// When somebody said that it is known, Unix milliseconds.
    pub acknowledged_ms: Option<i64>,
}

#[derive(Clone, Debug)]
enum Change {
    Add { at_ms: i64, kind: &'static str, text: String },
    Acknowledge { id: i64, at_ms: i64 },
}

/// What waits to be written.
#[derive(Debug, Default)]
pub struct Journal {
    waiting: Mutex<VecDeque<Change>>,
    /// The newest event of a damaged database that nobody has acknowledged.
    corruption: Mutex<Option<Event>>,
}

impl Journal {
    /// Notes an event.
    pub fn note(&self, kind: &'static str, text: String) {
        self.push(Change::Add { at_ms: now_ms(), kind, text });
    }

    /// Notes that somebody knows of an event.
    pub fn acknowledge(&self, id: i64) {
        self.push(Change::Acknowledge { id, at_ms: now_ms() });
    }

    fn push(&self, change: Change) {
        let mut waiting = self.lock();
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
        }
        waiting.push_back(change);
    }

    /// Writes what waits into the transaction that is open; returns how much that is, for [`Journal::written`].
    pub(super) fn write(&self, connection: &Connection) -> Result<usize, StoreError> {
        let waiting = self.lock().clone();
        let write = || {
            for change in &waiting {
                match change {
                    Change::Add { at_ms, kind, text } => {
                        let id: i64 =
                            connection.prepare_cached(ADD)?.query_row((at_ms, kind, text), |row| row.get(0))?;
                        connection.prepare_cached(FORGET)?.execute([id - KEPT_MAX])?;
                    }
                    Change::Acknowledge { id, at_ms } => {
                        connection.prepare_cached(ACKNOWLEDGE)?.execute([id, at_ms])?;
                    }
                }
            }
            Ok(())
        };
        write().doing("cannot write events")?;
        Ok(waiting.len())
    }

    /// Returns the newest event of a damaged database that nobody has acknowledged.
    pub fn corruption(&self) -> Option<Event> {
        self.corruption.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees whether there is one.
    pub(super) fn look(&self, connection: &Connection) -> Result<(), StoreError> {
        let found = connection
            .prepare_cached(CORRUPTION)
            .and_then(|mut select| select.query_map([], event)?.next().transpose())
            .doing("cannot read the events")?;
        *self.corruption.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(())
    }

    /// Notes that the first `count` that waited are on disk.
    pub(super) fn written(&self, count: usize) {
        let mut waiting = self.lock();
        let count = count.min(waiting.len());
        waiting.drain(..count);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Change>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes at once that somebody knows of an event, where no hub runs; the caller holds the database's lock. False where there
/// is no such event.
///
/// # Errors
/// SQLite's.
pub fn acknowledge_event(database: &Path, id: i64) -> Result<bool, StoreError> {
    let connection = schema::open(database, Synchronous::Full, false)?;
    connection.execute(ACKNOWLEDGE, [id, now_ms()]).doing("cannot write events")?;
    has(&connection, id)
}

/// Tells whether there is an event.
pub(super) fn has(connection: &Connection, id: i64) -> Result<bool, StoreError> {
    connection.query_row(HAS, [id], |row| row.get(0)).doing("cannot read the events")
}

/// Lists the newest `limit` events, newest first.
pub(super) fn list(connection: &Connection, limit: u32) -> Result<Vec<Event>, StoreError> {
    const DOING: &str = "cannot read the events";
    let mut statement = connection.prepare(LIST).doing(DOING)?;
    let rows = statement.query_map([limit], event).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: row.get(0)?,
        at_ms: row.get(1)?,
        kind: row.get(2)?,
        text: row.get(3)?,
        acknowledged_ms: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_event_is_written_once_and_can_be_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let journal = Journal::default();
        journal.note("clock.step", "the clock was set".to_owned());
        let written = journal.write(&connection).unwrap();
        journal.note("store.corrupt", "put aside".to_owned());
        journal.written(written);
        assert_eq!(journal.write(&connection).unwrap(), 1, "what came meanwhile");
        journal.written(1);
        journal.acknowledge(1);
        journal.write(&connection).unwrap();
        let events = list(&connection, 10).unwrap();
        let known: Vec<_> = events.iter().map(|event| (&*event.kind, event.acknowledged_ms.is_some())).collect();
        assert_eq!(known, [("store.corrupt", false), ("clock.step", true)]);
    }
}
