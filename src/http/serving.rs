//! Connections of HTTP: how many there are at once, and how long each may take.
//!
//! Owns the loop that accepts them and their end. It never knows what is asked for. Peers that send nothing, or read nothing,
//! are dropped after a time, and a crowd of them uses up neither files nor memory that the sensors need.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::log::Rate;
use crate::tasks::{Name, named};

/// Connections at once, on one listener.
const CONNECTIONS_MAX: usize = 64;
/// How long a peer may take to ask, also for what it asks next.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last in all: a channel of the alerts that is tested may take five minutes.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// How long a request may be under way when the hub stops.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// Serves connections until `stop`; `dress` tells an application who the peer is.
pub(super) async fn serve<L>(
    mut listener: L,
    app: Router,
    dress: impl Fn(Router, &L::Addr) -> Router,
    stop: CancellationToken,
) where
    L: axum::serve::Listener,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let (connections, crowded_lines) = (TaskTracker::new(), Rate::default());
    while let Some((io, peer)) = stop.run_until_cancelled(listener.accept()).await {
        let Ok(place) = room.clone().try_acquire_owned() else {
            if crowded_lines.allows() {
                warn!(
                    connections = CONNECTIONS_MAX,
                    "HTTP: a connection is closed unheard, there are as many as there may be"
                );
            }
            continue;
        };
        let (app, stop) = (dress(app.clone(), &peer), stop.clone());
        connections.spawn(named(Name::Client("HTTP connection", None), async move {
            if tokio::time::timeout(CONNECTION_TIME_MAX, converse(io, app, stop)).await.is_err() {
                debug!("an HTTP connection has lasted for too long");
            }
            drop(place);
        }));
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(END_TIME_MAX, connections.wait()).await.is_err() {
        debug!(connections = connections.len(), "HTTP connections are cut off: the hub stops");
    }
}

/// Answers what one peer asks for.
async fn converse<I>(io: I, app: Router, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME_MAX)
        .serve_connection(TokioIo::new(io), TowerToHyperService::new(app));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "an HTTP connection broke");
    }
}
