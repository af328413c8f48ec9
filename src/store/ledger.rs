//! The ledger of what is stored and what is not: counts by source and hour, and what came in vain.
//!
//! Owns the tables `hour_count`, `hour_counted` and `unstored`, and how rows become counts. Readings are counted behind the
//! writer's back, by their row numbers: a reader adds up a few thousand rows at a time, and the writer adds the sums together
//! with the number of the last row, so that a row counts once whatever fails, and storing a reading costs nothing more. It
//! never judges what is missing: `gaps` does.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension, Row};

use super::error::{Doing, StoreError};
use super::losses::{Count, Places};
use super::untimed::{self, SetRight};
use crate::reading::SourceId;

/// The number of the source that old weather readings have, which name none.
pub(crate) const UNNAMED_WEATHER: i64 = 0;
/// The same of old magnetic readings.
pub(crate) const UNNAMED_MAGNETIC: i64 = -1;
/// Rows of `unstored` that are kept.
const UNSTORED_MAX: i64 = 100_000;

const ADD_HOUR: &str = "INSERT INTO hour_count(source_id, hour, stored, interval_ms) VALUES (?1, ?2, max(?3, 0), ?4)
  ON CONFLICT(source_id, hour) DO UPDATE
  SET stored = max(stored + ?3, 0), interval_ms = coalesce(excluded.interval_ms, interval_ms)";
const COUNTED: &str = "SELECT up_to FROM hour_counted WHERE readings = ?1";
const SET_COUNTED: &str = "INSERT INTO hour_counted(readings, up_to) VALUES (?1, ?2)
  ON CONFLICT(readings) DO UPDATE SET up_to = excluded.up_to";
const ADD_UNSTORED: &str = "INSERT INTO unstored(source_id, minute, cause, first_ms, last_ms, messages)
  VALUES (?1, ?2, ?3, ?4, ?5, ?6)
  ON CONFLICT(source_id, minute, cause) DO UPDATE SET first_ms = min(first_ms, excluded.first_ms),
    last_ms = max(last_ms, excluded.last_ms), messages = messages + excluded.messages
  RETURNING id";
const FORGET_UNSTORED: &str = "DELETE FROM unstored WHERE id <= ?1";
const COUNT_WEATHER: &str = "SELECT coalesce(source_id, 0),
    coalesce(received_ms / 3600000, unixepoch(created_at) / 3600, 0), count(*), CAST(sample_interval AS INTEGER), max(id)
  FROM (SELECT id, source_id, received_ms, created_at, sample_interval FROM weather_data WHERE id > ?1 ORDER BY id LIMIT ?2)
  GROUP BY 1, 2";
const COUNT_MAGNETIC: &str = "SELECT coalesce(source_id, -1),
    coalesce(received_ms / 3600000, unixepoch(created_at) / 3600, 0), count(*), NULL, max(id)
  FROM (SELECT id, source_id, received_ms, created_at FROM magnetic_flux_data WHERE id > ?1 ORDER BY id LIMIT ?2)
  GROUP BY 1, 2";

/// A table of readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readings {
    /// `weather_data`.
    Weather,
    /// `magnetic_flux_data`.
    Magnetic,
}

impl Readings {
    /// Both.
    pub const ALL: [Readings; 2] = [Readings::Weather, Readings::Magnetic];

    /// Returns the table's name.
    pub fn table(self) -> &'static str {
        match self {
            Readings::Weather => "weather_data",
            Readings::Magnetic => "magnetic_flux_data",
        }
    }
}

/// Readings of a source that are stored in one hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourCount {
    /// The source's number.
    pub(super) source: i64,
    /// The hour, counted from 1970.
    pub(super) hour: i64,
    /// How many more they are.
    pub(super) stored: i64,
    /// The time between them, as the sensor says, milliseconds.
    pub(super) interval_ms: Option<i64>,
}

/// Rows of a table that were added up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    readings: Readings,
    after: i64,
    up_to: i64,
    pub(super) hours: Vec<HourCount>,
    pub(super) rows: i64,
}

impl Counted {
    /// Returns the number of the row that they follow.
    pub fn after(&self) -> i64 {
        self.after
    }

    /// Returns how many rows they are.
    pub fn rows(&self) -> i64 {
        self.rows
    }
}

/// A change of what is known of readings, beside them.
#[derive(Clone, Debug)]
pub enum LedgerChange {
    /// Rows were counted.
    Counted(Counted),
    /// Times of receipt are to be set right.
    SetRight(SetRight),
}

impl LedgerChange {
    /// Returns the bytes that this change occupies in the queue.
    pub fn bytes(&self) -> usize {
        match self {
            LedgerChange::Counted(counted) => counted.hours.len() * size_of::<HourCount>(),
            LedgerChange::SetRight(_) => 0,
        }
    }
}

/// Adds up at most `rows_max` rows of a table that are not counted yet.
pub(super) fn count(connection: &Connection, readings: Readings, rows_max: i64) -> Result<Counted, StoreError> {
    const DOING: &str = "cannot count the readings";
    let after = counted_up_to(connection, readings)?;
    let sql = match readings {
        Readings::Weather => COUNT_WEATHER,
        Readings::Magnetic => COUNT_MAGNETIC,
    };
    let mut statement = connection.prepare_cached(sql).doing(DOING)?;
    let of_row = |row: &Row<'_>| {
        let interval_ms = row.get::<_, Option<i64>>(3)?.filter(|ms| *ms > 0);
        let hour = HourCount { source: row.get(0)?, hour: row.get(1)?, stored: row.get(2)?, interval_ms };
        Ok((hour, row.get::<_, i64>(4)?))
    };
    let mut counted = Counted { readings, after, up_to: after, hours: Vec::new(), rows: 0 };
    for row in statement.query_map([after, rows_max], of_row).doing(DOING)? {
        let (hour, last) = row.doing(DOING)?;
        counted.up_to = counted.up_to.max(last);
        counted.rows += hour.stored;
        counted.hours.push(hour);
    }
    Ok(counted)
}

/// Returns the number of the last row of a table that is counted.
pub(super) fn counted_up_to(connection: &Connection, readings: Readings) -> Result<i64, StoreError> {
    let found = connection.query_row(COUNTED, [readings.table()], |row| row.get(0)).optional();
    found.map(Option::unwrap_or_default).doing("cannot see which readings are counted")
}

/// Makes a change in the transaction that is open.
pub(super) fn apply(connection: &Connection, change: &LedgerChange) -> Result<(), StoreError> {
    match change {
        LedgerChange::Counted(counted) => apply_counted(connection, counted),
        LedgerChange::SetRight(step) => untimed::apply(connection, step),
    }
}

fn apply_counted(connection: &Connection, counted: &Counted) -> Result<(), StoreError> {
    // A transaction in doubt may have been in the file after all.
    if counted_up_to(connection, counted.readings)? != counted.after {
        return Ok(());
    }
    add_hours(connection, counted.hours.iter().copied())?;
    connection
        .prepare_cached(SET_COUNTED)
        .and_then(|mut set| set.execute((counted.readings.table(), counted.up_to)))
        .map(drop)
        .doing("cannot note which readings are counted")
}

/// Adds to the counts of hours.
pub(super) fn add_hours(connection: &Connection, hours: impl IntoIterator<Item = HourCount>) -> Result<(), StoreError> {
    const DOING: &str = "cannot write the counts of readings";
    let mut add = connection.prepare_cached(ADD_HOUR).doing(DOING)?;
    for HourCount { source, hour, stored, interval_ms } in hours {
        add.execute((source, hour, stored, interval_ms)).doing(DOING)?;
    }
    Ok(())
}

/// What the transaction under way adds to `unstored`.
#[derive(Debug, Default)]
pub(super) struct Rejected {
    staged: HashMap<(i64, i64), Count>,
}

impl Rejected {
    /// Notes that a message of a source was rejected.
    pub(super) fn stage(&mut self, source: Option<i64>, ms: i64) {
        let Some(source) = source else { return };
        let place = (source, ms.div_euclid(60_000));
        let known = self.staged.entry(place).or_insert(Count { first_ms: ms, last_ms: ms, count: 0 });
        known.first_ms = known.first_ms.min(ms);
        known.last_ms = known.last_ms.max(ms);
        known.count += 1;
    }

    /// Writes what was staged.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        self.staged.iter().try_for_each(|((source, _), count)| add_unstored(connection, *source, "rejected", *count))
    }

    /// Forgets what was staged: the transaction is over.
    pub(super) fn clear(&mut self) {
        self.staged.clear();
    }
}

/// Writes what found no room in the queue, as far as its sources have numbers.
pub(super) fn write_lost(
    connection: &Connection,
    places: &Places,
    number: impl Fn(&SourceId) -> Option<i64>,
) -> Result<(), StoreError> {
    for ((source, _), count) in places {
        if let Some(source) = number(source) {
            add_unstored(connection, source, "lost", *count)?;
        }
    }
    Ok(())
}

fn add_unstored(connection: &Connection, source: i64, cause: &str, count: Count) -> Result<(), StoreError> {
    const DOING: &str = "cannot note what was not stored";
    let Count { first_ms, last_ms, count } = count;
    let messages = i64::try_from(count).unwrap_or(i64::MAX);
    let values = (source, first_ms.div_euclid(60_000), cause, first_ms, last_ms, messages);
    let id: i64 = connection
        .prepare_cached(ADD_UNSTORED)
        .and_then(|mut add| add.query_row(values, |row| row.get(0)))
        .doing(DOING)?;
    if id > UNSTORED_MAX {
        let mut forget = connection.prepare_cached(FORGET_UNSTORED).doing(DOING)?;
        forget.execute([id - UNSTORED_MAX]).doing(DOING)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    #[test]
    fn old_and_new_rows_are_counted_once_in_small_steps_and_by_row_number() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        connection
            .execute_batch(
                "INSERT INTO weather_data(timestamp, created_at, sample_interval) VALUES
                   (1, '2025-10-03 08:00:01', 5000), (2, '2025-10-03 08:59:59', 6000), (3, '2025-10-03 09:00:00', NULL);
                 INSERT INTO weather_data(timestamp, created_at, source_id, received_ms) VALUES
                   (1, '2025-10-03 08:00:01', 7, 1759478401000);",
            )
            .unwrap();
        for (rows, again) in [(3, true), (1, false), (0, false)] {
            let counted = count(&connection, Readings::Weather, 3).unwrap();
            assert_eq!(counted.rows, rows);
            apply(&connection, &LedgerChange::Counted(counted.clone())).unwrap();
            if again {
                apply(&connection, &LedgerChange::Counted(counted)).unwrap();
            }
        }
        let mut statement =
            connection.prepare("SELECT source_id, hour, stored, interval_ms FROM hour_count ORDER BY 1, 2").unwrap();
        let rows: Vec<(i64, i64, i64, Option<i64>)> = statement
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let hour = 1_759_478_400 / 3600;
        assert_eq!(rows, [(0, hour, 2, Some(6000)), (0, hour + 1, 1, None), (7, hour, 1, None)]);
        for (sql, words) in [
            (COUNT_WEATHER, "SEARCH weather_data USING INTEGER PRIMARY KEY (rowid>?)"),
            (COUNT_MAGNETIC, "SEARCH magnetic_flux_data USING INTEGER PRIMARY KEY (rowid>?)"),
        ] {
            let plan = super::super::plan(&connection, sql);
            assert!(plan.contains(words), "{plan}");
        }
    }

    #[test]
    fn what_came_in_vain_is_one_row_for_each_source_and_minute() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let mut rejected = Rejected::default();
        for ms in [60_500, 60_100, 119_999, 120_000] {
            rejected.stage(Some(3), ms);
        }
        rejected.stage(None, 60_000);
        for _ in 0..2 {
            rejected.write(&connection).unwrap();
        }
        let row: (i64, i64, i64, i64) = connection
            .query_row("SELECT count(*), min(first_ms), max(last_ms), sum(messages) FROM unstored", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        assert_eq!(row, (2, 60_100, 120_000, 8));
    }
}
