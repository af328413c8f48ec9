//! Rollups: what an hour, and what a day, came to, for each source and quantity.
//!
//! Owns the tables `rollup_hour`, `rollup_day`, `rollup_state` and `rollup_late`, and what the writer does with them: it
//! writes what was worked out elsewhere (`step`, on a reading connection), and notes which finished hours a late reading
//! touches. It never works anything out on the writer's thread.
//!
//! Raw counts are rolled up, no calibrated values, so a new calibration changes no rollup: who reads converts. A count
//! is rolled up by what it rose by, as `weather::counter` tells it, a direction as a vector. What the vane's readings mean and
//! how fast the anemometer can count has to be known for that: where it changes, the hours whose raw rows are there are done again.
//!
//! No reading may slip between two looks: before a step reads, it *claims* its hours, by a transaction of the writer's.
//! What is stored in a claimed hour afterwards is late, noted in the same transaction, and makes the hour be done again.

#[cfg(test)]
mod anew_tests;
mod days;
mod fold;
pub(super) mod raw;
mod step;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::error::{Doing, StoreError};
use super::job::Incoming;
use crate::clock::CLOCK_SET_MS;
use crate::reading::{Kind, Marks, Quantity, Reading, Sample};

pub use days::Days;
pub(super) use step::summary;
pub use step::{Step, Work};

pub(super) const HOUR_S: i64 = 3_600;

/// The columns of the tables; the order of the keys is that of the questions: one quantity of one source over a time.
pub(super) const HOUR_COLUMNS: &str = "(
  source_id INTEGER NOT NULL,
  quantity TEXT NOT NULL,
  hour INTEGER NOT NULL,
  count INTEGER NOT NULL,
  minimum REAL,
  maximum REAL,
  sum REAL,
  sum_sin REAL,
  sum_cos REAL,
  resets INTEGER,
  seconds REAL,
  PRIMARY KEY (source_id, quantity, hour)
) WITHOUT ROWID";
pub(super) const DAY_COLUMNS: &str = "(
  source_id INTEGER NOT NULL,
  quantity TEXT NOT NULL,
  day TEXT NOT NULL,
  count INTEGER NOT NULL,
  minimum REAL,
  maximum REAL,
  sum REAL,
  sum_sin REAL,
  sum_cos REAL,
  resets INTEGER,
  seconds REAL,
  PRIMARY KEY (source_id, quantity, day)
) WITHOUT ROWID";
/// How far the rollups are: hours are done before `done_s`, raw rows are gone before `gone_s`, and days are being done
/// again for `zone` from `days_from_s` on, where that is set.
pub(super) const STATE_COLUMNS: &str = "(
  kind TEXT PRIMARY KEY,
  done_s INTEGER NOT NULL,
  gone_s INTEGER,
  zone TEXT NOT NULL,
  days_from_s INTEGER
) WITHOUT ROWID";
/// Hours to be done again; `times` tells whether one was noted once more while it was being done.
pub(super) const LATE_COLUMNS: &str = "(
  kind TEXT NOT NULL,
  hour INTEGER NOT NULL,
  times INTEGER NOT NULL,
  PRIMARY KEY (kind, hour)
) WITHOUT ROWID";

const PUT_HOUR: &str = "INSERT OR REPLACE INTO rollup_hour VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const PUT_DAY: &str = "INSERT OR REPLACE INTO rollup_day VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const DROP_HOUR: &str = "DELETE FROM rollup_hour WHERE source_id = ?1 AND quantity = ?2 AND hour = ?3";
const DROP_DAY: &str = "DELETE FROM rollup_day WHERE source_id = ?1 AND quantity = ?2 AND day = ?3";
const NOTE_LATE: &str = "INSERT INTO rollup_late(kind, hour, times) VALUES (?1, ?2, 1)
  ON CONFLICT (kind, hour) DO UPDATE SET times = times + 1";
const LATE_DONE: &str = "DELETE FROM rollup_late WHERE kind = ?1 AND hour = ?2 AND times = ?3";
const PUT_STATE: &str = "INSERT INTO rollup_state(kind, done_s, zone) VALUES (?1, ?2, ?3)
  ON CONFLICT (kind) DO UPDATE SET done_s = max(done_s, ?2)";
const PUT_ZONE: &str = "UPDATE rollup_state SET zone = ?2, days_from_s = ?3 WHERE kind = ?1";
const PUT_ANEW: &str =
    "UPDATE rollup_state SET zone = ?2, days_from_s = NULL, done_s = coalesce(gone_s, ?3) WHERE kind = ?1";
const STATE: &str = "SELECT done_s, gone_s, zone, days_from_s FROM rollup_state WHERE kind = ?1";

/// What the values of a quantity in a time came to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Summary {
    /// Readings that have the quantity.
    pub count: i64,
    /// The lowest value; of a count, the lowest rise a second.
    pub minimum: Option<f64>,
    /// The highest value; of a count, the highest rise a second.
    pub maximum: Option<f64>,
    /// All values together; of a count, all that it rose by.
    pub sum: Option<f64>,
    /// Of a direction, the sum of its sines.
    pub sum_sin: Option<f64>,
    /// Of a direction, the sum of its cosines.
    pub sum_cos: Option<f64>,
    /// Of a count, how often it started anew or said something that was not so.
    pub resets: Option<i64>,
    /// Of a count, the time over which it rose, seconds.
    pub seconds: Option<f64>,
}

/// A source's number, 0 for rows without one, and a quantity.
pub type Series = (i64, Quantity);

/// What the writer is to do with the rollups.
#[derive(Clone, Debug, PartialEq)]
pub enum RollupChange {
    /// Readings before this time, Unix seconds, are late from now on.
    Claim(Kind, i64),
    /// What an hour, by its beginning, came to; `None` for nothing.
    Hour(Series, i64, Option<Summary>),
    /// What a day, by its date, came to; `None` for nothing.
    Day(Series, String, Option<Summary>),
    /// Hours before this time are done; the zone is noted with the first of them.
    Done(Kind, i64, String),
    /// An hour was done again that had been noted so many times.
    LateDone(Kind, i64, i64),
    /// Days are done again for this zone from this time on; `None`: all are.
    Zone(Kind, String, Option<i64>),
    /// All hours that can be are done again, for this zone and these sensors.
    Anew(Kind, String),
}

impl RollupChange {
    /// Returns the bytes that it occupies in the queue, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<RollupChange>() + 32
    }
}

/// How far the hours are claimed, shared by the writer and who works out the rollups.
#[derive(Debug)]
pub struct Claims {
    until_s: [AtomicI64; 2],
    any_late: AtomicBool,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims { until_s: [const { AtomicI64::new(i64::MIN) }; 2], any_late: AtomicBool::new(true) }
    }
}

impl Claims {
    /// Returns the time before which readings are late, Unix seconds.
    pub fn until_s(&self, kind: Kind) -> i64 {
        self.until_s[place(kind)].load(Ordering::Acquire)
    }

    /// Tells whether hours may be noted as late since it was last asked.
    pub fn take_late(&self) -> bool {
        self.any_late.swap(false, Ordering::AcqRel)
    }

    /// Tells whether hours may have been noted as late meanwhile.
    pub fn has_late(&self) -> bool {
        self.any_late.load(Ordering::Acquire)
    }

    fn raise(&self, kind: Kind, until_s: i64) {
        self.until_s[place(kind)].fetch_max(until_s, Ordering::AcqRel);
    }
}

fn place(kind: Kind) -> usize {
    match kind {
        Kind::Weather => 0,
        Kind::Magnetic => 1,
    }
}

/// The writer's side: late hours of the transaction that is open.
#[derive(Debug, Default)]
pub(super) struct Late {
    claims: Arc<Claims>,
    hours: BTreeSet<(&'static str, i64)>,
}

impl Late {
    /// Begins with what the database says is done.
    pub(super) fn opened(connection: &Connection, claims: Arc<Claims>) -> Result<Late, StoreError> {
        for kind in [Kind::Weather, Kind::Magnetic] {
            if let Some(state) = State::load(connection, kind)? {
                claims.raise(kind, state.done_s);
            }
        }
        Ok(Late { claims, hours: BTreeSet::new() })
    }

    /// Forgets what an earlier transaction noted.
    pub(super) fn begin(&mut self) {
        self.hours.clear();
    }

    /// Notes the hour of a reading that is stored, where it is late.
    pub(super) fn look_at(&mut self, message: &Incoming, reading: &Reading) {
        let (kind, time_s) = own_time_s(reading, message.origin.received_ms);
        if time_s < self.claims.until_s(kind) {
            self.hours.insert((kind.name(), hour_of(time_s)));
        }
    }

    /// Writes them into the transaction that is open.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        for (kind, hour) in &self.hours {
            note_late(connection, kind, *hour)?;
        }
        if !self.hours.is_empty() {
            self.claims.any_late.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Notes that rows were added beside the readings that come, as [`note_row`] has it.
    pub(super) fn added_beside(&self) {
        self.claims.any_late.store(true, Ordering::Release);
    }

    /// Makes the changes that were worked out.
    pub(super) fn apply(&self, connection: &Connection, changes: &[RollupChange]) -> Result<(), StoreError> {
        changes.iter().try_for_each(|change| apply(connection, change)).doing("cannot write a rollup")?;
        for change in changes {
            if let RollupChange::Claim(kind, until_s) = change {
                self.claims.raise(*kind, *until_s);
            }
        }
        Ok(())
    }
}

/// Notes that a row was added beside the readings that come: its hour is done again, if it was done.
pub(super) fn note_row(connection: &Connection, table: &str, id: i64) -> Result<(), StoreError> {
    let sql = match table {
        "weather_data" => raw::NOTE_WEATHER,
        "magnetic_flux_data" => raw::NOTE_FLUX,
        _ => return Ok(()),
    };
    connection.prepare_cached(sql).and_then(|mut note| note.execute([id])).map(drop).doing("cannot note a late hour")
}

/// Notes that rows of an hour changed: it is done again, if it was done.
pub(super) fn note_late(connection: &Connection, kind: &str, hour: i64) -> Result<(), StoreError> {
    let note = || connection.prepare_cached(NOTE_LATE)?.execute((kind, hour)).map(drop);
    note().doing("cannot note a late hour")
}

fn apply(connection: &Connection, change: &RollupChange) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| connection.prepare_cached(sql)?.execute(values).map(drop);
    match change {
        RollupChange::Claim(..) => Ok(()),
        RollupChange::Hour((source, quantity), hour, Some(summary)) => {
            put(connection, PUT_HOUR, *source, quantity.name(), hour, summary)
        }
        RollupChange::Day((source, quantity), day, Some(summary)) => {
            put(connection, PUT_DAY, *source, quantity.name(), day, summary)
        }
        RollupChange::Hour((source, quantity), hour, None) => run(DROP_HOUR, params![source, quantity.name(), hour]),
        RollupChange::Day((source, quantity), day, None) => run(DROP_DAY, params![source, quantity.name(), day]),
        RollupChange::Done(kind, until_s, zone) => run(PUT_STATE, params![kind.name(), until_s, zone]),
        RollupChange::LateDone(kind, hour, times) => run(LATE_DONE, params![kind.name(), hour, times]),
        RollupChange::Anew(kind, zone) => run(PUT_ANEW, params![kind.name(), zone, i64::MIN]),
        RollupChange::Zone(kind, zone, from_s) => run(PUT_ZONE, params![kind.name(), zone, from_s]),
    }
}

fn put(
    connection: &Connection,
    sql: &str,
    source: i64,
    quantity: &str,
    time: &dyn rusqlite::ToSql,
    summary: &Summary,
) -> rusqlite::Result<()> {
    let Summary { count, minimum, maximum, sum, sum_sin, sum_cos, resets, seconds } = summary;
    let values = params![source, quantity, time, count, minimum, maximum, sum, sum_sin, sum_cos, resets, seconds];
    connection.prepare_cached(sql)?.execute(values).map(drop)
}

/// How far the rollups of a kind are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) done_s: i64,
    pub(super) gone_s: Option<i64>,
    pub(super) zone: String,
    pub(super) days_from_s: Option<i64>,
}

impl State {
    /// Reads it; `None` before the first hour is done.
    pub(super) fn load(connection: &Connection, kind: Kind) -> Result<Option<State>, StoreError> {
        let state = |row: &Row<'_>| {
            Ok(State { done_s: row.get(0)?, gone_s: row.get(1)?, zone: row.get(2)?, days_from_s: row.get(3)? })
        };
        let read = || connection.prepare_cached(STATE)?.query_row([kind.name()], state).optional();
        read().doing("cannot read how far the rollups are")
    }
}

/// Returns the kind of a reading and the time that it counts for, Unix seconds: the sensor's own. Where that is marked as
/// far from the hub's clock, and lies in the future or before there were such sensors, it is the time of receipt.
///
/// `step` says the same in SQL.
fn own_time_s(reading: &Reading, received_ms: i64) -> (Kind, i64) {
    let received_s = received_ms.div_euclid(1000);
    match &reading.sample {
        Sample::Magnetic(_) => (Kind::Magnetic, received_s),
        Sample::Weather(weather) => {
            let time_s = weather.timestamp;
            let is_odd = time_s < CLOCK_SET_MS / 1000 || time_s > received_s;
            let counts_s = if reading.marks.has(Marks::TIME_SKEWED) && is_odd { received_s } else { time_s };
            (Kind::Weather, counts_s)
        }
    }
}

/// Returns the beginning of the hour that a time lies in.
pub(super) fn hour_of(time_s: i64) -> i64 {
    time_s.div_euclid(HOUR_S) * HOUR_S
}

/// Returns the quantities of a kind, in the order of `step`'s columns.
pub(super) fn quantities(kind: Kind) -> &'static [Quantity] {
    match kind {
        Kind::Weather => &Quantity::ALL[..7],
        Kind::Magnetic => &Quantity::ALL[7..],
    }
}
