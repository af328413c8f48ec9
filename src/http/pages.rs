//! The pages: which path shows what, and what each needs of the other rooms.
//!
//! Owns the paths of the page and the queries of its links. It writes no HTML (`page` does) and draws nothing (`chart` does).

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;

use super::answers::utc;
use super::query::Query;
use super::weather::range;
use super::{Rooms, problem};
use crate::almanac::range::Wanted;
use crate::almanac::{AlmanacError, Asked, Period, Resolution, Shown};
use crate::chart::{self, Size};
use crate::clock::now_ms;
use crate::health::Report;
use crate::page::{self, Active, ChartsPart, HealthPart, View};
use crate::panels::{self, Look};
use crate::records::{Question, RecordsError};
use crate::store::GapReport;
use crate::weather::units::Units;

/// The size of a chart; the page scales it.
const SIZE: Size = Size { width: 400, height: 200 };
/// Points of a line: about one for each dot of a screen.
const POINTS: usize = 500;
/// Gaps that are explained in words below the charts.
const GAPS_TOLD_MAX: usize = 100;

/// Returns the paths of the page.
pub(super) fn pages(rooms: Rooms) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/charts", get(charts_alone))
        .route("/cards", get(cards_alone))
        .route("/extremes", get(extremes))
        .route("/health", get(health))
        .route("/style.css", get(style))
        .route("/live.js", get(script))
        .route("/favicon.svg", get(icon))
        .fallback(nowhere)
        .with_state(rooms)
}

/// How a visitor wants to see a page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Visit {
    units: Units,
}

impl Visit {
    /// Reads a query that says nothing else.
    pub(super) fn read(text: Option<&str>, rooms: &Rooms) -> Result<Visit, String> {
        let mut query = Query::read(text)?;
        let visit = Visit::of(&mut query, rooms)?;
        query.finish()?;
        Ok(visit)
    }

    fn of(query: &mut Query, rooms: &Rooms) -> Result<Visit, String> {
        Ok(Visit { units: query.units(rooms.station.units)? })
    }

    /// Returns how a page is to be seen now.
    pub(super) fn view<'a>(&self, rooms: &'a Rooms) -> View<'a> {
        View {
            station: &rooms.station.name,
            units: self.units,
            zone: rooms.almanac.terms().days.zone(),
            now_s: now_ms().div_euclid(1_000),
        }
    }
}

/// Why a page is not shown.
struct Failed {
    code: StatusCode,
    text: String,
}

impl Failed {
    fn wrong(text: String) -> Failed {
        Failed { code: StatusCode::BAD_REQUEST, text }
    }

    fn shown(self, visit: Visit, rooms: &Rooms) -> Response {
        (self.code, Html(page::error_page(&visit.view(rooms), self.code.as_u16(), &self.text))).into_response()
    }
}

impl From<AlmanacError> for Failed {
    fn from(error: AlmanacError) -> Failed {
        Failed { code: problem::code_of(&error), text: error.to_string() }
    }
}

impl From<RecordsError> for Failed {
    fn from(error: RecordsError) -> Failed {
        Failed { code: StatusCode::SERVICE_UNAVAILABLE, text: error.to_string() }
    }
}

/// A visit with the range of its charts.
struct ChartsVisit {
    visit: Visit,
    wanted: Wanted,
    active: Active,
}

impl ChartsVisit {
    fn read(text: Option<&str>, rooms: &Rooms) -> Result<ChartsVisit, String> {
        let mut query = Query::read(text)?;
        let visit = Visit::of(&mut query, rooms)?;
        let mut typed = Query::read(text)?;
        let ends = (typed.take("from"), typed.take("to"));
        let wanted = range(&mut query, rooms.almanac.terms().days.zone())?;
        query.finish()?;
        let active = match (&wanted, ends) {
            (Wanted::Quick(quick), _) => Active::Quick(*quick),
            // The end that is not given is in the links as well, which are for the same time.
            (Wanted::Range(range), (from, to)) => Active::Custom {
                from: from.unwrap_or_else(|| utc(range.from_s)),
                to: to.unwrap_or_else(|| utc(range.to_s)),
            },
        };
        Ok(ChartsVisit { visit, wanted, active })
    }
}

/// Answers with what `shown` makes, or with the page that says why not.
async fn answer<T>(
    read: Result<T, String>,
    visit_of: impl Fn(&T) -> Visit,
    rooms: &Rooms,
    shown: impl AsyncFnOnce(&T) -> Result<String, Failed>,
) -> Response {
    match read {
        Err(text) => Failed::wrong(text).shown(Visit { units: rooms.station.units }, rooms),
        Ok(asked) => match shown(&asked).await {
            Ok(html) => Html(html).into_response(),
            Err(failed) => failed.shown(visit_of(&asked), rooms),
        },
    }
}

async fn front(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Response {
    let read = ChartsVisit::read(query.as_deref(), &rooms);
    answer(
        read,
        |asked| asked.visit,
        &rooms,
        async |asked| {
            let (now, charts, report) = tokio::join!(rooms.almanac.now(), charts(asked, &rooms), rooms.health.report());
            let view = asked.visit.view(&rooms);
            Ok(page::now_page(&view, &now?, &charts?, &told(&report)))
        },
    )
    .await
}

async fn charts_alone(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Response {
    let read = ChartsVisit::read(query.as_deref(), &rooms);
    answer(
        read,
        |asked| asked.visit,
        &rooms,
        async |asked| Ok(page::charts_fragment(&asked.visit.view(&rooms), &charts(asked, &rooms).await?)),
    )
    .await
}

async fn cards_alone(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Response {
    let read = ChartsVisit::read(query.as_deref(), &rooms);
    answer(
        read,
        |asked| asked.visit,
        &rooms,
        async |asked| Ok(page::cards_fragment(&asked.visit.view(&rooms), &rooms.almanac.now().await?)),
    )
    .await
}

async fn extremes(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Response {
    answer(
        Visit::read(query.as_deref(), &rooms),
        |visit| *visit,
        &rooms,
        async |visit| {
            let now_s = now_ms().div_euclid(1_000);
            let mut periods = Vec::new();
            for period in Period::ALL {
                periods.push(rooms.almanac.extremes(period, now_s).await?);
            }
            Ok(page::extremes_page(&visit.view(&rooms), &periods))
        },
    )
    .await
}

async fn health(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Response {
    answer(
        Visit::read(query.as_deref(), &rooms),
        |visit| *visit,
        &rooms,
        async |visit| {
            let (events, gaps) = (rooms.records.events().await?, rooms.records.gaps(Question::default()).await?);
            Ok(page::health_page(&visit.view(&rooms), &rooms.health.report().await, &events, &gaps))
        },
    )
    .await
}

async fn nowhere(State(rooms): State<Rooms>, uri: Uri) -> Response {
    if uri.path().starts_with("/api/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let text = "There is no such page.".to_owned();
    Failed { code: StatusCode::NOT_FOUND, text }.shown(Visit { units: rooms.station.units }, &rooms)
}

/// Draws the charts of a range.
async fn charts(asked: &ChartsVisit, rooms: &Rooms) -> Result<ChartsPart, Failed> {
    let view = asked.visit.view(rooms);
    let range = rooms.almanac.range(asked.wanted).await?;
    let shown_panels = panels::panels(rooms.almanac.terms().altitude_m.is_some());
    let quantities = shown_panels.iter().flat_map(|panel| panel.quantities).copied().collect();
    let series = Asked { range, source: None, quantities, resolution: Resolution::Points(POINTS) };
    let question = Question {
        from_ms: Some(range.from_s.saturating_mul(1_000)),
        to_ms: Some(range.to_s.saturating_mul(1_000)),
        source: None,
    };
    let (shown, missing) = tokio::join!(rooms.almanac.series(series), rooms.records.gaps(question));
    let (shown, missing) = (shown?, missing.ok());
    let look = Look { units: asked.visit.units, zone: view.zone, size: SIZE };
    let drawn = panels::charts(&shown_panels, &shown, missing.as_ref(), look);
    let svgs = drawn.iter().filter_map(|drawn| Some((drawn.title.to_owned(), chart::svg(drawn).ok()?)));
    Ok(ChartsPart {
        active: asked.active.clone(),
        svgs: svgs.collect(),
        note: note(&shown),
        gaps: missing.map(|missing| gaps_in_words(&missing, &view)).unwrap_or_default(),
    })
}

fn note(shown: &Shown) -> Option<String> {
    if shown.is_partial {
        return Some("The newest readings are still being summarised and are missing here.".to_owned());
    }
    let doubtful = |series: &crate::almanac::Series| series.points.iter().any(|point| point.observed.is_doubtful);
    shown.series.iter().any(doubtful).then(|| {
        "A counter of rain or wind started anew or said something impossible in this time; what it added is left out."
            .to_owned()
    })
}

fn gaps_in_words(missing: &GapReport, view: &View<'_>) -> Vec<String> {
    let time = |ms: i64| {
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default().to_zoned(view.zone.clone());
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let told = missing.sources.iter().flat_map(|source| source.gaps.iter().map(move |gap| (source, gap)));
    let words = told.take(GAPS_TOLD_MAX).map(|(source, gap)| {
        let (from, to, cause) = (time(gap.from_ms), time(gap.to_ms), crate::gaps::cause_in_words(gap.cause));
        let scattered = if gap.scattered { ", here and there" } else { "" };
        format!("{from} to {to}: {} readings of {} are missing{scattered}: {cause}", gap.missing, source.source)
    });
    words.collect()
}

fn told(report: &Report) -> HealthPart {
    HealthPart {
        status: report.status.word().to_owned(),
        issues: report.issues.iter().map(|issue| issue.text.clone()).collect(),
    }
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], format!("{}{}", page::STYLE, chart::STYLE))
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], page::SCRIPT)
}

async fn icon() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "image/svg+xml")], page::FAVICON)
}
