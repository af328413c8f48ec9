//! Who is connected, and whose session is kept.
//!
//! Owns the map of client ids to sessions: takeover, expiry, and the bound on sessions of absent clients.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Mutex as AsyncMutex;
use tokio_util::sync::CancellationToken;

use super::bus::Link;
use super::counters::Counters;
use super::keeper::Changed;
use super::session::Session;
use super::share::Groups;
use crate::config::Limits;

/// The sessions of all clients.
#[derive(Debug)]
pub struct Registry {
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    groups: Arc<Groups>,
    changed: Arc<Changed>,
    clients: Mutex<Clients>,
}

#[derive(Debug, Default)]
struct Clients {
    by_id: HashMap<Arc<str>, Client>,
    connected: usize,
    connections: u64,
}

#[derive(Debug)]
struct Client {
    holding: Arc<Holding>,
    presence: Presence,
}

#[derive(Debug)]
enum Presence {
    Connected { connection: u64, taken_over: CancellationToken, gone: CancellationToken, succeeded: CancellationToken },
    Away { since: Instant, expiry: Duration, succeeded: CancellationToken },
}

/// A session with its link to the bus, which it has from its first subscription on.
pub struct Holding {
    /// The session.
    pub session: Arc<Session>,
    /// The link.
    pub link: AsyncMutex<Option<Link>>,
}

/// Tells a connection's delayed will what became of the session.
#[derive(Clone, Debug)]
pub struct Fate {
    /// Cancelled when another connection has come to the session, or the session has ended.
    pub succeeded: CancellationToken,
    /// The session.
    pub session: Arc<Session>,
}

impl std::fmt::Debug for Holding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Holding").field("session", &self.session).finish_non_exhaustive()
    }
}

/// Says that as many clients are connected as the limits allow.
#[derive(Debug, PartialEq, Eq)]
pub struct NoRoom;

/// A connection's hold on its session; dropping it leaves the session as its expiry says.
#[derive(Debug)]
pub struct Attachment {
    registry: Arc<Registry>,
    /// The session.
    pub holding: Arc<Holding>,
    /// Whether the session was there before.
    pub present: bool,
    /// Cancelled when another connection takes the session over, or the hub stops.
    pub ended: CancellationToken,
    /// How long the session is kept after the connection.
    pub expiry: Duration,
    connection: u64,
    gone: CancellationToken,
    succeeded: CancellationToken,
    predecessor: Option<CancellationToken>,
}

impl Attachment {
    /// Returns what tells of the session after this connection.
    pub fn fate(&self) -> Fate {
        Fate { succeeded: self.succeeded.clone(), session: self.holding.session.clone() }
    }

    /// Waits until the connection that this one took over from, if any, has handed over all that it had read: a reading
    /// that is sent again here must come after its first sending there, or both would be stored.
    pub async fn wait_for_predecessor(&self, deadline: Duration) {
        let Some(predecessor) = &self.predecessor else { return };
        if tokio::time::timeout(deadline, predecessor.cancelled()).await.is_err() {
            tracing::warn!(
                client = %self.holding.session.client().escape_debug(),
                "the client's older connection does not end; the new one is served beside it"
            );
        }
    }
}

impl Registry {
    /// Makes an empty registry.
    pub(super) fn new(
        limits: Arc<Limits>,
        counters: Arc<Counters>,
        groups: Arc<Groups>,
        changed: Arc<Changed>,
    ) -> Arc<Registry> {
        Arc::new(Registry { limits, counters, groups, changed, clients: Mutex::default() })
    }

    /// Takes a session that was kept over a restart, and that its client has not come back to.
    pub fn restore(&self, holding: Arc<Holding>, expiry: Duration) {
        let presence = Presence::Away { since: Instant::now(), expiry, succeeded: CancellationToken::new() };
        let mut clients = self.lock();
        clients.by_id.insert(holding.session.client().clone(), Client { holding, presence });
        self.count(&clients);
    }

    /// Returns a client's session, where it has one.
    pub fn session(&self, client_id: &str) -> Option<Arc<Session>> {
        self.lock().by_id.get(client_id).map(|client| client.holding.session.clone())
    }

    /// Attaches a connection to its client's session, taking it over from another connection where one holds it.
    ///
    /// # Errors
    /// [`NoRoom`].
    pub fn attach(
        self: &Arc<Self>,
        client_id: &str,
        clean_start: bool,
        expiry: Duration,
        stop: &CancellationToken,
    ) -> Result<Attachment, NoRoom> {
        let mut clients = self.lock();
        let takes_over =
            matches!(clients.by_id.get(client_id), Some(Client { presence: Presence::Connected { .. }, .. }));
        if !takes_over && clients.connected >= self.limits.connections {
            return Err(NoRoom);
        }
        if !takes_over {
            clients.connected += 1;
        }
        clients.connections += 1;
        let connection = clients.connections;
        let ended = stop.child_token();
        let (gone, succeeded) = (CancellationToken::new(), CancellationToken::new());
        let presence = Presence::Connected {
            connection,
            taken_over: ended.clone(),
            gone: gone.clone(),
            succeeded: succeeded.clone(),
        };
        let mut predecessor = None;
        let (holding, present) = match clients.by_id.entry(client_id.into()) {
            MapEntry::Occupied(mut known) => {
                let expired = known.get().presence.has_expired(Instant::now());
                let client = known.get_mut();
                if let Presence::Connected { taken_over, gone, .. } = &client.presence {
                    taken_over.cancel();
                    predecessor = Some(gone.clone());
                }
                let present = !clean_start && !expired;
                if !present {
                    self.groups.end(&client.holding.session);
                    client.holding = self.new_holding(client.holding.session.client().clone());
                }
                client.presence.succeeded().cancel();
                client.presence = presence;
                (client.holding.clone(), present)
            }
            MapEntry::Vacant(vacant) => {
                let holding = self.new_holding(vacant.key().clone());
                vacant.insert(Client { holding: holding.clone(), presence });
                (holding, false)
            }
        };
        holding.session.keep_for(expiry, false);
        self.count(&clients);
        Ok(Attachment {
            registry: self.clone(),
            holding,
            present,
            ended,
            expiry,
            connection,
            gone,
            succeeded,
            predecessor,
        })
    }

    /// Tells whether a client of this id is connected or has a session.
    pub fn knows(&self, client_id: &str) -> bool {
        self.lock().by_id.contains_key(client_id)
    }

    /// Drops the sessions whose time is over, and those away longest beyond the bound.
    pub fn sweep(&self, now: Instant) {
        let mut clients = self.lock();
        clients.by_id.retain(|_, client| {
            let has_expired = client.presence.has_expired(now);
            if has_expired {
                self.end(client);
            }
            !has_expired
        });
        let mut away: Vec<(Instant, Arc<str>)> = clients
            .by_id
            .iter()
            .filter_map(|(id, client)| match client.presence {
                Presence::Away { since, .. } => Some((since, id.clone())),
                Presence::Connected { .. } => None,
            })
            .collect();
        if away.len() > self.limits.sessions {
            away.sort_unstable();
            let surplus = away.len() - self.limits.sessions;
            if self.counters.refused_lines.allows() {
                tracing::warn!(
                    surplus,
                    "more sessions of absent clients than broker.limits.sessions: the oldest are forgotten"
                );
            }
            for (_, id) in away.into_iter().take(surplus) {
                if let Some(client) = clients.by_id.remove(&id) {
                    self.end(&client);
                }
            }
        }
        self.count(&clients);
    }

    fn detach(&self, attachment: &Attachment) {
        let mut clients = self.lock();
        let client_id = attachment.holding.session.client();
        let Some(client) = clients.by_id.get_mut(client_id) else { return };
        match &client.presence {
            Presence::Connected { connection, .. } if *connection == attachment.connection => {}
            _ => return,
        }
        if attachment.expiry.is_zero() {
            self.end(client);
            clients.by_id.remove(client_id);
        } else {
            attachment.holding.session.keep_for(attachment.expiry, true);
            let succeeded = attachment.succeeded.clone();
            client.presence = Presence::Away { since: Instant::now(), expiry: attachment.expiry, succeeded };
        }
        clients.connected -= 1;
        self.count(&clients);
        let away = clients.by_id.len() - clients.connected;
        drop(clients);
        // A crowd that comes and goes would leave many more between two regular looks; a few more are let be, so that not
        // every goodbye looks through all.
        if away > self.limits.sessions + self.limits.sessions / 8 {
            self.sweep(Instant::now());
        }
    }

    /// Ends a client's session for good.
    fn end(&self, client: &Client) {
        self.groups.end(&client.holding.session);
        client.presence.succeeded().cancel();
    }

    fn new_holding(&self, client: Arc<str>) -> Arc<Holding> {
        let (limits, counters, changed) = (self.limits.clone(), self.counters.clone(), self.changed.clone());
        let session = Session::new(client, limits, counters, changed);
        Arc::new(Holding { session: Arc::new(session), link: AsyncMutex::default() })
    }

    fn count(&self, clients: &Clients) {
        self.counters.connected.store(clients.connected as u64, Ordering::Relaxed);
        self.counters.sessions.store(clients.by_id.len() as u64, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    fn succeeded(&self) -> &CancellationToken {
        match self {
            Presence::Connected { succeeded, .. } | Presence::Away { succeeded, .. } => succeeded,
        }
    }

    fn has_expired(&self, now: Instant) -> bool {
        match self {
            Presence::Connected { .. } => false,
            Presence::Away { since, expiry, .. } => now.duration_since(*since) >= *expiry,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.registry.detach(self);
        self.gone.cancel();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn registry(connections: usize, sessions: usize) -> Arc<Registry> {
        let limits = Limits {
            connections,
            connections_per_address: 9,
            connections_pending: 1,
            inflight: 10,
            session_queue_messages: 10,
            session_queue_bytes: 1000,
            subscriptions: 10,
            filters: 10,
            topics: 10,
            sessions,
            partial_bytes: 1,
            retained_messages: 1,
            retained_bytes: 1,
            session_expiry_max: HOUR,
            topic_aliases: 0,
            keep_alive_max: u16::MAX,
            queued_bytes: 1000,
        };
        Registry::new(Arc::new(limits), Arc::default(), Groups::new(1, Arc::default()), Arc::default())
    }

    fn attach(registry: &Arc<Registry>, id: &str, clean: bool, expiry: Duration) -> Result<Attachment, NoRoom> {
        registry.attach(id, clean, expiry, &CancellationToken::new())
    }

    #[test]
    fn a_second_connection_takes_over_and_the_first_leaves_no_mark() {
        let registry = registry(1, 1);
        let first = attach(&registry, "a", false, HOUR).unwrap();
        let second = attach(&registry, "a", false, HOUR).unwrap();
        assert!(first.ended.is_cancelled() && second.present);
        assert!(Arc::ptr_eq(&first.holding, &second.holding));
        drop(first);
        assert!(!second.ended.is_cancelled());
        assert_eq!(attach(&registry, "b", true, HOUR).unwrap_err(), NoRoom);
        drop(second);
        assert!(attach(&registry, "b", true, HOUR).is_ok());
    }

    #[test]
    fn sessions_last_as_long_as_they_asked_for() {
        let registry = registry(9, 9);
        drop(attach(&registry, "kept", false, HOUR).unwrap());
        drop(attach(&registry, "forgotten", false, Duration::ZERO).unwrap());
        assert!(attach(&registry, "kept", false, HOUR).unwrap().present);
        assert!(!attach(&registry, "forgotten", false, HOUR).unwrap().present);
        assert!(!attach(&registry, "kept", true, HOUR).unwrap().present, "a clean start forgets");
        registry.sweep(Instant::now() + HOUR);
        assert!(registry.lock().by_id.is_empty());
    }

    #[test]
    fn the_sessions_away_longest_make_room() {
        let registry = registry(9, 2);
        for id in ["a", "b", "c"] {
            drop(attach(&registry, id, false, HOUR).unwrap());
            std::thread::sleep(Duration::from_millis(2));
        }
        registry.sweep(Instant::now());
        assert!(!attach(&registry, "a", false, HOUR).unwrap().present);
        assert!(attach(&registry, "c", false, HOUR).unwrap().present);
    }
}
