//! The listeners: where clients knock.
//!
//! Owns the bound ports, the accept loops, and the room for sockets that have not said who they are: when it is
//! used up, the one that has been silent longest makes room for the next, so that a crowd of silent peers never keeps
//! a sensor out.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Broker;
use super::connection::{self, Door};
use super::counters::Counters;
use crate::config;

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (listener {name:?}): {source}{}", hint(.source))]
pub struct ListenError {
    name: String,
    address: SocketAddr,
    source: io::Error,
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another broker has the port: stop it (perhaps `systemctl stop mosquitto`), or choose another with --listen"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this machine does not have that address",
        _ => "; choose another address with --listen",
    }
}

/// A bound listener.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    settings: config::Listener,
    address: SocketAddr,
}

/// The sockets that have not said who they are, oldest first.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<VecDeque<CancellationToken>>);

impl Listener {
    /// Binds the port.
    ///
    /// # Errors
    /// [`ListenError`], with what to do.
    pub async fn bind(settings: config::Listener) -> Result<Listener, ListenError> {
        let bound = async {
            let socket = TcpListener::bind(settings.address).await?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        match bound.await {
            Ok((socket, address)) => Ok(Listener { socket, settings, address }),
            Err(source) => Err(ListenError { name: settings.name.clone(), address: settings.address, source }),
        }
    }

    /// Returns the address, with the port that was taken.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts until `stop`; every connection is a task of `tasks`.
    pub(super) async fn serve(self, broker: Arc<Broker>, stop: CancellationToken, tasks: TaskTracker) {
        let Listener { socket, settings, .. } = self;
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    Counters::add(&broker.counters.accepted, 1);
                    // A failure here leaves a slower socket, no worse.
                    stream.set_nodelay(true).unwrap_or(());
                    let door = Door {
                        peer,
                        packet_bytes_max: settings.packet_bytes_max,
                        connect_timeout: settings.connect_timeout,
                        evicted: broker.pending.enter(broker.limits.connections_pending),
                    };
                    let (reader, writer) = stream.into_split();
                    tasks.spawn(connection::serve(reader, writer, door, broker.clone()));
                }
                Err(error) => {
                    if broker.counters.refused_lines.allows() {
                        tracing::warn!(listener = %settings.name, "cannot accept a connection: {error}");
                    }
                    // Out of file descriptors, most likely: pause until some are closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

impl Pending {
    /// Enters a new socket; where there are `most` already, the oldest is told to leave.
    fn enter(&self, most: usize) -> CancellationToken {
        let token = CancellationToken::new();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= most.max(1) {
            if let Some(oldest) = waiting.pop_front() {
                oldest.cancel();
            }
        }
        waiting.push_back(token.clone());
        token
    }

    /// Takes out a socket that has said who it is, or is gone.
    pub(super) fn leave(&self, token: &CancellationToken) {
        // Cancelled, it is known by that; equality of tokens is not offered.
        token.cancel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|waiting| !waiting.is_cancelled());
    }
}
