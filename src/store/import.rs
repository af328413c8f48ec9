//! Another station's database, read to be imported.
//!
//! Owns its opening, which changes nothing of it, and the order of its rows: equal ones come one after another, so that each
//! gets its ordinal among them. By that a row is known again that is there already, and readings that are rightly equal (a
//! magnetometer at rest) stay as many as they were. It never writes: `errand` does.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Row};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::error::{Doing, StoreError};
use crate::place::beside;

const DOING: &str = "cannot read the database to import";
/// Where a database's header says that it has a write-ahead log.
const HEADER_BYTES: usize = 20;

/// A table of the station.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Station {
    /// `weather_data`.
    Weather,
    /// `magnetic_flux_data`.
    Magnetic,
}

/// A row of another database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ImportedRow {
    /// The topic that it came on, where that is known.
    pub source: Option<String>,
    /// Counted from 1 among its equals.
    pub ordinal: i64,
    /// The values of [`Station::columns`].
    pub values: Vec<Cell>,
    /// When a hub received it, Unix milliseconds.
    pub received_ms: Option<i64>,
    /// What a hub noted about its time.
    pub marks: Option<i64>,
}

/// A value. A real number travels as its bits, since it has to be the same to the last of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cell {
    /// None.
    #[serde(rename = "n")]
    Null,
    /// A whole number.
    #[serde(rename = "i")]
    Integer(i64),
    /// The bits of a real number.
    #[serde(rename = "r")]
    Real(u64),
    /// A text.
    #[serde(rename = "t")]
    Text(String),
    /// What no reading holds.
    #[serde(rename = "o")]
    Other,
}

impl Cell {
    fn read(value: ValueRef<'_>) -> Cell {
        match value {
            ValueRef::Null => Cell::Null,
            ValueRef::Integer(number) => Cell::Integer(number),
            ValueRef::Real(number) => Cell::Real(number.to_bits()),
            ValueRef::Text(text) => std::str::from_utf8(text).map_or(Cell::Other, |text| Cell::Text(text.to_owned())),
            ValueRef::Blob(_) => Cell::Other,
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Cell::Null | Cell::Other => Value::Null,
            Cell::Integer(number) => Value::Integer(*number),
            Cell::Real(bits) => Value::Real(f64::from_bits(*bits)),
            Cell::Text(text) => Value::Text(text.clone()),
        }
    }
}

impl ImportedRow {
    pub(super) fn bytes(&self) -> usize {
        let text = |cell: &Cell| if let Cell::Text(text) = cell { text.len() } else { 0 };
        let values: usize = self.values.iter().map(|cell| size_of::<Cell>() + text(cell)).sum();
        size_of::<ImportedRow>() + values + self.source.as_ref().map_or(0, String::len)
    }
}

impl Station {
    /// Both tables.
    pub const ALL: [Station; 2] = [Station::Weather, Station::Magnetic];

    /// Returns the table's name.
    pub fn table(self) -> &'static str {
        match self {
            Station::Weather => "weather_data",
            Station::Magnetic => "magnetic_flux_data",
        }
    }

    /// Returns the columns by which rows are compared, the time first.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Station::Weather => &[
                "timestamp",
                "sample_interval",
                "temperature",
                "humidity",
                "pressure",
                "irradiance",
                "wind_direction",
                "rain_gauge_count",
                "anemometer_count",
                "created_at",
            ],
            Station::Magnetic => &["created_at", "x", "y", "z"],
        }
    }

    /// Counts the rows that are equal, up to as many as are asked for; the first column has an index.
    pub(super) fn count_equal(self) -> &'static str {
        match self {
            Station::Weather => {
                "SELECT count(*) FROM (SELECT 1 FROM weather_data WHERE timestamp IS ?1 AND sample_interval IS ?2
                   AND temperature IS ?3 AND humidity IS ?4 AND pressure IS ?5 AND irradiance IS ?6
                   AND wind_direction IS ?7 AND rain_gauge_count IS ?8 AND anemometer_count IS ?9
                   AND created_at IS ?10 AND source_id IS ?11 LIMIT ?12)"
            }
            Station::Magnetic => {
                "SELECT count(*) FROM (SELECT 1 FROM magnetic_flux_data WHERE created_at IS ?1 AND x IS ?2 AND y IS ?3
                   AND z IS ?4 AND source_id IS ?5 LIMIT ?6)"
            }
        }
    }

    pub(super) fn insert(self) -> &'static str {
        match self {
            Station::Weather => {
                "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance,
                   wind_direction, rain_gauge_count, anemometer_count, created_at, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
            }
            Station::Magnetic => {
                "INSERT INTO magnetic_flux_data(created_at, x, y, z, source_id, received_ms, marks)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
            }
        }
    }
}

/// Another database, open.
#[derive(Debug)]
pub struct Other {
    connection: Connection,
}

impl Other {
    /// Opens a database without changing anything of it, and checks that it is whole.
    ///
    /// # Errors
    /// SQLite's, and [`StoreError::Damaged`].
    pub fn open(path: &Path) -> Result<Other, StoreError> {
        let connection = open(path)?;
        let words = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        let words = words.doing("the database to import is damaged, or is none")?;
        if words != "ok" {
            let hint = "what can be read of it, `sqlite3 FILE .recover | sqlite3 NEW` brings into a new file";
            return Err(StoreError::Damaged { path: path.to_owned(), what: format!("{words}; {hint}") });
        }
        Ok(Other { connection })
    }

    /// Counts the rows of a table; `None` where it is not there.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rows(&self, station: Station) -> Result<Option<u64>, StoreError> {
        if self.columns(station.table())?.is_empty() {
            return Ok(None);
        }
        let sql = format!("SELECT count(*) FROM {}", station.table());
        self.connection
            .query_row(&sql, [], |row| row.get::<_, i64>(0))
            .map(|rows| Some(rows.unsigned_abs()))
            .doing(DOING)
    }

    /// Hands every row of a table to `take`, until that returns an error, which is returned.
    ///
    /// # Errors
    /// SQLite's, or that of `take`.
    pub fn each<E: From<StoreError>>(
        &self,
        station: Station,
        mut take: impl FnMut(ImportedRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut statement = self.connection.prepare(&self.select(station)?).doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        let columns = station.columns().len();
        // Equal rows have equal times, and those come one after another.
        let mut time = None;
        let mut equals: HashMap<u64, i64> = HashMap::new();
        while let Some(row) = rows.next().doing(DOING)? {
            let mut imported = imported(row, columns).doing(DOING)?;
            if time.as_ref() != imported.values.first() {
                equals.clear();
                time = imported.values.first().cloned();
            }
            let ordinal = equals.entry(digest(&imported)).or_default();
            *ordinal += 1;
            imported.ordinal = *ordinal;
            take(imported)?;
        }
        Ok(())
    }

    /// Selects what of a table is known; what an older program's table lacks is NULL.
    fn select(&self, station: Station) -> Result<String, StoreError> {
        let table = station.table();
        let there = self.columns(table)?;
        let column = |name: &&str| {
            if there.iter().any(|column| column == *name) { (*name).to_owned() } else { "NULL".to_owned() }
        };
        let columns: Vec<String> = station.columns().iter().map(column).collect();
        let has_sources = !self.columns("source")?.is_empty() && there.iter().any(|column| column == "source_id");
        let source = if has_sources { "(SELECT topic FROM source WHERE source.id = source_id)" } else { "NULL" };
        Ok(format!(
            "SELECT {}, {source}, {}, {} FROM {table} ORDER BY 1, {table}.rowid",
            columns.join(", "),
            column(&"received_ms"),
            column(&"marks")
        ))
    }

    fn columns(&self, table: &str) -> Result<Vec<String>, StoreError> {
        let mut statement = self.connection.prepare("SELECT name FROM pragma_table_info(?1)").doing(DOING)?;
        let rows = statement.query_map([table], |row| row.get(0)).doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }
}

fn imported(row: &Row<'_>, columns: usize) -> rusqlite::Result<ImportedRow> {
    let values = (0..columns).map(|column| Ok(Cell::read(row.get_ref(column)?))).collect::<rusqlite::Result<_>>()?;
    let whole =
        |column| -> rusqlite::Result<Option<i64>> { Ok(row.get_ref(column)?.as_i64_or_null().unwrap_or_default()) };
    Ok(ImportedRow {
        values,
        source: row.get_ref(columns)?.as_str_or_null().unwrap_or_default().map(str::to_owned),
        received_ms: whole(columns + 1)?,
        marks: whole(columns + 2)?,
        ordinal: 0,
    })
}

fn digest(row: &ImportedRow) -> u64 {
    let mut bytes = Vec::with_capacity(160);
    for cell in &row.values {
        match cell {
            Cell::Null => bytes.push(0),
            Cell::Integer(number) => bytes.extend(std::iter::once(1).chain(number.to_le_bytes())),
            Cell::Real(bits) => bytes.extend(std::iter::once(2).chain(bits.to_le_bytes())),
            Cell::Text(text) => bytes.extend(std::iter::once(3).chain(text.bytes()).chain([0xFF])),
            Cell::Other => bytes.push(4),
        }
    }
    bytes.extend(row.source.iter().flat_map(|source| source.bytes()));
    xxh3_64(&bytes)
}

/// Opens a database for reading alone. One with a write-ahead log that is closed would have a log and its index made beside
/// it even for that; so it is opened as what nobody writes.
fn open(path: &Path) -> Result<Connection, StoreError> {
    const DOING: &str = "cannot open the database to import";
    let io = |source| StoreError::Io { doing: DOING, path: path.to_owned(), source };
    let mut header = [0; HEADER_BYTES];
    let mut file = std::fs::File::open(path).map_err(io)?;
    // A shorter file is none of SQLite's, which it says itself.
    let has_log = file.read_exact(&mut header).is_ok() && header[HEADER_BYTES - 1] == 2;
    drop(file);
    let has_beside = |suffix: &str| beside(path, suffix).exists();
    let mut flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if has_log && !has_beside("-wal") && !has_beside("-shm") {
        flags |= OpenFlags::SQLITE_OPEN_URI;
        let absolute = path.canonicalize().map_err(io)?;
        let encoded = percent_encoding::percent_encode(
            absolute.as_os_str().as_encoded_bytes(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        Connection::open_with_flags(format!("file:{encoded}?immutable=1").replace("%2F", "/"), flags)
    } else {
        Connection::open_with_flags(path, flags)
    };
    let connection = connection.doing(DOING)?;
    connection.busy_timeout(Duration::from_secs(5)).doing(DOING)?;
    Ok(connection)
}
