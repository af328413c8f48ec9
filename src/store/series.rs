//! What charts ask: the latest readings, raw readings of a time, hours and days of a quantity.
//!
//! Owns these questions, each of them over a range of an index and with a limit, whatever the size of the database. It
//! never writes, and converts nothing: counts stay counts.

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Row};
use serde::Serialize;

use super::error::{Doing, StoreError};
use super::reader::Reader;
use super::rollup::raw::{FLUX, WEATHER, created_at};
use super::rollup::{self, HOUR_S, Summary, quantities};
use crate::reading::{Kind, Quantity};

const DOING: &str = "cannot read readings";
/// How many of the newest rows are looked at for each source's latest.
const NEWEST_MAX: u32 = 2_000;
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
pub const HOURLY: &str = "SELECT hour, count, minimum, maximum, sum, sum_sin, sum_cos, resets FROM rollup_hour
  WHERE source_id = ?1 AND quantity = ?2 AND hour >= ?3 AND hour < ?4 ORDER BY hour LIMIT ?5";
/// The days of a quantity.
pub const DAILY: &str = "SELECT day, count, minimum, maximum, sum, sum_sin, sum_cos, resets FROM rollup_day
  WHERE source_id = ?1 AND quantity = ?2 AND day BETWEEN ?3 AND ?4 ORDER BY day LIMIT ?5";
const SOURCES: &str = "SELECT id FROM source ORDER BY id LIMIT ?1";
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
