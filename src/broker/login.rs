//! Between a CONNECT and its session: who is it, and may it come in?
//!
//! Owns the way of a login from the packet to the verdict, the terms of the session that it opens, and how a refusal is
//! told. The verdict is `auth`'s; the socket is `connection`'s.

use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;

use super::Broker;
use super::auth::{self, Login, Rights};
use super::counters::Counters;
use super::door::Door;
use super::message;
use super::registry::Attachment;
use super::wire::{Connect, Secret, Version, Will};

/// Why a CONNECT is refused.
pub(super) struct Refusal {
    pub(super) code_v4: u8,
    pub(super) code_v5: u8,
    pub(super) text: String,
}

/// A client that was let in.
pub(super) struct Admitted {
    pub(super) attachment: Attachment,
    /// The client id that was assigned, where it brought none.
    pub(super) assigned: Option<ByteString>,
    pub(super) rights: Arc<Rights>,
    pub(super) will: Option<Will>,
}

impl Refusal {
    pub(super) fn of_crowd() -> Refusal {
        let text = "its address has as many clients as broker.limits.connections_per_address allows".to_owned();
        Refusal { code_v4: 3, code_v5: 0x97, text }
    }

    fn of_login(refusal: auth::Refusal, connect: &Connect) -> Refusal {
        let client = match &*connect.client_id {
            "" => "a client without an id".to_owned(),
            id => format!("client {}", id.escape_debug()),
        };
        let text = match &connect.username {
            // A name that nobody has may be a password, put in the wrong place.
            Some(name) if refusal == auth::Refusal::Wrong => {
                format!("{} ({client}, user {})", refusal.text(), name.escape_debug())
            }
            _ => format!("{} ({client})", refusal.text()),
        };
        Refusal { code_v4: refusal.code_v4(), code_v5: refusal.code_v5(), text }
    }
}

/// Why a connection is over before its session begins.
pub(super) enum NoEntry {
    /// There is nobody to be told.
    Silent(String),
    /// The client is told.
    Refused(Refusal),
}

/// Finds out who the client is, while its socket may still have to make room for others.
pub(super) async fn log_in(connect: &Connect, door: &Door, broker: &Broker) -> Result<Option<Arc<str>>, NoEntry> {
    let login = Login { name: connect.username.as_deref(), password: connect.password.as_ref().map(Secret::reveal) };
    let refusal = tokio::select! {
        verdict = broker.access.admit(login, door.peer.ip(), door.connect_by) => match verdict {
            Ok(user) => return Ok(user),
            Err(refusal) => refusal,
        },
        () = door.evicted.cancelled() => return Err(NoEntry::Silent("its login took long, and others wait".to_owned())),
        () = broker.connections.cancelled() => return Err(NoEntry::Silent("the hub stops".to_owned())),
    };
    Counters::add(&broker.counters.logins_refused, 1);
    let refusal = Refusal::of_login(refusal, connect);
    Err(NoEntry::Refused(refusal))
}

/// Attaches a client to its session.
pub(super) fn admit(connect: &Connect, user: Option<Arc<str>>, broker: &Arc<Broker>) -> Result<Admitted, Refusal> {
    if let Some(method) = &connect.properties.authentication_method {
        let text = format!("it asks for the authentication method {:?}, and the hub has none", &**method);
        return Err(Refusal { code_v4: 5, code_v5: 0x8C, text });
    }
    let v5 = connect.version == Version::V5;
    let assigned = connect.client_id.is_empty().then(|| ByteString::from(broker.new_client_id()));
    if assigned.is_some() && !v5 && !connect.clean_start {
        let text = "it has no client id and wants its session kept".to_owned();
        return Err(Refusal { code_v4: 2, code_v5: 0x85, text });
    }
    if v5 && broker.limits.retained_messages == 0 && connect.will.as_ref().is_some_and(|will| will.retain) {
        let text = "its will is to be retained, and broker.limits.retained_messages allows none".to_owned();
        return Err(Refusal { code_v4: 3, code_v5: 0x9A, text });
    }
    let client_id = assigned.as_ref().unwrap_or(&connect.client_id);
    let rights = Rights::new(broker.access.clone(), user, client_id);
    let mut will = connect.will.as_deref().map(message::copy_will);
    if will.as_ref().is_some_and(|will| !may_leave(will, &rights, client_id, broker)) {
        if v5 {
            let text = "the access rules deny its will".to_owned();
            return Err(Refusal { code_v4: 5, code_v5: 0x87, text });
        }
        // Before MQTT 5 a refusal would read as a wrong password, and its readings matter more than its will.
        will = None;
    }
    let max = broker.limits.session_expiry_max;
    let expiry = match (v5, connect.clean_start) {
        (true, _) => Duration::from_secs(connect.properties.session_expiry_s.unwrap_or(0).into()).min(max),
        (false, true) => Duration::ZERO,
        (false, false) => max,
    };
    let attachment =
        broker.registry.attach(client_id, connect.clean_start, expiry, &broker.connections).map_err(|_| Refusal {
            code_v4: 3,
            code_v5: 0x97,
            text: "as many clients are connected as broker.limits.connections allows".to_owned(),
        })?;
    Ok(Admitted { attachment, assigned, rights, will })
}

/// Tells whether a client may leave this will; counts and tells where it may not.
pub(super) fn may_leave(will: &Will, rights: &Rights, client: &str, broker: &Broker) -> bool {
    let may = rights.may_write(&will.topic);
    if !may {
        broker.counters.denied("a will", client, rights, &will.topic);
    }
    may
}
