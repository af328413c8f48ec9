//! `stationhub import`: the readings of another station's database into this one.
//!
//! Owns the pace and the report. It may be ended at any time and begun again: what is there already is not added again.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::MaintenanceError;
use super::desk::ROWS_MAX;
use super::progress::{Progress, Unit};
use super::way::Way;
use crate::config::Config;
use crate::http::errands::Rows;
use crate::place::resolved;
use crate::store::Reader;
use crate::store::errand::Done;
use crate::store::import::{Cell, ImportedRow, Other, Station};

/// Rows handed over at once, at first and at the least.
const ROWS_FIRST: usize = 100;
const ROWS_MIN: usize = 1;
/// What the writer should need for them while sensors wait for it: between these, the number stays.
const QUICK: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(30);

/// What became of one table.
#[derive(Debug, Default)]
struct Table {
    found: u64,
    done: Done,
    first: Option<Cell>,
    last: Option<Cell>,
}

/// Imports a database; returns the report.
///
/// # Errors
/// [`MaintenanceError`]; what was imported before it stays.
pub async fn run(config: &Config, file: &Path) -> Result<String, MaintenanceError> {
    if resolved(file) == resolved(&config.store.path) {
        let why = "is the hub's own database; name the other one".to_owned();
        return Err(MaintenanceError::Unfit { path: file.to_owned(), why });
    }
    let database = &config.store.path;
    if database.exists() && Reader::open(database).and_then(|reader| reader.is_salvaging(database)).unwrap_or(false) {
        let why = "still gets rows out of a damaged one, which an import would double; import once its report is there";
        return Err(MaintenanceError::Unfit { path: database.clone(), why: why.to_owned() });
    }
    let other = Other::open(file)?;
    let way = Way::find(config).await?;
    let imported = tokio::task::block_in_place(|| tables(&other, &way));
    let ended = way.end().await;
    // Why the writer ended says more than that it gave no answer.
    ended?;
    let tables = imported?;
    if tables.is_empty() {
        let why = "has no table weather_data and no magnetic_flux_data: it is no station's database".to_owned();
        return Err(MaintenanceError::Unfit { path: file.to_owned(), why });
    }
    Ok(report(&tables))
}

fn tables(other: &Other, way: &Way) -> Result<Vec<(Station, Table)>, MaintenanceError> {
    let mut tables = Vec::new();
    for station in Station::ALL {
        if let Some(rows) = other.rows(station)? {
            tables.push((station, table(other, way, station, rows)?));
        }
    }
    Ok(tables)
}

fn table(other: &Other, way: &Way, station: Station, rows: u64) -> Result<Table, MaintenanceError> {
    let mut progress = Progress::begin(station.table(), Unit::Rows);
    let mut table = Table::default();
    let mut pace = Pace { rows: if way.is_shared() { ROWS_FIRST } else { ROWS_MAX }, way };
    let mut waiting = Vec::with_capacity(ROWS_MAX);
    other.each(station, |row: ImportedRow| -> Result<(), MaintenanceError> {
        table.found += 1;
        let time = row.values.first().cloned();
        table.first = table.first.take().or_else(|| time.clone());
        table.last = time;
        waiting.push(row);
        if waiting.len() >= pace.rows {
            table.done.add(pace.hand_over(station, &mut waiting)?);
            progress.tell(table.found, rows);
        }
        Ok(())
    })?;
    if !waiting.is_empty() {
        table.done.add(pace.hand_over(station, &mut waiting)?);
    }
    Ok(table)
}

/// How much is handed over at once: as much as the writer takes in a moment. Between two portions the writer is the sensors'
/// alone for as long as the last one took.
struct Pace<'w> {
    way: &'w Way,
    rows: usize,
}

impl Pace<'_> {
    fn hand_over(&mut self, station: Station, waiting: &mut Vec<ImportedRow>) -> Result<Done, MaintenanceError> {
        let begun = Instant::now();
        let rows = std::mem::take(waiting);
        let done = Handle::current().block_on(self.way.import(Rows { station, rows }))?;
        if self.way.is_shared() {
            let took = begun.elapsed();
            if took > SLOW {
                self.rows = (self.rows / 2).max(ROWS_MIN);
            } else if took < QUICK {
                self.rows = (self.rows * 2).min(ROWS_MAX);
            }
            std::thread::sleep(took);
        }
        Ok(done)
    }
}

fn report(tables: &[(Station, Table)]) -> String {
    let mut text = String::new();
    for (station, table) in tables {
        let Done { done, already, refused } = table.done;
        let span = match (&table.first, &table.last) {
            (Some(first), Some(last)) => format!(" from {} to {}", time(first), time(last)),
            _ => String::new(),
        };
        // Writing to a string cannot fail.
        writeln!(
            text,
            "{}: {} found{span}: {done} imported, {already} there already, {refused} refused",
            station.table(),
            table.found
        )
        .unwrap_or_default();
    }
    text
}

fn time(cell: &Cell) -> String {
    match cell {
        Cell::Integer(seconds) => {
            jiff::Timestamp::from_second(*seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
        }
        Cell::Text(text) => format!("{} UTC", text.escape_debug()),
        _ => "no time".to_owned(),
    }
}
