//! The hub over HTTP: health and metrics for machines, and the owner's socket for the hub's own commands.
//!
//! Owns the routes, the TCP listener and the Unix socket beside the database. It never touches the database itself.

pub mod alerts;
mod answers;
pub mod client;
pub mod errands;
mod guard;
mod live;

mod metrics;
mod pages;

mod problem;
mod query;
mod records;
mod serving;
mod socket;
mod users;
mod weather;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router, middleware};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::guard::Peer;
use self::metrics::Format;
use self::weather::Answering;
use crate::alert::Alerts;
use crate::almanac::Almanac;
use crate::health::{Health, Report};
use crate::maintenance::desk::Desk;
use crate::records::Records;
use crate::weather::units::Units;

pub use self::guard::Guard;
pub use self::live::Live;

pub use self::socket::{OwnersSocket, SocketError, socket_path};
pub use self::users::{PageUsers, access};

/// How often a port that is taken is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// The rooms that can be asked over HTTP.
#[derive(Clone)]
pub struct Rooms {
    /// How the hub is.
    pub health: Arc<Health>,
    /// What is told.
    pub alerts: Arc<Alerts>,
    /// What happened, and what is missing.
    pub records: Arc<Records>,
    /// What the owner has done to the database.
    pub desk: Arc<Desk>,
    /// The weather.
    pub almanac: Almanac,
    /// What the page shows as it comes.
    pub live: Arc<Live>,
    /// The station as the page names it, and its units.
    pub station: Arc<Station>,
}

/// What the page knows of the station.
#[derive(Debug)]
pub struct Station {
    /// Its name.
    pub name: String,
    /// The units that are shown where nobody asks for others.
    pub units: Units,
}

impl Rooms {
    /// Returns what anybody may ask for.
    fn readers(&self) -> Router {
        Router::new()
            .route("/healthz", get(healthz))
            .route("/api/v1/status", get(report))
            .with_state(self.health.clone())
            .merge(Router::new().route("/metrics", get(measured)).with_state(self.clone()))
            .merge(alerts::readers(self.alerts.clone()))
            .merge(records::readers(self.records.clone()))
            .merge(weather::readers(Answering { almanac: self.almanac.clone(), units: self.station.units }))
    }

    /// Returns what a browser may ask for.
    fn pages(&self) -> Router {
        self.readers().merge(pages::pages(self.clone())).merge(live::readers(self.clone()))
    }
}

/// Binds the page's port; `None` where that is not possible now.
pub async fn bind(address: SocketAddr) -> Option<TcpListener> {
    match TcpListener::bind(address).await {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!(
                "cannot serve HTTP on {address}: {error}; the hub runs without and tries again, \
                 choose another address with --http, or \"\" for none"
            );
            None
        }
    }
}

/// Serves HTTP on a TCP port until `stop`, binding it again and again where it was taken.
pub async fn serve_tcp(
    address: SocketAddr,
    bound: Option<TcpListener>,
    rooms: Rooms,
    guard: Arc<Guard>,
    stop: CancellationToken,
) {
    let listener = match bound {
        Some(listener) => listener,
        None => match stop.run_until_cancelled(bind_in_the_end(address)).await {
            Some(listener) => listener,
            None => return,
        },
    };
    let app = rooms.pages().layer(middleware::from_fn_with_state(guard, guard::stand));
    let dress = |app: Router, peer: &SocketAddr| app.layer(Extension(Peer(peer.ip())));
    serving::serve(listener, app, dress, stop).await;
}

/// Serves HTTP on the owner's socket until `stop`, or until its file is gone.
pub async fn serve_socket(socket: OwnersSocket, rooms: Rooms, stop: CancellationToken) {
    let (listener, file) = socket.into_parts();
    let app = rooms.readers().merge(alerts::owners(rooms.alerts)).merge(records::owners(rooms.records));
    let app = app.merge(errands::owners(rooms.desk));
    tokio::select! {
        () = serving::serve(listener, app, |app, _| app, stop) => {}
        () = file.removed() => warn!("the owner's socket was removed by somebody: it is made again"),
    }
}

/// Returns where the owner's socket of a database is asked for its status.
pub async fn status(database: &Path) -> Result<String, client::ClientError> {
    client::get(&socket_path(database), "/api/v1/status").await
}

/// Asks the owner's socket of a database for the alerts.
///
/// # Errors
/// [`client::ClientError`].
pub async fn alerts(database: &Path) -> Result<String, client::ClientError> {
    client::get(&socket_path(database), alerts::LIST).await
}

/// Has what a rule tells acknowledged.
///
/// # Errors
/// [`client::ClientError`].
pub async fn acknowledge(database: &Path, rule: &str) -> Result<String, client::ClientError> {
    client::post(&socket_path(database), &alerts::acknowledge_path(rule)).await
}

/// Has a channel of the alerts tested.
///
/// # Errors
/// [`client::ClientError`].
pub async fn test_channel(database: &Path, channel: &str) -> Result<String, client::ClientError> {
    client::post(&socket_path(database), &alerts::test_path(channel)).await
}

/// Has an event acknowledged.
///
/// # Errors
/// [`client::ClientError`].
pub async fn acknowledge_event(database: &Path, id: i64) -> Result<String, client::ClientError> {
    client::post(&socket_path(database), &records::acknowledge_path(id)).await
}

async fn bind_in_the_end(address: SocketAddr) -> TcpListener {
    loop {
        if let Ok(listener) = TcpListener::bind(address).await {
            info!("HTTP is served on {address} now");
            return listener;
        }
        tokio::time::sleep(RETRY_INTERVAL).await;
    }
}

async fn report(State(health): State<Arc<Health>>) -> Json<Report> {
    Json(health.report().await)
}

async fn healthz(State(health): State<Arc<Health>>) -> (StatusCode, Json<Report>) {
    let report = health.report().await;
    let code = if health.is_unavailable(report.status) { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(report))
}

async fn measured(State(rooms): State<Rooms>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::wanted(accept);
    match metrics::encode(&rooms.health.report().await, &rooms.alerts.listing(), format) {
        Ok(text) => ([(header::CONTENT_TYPE, format.content_type())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
