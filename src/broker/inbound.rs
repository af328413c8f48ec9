//! What a connected client sends, packet by packet.
//!
//! Owns the ack gate's other half: which acks are due, in the order of the publishes, and what each waits for. A
//! publish on a routed topic becomes a job with a number; its ack leaves once the store's watermark has reached that
//! number. Any other publish is acked as soon as those before it are. It reads and writes no socket: packets come
//! decoded, answers go into a buffer.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::sync::Notify;

use super::Broker;
use super::auth::Rights;
use super::bus::Link;
use super::counters::Counters;
use super::end::End;
use super::message::{self, Message};
use super::registry::Holding;
use super::session::Subscription;
use super::wire::{
    self, Ack, AckKind, Packet, Publish, QoS, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version,
};
use crate::ingest::{Arrival, Routed};
use crate::store::{AckGate, Job, Ticket};
use crate::topic;

/// How long messages may wait for subscribers' links before they are dropped.
const BUS_TIME_MAX: Duration = Duration::from_secs(2);
/// Topics whose routes a connection remembers; a sensor has two.
const ROUTES_KEPT: usize = 8;

mod code {
    //! MQTT 5 reason codes, section 2.4 of the standard.
    pub(super) const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub(super) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub(super) const PROTOCOL_ERROR: u8 = 0x82;
    pub(super) const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    pub(super) const NOT_AUTHORIZED: u8 = 0x87;
    pub(super) const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub(super) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub(super) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(super) const QUOTA_EXCEEDED: u8 = 0x97;
    pub(super) const SHARED_NOT_SUPPORTED: u8 = 0x9E;
    pub(super) const SUBSCRIPTION_IDS_NOT_SUPPORTED: u8 = 0xA1;
}

/// The receiving side of a connection.
pub(super) struct Inbound {
    broker: Arc<Broker>,
    holding: Arc<Holding>,
    rights: Arc<Rights>,
    version: Version,
    gate: Arc<AckGate>,
    numbered: u64,
    due: VecDeque<Due>,
    jobs: VecDeque<Job>,
    /// Whether the store's queue had no room for all of them.
    stalled: bool,
    messages: Vec<Arc<Message>>,
    /// QoS 2 publishes of this connection that wait for their PUBREL.
    unreleased: usize,
    routes: VecDeque<(ByteString, Option<Routed>)>,
    /// What the client's DISCONNECT says of its session's life, seconds.
    pub(super) session_expiry_s: Option<u32>,
}

/// An ack that is due once the store has reached `needs`.
struct Due {
    kind: AckKind,
    id: u16,
    needs: u64,
    reason: u8,
}

impl Inbound {
    pub(super) fn new(
        broker: Arc<Broker>,
        holding: Arc<Holding>,
        rights: Arc<Rights>,
        version: Version,
        wake: Arc<Notify>,
    ) -> Inbound {
        Inbound {
            broker,
            holding,
            rights,
            version,
            gate: Arc::new(AckGate::new(wake)),
            numbered: 0,
            due: VecDeque::new(),
            jobs: VecDeque::new(),
            stalled: false,
            messages: Vec::new(),
            unreleased: 0,
            routes: VecDeque::new(),
            session_expiry_s: None,
        }
    }

    /// Tells whether nothing more is to be read for now: the store's queue has no room, or the window is full.
    pub(super) fn is_full(&self) -> bool {
        self.stalled || self.due.len() >= usize::from(self.broker.limits.inflight)
    }

    /// Returns the bytes of room that the next job waits for, if one does.
    pub(super) fn waits_for_room(&self) -> Option<usize> {
        self.jobs.front().filter(|_| self.stalled).map(Job::bytes)
    }

    /// Tells whether acks are due.
    pub(super) fn owes_acks(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes a packet; answers that wait for nothing go to `out`.
    pub(super) async fn take(&mut self, packet: Packet, received_ms: i64, out: &mut BytesMut) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => return self.publish(publish, received_ms),
            Packet::PubAck(Ack { id, .. }) => self.holding.session.acknowledged(id, AckKind::PubAck),
            Packet::PubComp(Ack { id, .. }) => self.holding.session.acknowledged(id, AckKind::PubComp),
            Packet::PubRec(ack) => self.received_by_client(ack, out),
            Packet::PubRel(Ack { id, .. }) => {
                let known = self.holding.session.forget_received(id);
                self.unreleased = self.unreleased.saturating_sub(1);
                let reason = if known { 0 } else { code::PACKET_ID_NOT_FOUND };
                wire::ack(out, self.version, AckKind::PubComp, id, reason);
            }
            Packet::Subscribe(subscribe) => return self.subscribe(subscribe, out).await,
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(unsubscribe, out).await,
            Packet::PingReq => wire::pingresp(out),
            Packet::Disconnect(disconnect) => {
                self.session_expiry_s = disconnect.session_expiry_s;
                let keeps_will = disconnect.reason == 4;
                return Err(if keeps_will { End::GoodbyeWithWill } else { End::Goodbye });
            }
            Packet::Connect => {
                return Err(End::violation(code::PROTOCOL_ERROR, "it sent a second CONNECT"));
            }
            Packet::Auth => {
                return Err(End::violation(code::PROTOCOL_ERROR, "it sent AUTH without an authentication method"));
            }
        }
        Ok(())
    }

    /// Hands what was taken to the store and to the bus. Jobs that find no room stay, and [`Self::is_full`] is true
    /// until they are handed over.
    pub(super) async fn hand_over(&mut self) -> Result<(), End> {
        if !self.jobs.is_empty() {
            self.broker.queue.push(&mut self.jobs);
            self.stalled = !self.jobs.is_empty();
        }
        self.publish_messages().await
    }

    async fn publish_messages(&mut self) -> Result<(), End> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let messages = std::mem::take(&mut self.messages);
        let count = messages.len();
        match tokio::time::timeout(BUS_TIME_MAX, self.broker.bus.publish(messages)).await {
            Ok(published) => published.map_err(|error| End::Gone(error.to_string())),
            Err(_) => {
                // Subscribers lose these; the readings among them are the store's already.
                Counters::add(&self.broker.counters.dropped, count);
                if self.broker.counters.refused_lines.allows() {
                    tracing::warn!(
                        messages = count,
                        "the message router has no room: messages to subscribers are dropped"
                    );
                }
                Ok(())
            }
        }
    }

    /// Writes the acks that nothing holds back any more.
    pub(super) fn write_acks(&mut self, out: &mut BytesMut) {
        let stored = self.gate.stored();
        while let Some(due) = self.due.pop_front_if(|due| due.needs <= stored) {
            wire::ack(out, self.version, due.kind, due.id, due.reason);
        }
    }

    fn publish(&mut self, publish: Publish, received_ms: i64) -> Result<(), End> {
        let broker = self.broker.clone();
        Counters::add(&broker.counters.received, 1);
        if publish.topic_alias.is_some() {
            return Err(End::violation(
                code::TOPIC_ALIAS_INVALID,
                "it used a topic alias, of which the hub allows none",
            ));
        }
        if !self.rights.may_write(&publish.topic) {
            self.deny(&publish);
            return Ok(());
        }
        let repeated = self.note_id(&publish)?;
        let needs = match self.route(&publish.topic) {
            Some(routed) => {
                Counters::add(&broker.counters.routed, 1);
                self.queue_job(&routed, &publish, repeated, received_ms)
            }
            None => 0,
        };
        if let Some(kind) = ack_kind(publish.qos) {
            self.due.push_back(Due { kind, id: publish.id, needs, reason: 0 });
        }
        if !repeated && (publish.retain || broker.bus.has_subscribers()) {
            let message = Message::of_publish(&publish, self.holding.session.client(), Instant::now());
            let message = Arc::new(message);
            broker.retain(&message);
            if broker.bus.has_subscribers() {
                self.messages.push(message);
            }
        }
        Ok(())
    }

    /// Answers a publish that the access rules forbid; it goes nowhere. Before MQTT 5 there is no word for it, so it
    /// is acknowledged: the client would only send it again.
    fn deny(&mut self, publish: &Publish) {
        if let Some(kind) = ack_kind(publish.qos) {
            self.due.push_back(Due { kind, id: publish.id, needs: 0, reason: code::NOT_AUTHORIZED });
        }
        let client = self.holding.session.client();
        self.broker.counters.denied("a publish", client, &self.rights, &publish.topic);
    }

    /// Checks the window and notes a QoS 2 packet id; tells whether the id is under way already.
    fn note_id(&mut self, publish: &Publish) -> Result<bool, End> {
        if publish.qos == QoS::AtMostOnce {
            return Ok(false);
        }
        let session = &self.holding.session;
        if self.version == Version::V5 {
            let acks = self.due.iter().filter(|due| due.kind == AckKind::PubAck).count();
            if acks + self.unreleased >= usize::from(self.broker.limits.inflight) && !publish.dup {
                let text = "it sent more QoS 1 and 2 messages than the receive maximum allows";
                return Err(End::violation(code::RECEIVE_MAXIMUM_EXCEEDED, text));
            }
        }
        if publish.qos == QoS::AtLeastOnce {
            return Ok(false);
        }
        let is_new = session.note_received(publish.id);
        if is_new {
            self.unreleased += 1;
        }
        Ok(!is_new)
    }

    /// Decodes a reading and queues it; returns the number that its ack needs.
    fn queue_job(&mut self, routed: &Routed, publish: &Publish, repeated: bool, received_ms: i64) -> u64 {
        let acked = publish.qos > QoS::AtMostOnce;
        if acked {
            self.numbered += 1;
        }
        let number = self.numbered;
        let arrival = Arrival {
            payload: &publish.payload,
            client: self.holding.session.client().clone(),
            qos: publish.qos as u8,
            delivery: acked.then_some((publish.id, publish.dup || repeated)),
            received_ms,
            ticket: acked.then(|| Ticket { gate: self.gate.clone(), number }),
        };
        self.jobs.push_back(self.broker.ingest.job(routed, arrival));
        number
    }

    /// Resolves a topic, from memory where it was published on lately.
    fn route(&mut self, topic: &ByteString) -> Option<Routed> {
        if let Some((_, routed)) = self.routes.iter().find(|(known, _)| known == topic) {
            return routed.clone();
        }
        let routed = self.broker.ingest.route(topic);
        if self.routes.len() >= ROUTES_KEPT {
            self.routes.pop_front();
        }
        self.routes.push_back((message::copy_text(topic), routed.clone()));
        routed
    }

    fn received_by_client(&mut self, ack: Ack, out: &mut BytesMut) {
        let Some(known) = self.holding.session.received_by_client(ack.id, ack.reason) else { return };
        let reason = if known { 0 } else { code::PACKET_ID_NOT_FOUND };
        wire::ack(out, self.version, AckKind::PubRel, ack.id, reason);
    }

    async fn subscribe(&mut self, subscribe: Subscribe, out: &mut BytesMut) -> Result<(), End> {
        if subscribe.subscription_identifier.is_some() {
            let text = "it used a subscription identifier, which the hub does not offer";
            return Err(End::violation(code::SUBSCRIPTION_IDS_NOT_SUPPORTED, text));
        }
        // What this client published before must not come back by what it subscribes to now.
        self.hand_over().await?;
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for filter in &subscribe.filters {
            codes.push(self.subscribe_to(filter).await.unwrap_or_else(|code| code));
        }
        wire::suback(out, self.version, subscribe.id, &codes);
        Ok(())
    }

    /// Subscribes to one filter; returns the QoS that is granted, or the reason code why it is not.
    async fn subscribe_to(&mut self, wanted: &SubscribeFilter) -> Result<u8, u8> {
        let filter = &wanted.filter;
        if topic::is_shared(filter) {
            return Err(code::SHARED_NOT_SUPPORTED);
        }
        if !topic::valid_filter(filter) {
            return Err(code::TOPIC_FILTER_INVALID);
        }
        let session = &self.holding.session;
        if !self.rights.may_subscribe(filter) {
            self.broker.counters.denied("a subscription", session.client(), &self.rights, filter);
            return Err(code::NOT_AUTHORIZED);
        }
        let subscription = Subscription {
            filter: message::copy_text(filter),
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
        };
        let Some(is_new) = session.add(subscription) else {
            if self.broker.counters.refused_lines.allows() {
                tracing::warn!(
                    client = %session.client().escape_debug(),
                    "a subscription was refused: the client has as many as broker.limits.subscriptions allows"
                );
            }
            return Err(code::QUOTA_EXCEEDED);
        };
        if is_new && let Err(code) = self.link_to(filter).await {
            session.remove(filter);
            return Err(code);
        }
        let retained = match wanted.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if retained {
            session.send_retained(self.broker.retained.matching(filter, Instant::now()), wanted.qos);
        }
        Ok(wanted.qos as u8)
    }

    /// Subscribes the session's link, opening it where this is its first filter.
    async fn link_to(&self, filter: &str) -> Result<(), u8> {
        let mut link = self.holding.link.lock().await;
        let linked = async {
            let link = match &mut *link {
                Some(link) => link,
                empty => {
                    let opened: Link = self.broker.bus.link(self.holding.session.clone()).await?;
                    empty.insert(opened)
                }
            };
            link.subscribe(&[filter]).await
        };
        linked.await.map_err(|error| {
            if self.broker.counters.refused_lines.allows() {
                tracing::warn!(
                    client = %self.holding.session.client().escape_debug(),
                    "a subscription was refused: {error}"
                );
            }
            match error {
                super::bus::BusError::NoRoom | super::bus::BusError::TooManyFilters(_) => code::QUOTA_EXCEEDED,
                _ => code::IMPLEMENTATION_SPECIFIC,
            }
        })
    }

    async fn unsubscribe(&mut self, unsubscribe: Unsubscribe, out: &mut BytesMut) {
        let link = self.holding.link.lock().await;
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for filter in &unsubscribe.filters {
            if self.holding.session.remove(filter) {
                if let Some(link) = &*link {
                    link.unsubscribe(&[filter]);
                }
                codes.push(0);
            } else {
                codes.push(code::NO_SUBSCRIPTION_EXISTED);
            }
        }
        wire::unsuback(out, self.version, unsubscribe.id, &codes);
    }
}

fn ack_kind(qos: QoS) -> Option<AckKind> {
    match qos {
        QoS::AtMostOnce => None,
        QoS::AtLeastOnce => Some(AckKind::PubAck),
        QoS::ExactlyOnce => Some(AckKind::PubRec),
    }
}

impl Drop for Inbound {
    /// What the store's queue had no room for is lost with its connection where the client will not send it again.
    fn drop(&mut self) {
        let lost = self.jobs.iter().filter(|job| job.ticket.is_none()).count();
        self.broker.queue.count_lost(lost);
    }
}
