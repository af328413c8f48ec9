//! Repeats: a sample that its sensor sends again as a message of its own, where MQTT cannot tell.
//!
//! Owns which samples of a source are remembered, and when the database is asked. A sample is known by its source, the time
//! that its sensor gave it, and its values; one without a time of its own is never a repeat, nor is one of a sensor that samples
//! more often than its seconds can tell. A sample that is newer than any
//! of its source costs a comparison; one of a second that is remembered, a look at its digests. Only late ones ask the
//! database, once for each second. Of one second at most [`DIGESTS_MAX`] samples are remembered, and [`ROWS_MAX`] rows looked
//! at: beyond, a repeat may be stored twice, never lost.

use std::collections::HashMap;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Doing, StoreError};
use crate::clock::CLOCK_SET_MS;
use crate::reading::{Marks, Number, Reading, Sample, Weather};

/// Samples of one second of a source that are remembered.
const DIGESTS_MAX: usize = 16;
/// Rows of one second, of whatever source, that are looked at.
const ROWS_MAX: i64 = 64;
/// The time between samples from which on the seconds of their times tell them apart, milliseconds.
const INTERVAL_MS_MIN: f64 = 1_000.0;
/// Columns that make a sample, beside its time.
const VALUES: usize = 8;
/// Other programs may have written times that are no whole numbers, which sort above all that are.
const NEWEST: &str =
    "SELECT timestamp FROM weather_data WHERE timestamp <= 9223372036854775807 ORDER BY timestamp DESC LIMIT 1";
/// Of all rows of the second only the newest are looked at, so that a time that always stays the same costs no scan.
const AT: &str =
    "SELECT * FROM (SELECT source_id, sample_interval, temperature, humidity, pressure, irradiance, wind_direction,
    rain_gauge_count, anemometer_count FROM weather_data WHERE timestamp = ?1 ORDER BY id DESC LIMIT ?2)
  WHERE source_id = ?3 LIMIT ?4";

/// The samples of one second of a source.
#[derive(Debug, Default)]
struct Second {
    at: i64,
    digests: Vec<u64>,
}

#[derive(Debug, Default)]
struct Source {
    newest: Option<Second>,
    /// The second before the newest that was asked for last.
    late: Option<Second>,
}

/// What is remembered of the newest samples, by the sources' numbers, which are bounded.
#[derive(Debug)]
pub(super) struct Repeats {
    sources: HashMap<i64, Source>,
    /// No sample is stored that is newer, but for those of `sources`.
    newest: i64,
}

/// Returns a time as whole seconds, rounded up.
fn whole(value: ValueRef<'_>) -> rusqlite::Result<i64> {
    #[allow(clippy::cast_possible_truncation, reason = "a time beyond the range is as good as the last one within it")]
    Ok(match value {
        ValueRef::Integer(whole) => whole,
        ValueRef::Real(real) => real.ceil() as i64,
        _ => i64::MIN,
    })
}

impl Repeats {
    /// Begins with what the database holds.
    pub(super) fn load(connection: &Connection) -> Result<Repeats, StoreError> {
        let newest: Option<i64> = connection
            .query_row(NEWEST, [], |row| whole(row.get_ref(0)?))
            .optional()
            .doing("cannot read the readings")?;
        Ok(Repeats { sources: HashMap::new(), newest: newest.unwrap_or(i64::MIN) })
    }

    /// Tells whether a reading repeats one that is stored, and remembers it where it does not.
    pub(super) fn knows(
        &mut self,
        connection: &Connection,
        source: Option<i64>,
        reading: &Reading,
    ) -> Result<bool, StoreError> {
        let (Some(number), Sample::Weather(weather)) = (source, &reading.sample) else { return Ok(false) };
        let is_quick = weather.sample_interval.is_some_and(|interval| interval.as_real() < INTERVAL_MS_MIN);
        // A clock that stands still, or was never set, tells no samples apart.
        let is_odd = reading.marks.has(Marks::TIME_SKEWED) && weather.timestamp < CLOCK_SET_MS / 1000;
        if is_quick || is_odd || reading.marks.has(Marks::TIME_MISSING) {
            return Ok(false);
        }
        let (at, digest) = (weather.timestamp, digest(weather));
        let source = self.sources.entry(number).or_default();
        let newest = source.newest.as_ref().map_or(self.newest, |second| second.at);
        if at > newest {
            source.newest = Some(Second { at, digests: vec![digest] });
            return Ok(false);
        }
        let second = match (&mut source.newest, &mut source.late) {
            (Some(second), _) if second.at == at => second,
            (_, Some(second)) if second.at == at => second,
            (_, late) => late.insert(Second { at, digests: stored(connection, number, at)? }),
        };
        let known = second.digests.contains(&digest);
        if !known {
            if second.digests.len() >= DIGESTS_MAX {
                second.digests.remove(0);
            }
            second.digests.push(digest);
        }
        Ok(known)
    }

    /// Forgets what is remembered, as some of it was rolled back: the database is asked anew.
    pub(super) fn rolled_back(&mut self) {
        let newest = self.sources.drain().filter_map(|(_, source)| source.newest).map(|second| second.at).max();
        self.newest = self.newest.max(newest.unwrap_or(i64::MIN));
    }
}

/// Reads the samples of one second of a source.
fn stored(connection: &Connection, source: i64, at: i64) -> Result<Vec<u64>, StoreError> {
    const DOING: &str = "cannot see whether a reading is stored";
    let mut statement = connection.prepare_cached(AT).doing(DOING)?;
    let rows = statement.query_map((at, ROWS_MAX, source, DIGESTS_MAX as i64), digest_of_row).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

fn digest(weather: &Weather) -> u64 {
    let real = |number: Option<Number>| Value::real(number.map(Number::as_real));
    digest_of([
        Value::whole(weather.sample_interval),
        real(weather.temperature),
        real(weather.humidity),
        real(weather.pressure),
        real(weather.irradiance),
        Value::whole(weather.wind_direction),
        Value::whole(weather.rain_gauge_count),
        Value::whole(weather.anemometer_count),
    ])
}

fn digest_of_row(row: &Row<'_>) -> rusqlite::Result<u64> {
    let mut values = [Value::default(); VALUES];
    for (index, value) in values.iter_mut().enumerate() {
        *value = match row.get_ref(index + 1)? {
            ValueRef::Integer(number) => Value::whole(Some(Number::Int(number))),
            ValueRef::Real(number) => Value::real(Some(number)),
            _ => Value::default(),
        };
    }
    Ok(digest_of(values))
}

/// A value as the database holds it, whatever its sensor called it: 0 for none, 1 for a whole one, 2 for one with a fraction.
#[derive(Clone, Copy, Default)]
struct Value {
    kind: u8,
    bits: u64,
}

impl Value {
    fn real(number: Option<f64>) -> Value {
        // Minus nought is nought.
        number.map_or(Value::default(), |number| Value { kind: 2, bits: (number + 0.0).to_bits() })
    }

    /// A column of whole numbers keeps one with a fraction as it is.
    #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
    fn whole(number: Option<Number>) -> Value {
        match number {
            Some(Number::Int(number)) => Value { kind: 1, bits: number.cast_unsigned() },
            Some(Number::Real(number)) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
                Value { kind: 1, bits: (number as i64).cast_unsigned() }
            }
            other => Value::real(other.map(Number::as_real)),
        }
    }
}

fn digest_of(values: [Value; VALUES]) -> u64 {
    let mut bytes = [0; VALUES * 9];
    for (place, value) in bytes.chunks_exact_mut(9).zip(values) {
        place[0] = value.kind;
        place[1..].copy_from_slice(&value.bits.to_le_bytes());
    }
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    fn sample(timestamp: i64, temperature: f64) -> Weather {
        Weather {
            timestamp,
            temperature: Some(Number::Real(temperature)),
            humidity: Some(Number::Int(61)),
            wind_direction: Some(Number::Real(96.0)),
            sample_interval: Some(Number::Real(5_000.5)),
            ..Weather::default()
        }
    }

    fn of(weather: Weather) -> Reading {
        Reading { sample: Sample::Weather(weather), marks: Marks::default() }
    }

    fn open(dir: &tempfile::TempDir) -> Connection {
        super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap()
    }

    fn insert(connection: &Connection, source: i64, weather: &Weather) {
        connection
            .execute(
                "INSERT INTO weather_data(source_id, timestamp, temperature, humidity, wind_direction, sample_interval)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                rusqlite::params![
                    source,
                    weather.timestamp,
                    weather.temperature,
                    weather.humidity,
                    weather.wind_direction,
                    weather.sample_interval
                ],
            )
            .unwrap();
    }

    #[test]
    fn a_sample_is_known_in_memory_and_after_a_restart_and_another_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir);
        let mut repeats = Repeats::load(&connection).unwrap();
        for (at, temperature, known) in
            [(5, 1.0, false), (5, 1.0, true), (5, 2.0, false), (6, 1.0, false), (6, 1.0, true)]
        {
            let reading = of(sample(at, temperature));
            assert_eq!(repeats.knows(&connection, Some(1), &reading).unwrap(), known, "{at} {temperature}");
            if !known {
                insert(&connection, 1, &sample(at, temperature));
            }
        }
        for _ in 0..2 {
            let mut knows = |source, weather| repeats.knows(&connection, source, &of(weather)).unwrap();
            assert!(knows(Some(1), sample(6, 1.0)) && knows(Some(1), sample(5, 2.0)));
            assert!(!knows(Some(2), sample(6, 1.5)), "another source");
            assert!(!knows(None, sample(6, 1.0)), "a source without a number");
            repeats = Repeats::load(&connection).unwrap();
        }
        let quick = Weather { sample_interval: Some(Number::Int(999)), ..sample(6, 1.0) };
        insert(&connection, 1, &quick);
        assert!(!repeats.knows(&connection, Some(1), &of(quick)).unwrap(), "ten in a second may be the same");
        let timeless = Reading { marks: Marks::TIME_MISSING, ..of(sample(6, 1.0)) };
        assert!(!repeats.knows(&connection, Some(1), &timeless).unwrap());
    }

    #[test]
    fn a_rollback_forgets_what_it_undid() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir);
        let mut repeats = Repeats::load(&connection).unwrap();
        for _ in 0..2 {
            assert!(!repeats.knows(&connection, Some(1), &of(sample(5, 1.0))).unwrap());
            repeats.rolled_back();
        }
        assert!(!repeats.knows(&connection, Some(1), &of(sample(5, 1.0))).unwrap());
        assert!(repeats.knows(&connection, Some(1), &of(sample(5, 1.0))).unwrap());
    }

    #[test]
    fn the_database_is_asked_by_an_index_and_for_a_few_rows_alone() {
        let dir = tempfile::tempdir().unwrap();
        let connection = open(&dir);
        for (sql, words) in [(NEWEST, "idx_weather_timestamp"), (AT, "idx_weather_timestamp (timestamp=?)")] {
            let plan = super::super::plan(&connection, sql);
            assert!(plan.contains(words) && !plan.contains("SCAN weather_data\n") && !plan.contains("TEMP"), "{plan}");
        }
        let mut repeats = Repeats::load(&connection).unwrap();
        for number in 0..1000 {
            assert!(!repeats.knows(&connection, Some(1), &of(sample(7, f64::from(number)))).unwrap());
        }
        let bounded =
            repeats.sources.values().all(|source| source.newest.as_ref().unwrap().digests.len() <= DIGESTS_MAX);
        assert!(bounded);
    }
}
