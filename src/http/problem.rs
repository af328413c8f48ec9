//! Errors as problem details (RFC 9457).
//!
//! Owns their form. What went wrong, and in which words, is said by whoever refuses.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::almanac::AlmanacError;

/// The media type of a problem.
pub(super) const PROBLEM: &str = "application/problem+json";

/// Why there is no answer, for a program.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Problem {
    /// The code.
    status: u16,
    /// What the code means.
    title: String,
    /// What is wrong this time, and what to do.
    detail: String,
}

impl Problem {
    /// Makes a problem of a code and its words.
    pub(super) fn new(code: StatusCode, detail: impl Into<String>) -> Problem {
        let title = code.canonical_reason().unwrap_or("Error").to_owned();
        Problem { status: code.as_u16(), title, detail: detail.into() }
    }

    /// Makes the problem of a question that cannot be understood.
    pub(super) fn wrong(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }
}

/// Returns the code of an error of the almanac's.
pub(super) fn code_of(error: &AlmanacError) -> StatusCode {
    match error {
        AlmanacError::Unanswered(_) => StatusCode::SERVICE_UNAVAILABLE,
        AlmanacError::UnknownSource(_) => StatusCode::NOT_FOUND,
    }
}

impl From<AlmanacError> for Problem {
    fn from(error: AlmanacError) -> Problem {
        Problem::new(code_of(&error), error.to_string())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&self).unwrap_or_default();
        (code, [(header::CONTENT_TYPE, PROBLEM)], text).into_response()
    }
}
