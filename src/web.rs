//! One HTTP request to a server elsewhere, over a connection of its own, with TLS where the URL says so.
//!
//! Owns the connection, the request's own headers, and how much of an answer is read. It follows no redirect, which could
//! lead a secret elsewhere, and gives nobody what an answer repeats of the request. It never waits by a deadline of its own:
//! who asks has one.

use std::path::Path;
use std::time::Duration;

use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::tasks::{self, Name};
use crate::tls;

/// How much of an answer is read, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How much of it is told, characters.
const ANSWER_CHARS_MAX: usize = 200;
/// Shorter words of a request are no secrets.
const SECRET_CHARS_MIN: usize = 5;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// The server cannot be reached, or it went away.
    #[error("{0}")]
    Unreachable(String),
    /// A file that is needed cannot be used.
    #[error("{0}")]
    File(String),
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as it came and not to be told; empty where it was not to be read.
    pub body: String,
    /// What of the request nobody else is to read.
    secrets: Vec<String>,
}

impl Answer {
    /// Makes one, to a request without secrets.
    #[cfg(test)]
    pub(crate) fn new(status: StatusCode, body: &str) -> Answer {
        Answer { status, headers: HeaderMap::new(), body: body.to_owned(), secrets: Vec::new() }
    }

    /// Returns status and body in one line for a person, without what the body repeats of the request.
    pub fn in_words(&self) -> String {
        let said: String = without(&self.secrets, &self.body).chars().take(ANSWER_CHARS_MAX).collect();
        format!("{} {}", self.status, said.trim().escape_debug()).trim().to_owned()
    }
}

/// Returns a pause between three quarters and five quarters of `pause`, so that many hubs do not ask one server at once.
pub fn jittered(pause: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    pause.mul_f64(0.75 + 0.5 * f64::from(dice) / f64::from(u32::MAX))
}

/// Begins a request for a URL.
pub fn request(method: &str, url: &Uri) -> Builder {
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or("", |authority| authority.as_str());
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("stationhub/", env!("CARGO_PKG_VERSION")))
}

/// Sends a request to the server of a URL; `reads` says of which statuses the body is wanted. `ca` names the authorities that
/// the server's certificate may come from, without it those that the system trusts.
///
/// # Errors
/// [`WebError`].
pub async fn ask(
    url: &Uri,
    ca: Option<&Path>,
    request: Request<Full<Bytes>>,
    reads: impl Fn(StatusCode) -> bool,
) -> Result<Answer, WebError> {
    let with_tls = url.scheme_str() == Some("https");
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = url.port_u16().unwrap_or(if with_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host.as_str(), port)).await.map_err(|error| unreachable(&error))?;
    if !with_tls {
        return exchange(stream, request, reads).await;
    }
    // The files may have changed, and asking for them may take a while.
    let ca = ca.map(Path::to_owned);
    let settings = tasks::blocking(Name::Part("web"), move || tls::client(ca.as_deref(), None)).await;
    let settings = settings.map_err(|error| WebError::File(error.to_string()))?;
    let settings = settings.map_err(|faults| {
        let texts: Vec<String> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
        WebError::File(texts.join("; "))
    })?;
    let name = ServerName::try_from(host).map_err(|error| unreachable(&error))?;
    let stream = TlsConnector::from(settings).connect(name, stream).await;
    exchange(stream.map_err(|error| unreachable(&error))?, request, reads).await
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: Request<Full<Bytes>>,
    reads: impl Fn(StatusCode) -> bool,
) -> Result<Answer, WebError> {
    let gone = |error: hyper::Error| unreachable(&error);
    let secrets = secrets(&request);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(gone)?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(gone)?;
        let (parts, body) = response.into_parts();
        let body = if reads(parts.status) {
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            body.map(|body| body.to_bytes()).unwrap_or_default()
        } else {
            Bytes::new()
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        Ok(Answer { status: parts.status, headers: parts.headers, body, secrets })
    };
    tokio::pin!(exchange);
    let ended = tokio::select! {
        answer = &mut exchange => return answer,
        ended = connection => ended,
    };
    // The answer may have come with the end, which need not be a clean one then.
    match (exchange.await, ended) {
        (Err(WebError::Unreachable(_)), Err(error)) => Err(gone(error)),
        (answer, _) => answer,
    }
}

fn unreachable(error: &dyn std::error::Error) -> WebError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    WebError::Unreachable(format!("{error}{cause}"))
}

/// Returns what a server may echo that nobody else is to read: the words of the path, of the query's values and of the headers,
/// as they were sent and as they were meant.
fn secrets(request: &Request<Full<Bytes>>) -> Vec<String> {
    let path = request.uri().path_and_query().map_or("", |path| path.as_str());
    let headers = request.headers().values().filter_map(|value| value.to_str().ok());
    let of_path = path.split(['/', '?', '&']).map(|word| word.split_once('=').map_or(word, |(_, value)| value));
    let words = of_path.chain(headers).flat_map(|text| text.split(['/', '=', ' ', ',', ';']));
    let as_meant = |word: &str| percent_decode_str(word).decode_utf8_lossy().into_owned();
    let words = words.flat_map(|word| [word.to_owned(), as_meant(word)]);
    let mut words: Vec<String> = words.filter(|word| word.len() >= SECRET_CHARS_MIN).collect();
    words.sort_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words
}

fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "…"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_an_answer_repeats_of_the_request_is_taken_out() {
        let url: Uri = "http://a.example/up?ID=KX&PASSWORD=a%2Bb%20cd&x=1".parse().unwrap();
        let request = request("GET", &url).header("authorization", "Bearer hush-hush").body(Full::default()).unwrap();
        let said = "a+b cd, a%2Bb%20cd and hush-hush are no PASSWORD for KX";
        let answer = Answer { secrets: secrets(&request), ..Answer::new(StatusCode::FORBIDDEN, said) };
        assert_eq!(answer.in_words(), "403 Forbidden …, … and … are no PASSWORD for KX");
        assert_eq!(answer.body, said, "what it means is to be seen");
    }
}
