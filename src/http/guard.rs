//! What stands before every path on the TCP port: who may ask, under which name, and what a browser is told about it.
//!
//! Owns the check of the host header, the login, the security headers, and the form of errors. The owner's socket has none of
//! it: the system's own permissions guard that.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tracing::warn;

use super::problem::{PROBLEM, Problem};
use crate::broker::auth::{Access, Login, Refusal};
use crate::log::Rate;

/// How long a login may take.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(5);
/// How much of an error's words is told, bytes.
const WORDS_BYTES_MAX: usize = 16 * 1024;
/// What a page of the hub may do: show itself, and ask the hub.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// The peer of a connection; the owner's socket has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// Who may ask on the TCP port.
#[derive(Debug)]
pub struct Guard {
    names: Vec<String>,
    access: Option<Arc<Access>>,
    refused_lines: Rate,
}

impl Guard {
    /// Makes it for an address; `hosts` are names by which the hub is known, `access` the users who may ask where the address is
    /// not loopback.
    pub fn new(address: SocketAddr, hosts: &[String], access: Option<Arc<Access>>) -> Guard {
        let own = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
        let mut names: Vec<String> = hosts.iter().map(|host| host.to_lowercase()).collect();
        names.extend(["localhost".to_owned(), format!("{own}.local"), own]);
        Guard { names, access: access.filter(|_| !address.ip().is_loopback()), refused_lines: Rate::default() }
    }

    /// Tells whether the hub goes by this name. An address is no name that somebody else could have given it.
    fn goes_by(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host
                .rsplit_once(':')
                .map_or(host, |(name, port)| if port.bytes().all(|byte| byte.is_ascii_digit()) { name } else { host }),
        };
        let name = name.strip_suffix('.').unwrap_or(name).to_lowercase();
        name.parse::<IpAddr>().is_ok() || self.names.contains(&name)
    }

    /// Judges a request by its headers; `Err` is the answer.
    async fn admit(&self, headers: &HeaderMap, host_of_uri: Option<&str>, peer: IpAddr) -> Result<(), Response> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).or(host_of_uri);
        let Some(host) = host.filter(|_| hosts.next().is_none()) else {
            return Err(Problem::wrong("a request needs one host header").into_response());
        };
        if !self.goes_by(host) {
            if self.refused_lines.allows() {
                warn!(
                    "HTTP: refused a request for the host {host:?}, which is none of the hub's names: add it to \
                     http.hosts if it is one"
                );
            }
            let text = "the hub does not go by this name: ask by its address, or add the name to http.hosts";
            return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, text).into_response());
        }
        let Some(access) = &self.access else { return Ok(()) };
        let given = headers.get(header::AUTHORIZATION).and_then(|value| credentials(value.to_str().ok()?));
        let Some((name, password)) = given else { return Err(ask_for_login("log in as a user of http.users")) };
        let login = Login { name: Some(&name), password: Some(password.as_bytes()) };
        let deadline = tokio::time::Instant::now() + LOGIN_TIME_MAX;
        match access.admit(login, peer, deadline).await {
            Ok(_) => Ok(()),
            Err(Refusal::Busy) => {
                let text = "too many logins are under way, or too many failed: try again later";
                Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, text).into_response())
            }
            Err(_) => Err(ask_for_login("the name or the password is wrong")),
        }
    }
}

/// Reads the credentials of the scheme Basic (RFC 7617).
fn credentials(header: &str) -> Option<(String, String)> {
    let (scheme, encoded) = header.split_once(' ')?;
    let decoded = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok())??;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(name, password)| (name.to_owned(), password.to_owned()))
}

fn ask_for_login(text: &str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, text).into_response();
    let scheme = HeaderValue::from_static("Basic realm=\"stationhub\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
    response
}

/// Stands before every path.
pub(super) async fn stand(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().map_or(IpAddr::from([0, 0, 0, 0]), |peer| peer.0);
    let is_api = request.uri().path().starts_with("/api/");
    let host_of_uri = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let mut response = match guard.admit(request.headers(), host_of_uri.as_deref(), peer).await {
        Ok(()) => next.run(request).await,
        Err(refused) => refused,
    };
    if is_api && (response.status().is_client_error() || response.status().is_server_error()) {
        response = as_problem(response).await;
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What is asked for is how it is now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Puts the words of an error into the form of a problem.
async fn as_problem(response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // A health report says what is wrong in a form of its own.
    if kind == PROBLEM || kind.starts_with("application/json") {
        return Response::from_parts(parts, body);
    }
    let words = to_bytes(body, WORDS_BYTES_MAX).await.unwrap_or_default();
    let words = String::from_utf8_lossy(&words).into_owned();
    let words = match (words.is_empty(), parts.status) {
        (false, _) => words,
        (true, StatusCode::NOT_FOUND) => "there is nothing here; /api/v1/openapi.json says what there is".to_owned(),
        (true, StatusCode::METHOD_NOT_ALLOWED) => "this path is read only".to_owned(),
        (true, code) => code.to_string(),
    };
    let mut problem = Problem::new(parts.status, words).into_response();
    if let Some(allow) = parts.headers.get(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow.clone());
    }
    problem
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_hub_goes_by_addresses_and_by_its_own_names_alone() {
        let hosts = ["Weather.example".to_owned()];
        let guard = Guard::new("127.0.0.1:8080".parse().unwrap(), &hosts, None);
        for host in ["127.0.0.1", "10.0.0.7:8080", "[::1]:8080", "localhost:1", "LOCALHOST.", "weather.example:80"] {
            assert!(guard.goes_by(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "[evil]", "a:b:80", "::"]
        {
            assert!(!guard.goes_by(host) || host == "::", "{host}");
        }
    }

    #[test]
    fn credentials_are_read_and_nothing_else() {
        let header = |text: &str| format!("Basic {}", STANDARD.encode(text));
        assert_eq!(credentials(&header("a:b:c")), Some(("a".to_owned(), "b:c".to_owned())));
        for wrong in ["", "Basic", "Basic !", "Bearer YTpi", &header("a")] {
            assert_eq!(credentials(wrong), None, "{wrong}");
        }
    }
}
