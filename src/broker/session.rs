//! One client's session: what outlives its connection.
//!
//! Owns the client's subscriptions, what is on its way to it (`outbound`), and the packet ids of its QoS 2 publishes.
//! Every queue is bounded; what does not fit is dropped, newest first, and counted. It never touches a socket: its
//! connection asks it for packets to write; nor the store: `kept` says what of it outlives a restart.

mod kept;

use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use bytestring::ByteString;
use tokio::sync::Notify;

use super::auth::Rights;
use super::bus::{Numbered, Sink};
use super::counters::Counters;
use super::keeper::Changed;
use super::message::Message;
use super::outbound::Outbound;
use super::pen::Pen;
use super::queued::{Identifiers, Queued};
use super::received::{Came, Received};
use super::wire::{AckKind, QoS, Version};
use crate::config::Limits;
use crate::log::Rate;
use crate::topic;

pub(super) use self::kept::Restored;

/// How often it is said that a subscriber cannot keep up.
const DROPPED_LINE_INTERVAL: Duration = Duration::from_secs(60);
const QUEUE_FULL: &str = "a subscriber cannot keep up: its queue is full and messages to it are dropped";
const ALL_FULL: &str = "messages to a subscriber are dropped: as much waits for all clients together as \
                        broker.limits.queued_bytes allows";
const LOST: &str = "a subscriber has left that could not keep up: so many messages were lost to its session";
const TOO_LARGE: &str = "messages are dropped that are larger than the packets that their subscriber takes";

/// A subscription with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic filter, or the whole name of a shared subscription, `$share/NAME/FILTER`.
    pub filter: ByteString,
    /// The most that the subscriber wants.
    pub qos: QoS,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether the retain flag is passed on as published.
    pub retain_as_published: bool,
    /// MQTT 5's number that is sent along with what the filter matches.
    pub identifier: Option<u32>,
    /// The number on the bus of the first message that is meant: others' subscriptions may bring earlier ones.
    pub since: u64,
}

/// A client's session.
#[derive(Debug)]
pub struct Session {
    client: Arc<str>,
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    changed: Arc<Changed>,
    dropped_lines: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How the session is kept over a restart, where it is.
    keeping: Option<kept::Keeping>,
    /// What has changed since the lock was taken.
    touched: Touched,
    /// The bytes of `outbound` that are counted with those of all sessions.
    counted_bytes: usize,
    /// What the client that was here last may read; `None` before the first.
    rights: Option<Arc<Rights>>,
    /// Notified when there is something to write; `None` while the client is away.
    connection: Option<Arc<Notify>>,
    subscriptions: Vec<Subscription>,
    /// The shared ones, whose messages come from their groups, not from the bus.
    shared: Vec<Subscription>,
    outbound: Outbound,
    received: Received,
    dropped: u64,
    /// Of these, how many the log knows of.
    told: u64,
    has_ended: bool,
}

/// Whether what a restart must know has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Touched {
    #[default]
    No,
    /// In a way that may wait for the store's next turn.
    Slightly,
    /// In a way that somebody relies on.
    Surely,
}

/// A session's state, locked. Letting go of it counts its bytes, and notes that it has changed where it has.
struct Locked<'s> {
    session: &'s Session,
    state: MutexGuard<'s, State>,
}

impl Session {
    /// Makes a session without subscriptions.
    pub(super) fn new(
        client: Arc<str>,
        limits: Arc<Limits>,
        counters: Arc<Counters>,
        changed: Arc<Changed>,
    ) -> Session {
        Session {
            client,
            limits,
            counters,
            changed,
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
            state.touch(Touched::Slightly);
            state.outbound.forget_unless(|topic| rights.may_read(topic));
        }
        state.rights = Some(rights);
    }

    /// Connects the session; what is in flight is sent again.
    pub fn attach(&self, connection: Arc<Notify>, version: Version, out: &mut BytesMut) {
        let mut state = self.lock();
        state.outbound.begin(out, version);
        connection.notify_one();
        state.connection = Some(connection);
    }

    /// Disconnects the session, unless another connection has taken it over; QoS 0 messages are not kept.
    pub fn detach(&self, connection: &Arc<Notify>) {
        let mut state = self.lock();
        if state.connection.as_ref().is_some_and(|current| Arc::ptr_eq(current, connection)) {
            state.connection = None;
            state.touch(Touched::Surely);
            let dropped = state.outbound.end(&self.limits);
            self.count_dropped(&mut state, dropped, QUEUE_FULL);
            if state.dropped > state.told && self.counters.dropped_lines.allows() {
                self.tell_dropped(&mut state, LOST);
            }
        }
    }

    /// Ends the session for good; returns its shared subscriptions.
    pub fn end(&self) -> Vec<ByteString> {
        let mut state = self.lock();
        state.has_ended = true;
        state.touch(Touched::Surely);
        state.shared.iter().map(|subscription| subscription.filter.clone()).collect()
    }

    /// Tells whether the session has ended for good.
    pub fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Returns the session's shared subscriptions.
    pub fn shared(&self) -> Vec<ByteString> {
        self.lock().shared.iter().map(|subscription| subscription.filter.clone()).collect()
    }

    /// Adds a subscription or replaces its options; tells whether it is new, `None` where there are too many.
    pub fn add(&self, subscription: Subscription) -> Option<bool> {
        let mut state = self.lock();
        let known = state.subscriptions.iter().chain(&state.shared);
        let weight: usize = known.map(|known| topic::weight(&known.filter)).sum();
        let list = state.list(&subscription.filter);
        if let Some(known) = list.iter_mut().find(|known| known.filter == subscription.filter) {
            let changed = Subscription { since: known.since, ..subscription };
            if *known != changed {
                *known = changed;
                state.touch(Touched::Surely);
            }
            return Some(false);
        }
        if weight + topic::weight(&subscription.filter) > self.limits.subscriptions {
            return None;
        }
        list.push(subscription);
        state.touch(Touched::Surely);
        Some(true)
    }

    /// Removes a subscription; tells whether there was one.
    pub fn remove(&self, filter: &str) -> bool {
        let mut state = self.lock();
        let list = state.list(filter);
        let before = list.len();
        list.retain(|known| known.filter != filter);
        let existed = list.len() < before;
        if existed {
            state.touch(Touched::Surely);
        }
        existed
    }

    /// Queues the retained messages that a subscription finds.
    pub fn send_retained(&self, messages: Vec<Arc<Message>>, qos: QoS, identifier: Option<u32>) {
        let mut state = self.lock();
        let mut dropped = 0;
        for message in messages {
            if !state.may_read(&message.topic) {
                continue;
            }
            let (qos, identifiers) = (qos.min(message.qos), Identifiers::from(identifier));
            let queued = Queued { message, qos, retain: true, identifiers, share: None, number: 0 };
            dropped += usize::from(!state.outbound.push_retained(queued, &self.limits));
        }
        self.count_dropped(&mut state, dropped, QUEUE_FULL);
    }

    /// Takes a message of a shared subscription where the client is connected, or `away`, and there is room for it.
    pub fn offer(&self, message: &Arc<Message>, terms: &Subscription, share: &Arc<str>, away: bool) -> bool {
        let qos = terms.qos.min(message.qos);
        let mut state = self.lock();
        if state.connection.is_none() != away || (away && qos == QoS::AtMostOnce) || state.has_ended {
            return false;
        }
        if !state.may_read(&message.topic) {
            return false;
        }
        let queued = Queued {
            message: message.clone(),
            qos,
            retain: terms.retain_as_published && message.retain,
            identifiers: terms.identifier.into(),
            share: Some(share.clone()),
            number: 0,
        };
        let taken = self.push(&mut state, queued).is_ok();
        if let Some(connection) = state.connection.as_ref().filter(|_| taken) {
            connection.notify_one();
        }
        taken
    }

    /// Tells whether the client is connected.
    pub fn is_connected(&self) -> bool {
        self.lock().connection.is_some()
    }

    /// Hands messages of a shared subscription that wait, and with `started` those at QoS 1 that are not acknowledged,
    /// to whom `give` finds for them; it is called with this session locked. What it refuses stays.
    pub fn hand_over(&self, share: &str, started: bool, give: &mut dyn FnMut(&Arc<Message>) -> bool) {
        let mut state = self.lock();
        state.touch(Touched::Slightly);
        state.outbound.hand_over(share, started, give);
    }

    /// Writes what the window and the output's bound allow; returns how many messages. A connection that another has
    /// taken over from gets none.
    pub(super) fn write_to(&self, connection: &Notify, pen: &mut Pen<'_>, output_bytes_max: usize) -> usize {
        let mut state = self.lock();
        if !state.connection.as_deref().is_some_and(|current| std::ptr::eq(current, connection)) {
            return 0;
        }
        let written = state.outbound.write(pen, output_bytes_max);
        if written.delivered > 0 {
            state.touch(Touched::Slightly);
        }
        self.count_dropped(&mut state, written.too_large, TOO_LARGE);
        written.delivered
    }

    /// Takes a PUBACK or PUBCOMP: the message is done with. One for an unknown id is ignored.
    pub fn acknowledged(&self, id: u16, kind: AckKind) {
        let mut state = self.lock();
        state.touch(Touched::Slightly);
        match kind {
            AckKind::PubAck => state.outbound.acknowledged(id),
            _ => state.outbound.completed(id),
        }
    }

    /// Takes a PUBREC; tells whether the id is known, and a PUBREL is due, or was refused, and nothing is.
    pub fn received_by_client(&self, id: u16, reason: u8) -> Option<bool> {
        let mut state = self.lock();
        state.touch(Touched::Slightly);
        state.outbound.received_by_client(id, reason)
    }

    /// Notes the packet id of a QoS 2 publish from the client; tells whether that publish came already.
    pub fn note_received(&self, id: u16, dup: bool) -> Came {
        let mut state = self.lock();
        state.touch(Touched::Slightly);
        state.received.note(id, dup)
    }

    /// Forgets the packet id of a QoS 2 publish: its PUBREL came. False where it was not noted.
    pub fn forget_received(&self, id: u16) -> bool {
        let mut state = self.lock();
        state.touch(Touched::Slightly);
        state.received.forget(id)
    }

    fn enqueue(&self, state: &mut State, queued: Queued) {
        if (queued.qos == QoS::AtMostOnce && state.connection.is_none()) || !state.may_read(&queued.message.topic) {
            return;
        }
        if let Err(why) = self.push(state, queued) {
            self.count_dropped(state, 1, why);
        }
    }

    /// Queues a message where this session's limits and that of all sessions together leave room for it; returns why not.
    fn push(&self, state: &mut State, queued: Queued) -> Result<(), &'static str> {
        let acked = queued.qos > QoS::AtMostOnce;
        let of_all = self.counters.queued_bytes.load(Ordering::Relaxed);
        // Where nothing waits, one message may, whatever the others hold.
        if of_all >= self.limits.queued_bytes as u64 && state.outbound.has_waiting() {
            return Err(ALL_FULL);
        }
        if !state.outbound.push(queued, &self.limits) {
            return Err(QUEUE_FULL);
        }
        if acked {
            // Nobody else has it now but the session of a client that is away.
            state.touch(if state.connection.is_none() { Touched::Surely } else { Touched::Slightly });
        }
        Ok(())
    }

    fn count_dropped(&self, state: &mut State, count: usize, why: &str) {
        if count == 0 {
            return;
        }
        state.dropped += count as u64;
        Counters::add(&self.counters.dropped, count);
        // Each session says it once in a while; a crowd of sessions together no more often than all else is said.
        if self.dropped_lines.allows() && self.counters.dropped_lines.allows() {
            self.tell_dropped(state, why);
        }
    }

    fn tell_dropped(&self, state: &mut State, why: &str) {
        state.told = state.dropped;
        tracing::warn!(client = %self.client.escape_debug(), dropped = state.dropped, "{why}");
    }

    fn lock(&self) -> Locked<'_> {
        Locked { session: self, state: self.state.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

impl Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (session, state) = (self.session, &mut *self.state);
        let bytes = state.outbound.bytes();
        if bytes != state.counted_bytes {
            session.counters.queued_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            session.counters.queued_bytes.fetch_sub(state.counted_bytes as u64, Ordering::Relaxed);
            state.counted_bytes = bytes;
        }
        let touched = std::mem::take(&mut state.touched);
        if let Some(keeping) = state.keeping.as_mut().filter(|keeping| touched > keeping.noted) {
            keeping.noted = touched;
            session.changed.note_session(&session.client, touched == Touched::Surely);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.counters.queued_bytes.fetch_sub(state.counted_bytes as u64, Ordering::Relaxed);
    }
}

impl Sink for Session {
    fn wants(&self, topic: &str) -> bool {
        self.lock().subscriptions.iter().any(|subscription| topic::matches(&subscription.filter, topic))
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        let mut state = self.lock();
        for message in messages.drain(..) {
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
    /// Notes that what a restart must know has changed.
    fn touch(&mut self, touched: Touched) {
        self.touched = self.touched.max(touched);
    }

    /// Tells whether the session's client may have a message. Before the first client it is not known who will ask:
    /// then what waits is judged when one comes.
    fn may_read(&self, topic: &str) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.may_read(topic))
    }

    /// Returns the subscriptions among which a filter stands.
    fn list(&mut self, filter: &str) -> &mut Vec<Subscription> {
        if topic::is_shared(filter) { &mut self.shared } else { &mut self.subscriptions }
    }

    /// Returns a message as the subscriptions that match it want it, if any does.
    fn wanted(&self, client: &Arc<str>, Numbered { number, message }: Numbered) -> Option<Queued> {
        let mut wanted: Option<(QoS, bool)> = None;
        let mut identifiers = Identifiers::None;
        for subscription in &self.subscriptions {
            if number < subscription.since
                || !topic::matches(&subscription.filter, &message.topic)
                || (subscription.no_local && message.publisher == *client)
            {
                continue;
            }
            let retain = subscription.retain_as_published && message.retain;
            wanted = Some(match wanted {
                None => (subscription.qos, retain),
                Some((qos, retained)) => (qos.max(subscription.qos), retained || retain),
            });
            if let Some(identifier) = subscription.identifier {
                identifiers.add(identifier);
            }
        }
        let (qos, retain) = wanted?;
        Some(Queued { qos: qos.min(message.qos), message, retain, identifiers, share: None, number: 0 })
    }
}
