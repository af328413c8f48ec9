//! The way to a network: one bulletin goes out, and its answer is understood.
//!
//! Owns the one interface that all networks have, and the deadline of an attempt. It never tries twice.

use std::time::Duration;

use axum::http::{HeaderValue, Uri, header};
use http_body_util::Full;
use tokio::net::TcpStream;

use super::cwop::{self, Unsent};
use super::error::{Fault, UploadError};
use super::{windy, wunderground};
use crate::almanac::Bulletin;
use crate::config::Password;
use crate::config::upload::{Network, Place, Upload};
use crate::tasks::{self, Name};
use crate::web;

/// How long an attempt may take.
const TIME_MAX: Duration = Duration::from_secs(30);

/// The way to one network.
#[derive(Debug)]
pub(super) struct Way {
    upload: Upload,
}

impl Way {
    pub(super) fn new(upload: Upload) -> Way {
        Way { upload }
    }

    /// Sends a bulletin once.
    pub(super) async fn send(&self, bulletin: &Bulletin) -> Result<(), UploadError> {
        let sent = async {
            let secret = self.secret().await?;
            match self.upload.network {
                Network::Cwop => self.packet(secret.as_deref().unwrap_or(cwop::PASSCODE), bulletin).await,
                _ => self.request(&secret.unwrap_or_default(), bulletin).await,
            }
        };
        let slow = |_| UploadError::Slow { server: self.server(), time: TIME_MAX };
        tokio::time::timeout(TIME_MAX, sent).await.map_err(slow)?
    }

    /// Returns the network's server, for people.
    pub(super) fn server(&self) -> String {
        let (host, port) = cwop::SERVER;
        match (&self.upload.place, self.upload.network) {
            (Place::Server(host, port), _) => format!("{host}:{port}"),
            (_, Network::Cwop) => format!("{host}:{port}"),
            _ => {
                let url = self.url();
                let authority = url.authority().map_or("", |authority| authority.as_str());
                format!("{}://{authority}", url.scheme_str().unwrap_or("https"))
            }
        }
    }

    fn url(&self) -> Uri {
        match (&self.upload.place, self.upload.network) {
            (Place::Url(url), _) => url.clone(),
            (_, Network::Windy) => Uri::from_static(windy::URL),
            _ => Uri::from_static(wunderground::URL),
        }
    }

    /// Reads the password; a file may be another since the last time, and its disk may be slow.
    async fn secret(&self) -> Result<Option<String>, UploadError> {
        let Some(password) = self.upload.password.clone() else { return Ok(None) };
        let read = tasks::blocking(Name::Part("upload"), move || {
            let named =
                if let Password::File(path) = &password { format!("{}: ", path.display()) } else { String::new() };
            password.read().map_err(|error| format!("{named}{error}"))
        });
        let read = read.await.map_err(|error| UploadError::File(error.to_string()))?;
        read.map(|secret| Some(secret.trim().to_owned())).map_err(UploadError::File)
    }

    async fn request(&self, secret: &str, bulletin: &Bulletin) -> Result<(), UploadError> {
        let (url, station) = (self.url(), &self.upload.station);
        let is_windy = self.upload.network == Network::Windy;
        let query =
            if is_windy { windy::fields(station, bulletin) } else { wunderground::fields(station, secret, bulletin) };
        let unmade = |_| UploadError::Unmade("the password holds what no request can".to_owned());
        let url: Uri = format!("{url}?{query}").parse().map_err(|_| UploadError::Unmade("its URL".to_owned()))?;
        let mut request = web::request("GET", &url);
        if is_windy {
            let mut token = HeaderValue::from_str(&format!("Bearer {secret}")).map_err(unmade)?;
            token.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, token);
        }
        let request = request.body(Full::default()).map_err(|error| UploadError::Unmade(error.to_string()))?;
        let answer = web::ask(&url, self.upload.ca.as_deref(), request, |_| true).await;
        let answer = answer.map_err(|error| UploadError::web(&self.server(), error))?;
        let judged = if is_windy { windy::judge(&answer) } else { wunderground::judge(&answer) };
        judged.map_err(|fault| UploadError::Refused { server: self.server(), answer: answer.in_words(), fault })
    }

    async fn packet(&self, passcode: &str, bulletin: &Bulletin) -> Result<(), UploadError> {
        let place = match &self.upload.place {
            Place::Server(host, port) => (host.as_str(), *port),
            _ => cwop::SERVER,
        };
        let position = self.upload.position.unwrap_or_default();
        let packet = cwop::packet(&self.upload.station, position, bulletin);
        let unreachable =
            |error: std::io::Error| UploadError::Unreachable { server: self.server(), reason: error.to_string() };
        let refused = |answer, fault: Fault| UploadError::Refused { server: self.server(), answer, fault };
        let stream = TcpStream::connect(place).await.map_err(unreachable)?;
        cwop::converse(stream, &self.upload.station, passcode, &packet).await.map_err(|unsent| match unsent {
            Unsent::Io(error) => unreachable(error),
            Unsent::Refused(answer, fault) => refused(answer, fault),
        })
    }
}
