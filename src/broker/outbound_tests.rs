//! The outgoing side of a session against a client that does anything, by seeded dice: nothing is lost or sent twice,
//! windows and bounds hold, and bytes add up after every step.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::broker::alias::Outgoing;
use crate::broker::pen::Outlet;
use crate::broker::queued::Identifiers;
use crate::broker::wire::QoS;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A small generator (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit
    }
}

pub(in crate::broker) fn limits() -> Limits {
    Limits {
        connections: 1,
        connections_per_address: 1,
        queued_bytes: usize::MAX,
        partial_bytes: 1,
        topics: 1,
        connections_pending: 1,
        inflight: 10,
        session_queue_messages: 20,
        session_queue_bytes: 100_000,
        subscriptions: 1,
        filters: 1,
        sessions: 1,
        retained_messages: 5,
        retained_bytes: 100_000,
        session_expiry_max: std::time::Duration::ZERO,
        topic_aliases: 2,
        keep_alive_max: u16::MAX,
    }
}

fn queued(number: u64, qos: QoS) -> Queued {
    let message = Message {
        topic: ["a", "b", "c"][number as usize % 3].into(),
        payload: Bytes::copy_from_slice(&number.to_be_bytes()),
        qos,
        retain: false,
        publisher: "p".into(),
        properties: None,
        expires: None,
    };
    let identifiers = Identifiers::from(number.is_multiple_of(2).then_some(1));
    Queued { message: Arc::new(message), qos, retain: false, identifiers, share: None, number: 0 }
}

/// What the client and the publishers did, as far as it matters.
#[derive(Default)]
struct World {
    outbound: Outbound,
    /// Taken at QoS 1 and 2, in their order, and not done with.
    owed: BTreeSet<u64>,
    window: usize,
    /// On this connection: ids that the client has and has not acknowledged, with the message's number.
    unacked: BTreeMap<u16, u64>,
    connected: bool,
}

impl World {
    fn step(&mut self, dice: &mut Dice, number: u64, limits: &Limits) {
        match dice.below(10) {
            0..=3 => {
                let qos = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][dice.below(3) as usize];
                let keeps = qos > QoS::AtMostOnce;
                let taken = (keeps || self.connected) && self.outbound.push(queued(number, qos), limits);
                if taken && keeps {
                    self.owed.insert(number);
                }
            }
            4..=7 if self.connected => self.acknowledge(dice),
            8 if self.connected => {
                self.connected = false;
                assert_eq!(self.outbound.end(limits), 0);
            }
            9 if !self.connected => {
                self.connected = true;
                self.window = 1 + dice.below(10) as usize;
                // Of what was released, the client has only the ids left.
                self.unacked = self.outbound.released.iter().map(|id| (*id, u64::MAX)).collect();
                self.outbound.begin(&mut BytesMut::new(), Version::V5);
            }
            _ => {}
        }
    }

    /// Acknowledges a message, rightly or not.
    fn acknowledge(&mut self, dice: &mut Dice) {
        let places = self.unacked.len() as u64 + 1;
        let id = self.unacked.keys().nth(dice.below(places) as usize).copied().unwrap_or(40_000);
        let sent = self.outbound.in_flight.iter().find(|sent| sent.id == id).map(|sent| sent.queued.qos);
        let is_released = self.outbound.released.contains(&id);
        match (dice.below(4), sent) {
            (0, _) => {
                self.outbound.acknowledged(id);
                if sent == Some(QoS::AtLeastOnce) {
                    self.is_done(id);
                }
            }
            (1, _) => {
                self.outbound.completed(id);
                if is_released {
                    self.unacked.remove(&id);
                }
            }
            (2, _) => {
                let answer = self.outbound.received_by_client(id, 0);
                assert_eq!(answer, Some(sent == Some(QoS::ExactlyOnce) || is_released));
                if let (Some(QoS::ExactlyOnce), Some(number)) = (sent, self.unacked.get(&id)) {
                    // The message is the client's from here on; its id is not free yet.
                    self.owed.remove(number);
                }
            }
            _ => {
                if self.outbound.received_by_client(id, 0x80).is_none() {
                    self.is_done(id);
                }
            }
        }
    }

    fn is_done(&mut self, id: u16) {
        if let Some(number) = self.unacked.remove(&id) {
            self.owed.remove(&number);
        }
    }

    /// Lets the connection write, and notes what the client got.
    fn write(&mut self, aliases: &mut Outgoing) {
        let outlet = Outlet { version: Version::V5, window: self.window, packet_bytes_max: usize::MAX };
        let sent_before = self.outbound.sent;
        let mut out = BytesMut::new();
        let mut pen = Pen { out: &mut out, outlet, aliases };
        assert_eq!(self.outbound.write(&mut pen, 1 << 20).too_large, 0);
        for sent in self.outbound.in_flight.iter().take(self.outbound.sent).skip(sent_before) {
            let number = u64::from_be_bytes(sent.queued.message.payload[..].try_into().unwrap());
            let taken = self.unacked.insert(sent.id, number);
            assert!(taken.is_none(), "id {} is in use", sent.id);
        }
    }

    fn check(&self) {
        let outbound = &self.outbound;
        let waiting = outbound.fleeting.iter().chain(&outbound.queue).map(Queued::bytes);
        let flying = outbound.in_flight.iter().map(|sent| sent.queued.bytes());
        assert_eq!(outbound.bytes, waiting.chain(flying).sum::<usize>());
        assert!(outbound.sent <= outbound.in_flight.len());
        // A window that is smaller than the last connection's is respected as soon as it can be.
        let new = outbound.sent + outbound.released.len();
        assert!(new <= self.window.max(outbound.released.len()) || !self.connected, "{new} in {}", self.window);
        let held: Vec<u64> = (outbound.in_flight.iter().map(|sent| &sent.queued))
            .chain(&outbound.queue)
            .map(|queued| u64::from_be_bytes(queued.message.payload[..].try_into().unwrap()))
            .collect();
        assert!(held.is_sorted(), "in the order of publishing: {held:?}");
        assert!(held.iter().eq(self.owed.iter()), "{held:?} are held, {:?} owed", self.owed);
    }
}

#[test]
fn whatever_a_client_does_nothing_is_lost_or_doubled() {
    let limits = limits();
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let mut world = World { window: 1, ..World::default() };
        let mut aliases = Outgoing::new(2);
        for number in 0..400 {
            // Ids come round soon, so that one is met that is still in use.
            world.outbound.last_id %= 13;
            let was_connected = world.connected;
            world.step(&mut dice, number, &limits);
            if world.connected && !was_connected {
                aliases = Outgoing::new(2);
            }
            if world.connected && dice.below(2) == 0 {
                world.write(&mut aliases);
            }
            world.check();
        }
    }
}
