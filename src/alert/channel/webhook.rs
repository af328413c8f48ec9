//! The channel that asks an HTTP server: one request for a message, over a connection of its own.
//!
//! Owns that request. It follows no redirect, which could lead a secret elsewhere, and says nothing of the URL but its
//! server. Anything but an answer of 2xx is a failure.

use std::fmt::Display;
use std::time::Duration;

use axum::http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::error::AlertError;
use super::super::message::Message;
use crate::config::alerts::Webhook;
use crate::config::template::Escape;
use crate::tasks::{self, Name};
use crate::tls;

/// How much of an answer is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Shorter words of a request are no secrets.
const SECRET_CHARS_MIN: usize = 5;
/// How much of it is told, characters.
const ANSWER_CHARS_MAX: usize = 200;

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
        let with_tls = url.scheme_str() == Some("https");
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if with_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| self.unreachable(&error))?;
        if !with_tls {
            return self.exchange(stream, request).await;
        }
        // The files may have changed, and asking for them may take a while.
        let ca = self.webhook.ca.clone();
        let settings = tasks::blocking(Name::Part("alerts channel"), move || tls::client(ca.as_deref(), None)).await;
        let settings = settings.map_err(|error| AlertError::File(error.to_string()))?;
        let settings = settings.map_err(|faults| {
            let texts: Vec<String> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
            AlertError::File(texts.join("; "))
        })?;
        let name = ServerName::try_from(host).map_err(|error| self.unreachable(&error))?;
        let stream = TlsConnector::from(settings).connect(name, stream).await;
        self.exchange(stream.map_err(|error| self.unreachable(&error))?, request).await
    }

    fn request(&self, url: &Uri, message: &Message) -> Result<Request<Full<Bytes>>, AlertError> {
        let Webhook { method, headers, body, content_type, .. } = &self.webhook;
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        let authority = url.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::builder()
            .method(*method)
            .uri(path)
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("stationhub/", env!("CARGO_PKG_VERSION")));
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

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        request: Request<Full<Bytes>>,
    ) -> Result<(), AlertError> {
        let unreachable = |error: hyper::Error| self.unreachable(&error);
        let secrets = secrets(&request);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(unreachable)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(unreachable)?;
            let status = response.status();
            if status.is_success() {
                return Ok(());
            }
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
            let body = body.map(|body| body.to_bytes()).unwrap_or_default();
            let said = without(&secrets, &String::from_utf8_lossy(&body));
            let said: String = said.chars().take(ANSWER_CHARS_MAX).collect();
            let answer = format!("{status} {}", said.trim().escape_debug()).trim().to_owned();
            let is_later = matches!(
                status,
                StatusCode::UNAUTHORIZED
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::TOO_EARLY
                    | StatusCode::TOO_MANY_REQUESTS
            );
            Err(AlertError::Refused { server: self.server(), answer, is_final: status.is_client_error() && !is_later })
        };
        tokio::pin!(exchange);
        let ended = tokio::select! {
            answer = &mut exchange => return answer,
            ended = connection => ended,
        };
        // The answer may have come with the end, which need not be a clean one then.
        match (exchange.await, ended) {
            (Err(AlertError::Unreachable { .. }), Err(error)) => Err(unreachable(error)),
            (answer, _) => answer,
        }
    }

    fn server(&self) -> String {
        self.webhook.server().to_owned()
    }

    fn unreachable(&self, error: &dyn std::error::Error) -> AlertError {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        AlertError::Unreachable { server: self.server(), reason: format!("{error}{cause}") }
    }
}

/// Returns what a server may echo that nobody else is to read: the words of the path and of the headers.
fn secrets(request: &Request<Full<Bytes>>) -> Vec<String> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let headers = request.headers().values().filter_map(|value| value.to_str().ok());
    let words = std::iter::once(path).chain(headers).flat_map(|text| text.split(['/', '?', '&', '=', ' ', ',', ';']));
    let mut words: Vec<String> = words.filter(|word| word.len() >= SECRET_CHARS_MIN).map(str::to_owned).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"))
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
