//! The way of alerts' rows to the store, and the answer that they are on disk.
//!
//! Owns what is noted and not stored yet: it is handed over in order, one transaction at a time, and whoever asks is told
//! once it is there. It never waits on behalf of anybody without a deadline: the store may be what the alert is about.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::log::Rate;
use crate::store::queue::Closed;
use crate::store::{AckGate, AlertChange, Content, Job, Queue, Ticket};

/// Changes that wait for the store, at most; beyond it the newest is not kept over a restart.
const NOTED_MAX: usize = 10_000;

/// The ledger.
pub struct Ledger {
    queue: Arc<Queue>,
    noted: Mutex<Noted>,
    any: Notify,
    stored: watch::Sender<u64>,
    lines: Rate,
}

#[derive(Default)]
struct Noted {
    changes: Vec<AlertChange>,
    /// How many notes there were.
    last: u64,
}

impl Ledger {
    /// Makes a ledger that writes through this queue.
    pub fn new(queue: Arc<Queue>) -> Ledger {
        Ledger {
            queue,
            noted: Mutex::default(),
            any: Notify::new(),
            stored: watch::Sender::new(0),
            lines: Rate::default(),
        }
    }

    /// Notes changes; returns the number to ask for.
    pub fn note(&self, changes: impl IntoIterator<Item = AlertChange>) -> u64 {
        let mut noted = self.lock();
        let room = NOTED_MAX.saturating_sub(noted.changes.len());
        let mut changes = changes.into_iter();
        noted.changes.extend(changes.by_ref().take(room));
        if changes.next().is_some() && self.lines.allows() {
            warn!(
                "the database takes no alerts for too long: after a restart some of them may be sent again, or never"
            );
        }
        noted.last += 1;
        let number = noted.last;
        drop(noted);
        self.any.notify_one();
        number
    }

    /// Waits until what has this number is on disk; false where it is not within `time`.
    pub async fn is_stored(&self, number: u64, time: Duration) -> bool {
        let mut stored = self.stored.subscribe();
        matches!(tokio::time::timeout(time, stored.wait_for(|stored| *stored >= number)).await, Ok(Ok(_)))
    }

    /// Hands over what is noted until `stop`, and what is left then.
    pub async fn run(&self, stop: CancellationToken) {
        let committed: Arc<Notify> = Arc::default();
        let gate = Arc::new(AckGate::new(committed.clone()));
        let mut jobs = 0;
        loop {
            let stopping = stop.run_until_cancelled(self.any.notified()).await.is_none();
            let (changes, last) = {
                let mut noted = self.lock();
                (std::mem::take(&mut noted.changes), noted.last)
            };
            if !changes.is_empty() {
                jobs += 1;
                let ticket = Ticket { gate: gate.clone(), number: jobs };
                if self.push(Job { content: Content::Alerts(changes), ticket: Some(ticket) }).await.is_err() {
                    return;
                }
                while gate.stored() < jobs {
                    committed.notified().await;
                }
            }
            self.stored.send_replace(last);
            if stopping {
                return;
            }
        }
    }

    async fn push(&self, job: Job) -> Result<(), Closed> {
        let mut jobs = VecDeque::from([job]);
        self.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.queue.room_for(job.bytes()).await?;
            self.queue.push(&mut jobs);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
