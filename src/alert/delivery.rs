//! One channel at work: what waits for it goes out, in order, until it has arrived.
//!
//! Owns the task of a channel, its pauses between attempts, and what is logged of its failures. A channel that is dead
//! keeps its own messages waiting and nobody else's.
//!
//! A notice is on disk before it is sent, and marked once it is sent: what a crash leaves unmarked is sent after it. Where
//! the store does not take it in time, it is sent all the same: the store may be what it is about.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::channel::Sender;
use super::error::AlertError;
use super::ledger::Ledger;
use super::message::Message;
use super::waiting::{Fate, GROUP_MAX, Line, Manners, Next, Waiting};
use crate::clock::now_ms;
use crate::config::alerts::Channel;
use crate::log::Rate;
use crate::store::AlertChange;
use crate::store::alerts::Notice;
use crate::web;

/// How long a notice waits to be on disk.
const STORE_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a message that is under way may take when the hub stops.
const END_TIME_MAX: Duration = Duration::from_millis(700);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// The longest time that is slept at once: the wall clock, which quiet hours go by, may be set meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How often a failure that lasts is told.
const FAILURE_LINE_INTERVAL: Duration = Duration::from_secs(600);

/// A channel, and what waits for it.
pub struct Outlet {
    name: Arc<str>,
    kind: &'static str,
    station: String,
    sender: Sender,
    manners: Manners,
    ledger: Arc<Ledger>,
    line: Mutex<Line>,
    /// What was tried and is tried again as it is: a message keeps its id.
    held: Mutex<Option<Vec<Waiting>>>,
    /// Notices that go in one message: fewer where the receiver does not take as many.
    group_max: AtomicUsize,
    changed: Notify,
    sent: AtomicU64,
    dropped: AtomicU64,
    trouble: Mutex<Option<Trouble>>,
    failure_lines: Rate,
    full_lines: Rate,
}

/// A row of failures.
struct Trouble {
    since: Instant,
    attempts: u32,
    pause: Duration,
    error: String,
    /// Whether it is the message that the receiver does not take.
    is_final: bool,
}

/// How a channel stands.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: &'static str,
    /// Notices that wait.
    pub waiting: usize,
    /// Messages that arrived since the start.
    pub sent: u64,
    /// Notices that found no room since the start.
    pub dropped: u64,
    /// Why the last attempt failed; `None` where it did not.
    pub error: Option<String>,
}

impl Outlet {
    /// Makes a channel for which nothing waits.
    pub fn new(channel: &Channel, sender: Sender, station: &str, manners: Manners, ledger: Arc<Ledger>) -> Outlet {
        Outlet {
            name: channel.name.as_str().into(),
            kind: channel.kind.name(),
            station: station.to_owned(),
            sender,
            manners,
            ledger,
            line: Mutex::default(),
            held: Mutex::default(),
            group_max: AtomicUsize::new(GROUP_MAX),
            changed: Notify::new(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            trouble: Mutex::default(),
            failure_lines: Rate::new(1, FAILURE_LINE_INTERVAL),
            full_lines: Rate::new(1, FAILURE_LINE_INTERVAL),
        }
    }

    /// Returns the channel's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Adds a notice; never waits.
    pub fn push(&self, waiting: Waiting) {
        let gone = self.line().push(waiting);
        self.settle(gone);
        self.changed.notify_one();
    }

    /// Sends a message that says that nothing is wrong, once.
    ///
    /// # Errors
    /// The channel's.
    pub async fn test(&self) -> Result<(), AlertError> {
        self.sender.send(&Message::test(&self.station, &self.name, now_ms())).await?;
        // Whoever mended it does not wait for the end of a pause.
        self.recovered();
        self.changed.notify_one();
        Ok(())
    }

    /// Returns how the channel stands.
    pub fn standing(&self) -> Standing {
        Standing {
            name: self.name.to_string(),
            kind: self.kind,
            waiting: self.line().len(),
            sent: self.sent.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            error: self.trouble().as_ref().map(|trouble| trouble.error.clone()),
        }
    }

    /// Sends what waits until `stop`; what is left then is sent after the next start.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let next = match self.held().take() {
                Some(group) => Next::Send(group),
                None => self.line().next(&self.manners, self.group_max.load(Ordering::Relaxed), now_ms()),
            };
            let pause = match next {
                Next::Idle => LOOK_INTERVAL,
                Next::Wait(time) => time.min(LOOK_INTERVAL),
                Next::Send(group) => match with_grace(&stop, self.send(group)).await {
                    Some(pause) => pause,
                    None => return,
                },
            };
            self.rest(&stop, pause).await;
        }
    }

    /// Waits for a while, or until there is something else to do.
    async fn rest(&self, stop: &CancellationToken, pause: Duration) {
        let woken = async {
            loop {
                self.changed.notified().await;
                // A server that does not answer is not asked sooner for a second message.
                if self.trouble().as_ref().is_none_or(|trouble| trouble.is_final) {
                    return;
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
            () = woken => {}
        }
    }

    /// Sends a group once; returns how long to pause after it.
    async fn send(&self, group: Vec<Waiting>) -> Duration {
        let noted = group.iter().map(|waiting| waiting.noted).max().unwrap_or_default();
        self.ledger.is_stored(noted, STORE_TIME_MAX).await;
        let notices: Vec<Notice> = group.iter().map(|waiting| waiting.notice.clone()).collect();
        let message = Message::of(&self.station, &notices);
        match self.sender.send(&message).await {
            Ok(()) => {
                self.recovered();
                let group_max = self.group_max.load(Ordering::Relaxed);
                self.group_max.store((group_max * 2).min(GROUP_MAX), Ordering::Relaxed);
                self.sent.fetch_add(1, Ordering::Relaxed);
                let superseded = self.line().sent(&group);
                self.ledger.note(notices.into_iter().map(|notice| self.done(notice, "sent")));
                self.settle(superseded);
                Duration::ZERO
            }
            Err(error) => {
                let pause = self.failed(&error);
                self.try_otherwise(group, &error).unwrap_or(pause)
            }
        }
    }

    /// Decides how a group is tried again: as it is, or, where its receiver does not take it as it is, in smaller ones, and at
    /// last behind all others. Returns the pause before that, where it is another than a failure's.
    fn try_otherwise(&self, group: Vec<Waiting>, error: &AlertError) -> Option<Duration> {
        match &group[..] {
            _ if !error.is_final() => *self.held() = Some(group),
            [only] => self.line().defer(only.notice.episode),
            several => {
                self.group_max.store((several.len() / 2).max(1), Ordering::Relaxed);
                return Some(PAUSE_MIN);
            }
        }
        None
    }

    fn failed(&self, error: &AlertError) -> Duration {
        let waiting = self.line().len();
        let mut trouble = self.trouble();
        let trouble = trouble.get_or_insert_with(|| Trouble {
            since: Instant::now(),
            attempts: 0,
            pause: PAUSE_MIN,
            error: String::new(),
            is_final: false,
        });
        trouble.is_final = error.is_final();
        trouble.attempts += 1;
        trouble.error = error.to_string();
        if self.failure_lines.allows() {
            warn!(channel = %self.name, attempts = trouble.attempts, waiting, "an alert is not delivered: {error}; trying again");
        }
        let pause = trouble.pause;
        trouble.pause = (pause * 2).min(PAUSE_MAX);
        web::jittered(pause)
    }

    fn recovered(&self) {
        if let Some(trouble) = self.trouble().take() {
            let seconds = trouble.since.elapsed().as_secs();
            info!(channel = %self.name, attempts = trouble.attempts, seconds, "alerts are delivered again");
        }
    }

    /// Notes what is never to be sent.
    fn settle(&self, gone: Vec<(Notice, Fate)>) {
        if gone.is_empty() {
            return;
        }
        let dropped = gone.iter().filter(|(_, fate)| *fate == Fate::Dropped).count();
        if dropped > 0 {
            let dropped = self.dropped.fetch_add(dropped as u64, Ordering::Relaxed) + dropped as u64;
            if self.full_lines.allows() {
                warn!(channel = %self.name, dropped, "too many alerts wait for a channel: the oldest are dropped");
            }
        }
        self.ledger.note(gone.into_iter().map(|(notice, fate)| {
            let outcome = if fate == Fate::Superseded { "superseded" } else { "dropped" };
            self.done(notice, outcome)
        }));
    }

    fn done(&self, notice: Notice, outcome: &'static str) -> AlertChange {
        let Notice { episode, what, .. } = notice;
        AlertChange::Done { episode, what, channel: self.name.clone(), done_ms: now_ms(), outcome }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn held(&self) -> MutexGuard<'_, Option<Vec<Waiting>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, Option<Trouble>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for something to be done, also for a while once `stop` is there; `None` where that was not enough.
async fn with_grace<T>(stop: &CancellationToken, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        stop.cancelled().await;
        tokio::time::sleep(END_TIME_MAX).await;
    };
    tokio::select! {
        done = work => Some(done),
        () = over => None,
    }
}
