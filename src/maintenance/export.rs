//! `stationhub export`: readings of a time range as CSV or JSON lines.
//!
//! Owns the formats and what a time on the command line means. It holds one page of rows at a time, however many there are.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use rusqlite::types::Value;

use super::MaintenanceError;
use super::backup::spare_the_database;
use super::progress::{Progress, Unit};
use super::whole::{Partial, Replace};
use crate::almanac::range::Range;
use crate::almanac::{Asked, Open, Resolution, Terms};
use crate::clock::now_ms;
use crate::store::Reader;
use crate::store::export::{Pages, Row, Wanted};
use crate::table::{Columns, Format, Table, plain};
use crate::topic;
use crate::weather::quantity::Observed;
use crate::weather::units::Units;

/// Where the rows go.
#[derive(Clone, Debug)]
pub enum Output {
    /// To the standard output.
    Stdout,
    /// To a file that appears only when it is whole.
    File(PathBuf, Replace),
}

/// Exports what is wanted. A reader that has seen enough, as `head` has, ends it without an error.
///
/// # Errors
/// [`MaintenanceError`]; then there is no such file, or the one that was there before.
pub fn run(database: &Path, wanted: &Wanted, format: Format, output: &Output) -> Result<(), MaintenanceError> {
    let pages = Pages::open(database, wanted)?;
    let reach = pages.reach()?;
    put(database, output, reach, |output, told| export(pages, format, output, told))
}

/// Exports what is wanted as weather: derived, in these units.
///
/// # Errors
/// As [`run`]'s.
pub fn run_derived(
    database: &Path,
    wanted: &Wanted,
    (terms, units): (&Terms, Units),
    format: Format,
    output: &Output,
) -> Result<(), MaintenanceError> {
    let reader = Reader::open(database)?;
    let open = Open { reader: &reader, terms, now_s: now_ms().div_euclid(1_000) };
    let reach = open.reach()?;
    put(database, output, reach, |output, told| derived(&open, wanted, units, format, output, told))
}

/// Has rows written to where they go, and tells how far that is.
fn put(
    database: &Path,
    output: &Output,
    reach: Option<(i64, i64)>,
    write: impl FnOnce(&mut dyn Write, &mut dyn FnMut(i64)) -> Result<(), Failed>,
) -> Result<(), MaintenanceError> {
    match output {
        Output::Stdout => {
            let mut stdout = BufWriter::new(io::stdout().lock());
            match write(&mut stdout, &mut |_| ()) {
                Err(Failed::Writing(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                ended => ended.map_err(|failed| failed.on(Path::new("the standard output"))),
            }
        }
        Output::File(path, replace) => {
            spare_the_database(database, path)?;
            let partial = Partial::begin(path, *replace)?;
            let mut progress = Progress::begin("exporting", Unit::Share);
            let (first, last) = reach.unwrap_or_default();
            let span = |from: i64, to: i64| to.saturating_sub(from).unsigned_abs();
            let mut told = |at: i64| progress.tell(span(first, at), span(first, last).max(1));
            write(&mut BufWriter::new(partial.file()), &mut told).map_err(|failed| failed.on(path))?;
            partial.finish()
        }
    }
}

/// Writes a line for each reading of each source, a page of readings at a time.
fn derived(
    open: &Open<'_>,
    wanted: &Wanted,
    units: Units,
    format: Format,
    output: &mut dyn Write,
    told: &mut dyn FnMut(i64),
) -> Result<(), Failed> {
    let of_kind = |quantity: &&Observed| quantity.kind() == wanted.kind && quantity.is_series();
    let quantities: Vec<Observed> = Observed::ALL.iter().filter(of_kind).copied().collect();
    let mut table = Table::begin(format, output, Columns::Readings, &quantities, units).map_err(Failed::Writing)?;
    let is_wanted = |name: &str| wanted.source.as_deref().is_none_or(|filter| topic::matches(filter, name));
    for source in open.sources()?.into_iter().filter(|source| source.kind == wanted.kind && is_wanted(&source.name)) {
        let to_s = wanted.to.unwrap_or(source.last_s + 1);
        let mut range = Range { from_s: wanted.from.unwrap_or(0), to_s };
        loop {
            let (source, quantities) = (Some(source.name.clone()), quantities.clone());
            let page = open.series(&Asked { range, source, quantities, resolution: Resolution::Raw })?;
            table.write(&page).map_err(Failed::Writing)?;
            let last_s = page.series.iter().filter_map(|series| series.points.last()).map(|point| point.time_s).max();
            told(last_s.unwrap_or(to_s));
            match last_s {
                Some(last_s) if page.is_partial => range.from_s = last_s + 1,
                _ => break,
            }
        }
    }
    table.finish().map(drop).map_err(Failed::Writing)
}

/// What went wrong, before it is known where.
enum Failed {
    Reading(MaintenanceError),
    Writing(io::Error),
}

impl<E: Into<MaintenanceError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed::Reading(error.into())
    }
}

impl Failed {
    fn on(self, path: &Path) -> MaintenanceError {
        match self {
            Failed::Reading(error) => error,
            Failed::Writing(source) => {
                MaintenanceError::File { doing: "cannot write to", path: path.to_owned(), source }
            }
        }
    }
}

fn export(mut pages: Pages, format: Format, output: &mut dyn Write, told: &mut dyn FnMut(i64)) -> Result<(), Failed> {
    let columns = pages.columns();
    let mut writer = Writer::begin(format, output, &columns).map_err(Failed::Writing)?;
    while let Some(page) = pages.next_page()? {
        for row in &page {
            writer.write(&columns, row).map_err(Failed::Writing)?;
        }
        told(pages.at().unwrap_or_default());
    }
    writer.finish().map_err(Failed::Writing)
}

enum Writer<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

impl<W: Write> Writer<W> {
    fn begin(format: Format, output: W, columns: &[&str]) -> io::Result<Writer<W>> {
        match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(output);
                writer.write_record(columns).map_err(plain)?;
                Ok(Writer::Csv(Box::new(writer)))
            }
            Format::JsonLines => Ok(Writer::JsonLines(output)),
        }
    }

    fn write(&mut self, columns: &[&str], row: &Row) -> io::Result<()> {
        match self {
            Writer::Csv(writer) => writer.write_record(row.iter().map(text)).map_err(plain),
            Writer::JsonLines(output) => {
                let object: serde_json::Map<String, serde_json::Value> =
                    columns.iter().map(|column| (*column).to_owned()).zip(row.iter().map(json)).collect();
                serde_json::to_writer(&mut *output, &object)?;
                output.write_all(b"\n")
            }
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Writer::Csv(mut writer) => writer.flush(),
            Writer::JsonLines(mut output) => output.flush(),
        }
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null | Value::Blob(_) => String::new(),
        Value::Integer(number) => number.to_string(),
        // The shortest text that is read back as the same number.
        Value::Real(number) => format!("{number:?}"),
        Value::Text(text) => text.clone(),
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null | Value::Blob(_) => serde_json::Value::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
    }
}

/// Reads a time as it is typed: `2026-03-01`, `2026-03-01T12:00`, both UTC; `2026-03-01T12:00+01:00`,
/// `2026-03-01T12:00[Europe/Berlin]`. Returns Unix seconds.
///
/// # Errors
/// Words for whoever typed something else.
pub fn moment(text: &str) -> Result<i64, String> {
    if let Ok(zoned) = text.parse::<Zoned>() {
        return Ok(zoned.timestamp().as_second());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_second());
    }
    // A date would be taken with the name of any zone, and without its meaning.
    let plain = if text.contains('[') { "" } else { text };
    let time = plain.parse::<DateTime>().or_else(|_| plain.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    time.and_then(|time| time.to_zoned(TimeZone::UTC)).map(|zoned| zoned.timestamp().as_second()).map_err(|_| {
        "must be a time such as 2026-03-01, 2026-03-01T12:00 (both UTC), 2026-03-01T12:00+01:00 or \
         2026-03-01T12:00[Europe/Berlin]"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_utc_unless_it_says_otherwise() {
        for (text, seconds) in [
            ("1970-01-02", 86_400),
            ("1970-01-01T01:00", 3_600),
            ("1970-01-01 01:00:07", 3_607),
            ("1970-01-01T01:00:00Z", 3_600),
            ("1970-01-01T01:00+01:00", 0),
            ("1970-01-01T01:00[Europe/Berlin]", 0),
        ] {
            assert_eq!(moment(text), Ok(seconds), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "2026-03-01T25:00", "1970-01-01T01:00[Nowhere/Town]"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
