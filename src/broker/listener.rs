//! The listeners: where clients knock.
//!
//! Owns the bound ports, the accept loops, and the room for sockets that have not said who they are: when it is
//! used up, one makes room for the next, so that a crowd of silent peers never keeps a sensor out. Until its CONNECT is
//! there, a socket is silent, however much of a TLS handshake or of an upgrade it has sent.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::counters::Counters;
use super::door::Door;
use super::transport::Transport;
use super::{Broker, Place};
use crate::config;
use crate::reload::Reload;
use crate::tasks::{self, Name};

/// Connections that the system keeps until they are accepted. Beyond it, it drops the first packet of a new one, which
/// its peer sends again after a second: with the usual 128, a crowd that comes at once costs everybody that second.
const ACCEPT_QUEUE: u32 = 4096;

/// Why a listener cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} (listener {name:?}, {kind}): {source}{}", hint(.source))]
pub struct ListenError {
    name: String,
    kind: &'static str,
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
pub(super) struct Pending(Mutex<VecDeque<(IpAddr, CancellationToken)>>);

impl Listener {
    /// Binds the port.
    ///
    /// # Errors
    /// [`ListenError`], with what to do.
    pub fn bind(settings: config::Listener) -> Result<Listener, ListenError> {
        let bound = || {
            let socket = listen(settings.address)?;
            let address = socket.local_addr()?;
            Ok((socket, address))
        };
        match bound() {
            Ok((socket, address)) => Ok(Listener { socket, settings, address }),
            Err(source) => {
                let (name, kind, address) = (settings.name.clone(), settings.kind(), settings.address);
                Err(ListenError { name, kind, address, source })
            }
        }
    }

    /// Returns where it listens, with the port that was taken.
    pub(super) fn place(&self) -> Place {
        Place { name: self.settings.name.clone(), kind: self.settings.kind(), address: self.address }
    }

    /// Returns the name of the task that accepts here.
    pub(super) fn task(&self) -> Name {
        Name::Listener(self.settings.name.as_str().into())
    }

    /// Returns what of it can be read anew.
    pub(super) fn reload(&self) -> Option<Arc<dyn Reload>> {
        self.settings.tls.clone().map(|certificates| certificates as Arc<dyn Reload>)
    }

    /// Accepts until `stop`; every connection is a task of `tasks`.
    pub(super) async fn serve(self: Arc<Self>, broker: Arc<Broker>, stop: CancellationToken, tasks: TaskTracker) {
        let Listener { socket, settings, .. } = &*self;
        let name: Arc<str> = format!("{} ({})", settings.name, settings.kind()).into();
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
                        listener: name.clone(),
                        identity: None,
                        packet_bytes_max: settings.packet_bytes_max,
                        connect_timeout: settings.connect_timeout,
                        connect_by: Instant::now() + settings.connect_timeout,
                        evicted: broker.pending.enter(peer.ip(), broker.limits.connections_pending),
                    };
                    admit(stream, settings, door, &broker, &tasks);
                }
                Err(error) => {
                    if broker.counters.refused_lines.allows() {
                        tracing::warn!(listener = %name, "cannot accept a connection: {error}");
                    }
                    // Out of file descriptors, most likely: pause until some are closed.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // As `TcpListener::bind` does: a hub that starts again does not wait for its old connections' ends.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_QUEUE)
}

/// Serves a socket in a task of its own.
fn admit(stream: TcpStream, settings: &config::Listener, door: Door, broker: &Arc<Broker>, tasks: &TaskTracker) {
    let name = Name::Client("connection", Some(door.peer));
    let transport = Transport { tls: settings.tls.clone(), websocket: settings.websocket };
    if transport.is_plain() {
        let (reader, writer) = stream.into_split();
        tasks.spawn(tasks::named(name, connection::serve(reader, writer, door, broker.clone())));
    } else {
        tasks.spawn(tasks::named(name, transport.serve(stream, door, broker.clone())));
    }
}

impl Pending {
    /// Enters a new socket; where there are `most` already, one is told to leave: the oldest of the address that has
    /// the most of them, so that a crowd from one machine makes room for itself and not at the others' cost.
    fn enter(&self, peer: IpAddr, most: usize) -> CancellationToken {
        let token = CancellationToken::new();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while waiting.len() >= most.max(1) {
            if let Some((_, leaves)) = crowded(&waiting).and_then(|place| waiting.remove(place)) {
                leaves.cancel();
            }
        }
        waiting.push_back((peer, token.clone()));
        token
    }

    /// Takes out a socket that has said who it is, or is gone.
    pub(super) fn leave(&self, token: &CancellationToken) {
        // Cancelled, it is known by that; equality of tokens is not offered.
        token.cancel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|(_, waiting)| !waiting.is_cancelled());
    }
}

/// Returns the place of the oldest socket of the address that has the most.
fn crowded(waiting: &VecDeque<(IpAddr, CancellationToken)>) -> Option<usize> {
    let mut counts: HashMap<IpAddr, usize> = HashMap::new();
    for (peer, _) in waiting {
        *counts.entry(*peer).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    waiting.iter().position(|(peer, _)| counts.get(peer) == Some(&most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_makes_room_for_itself_and_not_at_the_cost_of_others() {
        let pending = Pending::default();
        let [lone, crowd] = [IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2])];
        let sensor = pending.enter(lone, 4);
        let crowding: Vec<_> = (0..10).map(|_| pending.enter(crowd, 4)).collect();
        assert!(!sensor.is_cancelled());
        let left: Vec<bool> = crowding.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(left, [vec![true; 7], vec![false; 3]].concat(), "the oldest of the crowd leave");
        let late = pending.enter(lone, 4);
        assert!(!late.is_cancelled() && !sensor.is_cancelled() && crowding[7].is_cancelled());
        pending.leave(&late);
        assert_eq!(pending.0.lock().unwrap_or_else(PoisonError::into_inner).len(), 3);
    }

    #[test]
    fn the_oldest_makes_room_where_no_address_has_more_than_another() {
        let pending = Pending::default();
        let entered: Vec<_> = (0..6).map(|host| pending.enter(IpAddr::from([10, 0, 0, host]), 4)).collect();
        let left: Vec<bool> = entered.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(left, [true, true, false, false, false, false]);
    }
}
