//! A message as it waits for one client.
//!
//! Owns what the client's subscriptions make of a message that others get, too: QoS, retain flag, identifiers. It is plain
//! data, and never waits itself: `outbound` has the queues.

use std::sync::Arc;

use super::message::Message;
use super::wire::QoS;

/// What a place in a queue or in flight occupies, bytes.
const PLACE_BYTES: usize = size_of::<Queued>() + size_of::<usize>();

/// A message as a subscription wants it.
#[derive(Clone, Debug)]
pub(super) struct Queued {
    pub(super) message: Arc<Message>,
    pub(super) qos: QoS,
    pub(super) retain: bool,
    /// Those of the subscriptions that match.
    pub(super) identifiers: Identifiers,
    /// The shared subscription that it came by.
    pub(super) share: Option<Arc<str>>,
    /// Its number among those that a restart must not lose; 0 for any other.
    pub(super) number: u64,
}

/// MQTT 5's subscription identifiers of a delivery; seldom more than one.
#[derive(Clone, Debug, Default)]
pub(super) enum Identifiers {
    #[default]
    None,
    One(u32),
    Many(Box<[u32]>),
}

impl Queued {
    /// Returns about how many bytes it occupies while it waits or is in flight.
    pub(super) fn bytes(&self) -> usize {
        let identifiers = match &self.identifiers {
            Identifiers::Many(many) => size_of_val(&**many),
            _ => 0,
        };
        PLACE_BYTES + identifiers + self.message.bytes()
    }
}

impl Identifiers {
    /// Adds the identifier of one more subscription.
    pub(super) fn add(&mut self, identifier: u32) {
        *self = match std::mem::take(self) {
            Identifiers::None => Identifiers::One(identifier),
            Identifiers::One(first) => Identifiers::Many(Box::new([first, identifier])),
            Identifiers::Many(many) => Identifiers::Many(many.iter().copied().chain([identifier]).collect()),
        };
    }

    /// Returns them in the order of their subscriptions.
    pub(super) fn as_slice(&self) -> &[u32] {
        match self {
            Identifiers::None => &[],
            Identifiers::One(one) => std::slice::from_ref(one),
            Identifiers::Many(many) => many,
        }
    }
}

impl From<Option<u32>> for Identifiers {
    fn from(identifier: Option<u32>) -> Identifiers {
        identifier.map_or(Identifiers::None, Identifiers::One)
    }
}
