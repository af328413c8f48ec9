//! Alerts over HTTP: the list for whoever may read, acknowledgement and tests for the owner's socket alone.
//!
//! Owns these paths, and their answers in words for the commands.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::alert::{AlertError, Alerts, Listing};

/// Where the list is.
pub(super) const LIST: &str = "/api/v1/alerts";

/// Returns what anybody may ask for.
pub(super) fn readers(alerts: Arc<Alerts>) -> Router {
    Router::new().route(LIST, get(list)).with_state(alerts)
}

/// Returns what the owner alone may ask for.
pub(super) fn owners(alerts: Arc<Alerts>) -> Router {
    Router::new()
        .route("/api/v1/alerts/rules/{rule}/ack", post(acknowledge))
        .route("/api/v1/alerts/channels/{channel}/test", post(test))
        .with_state(alerts)
}

/// Returns the path that acknowledges what a rule tells. Names of rules and channels need no escape.
pub(super) fn acknowledge_path(rule: &str) -> String {
    format!("/api/v1/alerts/rules/{rule}/ack")
}

/// Returns the path that tests a channel.
pub(super) fn test_path(channel: &str) -> String {
    format!("/api/v1/alerts/channels/{channel}/test")
}

async fn list(State(alerts): State<Arc<Alerts>>) -> Json<Listing> {
    Json(alerts.listing())
}

async fn acknowledge(State(alerts): State<Arc<Alerts>>, Path(rule): Path<String>) -> (StatusCode, String) {
    match alerts.acknowledge(&rule) {
        Ok(0) => (StatusCode::OK, format!("{rule} tells of nothing now: there is nothing to acknowledge")),
        Ok(1) => (StatusCode::OK, format!("{rule} is acknowledged: it is not repeated, its end is told")),
        Ok(count) => {
            (StatusCode::OK, format!("{rule} is acknowledged on {count}: it is not repeated, its end is told"))
        }
        Err(error) => failed(&error),
    }
}

async fn test(State(alerts): State<Arc<Alerts>>, Path(channel): Path<String>) -> (StatusCode, String) {
    match alerts.test(&channel).await {
        Ok(()) => (StatusCode::OK, format!("{channel} took the test")),
        Err(error) => failed(&error),
    }
}

fn failed(error: &AlertError) -> (StatusCode, String) {
    let code = match error {
        AlertError::Unknown { .. } => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_GATEWAY,
    };
    (code, error.to_string())
}

/// Returns a list of alerts in lines for a person.
pub fn in_words(listing: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().escape_debug().to_string();
    let time = |value: &serde_json::Value| {
        let time = jiff::Timestamp::from_millisecond(value.as_i64().unwrap_or_default()).unwrap_or_default();
        time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    };
    let mut lines = Vec::new();
    for (key, word) in [("firing", "FIRING"), ("ended", "over")] {
        for alert in listing[key].as_array().into_iter().flatten() {
            let until = if alert["resolved_ms"].is_null() {
                String::new()
            } else {
                format!(" until {}", time(&alert["resolved_ms"]))
            };
            let known = if alert["acknowledged_ms"].is_null() { "" } else { ", acknowledged" };
            lines.push(format!(
                "{word} {} ({}{known}) since {}{until}: {}: {}",
                text(&alert["rule"]),
                text(&alert["severity"]),
                time(&alert["fired_ms"]),
                text(&alert["subject"]),
                text(&alert["text"])
            ));
        }
    }
    if lines.is_empty() {
        lines.push("Nothing is told, and nothing was.".to_owned());
    }
    for channel in listing["channels"].as_array().into_iter().flatten() {
        let error = channel["error"].as_str().map(|error| format!(", failing: {error}")).unwrap_or_default();
        lines.push(format!(
            "channel {} ({}): {} sent, {} waiting, {} dropped{error}",
            text(&channel["name"]),
            text(&channel["kind"]),
            channel["sent"],
            channel["waiting"],
            channel["dropped"]
        ));
    }
    lines.join("\n")
}
