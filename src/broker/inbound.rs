//! What a connected client sends, packet by packet.
//!
//! Owns the ack gate's other half: which acks are due, in the order of the publishes, and what each waits for. A
//! publish on a topic that is routed or forwarded becomes a job with a number; its ack leaves once the store's watermark
//! has reached that number. Any other publish is acked as soon as those before it are. It reads and writes no socket:
//! packets come decoded, answers go into a buffer.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::sync::Notify;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Broker;
use super::alias::{self, AliasError};
use super::auth::Rights;
use super::counters::Counters;
use super::end::End;
use super::forwarded;
use super::message::{self, Message};
use super::pen::Outlet;
use super::received::Came;
use super::registry::Holding;
use super::wire::{self, Ack, AckKind, Connect, Disconnect, Packet, Publish, QoS, Version};
use crate::clock::Moment;
use crate::fault;
use crate::ingest::{Arrival, Routed};
use crate::store::{AckGate, Job, Ticket};
use crate::topic;

/// How long messages may wait for room on the bus before they are dropped.
const BUS_TIME_MAX: Duration = Duration::from_secs(2);
/// Topics whose routes a connection remembers; a sensor has two.
const ROUTES_KEPT: usize = 8;

mod code {
    //! MQTT 5 reason codes, section 2.4 of the standard.
    pub(super) const PROTOCOL_ERROR: u8 = 0x82;
    pub(super) const NOT_AUTHORIZED: u8 = 0x87;
    pub(super) const PACKET_ID_NOT_FOUND: u8 = 0x92;
    pub(super) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub(super) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(super) const RETAIN_NOT_SUPPORTED: u8 = 0x9A;
}

/// What a client's CONNECT says of what it may send and be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// The protocol.
    pub(super) version: Version,
    /// The largest packet that it takes, bytes.
    pub(super) packet_bytes_max: usize,
    /// Whether a reason may be told in words where something failed.
    pub(super) explains: bool,
    /// Whether the session was to end with the connection from the start.
    ends_with_connection: bool,
}

impl Terms {
    /// Reads them off a CONNECT.
    pub(super) fn of(connect: &Connect, outlet: Outlet) -> Terms {
        Terms {
            version: outlet.version,
            packet_bytes_max: outlet.packet_bytes_max,
            explains: connect.properties.request_problem_information,
            ends_with_connection: connect.properties.session_expiry_s.unwrap_or(0) == 0,
        }
    }
}

/// The receiving side of a connection.
pub(super) struct Inbound {
    pub(super) broker: Arc<Broker>,
    pub(super) holding: Arc<Holding>,
    pub(super) rights: Arc<Rights>,
    pub(super) terms: Terms,
    aliases: alias::Incoming,
    /// Held for as long as packets are taken.
    reading: Option<TaskTrackerToken>,
    gate: Arc<AckGate>,
    numbered: u64,
    due: VecDeque<Due>,
    jobs: VecDeque<Job>,
    /// Whether the store's queue had no room for all of them.
    stalled: bool,
    messages: Vec<Arc<Message>>,
    /// QoS 2 publishes of this connection that wait for their PUBREL.
    unreleased: HashSet<u16>,
    routes: VecDeque<(ByteString, Option<Routed>)>,
    /// What the client's DISCONNECT says of its session's life, seconds.
    pub(super) session_expiry_s: Option<u32>,
}

/// An ack that is due once the store has reached `needs`.
struct Due {
    kind: AckKind,
    id: u16,
    reason: u8,
    needs: u64,
    /// When the publish came, where it is one of readings.
    reading_came: Option<Instant>,
}

impl Inbound {
    pub(super) fn new(
        broker: Arc<Broker>,
        holding: Arc<Holding>,
        rights: Arc<Rights>,
        terms: Terms,
        wake: Arc<Notify>,
    ) -> Inbound {
        let reading = broker.reading.token();
        Inbound {
            reading: Some(reading),
            aliases: alias::Incoming::new(broker.limits.topic_aliases),
            broker,
            holding,
            rights,
            terms,
            gate: Arc::new(AckGate::new(wake)),
            numbered: 0,
            due: VecDeque::new(),
            jobs: VecDeque::new(),
            stalled: false,
            messages: Vec::new(),
            unreleased: HashSet::new(),
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

    /// Says that nothing more is taken.
    pub(super) fn stop_reading(&mut self) {
        self.reading = None;
    }

    /// Tells whether acks are due.
    pub(super) fn owes_acks(&self) -> bool {
        !self.due.is_empty()
    }

    /// Takes a packet; answers that wait for nothing go to `out`.
    pub(super) async fn take(&mut self, packet: Packet, received: Moment, out: &mut BytesMut) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => return self.publish(publish, received),
            Packet::PubAck(Ack { id, .. }) => self.holding.session.acknowledged(id, AckKind::PubAck),
            Packet::PubComp(Ack { id, .. }) => self.holding.session.acknowledged(id, AckKind::PubComp),
            Packet::PubRec(ack) => self.received_by_client(ack, out),
            Packet::PubRel(Ack { id, .. }) => {
                let known = self.holding.session.forget_received(id);
                self.unreleased.remove(&id);
                let reason = if known { 0 } else { code::PACKET_ID_NOT_FOUND };
                wire::ack(out, self.terms.version, AckKind::PubComp, id, reason);
            }
            Packet::Subscribe(subscribe) => return self.subscribe(subscribe, out).await,
            Packet::Unsubscribe(unsubscribe) => return self.unsubscribe(unsubscribe, out).await,
            Packet::PingReq => wire::pingresp(out),
            Packet::Disconnect(disconnect) => {
                return Err(self.goodbye(disconnect));
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
        let mut messages = std::mem::take(&mut self.messages).into();
        match tokio::time::timeout(BUS_TIME_MAX, self.broker.bus.publish_from(&mut messages)).await {
            Ok(published) => published.map_err(|error| End::Gone(error.to_string())),
            Err(_) => {
                // Subscribers lose these; the readings among them are the store's already.
                self.broker.count_bus_full(messages.len());
                Ok(())
            }
        }
    }

    /// Writes the acks that nothing holds back any more.
    pub(super) fn write_acks(&mut self, out: &mut BytesMut) {
        let stored = self.gate.stored();
        if self.due.front().is_none_or(|due| due.needs > stored) {
            return;
        }
        let now = Instant::now();
        let mut latency = self.broker.counters.ack_latency.tally();
        while let Some(due) = self.due.pop_front_if(|due| due.needs <= stored) {
            wire::ack(out, self.terms.version, due.kind, due.id, due.reason);
            if let Some(came) = due.reading_came {
                latency.count(now.saturating_duration_since(came));
            }
        }
    }

    fn goodbye(&mut self, disconnect: Disconnect) -> End {
        if self.terms.ends_with_connection && disconnect.session_expiry_s.is_some_and(|seconds| seconds > 0) {
            let text = "it wants its session kept, and said at first that it ends with the connection";
            return End::violation(code::PROTOCOL_ERROR, text);
        }
        self.session_expiry_s = disconnect.session_expiry_s;
        // Only a plain goodbye discards the will.
        if disconnect.reason == 0 { End::Goodbye } else { End::GoodbyeWithWill }
    }

    fn publish(&mut self, mut publish: Publish, received: Moment) -> Result<(), End> {
        let broker = self.broker.clone();
        Counters::add(&broker.counters.received, 1);
        self.resolve_alias(&mut publish)?;
        fault::panic(&publish.topic);
        if publish.retain && broker.limits.retained_messages == 0 && self.terms.version == Version::V5 {
            let text = "it wants a message retained, and broker.limits.retained_messages allows none";
            return Err(End::violation(code::RETAIN_NOT_SUPPORTED, text));
        }
        if topic::is_of_the_server(&publish.topic) {
            return self.refuse_publish(&publish);
        }
        if !self.rights.may_write(&publish.topic) {
            let client = self.holding.session.client();
            broker.counters.denied("a publish", client, &self.rights, &publish.topic);
            return self.refuse_publish(&publish);
        }
        let came = self.note_id(&publish)?;
        let (needs, reading_came) = match self.route(&publish.topic) {
            Some(routed) => {
                let is_of_readings = routed.is_of_readings();
                Counters::add(&broker.counters.routed, usize::from(is_of_readings));
                (self.queue_job(&routed, &publish, came, received), is_of_readings.then_some(received.at))
            }
            None => (0, None),
        };
        self.owe_ack(&publish, 0, needs, reading_came);
        if came != Came::Again && (publish.retain || broker.bus.has_subscribers()) {
            let message = Message::of_publish(&publish, self.holding.session.client(), Instant::now());
            let message = Arc::new(message);
            broker.retain(&message);
            if broker.bus.has_subscribers() {
                self.messages.push(message);
            }
        }
        Ok(())
    }

    /// Puts the topic in the place of an alias that stands for it.
    fn resolve_alias(&mut self, publish: &mut Publish) -> Result<(), End> {
        let Some(alias) = publish.topic_alias.take() else { return Ok(()) };
        publish.topic = self.aliases.resolve(alias, &publish.topic).map_err(|error| match error {
            AliasError::TooHigh => {
                End::violation(code::TOPIC_ALIAS_INVALID, "it used a topic alias above broker.limits.topic_aliases")
            }
            AliasError::Unknown => {
                End::violation(code::PROTOCOL_ERROR, "it used a topic alias that stands for no topic yet")
            }
        })?;
        Ok(())
    }

    /// Takes a publish that goes nowhere. Before MQTT 5 there is no way to say so but to end the connection, so it is
    /// acked.
    fn refuse_publish(&mut self, publish: &Publish) -> Result<(), End> {
        let v5 = self.terms.version == Version::V5;
        if !v5 {
            self.note_id(publish)?;
        }
        self.owe_ack(publish, if v5 { code::NOT_AUTHORIZED } else { 0 }, 0, None);
        Ok(())
    }

    /// Notes the ack that a publish is due, by its QoS.
    fn owe_ack(&mut self, publish: &Publish, reason: u8, needs: u64, reading_came: Option<Instant>) {
        let kind = match publish.qos {
            QoS::AtMostOnce => return,
            QoS::AtLeastOnce => AckKind::PubAck,
            QoS::ExactlyOnce => AckKind::PubRec,
        };
        self.due.push_back(Due { kind, id: publish.id, reason, needs, reading_came });
    }

    /// Checks the window and notes a QoS 2 packet id; tells whether the publish came already.
    fn note_id(&mut self, publish: &Publish) -> Result<Came, End> {
        if publish.qos == QoS::AtMostOnce {
            return Ok(Came::First);
        }
        let session = &self.holding.session;
        if self.terms.version == Version::V5 {
            let acks = self.due.iter().filter(|due| due.kind == AckKind::PubAck).count();
            let is_counted = self.unreleased.contains(&publish.id);
            if acks + self.unreleased.len() >= usize::from(self.broker.limits.inflight) && !is_counted {
                let text = "it sent more QoS 1 and 2 messages than the receive maximum allows";
                return Err(End::violation(code::RECEIVE_MAXIMUM_EXCEEDED, text));
            }
        }
        if publish.qos == QoS::AtLeastOnce {
            return Ok(Came::First);
        }
        self.unreleased.insert(publish.id);
        Ok(session.note_received(publish.id, publish.dup))
    }

    /// Queues what the store is to have of a publish; returns the number that its ack needs, 0 for none. One that perhaps
    /// came already is taken for that where the store finds its bytes the same.
    fn queue_job(&mut self, routed: &Routed, publish: &Publish, came: Came, received: Moment) -> u64 {
        let acked = publish.qos > QoS::AtMostOnce;
        let number = self.numbered + 1;
        let properties = publish.properties.as_deref().filter(|_| routed.is_forwarded());
        let arrival = Arrival {
            payload: &publish.payload,
            client: self.holding.session.client().clone(),
            qos: publish.qos as u8,
            retain: publish.retain,
            properties: properties.map(|properties| forwarded::to_stored(properties, received.ms)),
            forwards: true,
            delivery: acked.then_some((publish.id, publish.dup || came != Came::First)),
            received,
            ticket: acked.then(|| Ticket { gate: self.gate.clone(), number }),
        };
        let Some(job) = self.broker.ingest.job(routed, arrival) else { return 0 };
        self.jobs.push_back(job);
        if acked {
            self.numbered = number;
        }
        self.numbered
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
        wire::ack(out, self.terms.version, AckKind::PubRel, ack.id, reason);
    }
}

impl Drop for Inbound {
    /// What the store's queue had no room for is lost with its connection where the client will not send it again.
    fn drop(&mut self) {
        self.broker.queue.count_lost(self.jobs.iter().filter(|job| job.ticket.is_none()));
    }
}
