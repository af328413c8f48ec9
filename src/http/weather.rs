//! The weather over HTTP, for programs: the latest values, readings over a time, sources, extremes.
//!
//! Owns these paths, their queries and the form of their answers, which `openapi.json` describes. It derives nothing.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;

use super::problem::Problem;
use super::query::Query;
use super::table;
use crate::almanac::range::{Quick, Range, moment};
use crate::almanac::{Almanac, Asked, Extreme, Extremes, Now, Period, Resolution, Source, SourceNow};
use crate::almanac::{Series, Shown};
use crate::clock::now_ms;
use crate::weather::quantity::Observed;
use crate::weather::units::{Unit, Units};

/// Points of a series where nobody says how many.
const POINTS: usize = 600;

/// What the paths need.
#[derive(Clone, Debug)]
pub(super) struct Answering {
    pub(super) almanac: Almanac,
    pub(super) units: Units,
}

/// Returns what anybody may ask for.
pub(super) fn readers(answering: Answering) -> Router {
    Router::new()
        .route("/api/v1/latest", get(latest))
        .route("/api/v1/readings", get(readings))
        .route("/api/v1/sources", get(sources))
        .route("/api/v1/extremes", get(extremes))
        .route("/api/v1/openapi.json", get(description))
        .with_state(answering)
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], include_str!("openapi.json"))
}

async fn latest(State(answering): State<Answering>, RawQuery(query): RawQuery) -> Result<Json<LatestBody>, Problem> {
    let mut query = Query::read(query.as_deref()).map_err(Problem::wrong)?;
    let units = units(&mut query, &answering)?;
    query.finish().map_err(Problem::wrong)?;
    Ok(Json(latest_body(&answering.almanac.now().await?, units)))
}

async fn sources(
    State(answering): State<Answering>,
    RawQuery(query): RawQuery,
) -> Result<Json<Vec<SourceBody>>, Problem> {
    Query::read(query.as_deref()).and_then(Query::finish).map_err(Problem::wrong)?;
    Ok(Json(answering.almanac.sources().await?.iter().map(SourceBody::of).collect()))
}

async fn extremes(
    State(answering): State<Answering>,
    RawQuery(query): RawQuery,
) -> Result<Json<ExtremesBody>, Problem> {
    let mut query = Query::read(query.as_deref()).map_err(Problem::wrong)?;
    let units = units(&mut query, &answering)?;
    let zone = answering.almanac.terms().days.zone().clone();
    let named = |text: &str| Period::named(text).ok_or_else(|| "must be day, month, year or all".to_owned());
    let period = query.parsed("period", named).map_err(Problem::wrong)?.unwrap_or(Period::Day);
    let date = query.parsed("date", |text| moment(text, &zone)).map_err(Problem::wrong)?;
    query.finish().map_err(Problem::wrong)?;
    let date = date.unwrap_or_else(|| now_ms().div_euclid(1_000));
    Ok(Json(extremes_body(&answering.almanac.extremes(period, date).await?, units)))
}

async fn readings(
    State(answering): State<Answering>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let mut query = Query::read(query.as_deref()).map_err(Problem::wrong)?;
    let units = units(&mut query, &answering)?;
    let zone = answering.almanac.terms().days.zone().clone();
    let range = range(&mut query, &zone).map_err(Problem::wrong)?;
    let quantities = query.parsed("quantities", quantities).map_err(Problem::wrong)?;
    let resolution = query.parsed("step", resolution).map_err(Problem::wrong)?.unwrap_or(Resolution::Points(POINTS));
    let source = query.take("source");
    let csv = query.parsed("format", |text| match text {
        "json" => Ok(false),
        "csv" => Ok(true),
        _ => Err("must be json or csv".to_owned()),
    });
    let csv = csv.map_err(Problem::wrong)?;
    query.finish().map_err(Problem::wrong)?;
    let csv = csv.unwrap_or_else(|| {
        headers
            .get(header::ACCEPT)
            .and_then(|accept| accept.to_str().ok())
            .is_some_and(|accept| accept.starts_with("text/csv"))
    });
    let quantities =
        quantities.unwrap_or_else(|| Observed::ALL.iter().copied().filter(|one| one.is_series()).collect());
    let range = match range {
        Wanted::Range(range) => range,
        Wanted::Quick(quick) => {
            let reach = if quick == Quick::All { answering.almanac.reach().await? } else { None };
            Range::quick(quick, now_ms().div_euclid(1_000), reach)
        }
    };
    let shown = answering.almanac.series(Asked { range, source, quantities, resolution }).await?;
    if csv {
        let text = table::csv(&shown, units).map_err(|error| Problem::wrong(error.to_string()))?;
        return Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response());
    }
    Ok(Json(readings_body(&shown, units)).into_response())
}

/// A time that is asked for.
pub(super) enum Wanted {
    /// A quick range.
    Quick(Quick),
    /// A range of one's own.
    Range(Range),
}

/// Reads `range`, `from` and `to`: between two times, or as long as a quick range from one, up to one, or up to now; 24 hours
/// where nothing is said.
pub(super) fn range(query: &mut Query, zone: &jiff::tz::TimeZone) -> Result<Wanted, String> {
    let quick = query.parsed("range", |text| {
        Quick::named(text).ok_or_else(|| {
            let names: Vec<&str> = Quick::ALL.iter().map(|quick| quick.name()).collect();
            format!("must be one of {}", names.join(", "))
        })
    })?;
    let from = query.parsed("from", |text| moment(text, zone))?;
    let to = query.parsed("to", |text| moment(text, zone))?;
    let between = |one_s, other_s| Wanted::Range(Range::between(one_s, other_s));
    Ok(match (from, to, quick) {
        (None, None, quick) => Wanted::Quick(quick.unwrap_or(Quick::Day)),
        (Some(from_s), Some(to_s), _) => between(from_s, to_s),
        (Some(from_s), None, quick) => match quick.and_then(Quick::span_s) {
            Some(span_s) => between(from_s, from_s + span_s),
            None => between(from_s, now_ms().div_euclid(1_000) + 1),
        },
        (None, Some(to_s), quick) => match quick.unwrap_or(Quick::Day).span_s() {
            Some(span_s) => between(to_s - span_s, to_s),
            None => between(0, to_s),
        },
    })
}

/// Reads `units`; those of the configuration where nothing is said.
fn units(query: &mut Query, answering: &Answering) -> Result<Units, Problem> {
    let named = |text: &str| Units::named(text).ok_or_else(|| "must be metric, imperial or si".to_owned());
    Ok(query.parsed("units", named).map_err(Problem::wrong)?.unwrap_or(answering.units))
}

fn quantities(text: &str) -> Result<Vec<Observed>, String> {
    let mut found = Vec::new();
    for name in text.split(',') {
        match Observed::named(name).filter(|quantity| quantity.is_series()) {
            Some(quantity) if !found.contains(&quantity) => found.push(quantity),
            Some(_) => return Err(format!("names {name:?} twice")),
            None => {
                let names: Vec<&str> =
                    Observed::ALL.iter().filter(|one| one.is_series()).map(|one| one.name()).collect();
                return Err(format!("must be some of {}, with commas between, has {name:?}", names.join(", ")));
            }
        }
    }
    Ok(found)
}

fn resolution(text: &str) -> Result<Resolution, String> {
    match text {
        "auto" => Ok(Resolution::Points(POINTS)),
        "raw" => Ok(Resolution::Raw),
        "hour" => Ok(Resolution::Hours),
        "day" => Ok(Resolution::Days),
        _ => match text.parse::<i64>() {
            Ok(seconds @ 1..=31_622_400) => Ok(Resolution::Seconds(seconds)),
            _ => Err("must be auto, raw, hour, day or a number of seconds, a year at most".to_owned()),
        },
    }
}

/// The answer of `latest`.
#[derive(Debug, Serialize)]
struct LatestBody {
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

fn latest_body(now: &Now, units: Units) -> LatestBody {
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

#[derive(Debug, Serialize)]
struct SourceBody {
    source: String,
    kind: &'static str,
    last: String,
    usual_s: Option<f64>,
}

impl SourceBody {
    fn of(source: &Source) -> SourceBody {
        SourceBody {
            source: source.name.clone(),
            kind: source.kind.name(),
            last: utc(source.last_s),
            usual_s: source.usual_s,
        }
    }
}

#[derive(Debug, Serialize)]
struct ReadingsBody {
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

fn readings_body(found: &Shown, units: Units) -> ReadingsBody {
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

#[derive(Debug, Serialize)]
struct ExtremesBody {
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

fn extremes_body(found: &Extremes, units: Units) -> ExtremesBody {
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
