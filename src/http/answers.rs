//! The answers of the weather API, as `openapi.json` describes them.
//!
//! Owns their form: names, units, times in UTC, and to how many digits numbers are told.

use jiff::Timestamp;
use serde::Serialize;

use crate::almanac::{Extreme, Extremes, Now, Series, Shown, Source, SourceNow};
use crate::weather::quantity::Observed;
use crate::weather::units::{Unit, Units};

/// The answer of `latest`.
#[derive(Debug, Serialize)]
pub(super) struct LatestBody {
    at: String,
    units: &'static str,
    sources: Vec<LatestSource>,
}

#[derive(Debug, Serialize)]
struct LatestSource {
    source: String,
    kind: &'static str,
    time: String,
    age_s: i64,
    is_stale: bool,
    values: Vec<LatestValue>,
}

#[derive(Debug, Serialize)]
struct LatestValue {
    quantity: &'static str,
    label: &'static str,
    value: f64,
    unit: &'static str,
    is_doubtful: bool,
    today: Option<Ends>,
    note: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ends {
    min: f64,
    max: f64,
}

pub(super) fn latest_body(now: &Now, units: Units) -> LatestBody {
    let of_source = |source: &SourceNow| LatestSource {
        source: source.name.clone(),
        kind: source.kind.name(),
        time: utc(source.last_s),
        age_s: (now.at_s - source.last_s).max(0),
        is_stale: source.is_stale,
        values: source
            .values
            .iter()
            .map(|value| {
                let unit = units.of(value.quantity.dimension());
                let today = value.today.map(|(min, max)| Ends { min: shown(unit, min), max: shown(unit, max) });
                LatestValue {
                    quantity: value.quantity.name(),
                    label: value.quantity.label(),
                    value: match value.quantity {
                        Observed::PressureTendency => rounded(unit, unit.convert_difference(value.value)),
                        _ => shown(unit, value.value),
                    },
                    unit: unit.symbol,
                    is_doubtful: value.is_doubtful,
                    today,
                    note: value.note.clone(),
                }
            })
            .collect(),
    };
    LatestBody { at: utc(now.at_s), units: units.name(), sources: now.sources.iter().map(of_source).collect() }
}

/// A source in the answer of `sources`.
#[derive(Debug, Serialize)]
pub(super) struct SourceBody {
    source: String,
    kind: &'static str,
    last: String,
    usual_s: Option<f64>,
}

impl SourceBody {
    pub(super) fn of(source: &Source) -> SourceBody {
        SourceBody {
            source: source.name.clone(),
            kind: source.kind.name(),
            last: utc(source.last_s),
            usual_s: source.usual_s,
        }
    }
}

/// The answer of `readings`.
#[derive(Debug, Serialize)]
pub(super) struct ReadingsBody {
    from: String,
    to: String,
    units: &'static str,
    is_partial: bool,
    series: Vec<SeriesBody>,
}

#[derive(Debug, Serialize)]
struct SeriesBody {
    quantity: &'static str,
    label: &'static str,
    source: String,
    unit: &'static str,
    step_s: Option<i64>,
    points: Vec<PointBody>,
}

#[derive(Debug, Serialize)]
struct PointBody {
    time: String,
    value: f64,
    min: f64,
    max: f64,
    count: i64,
    is_doubtful: bool,
}

pub(super) fn readings_body(found: &Shown, units: Units) -> ReadingsBody {
    let of_series = |series: &Series| {
        let unit = units.of(series.quantity.dimension());
        let points = series.points.iter().map(|point| PointBody {
            time: utc(point.time_s),
            value: shown(unit, point.observed.value),
            min: shown(unit, point.observed.min),
            max: shown(unit, point.observed.max),
            count: point.observed.count,
            is_doubtful: point.observed.is_doubtful,
        });
        SeriesBody {
            quantity: series.quantity.name(),
            label: series.quantity.label(),
            source: series.source.clone(),
            unit: unit.symbol,
            step_s: series.step_s,
            points: points.collect(),
        }
    };
    ReadingsBody {
        from: utc(found.range.from_s),
        to: utc(found.range.to_s),
        units: units.name(),
        is_partial: found.is_partial,
        series: found.series.iter().map(of_series).collect(),
    }
}

/// The answer of `extremes`.
#[derive(Debug, Serialize)]
pub(super) struct ExtremesBody {
    period: &'static str,
    from: String,
    to: String,
    units: &'static str,
    is_partial: bool,
    extremes: Vec<ExtremeBody>,
}

#[derive(Debug, Serialize)]
struct ExtremeBody {
    quantity: &'static str,
    label: &'static str,
    source: String,
    unit: &'static str,
    lowest: Option<At>,
    highest: At,
    total: Option<f64>,
}

#[derive(Debug, Serialize)]
struct At {
    value: f64,
    time: String,
}

pub(super) fn extremes_body(found: &Extremes, units: Units) -> ExtremesBody {
    let of_extreme = |extreme: &Extreme| {
        let unit = units.of(extreme.quantity.dimension());
        let at = |(value, time_s): (f64, i64)| At { value: shown(unit, value), time: utc(time_s) };
        ExtremeBody {
            quantity: extreme.quantity.name(),
            label: extreme.quantity.label(),
            source: extreme.source.clone(),
            unit: unit.symbol,
            lowest: extreme.lowest.map(at),
            highest: at(extreme.highest),
            total: extreme.total.map(|total| shown(unit, total)),
        }
    };
    ExtremesBody {
        period: found.period.name(),
        from: utc(found.range.from_s),
        to: utc(found.range.to_s),
        units: units.name(),
        is_partial: found.is_partial,
        extremes: found.extremes.iter().map(of_extreme).collect(),
    }
}

/// Returns a number in a unit, to three digits more than people read.
fn shown(unit: Unit, value: f64) -> f64 {
    rounded(unit, unit.convert(value))
}

fn rounded(unit: Unit, value: f64) -> f64 {
    let factor = 10_f64.powi(i32::try_from(unit.digits + 3).unwrap_or(9));
    let rounded = (value * factor).round() / factor;
    if rounded == 0.0 { 0.0 } else { rounded }
}

/// Returns a time in UTC, RFC 3339.
pub(super) fn utc(time_s: i64) -> String {
    Timestamp::from_second(time_s).unwrap_or_default().to_string()
}
