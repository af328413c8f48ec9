//! Series as a table: a line for each time, as comma-separated values or JSON lines.
//!
//! Owns that form, shared by the API and `stationhub export`. It keeps no more than the series that it is given.

use std::collections::BTreeMap;
use std::io::{self, Write};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::almanac::{Point, Shown};
use crate::weather::quantity::Observed;
use crate::weather::units::{Unit, Units};

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values, a line of names first; what is missing is empty.
    Csv,
    /// A JSON object on each line; what is missing is null.
    JsonLines,
}

/// What a line says besides the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// Of each quantity its value, its lowest and its highest.
    Ends,
    /// The source, and of each quantity its value: a line for each reading.
    Readings,
}

/// A table on its way.
pub struct Table<W: Write> {
    output: Output<W>,
    quantities: Vec<(Observed, Unit)>,
    columns: Columns,
}

enum Output<W: Write> {
    Csv(Box<csv::Writer<W>>),
    JsonLines(W),
}

impl<W: Write> Table<W> {
    /// Begins a table of these quantities.
    ///
    /// # Errors
    /// The output's.
    pub fn begin(
        format: Format,
        output: W,
        columns: Columns,
        quantities: &[Observed],
        units: Units,
    ) -> io::Result<Table<W>> {
        let quantities: Vec<(Observed, Unit)> =
            quantities.iter().map(|quantity| (*quantity, units.of(quantity.dimension()))).collect();
        let output = match format {
            Format::JsonLines => Output::JsonLines(output),
            Format::Csv => {
                let mut writer = Box::new(csv::Writer::from_writer(output));
                writer.write_record(head(columns, &quantities)).map_err(plain)?;
                Output::Csv(writer)
            }
        };
        Ok(Table { output, quantities, columns })
    }

    /// Writes a line for each time of some series, which are of one source where the lines name it.
    ///
    /// # Errors
    /// The output's.
    pub fn write(&mut self, shown: &Shown) -> io::Result<()> {
        let mut lines: BTreeMap<i64, Vec<Option<&Point>>> = BTreeMap::new();
        for series in &shown.series {
            let Some(column) = self.quantities.iter().position(|(quantity, _)| *quantity == series.quantity) else {
                continue;
            };
            for point in &series.points {
                lines.entry(point.time_s).or_insert_with(|| vec![None; self.quantities.len()])[column] = Some(point);
            }
        }
        let source = shown.series.first().map(|series| series.source.as_str()).unwrap_or_default();
        lines.into_iter().try_for_each(|(time_s, points)| self.line(time_s, source, &points))
    }

    fn line(&mut self, time_s: i64, source: &str, points: &[Option<&Point>]) -> io::Result<()> {
        let time = Timestamp::from_second(time_s).unwrap_or_default().to_string();
        let mut values = Vec::new();
        for ((_, unit), point) in self.quantities.iter().zip(points) {
            let numbers = point.map(|point| [point.observed.value, point.observed.min, point.observed.max]);
            let wanted = if self.columns == Columns::Ends { 3 } else { 1 };
            values.extend(
                (0..wanted).map(|place| {
                    numbers.map(|numbers| format!("{:.*}", unit.digits + 2, unit.convert(numbers[place])))
                }),
            );
        }
        let own = (self.columns == Columns::Readings).then(|| source.to_owned());
        match &mut self.output {
            Output::Csv(writer) => {
                let line = [time].into_iter().chain(own).chain(values.into_iter().map(Option::unwrap_or_default));
                writer.write_record(line).map_err(plain)
            }
            Output::JsonLines(output) => {
                let mut object = Map::new();
                object.insert("time".to_owned(), time.into());
                object.extend(own.map(|source| ("source".to_owned(), Value::from(source))));
                let number = |text: Option<String>| text.and_then(|text| text.parse::<f64>().ok()).into();
                let names = names(self.columns, &self.quantities);
                object.extend(names.zip(values.into_iter().map(number)));
                serde_json::to_writer(&mut *output, &object)?;
                output.write_all(b"\n")
            }
        }
    }

    /// Ends the table; returns the output.
    ///
    /// # Errors
    /// The output's.
    pub fn finish(self) -> io::Result<W> {
        match self.output {
            Output::Csv(writer) => writer.into_inner().map_err(|error| error.into_error()),
            Output::JsonLines(mut output) => output.flush().map(|()| output),
        }
    }
}

fn head(columns: Columns, quantities: &[(Observed, Unit)]) -> Vec<String> {
    let own = (columns == Columns::Readings).then(|| "source".to_owned());
    let units = quantities.iter().map(|(_, unit)| format!(" ({})", unit.symbol));
    let each = if columns == Columns::Ends { 3 } else { 1 };
    // The unit stands once for each quantity.
    let units = units.flat_map(|unit| [unit, String::new(), String::new()].into_iter().take(each));
    let named = names(columns, quantities).zip(units).map(|(name, unit)| name + &unit);
    ["time".to_owned()].into_iter().chain(own).chain(named).collect()
}

fn names(columns: Columns, quantities: &[(Observed, Unit)]) -> impl Iterator<Item = String> {
    let each = if columns == Columns::Ends { 3 } else { 1 };
    let of = move |(quantity, _): &(Observed, Unit)| {
        ["", "_min", "_max"].into_iter().take(each).map(|end| format!("{}{end}", quantity.name())).collect::<Vec<_>>()
    };
    quantities.iter().flat_map(of).collect::<Vec<_>>().into_iter()
}

/// Returns the system's own error, by which a broken pipe is known.
pub(crate) fn plain(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::almanac::range::Range;
    use crate::almanac::{Observation, Series};

    fn written(format: Format, columns: Columns) -> String {
        let observed = Observation { value: 10.0, min: 9.5, max: 10.5, count: 3, is_doubtful: false };
        let series = Series {
            quantity: Observed::Temperature,
            source: "a,b".to_owned(),
            step_s: None,
            break_after_s: 1,
            points: vec![Point { time_s: 0, span_s: 1, observed }],
        };
        let shown = Shown { range: Range { from_s: 0, to_s: 1 }, series: vec![series], is_partial: false };
        let quantities = [Observed::Temperature, Observed::Humidity];
        let mut table = Table::begin(format, Vec::new(), columns, &quantities, Units::Imperial).unwrap();
        table.write(&shown).unwrap();
        String::from_utf8(table.finish().unwrap()).unwrap()
    }

    #[test]
    fn a_line_for_each_time_with_units_in_the_head() {
        assert_eq!(
            written(Format::Csv, Columns::Ends),
            "time,temperature (°F),temperature_min,temperature_max,humidity (%),humidity_min,humidity_max\n\
             1970-01-01T00:00:00Z,50.000,49.100,50.900,,,\n"
        );
        assert_eq!(
            written(Format::JsonLines, Columns::Readings),
            "{\"humidity\":null,\"source\":\"a,b\",\"temperature\":50.0,\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
    }
}
