//! Raw rows in the order of time, folded into summaries.
//!
//! Owns the statements that read raw rows for the rollups, each of them over a range of an index. It never keeps rows: they
//! stream by, and what is kept of them is bounded.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use super::fold::{Seen, counter};
use super::{HOUR_S, Series, Summary, quantities};
use crate::reading::{Kind, Quantity};
use crate::store::error::{Doing, StoreError};
use crate::weather::calibration::Sensors;
use crate::weather::counter::{Counter, Step};

const DOING: &str = "cannot read the readings for the rollups";
/// How far back a count's values before a time are looked for, seconds.
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
    " ORDER BY timestamp DESC, id DESC LIMIT 5"
);
/// The same among the last rows of all sources alone, for those who wait for the answer.
const NEAR_BEFORE: &str = concat!(
    "SELECT * FROM (SELECT coalesce(source_id, 0) AS source, CAST(timestamp AS INTEGER) AS time_s, id, ",
    weather_columns!(),
    " FROM weather_data WHERE timestamp >= ?1 AND timestamp < ?2 AND NOT ",
    odd!(),
    " ORDER BY timestamp DESC, id DESC LIMIT 5000) WHERE source = ?3 ORDER BY time_s DESC, id DESC LIMIT 5"
);
const ODD_BEFORE: &str = concat!(
    "SELECT coalesce(source_id, 0), received_ms / 1000, id, ",
    weather_columns!(),
    " FROM weather_data WHERE created_at >= ?1 AND created_at < ?2 AND coalesce(source_id, 0) = ?3 AND ",
    odd!(),
    " ORDER BY created_at DESC, id DESC LIMIT 5"
);

/// What was found: for each series and time, its summary.
pub(in crate::store) type Found = BTreeMap<(Series, i64), Summary>;

/// How much may be found and read; where there is more, nothing is returned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Most {
    /// Rows of the kind.
    pub(in crate::store) rows: usize,
    /// Summaries.
    pub(in crate::store) summaries: usize,
    /// Whether a count's values before the time are looked for as far back as they may lie, among all rows there.
    pub(in crate::store) looks_far: bool,
}

impl Most {
    /// What a step may find and read before a smaller one is tried.
    pub(super) const OF_A_STEP: Most = Most { rows: 400_000, summaries: 20_000, looks_far: true };
    /// All that there is.
    pub(super) const ALL: Most = Most { rows: usize::MAX, summaries: usize::MAX, looks_far: true };
}

/// Which readings are folded, and what is known of the sensors.
#[derive(Clone, Copy)]
pub(in crate::store) struct Of<'a> {
    pub(in crate::store) kind: Kind,
    /// Of these sources alone.
    pub(in crate::store) sources: Option<&'a [i64]>,
    pub(in crate::store) sensors: &'a Sensors,
}

/// Returns the time of the next reading at or after this one, Unix seconds.
pub(in crate::store) fn next_s(connection: &Connection, kind: Kind, from_s: i64) -> Result<Option<i64>, StoreError> {
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
pub(in crate::store) fn fold(
    connection: &Connection,
    of: Of<'_>,
    from_s: i64,
    to_s: i64,
    most: Most,
    bucket: impl Fn(i64) -> i64,
) -> Result<Option<Found>, StoreError> {
    let Of { kind, sources, sensors } = of;
    let mut found = Found::new();
    let mut counters: HashMap<i64, Counters> = HashMap::new();
    let sql = if kind == Kind::Weather { WEATHER } else { FLUX };
    let mut statement = connection.prepare_cached(sql).doing(DOING)?;
    let mut rows = statement.query((from_s, to_s, created_at(from_s), created_at(to_s))).doing(DOING)?;
    let mut count = 0;
    while let Some(row) = rows.next().doing(DOING)? {
        count += 1;
        if count > most.rows || found.len() > most.summaries {
            return Ok(None);
        }
        let (Some(source), Some(time_s)) = (whole(row, 0), whole(row, 1)) else { continue };
        if sources.is_some_and(|sources| !sources.contains(&source)) {
            continue;
        }
        if let std::collections::hash_map::Entry::Vacant(entry) = counters.entry(source) {
            entry.insert(Counters::warm(connection, of, source, from_s, most.looks_far)?);
        }
        let Some(counters) = counters.get_mut(&source) else { continue };
        for (place, &quantity) in quantities(kind).iter().enumerate() {
            let Some(value) = real(row, place + 3) else { continue };
            let counted = counters.next(quantity, time_s, value).map(|step| Seen::Count(time_s, step));
            let Some(seen) = counted.or_else(|| Seen::value(quantity, value, &sensors.vane)) else { continue };
            found.entry(((source, quantity), bucket(time_s))).or_default().add(seen);
        }
    }
    Ok(Some(found))
}

/// The time of a reading, and its values.
type Before = (i64, Vec<(Quantity, f64)>);

/// The counters of a source.
struct Counters(Vec<(Quantity, Counter)>);

impl Counters {
    /// Makes them as they are after the last values before a time.
    fn warm(
        connection: &Connection,
        of: Of<'_>,
        source: i64,
        time_s: i64,
        looks_far: bool,
    ) -> Result<Counters, StoreError> {
        let Of { kind, sensors, .. } = of;
        let counted = quantities(kind).iter().filter_map(|&quantity| Some((quantity, counter(quantity, sensors)?)));
        let mut counters = Counters(counted.collect());
        if counters.0.is_empty() {
            return Ok(counters);
        }
        let values = |row: &Row<'_>| {
            let read = |(place, quantity): (usize, &Quantity)| Some((*quantity, real(row, place + 3)?));
            let values: Vec<(Quantity, f64)> = quantities(kind).iter().enumerate().filter_map(read).collect();
            Ok((whole(row, 1).unwrap_or(time_s), values))
        };
        let read = || -> rusqlite::Result<Vec<Before>> {
            let own = (time_s.saturating_sub(BEFORE_MAX_S), time_s, source);
            let sql = if looks_far { BEFORE } else { NEAR_BEFORE };
            let found: Vec<_> = connection.prepare_cached(sql)?.query_map(own, values)?.collect::<Result<_, _>>()?;
            if !found.is_empty() {
                return Ok(found);
            }
            let received = (created_at(time_s.saturating_sub(ODD_BEFORE_MAX_S)), created_at(time_s), source);
            connection.prepare_cached(ODD_BEFORE)?.query_map(received, values)?.collect()
        };
        // The newest comes first.
        for (time_s, values) in read().doing(DOING)?.into_iter().rev() {
            for (quantity, value) in values {
                counters.next(quantity, time_s, value);
            }
        }
        Ok(counters)
    }

    /// Takes a value; `None` where its quantity is no count.
    fn next(&mut self, quantity: Quantity, time_s: i64, value: f64) -> Option<Step> {
        let (_, counter) = self.0.iter_mut().find(|(other, _)| *other == quantity)?;
        Some(counter.next(time_s, value))
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
