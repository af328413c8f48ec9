//! What shows that the hub moves: two tasks that count their turns, and the writer's own count.
//!
//! It never judges what it counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::watchdog::{Counts, Watch};
use crate::health::Health;

/// The counts of the two tasks.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    beats: AtomicU64,
    round_trips: AtomicU64,
}

impl Pulse {
    /// Returns these counts with those of the writer.
    pub(super) fn counts(&self, health: &Health) -> Counts {
        let (writer_steps, writer_rests) = health.writer_moves();
        Counts {
            beats: self.beats.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
            writer_steps,
            writer_rests,
        }
    }
}

/// Returns the time between two turns: two for each look, so that one that comes late is not missed.
fn turn(time_max: Duration) -> Duration {
    Watch::interval(time_max) / 2
}

/// Counts turns of the main loop until `stop`.
pub(super) async fn beat(pulse: Arc<Pulse>, time_max: Duration, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(turn(time_max))).await.is_some() {
        crate::fault::hang("main-loop");
        pulse.beats.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends messages round through the router and counts those that come back, until `stop`.
pub(super) async fn call_router(pulse: Arc<Pulse>, health: Arc<Health>, time_max: Duration, stop: CancellationToken) {
    loop {
        let call = health.call_router(time_max);
        let Some(came_back) = stop.run_until_cancelled(call).await else { return };
        if came_back {
            pulse.round_trips.fetch_add(1, Ordering::Relaxed);
        }
        if stop.run_until_cancelled(tokio::time::sleep(turn(time_max))).await.is_none() {
            return;
        }
    }
}
