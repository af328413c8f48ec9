//! Asking a running hub over its socket, as the commands do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::socket::Way;

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens: the hub does not run.
    #[error("no hub runs on this database: {path}: {source}")]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("{path} belongs to another user: run this as the user who runs the hub, or with sudo")]
    NotOwner {
        /// The socket.
        path: PathBuf,
    },
    /// The hub does not answer as it should.
    #[error("the hub does not answer: {0}")]
    NoAnswer(String),
}

/// Gets a path over the socket.
///
/// # Errors
/// [`ClientError`].
pub async fn get(socket: &Path, path: &str) -> Result<String, ClientError> {
    match tokio::time::timeout(ANSWER_TIME_MAX, ask(socket, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(ClientError::NoAnswer(format!("nothing within {ANSWER_TIME_MAX:?}"))),
    }
}

async fn ask(socket: &Path, path: &str) -> Result<String, ClientError> {
    let connected = async {
        let way = Way::to(socket)?;
        UnixStream::connect(&way.path).await
    };
    let stream = connected.await.map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied => ClientError::NotOwner { path: socket.to_owned() },
        _ => ClientError::NotRunning { path: socket.to_owned(), source },
    })?;
    let no_answer = |error: &dyn std::fmt::Display| ClientError::NoAnswer(error.to_string());
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| no_answer(&error))?;
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(|error| no_answer(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| no_answer(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() { Ok(text) } else { Err(no_answer(&format!("{status}: {text}"))) }
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(match ended {
            Ok(()) => ClientError::NoAnswer("the connection was closed".to_owned()),
            Err(error) => no_answer(&error),
        }),
    }
}

/// Returns a status report in lines for a person.
pub fn in_words(report: &serde_json::Value) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let figures = &report["figures"];
    let mut lines = vec![format!(
        "{}: stationhub {} (pid {}) on {}, up {} s",
        text(&report["status"]),
        text(&report["version"]),
        report["pid"],
        text(&report["database"]),
        report["uptime_s"]
    )];
    for issue in report["issues"].as_array().into_iter().flatten() {
        lines.push(format!("  {} {}: {}", text(&issue["severity"]), text(&issue["id"]), text(&issue["text"])));
    }
    for (name, key) in [
        ("readings stored", "readings"),
        ("waiting", "queue_jobs"),
        ("quarantined", "quarantined"),
        ("redeliveries", "duplicates"),
        ("lost", "lost"),
        ("clients", "clients"),
    ] {
        lines.push(format!("  {name}: {}", figures[key]));
    }
    lines.join("\n")
}
