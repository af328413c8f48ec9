//! What charts ask: the latest readings, raw readings of a time, hours and days of a quantity.
//!
//! Owns these questions, each of them over a range of an index and with a limit, whatever the size of the database. It
//! never writes, and converts nothing: counts stay counts.

use std::collections::BTreeMap;
use std::ops::Range;

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row};
use serde::Serialize;

use super::error::{Doing, StoreError};
use super::reader::Reader;
use super::rollup::raw::{FLUX, WEATHER, created_at};
use super::rollup::{self, Days, HOUR_S, Summary, quantities};
use crate::reading::{Kind, Quantity};
use crate::weather::calibration::Sensors;

const DOING: &str = "cannot read readings";
/// How many of the newest rows are looked at for each source's latest.
const NEWEST_MAX: u32 = 2_000;
/// Hours or days of a quantity, at most: of hours more than a year, of days more than a century.
const ROLLED_MAX: u32 = 40_000;
/// Sources whose latest reading is looked for further back, at most.
const SOURCES_MAX: u32 = 4_096;

/// The newest rows.
pub const NEWEST_WEATHER: &str = "SELECT coalesce(source_id, 0), timestamp, id, temperature, humidity, pressure,
  irradiance, wind_direction, rain_gauge_count, anemometer_count FROM weather_data
  WHERE id > (SELECT max(id) FROM weather_data) - ?1 ORDER BY id DESC";
/// The newest rows.
pub const NEWEST_FLUX: &str = "SELECT coalesce(source_id, 0), unixepoch(created_at), id, x, y, z
  FROM magnetic_flux_data WHERE id > (SELECT max(id) FROM magnetic_flux_data) - ?1 ORDER BY id DESC";
/// Raw readings of a time, by the sensor's clock.
pub const RAW_WEATHER: &str = WEATHER;
/// Raw readings of a time, by the hub's clock.
pub const RAW_FLUX: &str = FLUX;
/// The hours of a quantity.
pub const HOURLY: &str = "SELECT hour, count, minimum, maximum, sum, sum_sin, sum_cos, resets, seconds FROM rollup_hour
  WHERE source_id = ?1 AND quantity = ?2 AND hour >= ?3 AND hour < ?4 ORDER BY hour LIMIT ?5";
/// The days of a quantity.
pub const DAILY: &str = "SELECT day, count, minimum, maximum, sum, sum_sin, sum_cos, resets, seconds FROM rollup_day
  WHERE source_id = ?1 AND quantity = ?2 AND day BETWEEN ?3 AND ?4 ORDER BY day LIMIT ?5";
const SOURCES: &str = "SELECT id FROM source ORDER BY id LIMIT ?1";
const NAMED: &str = "SELECT id, topic, rhythm_ms FROM source ORDER BY id LIMIT ?1";
const FIRST_HOUR: &str = "SELECT min(hour) FROM rollup_hour WHERE source_id = ?1 AND quantity = ?2";
const LAST_HOUR: &str = "SELECT max(hour) FROM rollup_hour WHERE source_id = ?1 AND quantity = ?2";

/// A reading as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Raw {
    /// The number of its source; 0 for a row without one.
    pub source: i64,
    /// The time that it counts for, Unix seconds.
    pub time_s: i64,
    /// The number of its row.
    pub id: i64,
    /// The values, in the order of [`Quantity::ALL`] for its kind; `None` for what is no number.
    pub values: Vec<Option<f64>>,
}

/// A source of readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    /// Its number.
    pub id: i64,
    /// Its topic.
    pub topic: String,
    /// The usual time between its readings, seconds, where it is known.
    pub usual_s: Option<f64>,
}

/// What the readings of a time came to, for each quantity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summaries([Option<Summary>; Quantity::ALL.len()]);

/// Times by their beginnings, Unix seconds, and what they came to.
pub type Buckets = BTreeMap<i64, Summaries>;

impl Summaries {
    /// Makes them of one reading; counts, which are differences, come to nothing.
    pub fn of_reading(kind: Kind, values: &[Option<f64>], sensors: &Sensors) -> Summaries {
        let mut summaries = Summaries::default();
        for (&quantity, value) in quantities(kind).iter().zip(values) {
            if let Some(value) = value {
                summaries.0[quantity as usize] = Summary::of_value(quantity, *value, sensors);
            }
        }
        summaries
    }

    /// Returns what a quantity came to.
    pub fn of(&self, quantity: Quantity) -> Option<&Summary> {
        self.0[quantity as usize].as_ref()
    }

    /// Adds what a quantity came to in another time, or at another source.
    pub fn add(&mut self, quantity: Quantity, summary: &Summary) {
        self.0[quantity as usize].get_or_insert_default().merge(summary);
    }

    /// Adds all of another time.
    pub fn merge(&mut self, other: &Summaries) {
        for quantity in Quantity::ALL {
            if let Some(summary) = other.of(quantity) {
                self.add(quantity, summary);
            }
        }
    }
}

/// What an hour or a day came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Rolled<T> {
    /// Which: an hour's beginning, Unix seconds, or a day's date.
    pub time: T,
    /// What it came to.
    pub summary: Summary,
}

impl Reader {
    /// Returns the latest reading of each source of a kind.
    ///
    /// # Errors
    /// SQLite's.
    pub fn latest(&self, kind: Kind) -> Result<Vec<Raw>, StoreError> {
        let sql = if kind == Kind::Weather { NEWEST_WEATHER } else { NEWEST_FLUX };
        let mut latest: Vec<Raw> = Vec::new();
        let mut statement = self.statement(sql)?;
        let newest = statement.query_map([NEWEST_MAX], |row| raw(row, kind)).doing(DOING)?;
        for row in newest {
            let row = row.doing(DOING)?;
            if !latest.iter().any(|other| other.source == row.source) {
                latest.push(row);
            }
        }
        let sources: Vec<i64> = self
            .statement(SOURCES)?
            .query_map([SOURCES_MAX], |row| row.get(0))
            .and_then(Iterator::collect)
            .doing(DOING)?;
        for source in std::iter::once(0).chain(sources) {
            if !latest.iter().any(|other| other.source == source) {
                latest.extend(self.last_of(kind, source)?);
            }
        }
        Ok(latest)
    }

    /// Returns the last reading of a source that has been silent for long: rollups say in which hour to look.
    fn last_of(&self, kind: Kind, source: i64) -> Result<Option<Raw>, StoreError> {
        let mut last: Option<i64> = None;
        for quantity in quantities(kind) {
            let hour: Option<i64> =
                self.statement(LAST_HOUR)?.query_row((source, quantity.name()), |row| row.get(0)).doing(DOING)?;
            last = last.max(hour);
        }
        let Some(hour) = last else { return Ok(None) };
        let mut last = None;
        self.each_raw(kind, Some(source), hour, hour + HOUR_S, |row| {
            last = Some(row);
            true
        })?;
        Ok(last)
    }

    /// Returns the raw readings from one time to another, Unix seconds, of one source or of all, in the order of their
    /// times, at most `limit`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn raw(
        &self,
        kind: Kind,
        source: Option<i64>,
        from_s: i64,
        to_s: i64,
        limit: usize,
    ) -> Result<Vec<Raw>, StoreError> {
        let mut found = Vec::new();
        if limit > 0 {
            self.each_raw(kind, source, from_s, to_s, |row| {
                found.push(row);
                found.len() < limit
            })?;
        }
        Ok(found)
    }

    /// Hands over raw readings one by one for as long as more are wanted.
    fn each_raw(
        &self,
        kind: Kind,
        source: Option<i64>,
        from_s: i64,
        to_s: i64,
        mut take: impl FnMut(Raw) -> bool,
    ) -> Result<(), StoreError> {
        let sql = if kind == Kind::Weather { RAW_WEATHER } else { RAW_FLUX };
        let mut statement = self.statement(sql)?;
        let mut rows = statement.query((from_s, to_s, created_at(from_s), created_at(to_s))).doing(DOING)?;
        while let Some(row) = rows.next().doing(DOING)? {
            if row.get_ref(1).doing(DOING)? == ValueRef::Null {
                continue;
            }
            let row = raw(row, kind).doing(DOING)?;
            if source.is_none_or(|source| source == row.source) && !take(row) {
                break;
            }
        }
        Ok(())
    }

    /// Returns what the hours of a quantity came to that begin from one time to another, Unix seconds, at most `limit`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn hourly(
        &self,
        source: i64,
        quantity: Quantity,
        from_s: i64,
        to_s: i64,
        limit: u32,
    ) -> Result<Vec<Rolled<i64>>, StoreError> {
        let mut statement = self.statement(HOURLY)?;
        let rows = statement.query_map((source, quantity.name(), from_s, to_s, limit), rolled).doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }

    /// Returns what the days of a quantity came to, from one date to another, both as `YYYY-MM-DD` and included, at most
    /// `limit`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn daily(
        &self,
        source: i64,
        quantity: Quantity,
        from: &str,
        to: &str,
        limit: u32,
    ) -> Result<Vec<Rolled<String>>, StoreError> {
        let mut statement = self.statement(DAILY)?;
        let rows = statement.query_map((source, quantity.name(), from, to, limit), rolled).doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }

    /// Returns the sources that have names.
    ///
    /// # Errors
    /// SQLite's.
    pub fn sources(&self) -> Result<Vec<Named>, StoreError> {
        let named = |row: &Row<'_>| {
            let rhythm_ms: Option<f64> = row.get(2)?;
            Ok(Named { id: row.get(0)?, topic: row.get(1)?, usual_s: rhythm_ms.map(|ms| ms / 1_000.0) })
        };
        self.statement(NAMED)?.query_map([SOURCES_MAX], named).and_then(Iterator::collect).doing(DOING)
    }

    /// Returns the time of the first reading of a source that is rolled up; where none is, that of the first of its kind.
    ///
    /// # Errors
    /// SQLite's.
    pub fn first_s(&self, kind: Kind, source: i64) -> Result<Option<i64>, StoreError> {
        let mut first: Option<i64> = None;
        for quantity in quantities(kind) {
            let hour: Option<i64> =
                self.statement(FIRST_HOUR)?.query_row((source, quantity.name()), |row| row.get(0)).doing(DOING)?;
            first = first.into_iter().chain(hour).min();
        }
        match first {
            None => rollup::raw::next_s(&self.connection, kind, 0),
            first => Ok(first),
        }
    }

    /// Folds the raw readings of some sources of a kind over a time, Unix seconds, into the buckets that `bucket` names by their
    /// beginnings; `None` where there are more than `rows_max` of that kind in that time.
    ///
    /// # Errors
    /// SQLite's.
    pub fn folded(
        &self,
        kind: Kind,
        sources: &[i64],
        sensors: &Sensors,
        time: Range<i64>,
        rows_max: usize,
        bucket: impl Fn(i64) -> i64,
    ) -> Result<Option<Buckets>, StoreError> {
        let of = rollup::raw::Of { kind, sources: Some(sources), sensors };
        let most = rollup::raw::Most { rows: rows_max, summaries: usize::MAX, looks_far: false };
        let found = rollup::raw::fold(&self.connection, of, time.start, time.end, most, bucket)?;
        Ok(found.map(|found| {
            let mut buckets = Buckets::new();
            for (((_, quantity), time_s), summary) in found {
                buckets.entry(time_s).or_default().add(quantity, &summary);
            }
            buckets
        }))
    }

    /// Returns the times of the first raw readings of some sources within a time, Unix seconds, at most `limit`.
    ///
    /// # Errors
    /// SQLite's.
    pub fn times(&self, kind: Kind, sources: &[i64], time: Range<i64>, limit: usize) -> Result<Vec<i64>, StoreError> {
        let mut times = Vec::new();
        self.each_raw(kind, None, time.start, time.end, |row| {
            if sources.contains(&row.source) {
                times.push(row.time_s);
            }
            times.len() < limit
        })?;
        Ok(times)
    }

    /// Returns what the hours of some sources came to that begin within a time, Unix seconds.
    ///
    /// # Errors
    /// SQLite's.
    pub fn hours(&self, sources: &[i64], quantities: &[Quantity], time: Range<i64>) -> Result<Buckets, StoreError> {
        let mut buckets = Buckets::new();
        for &source in sources {
            for &quantity in quantities {
                for hour in self.hourly(source, quantity, time.start, time.end, ROLLED_MAX)? {
                    buckets.entry(hour.time).or_default().add(quantity, &hour.summary);
                }
            }
        }
        Ok(buckets)
    }

    /// Returns what the days of some sources came to that a time touches, Unix seconds.
    ///
    /// # Errors
    /// SQLite's.
    pub fn days(
        &self,
        sources: &[i64],
        quantities: &[Quantity],
        days: &Days,
        time: Range<i64>,
    ) -> Result<Buckets, StoreError> {
        let mut buckets = Buckets::new();
        let (first, last) = (days.date(time.start), days.date(time.end - 1));
        for &source in sources {
            for &quantity in quantities {
                for day in self.daily(source, quantity, &first, &last, ROLLED_MAX)? {
                    if let Some(begin_s) = days.begin(&day.time) {
                        buckets.entry(begin_s).or_default().add(quantity, &day.summary);
                    }
                }
            }
        }
        Ok(buckets)
    }

    fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        self.connection.prepare_cached(sql).doing(DOING)
    }
}

fn raw(row: &Row<'_>, kind: Kind) -> rusqlite::Result<Raw> {
    let values = (3..3 + quantities(kind).len()).map(|column| rollup::raw::real(row, column)).collect();
    Ok(Raw { source: row.get(0)?, time_s: row.get(1)?, id: row.get(2)?, values })
}

fn rolled<T: rusqlite::types::FromSql>(row: &Row<'_>) -> rusqlite::Result<Rolled<T>> {
    Ok(Rolled { time: row.get(0)?, summary: rollup::summary(row, 1)? })
}
