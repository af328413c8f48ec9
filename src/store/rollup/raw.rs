//! Raw rows in the order of time, folded into summaries.
//!
//! Owns the statements that read raw rows for the rollups, each of them over a range of an index. It never keeps rows: they
//! stream by, and what is kept of them is bounded.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};

use super::fold::{Point, is_count};
use super::{HOUR_S, Series, Summary, quantities};
use crate::reading::{Kind, Quantity};
use crate::store::error::{Doing, StoreError};

const DOING: &str = "cannot read the readings for the rollups";
/// What a step may find and read before a smaller one is tried.
const SUMMARIES_MAX: usize = 20_000;
const ROWS_MAX: usize = 400_000;
/// How far back a count's value before a time is looked for, seconds.
const BEFORE_MAX_S: i64 = 30 * 24 * HOUR_S;
const ODD_BEFORE_MAX_S: i64 = 2 * HOUR_S;
/// The times that `created_at` can say.
const TEXT_FROM_S: i64 = -62_135_596_800;
const TEXT_TO_S: i64 = 253_402_300_799;

/// Rows whose own time is not taken: see `own_time_s`.
macro_rules! odd {
    () => {
        "(coalesce(marks, 0) & 2 AND (timestamp < 1577836800 OR timestamp > received_ms / 1000))"
    };
}
pub(in crate::store) use odd;

macro_rules! weather_columns {
    () => {
        "temperature, humidity, pressure, irradiance, wind_direction, rain_gauge_count, anemometer_count"
    };
}

/// By the sensor's time; where that is odd, by the time of receipt.
pub(in crate::store) const WEATHER: &str = concat!(
    "SELECT coalesce(source_id, 0), CAST(timestamp AS INTEGER), id, ",
    weather_columns!(),
    " FROM weather_data WHERE timestamp >= ?1 AND timestamp < ?2 AND NOT ",
    odd!(),
    " UNION ALL SELECT coalesce(source_id, 0), received_ms / 1000, id, ",
    weather_columns!(),
    " FROM weather_data WHERE created_at >= ?3 AND created_at < ?4 AND ",
    odd!(),
    " ORDER BY 2, 3"
);
pub(in crate::store) const FLUX: &str =
    "SELECT coalesce(source_id, 0), unixepoch(created_at), id, x, y, z FROM magnetic_flux_data
  WHERE ?1 < ?2 AND created_at >= ?3 AND created_at < ?4 ORDER BY created_at, id";
/// Notes the hour of one row, which is late wherever it came from.
pub(super) const NOTE_WEATHER: &str = concat!(
    "INSERT INTO rollup_late(kind, hour, times)
       SELECT 'weather', iif(",
    odd!(),
    ", received_ms / 1000, timestamp) / 3600 * 3600, 1 FROM weather_data WHERE id = ?1
     ON CONFLICT (kind, hour) DO UPDATE SET times = times + 1"
);
pub(super) const NOTE_FLUX: &str = "INSERT INTO rollup_late(kind, hour, times)
    SELECT 'magnetic', unixepoch(created_at) / 3600 * 3600, 1 FROM magnetic_flux_data
    WHERE id = ?1 AND unixepoch(created_at) IS NOT NULL
  ON CONFLICT (kind, hour) DO UPDATE SET times = times + 1";
const WEATHER_NEXT: &str = "SELECT CAST(min(timestamp) AS INTEGER) FROM weather_data WHERE timestamp >= ?1";
const WEATHER_NEXT_RECEIVED: &str = "SELECT unixepoch(min(created_at)) FROM weather_data WHERE created_at >= ?1";
const FLUX_NEXT: &str = "SELECT unixepoch(min(created_at)) FROM magnetic_flux_data WHERE created_at >= ?1";
const BEFORE: &str = concat!(
    "SELECT coalesce(source_id, 0), CAST(timestamp AS INTEGER), id, ",
    weather_columns!(),
    " FROM weather_data WHERE timestamp >= ?1 AND timestamp < ?2 AND coalesce(source_id, 0) = ?3 AND NOT ",
    odd!(),
    " ORDER BY timestamp DESC, id DESC LIMIT 1"
);
const ODD_BEFORE: &str = concat!(
    "SELECT coalesce(source_id, 0), received_ms / 1000, id, ",
    weather_columns!(),
    " FROM weather_data WHERE created_at >= ?1 AND created_at < ?2 AND coalesce(source_id, 0) = ?3 AND ",
    odd!(),
    " ORDER BY created_at DESC, id DESC LIMIT 1"
);

/// What was found: for each series and time, its summary.
pub(super) type Found = BTreeMap<(Series, i64), Summary>;

/// How much may be found and read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Most {
    /// As much as fits a step; where there is more, nothing is returned.
    OfAStep,
    /// All that there is.
    All,
}

/// Returns the time of the next reading at or after this one, Unix seconds.
pub(super) fn next_s(connection: &Connection, kind: Kind, from_s: i64) -> Result<Option<i64>, StoreError> {
    let received = |sql: &str| -> rusqlite::Result<Option<i64>> {
        connection.prepare_cached(sql)?.query_row([created_at(from_s)], |row| row.get(0))
    };
    let read = || -> rusqlite::Result<Option<i64>> {
        match kind {
            Kind::Magnetic => received(FLUX_NEXT),
            Kind::Weather => {
                let mut by_sensor = connection.prepare_cached(WEATHER_NEXT)?;
                let by_sensor = by_sensor.query_row([from_s], |row| Ok(whole(row, 0)))?;
                Ok(by_sensor.into_iter().chain(received(WEATHER_NEXT_RECEIVED)?).min())
            }
        }
    };
    read().doing(DOING)
}

/// Folds the readings from one time to another into summaries, each for the time that `bucket` says; `None` where that is more
/// than allowed.
pub(super) fn fold(
    connection: &Connection,
    kind: Kind,
    from_s: i64,
    to_s: i64,
    most: Most,
    bucket: impl Fn(i64) -> i64,
) -> Result<Option<Found>, StoreError> {
    let mut found = Found::new();
    let mut before: HashMap<i64, Before> = HashMap::new();
    let sql = if kind == Kind::Weather { WEATHER } else { FLUX };
    let mut statement = connection.prepare_cached(sql).doing(DOING)?;
    let mut rows = statement.query((from_s, to_s, created_at(from_s), created_at(to_s))).doing(DOING)?;
    let mut count = 0;
    while let Some(row) = rows.next().doing(DOING)? {
        count += 1;
        if most == Most::OfAStep && (count > ROWS_MAX || found.len() > SUMMARIES_MAX) {
            return Ok(None);
        }
        let (Some(source), Some(time_s)) = (whole(row, 0), whole(row, 1)) else { continue };
        if let std::collections::hash_map::Entry::Vacant(entry) = before.entry(source) {
            entry.insert(Before::of(connection, kind, source, from_s)?);
        }
        let Some(before) = before.get_mut(&source) else { continue };
        for (place, &quantity) in quantities(kind).iter().enumerate() {
            let Some(value) = real(row, place + 3) else { continue };
            let point = Point { time_s, value };
            let summary = found.entry(((source, quantity.name()), bucket(time_s))).or_default();
            summary.add(quantity, point, before.replace(quantity, point));
        }
    }
    Ok(Some(found))
}

/// The last values of a source's counts.
#[derive(Default)]
struct Before {
    rain: Option<Point>,
    wind: Option<Point>,
}

impl Before {
    /// Reads them as they were before a time.
    fn of(connection: &Connection, kind: Kind, source: i64, time_s: i64) -> Result<Before, StoreError> {
        let mut before = Before::default();
        if kind == Kind::Magnetic {
            return Ok(before);
        }
        let last = |row: &Row<'_>| {
            let time_s = whole(row, 1).unwrap_or(time_s);
            let counts = [Quantity::RainGaugeCount, Quantity::AnemometerCount];
            Ok(counts.map(|quantity| {
                let place = quantities(Kind::Weather).iter().position(|other| *other == quantity);
                place.and_then(|place| real(row, place + 3)).map(|value| Point { time_s, value })
            }))
        };
        let read = || {
            let own = (time_s.saturating_sub(BEFORE_MAX_S), time_s, source);
            if let Some(found) = connection.prepare_cached(BEFORE)?.query_row(own, last).optional()? {
                return Ok(Some(found));
            }
            let received = (created_at(time_s.saturating_sub(ODD_BEFORE_MAX_S)), created_at(time_s), source);
            connection.prepare_cached(ODD_BEFORE)?.query_row(received, last).optional()
        };
        if let Some([rain, wind]) = read().doing(DOING)? {
            before = Before { rain, wind };
        }
        Ok(before)
    }

    /// Puts a value in the place of the one before, which it returns.
    fn replace(&mut self, quantity: Quantity, point: Point) -> Option<Point> {
        match quantity {
            Quantity::RainGaugeCount => self.rain.replace(point),
            _ if is_count(quantity) => self.wind.replace(point),
            _ => None,
        }
    }
}

/// Returns the text of `created_at` for a time.
pub(in crate::store) fn created_at(time_s: i64) -> String {
    let time = Timestamp::from_second(time_s.clamp(TEXT_FROM_S, TEXT_TO_S)).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// Returns a number of a row; `None` for what is none, as an old program may have left.
pub(in crate::store) fn real(row: &Row<'_>, column: usize) -> Option<f64> {
    match row.get_ref(column) {
        #[allow(clippy::cast_precision_loss, reason = "no sensor counts that far")]
        Ok(ValueRef::Integer(number)) => Some(number as f64),
        Ok(ValueRef::Real(number)) => Some(number),
        _ => None,
    }
}

fn whole(row: &Row<'_>, column: usize) -> Option<i64> {
    match row.get_ref(column) {
        Ok(ValueRef::Integer(number)) => Some(number),
        _ => None,
    }
}
