//! The channel that asks an HTTP server: one request for a message.
//!
//! Owns what is asked, and what its answer means: anything but 2xx is a failure. It says nothing of the URL but its server,
//! and never opens a socket: `web` does.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Bytes;

use super::super::error::AlertError;
use super::super::message::Message;
use crate::config::alerts::Webhook;
use crate::config::template::Escape;
use crate::web::{self, WebError};

/// The server to ask.
pub struct Hook {
    webhook: Webhook,
}

impl Hook {
    pub(super) fn new(webhook: Webhook) -> Hook {
        Hook { webhook }
    }

    pub(super) fn timeout(&self) -> Duration {
        self.webhook.timeout
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), AlertError> {
        let url = self.webhook.url.fill(|field| message.field(field), Escape::Percent);
        let url: Uri = url.parse().map_err(|error| unmade(&error))?;
        let request = self.request(&url, message)?;
        let answer = web::ask(&url, self.webhook.ca.as_deref(), request, |status| !status.is_success()).await;
        let answer = answer.map_err(|error| match error {
            WebError::Unreachable(reason) => AlertError::Unreachable { server: self.server(), reason },
            WebError::File(text) => AlertError::File(text),
        })?;
        let status = answer.status;
        if status.is_success() {
            return Ok(());
        }
        let is_later = matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::TOO_EARLY
                | StatusCode::TOO_MANY_REQUESTS
        );
        let is_final = status.is_client_error() && !is_later;
        Err(AlertError::Refused { server: self.server(), answer: answer.in_words(), is_final })
    }

    fn request(&self, url: &Uri, message: &Message) -> Result<Request<Full<Bytes>>, AlertError> {
        let Webhook { method, headers, body, content_type, .. } = &self.webhook;
        let mut request = web::request(method, url);
        let field = |field| message.field(field);
        for (name, value) in headers {
            let value = value.fill(field, Escape::Line);
            request = request.header(name, HeaderValue::from_bytes(value.as_bytes()).map_err(|error| unmade(&error))?);
        }
        if *method == "GET" {
            return request.body(Full::default()).map_err(|error| unmade(&error));
        }
        let body = body.fill(field, escape(content_type));
        let request = request.header(header::CONTENT_TYPE, content_type);
        request.body(Full::new(Bytes::from(body))).map_err(|error| unmade(&error))
    }

    fn server(&self) -> String {
        self.webhook.server().to_owned()
    }
}

/// Returns how fields are written within a body of this media type.
fn escape(content_type: &str) -> Escape {
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "application/x-www-form-urlencoded" => Escape::Percent,
        json if json.ends_with("json") => Escape::Json,
        _ => Escape::None,
    }
}

fn unmade(error: &dyn Display) -> AlertError {
    AlertError::Unmade(error.to_string())
}
