//! One client's session: what outlives its connection.
//!
//! Owns the client's subscriptions, the messages that wait for it, those in flight to it, and the packet ids of its
//! QoS 2 publishes. Every queue is bounded; what does not fit is dropped, newest first, and counted. It never touches
//! a socket: its connection asks it for packets to write.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::sync::Notify;

use super::auth::Rights;
use super::bus::{Numbered, Sink};
use super::counters::Counters;
use super::message::Message;
use super::wire::{self, AckKind, PublishOut, QoS, Version};
use crate::config::Limits;
use crate::log::Rate;
use crate::topic;

/// How often it is said that a subscriber cannot keep up.
const DROPPED_LINE_INTERVAL: Duration = Duration::from_secs(60);

/// A subscription with its options.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The topic filter.
    pub filter: ByteString,
    /// The most that the subscriber wants.
    pub qos: QoS,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether the retain flag is passed on as published.
    pub retain_as_published: bool,
}

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

/// A client's session.
#[derive(Debug)]
pub struct Session {
    client: Arc<str>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    dropped_lines: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the client that was here last may read; `None` before the first.
    rights: Option<Arc<Rights>>,
    /// Notified when there is something to write; `None` while the client is away.
    connection: Option<Arc<Notify>>,
    subscriptions: Vec<Subscription>,
    /// The numbers of the last messages, to deliver one that several filters match once.
    seen: Vec<u64>,
    retained: VecDeque<Queued>,
    fleeting: VecDeque<Queued>,
    queue: VecDeque<Queued>,
    bytes: usize,
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    received: HashSet<u16>,
    dropped: u64,
}

#[derive(Clone, Debug)]
struct Queued {
    message: Arc<Message>,
    qos: QoS,
    retain: bool,
}

#[derive(Debug)]
struct InFlight {
    id: u16,
    queued: Queued,
    step: Step,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The PUBLISH is sent; PUBACK or PUBREC is due.
    Published,
    /// The PUBREL is sent; PUBCOMP is due.
    Released,
}

impl Session {
    /// Makes a session without subscriptions.
    pub fn new(client: Arc<str>, limits: Arc<Limits>, counters: Arc<Counters>) -> Session {
        Session {
            client,
            limits,
            counters,
            dropped_lines: Rate::new(1, DROPPED_LINE_INTERVAL),
            state: Mutex::default(),
        }
    }

    /// Returns the client's id.
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    /// Gives the session to a client that was let in. What waits for it and it may not read is forgotten: the client
    /// may be another user than the last, and the rules may be others.
    pub fn entrust(&self, rights: Arc<Rights>) {
        let mut state = self.lock();
        if !rights.are_open() {
            state.forget_unless(|topic| rights.may_read(topic));
        }
        state.rights = Some(rights);
    }

    /// Connects the session; what is in flight is sent again.
    pub fn attach(&self, connection: Arc<Notify>, outlet: Outlet, out: &mut BytesMut) {
        let mut state = self.lock();
        let now = Instant::now();
        for in_flight in &state.in_flight {
            match in_flight.step {
                Step::Published => write(out, outlet, &in_flight.queued, in_flight.id, true, now),
                Step::Released => wire::ack(out, outlet.version, AckKind::PubRel, in_flight.id, 0),
            }
        }
        connection.notify_one();
        state.connection = Some(connection);
    }

    /// Disconnects the session, unless another connection has taken it over; QoS 0 messages are not kept.
    pub fn detach(&self, connection: &Arc<Notify>) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.connection = None;
            state.retained.clear();
            let fleeting = std::mem::take(&mut state.fleeting);
            state.bytes -= fleeting.iter().map(Queued::bytes).sum::<usize>();
        }
    }

    /// Adds a subscription or replaces its options; tells whether it is new, `None` where there are too many.
    pub fn add(&self, subscription: Subscription) -> Option<bool> {
        let mut state = self.lock();
        if let Some(known) = state.subscriptions.iter_mut().find(|known| known.filter == subscription.filter) {
            *known = subscription;
            return Some(false);
        }
        if state.subscriptions.len() >= self.limits.subscriptions {
            return None;
        }
        state.subscriptions.push(subscription);
        Some(true)
    }

    /// Removes a subscription; tells whether there was one.
    pub fn remove(&self, filter: &str) -> bool {
        let mut state = self.lock();
        let before = state.subscriptions.len();
        state.subscriptions.retain(|known| known.filter != filter);
        state.subscriptions.len() < before
    }

    /// Queues the retained messages that a new subscription finds.
    pub fn send_retained(&self, messages: Vec<Arc<Message>>, qos: QoS) {
        let mut state = self.lock();
        for message in messages {
            if !state.may_read(&message.topic) {
                continue;
            }
            if state.retained.len() >= self.limits.retained_messages {
                self.count_dropped(&mut state);
                continue;
            }
            let qos = qos.min(message.qos);
            state.retained.push_back(Queued { message, qos, retain: true });
        }
    }

    /// Writes what the window and the output's bound allow; returns how many messages.
    pub fn write_to(&self, out: &mut BytesMut, outlet: Outlet, output_bytes_max: usize) -> usize {
        let mut state = self.lock();
        let now = Instant::now();
        let mut written = 0;
        while out.len() < output_bytes_max {
            let Some((queued, counted)) = state.next(outlet.window) else { break };
            let fits = queued.message.life_left(now).is_some()
                && packet_bytes(outlet, &queued, now) <= outlet.packet_bytes_max;
            let bytes = if counted { queued.bytes() } else { 0 };
            if !fits || queued.qos == QoS::AtMostOnce {
                state.bytes -= bytes;
            }
            if !fits {
                continue;
            }
            written += 1;
            if queued.qos == QoS::AtMostOnce {
                write(out, outlet, &queued, 0, false, now);
            } else {
                let id = state.free_id();
                write(out, outlet, &queued, id, false, now);
                if !counted {
                    state.bytes += queued.bytes();
                }
                state.in_flight.push_back(InFlight { id, queued, step: Step::Published });
            }
        }
        written
    }

    /// Takes a PUBACK or PUBCOMP: the message is done with. One for an unknown id is ignored.
    pub fn acknowledged(&self, id: u16, kind: AckKind) {
        let mut state = self.lock();
        let found = state.in_flight.iter().position(|in_flight| {
            in_flight.id == id
                && match kind {
                    AckKind::PubAck => in_flight.queued.qos == QoS::AtLeastOnce,
                    _ => in_flight.step == Step::Released,
                }
        });
        if let Some(done) = found.and_then(|index| state.in_flight.remove(index)) {
            state.bytes -= done.queued.bytes();
        }
    }

    /// Takes a PUBREC; tells whether the id is known, and a PUBREL is due, or was refused, and nothing is.
    pub fn received_by_client(&self, id: u16, reason: u8) -> Option<bool> {
        let mut state = self.lock();
        let index =
            state.in_flight.iter().position(|in_flight| in_flight.id == id && in_flight.queued.qos == QoS::ExactlyOnce);
        let Some(index) = index else { return Some(false) };
        if reason >= 0x80 {
            if let Some(refused) = state.in_flight.remove(index) {
                state.bytes -= refused.queued.bytes();
            }
            return None;
        }
        if let Some(in_flight) = state.in_flight.get_mut(index) {
            in_flight.step = Step::Released;
        }
        Some(true)
    }

    /// Notes the packet id of a QoS 2 publish from the client; false where it is noted already.
    pub fn note_received(&self, id: u16) -> bool {
        self.lock().received.insert(id)
    }

    /// Forgets the packet id of a QoS 2 publish: its PUBREL came. False where it was not noted.
    pub fn forget_received(&self, id: u16) -> bool {
        self.lock().received.remove(&id)
    }

    fn enqueue(&self, state: &mut State, queued: Queued) {
        if (queued.qos == QoS::AtMostOnce && state.connection.is_none()) || !state.may_read(&queued.message.topic) {
            return;
        }
        let waiting = state.fleeting.len() + state.queue.len();
        let bytes = queued.bytes();
        let fits = waiting < self.limits.session_queue_messages
            && state.bytes + bytes <= self.limits.session_queue_bytes.max(bytes);
        if !fits {
            return self.count_dropped(state);
        }
        state.bytes += bytes;
        if queued.qos == QoS::AtMostOnce {
            state.fleeting.push_back(queued);
        } else {
            state.queue.push_back(queued);
        }
    }

    fn count_dropped(&self, state: &mut State) {
        state.dropped += 1;
        Counters::add(&self.counters.dropped, 1);
        if self.dropped_lines.allows() {
            tracing::warn!(
                client = %self.client.escape_debug(),
                dropped = state.dropped,
                "a subscriber cannot keep up: its queue is full and messages to it are dropped"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Session {
    fn take(&self, messages: &mut Vec<Numbered>) {
        let mut state = self.lock();
        for Numbered { number, message } in messages.drain(..) {
            if state.is_repeated(number) {
                continue;
            }
            if let Some(queued) = state.wanted(&self.client, message) {
                self.enqueue(&mut state, queued);
            }
        }
        if let Some(connection) = &state.connection {
            connection.notify_one();
        }
    }
}

impl State {
    /// Tells whether the session's client may have a message. Before the first client it is not known who will ask:
    /// then what waits is judged when one comes.
    fn may_read(&self, topic: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_read(topic))
    }

    /// Forgets the messages that wait or are in flight, unless their topic is one to keep.
    fn forget_unless(&mut self, keep: impl Fn(&str) -> bool) {
        let kept = |queued: &Queued| keep(&queued.message.topic);
        self.retained.retain(kept);
        self.fleeting.retain(kept);
        self.queue.retain(kept);
        self.in_flight.retain(|in_flight| in_flight.step == Step::Released || kept(&in_flight.queued));
        let waiting = self.fleeting.iter().chain(&self.queue);
        let in_flight = self.in_flight.iter().map(|in_flight| &in_flight.queued);
        self.bytes = waiting.chain(in_flight).map(Queued::bytes).sum();
    }

    /// Tells whether a message came already, by another filter. The bus has fewer messages under way than `seen` holds.
    fn is_repeated(&mut self, number: u64) -> bool {
        if self.subscriptions.len() < 2 && self.seen.is_empty() {
            return false;
        }
        if self.seen.is_empty() {
            self.seen = vec![u64::MAX; super::bus::UNITS_MAX];
        }
        let index = usize::try_from(number % super::bus::UNITS_MAX as u64).unwrap_or_default();
        match self.seen.get_mut(index) {
            Some(seen) => std::mem::replace(seen, number) == number,
            None => false,
        }
    }

    /// Returns a message as the subscriptions that match it want it, if any does.
    fn wanted(&self, client: &Arc<str>, message: Arc<Message>) -> Option<Queued> {
        let mut wanted: Option<(QoS, bool)> = None;
        for subscription in &self.subscriptions {
            if !topic::matches(&subscription.filter, &message.topic)
                || (subscription.no_local && message.publisher == *client)
            {
                continue;
            }
            let retain = subscription.retain_as_published && message.retain;
            wanted = Some(match wanted {
                None => (subscription.qos, retain),
                Some((qos, retained)) => (qos.max(subscription.qos), retained || retain),
            });
        }
        let (qos, retain) = wanted?;
        Some(Queued { qos: qos.min(message.qos), message, retain })
    }

    /// Takes the next message to write, and tells whether its bytes are counted.
    fn next(&mut self, window: usize) -> Option<(Queued, bool)> {
        let open = self.in_flight.len() < window;
        if let Some(first) = self.retained.front()
            && (open || first.qos == QoS::AtMostOnce)
        {
            return self.retained.pop_front().map(|queued| (queued, false));
        }
        if let Some(queued) = self.fleeting.pop_front() {
            return Some((queued, true));
        }
        if open { self.queue.pop_front().map(|queued| (queued, true)) } else { None }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.in_flight.iter().all(|in_flight| in_flight.id != self.last_id) {
                return self.last_id;
            }
        }
    }
}

impl Queued {
    fn bytes(&self) -> usize {
        size_of::<InFlight>() + self.message.bytes()
    }
}

fn packet<'q>(queued: &'q Queued, id: u16, dup: bool, now: Instant) -> PublishOut<'q> {
    PublishOut {
        dup,
        qos: queued.qos,
        retain: queued.retain,
        id,
        topic: &queued.message.topic,
        payload: &queued.message.payload,
        properties: queued.message.properties.as_deref(),
        message_expiry_s: queued.message.life_left(now).flatten(),
        subscription_identifiers: &[],
        topic_alias: None,
    }
}

fn write(out: &mut BytesMut, outlet: Outlet, queued: &Queued, id: u16, dup: bool, now: Instant) {
    wire::publish(out, outlet.version, &packet(queued, id, dup, now));
}

fn packet_bytes(outlet: Outlet, queued: &Queued, now: Instant) -> usize {
    wire::publish_len(outlet.version, &packet(queued, 1, false, now))
}
