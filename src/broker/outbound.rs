//! What is on its way to one client: the messages that wait for it, and those in flight.
//!
//! Owns packet ids, the window, and the order of deliveries, also over a reconnect: PUBRELs in the order of their
//! PUBRECs, then unacknowledged messages in the order of their first sending, then what waits. It is plain data: no
//! lock, no socket, and of the subscriptions only what they made of each message.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::pen::Pen;
use super::queued::Queued;
use super::rows::Rows;
use super::wire::{self, AckKind, QoS, Version};
use crate::config::Limits;

/// The most places that an empty queue keeps for messages to come.
const KEPT_EMPTY: usize = 256;

/// How far the packet ids after a restart are from those before: half of all there are.
const ID_LEAP: u16 = 1 << 15;

#[derive(Clone, Debug)]
struct InFlight {
    id: u16,
    queued: Queued,
}

/// What waits for a client, and what is in flight to it.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbound {
    retained: VecDeque<Queued>,
    retained_bytes: usize,
    fleeting: VecDeque<Queued>,
    queue: VecDeque<Queued>,
    /// Bytes of all else that is queued, and of what is in flight.
    bytes: usize,
    /// Sent, and not acknowledged, in the order of sending.
    in_flight: VecDeque<InFlight>,
    /// How many of those were sent on this connection: the first ones.
    sent: usize,
    /// The ids of messages whose PUBREL is sent, in the order of their PUBRECs.
    released: VecDeque<u16>,
    last_id: u16,
    /// When expired messages were last looked for.
    purged: Option<Instant>,
    /// Which messages the store has.
    rows: Rows,
}

/// What came of a writing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    /// Messages that were sent for the first time.
    pub(super) delivered: usize,
    /// Messages that were dropped because the client takes no packets that large.
    pub(super) too_large: usize,
}

impl Outbound {
    /// Begins a connection: PUBRELs are sent again, and messages in flight will be.
    pub(super) fn begin(&mut self, out: &mut BytesMut, version: Version) {
        self.sent = 0;
        for id in &self.released {
            wire::ack(out, version, AckKind::PubRel, *id, 0);
        }
    }

    /// Ends a connection: QoS 0 messages are not kept. Returns how many others the queue had no room for.
    pub(super) fn end(&mut self, limits: &Limits) -> usize {
        let fleeting = std::mem::take(&mut self.fleeting);
        self.bytes -= fleeting.iter().map(Queued::bytes).sum::<usize>();
        let mut dropped = 0;
        let mut first = VecDeque::new();
        self.retained_bytes = 0;
        for mut queued in std::mem::take(&mut self.retained) {
            if queued.qos == QoS::AtMostOnce {
                continue;
            }
            queued.number = self.rows.number();
            if self.queue.len() + first.len() < limits.session_queue_messages && self.has_bytes(&queued, limits) {
                self.bytes += queued.bytes();
                first.push_back(queued);
            } else {
                dropped += 1;
            }
        }
        first.append(&mut self.queue);
        self.queue = first;
        dropped
    }

    /// Queues a message; false where there is no room.
    pub(super) fn push(&mut self, mut queued: Queued, limits: &Limits) -> bool {
        if !self.has_room(&queued, limits) {
            self.purge();
            if !self.has_room(&queued, limits) {
                return false;
            }
        }
        self.bytes += queued.bytes();
        if queued.qos == QoS::AtMostOnce {
            self.fleeting.push_back(queued);
        } else {
            queued.number = self.rows.number();
            self.queue.push_back(queued);
        }
        true
    }

    /// Queues a retained message before all others; false where there is no room.
    pub(super) fn push_retained(&mut self, queued: Queued, limits: &Limits) -> bool {
        // A message that was replaced since is kept by this queue alone, so its bytes count as well.
        let bytes = queued.bytes();
        let has_room = self.retained.len() < limits.retained_messages
            && self.retained_bytes + bytes <= limits.retained_bytes.max(bytes);
        if has_room {
            self.retained_bytes += bytes;
            self.retained.push_back(queued);
        }
        has_room
    }

    fn has_room(&self, queued: &Queued, limits: &Limits) -> bool {
        self.fleeting.len() + self.queue.len() < limits.session_queue_messages && self.has_bytes(queued, limits)
    }

    fn has_bytes(&self, queued: &Queued, limits: &Limits) -> bool {
        let bytes = queued.bytes();
        self.bytes + bytes <= limits.session_queue_bytes.max(bytes)
    }

    /// Makes room by forgetting expired messages, once a second at most: looking for them costs time.
    fn purge(&mut self) {
        let now = Instant::now();
        if self.purged.is_some_and(|purged| now.duration_since(purged).as_secs() < 1) {
            return;
        }
        self.purged = Some(now);
        let (bytes, rows) = (&mut self.bytes, &mut self.rows);
        for queue in [&mut self.fleeting, &mut self.queue] {
            queue.retain(|queued| {
                let lives = queued.message.life_left(now).is_some();
                if !lives {
                    *bytes -= queued.bytes();
                    rows.done(queued.number);
                }
                lives
            });
        }
    }

    /// Writes what the window and the output's bound allow.
    pub(super) fn write(&mut self, pen: &mut Pen<'_>, output_bytes_max: usize) -> Written {
        let now = Instant::now();
        let mut written = Written::default();
        while pen.out.len() < output_bytes_max {
            if self.sent < self.in_flight.len() && self.sent + self.released.len() < pen.outlet.window {
                written.too_large += usize::from(!self.write_again(pen, now));
                continue;
            }
            let Some((queued, counted)) = self.next(pen.outlet.window) else { break };
            if queued.message.life_left(now).is_none() {
                self.bytes -= if counted { queued.bytes() } else { 0 };
                self.rows.done(queued.number);
                continue;
            }
            let is_written = self.write_new(pen, queued, counted, now);
            written.delivered += usize::from(is_written);
            written.too_large += usize::from(!is_written);
        }
        written
    }

    /// Sends a message again that was in flight when the last connection ended; drops it and returns false where it is
    /// too large for this one.
    fn write_again(&mut self, pen: &mut Pen<'_>, now: Instant) -> bool {
        let is_written =
            self.in_flight.get(self.sent).is_some_and(|again| pen.write(&again.queued, again.id, true, now));
        if is_written {
            self.sent += 1;
        } else if let Some(done) = self.in_flight.remove(self.sent) {
            self.bytes -= done.queued.bytes();
            self.rows.done(done.queued.number);
        }
        is_written
    }

    /// Sends a message for the first time; drops it and returns false where it is too large.
    fn write_new(&mut self, pen: &mut Pen<'_>, mut queued: Queued, counted: bool, now: Instant) -> bool {
        let acked = queued.qos > QoS::AtMostOnce;
        let id = if acked { self.free_id() } else { 0 };
        let is_written = pen.write(&queued, id, false, now);
        if counted {
            self.bytes -= queued.bytes();
        }
        if is_written && acked {
            if queued.number == 0 {
                queued.number = self.rows.number();
            }
            self.bytes += queued.bytes();
            self.in_flight.push_back(InFlight { id, queued });
            self.sent += 1;
        } else {
            self.rows.done(queued.number);
        }
        is_written
    }

    /// Takes the next message to write, and tells whether its bytes are counted.
    fn next(&mut self, window: usize) -> Option<(Queued, bool)> {
        let open = self.sent == self.in_flight.len() && self.sent + self.released.len() < window;
        if let Some(first) = self.retained.front()
            && (open || first.qos == QoS::AtMostOnce)
        {
            let first = self.retained.pop_front()?;
            self.retained_bytes -= first.bytes();
            return Some((first, false));
        }
        let queue = if !self.fleeting.is_empty() {
            &mut self.fleeting
        } else if open {
            &mut self.queue
        } else {
            return None;
        };
        let first = queue.pop_front();
        if queue.is_empty() && queue.capacity() > KEPT_EMPTY {
            *queue = VecDeque::new();
        }
        first.map(|queued| (queued, true))
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = self.last_id;
            if self.in_flight.iter().all(|in_flight| in_flight.id != id) && !self.released.contains(&id) {
                return id;
            }
        }
    }

    /// Takes a PUBACK: the message is done with. One for an unknown id is ignored.
    pub(super) fn acknowledged(&mut self, id: u16) {
        self.take_in_flight(id, QoS::AtLeastOnce);
    }

    /// Takes a PUBCOMP: the exchange is over. One for an unknown id is ignored.
    pub(super) fn completed(&mut self, id: u16) {
        if let Some(index) = self.released.iter().position(|released| *released == id) {
            self.released.remove(index);
        }
    }

    /// Takes a PUBREC, from which on the message itself is the client's; returns whether the id is known and a PUBREL is
    /// due, or `None` where the client refused the message and nothing is.
    pub(super) fn received_by_client(&mut self, id: u16, reason: u8) -> Option<bool> {
        let found = self.take_in_flight(id, QoS::ExactlyOnce).is_some();
        if reason >= 0x80 {
            return if found { None } else { Some(self.released.contains(&id)) };
        }
        if found {
            self.released.push_back(id);
        }
        Some(found || self.released.contains(&id))
    }

    fn take_in_flight(&mut self, id: u16, qos: QoS) -> Option<InFlight> {
        let index = self.in_flight.iter().position(|sent| sent.id == id && sent.queued.qos == qos)?;
        let done = self.in_flight.remove(index)?;
        self.bytes -= done.queued.bytes();
        self.rows.done(done.queued.number);
        if index < self.sent {
            self.sent -= 1;
        }
        Some(done)
    }

    /// Hands messages of a shared subscription to whom `give` finds for them: those at QoS 1 and 2 that wait, and with
    /// `started` those at QoS 1 that are in flight. What `give` refuses stays.
    pub(super) fn hand_over(&mut self, share: &str, started: bool, give: &mut dyn FnMut(&Arc<Message>) -> bool) {
        let (bytes, sent, rows) = (&mut self.bytes, &mut self.sent, &mut self.rows);
        let mut stays = |queued: &Queued| {
            let goes = queued.share.as_deref() == Some(share) && give(&queued.message);
            if goes {
                *bytes -= queued.bytes();
                rows.done(queued.number);
            }
            !goes
        };
        if started {
            let mut index = 0;
            let sent_before = *sent;
            self.in_flight.retain(|in_flight| {
                let remains = in_flight.queued.qos == QoS::ExactlyOnce || stays(&in_flight.queued);
                if !remains && index < sent_before {
                    *sent -= 1;
                }
                index += 1;
                remains
            });
        }
        self.queue.retain(stays);
    }
}

impl Outbound {
    /// Tells whether messages wait that were not sent yet.
    pub(super) fn has_waiting(&self) -> bool {
        !(self.queue.is_empty() && self.fleeting.is_empty())
    }

    /// Returns the bytes of all that is queued or in flight.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets the messages that wait or are in flight, unless their topic is one to keep.
    pub(super) fn forget_unless(&mut self, keep: impl Fn(&str) -> bool) {
        let rows = &mut self.rows;
        let mut kept = |queued: &Queued| {
            let stays = keep(&queued.message.topic);
            if !stays {
                rows.done(queued.number);
            }
            stays
        };
        self.retained.retain(&mut kept);
        self.fleeting.retain(&mut kept);
        self.queue.retain(&mut kept);
        self.in_flight.retain(|in_flight| kept(&in_flight.queued));
        self.sent = self.sent.min(self.in_flight.len());
        let in_flight = self.in_flight.iter().map(|in_flight| &in_flight.queued);
        self.bytes = self.fleeting.iter().chain(&self.queue).chain(in_flight).map(Queued::bytes).sum();
        self.retained_bytes = self.retained.iter().map(Queued::bytes).sum();
    }

    /// Returns the messages that the store does not have yet, and the numbers of those that it may forget.
    pub(super) fn take_changes(&mut self) -> (Vec<Queued>, Vec<u64>) {
        let waiting = self.in_flight.iter().map(|in_flight| &in_flight.queued).chain(&self.queue);
        let new = waiting.filter(|queued| self.rows.lacks(queued.number)).cloned().collect();
        (new, self.rows.saved())
    }

    /// Returns the highest number that a message ever had.
    pub(super) fn last_number(&self) -> u64 {
        self.rows.last()
    }

    /// Returns what a restart must know beside the messages.
    pub(super) fn exchanges(&self) -> Exchanges {
        Exchanges {
            in_flight: self.in_flight.iter().map(|in_flight| (in_flight.queued.number, in_flight.id)).collect(),
            released: self.released.iter().copied().collect(),
            last_id: self.last_id,
        }
    }

    /// Notes that the store forgets the session.
    pub(super) fn forgotten(&mut self) {
        self.rows.forgotten();
    }

    /// Makes what was before a restart out of what was kept of it: its messages, and the rows that none was read from.
    pub(super) fn restore(exchanges: &Exchanges, messages: Vec<Queued>, rows: Rows) -> Outbound {
        let mut outbound = Outbound { rows, ..Outbound::default() };
        outbound.bytes = messages.iter().map(Queued::bytes).sum();
        outbound.released = exchanges.released.iter().copied().collect();
        // Ids that were given out after the last writing may still be under way at the client, which would take another
        // message under one of them for the same: the next ids are far from those.
        outbound.last_id = exchanges.last_id.wrapping_add(ID_LEAP);
        let mut waiting: VecDeque<Queued> = messages.into();
        for &(number, id) in &exchanges.in_flight {
            let place = waiting.iter().position(|queued| queued.number == number);
            if let Some(queued) = place.and_then(|place| waiting.remove(place)) {
                outbound.in_flight.push_back(InFlight { id, queued });
            }
        }
        outbound.queue = waiting;
        outbound
    }
}

/// Packet ids under way to a client, as they are kept over a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Exchanges {
    /// Numbers of messages that were sent and not acknowledged, with their packet ids, in the order of sending.
    in_flight: Vec<(u64, u16)>,
    /// Packet ids whose PUBREL is sent.
    released: Vec<u16>,
    last_id: u16,
}

#[cfg(test)]
#[path = "outbound_tests.rs"]
pub(super) mod tests;
