//! Series as comma-separated values: a line for each time, a value with its ends for each quantity.
//!
//! Owns that form alone.

use std::collections::BTreeMap;

use super::weather::utc;
use crate::almanac::{Point, Shown};
use crate::weather::units::Units;

/// Returns series as a table; what has no value at a time is empty.
///
/// # Errors
/// The writer's, which writes into memory.
pub(super) fn csv(shown: &Shown, units: Units) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut head = vec!["time".to_owned()];
    for series in &shown.series {
        let (name, unit) = (series.quantity.name(), units.of(series.quantity.dimension()).symbol);
        head.extend([format!("{name} ({unit})"), format!("{name} min"), format!("{name} max")]);
    }
    writer.write_record(&head)?;
    let mut lines: BTreeMap<i64, Vec<Option<&Point>>> = BTreeMap::new();
    for (column, series) in shown.series.iter().enumerate() {
        for point in &series.points {
            lines.entry(point.time_s).or_insert_with(|| vec![None; shown.series.len()])[column] = Some(point);
        }
    }
    for (time_s, points) in lines {
        let mut line = vec![utc(time_s)];
        for (series, point) in shown.series.iter().zip(points) {
            let unit = units.of(series.quantity.dimension());
            match point {
                None => line.extend([const { String::new() }; 3]),
                Some(Point { observed, .. }) => line.extend(
                    [observed.value, observed.min, observed.max]
                        .map(|value| format!("{:.*}", unit.digits + 2, unit.convert(value))),
                ),
            }
        }
        writer.write_record(&line)?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
