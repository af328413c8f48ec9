//! The bounded queue between the sessions and the writer.
//!
//! Owns the bound, in bytes, and the policy when it is reached: a job with a ticket waits for room (its client's
//! socket is not read meanwhile), a job without one is shed, counted and told. It never touches SQLite.
//! Room is given back only when a job's transaction has committed, so the bound holds for what the writer has
//! taken, too.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::warn;

use super::job::Job;
use super::losses::Losses;
use crate::log::Rate;

/// How long jobs for whose commit nobody waits are kept for company: an SD card wears out by the transaction, and a station
/// that sends two readings one after the other has them stored in one.
const COMPANY_TIME_MAX: Duration = Duration::from_millis(100);
/// Company is enough at so many jobs, or at this part of the queue.
const COMPANY_JOBS_MAX: usize = 64;
const COMPANY_PART: usize = 8;

/// The queue. Sessions push, the writer alone takes.
#[derive(Debug)]
pub struct Queue {
    room: Semaphore,
    bytes_max: usize,
    jobs: AtomicUsize,
    /// Of these, those that wait with the writer for room on the disk.
    shelved: AtomicUsize,
    bytes: AtomicUsize,
    bytes_peak: AtomicUsize,
    shed: AtomicU64,
    shed_lines: Rate,
    losses: Arc<Losses>,
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
    /// Whether the writer keeps what there is for company.
    keeps: bool,
}

/// Says that the queue was closed: the hub stops.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed;

impl Queue {
    /// Makes a queue that holds at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Queue {
        let bytes_max = bytes_max.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Queue {
            room: Semaphore::new(bytes_max),
            bytes_max,
            jobs: AtomicUsize::new(0),
            shelved: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            bytes_peak: AtomicUsize::new(0),
            shed: AtomicU64::new(0),
            shed_lines: Rate::default(),
            losses: Arc::default(),
            waiting: Mutex::default(),
            filled: Condvar::new(),
        }
    }

    /// Pushes jobs from the front of `jobs` for as long as there is room: one with a ticket that finds none ends the
    /// pushing and stays in `jobs`, one without a ticket is shed.
    pub fn push(&self, jobs: &mut VecDeque<Job>) {
        let total = self.cost(&*jobs);
        if self.take_room(total) {
            return self.append(jobs.drain(..), total);
        }
        let mut fitting = VecDeque::new();
        let mut bytes = 0;
        while let Some(job) = jobs.pop_front() {
            let cost = self.cost([&job]);
            if self.take_room(cost) {
                bytes += cost;
                fitting.push_back(job);
            } else if job.ticket.is_some() {
                jobs.push_front(job);
                break;
            } else {
                let shed = self.shed.fetch_add(1, Ordering::Relaxed) + 1;
                self.losses.note(&job);
                if self.shed_lines.allows() {
                    warn!(
                        topic = %job.message().map_or("", |message| &message.origin.source).escape_debug(),
                        lost = shed,
                        "a message with QoS 0 is lost: the queue to the database is full"
                    );
                }
            }
        }
        self.append(fitting.into_iter(), bytes);
    }

    /// Waits until there is room for `bytes` and pushes nothing: the caller pushes again.
    ///
    /// # Errors
    /// [`Closed`] once the queue was closed.
    pub async fn room_for(&self, bytes: usize) -> Result<(), Closed> {
        let permits = u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX);
        self.room.acquire_many(permits).await.map(drop).map_err(|_| Closed)
    }

    /// Closes the queue: nothing is pushed any more, the writer takes what is left.
    pub fn close(&self) {
        self.room.close();
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Returns the number of jobs that are queued or being written.
    pub fn jobs(&self) -> usize {
        self.jobs.load(Ordering::Relaxed)
    }

    /// Tells whether the writer has nothing to do: what waits for room on the disk is nothing that it could do now.
    pub fn is_idle(&self) -> bool {
        self.jobs() <= self.shelved.load(Ordering::Relaxed)
    }

    /// Notes how many jobs wait with the writer for room on the disk.
    pub(super) fn note_shelved(&self, jobs: usize) {
        self.shelved.store(jobs, Ordering::Relaxed);
    }

    /// Returns the bytes that are queued or being written.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Returns the most bytes that were ever queued.
    pub fn bytes_peak(&self) -> usize {
        self.bytes_peak.load(Ordering::Relaxed)
    }

    /// Returns the bound, bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Counts jobs without a ticket that their connection could not push before it ended.
    pub fn count_lost<'j>(&self, jobs: impl IntoIterator<Item = &'j Job>) {
        for job in jobs {
            self.shed.fetch_add(1, Ordering::Relaxed);
            self.losses.note(job);
        }
    }

    /// Returns what is remembered of readings that were lost.
    pub(super) fn losses(&self) -> Arc<Losses> {
        self.losses.clone()
    }

    /// Tells whether the hub stops.
    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Returns how many jobs without a ticket found no room and are lost.
    pub fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// Waits for jobs, for the first `watch` of it without sleeping, then for at most `linger` for `most` of them, and
    /// moves up to `most` to `batch`; false once the queue is closed and empty.
    pub(super) fn take(&self, batch: &mut Vec<Job>, most: usize, watch: Duration, linger: Duration) -> bool {
        self.watch(watch);
        let mut waiting = self.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting = self.filled.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if !linger.is_zero() {
            (waiting, _) = self
                .filled
                .wait_timeout_while(waiting, linger, |waiting| !waiting.closed && waiting.jobs.len() < most)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if self.may_keep(&waiting) {
            waiting.keeps = true;
            (waiting, _) = self
                .filled
                .wait_timeout_while(waiting, COMPANY_TIME_MAX, |waiting| self.may_keep(waiting))
                .unwrap_or_else(PoisonError::into_inner);
            waiting.keeps = false;
        }
        let count = waiting.jobs.len().min(most);
        batch.extend(waiting.jobs.drain(..count));
        true
    }

    /// Tells whether nobody waits for the commit of what there is, and there is room for more of it.
    fn may_keep(&self, waiting: &Waiting) -> bool {
        !waiting.closed
            && waiting.jobs.len() < COMPANY_JOBS_MAX
            && self.bytes() < self.bytes_max / COMPANY_PART
            && waiting.jobs.iter().all(|job| job.ticket.is_none())
    }

    /// Looks for jobs again and again without sleeping: to be woken takes longer than to look.
    fn watch(&self, most: Duration) {
        let start = Instant::now();
        while self.jobs() == 0 && start.elapsed() < most {
            std::hint::spin_loop();
        }
    }

    /// Moves the jobs that make room to `taken`, past those that wait for it.
    pub(super) fn take_what_makes_room(&self, taken: &mut Vec<Job>) {
        let mut waiting = self.lock();
        let (making, others) = std::mem::take(&mut waiting.jobs).into_iter().partition(Job::makes_room);
        waiting.jobs = others;
        let making: VecDeque<Job> = making;
        taken.extend(making);
    }

    /// Pauses the writer for `pause`, or until the queue is closed; tells whether it is closed.
    pub(super) fn pause(&self, pause: Duration) -> bool {
        let waiting = self.lock();
        let (waiting, _) = self
            .filled
            .wait_timeout_while(waiting, pause, |waiting| !waiting.closed)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.closed
    }

    /// Gives back the room of jobs that are done with.
    pub(super) fn release(&self, jobs: usize, bytes: usize) {
        self.jobs.fetch_sub(jobs, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.room.add_permits(bytes);
    }

    /// Returns the room that jobs take. One that is larger than the whole queue takes all of it, so that it comes
    /// through, alone; one that makes room takes none, since a full queue may wait for it.
    pub(super) fn cost<'j>(&self, jobs: impl IntoIterator<Item = &'j Job>) -> usize {
        let cost = |job: &Job| if job.makes_room() { 0 } else { job.bytes().min(self.bytes_max) };
        jobs.into_iter().map(cost).fold(0, usize::saturating_add)
    }

    fn take_room(&self, bytes: usize) -> bool {
        let Ok(permits) = u32::try_from(bytes) else { return false };
        self.room.try_acquire_many(permits).map(|permit| permit.forget()).is_ok()
    }

    fn append(&self, jobs: impl ExactSizeIterator<Item = Job>, bytes: usize) {
        if jobs.len() == 0 {
            return;
        }
        let mut waiting = self.lock();
        if waiting.closed {
            // The writer may have taken its last batch.
            let lost = jobs.filter(|job| job.ticket.is_none()).count();
            self.shed.fetch_add(lost as u64, Ordering::Relaxed);
            return;
        }
        self.jobs.fetch_add(jobs.len(), Ordering::Relaxed);
        let now = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.bytes_peak.fetch_max(now, Ordering::Relaxed);
        let was_empty = waiting.jobs.is_empty();
        waiting.jobs.extend(jobs);
        let is_enough = waiting.keeps && !self.may_keep(&waiting);
        drop(waiting);
        if was_empty || is_enough {
            self.filled.notify_all();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::*;
    use crate::store::{AckGate, Content, OutboxChange, Ticket};

    fn job(has_ticket: bool) -> VecDeque<Job> {
        let ticket = has_ticket.then(|| Ticket { gate: Arc::new(AckGate::new(Arc::default())), number: 1 });
        VecDeque::from([Job { content: Content::Heartbeat, ticket }])
    }

    fn take(queue: &Queue) -> (usize, Duration) {
        let (mut batch, start) = (Vec::new(), Instant::now());
        assert!(queue.take(&mut batch, 512, Duration::ZERO, Duration::ZERO));
        let bytes = queue.cost(batch.iter());
        queue.release(batch.len(), bytes);
        (batch.len(), start.elapsed())
    }

    #[test]
    fn what_waits_for_room_on_the_disk_keeps_no_heartbeat_from_coming() {
        let queue = Queue::new(1 << 20);
        assert!(queue.is_idle());
        queue.push(&mut job(true));
        assert!(!queue.is_idle());
        let mut batch = Vec::new();
        assert!(queue.take(&mut batch, 512, Duration::ZERO, Duration::ZERO));
        queue.note_shelved(batch.len());
        assert!(queue.is_idle() && queue.jobs() == 1);
        queue.push(&mut job(true));
        assert!(!queue.is_idle());
    }

    #[test]
    fn what_nobody_waits_for_is_kept_for_company_and_no_ack_waits() {
        let queue = Queue::new(1 << 20);
        queue.push(&mut job(true));
        assert!(take(&queue).1 < COMPANY_TIME_MAX / 2, "an ack waits for it");
        queue.push(&mut job(false));
        let (jobs, took) = take(&queue);
        assert!(jobs == 1 && took >= COMPANY_TIME_MAX, "{took:?}: nobody came");
        std::thread::scope(|scope| {
            queue.push(&mut job(false));
            let taken = scope.spawn(|| take(&queue));
            while !queue.lock().keeps {
                std::thread::yield_now();
            }
            queue.push(&mut job(false));
            queue.push(&mut job(true));
            assert_eq!(taken.join().unwrap().0, 3, "who has an ack coming ends the wait");
        });
        for _ in 0..COMPANY_JOBS_MAX {
            queue.push(&mut job(false));
        }
        assert!(take(&queue).1 < COMPANY_TIME_MAX / 2, "company enough");
        let small = Queue::new(size_of::<Job>() * COMPANY_PART);
        small.push(&mut job(false));
        assert!(take(&small).1 < COMPANY_TIME_MAX / 2, "the queue is small");
    }

    #[test]
    fn what_makes_room_passes_a_full_queue() {
        let queue = Queue::new(size_of::<Job>());
        queue.push(&mut job(true));
        let mut refused = job(true);
        queue.push(&mut refused);
        assert_eq!(refused.len(), 1, "the queue is full");
        let sent = Content::Outbox(vec![OutboxChange::Sent { lane_after: 0, through: 7 }]);
        let mut making = VecDeque::from([Job { content: sent, ticket: job(true).pop_front().unwrap().ticket }]);
        queue.push(&mut making);
        assert!(making.is_empty());
        let mut taken = Vec::new();
        queue.take_what_makes_room(&mut taken);
        assert!(taken.len() == 1 && taken[0].makes_room());
        assert_eq!(take(&queue).0, 1, "the other is still there");
    }
}
