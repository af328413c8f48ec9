//! The weather over HTTP, for programs: the latest values, readings over a time, sources, extremes.
//!
//! Owns these paths and their queries. It derives nothing; the form of the answers is `answers`'.

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};

use super::answers::{ExtremesBody, LatestBody, SourceBody};
use super::answers::{extremes_body, latest_body, readings_body};
use super::problem::Problem;
use super::query::Query;
use crate::almanac::range::{Quick, Wanted, moment};
use crate::almanac::{Almanac, Asked, Period, Resolution, Shown};
use crate::clock::now_ms;
use crate::table::{Columns, Format, Table};
use crate::weather::quantity::Observed;
use crate::weather::units::Units;

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
    let units = query.units(answering.units).map_err(Problem::wrong)?;
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
    let units = query.units(answering.units).map_err(Problem::wrong)?;
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
    let units = query.units(answering.units).map_err(Problem::wrong)?;
    let zone = answering.almanac.terms().days.zone().clone();
    let wanted = range(&mut query, &zone).map_err(Problem::wrong)?;
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
    let range = answering.almanac.range(wanted).await?;
    let asked_for = quantities.clone();
    let shown = answering.almanac.series(Asked { range, source, quantities, resolution }).await?;
    if csv {
        return match csv_of(&shown, &asked_for, units) {
            Ok(text) => Ok(([(header::CONTENT_TYPE, "text/csv; charset=utf-8")], text).into_response()),
            Err(error) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
        };
    }
    Ok(Json(readings_body(&shown, units)).into_response())
}

fn csv_of(shown: &Shown, quantities: &[Observed], units: Units) -> std::io::Result<Vec<u8>> {
    let mut table = Table::begin(Format::Csv, Vec::new(), Columns::Ends, quantities, units)?;
    table.write(shown)?;
    table.finish()
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
    Ok(Wanted::of(quick, from, to, now_ms().div_euclid(1_000)))
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
