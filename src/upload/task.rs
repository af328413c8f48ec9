//! One network at work: slot after slot is asked of the almanac, sent, and noted.
//!
//! Owns the task of a network, where it stands, and what is logged of it. Nothing waits for it, and it waits for nobody but
//! the disk and the network.
//!
//! A slot that the network has taken is noted before the next one is sent, so none is sent twice. A crash between the answer
//! and the note is the exception: that slot goes once more, with the same time, which networks take for the same observation.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::error::UploadError;
use super::notes::Notes;
use super::report::UploadReport;
use super::slots::{Next, Slots};
use super::trouble::Trouble;
use super::way::Way;
use crate::almanac::range::Range;
use crate::almanac::{Almanac, Bulletin};
use crate::clock::{CLOCK_SET_MS, Moment, now_ms};
use crate::config::upload::{Network, Upload as Settings};
use crate::ingest::Ingest;
use crate::log::Rate;
use crate::store::{Queue, Reader};
use crate::tasks::{self, Name};
use crate::web;

/// The longest time that is slept at once: the wall clock, which slots go by, may be set meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How long to wait before the database is asked again that does not answer, and a clock that is not set.
const AGAIN: Duration = Duration::from_secs(5);
/// How long a clock is waited for that is not synchronised.
const CLOCK_TIME_MAX: Duration = Duration::from_secs(600);
/// The pause after a slot without readings: there may be a thousand of them.
const SKIP_PAUSE: Duration = Duration::from_millis(20);
/// How long what is under way may take when the hub stops.
const END_TIME_MAX: Duration = Duration::from_millis(700);
/// How often a failure that lasts is told.
const FAILURE_LINE_INTERVAL: Duration = Duration::from_secs(600);
/// Beside the time that every slot waits, as much as this, by chance: many hubs send on the minute.
const SPREAD_MAX: Duration = Duration::from_secs(8);
/// After three intervals, but not before this time, it is an issue that a network takes nothing.
const LATE_MIN: Duration = Duration::from_secs(1_800);

/// What a network's task works with.
#[derive(Debug)]
pub struct Upload {
    name: Arc<str>,
    settings: Settings,
    way: Way,
    slots: Slots,
    almanac: Almanac,
    database: PathBuf,
    queue: Arc<Queue>,
    ingest: Arc<Ingest>,
    started: Instant,
    state: Mutex<State>,
    failure_lines: Rate,
    database_lines: Rate,
}

#[derive(Debug, Default)]
struct State {
    /// Up to when all is settled, Unix seconds; `None` until the database was asked.
    settled_s: Option<i64>,
    /// The end of the last slot that was taken, and when that was.
    last: Option<(i64, i64)>,
    taken_at: Option<Instant>,
    asked_at: Option<Instant>,
    sent: u64,
    failures: u64,
    missed: u64,
    trouble: Option<Trouble>,
}

impl Upload {
    /// Makes the task of a network.
    pub(super) fn new(
        settings: &Settings,
        almanac: Almanac,
        database: PathBuf,
        queue: Arc<Queue>,
        ingest: Arc<Ingest>,
    ) -> Upload {
        let spread = if settings.place.is_loopback() { Duration::ZERO } else { spread(settings.interval) };
        Upload {
            name: settings.name.as_str().into(),
            way: Way::new(settings.clone()),
            slots: Slots::new(settings.interval, phase(settings), settings.age_max, spread),
            settings: settings.clone(),
            almanac,
            database,
            queue,
            ingest,
            started: Instant::now(),
            state: Mutex::default(),
            failure_lines: Rate::new(1, FAILURE_LINE_INTERVAL),
            database_lines: Rate::new(1, FAILURE_LINE_INTERVAL),
        }
    }

    /// Returns how it stands.
    pub(super) fn report(&self) -> UploadReport {
        let state = self.state();
        let taken_at = state.taken_at.unwrap_or(self.started);
        UploadReport {
            name: self.name.to_string(),
            network: self.settings.network.name(),
            sent: state.sent,
            failures: state.failures,
            missed: state.missed,
            waiting: state.settled_s.map_or(0, |settled_s| self.slots.waiting(settled_s, now_ms())),
            last_slot_s: state.last.map(|(end_s, _)| end_s),
            last_sent_ms: state.last.map(|(_, at_ms)| at_ms),
            error: state.trouble.as_ref().map(|trouble| trouble.error.clone()),
            is_refused: state.trouble.as_ref().is_some_and(|trouble| trouble.is_login),
            untaken: taken_at.elapsed(),
            untaken_max: (self.settings.interval * 3).max(LATE_MIN),
        }
    }

    /// Sends slot after slot until `stop`.
    pub(super) async fn run(self: Arc<Upload>, stop: CancellationToken) {
        let mut notes = Notes::new(self.queue.clone());
        while let Some(pause) = with_grace(&stop, self.step(&mut notes)).await {
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Does what is next; returns how long to pause after it.
    async fn step(&self, notes: &mut Notes) -> Duration {
        let settled_s = match self.begin(notes).await {
            Ok(settled_s) => settled_s,
            Err(pause) => return pause,
        };
        let (end_s, missed) = match self.slots.next(settled_s, now_ms()) {
            Next::In(pause) => return pause.min(LOOK_INTERVAL),
            Next::Due { end_s, missed } => (end_s, missed),
        };
        if missed > 0 {
            let mut state = self.state();
            state.missed += missed;
            state.settled_s = Some(self.slots.begin_s(end_s));
        }
        if let Some(pause) = self.pace() {
            return pause.min(LOOK_INTERVAL);
        }
        match self.almanac.bulletin(Range { from_s: self.slots.begin_s(end_s), to_s: end_s }).await {
            Ok(Some(bulletin)) => self.send(&bulletin, notes).await,
            Ok(None) => {
                self.state().settled_s = Some(end_s);
                SKIP_PAUSE
            }
            Err(error) => {
                if self.database_lines.allows() {
                    warn!(upload = %self.name, "the weather cannot be read: {error}; trying again");
                }
                AGAIN
            }
        }
    }

    /// Returns up to when all is settled, once the clock is right and the database has said it; else how long to wait.
    async fn begin(&self, notes: &mut Notes) -> Result<i64, Duration> {
        if !self.is_clock_right() {
            return Err(AGAIN);
        }
        let known = self.state().settled_s;
        let settled_s = match known {
            Some(settled_s) => Some(settled_s),
            None => self.remembered().await?,
        };
        let now_ms = now_ms();
        match settled_s {
            Some(settled_s) if !self.slots.is_ahead(settled_s, now_ms) => {
                self.state().settled_s = Some(settled_s);
                Ok(settled_s)
            }
            other => {
                if other.is_some() {
                    warn!(upload = %self.name, "what the network took last is of the future: the clock was wrong then; beginning anew");
                }
                let newest_s = self.slots.newest_s(now_ms);
                notes.note(&self.name, newest_s).await.map_err(|_| AGAIN)?;
                self.state().settled_s = Some(newest_s);
                Ok(newest_s)
            }
        }
    }

    /// Asks the database up to when the network has taken the weather.
    async fn remembered(&self) -> Result<Option<i64>, Duration> {
        let (database, name) = (self.database.clone(), self.name.clone());
        let read = tasks::blocking(Name::Part("upload"), move || Reader::open(&database)?.upload_sent_s(&name)).await;
        match read {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                if self.database_lines.allows() {
                    warn!(upload = %self.name, "{error}; nothing is sent until that is known");
                }
                Err(AGAIN)
            }
            Err(_) => Err(AGAIN),
        }
    }

    /// Tells whether slots can go by the clock: a machine without a clock chip boots in the past.
    fn is_clock_right(&self) -> bool {
        let moment = Moment::now();
        let is_trusted = self.ingest.trust().untrusted_offset_ms(moment).is_none();
        let waited = self.started.elapsed() >= CLOCK_TIME_MAX || self.settings.place.is_loopback();
        moment.ms >= CLOCK_SET_MS && (is_trusted || waited)
    }

    /// Returns how long the network is not to be asked again yet.
    fn pace(&self) -> Option<Duration> {
        let elapsed = self.state().asked_at?.elapsed();
        self.settings.pause_min.checked_sub(elapsed).filter(|left| !left.is_zero())
    }

    async fn send(&self, bulletin: &Bulletin, notes: &mut Notes) -> Duration {
        let sent = self.way.send(bulletin).await;
        self.state().asked_at = Some(Instant::now());
        match sent {
            Ok(()) => {
                self.taken(bulletin.at_s);
                // Only a store that has ended takes no notes, and the hub with it.
                notes.note(&self.name, bulletin.at_s).await.map_or(AGAIN, |()| Duration::ZERO)
            }
            Err(error) => self.failed(bulletin.at_s, &error),
        }
    }

    fn taken(&self, end_s: i64) {
        let mut state = self.state();
        state.settled_s = Some(end_s);
        state.last = Some((end_s, now_ms()));
        state.taken_at = Some(Instant::now());
        state.sent += 1;
        if let Some(trouble) = state.trouble.take().filter(|trouble| trouble.is_told) {
            let (attempts, seconds) = (trouble.attempts, trouble.since.elapsed().as_secs());
            let waiting = self.slots.waiting(end_s, now_ms());
            info!(upload = %self.name, attempts, seconds, waiting, "the network takes the weather again");
        }
    }

    fn failed(&self, end_s: i64, error: &UploadError) -> Duration {
        let mut state = self.state();
        let state = &mut *state;
        state.failures += 1;
        let trouble = state.trouble.get_or_insert_with(|| Trouble::begin(Instant::now()));
        let follows = trouble.add(error);
        if follows.gives_up {
            state.settled_s = Some(end_s);
            state.missed += 1;
        }
        if follows.is_new_login {
            trouble.is_told = true;
            warn!(
                upload = %self.name,
                "the network does not let the station in: {error}; see what it calls the station and its password, and set \
                 station and password_file of this [[upload]] in hub.toml to that; trying again every 10 min"
            );
        } else if !trouble.is_login && self.failure_lines.allows() {
            trouble.is_told = true;
            warn!(upload = %self.name, attempts = trouble.attempts, "the network does not take the weather: {error}; trying again");
        }
        web::jittered(follows.pause)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns how far after the multiples of the interval the slots of a network end. CWOP asks each station to go by the last
/// digit of its id, and to keep away from the multiples of five minutes (wxqa.com/faq.html).
fn phase(settings: &Settings) -> Duration {
    if settings.network != Network::Cwop {
        return Duration::ZERO;
    }
    let digit = settings.station.chars().rev().find_map(|letter| letter.to_digit(10)).unwrap_or(7);
    let beside_s = if digit % 5 == 0 { 150 } else { 0 };
    Duration::from_secs((u64::from(digit) * 60 + beside_s) % settings.interval.as_secs().max(1))
}

fn spread(interval: Duration) -> Duration {
    let dice = getrandom::u32().unwrap_or(u32::MAX / 2);
    SPREAD_MAX.min(interval / 6).mul_f64(f64::from(dice) / f64::from(u32::MAX))
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
