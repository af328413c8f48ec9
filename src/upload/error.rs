//! What can go wrong with uploads. It never says a secret: of a URL, scheme, host and port alone.

use std::time::Duration;

use axum::http::{StatusCode, header};
use jiff::Timestamp;

use crate::web::{Answer, WebError};

/// The longest pause that a network may ask for.
const LATER_MAX: Duration = Duration::from_secs(3_600);

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Not now; perhaps with how long to wait.
    Later(Option<Duration>),
    /// The station's id or its password is wrong.
    Login,
    /// This observation is not taken, however often it is sent.
    Rejected,
}

impl Fault {
    /// Says what the status of an answer that is none of 2xx means.
    pub(super) fn of_status(answer: &Answer) -> Fault {
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => Fault::Login,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Fault::Later(pause(answer))
            }
            status if status.is_client_error() => Fault::Rejected,
            _ => Fault::Later(pause(answer)),
        }
    }
}

/// Returns how long to wait, as an answer says: in seconds in its header, or as a time in the JSON of its body.
fn pause(answer: &Answer) -> Option<Duration> {
    let header = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let from_body = || {
        let body: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
        let until: Timestamp = body.get("retry_after")?.as_str()?.parse().ok()?;
        u64::try_from(until.as_second() - Timestamp::now().as_second()).ok()
    };
    header.or_else(from_body).map(|seconds| Duration::from_secs(seconds).min(LATER_MAX))
}

/// An error of the room.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// A server cannot be reached.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
    /// A server does not take it.
    #[error("{server} answered {answer}")]
    Refused {
        /// Which.
        server: String,
        /// What it answered.
        answer: String,
        /// What that means.
        fault: Fault,
    },
    /// A server took too long.
    #[error("{server} did not answer within {} s", .time.as_secs())]
    Slow {
        /// Which.
        server: String,
        /// How long it had.
        time: Duration,
    },
    /// A file that is needed cannot be used.
    #[error("{0}")]
    File(String),
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Unmade(String),
}

impl UploadError {
    pub(super) fn web(server: &str, error: WebError) -> UploadError {
        match error {
            WebError::Unreachable(reason) => UploadError::Unreachable { server: server.to_owned(), reason },
            WebError::File(text) => UploadError::File(text),
        }
    }

    /// Returns what a refusal means; `None` where it is none.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self {
            UploadError::Refused { fault, .. } => Some(*fault),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    pub(in crate::upload) fn answer(status: u16, body: &str) -> Answer {
        Answer::new(StatusCode::from_u16(status).unwrap(), body)
    }

    #[test]
    fn a_network_says_how_long_to_wait() {
        let mut busy = answer(429, "");
        assert_eq!(Fault::of_status(&busy), Fault::Later(None));
        busy.headers.insert(header::RETRY_AFTER, "90".parse().unwrap());
        assert_eq!(Fault::of_status(&busy), Fault::Later(Some(Duration::from_secs(90))));
        busy.headers.insert(header::RETRY_AFTER, "999999".parse().unwrap());
        assert_eq!(Fault::of_status(&busy), Fault::Later(Some(LATER_MAX)));
        let until = (Timestamp::now() + Duration::from_secs(200)).to_string();
        let Fault::Later(Some(time)) = Fault::of_status(&answer(429, &format!("{{\"retry_after\":\"{until}\"}}")))
        else {
            panic!("it says when")
        };
        assert!((198..=200).contains(&time.as_secs()), "{time:?}");
    }
}
