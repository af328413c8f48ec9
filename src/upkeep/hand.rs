//! The way to the writer: one job at a time, and back when it is on disk.
//!
//! It never decides what is written.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Notify;

use crate::store::queue::Closed;
use crate::store::{AckGate, Content, Job, Queue, Ticket};

/// Hands jobs to the writer.
pub(super) struct Hand {
    queue: Arc<Queue>,
    gate: Arc<AckGate>,
    committed: Arc<Notify>,
    jobs: u64,
}

impl Hand {
    pub(super) fn new(queue: Arc<Queue>) -> Hand {
        let committed: Arc<Notify> = Arc::default();
        Hand { queue, gate: Arc::new(AckGate::new(committed.clone())), committed, jobs: 0 }
    }

    /// Has something stored, and returns once it is on disk.
    pub(super) async fn store(&mut self, content: Content) -> Result<(), Closed> {
        self.jobs += 1;
        let ticket = Ticket { gate: self.gate.clone(), number: self.jobs };
        let mut jobs = VecDeque::from([Job { content, ticket: Some(ticket) }]);
        self.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.queue.room_for(job.bytes()).await?;
            self.queue.push(&mut jobs);
        }
        while self.gate.stored() < self.jobs {
            self.committed.notified().await;
        }
        Ok(())
    }
}
