//! The way of what a network took to the store, and the answer that it is on disk.
//!
//! Owns that nothing is sent before what was sent before it is noted. It never gives up a note: without it, a restart would
//! send the same again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tracing::warn;

use crate::log::Rate;
use crate::store::queue::Closed;
use crate::store::{AckGate, Content, Job, Queue, Sent, Ticket};

/// After which time it is told that a note is not on disk.
const STORE_TIME_MAX: Duration = Duration::from_secs(30);
/// How often that is told.
const LINE_INTERVAL: Duration = Duration::from_secs(600);

/// The notes of one network.
#[derive(Debug)]
pub(super) struct Notes {
    queue: Arc<Queue>,
    gate: Arc<AckGate>,
    committed: Arc<Notify>,
    number: u64,
    lines: Rate,
}

impl Notes {
    /// Makes notes that are written through this queue.
    pub(super) fn new(queue: Arc<Queue>) -> Notes {
        let committed: Arc<Notify> = Arc::default();
        let gate = Arc::new(AckGate::new(committed.clone()));
        Notes { queue, gate, committed, number: 0, lines: Rate::new(1, LINE_INTERVAL) }
    }

    /// Notes up to when a network took the weather; returns once that is on disk. It fails only where the store has ended.
    pub(super) async fn note(&mut self, name: &Arc<str>, sent_s: i64) -> Result<(), Closed> {
        self.number += 1;
        let ticket = Ticket { gate: self.gate.clone(), number: self.number };
        let content = Content::Sent(Sent { name: name.clone(), sent_s });
        let mut jobs = VecDeque::from([Job { content, ticket: Some(ticket) }]);
        self.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.queue.room_for(job.bytes()).await?;
            self.queue.push(&mut jobs);
        }
        while self.gate.stored() < self.number {
            let stored = tokio::time::timeout(STORE_TIME_MAX, self.committed.notified()).await;
            if stored.is_err() && self.lines.allows() {
                warn!(upload = %name, "the database does not take what the network has taken: nothing is sent until it does");
            }
        }
        Ok(())
    }
}
