//! The writer: the one thread that writes to the database.
//!
//! Owns group commit and what happens when the database cannot be written. It takes all that is queued, stores it in
//! one transaction, and only then raises the ack gates: an ack means that the transaction has committed.
//!
//! What cannot be written is kept, in order, and tried again for ever with growing pauses; nothing is dropped from
//! the queue. Errors are logged here and nowhere below, the first at once, then at a bounded rate, and their end.
//! An error that waiting cannot mend ends the thread, and with it the hub.

mod relief;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rusqlite::ErrorCode;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::AckGate;
use super::error::{Class, StoreError};
use super::job::{Entry, Job};
use super::outbox::Outbox;
use super::progress::Progress;
use super::queue::Queue;
use super::space::Space;
use super::tap::Tap;
use super::transaction::{Database, Doubt, Outcome};
use super::{damage, renewal, salvager};
use crate::clock::now_ms;
use crate::config::Synchronous;
use crate::fault;
use crate::log::Rate;
use crate::place::{Follow, identity};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// SQLite has already waited for its busy timeout, so another pause only adds to the delay.
const PAUSE_MAX_BUSY: Duration = Duration::from_millis(250);
/// How long an attempt that is under way may take: SQLite's busy timeout, and the time to close.
const ATTEMPT_TIME_MAX: Duration = Duration::from_millis(5_500);
const WARNING_INTERVAL: Duration = Duration::from_secs(10);
/// A commit faster than this needs no company: waiting would only add to the latency.
const COMMIT_FAST: Duration = Duration::from_millis(2);
const LINGER_MAX: Duration = Duration::from_millis(3);
/// How long the writer watches for the next job without sleeping, where a second core lets others work meanwhile.
const WATCH_MAX: Duration = Duration::from_micros(150);

/// What the writer needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database.
    pub path: PathBuf,
    /// How far a commit goes.
    pub synchronous: Synchronous,
    /// Jobs in one transaction, at most.
    pub batch_max: usize,
    /// Payload bytes in quarantine, at most.
    pub quarantine_bytes_max: u64,
    /// Bytes kept back on the disk for when it is full.
    pub reserve_bytes: u64,
    /// Failures in a row from which on the store counts as degraded.
    pub write_failures_max: u32,
    /// Who watches the readings that were stored.
    pub tap: Option<Arc<Tap>>,
}

/// How the writer thread ended.
pub type End = Result<(), StoreError>;

/// The handle of the writer thread.
#[derive(Debug)]
pub struct Writer {
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    ended: oneshot::Receiver<End>,
    give_up: Arc<AtomicBool>,
}

impl Writer {
    /// Opens the database and starts the thread. A database that another program has locked is no error: the thread
    /// waits for it. Without `outbox` nothing is forwarded.
    ///
    /// # Errors
    /// Whatever else keeps the database from being opened.
    pub fn start(settings: Settings, queue: Arc<Queue>, outbox: Option<Arc<Outbox>>) -> Result<Writer, StoreError> {
        let progress = Arc::new(Progress::begin(queue.losses()));
        let mut space = Space::new(&settings.path, settings.reserve_bytes, &progress);
        let database = match space.opened(|| renewal::open(&settings, &outbox, &progress)) {
            Ok(database) => Some(database),
            Err(error) if is_busy(&error) || matches!(error, StoreError::TooManyAside { .. }) => {
                warn!(path = %settings.path.display(), "{error}; the hub starts and waits for it");
                None
            }
            Err(error) => return Err(error),
        };
        salvager::start(settings.path.clone(), queue.clone(), progress.clone())?;
        let give_up = Arc::new(AtomicBool::new(false));
        let (end, ended) = oneshot::channel();
        let mut work = Work {
            settings,
            queue: queue.clone(),
            progress: progress.clone(),
            give_up: give_up.clone(),
            database,
            trouble: None,
            rejected_lines: Rate::default(),
            dropped_lines: Rate::default(),
            outbox,
            doubt: None,
            last_file: None,
            space,
            spoilt: None,
            spoilt_file: None,
            shelved: Vec::new(),
            why_new: None,
        };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                // Also by a panic: nobody waits for room that nobody gives back.
                let _closed = CloseAtEnd(work.queue.clone());
                let result = work.run();
                work.queue.close();
                end.send(result).unwrap_or(());
            })
            .map_err(|source| StoreError::Io {
                doing: "cannot start the thread that writes to",
                path: PathBuf::from("the database"),
                source,
            })?;
        Ok(Writer { queue, progress, ended, give_up })
    }

    /// Returns what the writer has done so far.
    pub fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Waits until the thread has ended; `None` where it panicked.
    pub async fn ended(&mut self) -> Option<End> {
        (&mut self.ended).await.ok()
    }

    /// Closes the queue and waits until the writer has stored what is left of it and closed the database. What cannot
    /// be written within `deadline` is given up, counted and logged.
    pub async fn stop(mut self, deadline: Duration) -> Option<End> {
        self.queue.close();
        if let Ok(end) = tokio::time::timeout(deadline, &mut self.ended).await {
            return end.ok();
        }
        self.give_up.store(true, Ordering::Relaxed);
        match tokio::time::timeout(ATTEMPT_TIME_MAX, self.ended).await {
            Ok(end) => end.ok(),
            Err(_) => Some(Err(StoreError::Stuck)),
        }
    }
}

struct CloseAtEnd(Arc<Queue>);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Work {
    /// What can wait while the disk is full: it is done once there is room again.
    shelved: Vec<Job>,
    settings: Settings,
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    give_up: Arc<AtomicBool>,
    database: Option<Database>,
    trouble: Option<Trouble>,
    rejected_lines: Rate,
    dropped_lines: Rate,
    outbox: Option<Arc<Outbox>>,
    /// What the last transaction left open whether it happened.
    doubt: Option<Doubt>,
    /// Device and inode of the database that was written last.
    last_file: Option<(u64, u64)>,
    space: Space,
    /// What is wrong with the database, where it is damaged and not put aside yet.
    spoilt: Option<String>,
    /// Which file that is, by device and inode.
    spoilt_file: Option<Option<(u64, u64)>>,
    /// What was wrong with the database that was put aside, until there is a new one.
    why_new: Option<String>,
}

/// A row of failures, from its first to the first success.
struct Trouble {
    since: Instant,
    warned: Instant,
    pause: Duration,
}

impl Work {
    fn run(&mut self) -> End {
        self.progress.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
        self.progress.was_open.store(self.database.is_some(), Ordering::Relaxed);
        let mut batch = Vec::with_capacity(self.settings.batch_max);
        let (mut commit_time, mut last_batch) = (Duration::ZERO, 0);
        let mut raised = Vec::new();
        let has_cores = std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1);
        let mut waited = Duration::MAX;
        loop {
            // A lone sensor's ack never waits for company that does not come.
            let alone = last_batch <= 1;
            let linger =
                if alone || commit_time <= COMMIT_FAST { Duration::ZERO } else { (commit_time / 5).min(LINGER_MAX) };
            // Watching pays where the last job came soon, as from a client that publishes on each ack; a sensor that
            // sends every 5 s never makes the writer do it.
            let pays = has_cores && commit_time <= COMMIT_FAST && waited < WATCH_MAX;
            let watch = if pays { WATCH_MAX } else { Duration::ZERO };
            let start = Instant::now();
            if !self.queue.take(&mut batch, self.settings.batch_max, watch, linger) {
                break;
            }
            if self.progress.room.is_ample() {
                batch.append(&mut self.shelved);
                self.queue.note_shelved(0);
            }
            waited = start.elapsed();
            self.progress.step();
            self.progress.writing_since_ms.store(now_ms(), Ordering::Relaxed);
            let took = match self.store(&mut batch) {
                Ok(Some(took)) => took,
                Ok(None) => break,
                Err(error) => {
                    self.tell_unwritten();
                    return Err(error);
                }
            };
            commit_time = (commit_time * 3 + took) / 4;
            last_batch = batch.len();
            self.done(&mut batch, &mut raised);
            if self.give_up.load(Ordering::Relaxed) {
                break;
            }
        }
        self.finish()
    }

    /// Stores a batch, however long it takes; `None` where that was given up because the hub stops.
    fn store(&mut self, batch: &mut Vec<Job>) -> Result<Option<Duration>, StoreError> {
        loop {
            let start = Instant::now();
            fault::hang("store-writer");
            fault::panic("store-writer");
            let attempt = self.attempt(batch);
            self.progress.step();
            match attempt {
                Ok(outcome) => {
                    self.progress.committed(outcome, start.elapsed());
                    self.recovered();
                    if let Some(tap) = &self.settings.tap {
                        tap.pass(batch);
                    }
                    self.tell_rejected(batch, outcome);
                    if outcome.kept_refused > 0 {
                        warn!("the database refused changes of retained messages or sessions: they end with the hub");
                    }
                    if outcome.alerts_refused > 0 {
                        warn!("the database refused changes of alerts: after a restart they may be sent again");
                    }
                    if outcome.ledger_refused > 0 && self.rejected_lines.allows() {
                        warn!("the database refused to count readings, or to set their times right");
                    }
                    if outcome.upkeep_refused > 0 && self.dropped_lines.allows() {
                        warn!(
                            "the database refused a rollup, or to delete old rows: what it says of some hours may be wrong"
                        );
                    }
                    if outcome.quarantine_dropped > 0 {
                        warn!(
                            dropped = outcome.quarantine_dropped,
                            "the quarantine is full: its oldest messages were dropped"
                        );
                    }
                    self.tell_outbox(outcome);
                    return Ok(Some(start.elapsed()));
                }
                Err(error) if error.class() == Class::Retry => {
                    let has_room = self.make_room(&error, batch);
                    if batch.is_empty() {
                        return Ok(Some(start.elapsed()));
                    }
                    if !has_room && self.failed(&error) {
                        return Ok(None);
                    }
                }
                Err(error) => match damage::of_error(&error, &self.settings.path) {
                    Some(what) => self.spoilt = Some(what),
                    None => return Err(error),
                },
            }
        }
    }

    /// Says what will not reach the upstream, at a bounded rate.
    fn tell_outbox(&self, outcome: Outcome) {
        let Outcome { outbox_dropped: dropped, forwards_refused: refused, .. } = outcome;
        if dropped > 0 && self.dropped_lines.allows() {
            let in_all = self.outbox.as_ref().map_or(0, |outbox| outbox.dropped());
            warn!(
                dropped,
                in_all,
                "the outbox is full, or its messages too old: the oldest were dropped, the upstream will not get them"
            );
        }
        if refused > 0 && self.dropped_lines.allows() {
            warn!(refused, "the database refused rows of the outbox: the upstream will not get these messages");
        }
    }

    /// Says what went to quarantine, at a bounded rate.
    fn tell_rejected(&self, batch: &[Job], outcome: Outcome) {
        if outcome.quarantined == 0 {
            return;
        }
        let mut told = 0;
        for message in batch.iter().filter_map(Job::message) {
            let Entry::Rejected { reason, detail } = &message.entry else { continue };
            told += 1;
            if self.rejected_lines.allows() {
                let (topic, client) = (message.origin.source.escape_debug(), message.origin.client.escape_debug());
                warn!(%topic, %client, "a message went to quarantine: {reason}: {detail}");
            }
        }
        let refused = outcome.quarantined.saturating_sub(told + outcome.set_aside);
        if refused > 0 && self.rejected_lines.allows() {
            warn!(refused, "readings that the database refused went to quarantine: see `stationhub quarantine list`");
        }
    }

    fn attempt(&mut self, batch: &[Job]) -> Result<Outcome, StoreError> {
        if self.outbox.as_ref().is_some_and(|outbox| outbox.take_damage()) {
            self.progress.doubts.ask();
        }
        if let Some(what) = self.progress.doubts.take_found() {
            self.spoilt = Some(what);
        }
        let mut database = match (self.spoilt.take(), self.database.take()) {
            (None, Some(database)) => database,
            (None, None) => self.reopen()?,
            // What was found is of the file that was written; one that somebody has put in its place may be whole.
            (Some(_), None) if self.is_another_file() => self.reopen()?,
            (Some(what), open) => {
                open.map(Database::abandon).transpose().map(drop).unwrap_or_else(|error| debug!(%error, "abandoned"));
                if let Err(error) = renewal::put_aside(&self.settings, &what) {
                    self.spoilt = Some(what);
                    return Err(error);
                }
                // What it may or may not hold is salvaged with the rest.
                (self.doubt, self.last_file, self.spoilt_file, self.why_new) = (None, None, None, Some(what));
                self.reopen()?
            }
        };
        self.progress.was_open.store(true, Ordering::Relaxed);
        self.why_new = None;
        // To open it may have taken as long as SQLite waits for a lock.
        self.progress.step();
        if self.queue.is_closed() {
            database.hurry()?;
        }
        self.last_file = Some(database.file());
        self.space.tend(&mut database);
        if let Some(doubt) = self.doubt {
            let settled = database.settle(doubt)?;
            self.doubt = None;
            if let Some(outcome) = settled {
                self.database = Some(database);
                return Ok(outcome);
            }
        }
        let result = database.store(batch);
        match &result {
            Err(error) if !is_busy(error) && !error.is_full() => {
                self.doubt = database.doubt();
                // After anything but a lock, a fresh connection: it re-reads what the file really holds. Closing
                // moves the log into a file that was moved away, so that it is whole where it went.
                let is_damage = damage::of_error(error, &self.settings.path).is_some();
                let closed = if is_damage { database.abandon() } else { database.close() };
                closed.unwrap_or_else(|error| debug!(%error, "close after a failure"));
            }
            _ => self.database = Some(database),
        }
        if result.is_ok() {
            self.space.written();
        }
        result
    }

    /// Tells whether another file than the one that was found damaged stands at the database's place.
    fn is_another_file(&mut self) -> bool {
        let now = identity(&self.settings.path, Follow::Yes);
        let found = *self.spoilt_file.get_or_insert(self.last_file.or(now));
        let is_another = now.is_some() && now != found;
        if is_another {
            warn!("the damaged database was replaced by another file while it could not be put aside: that is opened");
            self.spoilt_file = None;
        }
        is_another
    }

    /// Opens the database again; never makes a new one, which would be taken for the old one when that comes back, unless that was put
    /// aside.
    fn reopen(&mut self) -> Result<Database, StoreError> {
        let path = &self.settings.path;
        let why = self.why_new.as_deref();
        if !path.exists() && why.is_none() {
            return Err(StoreError::Moved { path: path.clone() });
        }
        let (settings, outbox, progress) = (&self.settings, &self.outbox, &self.progress);
        let database = self.space.opened(|| renewal::make(settings, outbox, progress, why.is_some(), why))?;
        if self.last_file.is_some_and(|last| last != database.file()) {
            warn!(path = %path.display(), "the database is another file than before: readings go into it from now on");
        }
        Ok(database)
    }

    /// Notes a failure, pauses, and tells whether to give up because the hub stops.
    fn failed(&mut self, error: &StoreError) -> bool {
        let progress = &self.progress;
        progress.failures.fetch_add(1, Ordering::Relaxed);
        let in_row = progress.failures_in_row.fetch_add(1, Ordering::Relaxed) + 1;
        progress.set_last_error(Some(error.to_string()));
        let now = Instant::now();
        let first = self.trouble.is_none();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, warned: now, pause: PAUSE_MIN });
        let waiting = self.queue.jobs();
        if first || trouble.warned.elapsed() >= WARNING_INTERVAL {
            trouble.warned = now;
            warn!(
                failures = in_row,
                waiting, "cannot write to the database: {error}; what waits is kept, trying again"
            );
        }
        if in_row == self.settings.write_failures_max {
            progress.degraded.store(true, Ordering::Relaxed);
            progress.journal.note("store.degraded", format!("degraded mode began: {error}"));
            error!(
                failures = in_row,
                waiting,
                "degraded mode: the database cannot be written ({error}); readings with QoS 1 and 2 wait unacked, \
                 those with QoS 0 are kept up to {} bytes",
                self.queue.bytes_max()
            );
        }
        let pause = trouble.pause.min(if is_busy(error) { PAUSE_MAX_BUSY } else { PAUSE_MAX });
        trouble.pause = (trouble.pause * 2).min(PAUSE_MAX);
        let closed = self.queue.pause(pause);
        if closed && !self.give_up.load(Ordering::Relaxed) {
            std::thread::sleep(PAUSE_MIN);
        }
        self.give_up.load(Ordering::Relaxed)
    }

    fn recovered(&mut self) {
        let Some(trouble) = self.trouble.take() else { return };
        let failures = self.progress.failures_in_row.swap(0, Ordering::Relaxed);
        self.progress.set_last_error(None);
        let degraded = self.progress.degraded.swap(false, Ordering::Relaxed);
        if degraded {
            let seconds = trouble.since.elapsed().as_secs();
            let text = format!("degraded mode ended: the database could not be written for {seconds} s");
            self.progress.journal.note("store.degraded", text);
        }
        info!(
            failures,
            seconds = trouble.since.elapsed().as_secs(),
            waiting = self.queue.jobs(),
            "the database is written again{}",
            if degraded { ": degraded mode has ended" } else { "" }
        );
    }

    /// Gives back the room of a stored batch and raises the gates of its tickets.
    fn done(&self, batch: &mut Vec<Job>, raised: &mut Vec<(Arc<AckGate>, u64)>) {
        self.queue.release(batch.len(), self.queue.cost(batch.iter()));
        for ticket in batch.drain(..).filter_map(|job| job.ticket) {
            match raised.iter_mut().rev().take(4).find(|(gate, _)| Arc::ptr_eq(gate, &ticket.gate)) {
                Some((_, number)) => *number = ticket.number,
                None => raised.push((ticket.gate, ticket.number)),
            }
        }
        for (gate, number) in raised.drain(..) {
            gate.raise(number);
        }
    }

    /// Says how much was queued and is not stored; returns it.
    fn tell_unwritten(&self) -> usize {
        // A heartbeat that waits is no message, nor is what the hub does beside taking them.
        let beside = usize::from(self.progress.heartbeat.is_queued()) + self.shelved.len();
        let messages = self.queue.jobs().saturating_sub(beside);
        if messages > 0 {
            error!("{}", StoreError::Unwritten { messages });
        }
        messages
    }

    fn finish(&mut self) -> End {
        let messages = self.tell_unwritten();
        if let Some(database) = self.database.take()
            && let Err(error) = database.hurry().and_then(|()| database.stopped()).and_then(|()| database.close())
        {
            warn!("{error}; the next start does it");
        }
        if messages > 0 { Err(StoreError::Unwritten { messages }) } else { Ok(()) }
    }
}

fn is_busy(error: &StoreError) -> bool {
    matches!(error, StoreError::Sqlite { source, .. } if matches!(
        source.sqlite_error_code(),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    ))
}
