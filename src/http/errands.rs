//! The owner's errands over the socket: rows to import, messages of the quarantine to replay or to drop.
//!
//! Owns these paths and what is sent to them. It does nothing itself: the desk does.

use std::path::Path;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::client::{self, ClientError};
use super::socket_path;
use crate::maintenance::desk::{Desk, DeskError};
use crate::store::errand::Done;
use crate::store::import::{ImportedRow, Station};

const IMPORT: &str = "/api/v1/import";
const REPLAY: &str = "/api/v1/quarantine/replay";
const DROP: &str = "/api/v1/quarantine/drop";

/// Rows to import.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rows {
    /// Their table.
    pub station: Station,
    /// The rows.
    pub rows: Vec<ImportedRow>,
}

/// Messages of the quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub struct Messages {
    /// Their numbers.
    pub ids: Vec<i64>,
}

/// Returns what the owner alone may ask for.
pub(super) fn owners(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(IMPORT, post(import))
        .route(REPLAY, post(replay))
        .route(DROP, post(drop_messages))
        .with_state(desk)
}

/// Has rows imported by the hub that runs.
///
/// # Errors
/// [`ClientError`].
pub async fn ask_import(database: &Path, rows: &Rows) -> Result<String, ClientError> {
    client::post_json(&socket_path(database), IMPORT, rows).await
}

/// Has messages of the quarantine replayed.
///
/// # Errors
/// [`ClientError`].
pub async fn ask_replay(database: &Path, messages: &Messages) -> Result<String, ClientError> {
    client::post_json(&socket_path(database), REPLAY, messages).await
}

/// Has messages of the quarantine dropped.
///
/// # Errors
/// [`ClientError`].
pub async fn ask_drop(database: &Path, messages: &Messages) -> Result<String, ClientError> {
    client::post_json(&socket_path(database), DROP, messages).await
}

async fn import(State(desk): State<Arc<Desk>>, Json(rows): Json<Rows>) -> Response {
    answer(desk.import(rows.station, rows.rows).await)
}

async fn replay(State(desk): State<Arc<Desk>>, Json(messages): Json<Messages>) -> Response {
    answer(desk.replay(messages.ids).await)
}

async fn drop_messages(State(desk): State<Arc<Desk>>, Json(messages): Json<Messages>) -> Response {
    answer(desk.drop_messages(messages.ids).await)
}

fn answer(done: Result<Done, DeskError>) -> Response {
    match done {
        Ok(done) => Json(done).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}
