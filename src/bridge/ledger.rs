//! What the upstream has, and when the store is told.
//!
//! Owns the batches in which rows leave the outbox: the writer deletes them, in a transaction of its own or together
//! with what else is queued. One batch is under way at a time, so nothing piles up while the database cannot be written.
//! What the store was not told before the hub died is sent again, under the same identity.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::store::{AckGate, Content, Job, Lane, OutboxChange, Queue, Ticket};

/// Messages that are deleted together, at least, while many are sent: few, as a reading may have to wait for it. While the
/// disk is slow they become more by themselves, since the next batch waits for the last one.
const BATCH: usize = 32;
/// The most that the upstream may have and the store not know: so much is sent again after the hub has died, beside what was
/// on its way.
pub(super) const UNTOLD_MAX: usize = 2048;
/// Bytes of that.
const UNTOLD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a message may wait for that: an SD card wears out by the transaction.
const BATCH_TIME: Duration = Duration::from_secs(5);

/// The ledger.
pub(super) struct Ledger {
    queue: Arc<Queue>,
    gate: Arc<AckGate>,
    stored: Arc<Notify>,
    /// The number of the last batch.
    number: u64,
    /// The batch that found no room in the queue.
    stuck: VecDeque<Job>,
    set_aside: Vec<OutboxChange>,
    backlog: Span,
    live: Span,
    messages: usize,
    bytes: usize,
    since: Option<Instant>,
    /// Messages of the last batch, and their bytes.
    told: (usize, usize),
}

/// The rows of a lane that the upstream has, and which of them the store was told of.
#[derive(Clone, Copy, Default)]
struct Span {
    told: i64,
    done: i64,
}

impl Ledger {
    /// Makes a ledger that writes through `queue`.
    pub(super) fn new(queue: Arc<Queue>) -> Ledger {
        let stored = Arc::new(Notify::new());
        Ledger {
            queue,
            gate: Arc::new(AckGate::new(stored.clone())),
            stored,
            number: 0,
            stuck: VecDeque::new(),
            set_aside: Vec::new(),
            backlog: Span::default(),
            live: Span::default(),
            messages: 0,
            bytes: 0,
            since: None,
            told: (0, 0),
        }
    }

    /// Notes that the upstream has all messages of a lane up to this one.
    pub(super) fn done(&mut self, lane: Lane, id: i64, bytes: usize, now: Instant) {
        let span = match lane {
            Lane::Backlog => &mut self.backlog,
            Lane::Live => &mut self.live,
        };
        span.done = id;
        self.messages += 1;
        self.bytes += bytes;
        self.since.get_or_insert(now);
    }

    /// Notes that a message goes to quarantine in place of the upstream.
    pub(super) fn set_aside(&mut self, id: i64, reason: &'static str, detail: String, now: Instant) {
        self.set_aside.push(OutboxChange::SetAside { id, reason, detail });
        self.since.get_or_insert(now);
    }

    /// Begins the live lane anew, above `boundary`; everything must be stored.
    pub(super) fn begin_live(&mut self, boundary: i64) {
        self.live = Span { told: boundary, done: boundary };
    }

    /// Tells whether the store has been told of everything, and has done it.
    pub(super) fn is_settled(&self) -> bool {
        self.since.is_none() && self.is_stored()
    }

    /// Returns how many messages the upstream has that still stand in the outbox.
    pub(super) fn standing(&self) -> usize {
        self.untold().0
    }

    /// Tells whether nothing more may be sent before the store has done what it was told.
    pub(super) fn is_full(&self) -> bool {
        let (messages, bytes) = self.untold();
        messages >= UNTOLD_MAX || bytes >= UNTOLD_BYTES_MAX
    }

    fn untold(&self) -> (usize, usize) {
        let (messages, bytes) = if self.is_stored() { (0, 0) } else { self.told };
        (self.messages + messages, self.bytes + bytes)
    }

    /// Returns when the store is to be told, at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.filter(|_| self.is_stored()).map(|since| since + BATCH_TIME)
    }

    /// Waits until the store has done what it was told.
    pub(super) async fn stored(&self) {
        self.stored.notified().await;
    }

    /// Tells the store where it is time, or at once.
    pub(super) fn tell(&mut self, now: Instant, at_once: bool) {
        if !self.stuck.is_empty() {
            self.queue.push(&mut self.stuck);
        }
        let Some(since) = self.since.filter(|_| self.is_stored()) else { return };
        if !at_once && self.messages < BATCH && now.saturating_duration_since(since) < BATCH_TIME {
            return;
        }
        let mut changes = std::mem::take(&mut self.set_aside);
        for span in [&mut self.backlog, &mut self.live] {
            if span.done > span.told {
                changes.push(OutboxChange::Sent { lane_after: span.told, through: span.done });
                span.told = span.done;
            }
        }
        self.number += 1;
        let ticket = Ticket { gate: self.gate.clone(), number: self.number };
        self.stuck.push_back(Job { content: Content::Outbox(changes), ticket: Some(ticket) });
        self.queue.push(&mut self.stuck);
        self.told = (self.messages, self.bytes);
        (self.messages, self.bytes, self.since) = (0, 0, None);
    }

    fn is_stored(&self) -> bool {
        self.stuck.is_empty() && self.gate.stored() >= self.number
    }
}
