//! What the writer has done, for health and statistics.
//!
//! Owns the counters. It never decides anything by them.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::damage::Doubts;
use super::heartbeat::Heartbeat;
use super::journal::Journal;
use super::losses::Losses;
use super::rollup::Claims;
use super::space::Room;
use super::transaction::Outcome;
use super::wear::Wear;
use crate::clock::now_ms;
use crate::histogram::Histogram;

/// What the writer has done, read by health and statistics while it works.
#[derive(Debug, Default)]
pub struct Progress {
    /// Readings stored.
    pub readings: AtomicU64,
    /// Messages put into quarantine.
    pub quarantined: AtomicU64,
    /// Redeliveries that made no second row.
    pub duplicates: AtomicU64,
    /// Samples sent again as new messages, which made no second row either.
    pub repeats: AtomicU64,
    /// Old messages dropped from a full quarantine.
    pub quarantine_dropped: AtomicU64,
    /// Transactions committed.
    pub commits: AtomicU64,
    /// Time spent in transactions that committed.
    pub commit_time: Histogram,
    /// Failed transactions since the last success.
    pub failures_in_row: AtomicU32,
    /// Failed transactions in all.
    pub failures: AtomicU64,
    /// Whether the store is degraded.
    pub degraded: AtomicBool,
    /// Whether the database has been open since the start.
    pub was_open: AtomicBool,
    /// The writer's thread, as the system knows it; 0 before it runs.
    pub thread: AtomicI32,
    /// When the last transaction committed, Unix milliseconds; 0 before the first.
    pub last_commit_ms: AtomicI64,
    /// Steps made: a batch taken, a call to the database begun or ended. While there is work, a thread that makes none hangs.
    pub steps: AtomicU64,
    /// Since when a batch is being written, Unix milliseconds; 0 while there is none.
    pub writing_since_ms: AtomicI64,
    /// The row that is written while nobody publishes.
    pub heartbeat: Arc<Heartbeat>,
    /// What happened that is to be remembered.
    pub journal: Arc<Journal>,
    /// How much was written to the disk.
    pub wear: Arc<Wear>,
    /// How far the disk is full.
    pub room: Arc<Room>,
    /// What found no room in the queue.
    pub losses: Arc<Losses>,
    /// How far hours are claimed for the rollups.
    pub claims: Arc<Claims>,
    /// Whether somebody doubts that the database is whole.
    pub doubts: Arc<Doubts>,
    last_error: Mutex<Option<String>>,
}

impl Progress {
    /// Begins, for a queue that remembers what it loses in `losses`.
    pub(super) fn begin(losses: Arc<Losses>) -> Progress {
        Progress { losses, ..Progress::default() }
    }

    /// Returns the error of the last failed transaction, until one succeeds.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn step(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_last_error(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    pub(super) fn committed(&self, outcome: Outcome, took: Duration) {
        self.readings.fetch_add(outcome.readings, Ordering::Relaxed);
        self.quarantined.fetch_add(outcome.quarantined, Ordering::Relaxed);
        self.duplicates.fetch_add(outcome.duplicates, Ordering::Relaxed);
        self.repeats.fetch_add(outcome.repeats, Ordering::Relaxed);
        self.quarantine_dropped.fetch_add(outcome.quarantine_dropped, Ordering::Relaxed);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.commit_time.count(took);
        self.last_commit_ms.store(now_ms(), Ordering::Relaxed);
        self.writing_since_ms.store(0, Ordering::Relaxed);
    }
}
