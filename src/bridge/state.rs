//! What the bridge has done and how it stands, for health, status and metrics.
//!
//! Owns the counters. It never decides anything by them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::clock::now_ms;

/// The bridge's counters; all but the first two since the start.
#[derive(Debug, Default)]
pub struct State {
    connected: AtomicBool,
    /// Since when that is so, Unix milliseconds.
    since_ms: AtomicI64,
    /// Messages that the upstream has acknowledged.
    pub sent: AtomicU64,
    /// Messages that were sent again.
    pub repeated: AtomicU64,
    /// Messages that the upstream took and dropped, because nobody subscribes to their topics there.
    pub unheard: AtomicU64,
    /// Messages that the upstream does not take, and that went to quarantine.
    pub refused: AtomicU64,
    /// Messages from the upstream that were published locally.
    pub received: AtomicU64,
    /// Messages from the upstream that the access rules, or the hub, did not let in.
    pub denied: AtomicU64,
    /// The hub's own messages that the upstream sent back.
    pub echoes: AtomicU64,
    /// Connections that the upstream accepted.
    pub connects: AtomicU64,
    /// Messages sent and not acknowledged now.
    pub in_flight: AtomicU64,
    /// Messages that the upstream has and the outbox still holds.
    pub standing: AtomicU64,
    last_error: Mutex<Option<String>>,
}

/// How the bridge stands at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Standing {
    /// Whether the upstream is connected.
    pub connected: bool,
    /// Since when that is so, Unix milliseconds.
    pub since_ms: i64,
    /// What went wrong last, until a message is acknowledged again.
    pub last_error: Option<String>,
    /// As in [`State`].
    pub sent: u64,
    /// As in [`State`].
    pub repeated: u64,
    /// As in [`State`].
    pub unheard: u64,
    /// As in [`State`].
    pub refused: u64,
    /// As in [`State`].
    pub received: u64,
    /// As in [`State`].
    pub denied: u64,
    /// As in [`State`].
    pub echoes: u64,
    /// As in [`State`].
    pub connects: u64,
    /// As in [`State`].
    pub in_flight: u64,
}

impl State {
    /// Makes the state of a bridge that is not connected yet.
    pub fn new() -> State {
        let state = State::default();
        state.since_ms.store(now_ms(), Ordering::Relaxed);
        state
    }

    /// Returns how the bridge stands.
    pub fn standing(&self) -> Standing {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Standing {
            connected: self.connected.load(Ordering::Relaxed),
            since_ms: self.since_ms.load(Ordering::Relaxed),
            last_error: self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            sent: count(&self.sent),
            repeated: count(&self.repeated),
            unheard: count(&self.unheard),
            refused: count(&self.refused),
            received: count(&self.received),
            denied: count(&self.denied),
            echoes: count(&self.echoes),
            connects: count(&self.connects),
            in_flight: count(&self.in_flight),
        }
    }

    /// Notes that the upstream came or went.
    pub(super) fn set_connected(&self, connected: bool) {
        if self.connected.swap(connected, Ordering::Relaxed) != connected {
            self.since_ms.store(now_ms(), Ordering::Relaxed);
        }
    }

    /// Notes what went wrong, or that all is well.
    pub(super) fn set_last_error(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }
}
