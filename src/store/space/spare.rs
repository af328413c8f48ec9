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
/// What says how far they are made: without it they are made from the first reading on.
const ROLLUPS_STATE: &str = "rollup_state";
const ROLLUPS_LATE: &str = "rollup_late";
const ROLLUPS_DROPPING: &str = "cannot drop hourly and daily figures";

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
            Spared::Rollups => drop_rollups(&self.connection).doing(ROLLUPS_DROPPING),
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

/// Drops the hourly and daily figures, and how far they were made. Where readings are gone for their age, the figures are all that
/// is left of them, and stay.
fn drop_rollups(connection: &Connection) -> rusqlite::Result<u64> {
    if has(connection, ROLLUPS_STATE)? {
        let sql = "SELECT count(*) > 0 FROM rollup_state WHERE gone_s IS NOT NULL";
        if connection.query_row(sql, [], |row| row.get(0))? {
            return Ok(0);
        }
    }
    let mut dropped = 0;
    for table in ROLLUPS {
        dropped += empty(connection, table)?;
    }
    for table in [ROLLUPS_STATE, ROLLUPS_LATE] {
        empty(connection, table)?;
    }
    Ok(dropped)
}

/// Empties a table in one stroke, which writes next to nothing; returns how many rows it had. A table that is not there has none.
fn empty(connection: &Connection, table: &str) -> rusqlite::Result<u64> {
    if !has(connection, table)? {
        return Ok(0);
    }
    Ok(connection.execute(&format!("DELETE FROM {table}"), [])? as u64)
}

fn has(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    connection.query_row(sql, [table], |row| row.get(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    const MADE: &str = "
CREATE TABLE IF NOT EXISTS rollup_hour(source_id, quantity, hour, count, PRIMARY KEY (source_id, quantity, hour)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rollup_state(kind TEXT PRIMARY KEY, done_s, gone_s, zone) WITHOUT ROWID;
INSERT INTO rollup_hour(source_id, quantity, hour, count) VALUES (1, 'temperature', 0, 9), (1, 'temperature', 3600, 9);
INSERT INTO rollup_state(kind, done_s, zone) VALUES ('weather', 7200, 'UTC'), ('magnetic', 7200, 'UTC');";

    fn count(database: &Database, table: &str) -> i64 {
        database.number(&format!("SELECT count(*) FROM {table}")).unwrap()
    }

    #[test]
    fn figures_that_can_be_made_again_go_with_what_says_how_far_they_are_and_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut database =
            Database::open(&dir.path().join("a.db"), Synchronous::Full, 1 << 20, None, true, None, false).unwrap();
        database.connection.execute_batch(MADE).unwrap();
        database.connection.execute_batch("UPDATE rollup_state SET gone_s = 3600 WHERE kind = 'weather'").unwrap();
        assert_eq!(database.spare(Spared::Rollups).unwrap(), 0, "of the first hour, nothing else is left");
        assert_eq!((count(&database, "rollup_hour"), count(&database, "rollup_state")), (2, 2));
        database.connection.execute_batch("UPDATE rollup_state SET gone_s = NULL").unwrap();
        assert_eq!(database.spare(Spared::Rollups).unwrap(), 2);
        assert_eq!((count(&database, "rollup_hour"), count(&database, "rollup_state")), (0, 0));
        assert_eq!(database.spare(Spared::Rollups).unwrap(), 0);
    }

    #[test]
    fn a_database_that_may_not_grow_takes_what_fits_and_says_that_it_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let database =
            Database::open(&dir.path().join("a.db"), Synchronous::Full, 1 << 20, None, true, None, false).unwrap();
        database.may_grow(false).unwrap();
        let add = |database: &Database| {
            let sql = "INSERT INTO event(at_ms, kind, text) VALUES (1, 'a', hex(randomblob(100000)))";
            database.connection.execute(sql, []).doing("")
        };
        let error = add(&database).unwrap_err();
        assert!(error.is_full(), "{error}");
        database.may_grow(true).unwrap();
        add(&database).unwrap();
        database.may_grow(false).unwrap();
        database.connection.execute_batch("DELETE FROM event").unwrap();
        add(&database).unwrap();
    }
}
