//! Events and gaps over HTTP: the lists for whoever may read, acknowledgement for the owner's socket alone.
//!
//! Owns these paths and their queries.

use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use percent_encoding::percent_decode_str;

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

async fn events(State(records): State<Arc<Records>>) -> Result<Json<Vec<Event>>, Failed> {
    records.events().await.map(Json).map_err(|error| failed(&error))
}

async fn gaps(State(records): State<Arc<Records>>, RawQuery(query): RawQuery) -> Result<Json<GapReport>, Failed> {
    let question = question(&query.unwrap_or_default()).map_err(|error| failed(&error))?;
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
fn question(query: &str) -> Result<Question, RecordsError> {
    let mut question = Question::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
        let time = || {
            let parsed = parse_time(&value, now_ms()).map(Some);
            parsed.map_err(|error| RecordsError::Wrong(format!("`{key}` {error}")))
        };
        match key {
            "from" => question.from_ms = time()?,
            "to" => question.to_ms = time()?,
            "source" => question.source = Some(value),
            _ => return Err(RecordsError::Wrong(format!("there is no {key:?}, only from, to and source"))),
        }
    }
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
        let asked = question("from=2025-10-03&source=a%2Fb+c&to=2025-10-03T08%3A24%3A05").unwrap();
        assert_eq!((asked.from_ms, asked.to_ms), (Some(1_759_449_600_000), Some(1_759_479_845_000)));
        assert_eq!(asked.source.as_deref(), Some("a/b c"));
        assert!(question("form=2025-10-03").is_err() && question("from=yesterday").is_err());
    }
}
