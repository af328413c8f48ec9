//! Health: is the hub doing what it is for?
//!
//! Owns the gathering of progress stamps (here), the verdicts over them (`checks` and `bridge`, pure) and the statistics
//! line (`statistics`). It never repairs anything: what can be repaired repairs itself, and health tells.

pub mod bridge;
pub mod checks;
pub mod statistics;

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access, statvfs};
use serde::Serialize;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::bridge::{Backlog, BridgeReport, Bridged, Rates};
use self::checks::{Issue, Snapshot, Status, Thresholds};
use self::statistics::{Figures, Statistics};
use crate::bridge::Standing;
use crate::broker::bus::Canary;
use crate::broker::counters::Counters;
use crate::clock::now_ms;
use crate::config;
use crate::ingest::Ingest;
use crate::store::Progress;
use crate::store::{Queue, Reader};
use crate::tasks::{self, Name};

/// How long the canary and a read may take.
const CHECK_TIME_MAX: Duration = Duration::from_secs(2);

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
}

/// The health of the running hub.
pub struct Health {
    watched: Watched,
    thresholds: Thresholds,
    started: Instant,
    rates: Mutex<Rates>,
    found: watch::Sender<Option<Arc<[Issue]>>>,
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
    /// What was counted since the start.
    pub figures: Figures,
    /// The bridge; `None` where nothing goes upstream.
    pub bridge: Option<BridgeReport>,
}

impl Health {
    /// Makes the health of a hub that has just started.
    pub fn new(watched: Watched, settings: &config::Health) -> Health {
        let thresholds =
            Thresholds { write_silence: settings.write_silence, write_failures_max: settings.write_failures_max };
        let started = Instant::now();
        let found = watch::Sender::new(None);
        Health { watched, thresholds, started, rates: Mutex::new(Rates::begin(started)), found }
    }

    /// Returns what is wrong, as of the last look at an interval's end; `None` before the first.
    pub fn issues(&self) -> watch::Receiver<Option<Arc<[Issue]>>> {
        self.found.subscribe()
    }

    /// Checks everything now.
    pub async fn report(&self) -> Report {
        let snapshot = self.snapshot().await;
        let issues = checks::verdict(&snapshot, self.thresholds);
        Report {
            status: checks::status(&issues),
            issues,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs(),
            database: self.watched.database.clone(),
            broker_round_trip_us: snapshot.round_trip.ok().map(micros),
            disk_free_bytes: snapshot.disk_free_bytes,
            figures: self.figures(),
            bridge: snapshot.bridge,
        }
    }

    /// Logs what is wrong every `interval`, and that it is over, and passes it on to who watches.
    pub async fn watch(&self, interval: Duration, stop: CancellationToken) {
        let mut ill_since: Option<Instant> = None;
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            let Some(report) = stop.run_until_cancelled(self.report()).await else { return };
            self.found.send_replace(Some(report.issues.as_slice().into()));
            if !report.issues.is_empty() {
                ill_since.get_or_insert_with(Instant::now);
                let texts: Vec<&str> = report.issues.iter().map(|issue| issue.text.as_str()).collect();
                warn!("Health check issues: {}", texts.join("; "));
            } else if let Some(since) = ill_since.take() {
                info!("Health check: all is well again, after {} s", since.elapsed().as_secs());
            }
        }
    }

    /// Logs a line of statistics every `interval`, and a last one at the end.
    pub async fn count(&self, interval: Duration, stop: CancellationToken) {
        let mut statistics = Statistics::begin(self.figures());
        while stop.run_until_cancelled(tokio::time::sleep(interval)).await.is_some() {
            info!("Statistics: {}", statistics.line(self.figures(), interval));
        }
    }

    /// Logs the last line of statistics: the whole run.
    pub fn final_line(&self) {
        let ran = self.started.elapsed();
        let line = Statistics::begin(Figures::default()).line(self.figures(), ran);
        info!("Final statistics, after {} s: {line}", ran.as_secs());
    }

    /// Returns how many steps the writer has made, and whether it has nothing to do.
    pub fn writer_moves(&self) -> (u64, bool) {
        let Watched { progress, queue, .. } = &self.watched;
        (progress.steps.load(Ordering::Relaxed), queue.jobs() == 0)
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
            lost: queue.shed(),
            time_missing: ingest.time_missing(),
            time_skewed: ingest.time_skewed(),
            commits: progress.commits.load(Ordering::Relaxed),
            commit_us: progress.commit_us.load(Ordering::Relaxed),
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
        }
    }

    async fn snapshot(&self) -> Snapshot {
        let Watched { progress, queue, canary, database, bridge, .. } = &self.watched;
        let path = database.clone();
        let oldest_ms = bridge.as_ref().map(|bridge| bridge.oldest_ms.clone());
        let looked = tasks::blocking(Name::Part("health"), move || {
            let disk = look_at(&path);
            Disk { oldest_ms: oldest_ms.and_then(|read| read()), ..disk }
        });
        let disk = match tokio::time::timeout(CHECK_TIME_MAX, looked).await {
            Ok(Ok(disk)) => disk,
            _ => Disk { readable: Err(format!("no answer within {CHECK_TIME_MAX:?}")), ..Disk::default() },
        };
        let now_ms = now_ms();
        Snapshot {
            now_ms,
            round_trip: canary.round_trip(CHECK_TIME_MAX).await.map_err(|error| error.to_string()),
            writing_since_ms: Some(progress.writing_since_ms.load(Ordering::Relaxed)).filter(|since| *since > 0),
            failures_in_row: progress.failures_in_row.load(Ordering::Relaxed),
            last_error: progress.last_error(),
            degraded: progress.degraded.load(Ordering::Relaxed),
            queue_bytes: queue.bytes(),
            queue_bytes_max: queue.bytes_max(),
            lost: queue.shed(),
            readable: disk.readable,
            directory_writable: disk.directory_writable,
            disk_free_bytes: disk.free_bytes,
            bridge: bridge.as_ref().map(|bridge| self.bridge(bridge, now_ms, disk.oldest_ms)),
        }
    }

    fn bridge(&self, bridge: &Bridged, now_ms: i64, oldest_ms: Option<i64>) -> BridgeReport {
        let (sent, added) = (bridge.state.sent.load(Ordering::Relaxed), (bridge.backlog)().added);
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner).look(Instant::now(), sent, added);
        bridge.report(now_ms, oldest_ms, rates)
    }
}

/// What the disk says of the database.
struct Disk {
    readable: Result<(), String>,
    directory_writable: bool,
    free_bytes: Option<u64>,
    /// When the oldest message that waits for the upstream was received, Unix milliseconds.
    oldest_ms: Option<i64>,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk { readable: Ok(()), directory_writable: true, free_bytes: None, oldest_ms: None }
    }
}

fn look_at(database: &Path) -> Disk {
    let directory = match database.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let readable = Reader::open(database).and_then(|reader| reader.probe());
    Disk {
        readable: readable.map_err(|error| error.to_string()),
        directory_writable: access(directory, Access::WRITE_OK).is_ok(),
        free_bytes: statvfs(directory).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize)),
        oldest_ms: None,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
