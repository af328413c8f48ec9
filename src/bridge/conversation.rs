//! One connection upstream, from the attempt to its end.
//!
//! Owns what is done when: the window is filled from the supply, answers are noted, the store is told, and a connection
//! that makes no progress is given up. What outlives a connection is `Lasting`.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Lasting;
use super::backoff::{Backoff, chance};
use super::error::Loss;
use super::link::{Event, Link, Terms, Verdict};
use super::outgoing::Outgoing;
use super::window::Again;

/// Events taken at a time.
const EVENTS: usize = 128;
/// How long a stop waits for what is on its way.
const LAST_ACKS_TIME_MAX: Duration = Duration::from_millis(800);
/// How long a stop waits for the store, and for the goodbye to leave.
const FAREWELL_TIME_MAX: Duration = Duration::from_millis(400);
/// How long the outbox is left alone after it could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// The bridge looks after itself at least this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How a connection ended.
pub(super) enum End {
    /// It was lost, or did not come about.
    Lost(Loss),
    /// The hub stops.
    Stopped,
}

/// A connection, and what is known of it.
pub(super) struct Conversation<'b> {
    lasting: &'b mut Lasting,
    link: Link,
    /// Since the upstream has accepted the connection.
    terms: Option<Terms>,
    /// Since when nothing has moved although something is on its way.
    still_since: Instant,
    /// Since when the subscriptions are not answered.
    subscribing_since: Option<Instant>,
    /// Until when nothing is sent, because the upstream does not want it or the outbox cannot be read.
    paused_until: Option<Instant>,
    refusals: Backoff,
    /// Packet ids of an earlier run that are still to be released.
    releasing: BTreeSet<u16>,
    /// Whether the live lane is to be begun anew first.
    begins_live: bool,
    /// Whether it was told that nobody listens upstream.
    has_told_unheard: bool,
}

impl<'b> Conversation<'b> {
    /// Begins a conversation over a connection that is being made.
    pub(super) fn new(lasting: &'b mut Lasting, link: Link) -> Conversation<'b> {
        let (refusals, begins_live) = (Backoff::new(lasting.settings.reconnect_max), lasting.settings.live_first);
        Conversation {
            lasting,
            link,
            terms: None,
            still_since: Instant::now(),
            subscribing_since: None,
            paused_until: None,
            refusals,
            releasing: BTreeSet::new(),
            begins_live,
            has_told_unheard: false,
        }
    }

    /// Holds the conversation until it ends.
    pub(super) async fn hold(mut self, stop: &CancellationToken) -> End {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let due = self.due().saturating_duration_since(Instant::now());
            tokio::select! {
                () = stop.cancelled() => {
                    self.farewell().await;
                    return End::Stopped;
                }
                count = self.link.events.recv_many(&mut events, EVENTS) => {
                    if count == 0 {
                        return End::Lost(self.link.loss().await);
                    }
                }
                () = self.lasting.outbox.changed() => self.lasting.supply.look_again(),
                () = self.lasting.ledger.stored() => {}
                () = tokio::time::sleep(due) => {}
            }
            for event in events.drain(..) {
                if let Err(loss) = self.on(event) {
                    return End::Lost(loss);
                }
            }
            if let Err(loss) = self.check() {
                return End::Lost(loss);
            }
            self.fill().await;
            self.note_done();
            self.lasting.ledger.tell(Instant::now(), self.begins_live);
            self.lasting.show();
        }
    }

    /// Takes an event; an error ends the connection.
    fn on(&mut self, event: Event) -> Result<(), Loss> {
        match event {
            Event::Connected(terms) => self.connected(terms)?,
            Event::Sent(id) => self.lasting.window.sent(id),
            Event::Received(id) => {
                self.lasting.window.received(id);
                self.still_since = Instant::now();
            }
            Event::Answered(id, _) if self.releasing.remove(&id) => {
                if self.releasing.is_empty() {
                    self.lasting.unreleased = false;
                    return Err(Loss::Released);
                }
            }
            Event::Answered(id, Verdict::Taken) => self.taken(id),
            Event::Answered(id, Verdict::Unheard) => self.unheard(id),
            Event::Answered(id, verdict) => self.refused(id, verdict),
            Event::Subscribed { refused } => {
                (self.subscribing_since, self.lasting.subscribed) = (None, true);
                if refused > 0 {
                    warn!(refused, "the upstream refuses subscriptions of bridge.subscribe; see its access rules");
                }
            }
        }
        Ok(())
    }

    fn connected(&mut self, terms: Terms) -> Result<(), Loss> {
        let lasting = &mut *self.lasting;
        if terms.qos_max < lasting.settings.qos {
            return Err(Loss::QosTooHigh(terms.qos_max, lasting.settings.qos));
        }
        lasting.is_accepted = true;
        lasting.state.connects.fetch_add(1, Ordering::Relaxed);
        lasting.state.set_connected(true);
        let waiting = lasting.outbox.messages();
        info!(waiting, "the upstream {} is connected", lasting.name);
        if lasting.unreleased && terms.present {
            let ids = lasting.released_first().into_iter();
            self.releasing = ids.filter_map(|one| if let Again::Release(id) = one { Some(id) } else { None }).collect();
        } else {
            lasting.unreleased = false;
            lasting.window.resumed(terms.present, terms.receive_max.into());
            let wanted = &lasting.settings.subscribe;
            let kept = terms.present && lasting.subscribed;
            if !wanted.is_empty() && !kept && self.link.sender.subscribe(wanted) {
                self.subscribing_since = Some(Instant::now());
            }
        }
        self.still_since = Instant::now();
        lasting.pace.begin(self.still_since, lasting.outbox.added());
        self.terms = Some(terms);
        Ok(())
    }

    fn taken(&mut self, id: u16) {
        let lasting = &mut *self.lasting;
        if let Some(row) = lasting.window.acknowledged(id) {
            self.still_since = Instant::now();
            self.refusals.reset();
            lasting.progressed(row);
        }
    }

    /// Notes that the upstream has dropped a message for want of subscribers, and tells of the first on a connection.
    fn unheard(&mut self, id: u16) {
        self.lasting.state.unheard.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.has_told_unheard, true) {
            warn!("the upstream {} drops messages: nobody subscribes to their topics there", self.lasting.name);
        }
        self.taken(id);
    }

    /// Notes that the upstream does not take a message: it is tried again, later; where the upstream takes others and not
    /// this one, it is set aside.
    fn refused(&mut self, id: u16, verdict: Verdict) {
        let now = Instant::now();
        let sent = self.lasting.state.sent.load(Ordering::Relaxed);
        let Some(entry) = self.lasting.window.refused(id) else { return };
        self.still_since = now;
        let topic = entry.message.topic.clone();
        let reason = match verdict {
            Verdict::Never(reason) => Err(reason),
            Verdict::Denied => match entry.denied_at {
                Some(before) if before < sent => Err("not authorized"),
                _ => {
                    entry.denied_at.get_or_insert(sent);
                    Ok("not authorized")
                }
            },
            Verdict::NotNow(reason) => Ok(reason),
            Verdict::Taken | Verdict::Unheard => return,
        };
        match reason {
            Ok(reason) => {
                if self.paused_until.is_none_or(|until| until <= now) {
                    self.paused_until = Some(now + self.refusals.pause(chance()));
                }
                self.lasting
                    .complain(&format!("it does not take a message on {topic:?} now: {reason}; it is tried again"));
            }
            Err(reason) => {
                let row = entry.message.id;
                self.lasting.give_up(row, format!("the upstream answers: {reason}"));
            }
        }
    }

    /// Says whether the connection has stopped to move.
    fn check(&mut self) -> Result<(), Loss> {
        let (now, waited) = (Instant::now(), self.lasting.settings.ack_wait_max);
        let messages = self.lasting.window.unacknowledged();
        if messages == 0 {
            self.still_since = now;
        }
        let still = now.saturating_duration_since(self.still_since) >= waited;
        if self.terms.is_some() && still {
            return Err(Loss::Unacknowledged { messages, waited });
        }
        match self.subscribing_since {
            Some(since) if now.saturating_duration_since(since) >= waited => Err(Loss::Unsubscribed(waited)),
            _ => Ok(()),
        }
    }

    /// Sends what may be sent now.
    async fn fill(&mut self) {
        let Some(terms) = self.terms.filter(|_| self.releasing.is_empty()) else { return };
        if self.paused_until.is_some_and(|until| until > Instant::now()) || self.lasting.window.repeats() {
            return;
        }
        self.paused_until = None;
        if self.begins_live && !self.begin_live() {
            return;
        }
        loop {
            // What is done with leaves the window first, so that each ack makes room at once: a server that holds its acks back
            // until its last is answered (Nagle) would wait for the hub's next message, and the hub for its acks.
            self.note_done();
            let most = self.lasting.suspicion.limit().min(terms.receive_max.into());
            if self.lasting.window.unacknowledged() >= most {
                return;
            }
            let suspect = self.lasting.suspicion.suspect();
            if self.send_first(terms, suspect) {
                continue;
            }
            let window = &self.lasting.window;
            if self.lasting.ledger.is_full() {
                return;
            }
            // A suspect needs another one beside it, whatever the limit.
            let has_room = window.len() < most.max(if suspect.is_some() { 2 } else { 0 })
                && (window.bytes() < self.lasting.in_flight_bytes_max || suspect.is_some());
            let goes_on = has_room && self.next(terms).await || suspect.is_some() && self.send_first(terms, None);
            if !goes_on {
                return;
            }
        }
    }

    /// Hands the first message that waits for it to the connection, `not` aside; tells whether there was one.
    fn send_first(&mut self, terms: Terms, not: Option<i64>) -> bool {
        let lasting = &mut *self.lasting;
        let Some(message) = lasting.window.to_send(not) else { return false };
        if !self.link.sender.publish(message, terms.retains) {
            return false;
        }
        let row = message.id;
        lasting.echoes.sent(&message.topic, &message.payload, Instant::now());
        if lasting.window.unacknowledged() == 0 {
            self.still_since = Instant::now();
        }
        lasting.window.handed(row);
        true
    }

    /// Takes the next row into the window; false where there is none, or not now.
    async fn next(&mut self, terms: Terms) -> bool {
        let lasting = &mut *self.lasting;
        match lasting.supply.has_row().await {
            Ok(true) => {}
            Ok(false) => return false,
            Err(error) => {
                self.paused_until = Some(Instant::now() + READ_PAUSE);
                lasting.complain(&format!("the outbox cannot be read: {error}"));
                return false;
            }
        }
        if !lasting.pace.take(Instant::now(), lasting.outbox.added()) {
            return false;
        }
        let Some((lane, row)) = lasting.supply.take() else { return false };
        let message = lasting.form.outgoing(row);
        let obstacle = message.obstacle(lasting.settings.payload_bytes_max, terms.packet_bytes_max);
        let id = message.id;
        lasting.window.push(message, lane);
        if let Some(obstacle) = obstacle {
            lasting.give_up(id, obstacle);
        }
        true
    }

    /// Begins the live lane anew once nothing is on its way and the store knows all; tells whether that is done.
    fn begin_live(&mut self) -> bool {
        let lasting = &mut *self.lasting;
        if !lasting.window.is_empty() || !lasting.ledger.is_settled() {
            return false;
        }
        let boundary = lasting.supply.begin_live();
        lasting.ledger.begin_live(boundary);
        self.begins_live = false;
        true
    }

    /// Takes out of the window what is done with.
    fn note_done(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.lasting.window.pop_done() {
            let Outgoing { id, .. } = entry.message;
            self.lasting.ledger.done(entry.lane, id, entry.message.bytes(), now);
        }
    }

    /// Returns when the bridge has to look again although nothing happens.
    fn due(&self) -> Instant {
        let now = Instant::now();
        let lasting = &*self.lasting;
        let pace = lasting.pace.wait();
        let others = [self.paused_until, lasting.ledger.due(), (!pace.is_zero()).then(|| now + pace)];
        others.into_iter().flatten().fold(now + LOOK_INTERVAL, Instant::min)
    }

    /// Waits shortly for what is on its way, has the store told, and says goodbye.
    async fn farewell(mut self) {
        let until = tokio::time::Instant::now() + LAST_ACKS_TIME_MAX;
        while self.terms.is_some() && self.lasting.window.unacknowledged() > 0 {
            let Ok(Some(event)) = tokio::time::timeout_at(until, self.link.events.recv()).await else { break };
            if self.on(event).is_err() {
                break;
            }
        }
        self.note_done();
        self.lasting.settle(FAREWELL_TIME_MAX).await;
        if self.terms.is_some() && self.link.sender.disconnect() {
            let left = async { while self.link.events.recv().await.is_some() {} };
            tokio::time::timeout(FAREWELL_TIME_MAX, left).await.unwrap_or(());
        }
    }
}
