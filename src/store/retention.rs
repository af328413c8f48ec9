//! Retention: old rows go, a few at a time.
//!
//! Owns which rows may go, and how many in one transaction: those whose hours are rolled up, as many as a few milliseconds
//! allow, since acks wait meanwhile. Freed pages are used again; the file is never packed while the hub serves. It never
//! decides when: `upkeep` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, params};

use super::cached::Cached;
use super::error::{Doing, StoreError};
use super::rollup::raw::{created_at, odd};
use super::tables::quarantine_bytes;
use crate::reading::Kind;

/// How long one transaction may spend on old rows; what it writes has to be synced, too.
const TIME_MAX: Duration = Duration::from_millis(10);
const DOING: &str = "cannot delete old rows";
/// Whether every reading before a time is in a rollup.
const IS_ROLLED_UP: &str = "SELECT EXISTS (SELECT 1 FROM rollup_state WHERE kind = ?1 AND done_s >= ?2)
  AND NOT EXISTS (SELECT 1 FROM rollup_late WHERE kind = ?1 AND hour < ?2)";
const NOTE_GONE: &str = "UPDATE rollup_state SET gone_s = ?2 WHERE kind = ?1 AND coalesce(gone_s, ?2 - 1) < ?2";
/// A row is as old as the younger of its two times, unless its own is odd: then it counts for the hour of its receipt.
const OLD_WEATHER: &str = concat!(
    "SELECT id, created_at, timestamp < ?2 OR ",
    odd!(),
    " FROM weather_data WHERE (created_at, id) > (?3, ?4) AND created_at < ?1 ORDER BY created_at, id LIMIT ?5"
);
const OLD_FLUX: &str = "SELECT id, created_at, ?2 = ?2 FROM magnetic_flux_data
  WHERE (created_at, id) > (?3, ?4) AND created_at < ?1 ORDER BY created_at, id LIMIT ?5";
const DROP_WEATHER: &str = "DELETE FROM weather_data WHERE id = ?1";
const DROP_FLUX: &str = "DELETE FROM magnetic_flux_data WHERE id = ?1";
const OLDEST_QUARANTINED: &str = "SELECT id, received_ms FROM quarantine ORDER BY id LIMIT 1";
const DROP_QUARANTINED: &str = concat!("DELETE FROM quarantine WHERE id = ?1 RETURNING ", quarantine_bytes!());

/// What is too old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Raw readings before this time, Unix seconds, the beginning of an hour.
    Raw(Kind, i64),
    /// Messages in quarantine received before this time, Unix milliseconds.
    Quarantine(i64),
}

/// Old rows to delete, at most so many.
#[derive(Clone, Debug)]
pub struct Retention {
    /// Which.
    pub old: Old,
    /// How many are looked at, at most.
    pub rows_max: u32,
    /// After which row the look begins: what the one before says.
    pub after: Place,
    /// Where to say what came of it.
    pub told: Arc<Told>,
}

/// A row's place in the order of receipt: its `created_at` and its number.
pub type Place = (String, i64);

/// What came of it, for who asked; it holds once the job's ticket does.
#[derive(Debug, Default)]
pub struct Told {
    looked_at: AtomicU64,
    deleted: AtomicU64,
    last: Mutex<Place>,
}

impl Told {
    /// Returns how many rows were looked at.
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Ordering::Acquire)
    }

    /// Returns how many rows went.
    pub fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Acquire)
    }

    /// Returns the last row that was looked at.
    pub fn last(&self) -> Place {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&self, looked_at: u64, deleted: u64, last: Place) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
        self.deleted.store(deleted, Ordering::Release);
        self.looked_at.store(looked_at, Ordering::Release);
    }
}

impl Cached {
    /// Deletes old rows in the transaction that is open.
    pub(super) fn delete_old(&mut self, connection: &Connection, retention: &Retention) -> Result<(), StoreError> {
        let end = Instant::now() + TIME_MAX;
        match retention.old {
            Old::Raw(kind, before_s) => delete_raw(connection, kind, before_s, retention, end).doing(DOING),
            Old::Quarantine(before_ms) => self.delete_quarantined(connection, before_ms, retention, end).doing(DOING),
        }
    }

    fn delete_quarantined(
        &mut self,
        connection: &Connection,
        before_ms: i64,
        retention: &Retention,
        end: Instant,
    ) -> rusqlite::Result<()> {
        let mut oldest = connection.prepare_cached(OLDEST_QUARANTINED)?;
        let mut drop = connection.prepare_cached(DROP_QUARANTINED)?;
        let mut count = 0;
        while count < u64::from(retention.rows_max) && Instant::now() < end {
            let found: Option<(i64, i64)> = oldest.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            let Some((id, _)) = found.filter(|(_, received_ms)| *received_ms < before_ms) else { break };
            self.quarantine_bytes -= drop.query_row([id], |row| row.get::<_, i64>(0))?;
            count += 1;
        }
        retention.told.tell(count, count, (String::new(), 0));
        Ok(())
    }
}

fn delete_raw(
    connection: &Connection,
    kind: Kind,
    before_s: i64,
    retention: &Retention,
    end: Instant,
) -> rusqlite::Result<()> {
    let (told, begun) = (&retention.told, retention.after.clone());
    let is_rolled_up: bool =
        connection.prepare_cached(IS_ROLLED_UP)?.query_row((kind.name(), before_s), |row| row.get(0))?;
    if !is_rolled_up {
        told.tell(0, 0, begun);
        return Ok(());
    }
    connection.prepare_cached(NOTE_GONE)?.execute((kind.name(), before_s))?;
    let (old, drop) = match kind {
        Kind::Weather => (OLD_WEATHER, DROP_WEATHER),
        Kind::Magnetic => (OLD_FLUX, DROP_FLUX),
    };
    let found: Vec<(i64, String, bool)> = connection
        .prepare_cached(old)?
        .query_map(params![created_at(before_s), before_s, begun.0, begun.1, retention.rows_max], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?
        .collect::<Result<_, _>>()?;
    let mut drop = connection.prepare_cached(drop)?;
    let (mut looked_at, mut deleted, mut last) = (0, 0, begun);
    for (id, text, may_go) in found {
        if may_go {
            deleted += drop.execute([id])? as u64;
        }
        looked_at += 1;
        last = (text, id);
        if Instant::now() >= end {
            break;
        }
    }
    told.tell(looked_at, deleted, last);
    Ok(())
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
