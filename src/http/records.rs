//! Events and gaps over HTTP: the lists for whoever may read, acknowledgement for the owner's socket alone.
//!
//! Owns these paths and their queries.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use super::query::Query;
use crate::clock::now_ms;
use crate::gaps::parse_time;
use crate::records::{Question, Records, RecordsError};
use crate::store::{Event, GapReport};

type Failed = (StatusCode, String);

/// Returns what anybody may ask for.
pub(super) fn readers(records: Arc<Records>) -> Router {
    Router::new().route("/api/v1/events", get(events)).route("/api/v1/gaps", get(gaps)).with_state(records)
}

/// Returns what the owner alone may ask for.
pub(super) fn owners(records: Arc<Records>) -> Router {
    Router::new().route("/api/v1/events/{id}/ack", post(acknowledge)).with_state(records)
}

/// Returns the path that acknowledges an event.
pub(super) fn acknowledge_path(id: i64) -> String {
    format!("/api/v1/events/{id}/ack")
}

async fn events(State(records): State<Arc<Records>>, RawQuery(query): RawQuery) -> Result<Json<Vec<Event>>, Failed> {
    Query::read(query.as_deref()).and_then(Query::finish).map_err(|error| failed(&RecordsError::Wrong(error)))?;
    records.events().await.map(Json).map_err(|error| failed(&error))
}

async fn gaps(State(records): State<Arc<Records>>, RawQuery(query): RawQuery) -> Result<Json<GapReport>, Failed> {
    let question = question(query.as_deref()).map_err(|error| failed(&RecordsError::Wrong(error)))?;
    records.gaps(question).await.map(Json).map_err(|error| failed(&error))
}

async fn acknowledge(State(records): State<Arc<Records>>, Path(id): Path<i64>) -> Result<String, Failed> {
    match records.acknowledge(id).await {
        Ok(true) => Ok(format!("event {id} is acknowledged")),
        Ok(false) => Ok(format!("event {id} is acknowledged once the database can be written")),
        Err(error) => Err(failed(&error)),
    }
}

/// Reads the query of a URL.
fn question(text: Option<&str>) -> Result<Question, String> {
    let mut query = Query::read(text)?;
    let question = Question {
        from_ms: query.parsed("from", |text| parse_time(text, now_ms()))?,
        to_ms: query.parsed("to", |text| parse_time(text, now_ms()))?,
        source: query.take("source"),
    };
    query.finish()?;
    Ok(question)
}

fn failed(error: &RecordsError) -> Failed {
    let code = match error {
        RecordsError::Unknown(_) => StatusCode::NOT_FOUND,
        RecordsError::Wrong(_) => StatusCode::BAD_REQUEST,
        RecordsError::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_query_is_read_and_what_nobody_knows_is_refused() {
        let asked = question(Some("from=2025-10-03&source=a%2Fb+c&to=2025-10-03T08%3A24%3A05")).unwrap();
        assert_eq!((asked.from_ms, asked.to_ms), (Some(1_759_449_600_000), Some(1_759_479_845_000)));
        assert_eq!(asked.source.as_deref(), Some("a/b c"));
        assert!(question(Some("form=2025-10-03")).is_err() && question(Some("from=yesterday")).is_err());
    }
}
