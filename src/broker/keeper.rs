//! What outlives a restart: retained messages and sessions, on their way to the store.
//!
//! Owns the rhythm. What changes is noted where it changes; here it is gathered, written as the store keeps it, and
//! handed over, one transaction after another. A change that somebody was acknowledged goes at once; what will be
//! replaced soon anyway, such as a state that is published every second, waits for the next turn, for an SD card wears
//! out by the transaction. While the store cannot write, changes gather in place: each topic and session once.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::Broker;
use crate::store::{AckGate, Change, Content, Job, Ticket};

/// The pause between two turns where nothing is urgent.
const PAUSE: Duration = Duration::from_secs(5);
/// The pause between two turns where something is.
const PAUSE_URGENT: Duration = Duration::from_millis(50);
/// What goes into one job, bytes: one half for retained messages, the other for sessions.
const JOB_BYTES_MAX: usize = 256 * 1024;
/// What goes into one of the last jobs: readings do not wait behind it any more, and a slow disk has time for few.
const LAST_JOB_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Tells the keeper that there is something to do.
#[derive(Debug, Default)]
pub(super) struct Changed {
    any: Notify,
    urgent: Notify,
    is_urgent: AtomicBool,
    /// The clients whose sessions have changed.
    sessions: Mutex<HashSet<Arc<str>>>,
    /// Whether the store may have rows of topics and clients that nobody here knows of: it could not be read at the start.
    rows_unknown: AtomicBool,
}

impl Changed {
    /// Notes a change; an urgent one is not left for the next turn.
    pub(super) fn note(&self, urgent: bool) {
        if urgent {
            self.is_urgent.store(true, Ordering::Release);
            self.urgent.notify_one();
        }
        self.any.notify_one();
    }

    /// Notes that a client's session has changed, begun or ended.
    pub(super) fn note_session(&self, client: &Arc<str>, urgent: bool) {
        self.sessions().insert(client.clone());
        self.note(urgent);
    }

    /// Notes that nobody knows what rows the store has.
    pub(super) fn forget_rows(&self) {
        self.rows_unknown.store(true, Ordering::Relaxed);
    }

    /// Tells whether the store may have rows that nobody knows of.
    pub(super) fn rows_are_unknown(&self) -> bool {
        self.rows_unknown.load(Ordering::Relaxed)
    }

    /// Returns the clients whose sessions have changed, locked.
    pub(super) fn sessions(&self) -> MutexGuard<'_, HashSet<Arc<str>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was handed to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Handed {
    /// Nothing: nothing has changed, or the store takes no more.
    Nothing,
    /// All that had changed.
    All,
    /// A job as large as they get.
    PerhapsNotAll,
}

/// The keeper's side of the queue to the store.
pub(super) struct Keeper {
    broker: Arc<Broker>,
    gate: Arc<AckGate>,
    committed: Arc<Notify>,
    jobs: u64,
    /// The clients whose sessions the store has.
    stored: HashSet<Arc<str>>,
    /// The clients whose sessions are next, each once before any comes again.
    turn: VecDeque<Arc<str>>,
}

impl Keeper {
    /// Makes the keeper of a broker whose store has sessions of these clients.
    pub(super) fn new(broker: Arc<Broker>, stored: HashSet<Arc<str>>) -> Keeper {
        let committed: Arc<Notify> = Arc::default();
        let gate = Arc::new(AckGate::new(committed.clone()));
        Keeper { broker, gate, committed, jobs: 0, stored, turn: VecDeque::new() }
    }

    /// Keeps what changes until `stop`, and what is left then.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let broker = self.broker.clone();
        let changed = &broker.changed;
        while stop.run_until_cancelled(changed.any.notified()).await.is_some() {
            changed.is_urgent.store(false, Ordering::Release);
            let start = Instant::now();
            while self.hand_over(JOB_BYTES_MAX).await == Handed::PerhapsNotAll {}
            let pause = async {
                tokio::time::sleep(PAUSE_URGENT).await;
                if !changed.is_urgent.load(Ordering::Acquire) {
                    let rest = tokio::time::sleep(PAUSE.saturating_sub(start.elapsed()));
                    tokio::select! { () = rest => {}, () = changed.urgent.notified() => {} }
                }
            };
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        while self.hand_over(LAST_JOB_BYTES_MAX).await != Handed::Nothing {}
    }

    /// Hands over one job of what has changed, and returns once it is on disk, or the store takes no more. It has room for
    /// retained messages and sessions, so that neither, changing faster than the disk syncs, keeps the other from it. What
    /// changes meanwhile is for the next turn, or the store would be written without a pause.
    async fn hand_over(&mut self, job_bytes_max: usize) -> Handed {
        let mut changes = self.broker.retained.take_changes(job_bytes_max / 2);
        changes.extend(self.take_session_changes(job_bytes_max / 2));
        let is_large = changes.iter().map(Change::bytes).sum::<usize>() >= job_bytes_max / 2;
        if changes.is_empty() || self.store(changes).await.is_err() {
            return Handed::Nothing;
        }
        if is_large { Handed::PerhapsNotAll } else { Handed::All }
    }

    /// Takes the changes of sessions, about `bytes_max` of them.
    fn take_session_changes(&mut self, bytes_max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            if self.turn.is_empty() {
                self.turn.extend(self.broker.changed.sessions().drain());
            }
            let Some(client) = self.turn.pop_front() else { break };
            let of_session = self.broker.registry.session(&client).and_then(|session| session.take_changes());
            let of_session = match of_session {
                Some(of_session) => {
                    self.stored.insert(client);
                    of_session
                }
                None if self.stored.remove(&client) || self.broker.changed.rows_are_unknown() => {
                    vec![Change::Forget { client }]
                }
                None => continue,
            };
            bytes += of_session.iter().map(Change::bytes).sum::<usize>();
            changes.extend(of_session);
        }
        changes
    }

    async fn store(&mut self, changes: Vec<Change>) -> Result<(), crate::store::queue::Closed> {
        self.jobs += 1;
        let ticket = Some(Ticket { gate: self.gate.clone(), number: self.jobs });
        let mut jobs = VecDeque::from([Job { content: Content::Kept(changes), ticket }]);
        self.broker.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.broker.queue.room_for(job.bytes()).await?;
            self.broker.queue.push(&mut jobs);
        }
        while self.gate.stored() < self.jobs {
            self.committed.notified().await;
        }
        Ok(())
    }
}
