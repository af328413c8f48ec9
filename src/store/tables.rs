//! The statements that add a message's rows, for one transaction.
//!
//! Owns the columns of the station's tables and of the quarantine, and how values become them. It never begins or ends a
//! transaction, and knows nothing of what was stored before.

use jiff::Timestamp;
use rusqlite::types::{ToSql, ToSqlOutput};
use rusqlite::{CachedStatement, Connection, params};

use super::error::{Class, Doing, StoreError};
use super::job::{Entry, Incoming, Origin};
use super::outbox::rows;
use crate::reading::{Marks, Number, Reading, Sample};

/// Why a message that the database does not take is in quarantine.
pub(super) const REFUSED: &str = "refused by the database";

/// What a message in quarantine is counted with, bytes, as an SQL expression over its row.
macro_rules! quarantine_bytes {
    () => {
        "256 + octet_length(payload) + octet_length(topic) + octet_length(client_id) + octet_length(detail)"
    };
}
pub(super) use quarantine_bytes;

/// Where a message went.
pub(super) enum Inserted {
    Reading { table: &'static str },
    Quarantined { bytes: i64 },
}

/// The statements of one transaction.
pub(super) struct Tables<'c> {
    weather: CachedStatement<'c>,
    magnetic: CachedStatement<'c>,
    quarantine: CachedStatement<'c>,
    source: CachedStatement<'c>,
    /// `None` where nothing is forwarded.
    outbox: Option<CachedStatement<'c>>,
}

impl<'c> Tables<'c> {
    pub(super) fn prepare(connection: &'c Connection, forwards: bool) -> Result<Tables<'c>, StoreError> {
        let prepare = |sql| connection.prepare_cached(sql).doing("cannot prepare a statement");
        Ok(Tables {
            weather: prepare(
                "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance,
                   wind_direction, rain_gauge_count, anemometer_count, created_at, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?,
            magnetic: prepare(
                "INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?,
            quarantine: prepare(concat!(
                "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 RETURNING ",
                quarantine_bytes!()
            ))?,
            source: prepare("INSERT INTO source(topic, first_seen_ms) VALUES (?1, ?2) RETURNING id")?,
            outbox: forwards.then(|| prepare(rows::INSERT)).transpose()?,
        })
    }

    /// Inserts one message here: a reading into its table, anything else into quarantine.
    pub(super) fn insert(
        &mut self,
        message: &Incoming,
        source: Option<i64>,
        created_at: &mut CreatedAt,
    ) -> Result<Inserted, StoreError> {
        let reading = match &message.entry {
            Entry::Reading(reading) => reading,
            Entry::Rejected { reason, detail } => return self.reject(message, reason, detail),
            Entry::Passing => return self.reject(message, REFUSED, "the outbox does not take it"),
        };
        let inserted = self.insert_reading(reading, source, &message.origin, created_at);
        match inserted.doing("cannot insert a reading") {
            Ok(table) => Ok(Inserted::Reading { table }),
            Err(error) if error.class() == Class::Reject => self.reject(message, REFUSED, &error.to_string()),
            Err(error) => Err(error),
        }
    }

    /// Gives a source its number.
    pub(super) fn insert_source(&mut self, origin: &Origin) -> Result<i64, StoreError> {
        self.source
            .query_row(params![&*origin.source, origin.received_ms], |row| row.get(0))
            .doing("cannot add a source")
    }

    /// Returns the statement that adds to the outbox; `None` where nothing is forwarded.
    pub(super) fn outbox(&mut self) -> Option<&mut CachedStatement<'c>> {
        self.outbox.as_mut()
    }

    pub(super) fn insert_reading(
        &mut self,
        reading: &Reading,
        source: Option<i64>,
        origin: &Origin,
        created_at: &mut CreatedAt,
    ) -> rusqlite::Result<&'static str> {
        let created_at = created_at.text(origin.received_ms);
        let marks = Marks::column(reading.marks);
        match &reading.sample {
            Sample::Weather(weather) => {
                self.weather.execute(params![
                    weather.timestamp,
                    weather.sample_interval,
                    weather.temperature,
                    weather.humidity,
                    weather.pressure,
                    weather.irradiance,
                    weather.wind_direction,
                    weather.rain_gauge_count,
                    weather.anemometer_count,
                    created_at,
                    source,
                    origin.received_ms,
                    marks,
                ])?;
                Ok("weather_data")
            }
            Sample::Magnetic(flux) => {
                self.magnetic.execute(params![
                    flux.x,
                    flux.y,
                    flux.z,
                    created_at,
                    source,
                    origin.received_ms,
                    marks
                ])?;
                Ok("magnetic_flux_data")
            }
        }
    }

    fn reject(&mut self, message: &Incoming, reason: &str, detail: &str) -> Result<Inserted, StoreError> {
        let Origin { source, client, qos, received_ms } = &message.origin;
        self.quarantine
            .query_row(params![received_ms, &**source, &**client, qos, reason, detail, &*message.payload], |row| {
                Ok(Inserted::Quarantined { bytes: row.get(0)? })
            })
            .doing("cannot write to the quarantine")
    }
}

/// The text of `created_at`, made once for each second: `YYYY-MM-DD HH:MM:SS` in UTC, as SQLite's
/// `CURRENT_TIMESTAMP` writes it.
#[derive(Debug, Default)]
pub(super) struct CreatedAt {
    second: Option<i64>,
    text: String,
}

impl CreatedAt {
    fn text(&mut self, received_ms: i64) -> &str {
        let second = received_ms.div_euclid(1000);
        if self.second != Some(second) {
            let time = Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = time.strftime("%Y-%m-%d %H:%M:%S").to_string();
            self.second = Some(second);
        }
        &self.text
    }
}

impl ToSql for Number {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match *self {
            Number::Int(value) => value.into(),
            Number::Real(value) => value.into(),
        })
    }
}
