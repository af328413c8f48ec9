//! The gate in front of the router, and the ring of messages behind it.
//!
//! The router keeps a log of a few segments for each filter and drops the oldest in silence where a reader is slower
//! than the publishers. So a publisher reserves room first, and room comes back at a checkpoint only: when every trunk
//! has read all that was published before it. Room is counted in units of 256 bytes, by a message's size but at least
//! one, so that neither bytes nor numbers run away. The ring holds exactly the messages whose room is not given back.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rumqttd::RouterConfig;
use rumqttd::protocol::{Packet, Publish, PublishProperties};
use tokio::sync::{Notify, Semaphore};

use super::{BusError, lock};
use crate::broker::message::Message;

const UNIT_BYTES: usize = 256;
/// The most messages between publishers and trunks.
pub const UNITS_MAX: usize = 2048;

/// Stands for payloads in the router, by its length alone.
static LENGTH: [u8; 64 * 1024] = [0; 64 * 1024];

/// A message with its number on the bus.
#[derive(Clone, Debug)]
pub struct Numbered {
    /// Counted from 0 in the order of publishing.
    pub number: u64,
    /// The message.
    pub message: Arc<Message>,
}

pub(super) struct Gate {
    room: Semaphore,
    units: usize,
    taken: AtomicUsize,
    waiting: AtomicUsize,
    due: Notify,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    first: u64,
    messages: VecDeque<Arc<Message>>,
}

/// What a checkpoint gives back once it is passed.
pub(super) struct Passed {
    units: usize,
    end: u64,
}

impl Gate {
    /// Makes a gate that lets in two thirds of what the router's logs surely hold: the message that ends a segment
    /// may be of any size.
    pub(super) fn new(config: &RouterConfig) -> Gate {
        let log_bytes = config.max_segment_size.saturating_mul(config.max_segment_count.saturating_sub(1).max(1));
        let units = (log_bytes / 3 * 2 / UNIT_BYTES).clamp(64, UNITS_MAX);
        Gate {
            room: Semaphore::new(units),
            units,
            taken: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            due: Notify::new(),
            ring: Mutex::default(),
        }
    }

    /// Returns the room that a message takes; a very large one takes all there is.
    pub(super) fn units(&self, message: &Message) -> usize {
        (message.bytes() / UNIT_BYTES + 1).min(self.units)
    }

    /// Tells whether a message may be pushed together with others that take `units`.
    pub(super) fn fits_with(&self, units: usize, message: &Message) -> bool {
        units == 0 || units + self.units(message) <= self.units / 4
    }

    /// Waits for room.
    pub(super) async fn reserve(&self, units: usize) -> Result<(), BusError> {
        let permits = u32::try_from(units).unwrap_or(u32::MAX);
        let permit = match self.room.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::begin(self);
                self.room.acquire_many(permits).await.map_err(|_| BusError::RouterEnded)?
            }
        };
        permit.forget();
        Ok(())
    }

    /// Notes that messages that take `units` were pushed.
    pub(super) fn taken(&self, units: usize) {
        self.taken.fetch_add(units, Ordering::SeqCst);
        self.wake_if_due();
    }

    /// Puts a message into the ring; returns its number and the packet that carries it through the router: no payload,
    /// but as long as the room that the message takes, so that the router's logs are as large in memory as in count.
    pub(super) fn packet(&self, topic: String, message: Arc<Message>) -> (u64, Packet) {
        let length = (self.units(&message) * UNIT_BYTES).min(LENGTH.len()).saturating_sub(topic.len());
        let payload = Bytes::from_static(LENGTH.get(..length).unwrap_or_default());
        let number = {
            let mut ring = lock(&self.ring);
            ring.messages.push_back(message);
            ring.first + ring.messages.len() as u64 - 1
        };
        let properties = PublishProperties {
            correlation_data: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
            ..PublishProperties::default()
        };
        (number, Packet::Publish(Publish::new(Bytes::from(topic), payload, false), Some(properties)))
    }

    /// Returns the number that the next message gets.
    pub(super) fn next_number(&self) -> u64 {
        let ring = lock(&self.ring);
        ring.first + ring.messages.len() as u64
    }

    /// Finds messages by their numbers.
    pub(super) fn find(&self, numbers: impl Iterator<Item = u64>, found: &mut Vec<Numbered>) {
        let ring = lock(&self.ring);
        found.extend(numbers.filter_map(|number| {
            let index = usize::try_from(number.checked_sub(ring.first)?).ok()?;
            ring.messages.get(index).map(|message| Numbered { number, message: message.clone() })
        }));
    }

    /// Waits until a checkpoint is worth its way: a quarter of the room is taken, or somebody waits.
    pub(super) async fn is_due(&self) {
        self.due.notified().await;
    }

    /// Tells whether messages are held that no checkpoint has passed yet.
    pub(super) fn holds_any(&self) -> bool {
        self.taken.load(Ordering::SeqCst) > 0
    }

    /// Returns what a checkpoint taken now will give back.
    pub(super) fn snapshot(&self) -> Passed {
        let ring = lock(&self.ring);
        Passed { units: self.taken.load(Ordering::SeqCst), end: ring.first + ring.messages.len() as u64 }
    }

    /// Gives back what was taken before a checkpoint that is passed.
    pub(super) fn give_back(&self, passed: Passed) {
        {
            let mut ring = lock(&self.ring);
            let count = usize::try_from(passed.end - ring.first).unwrap_or(usize::MAX).min(ring.messages.len());
            ring.messages.drain(..count);
            ring.first = passed.end;
        }
        self.taken.fetch_sub(passed.units, Ordering::SeqCst);
        self.room.add_permits(passed.units);
        self.wake_if_due();
    }

    fn wake_if_due(&self) {
        let taken = self.taken.load(Ordering::SeqCst);
        if taken >= self.units / 4 || (taken > 0 && self.waiting.load(Ordering::SeqCst) > 0) {
            self.due.notify_one();
        }
    }
}

/// Counts a publisher that waits for room.
struct Waiting<'g>(&'g Gate);

impl<'g> Waiting<'g> {
    fn begin(gate: &'g Gate) -> Waiting<'g> {
        gate.waiting.fetch_add(1, Ordering::SeqCst);
        gate.wake_if_due();
        Waiting(gate)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}
