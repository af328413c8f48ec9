//! What a database does without when its disk is full: it stops growing, and drops what can be spared.
//!
//! Owns the statements for it. Each step is one small transaction. It never decides that it is time: `Space` does.

use rusqlite::Connection;

use super::stage::Spared;
use crate::clock::now_ms;
use crate::store::error::{Doing, StoreError};
use crate::store::transaction::Database;

/// How long the write-ahead log becomes before it is moved into the database, at most, bytes: what SQLite's thousand pages usually
/// are. A page that is written again and again is moved once.
const LOG_BYTES_MAX: u64 = 4_096_000;
const LOG_PAGES_MIN: u64 = 16;
/// The most pages that SQLite lets a database have.
const PAGES_MAX: i64 = 4_294_967_294;
/// Messages of the quarantine that are dropped in one step, and their bytes.
const QUARANTINE_STEP: u64 = 256;
const QUARANTINE_STEP_BYTES: i64 = 1 << 20;
const BOUNDING: &str = "cannot bound the database";
/// The tables that can be made again from the readings.
const ROLLUPS: [&str; 2] = ["rollup_hour", "rollup_day"];

impl Database {
    /// Keeps the write-ahead log so short that moving it into the database needs no more room than `bytes`.
    pub(super) fn keep_log_below(&self, bytes: u64) -> Result<(), StoreError> {
        const DOING: &str = "cannot bound the write-ahead log";
        let page: i64 = self.number("PRAGMA page_size").doing(DOING)?;
        let pages = (bytes.min(LOG_BYTES_MAX) / page.unsigned_abs().max(1)).max(LOG_PAGES_MIN);
        self.number(&format!("PRAGMA wal_autocheckpoint = {pages}")).map(drop).doing(DOING)
    }

    /// Lets the database grow no more, or again.
    pub(super) fn may_grow(&self, may: bool) -> Result<(), StoreError> {
        self.bound(if may { PAGES_MAX } else { self.number("PRAGMA page_count").doing(BOUNDING)? })
    }

    /// Lets the database have no more than so many pages.
    pub(super) fn bound(&self, pages: i64) -> Result<(), StoreError> {
        self.number(&format!("PRAGMA max_page_count = {pages}")).map(drop).doing(BOUNDING)
    }

    /// Moves what it can of the write-ahead log into the database, waiting for nobody.
    pub(super) fn move_log(&self) -> Result<(), StoreError> {
        self.number("PRAGMA wal_checkpoint(PASSIVE)")
            .map(drop)
            .doing("cannot move the write-ahead log into the database")
    }

    /// Drops some of what can be spared; returns how many rows that were, none where there is nothing of it.
    pub(super) fn spare(&mut self, what: Spared) -> Result<u64, StoreError> {
        self.begin()?;
        let dropped = self.drop_some(what).and_then(|dropped| self.commit().map(|()| dropped));
        match dropped {
            Ok(_) => self.cached.committed(),
            Err(_) => self.roll_back(),
        }
        dropped
    }

    fn drop_some(&mut self, what: Spared) -> Result<u64, StoreError> {
        match what {
            Spared::Rollups => ROLLUPS.into_iter().try_fold(0, |sum, table| Ok(sum + empty(&self.connection, table)?)),
            Spared::Outbox => self.drop_from_outbox(),
            Spared::Quarantine => {
                let dropped =
                    self.cached.drop_from_quarantine(&self.connection, QUARANTINE_STEP, QUARANTINE_STEP_BYTES)?;
                Ok(dropped)
            }
        }
    }

    /// Drops what is beyond the outbox's limits; what is within them is the upstream's.
    fn drop_from_outbox(&mut self) -> Result<u64, StoreError> {
        let Some(outbox) = self.outbox.clone() else { return Ok(0) };
        let Some(rows) = self.cached.outbox() else { return Ok(0) };
        if !rows.may_have_to_drop(now_ms()) {
            return Ok(0);
        }
        let claims = outbox.claims();
        let dropped = rows.drop_beyond_limits(&self.connection, &claims, now_ms())?;
        rows.write_totals(&self.connection)?;
        outbox.count(0, dropped, now_ms());
        Ok(dropped)
    }

    fn number(&self, sql: &str) -> rusqlite::Result<i64> {
        self.connection.query_row(sql, [], |row| row.get(0))
    }
}

/// Empties a table in one stroke, which writes next to nothing; returns how many rows it had. A table that is not there has none.
fn empty(connection: &Connection, table: &str) -> Result<u64, StoreError> {
    const DOING: &str = "cannot drop rows of hourly and daily figures";
    let is_there: bool = connection
        .query_row("SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1", [table], |row| {
            row.get(0)
        })
        .doing(DOING)?;
    if !is_there {
        return Ok(0);
    }
    let rows = connection.execute(&format!("DELETE FROM {table}"), []).doing(DOING)?;
    Ok(rows as u64)
}
