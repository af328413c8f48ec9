//! The way from a listener to a session: what is known of a socket, and how long it may take to send its CONNECT.
//!
//! Owns that deadline, the order of what may cut it short, and the end of a connection that never began.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Broker;
use super::counters::Counters;

/// What a connection knows of the door it came through.
pub(super) struct Door {
    pub(super) peer: SocketAddr,
    /// The listener's name and kind, for log lines.
    pub(super) listener: Arc<str>,
    /// The common name of the certificate that the client has shown.
    pub(super) identity: Option<String>,
    pub(super) packet_bytes_max: usize,
    pub(super) connect_timeout: Duration,
    /// When that time is over: it began with the socket, and TLS and WebSocket take of it.
    pub(super) connect_by: Instant,
    /// Cancelled when the socket has to make room for a newer one.
    pub(super) evicted: CancellationToken,
}

impl Door {
    /// Does what comes before a session, unless time runs out, others need the room, or the hub stops.
    pub(super) async fn in_time<T>(
        &self,
        awaited: &str,
        doing: impl Future<Output = Result<T, String>>,
        broker: &Broker,
    ) -> Result<T, String> {
        let stopping = broker.connections.clone();
        tokio::select! {
            biased;
            () = self.evicted.cancelled() => Err(format!("it was silent (no {awaited}), and others wait")),
            () = stopping.cancelled() => Err("the hub stops".to_owned()),
            () = tokio::time::sleep_until(self.connect_by) => {
                Err(format!("no {awaited} within {:?}", self.connect_timeout))
            }
            done = doing => done,
        }
    }

    /// Counts and logs a connection that ends before its CONNECT.
    pub(super) fn refuse(&self, broker: &Broker, reason: &str) {
        broker.pending.leave(&self.evicted);
        Counters::add(&broker.counters.refused, 1);
        if broker.counters.refused_lines.allows() {
            tracing::warn!(
                peer = %self.peer,
                listener = %self.listener,
                "a connection was closed before it began: {reason}"
            );
        }
    }
}
