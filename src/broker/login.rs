//! Between a CONNECT and its session: who is it, and may it come in?
//!
//! Owns the way of a login from the packet to the verdict, and how a refusal is told. The verdict is `auth`'s; the
//! socket is `connection`'s.

use std::sync::Arc;

use tokio::time::Instant;

use super::Broker;
use super::auth::{self, Login, Rights};
use super::connection::{Door, Refusal};
use super::counters::Counters;
use super::wire::{Connect, Secret, Version, Will};

impl Refusal {
    fn of_login(refusal: auth::Refusal, connect: &Connect) -> Refusal {
        let client = connect.client_id.escape_debug();
        let text = match &connect.username {
            // A name that nobody has may be a password, put in the wrong place.
            Some(name) if refusal == auth::Refusal::Wrong => {
                format!("{} (client {client}, user {})", refusal.text(), name.escape_debug())
            }
            _ => format!("{} (client {client})", refusal.text()),
        };
        Refusal { code_v4: refusal.code_v4(), code_v5: refusal.code_v5(), text }
    }
}

/// Why a connection is over before its session begins.
pub(super) enum NoEntry {
    /// There is nobody to be told.
    Silent(String),
    /// The client is told.
    Refused(Version, Refusal),
}

/// Finds out who the client is, while its socket may still have to make room for others.
pub(super) async fn log_in(connect: &Connect, door: &Door, broker: &Broker) -> Result<Option<Arc<str>>, NoEntry> {
    let login = Login { name: connect.username.as_deref(), password: connect.password.as_ref().map(Secret::reveal) };
    let deadline = Instant::now() + door.connect_timeout;
    let refusal = tokio::select! {
        verdict = broker.access.admit(login, door.peer.ip(), deadline) => match verdict {
            Ok(user) => return Ok(user),
            Err(refusal) => refusal,
        },
        () = door.evicted.cancelled() => return Err(NoEntry::Silent("its login took long, and others wait".to_owned())),
        () = broker.connections.cancelled() => return Err(NoEntry::Silent("the hub stops".to_owned())),
    };
    Counters::add(&broker.counters.logins_refused, 1);
    let refusal = Refusal::of_login(refusal, connect);
    Err(NoEntry::Refused(connect.version, refusal))
}

/// Tells whether a client may leave this will; counts and tells where it may not.
pub(super) fn may_leave(will: &Will, rights: &Rights, client: &str, broker: &Broker) -> bool {
    let may = rights.may_write(&will.topic);
    if !may {
        broker.counters.denied("a will", client, rights, &will.topic);
    }
    may
}
