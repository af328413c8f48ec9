//! Readings of a time range, a page at a time.
//!
//! Owns the order in which they are read, by time, and the columns. Each page is a read transaction of its own, so that a
//! long export neither waits for the writer nor lets the write-ahead log grow. It never writes.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params_from_iter};

use super::error::{Doing, StoreError};
use crate::reading::Kind;
use crate::topic;

/// Rows of a page.
const PAGE_ROWS: usize = 2_000;
const DOING: &str = "cannot read the readings";
/// The columns that both tables have, before their own.
const SHARED: [&str; 6] = ["id", "source", "time", "created_at", "received_ms", "marks"];
const WEATHER: [&str; 9] = [
    "timestamp",
    "sample_interval",
    "temperature",
    "humidity",
    "pressure",
    "irradiance",
    "wind_direction",
    "rain_gauge_count",
    "anemometer_count",
];
const MAGNETIC: [&str; 3] = ["x", "y", "z"];

/// Which readings are wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The table.
    pub kind: Kind,
    /// Unix seconds, from which on; `None` from the first.
    pub from: Option<i64>,
    /// Unix seconds, before which; `None` to the last.
    pub to: Option<i64>,
    /// A topic filter that their sources match; `None` for all.
    pub source: Option<String>,
}

/// A reading: the values of [`Pages::columns`].
pub type Row = Vec<Value>;

/// The pages.
#[derive(Debug)]
pub struct Pages {
    connection: Connection,
    kind: Kind,
    from: Value,
    to: Value,
    sources: Option<HashSet<i64>>,
    last: Option<(Value, i64)>,
    select: String,
}

impl Pages {
    /// Opens a database and finds the sources that are wanted.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(database: &Path, wanted: &Wanted) -> Result<Pages, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(database, flags).doing("cannot open the database for reading")?;
        connection.busy_timeout(Duration::from_secs(5)).doing("cannot set the busy timeout")?;
        let key = |seconds| match wanted.kind {
            Kind::Weather => Value::Integer(seconds),
            Kind::Magnetic => Value::Text(text_of(seconds)),
        };
        let (least, most) = match wanted.kind {
            Kind::Weather => (Value::Integer(i64::MIN), Value::Integer(i64::MAX)),
            Kind::Magnetic => (Value::Text(String::new()), Value::Text("~".to_owned())),
        };
        let sources = wanted.source.as_deref().map(|filter| sources(&connection, filter)).transpose()?;
        let columns = own_columns(wanted.kind).join(", ");
        let (table, time) = (table(wanted.kind), time_column(wanted.kind));
        // A database that no hub has opened yet has neither sources nor the hub's columns.
        let is_a_hubs = connection
            .query_row("SELECT 1 FROM pragma_table_info(?1) WHERE name = 'source_id'", [table], |_| Ok(()))
            .optional()
            .doing(DOING)?
            .is_some();
        let (number, topic, received_ms, marks) = match is_a_hubs {
            true => ("source_id", "(SELECT topic FROM source WHERE source.id = source_id)", "received_ms", "marks"),
            false => ("NULL", "NULL", "NULL", "NULL"),
        };
        let select = format!(
            "SELECT {time}, {number}, id, {topic}, {time}, created_at, {received_ms}, {marks}, {columns} FROM {table}"
        );
        Ok(Pages {
            connection,
            kind: wanted.kind,
            from: wanted.from.map_or(least, key),
            to: wanted.to.map_or(most, key),
            sources,
            last: None,
            select,
        })
    }

    /// Returns the names of the columns.
    pub fn columns(&self) -> Vec<&'static str> {
        SHARED.iter().chain(own_columns(self.kind)).copied().collect()
    }

    /// Returns the times of the first and the last reading in the range, Unix seconds; `None` where there is none.
    ///
    /// # Errors
    /// SQLite's.
    pub fn reach(&self) -> Result<Option<(i64, i64)>, StoreError> {
        let (table, time) = (table(self.kind), time_column(self.kind));
        let end = |order: &str| {
            let sql = format!(
                "SELECT {time} FROM {table} WHERE {time} >= ?1 AND {time} < ?2 ORDER BY {time} {order} LIMIT 1"
            );
            let found = self.connection.query_row(&sql, [&self.from, &self.to], |row| row.get::<_, Value>(0));
            found.optional().doing(DOING)
        };
        Ok(end("ASC")?.zip(end("DESC")?).and_then(|(first, last)| Some((seconds(&first)?, seconds(&last)?))))
    }

    /// Returns the time that the pages have come to, Unix seconds.
    pub fn at(&self) -> Option<i64> {
        seconds(&self.last.as_ref()?.0)
    }

    /// Reads the next page; `None` after the last. A page may be empty: none of its readings is of a source that is wanted.
    ///
    /// # Errors
    /// SQLite's.
    pub fn next_page(&mut self) -> Result<Option<Vec<Row>>, StoreError> {
        let time = time_column(self.kind);
        let mut found = Vec::new();
        let after = match self.last.clone() {
            None => ">=",
            Some((key, id)) => {
                // First the rest of those at the same time: they may be many.
                let rest = format!("WHERE {time} = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
                found = self.read(&rest, &[key, Value::Integer(id)], PAGE_ROWS)?;
                ">"
            }
        };
        if found.len() < PAGE_ROWS {
            let key = self.last.as_ref().map_or(&self.from, |(key, _)| key).clone();
            let next = format!("WHERE {time} {after} ?1 AND {time} < ?2 ORDER BY {time}, id LIMIT ?3");
            found.extend(self.read(&next, &[key, self.to.clone()], PAGE_ROWS - found.len())?);
        }
        let Some((key, _, row)) = found.last() else { return Ok(None) };
        let Some(&Value::Integer(id)) = row.first() else { return Ok(None) };
        self.last = Some((key.clone(), id));
        let is_wanted = |source: &Option<i64>| match &self.sources {
            None => true,
            Some(wanted) => source.is_some_and(|source| wanted.contains(&source)),
        };
        Ok(Some(found.into_iter().filter(|(_, source, _)| is_wanted(source)).map(|(_, _, row)| row).collect()))
    }

    /// Reads rows with the time and the source of each.
    fn read(&self, which: &str, keys: &[Value], most: usize) -> Result<Vec<(Value, Option<i64>, Row)>, StoreError> {
        let mut statement = self.connection.prepare_cached(&format!("{} {which}", self.select)).doing(DOING)?;
        let most = Value::Integer(i64::try_from(most).unwrap_or(i64::MAX));
        let columns = SHARED.len() + own_columns(self.kind).len();
        let rows = statement
            .query_map(params_from_iter(keys.iter().chain([&most])), |row| {
                let values: Result<Row, _> = (2..columns + 2).map(|column| row.get(column)).collect();
                Ok((row.get(0)?, row.get(1)?, in_utc(values?)))
            })
            .doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }
}

/// Writes a row's time, the third value, as RFC 3339 has it.
fn in_utc(mut row: Row) -> Row {
    if let Some(time) = row.get_mut(2)
        && let Some(text) = seconds(time).and_then(|seconds| Timestamp::from_second(seconds).ok())
    {
        *time = Value::Text(text.to_string());
    }
    row
}

fn own_columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Weather => &WEATHER,
        Kind::Magnetic => &MAGNETIC,
    }
}

fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Weather => "weather_data",
        Kind::Magnetic => "magnetic_flux_data",
    }
}

/// Returns the column that says when: the sensor's time where it sends one. Each has an index.
fn time_column(kind: Kind) -> &'static str {
    match kind {
        Kind::Weather => "timestamp",
        Kind::Magnetic => "created_at",
    }
}

/// Returns a time as `created_at` has it.
fn text_of(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn seconds(time: &Value) -> Option<i64> {
    match time {
        Value::Integer(seconds) => Some(*seconds),
        Value::Text(text) => {
            let time: jiff::civil::DateTime = text.parse().ok()?;
            Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
        }
        _ => None,
    }
}

fn sources(connection: &Connection, filter: &str) -> Result<HashSet<i64>, StoreError> {
    const DOING: &str = "cannot read the sources";
    let sql = "SELECT 1 FROM sqlite_schema WHERE name = 'source'";
    if connection.query_row(sql, [], |_| Ok(())).optional().doing(DOING)?.is_none() {
        return Ok(HashSet::new());
    }
    let mut statement = connection.prepare("SELECT id, topic FROM source").doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))).doing(DOING)?;
    let all: Vec<(i64, String)> = rows.collect::<Result<_, _>>().doing(DOING)?;
    // A source's name has no slash at its end.
    let filter = if filter.len() > 1 { filter.strip_suffix('/').unwrap_or(filter) } else { filter };
    Ok(all.into_iter().filter(|(_, name)| topic::matches(filter, name)).map(|(id, _)| id).collect())
}
