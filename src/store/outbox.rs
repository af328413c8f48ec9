//! The outbox: what the upstream is still to get, in the order it came.
//!
//! Owns what the writer, the bridge and health share about it: how much waits, what was dropped for the limits, and which
//! rows the bridge has claimed. The rows themselves are written in the transaction of the readings that they belong to
//! (`rows`), so that what is stored is forwarded, and nothing else. Nothing here grows with the outbox.

mod claims;
mod message;
pub(super) mod rows;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::claims::Range;

pub(super) use self::claims::Claims;
pub use self::message::{Forward, GAP_TOPIC, Gap, Lane, OutboxChange, Properties, Waiting};

/// Ranges that are collected before the claims are told of them.
const GONE_MAX: usize = 64;

/// The limits of the outbox.
#[derive(Clone, Copy, Debug)]
pub struct OutboxSettings {
    /// Bytes that wait, at most.
    pub bytes_max: u64,
    /// How long a message waits, at most; `None` for ever.
    pub age_max: Option<Duration>,
    /// Rows, from the oldest, that an earlier hub may have sent without being told that they arrived.
    pub maybe_sent: usize,
}

/// What is shared about the outbox. The figures are those of the last commit.
#[derive(Debug)]
pub struct Outbox {
    settings: OutboxSettings,
    messages: AtomicU64,
    bytes: AtomicU64,
    newest: AtomicI64,
    added: AtomicU64,
    dropped: AtomicU64,
    dropped_ms: AtomicI64,
    changed: Notify,
    claims: Mutex<Claims>,
    /// What the upstream has and the claims do not know yet: the writer does not wait for whoever holds them.
    gone: Mutex<Vec<Range>>,
    /// Whether rows were dropped by a transaction that may or may not have happened: until that is known, none is read.
    in_doubt: AtomicBool,
    /// Whether a reader found the database damaged.
    is_damaged: AtomicBool,
}

/// The figures of the outbox after a commit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// Rows, gap markers among them.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) newest: i64,
}

impl Outbox {
    /// Makes an outbox of which nothing is known until the writer has opened the database.
    pub fn new(settings: OutboxSettings) -> Outbox {
        Outbox {
            settings,
            messages: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            newest: AtomicI64::new(0),
            added: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            dropped_ms: AtomicI64::new(0),
            changed: Notify::new(),
            claims: Mutex::default(),
            gone: Mutex::default(),
            in_doubt: AtomicBool::new(false),
            is_damaged: AtomicBool::new(false),
        }
    }

    /// Waits until rows were added or dropped since the last wait. One alone waits at a time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Returns how many messages wait, gap markers among them.
    pub fn messages(&self) -> u64 {
        self.messages.load(Ordering::Acquire)
    }

    /// Returns how many bytes wait.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// Returns how many bytes may wait.
    pub fn bytes_max(&self) -> u64 {
        self.settings.bytes_max
    }

    /// Returns the highest number that was given out; 0 until the database is open. In a new database the numbers begin
    /// above the time of its making, Unix microseconds.
    pub fn newest(&self) -> i64 {
        self.newest.load(Ordering::Acquire)
    }

    /// Returns how many messages were dropped for the limits since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }

    /// Returns when messages were last dropped, Unix milliseconds; 0 for never.
    pub fn dropped_ms(&self) -> i64 {
        self.dropped_ms.load(Ordering::Acquire)
    }

    /// Returns how many messages were added since the start.
    pub fn added(&self) -> u64 {
        self.added.load(Ordering::Acquire)
    }

    /// Begins the live lane above `newest`; with [`i64::MAX`], as at the start, there is none.
    pub fn set_boundary(&self, newest: i64) {
        self.claims().set_boundary(newest);
    }

    /// Gives up what the bridge has claimed of a lane above `through`, since it has not sent it.
    pub fn release(&self, lane: Lane, through: i64) {
        self.claims().release(lane, through);
    }

    /// Returns the claims. Whoever drops rows holds them until its transaction has ended, and whoever claims rows until it
    /// has read them.
    pub(super) fn claims(&self) -> MutexGuard<'_, Claims> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock_gone().drain(..).for_each(|range| claims.sent(range));
        claims
    }

    /// Notes that the upstream has what lies in these ranges, and that its rows are deleted.
    pub(super) fn gone(&self, ranges: &mut Vec<Range>) {
        if ranges.is_empty() {
            return;
        }
        let mut gone = self.lock_gone();
        gone.append(ranges);
        if gone.len() > GONE_MAX {
            drop(gone);
            drop(self.claims());
        }
    }

    fn lock_gone(&self) -> MutexGuard<'_, Vec<Range>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells whether it is in doubt which rows there are. Whoever asks holds the claims.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    /// Notes that rows were dropped, or were not. Whoever does so holds the claims.
    pub(super) fn doubt(&self) {
        self.in_doubt.store(true, Ordering::Release);
    }

    pub(super) fn settings(&self) -> OutboxSettings {
        self.settings
    }

    /// Takes over the figures of a commit.
    pub(super) fn publish(&self, figures: Figures) {
        self.messages.store(figures.messages, Ordering::Release);
        self.bytes.store(figures.bytes, Ordering::Release);
        self.newest.store(figures.newest, Ordering::Release);
    }

    /// Counts what a commit added and dropped, and wakes the bridge for it.
    pub(super) fn count(&self, added: u64, dropped: u64, now_ms: i64) {
        self.added.fetch_add(added, Ordering::AcqRel);
        if dropped > 0 {
            self.dropped.fetch_add(dropped, Ordering::AcqRel);
            self.dropped_ms.store(now_ms, Ordering::Release);
        }
        if added > 0 || dropped > 0 {
            self.changed.notify_one();
        }
    }

    /// Notes that a reader found the database damaged.
    pub(super) fn note_damage(&self) {
        self.is_damaged.store(true, Ordering::Release);
    }

    /// Tells whether one did, once.
    pub(super) fn take_damage(&self) -> bool {
        self.is_damaged.swap(false, Ordering::AcqRel)
    }

    /// Lets the bridge read again where it was in doubt whether rows are gone.
    pub(super) fn settled(&self) {
        if self.in_doubt.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Wakes the bridge.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }
}
