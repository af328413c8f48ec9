//! Publishes as they are written for one connection.
//!
//! Owns what depends on the connection: the protocol's version, the packet size that the client takes, topic aliases. It
//! never decides what is written next.

use std::time::Instant;

use bytes::BytesMut;

use super::alias::{Alias, Outgoing};
use super::queued::Queued;
use super::wire::{self, PublishOut, Version};

/// How packets are written to a client.
#[derive(Clone, Copy, Debug)]
pub struct Outlet {
    /// The protocol of the connection.
    pub version: Version,
    /// QoS 1 and 2 messages in flight, at most.
    pub window: usize,
    /// The largest packet that the client takes, bytes.
    pub packet_bytes_max: usize,
}

/// Where packets are written, and how.
pub(super) struct Pen<'p> {
    pub(super) out: &'p mut BytesMut,
    pub(super) outlet: Outlet,
    pub(super) aliases: &'p mut Outgoing,
}

impl Pen<'_> {
    /// Writes a message; false where the client takes no packet that large.
    pub(super) fn write(&mut self, queued: &Queued, id: u16, dup: bool, now: Instant) -> bool {
        let message = &*queued.message;
        let mut packet = PublishOut {
            dup,
            qos: queued.qos,
            retain: queued.retain,
            id,
            topic: &message.topic,
            payload: &message.payload,
            properties: message.properties.as_deref(),
            // One that has expired since it was first sent has no time left.
            message_expiry_s: message.life_left(now).unwrap_or(Some(0)),
            subscription_identifiers: queued.identifiers.as_slice(),
            topic_alias: None,
        };
        let mut alias = self.aliases.of(&message.topic);
        match alias {
            Alias::None => {}
            Alias::New(number) => packet.topic_alias = Some(number),
            Alias::Known(number) => (packet.topic, packet.topic_alias) = ("", Some(number)),
        }
        if !self.fits(&packet) && matches!(alias, Alias::New(_)) {
            (alias, packet.topic_alias) = (Alias::None, None);
        }
        let fits = self.fits(&packet);
        if fits {
            wire::publish(self.out, self.outlet.version, &packet);
            if let Alias::New(number) = alias {
                self.aliases.learned(&message.topic, number);
            }
        }
        fits
    }

    fn fits(&self, packet: &PublishOut<'_>) -> bool {
        let max = self.outlet.packet_bytes_max;
        max == usize::MAX || wire::publish_len(self.outlet.version, packet) <= max
    }
}
