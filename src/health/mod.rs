//! Health: is the hub doing what it is for?
//!
//! Owns the gathering of progress stamps (here, and `look` for what the machine says), the verdicts over them (`checks` and
//! those beside it, pure), the heartbeat's timer and the statistics line (`statistics`). It never repairs anything: what can
//! be repaired repairs itself, and health tells.
//!
//! A look costs a message through the router and a fresh connection to the database. So those who ask at once are answered
//! from one look, and so are those who ask within half a second; what is merely counted is always fresh.

mod backup;
pub mod bridge;
pub mod checks;
pub mod clock;
pub mod disk;
mod heartbeat;
mod ledger;
mod look;
pub mod memory;
pub mod share;
pub mod silence;
pub mod statistics;
mod telling;
pub(crate) mod upload;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::bridge::{Backlog, BridgeReport, Bridged, Rates};
use self::checks::{Findings, Issue, Snapshot, Status, Thresholds};
use self::clock::ClockWatch;
use self::disk::{Growth, Warned};
use self::look::{Seen, TimeService};
use self::memory::Memory;
use self::share::{Share, Window};
use self::silence::{SourceReport, Sources};
use self::statistics::{Figures, Statistics};
use self::telling::{Said, Telling};
use crate::bridge::Standing;
use crate::broker::bus::Canary;
use crate::broker::counters::Counters;
use crate::clock::Moment;
use crate::config::{self, SourceSilence};
use crate::histogram::Counted;
use crate::ingest::Ingest;
use crate::maintenance::schedule::{BackupReport, Schedule};
use crate::store::{Progress, Queue, RoomReport, WearReport};
use crate::tasks::{self, Name};
use crate::upload::Uploads;
use crate::upload::report::UploadReport;

/// How long the canary, and a look at the machine, may take.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);
/// How long a look answers those who ask.
const LOOK_AGE_MAX: Duration = Duration::from_millis(500);
/// How often everything is looked at, at the least: a fault is to be told within a minute.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// How soon it is looked at the sources again, at the earliest.
const SILENCE_LOOK_INTERVAL_MIN: Duration = Duration::from_millis(250);

/// Asks whether the machine's clock is synchronised; `None` where the system does not say.
pub fn is_clock_synchronised() -> Option<bool> {
    TimeService::new(LOOK_INTERVAL_MAX).synchronised()
}

/// What health looks at.
pub struct Watched {
    /// What the writer has done.
    pub progress: Arc<Progress>,
    /// The queue in front of it.
    pub queue: Arc<Queue>,
    /// What the broker has done.
    pub counters: Arc<Counters>,
    /// What the ingest has noted.
    pub ingest: Arc<Ingest>,
    /// The way through the router.
    pub canary: Canary,
    /// The database.
    pub database: PathBuf,
    /// The bridge, where there is one.
    pub bridge: Option<Bridged>,
    /// The backups, where the hub makes them by itself.
    pub backups: Option<Arc<Schedule>>,
    /// The weather networks.
    pub uploads: Arc<Uploads>,
}

/// The health of the running hub.
pub struct Health {
    watched: Watched,
    thresholds: Thresholds,
    sources: Vec<SourceSilence>,
    degraded_is_503: bool,
    started: Instant,
    past: Mutex<Past>,
    last: tokio::sync::Mutex<Option<(Instant, Arc<Snapshot>)>>,
    /// Held while a look at the machine is under way, however long the disk makes it wait: there is never a second one.
    machine: Arc<tokio::sync::Mutex<TimeService>>,
    found: watch::Sender<Option<Arc<Findings>>>,
}

/// What is remembered of earlier looks.
struct Past {
    rates: Rates,
    growth: Growth,
    clock: ClockWatch,
    window: Window,
    /// What the machine said last.
    seen: Option<Seen>,
}

/// What `status` and `/healthz` answer.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The verdict.
    pub status: Status,
    /// What is wrong, worst first.
    pub issues: Vec<Issue>,
    /// The version of the hub.
    pub version: &'static str,
    /// Its process id.
    pub pid: u32,
    /// Since how long it runs, seconds.
    pub uptime_s: u64,
    /// The database.
    pub database: PathBuf,
    /// How long the canary took through the router, microseconds.
    pub broker_round_trip_us: Option<u64>,
    /// Free space where the database is, bytes; `None` where it is unknown.
    pub disk_free_bytes: Option<u64>,
    /// When it will be used up, seconds; `None` where that is not known yet, or nothing grows.
    pub disk_full_in_s: Option<u64>,
    /// What the writer does about a full disk.
    pub room: RoomReport,
    /// What was written to the disk.
    pub written: WearReport,
    /// The size of the database, bytes.
    pub database_bytes: u64,
    /// The size of its write-ahead log, bytes.
    pub wal_bytes: u64,
    /// How long ago the hub's own heartbeat was committed, seconds.
    pub heartbeat_age_s: u64,
    /// Whether the clock is synchronised; `None` where the system does not say.
    pub clock_synchronised: Option<bool>,
    /// The hub's memory.
    pub memory: Memory,
    /// How many sources of readings are known.
    pub sources_known: usize,
    /// The sources, those heard last first, as far as they are listed.
    pub sources: Vec<SourceReport>,
    /// What was counted since the start.
    pub figures: Figures,
    /// The bridge; `None` where nothing goes upstream.
    pub bridge: Option<BridgeReport>,
    /// The backups; `None` where the hub makes none by itself.
    pub backup: Option<BackupReport>,
    /// The weather networks that get the station's weather.
    pub uploads: Vec<UploadReport>,
    /// Times in buckets, for the metrics.
    #[serde(skip)]
    pub times: Times,
}

/// Times in buckets, since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// From the arrival of a reading at QoS 1 or 2 to its ack.
    pub ack: Counted,
    /// Of transactions that committed.
    pub commit: Counted,
}

impl Health {
    /// Makes the health of a hub that has just started.
    pub fn new(watched: Watched, settings: &config::Health) -> Health {
        let interval = settings.interval;
        let thresholds = Thresholds {
            write_silence: settings.write_silence,
            write_failures_max: settings.write_failures_max,
            // It comes every interval, and waits for company for up to half of one.
            heartbeat_age_max: interval * 2 + settings.write_silence,
            disk_free_bytes_min: settings.disk_free_bytes_min,
            wal_bytes_max: settings.wal_bytes_max,
            memory_bytes_max: settings.memory_bytes_max,
        };
        if let Some(said) = TimeService::at_once() {
            watched.ingest.trust().note(Some(said));
        }
        let start = Moment::now();
        let past = Past {
            rates: Rates::begin(start.at),
            growth: Growth::default(),
            clock: ClockWatch::begin(start, interval),
            window: Window::begin(start.at, interval),
            seen: None,
        };
        Health {
            watched,
            thresholds,
            sources: settings.sources.clone(),
            degraded_is_503: settings.degraded_is_503,
            started: start.at,
            past: Mutex::new(past),
            last: tokio::sync::Mutex::default(),
            machine: Arc::new(tokio::sync::Mutex::new(TimeService::new(interval))),
            found: watch::Sender::new(None),
        }
    }

    /// Returns what is wrong, as of the last look of [`watch`](Health::watch); `None` before the first.
    pub fn findings(&self) -> watch::Receiver<Option<Arc<Findings>>> {
        self.found.subscribe()
    }

    /// Tells whether a verdict means that the hub is not to be relied on, for those who ask by HTTP.
    pub fn is_unavailable(&self, status: Status) -> bool {
        match status {
            Status::Ok => false,
            Status::Degraded => self.degraded_is_503,
            Status::Failing => true,
        }
    }

    /// Returns how the hub is, by a look that is at most half a second old; what is merely counted is as it is now.
    pub async fn report(&self) -> Report {
        let snapshot = &*self.snapshot(LOOK_AGE_MAX).await;
        let bridge = self.watched.bridge.as_ref().zip(snapshot.bridge.clone());
        let issues = checks::verdict(snapshot, self.thresholds);
        Report {
            status: checks::status(&issues),
            issues,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            database: self.watched.database.clone(),
            broker_round_trip_us: snapshot.round_trip.as_ref().ok().copied().map(micros),
            disk_free_bytes: snapshot.sizes.free,
            disk_full_in_s: snapshot.full_in.map(|time| time.as_secs()),
            room: self.watched.progress.room.report(),
            written: self.watched.progress.wear.report(),
            database_bytes: snapshot.sizes.database,
            wal_bytes: snapshot.sizes.wal,
            heartbeat_age_s: snapshot.heartbeat_age.as_secs(),
            clock_synchronised: snapshot.clock.synchronised,
            memory: snapshot.memory,
            sources_known: snapshot.sources.count,
            sources: snapshot.sources.listed.clone(),
            figures: self.figures(),
            bridge: bridge.map(|(bridge, seen)| bridge.counted_anew(seen)),
            backup: snapshot.backup.clone(),
            uploads: self.watched.uploads.report(),
            times: Times {
                ack: self.watched.counters.ack_latency.counted(),
                commit: self.watched.progress.commit_time.counted(),
            },
        }
    }

    /// Looks at everything every 10 s, or every `interval` where that is shorter, and as soon as a source falls
    /// silent. Logs what is wrong when it begins and every `interval` while it lasts, and what is over.
    pub async fn watch(&self, interval: Duration, stop: CancellationToken) {
        let mut telling = Telling::begin(interval);
        let mut warned = Warned::default();
        let mut silent = 0;
        // Whether the clock is to be trusted has to be known before readings come.
        if stop.run_until_cancelled(self.snapshot(Duration::ZERO)).await.is_none() {
            return;
        }
        let pause = interval.min(LOOK_INTERVAL_MAX);
        while stop.run_until_cancelled(self.next_look(pause, silent)).await.is_some() {
            let Some(snapshot) = stop.run_until_cancelled(self.snapshot(Duration::ZERO)).await else { return };
            silent = snapshot.sources.silent.len();
            let issues = checks::verdict(&snapshot, self.thresholds);
            self.found.send_replace(Some(Arc::new(checks::findings(&snapshot, &issues))));
            if let Some(event) = warned.look(&issues) {
                self.watched.progress.journal.note("store.disk", event);
            }
            let names = snapshot.sources.silent.iter().map(|silent| silent.name().to_owned()).collect();
            match telling.look(Instant::now(), &issues, names) {
                Said::Nothing => {}
                Said::Issues => {
                    let texts: Vec<&str> = issues.iter().map(|issue| issue.text.as_str()).collect();
                    warn!("Health check issues: {}", texts.join("; "));
                }
                Said::Over(over) => info!("Health check: {} is over; other issues are not", over.join(", ")),
                Said::Well(after) => info!("Health check: all is well again, after {} s", after.as_secs()),
            }
        }
    }

    /// Logs a line of statistics every `interval`, and a last one at the end.
    pub async fn count(&self, interval: Duration, stop: CancellationToken) {
        let mut statistics = Statistics::begin(self.figures());
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let last_hour = self.last_hour().await;
            info!("Statistics: {}{last_hour}", statistics.line(self.figures(), interval));
        }
    }

    /// Logs the last line of statistics: the whole run.
    pub fn final_line(&self) {
        let ran = self.started.elapsed();
        let line = Statistics::begin(Figures::default()).line(self.figures(), ran);
        info!("Final statistics, after {} s: {line}", ran.as_secs());
    }

    /// Returns how many steps the writer has made, and whether it has nothing to do. What its thread writes within one call to
    /// the database are steps, too: to move a large log into the database takes a slow disk minutes.
    pub fn writer_moves(&self) -> (u64, bool) {
        let Watched { progress, queue, .. } = &self.watched;
        let writes = look::writes_of_thread(progress.thread.load(Ordering::Relaxed));
        (progress.steps.load(Ordering::Relaxed) + writes, queue.is_idle())
    }

    /// Tells whether the database has been open since the start; if not, why.
    pub fn store_was_open(&self) -> Result<(), Option<String>> {
        let progress = &self.watched.progress;
        if progress.was_open.load(Ordering::Relaxed) { Ok(()) } else { Err(progress.last_error()) }
    }

    /// Sends a message round through the router; tells whether it came back within `deadline`.
    pub async fn call_router(&self, deadline: Duration) -> bool {
        self.watched.canary.round_trip(deadline).await.is_ok()
    }

    /// Returns what was counted since the start, and what is there now.
    pub fn figures(&self) -> Figures {
        let Watched { progress, queue, counters, ingest, canary, bridge, .. } = &self.watched;
        let upstream = bridge.as_ref().map(|bridge| (bridge.state.standing(), (bridge.backlog)()));
        let of_bridge = |count: fn(&Standing) -> u64| upstream.as_ref().map_or(0, |(standing, _)| count(standing));
        let of_outbox = |count: fn(&Backlog) -> u64| upstream.as_ref().map_or(0, |(_, backlog)| count(backlog));
        Figures {
            readings: progress.readings.load(Ordering::Relaxed),
            quarantined: progress.quarantined.load(Ordering::Relaxed),
            duplicates: progress.duplicates.load(Ordering::Relaxed),
            repeats: progress.repeats.load(Ordering::Relaxed),
            lost: queue.shed(),
            time_missing: ingest.time_missing(),
            time_skewed: ingest.time_skewed(),
            commits: progress.commits.load(Ordering::Relaxed),
            commit_us: progress.commit_time.counted().sum_us,
            write_failures: progress.failures.load(Ordering::Relaxed),
            last_commit_ms: progress.last_commit_ms.load(Ordering::Relaxed),
            queue_jobs: queue.jobs() as u64,
            queue_bytes: queue.bytes() as u64,
            queue_bytes_peak: queue.bytes_peak() as u64,
            clients: counters.connected.load(Ordering::Relaxed),
            sessions: counters.sessions.load(Ordering::Relaxed),
            connections: counters.accepted.load(Ordering::Relaxed),
            connections_refused: counters.refused.load(Ordering::Relaxed),
            violations: counters.violations.load(Ordering::Relaxed),
            logins_refused: counters.logins_refused.load(Ordering::Relaxed),
            denied: counters.denied.load(Ordering::Relaxed),
            received: counters.received.load(Ordering::Relaxed),
            delivered: counters.delivered.load(Ordering::Relaxed),
            dropped: counters.dropped.load(Ordering::Relaxed),
            router_lost: canary.router_lost(),
            queued_bytes: counters.queued_bytes.load(Ordering::Relaxed),
            forwarded: of_bridge(|standing| standing.sent),
            forwarded_again: of_bridge(|standing| standing.repeated),
            refused_upstream: of_bridge(|standing| standing.refused),
            from_upstream: of_bridge(|standing| standing.received),
            from_upstream_denied: of_bridge(|standing| standing.denied),
            came_round: ingest.came_round(),
            too_large_to_forward: ingest.too_large_to_forward(),
            outbox_lost: of_outbox(|backlog| backlog.dropped),
            outbox_messages: of_outbox(|backlog| backlog.messages),
            disk_written_bytes: progress.wear.report().since_start_bytes.unwrap_or_default(),
        }
    }

    /// Waits for `pause`, or until more than `silent` sources have been silent for too long.
    async fn next_look(&self, pause: Duration, mut silent: usize) {
        let end = tokio::time::Instant::now() + pause;
        loop {
            let sources = self.look_at_sources();
            if sources.silent.len() > silent {
                return;
            }
            silent = sources.silent.len();
            let next = sources.next_in.unwrap_or(pause).max(SILENCE_LOOK_INTERVAL_MIN);
            tokio::time::sleep_until(end.min(tokio::time::Instant::now() + next)).await;
            if tokio::time::Instant::now() >= end {
                return;
            }
        }
    }

    fn look_at_sources(&self) -> Sources {
        let heard = self.watched.ingest.sources().heard(Instant::now());
        silence::look(heard, &self.sources, self.started.elapsed())
    }

    /// Returns a look that is at most `age_max` old: whoever asks while one is under way waits for that.
    async fn snapshot(&self, age_max: Duration) -> Arc<Snapshot> {
        let mut last = self.last.lock().await;
        if let Some((at, snapshot)) = &*last
            && at.elapsed() < age_max
        {
            return snapshot.clone();
        }
        let snapshot = Arc::new(self.look().await);
        *last = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// Looks at the machine, for as long as it may take.
    async fn look_at_machine(&self) -> Seen {
        // What cannot be looked at is as it was.
        let too_long = || {
            let before = self.past().seen.clone().unwrap_or_default();
            before.unreadable(format!("no answer within {CHECK_TIME_MAX:?}"))
        };
        let Ok(mut time_service) = self.machine.clone().try_lock_owned() else { return too_long() };
        let (path, wal_bytes_max) = (self.watched.database.clone(), self.thresholds.wal_bytes_max);
        let oldest_ms = self.watched.bridge.as_ref().map(|bridge| bridge.oldest_ms.clone());
        let ingest = self.watched.ingest.clone();
        let looked = tasks::blocking(Name::Part("health"), move || {
            let seen = look::look_at(&path, wal_bytes_max);
            let synchronised = time_service.synchronised();
            ingest.trust().note(synchronised);
            Seen { oldest_ms: oldest_ms.and_then(|read| read()), synchronised, ..seen }
        });
        match tokio::time::timeout(CHECK_TIME_MAX, looked).await {
            Ok(Ok(seen)) => self.past().seen.insert(seen).clone(),
            _ => too_long(),
        }
    }

    async fn look(&self) -> Snapshot {
        let Watched { progress, queue, canary, bridge, .. } = &self.watched;
        let seen = self.look_at_machine().await;
        if seen.is_damaged {
            progress.doubts.ask();
        }
        let now = Moment::now();
        let share = Share {
            readings: progress.readings.load(Ordering::Relaxed),
            quarantined: progress.quarantined.load(Ordering::Relaxed),
        };
        let (full_in, clock, share) = {
            let mut past = self.past();
            let full_in = past.growth.look(now.at, seen.sizes);
            (full_in, past.clock.look(now, seen.synchronised), past.window.look(now.at, share))
        };
        if let Some(step_ms) = clock.just_stepped_ms {
            progress.journal.note("clock.step", clock::step_in_words(step_ms));
            progress.heartbeat.set_right();
        }
        Snapshot {
            now_ms: now.ms,
            ran: self.started.elapsed(),
            has_written: progress.commits.load(Ordering::Relaxed) > 0,
            round_trip: canary.round_trip(CHECK_TIME_MAX).await.map_err(|error| error.to_string()),
            writing_since_ms: Some(progress.writing_since_ms.load(Ordering::Relaxed)).filter(|since| *since > 0),
            failures_in_row: progress.failures_in_row.load(Ordering::Relaxed),
            last_error: progress.last_error(),
            degraded: progress.degraded.load(Ordering::Relaxed),
            queue_bytes: queue.bytes(),
            queue_bytes_max: queue.bytes_max(),
            lost: queue.shed(),
            readable: seen.readable,
            corruption: progress.journal.corruption().map(|event| (event.id, event.text)),
            directory_writable: seen.directory_writable,
            heartbeat_age: progress.heartbeat.age(),
            sizes: seen.sizes,
            full_in,
            room: progress.room.report(),
            holders: seen.holders,
            share,
            sources: self.look_at_sources(),
            clock,
            memory: seen.memory,
            bridge: bridge.as_ref().map(|bridge| self.bridge(bridge, now.ms, seen.oldest_ms)),
            backup: self.watched.backups.as_ref().map(|backups| backups.report()),
            uploads: self.watched.uploads.report(),
        }
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bridge(&self, bridge: &Bridged, now_ms: i64, oldest_ms: Option<i64>) -> BridgeReport {
        let (sent, added) = (bridge.state.sent.load(Ordering::Relaxed), (bridge.backlog)().added);
        let rates = self.past().rates.look(Instant::now(), sent, added);
        bridge.report(now_ms, oldest_ms, rates)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
