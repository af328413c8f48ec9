//! What the broker counts, for statistics and health.

use std::sync::atomic::{AtomicU64, Ordering};

use super::auth::Rights;
use crate::histogram::Histogram;
use crate::log::Rate;

/// The broker's counters. They only rise, but for those that count what is there now.
#[derive(Debug, Default)]
pub struct Counters {
    /// Sockets accepted.
    pub accepted: AtomicU64,
    /// Sockets that never became a client: garbage, silence, no room.
    pub refused: AtomicU64,
    /// Clients connected now.
    pub connected: AtomicU64,
    /// Sessions kept now, connected or not.
    pub sessions: AtomicU64,
    /// Bytes that wait for clients now, in all sessions.
    pub queued_bytes: AtomicU64,
    /// Publishes received.
    pub received: AtomicU64,
    /// Publishes received on routed topics.
    pub routed: AtomicU64,
    /// Messages delivered to subscribers.
    pub delivered: AtomicU64,
    /// Messages to subscribers that could not keep up.
    pub dropped: AtomicU64,
    /// Connections ended for breaking the protocol.
    pub violations: AtomicU64,
    /// Logins refused.
    pub logins_refused: AtomicU64,
    /// Publishes, subscriptions and wills that the access rules denied.
    pub denied: AtomicU64,
    /// From the arrival of a reading at QoS 1 or 2 until its ack is on its way out.
    pub ack_latency: Histogram,
    pub(super) refused_lines: Rate,
    pub(super) denied_lines: Rate,
    pub(super) violation_lines: Rate,
    pub(super) dropped_lines: Rate,
}

impl Counters {
    /// Counts what the access rules denied, and tells of it at a bounded rate.
    pub(super) fn denied(&self, what: &str, client: &str, rights: &Rights, topic: &str) {
        Counters::add(&self.denied, 1);
        if self.denied_lines.allows() {
            tracing::warn!(
                client = %client.escape_debug(),
                user = %rights.user().escape_debug(),
                topic = %topic.escape_debug(),
                "{what} was denied by the access rules"
            );
        }
    }

    /// Adds one to a counter.
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}
