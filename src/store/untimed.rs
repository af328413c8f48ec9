//! Readings that came before the clock was synchronised, and how their times of receipt are set right.
//!
//! Owns the table `untimed`: which rows they are, in which boot of the machine, and how far the wall clock was ahead of the
//! time since that boot when they came. Once the clock is right, that distance is known for good, and the difference is what
//! their times lack. Only times that the hub noted are changed, never one that a sensor sent. It never decides whether
//! the clock is right: `clock` does.

use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::error::{Doing, StoreError};
use super::ledger::{self, HourCount, Readings};
use super::rollup;
use crate::reading::Reading;

/// Ranges of rows that are remembered.
const RANGES_MAX: i64 = 10_000;
/// Rows that are set right in one transaction, which is not to hold the writer.
const ROWS_MAX: i64 = 200;

const ADD: &str = "INSERT INTO untimed(boot, offset_ms, readings, first_id, last_id) VALUES (?1, ?2, ?3, ?4, ?5)
  RETURNING id";
const EXTEND: &str = "UPDATE untimed SET last_id = ?2 WHERE id = ?1";
const FORGET: &str = "DELETE FROM untimed WHERE id <= ?1";
const NEXT: &str = "SELECT id, offset_ms, readings, first_id, last_id FROM untimed WHERE boot = ?1 ORDER BY id LIMIT 1";
const SHORTEN: &str = "UPDATE untimed SET first_id = ?2 WHERE id = ?1 AND last_id >= ?2";
const DONE: &str = "DELETE FROM untimed WHERE id = ?1 AND last_id < ?2";

/// Rows that follow each other, of one table and one setting of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    /// Its number, once it has one.
    id: Option<i64>,
    offset_ms: i64,
    readings: Readings,
    first: i64,
    last: i64,
}

/// What the writer knows of the readings that came while the clock was not to be trusted.
#[derive(Debug)]
pub(super) struct Untimed {
    boot: String,
    /// The last range of each table that is on disk.
    known: [Option<Range>; 2],
    staged: Vec<Range>,
    /// The numbers that the staged ones got.
    numbers: Vec<i64>,
}

impl Default for Untimed {
    fn default() -> Untimed {
        Untimed { boot: super::heartbeat::boot(), known: [None; 2], staged: Vec::new(), numbers: Vec::new() }
    }
}

impl Untimed {
    /// Notes the row of a reading, where the clock was not to be trusted when it came.
    pub(super) fn stage(&mut self, table: &'static str, id: i64, reading: &Reading) {
        let Some(offset_ms) = reading.marks.untrusted_offset_ms() else { return };
        let readings = if table == Readings::Weather.table() { Readings::Weather } else { Readings::Magnetic };
        let fits = |range: &&mut Range| range.offset_ms == offset_ms && range.readings == readings;
        if let Some(range) = self.staged.iter_mut().find(fits) {
            range.last = id;
            return;
        }
        let known = self.known[readings as usize].filter(|range| range.offset_ms == offset_ms);
        let begun = Range { id: None, offset_ms, readings, first: id, last: id };
        self.staged.push(Range { id: known.and_then(|range| range.id), ..begun });
    }

    /// Writes what was staged.
    pub(super) fn write(&mut self, connection: &Connection) -> Result<(), StoreError> {
        const DOING: &str = "cannot note readings without a trusted time";
        self.numbers.clear();
        for range in &self.staged {
            if let Some(id) = range.id
                && connection
                    .prepare_cached(EXTEND)
                    .and_then(|mut extend| extend.execute([id, range.last]))
                    .doing(DOING)?
                    > 0
            {
                self.numbers.push(id);
                continue;
            }
            let values = params![self.boot, range.offset_ms, range.readings.table(), range.first, range.last];
            let id: i64 = connection.query_row(ADD, values, |row| row.get(0)).doing(DOING)?;
            connection.execute(FORGET, [id - RANGES_MAX]).doing(DOING)?;
            self.numbers.push(id);
        }
        Ok(())
    }

    /// Takes over what was staged: it is on disk.
    pub(super) fn committed(&mut self) {
        for (range, id) in self.staged.drain(..).zip(self.numbers.drain(..)) {
            self.known[range.readings as usize] = Some(Range { id: Some(id), ..range });
        }
    }

    /// Forgets what was staged: it was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.staged.clear();
    }
}

/// A step in which times of receipt are set right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetRight {
    range: i64,
    readings: Readings,
    first: i64,
    last: i64,
    /// What the times lack, milliseconds.
    lack_ms: i64,
    skew_ms_max: i64,
}

impl SetRight {
    /// Returns what the times lack, milliseconds.
    pub fn lack_ms(&self) -> i64 {
        self.lack_ms
    }

    /// Returns where it begins: a range, and a row in it.
    pub fn place(&self) -> (i64, i64) {
        (self.range, self.first)
    }

    /// Returns how many rows it looks at.
    pub fn rows(&self) -> i64 {
        self.last - self.first + 1
    }
}

/// Returns the next step, where the wall clock is right now and that far ahead of the time since this boot; `None` where all
/// is done.
pub(super) fn next(connection: &Connection, offset_ms: i64, skew_ms_max: i64) -> Result<Option<SetRight>, StoreError> {
    connection
        .query_row(NEXT, [super::heartbeat::boot()], |row| {
            let table: String = row.get(2)?;
            let (first, last): (i64, i64) = (row.get(3)?, row.get(4)?);
            Ok(SetRight {
                range: row.get(0)?,
                readings: if table == Readings::Weather.table() { Readings::Weather } else { Readings::Magnetic },
                first,
                last: last.min(first + ROWS_MAX - 1),
                lack_ms: offset_ms.saturating_sub(row.get(1)?),
                skew_ms_max,
            })
        })
        .optional()
        .doing("cannot read which readings lack a trusted time")
}

/// Sets the times of a step's rows right, in the transaction that is open. `timestamp` is changed where the hub set it because
/// the sensor sent none; the mark that it is far from the hub's clock is made anew.
pub(super) fn apply(connection: &Connection, step: &SetRight) -> Result<(), StoreError> {
    const DOING: &str = "cannot set times of receipt right";
    let times = match step.readings {
        Readings::Weather => {
            ", timestamp = iif(marks & 1, (received_ms + ?3) / 1000, timestamp),
             marks = (marks & ~6) | 8 | iif(marks & 1 = 0 AND abs(timestamp * 1000 - received_ms - ?3) > ?4, 2, 0)"
        }
        Readings::Magnetic => ", marks = (marks & ~4) | 8",
    };
    let sql = format!(
        "UPDATE {} SET received_ms = received_ms + ?3,
           created_at = strftime('%Y-%m-%d %H:%M:%S', (received_ms + ?3) / 1000, 'unixepoch'){times}
         WHERE id BETWEEN ?1 AND ?2 AND marks & 4 RETURNING id, source_id, received_ms",
        step.readings.table()
    );
    let counted = ledger::counted_up_to(connection, step.readings)?;
    let unnamed = if step.readings == Readings::Weather { ledger::UNNAMED_WEATHER } else { ledger::UNNAMED_MAGNETIC };
    let (mut moved, mut rows_moved) = (Vec::new(), Vec::new());
    let mut statement = connection.prepare_cached(&sql).doing(DOING)?;
    let values = [step.first, step.last, step.lack_ms, step.skew_ms_max].into_iter().take(statement.parameter_count());
    let mut rows = statement.query(params_from_iter(values)).doing(DOING)?;
    while let Some(row) = rows.next().doing(DOING)? {
        let (id, received_ms): (i64, i64) = (row.get(0).doing(DOING)?, row.get(2).doing(DOING)?);
        let source = row.get::<_, Option<i64>>(1).doing(DOING)?.unwrap_or(unnamed);
        rows_moved.push((id, (received_ms - step.lack_ms).div_euclid(3_600_000) * 3_600));
        if id <= counted {
            let at = |ms: i64, stored| HourCount { source, hour: ms.div_euclid(3_600_000), stored, interval_ms: None };
            moved.extend([at(received_ms - step.lack_ms, -1), at(received_ms, 1)]);
        }
    }
    ledger::add_hours(connection, moved)?;
    let kind = if step.readings == Readings::Weather { "weather" } else { "magnetic" };
    for (id, old_hour) in rows_moved {
        rollup::note_late(connection, kind, old_hour)?;
        rollup::note_row(connection, step.readings.table(), id)?;
    }
    let after = [step.range, step.last + 1];
    connection.execute(SHORTEN, after).and_then(|_| connection.execute(DONE, after)).map(drop).doing(DOING)
}
