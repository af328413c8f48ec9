//! Asking a running hub over its socket, as the commands do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::socket::Way;
use crate::health::bridge::{span, waiting_words};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// A channel may take five minutes.
const DOING_TIME_MAX: Duration = Duration::from_secs(310);
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
    /// The hub does not do what it was asked to.
    #[error("{0}")]
    Refused(String),
    /// The hub does not answer as it should.
    #[error("the hub does not answer: {0}")]
    NoAnswer(String),
}

/// Gets a path over the socket.
///
/// # Errors
/// [`ClientError`].
pub async fn get(socket: &Path, path: &str) -> Result<String, ClientError> {
    within(ANSWER_TIME_MAX, ask(socket, Method::GET, path, Bytes::new())).await
}

/// Has something done over the socket, which may take as long as a channel of the alerts may.
///
/// # Errors
/// [`ClientError`].
pub async fn post(socket: &Path, path: &str) -> Result<String, ClientError> {
    within(DOING_TIME_MAX, ask(socket, Method::POST, path, Bytes::new())).await
}

/// Has something done over the socket that is described in JSON.
///
/// # Errors
/// [`ClientError`].
pub async fn post_json(socket: &Path, path: &str, what: &impl serde::Serialize) -> Result<String, ClientError> {
    let body = serde_json::to_vec(what).map_err(|error| ClientError::NoAnswer(error.to_string()))?;
    within(DOING_TIME_MAX, ask(socket, Method::POST, path, body.into())).await
}

async fn within(
    time: Duration,
    answer: impl Future<Output = Result<String, ClientError>>,
) -> Result<String, ClientError> {
    let nothing = |_| Err(ClientError::NoAnswer(format!("nothing within {time:?}")));
    tokio::time::timeout(time, answer).await.unwrap_or_else(nothing)
}

async fn ask(socket: &Path, method: Method, path: &str, body: Bytes) -> Result<String, ClientError> {
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
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .map_err(|error| no_answer(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(|error| no_answer(&error))?.to_bytes();
        let text = String::from_utf8_lossy(&body).into_owned();
        match status {
            status if status.is_success() => Ok(text),
            StatusCode::NOT_FOUND | StatusCode::BAD_GATEWAY if !text.is_empty() => Err(ClientError::Refused(text)),
            status => Err(no_answer(&format!("{status}: {text}"))),
        }
    };
    tokio::select! {
        answer = exchange => answer,
        ended = connection => Err(match ended {
            Ok(()) => ClientError::NoAnswer("the connection was closed".to_owned()),
            Err(error) => no_answer(&error),
        }),
    }
}

/// Whether words are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// For a terminal.
    On,
    /// For a file or a program.
    Off,
}

impl Colours {
    /// Colours a word that says how something is, by what it says.
    pub(crate) fn of(self, word: &str) -> String {
        let colour = match word {
            "ok" => "32",
            "degraded" | "unknown" => "33",
            "failing" => "31;1",
            _ => return word.to_owned(),
        };
        match self {
            Colours::On => format!("\x1b[{colour}m{word}\x1b[0m"),
            Colours::Off => word.to_owned(),
        }
    }
}

/// Returns a status report in lines for a person.
pub fn in_words(report: &serde_json::Value, colours: Colours) -> String {
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let figures = &report["figures"];
    let mut lines = vec![format!(
        "{}: stationhub {} (pid {}) on {}, up {} s",
        colours.of(&text(&report["status"])),
        text(&report["version"]),
        report["pid"],
        text(&report["database"]),
        report["uptime_s"]
    )];
    for issue in report["issues"].as_array().into_iter().flatten() {
        let severity = colours.of(&text(&issue["severity"]));
        lines.push(format!("  {severity} {}: {}", text(&issue["id"]), text(&issue["text"])));
    }
    for (name, key) in [
        ("readings stored", "readings"),
        ("waiting", "queue_jobs"),
        ("quarantined", "quarantined"),
        ("redeliveries", "duplicates"),
        ("samples sent again", "repeats"),
        ("lost", "lost"),
        ("clients", "clients"),
    ] {
        lines.push(format!("  {name}: {}", figures[key]));
    }
    if report["backup"].is_object() {
        lines.push(format!("  last backup: {}", report["backup"]["last"].as_str().unwrap_or("none")));
    }
    if report["written"].is_object() {
        lines.push(written_in_words(&report["written"]));
    }
    if report["bridge"].is_object() {
        lines.extend(bridge_in_words(&report["bridge"], figures).map(|words| format!("  bridge: {words}")));
    }
    lines.join("\n")
}

fn written_in_words(written: &serde_json::Value) -> String {
    let megabytes = |key: &str| written[key].as_f64().map(|bytes| format!("{:.1} MB", bytes / 1e6));
    let a_day = megabytes("per_day_bytes").map_or_else(String::new, |bytes| format!(", {bytes} a day"));
    format!("  written to disk: {} today{a_day}", megabytes("today_bytes").unwrap_or_default())
}

fn bridge_in_words(bridge: &serde_json::Value, figures: &serde_json::Value) -> [String; 3] {
    let count = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
    let backlog = &bridge["backlog"];
    let upstream = bridge["upstream"].as_str().unwrap_or_default();
    let mut way = match bridge["connected"].as_bool() {
        Some(true) => format!("connected to {upstream}"),
        _ => format!("NOT connected to {upstream}"),
    };
    way += &format!(" for {}", span(count(&bridge["standing_s"])));
    if let Some(error) = bridge["last_error"].as_str() {
        way += &format!("; last error: {error}");
    }
    let waits = format!(
        "{}, {} on their way; {:.1}/s are sent, {:.1}/s come in",
        waiting_words(count(&backlog["messages"]), count(&backlog["bytes"]), bridge["oldest_age_s"].as_u64()),
        bridge["in_flight"],
        bridge["sent_per_s"].as_f64().unwrap_or(0.0),
        bridge["added_per_s"].as_f64().unwrap_or(0.0),
    );
    let counted = format!(
        "{} forwarded, {} sent again, {} refused upstream, {} lost for the outbox's limits, {} came from there",
        figures["forwarded"],
        figures["forwarded_again"],
        figures["refused_upstream"],
        figures["outbox_lost"],
        figures["from_upstream"],
    );
    [way, waits, counted]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_the_hub_is_has_a_colour_on_a_terminal_and_none_elsewhere() {
        let issue = json!({"severity": "failing", "id": "store.write", "text": "the database is degraded"});
        let report = json!({"status": "degraded", "issues": [issue], "figures": {}});
        let words = in_words(&report, Colours::On);
        assert!(words.starts_with("\x1b[33mdegraded\x1b[0m: "), "{words:?}");
        assert!(words.contains("  \x1b[31;1mfailing\x1b[0m store.write: the database is degraded\n"), "{words:?}");
        assert!(!in_words(&report, Colours::Off).contains('\x1b'));
    }

    #[test]
    fn what_is_written_to_disk_is_told_by_day_once_that_is_known() {
        let told = |written| in_words(&json!({"figures": {}, "written": written}), Colours::Off);
        let words = told(json!({"today_bytes": 1_500_000, "per_day_bytes": null}));
        assert!(words.ends_with("  written to disk: 1.5 MB today"), "{words}");
        let words = told(json!({"today_bytes": 0, "per_day_bytes": 475_000_000}));
        assert!(words.ends_with("0.0 MB today, 475.0 MB a day"), "{words}");
    }

    #[test]
    fn the_bridge_is_told_in_words_and_no_bridge_is_not() {
        let figures =
            json!({"forwarded": 7, "forwarded_again": 2, "refused_upstream": 1, "outbox_lost": 0, "from_upstream": 3});
        let bridge = json!({
            "upstream": "up.example:8883", "connected": false, "standing_s": 7_200, "last_error": "no route", "in_flight": 0,
            "backlog": {"messages": 12, "bytes": 20_480}, "oldest_age_s": 7_300, "sent_per_s": 0.0, "added_per_s": 0.25,
        });
        let words = in_words(&json!({"figures": figures, "bridge": bridge}), Colours::Off);
        let lines: Vec<&str> = words.lines().filter(|line| line.starts_with("  bridge: ")).collect();
        assert_eq!(
            lines,
            [
                "  bridge: NOT connected to up.example:8883 for 2 h; last error: no route",
                "  bridge: 12 messages (20 KiB) wait, the oldest for 2 h, 0 on their way; 0.0/s are sent, 0.2/s come in",
                "  bridge: 7 forwarded, 2 sent again, 1 refused upstream, 0 lost for the outbox's limits, 3 came from there",
            ]
        );
        assert!(!in_words(&json!({"figures": figures, "bridge": null}), Colours::Off).contains("bridge"));
    }
}
