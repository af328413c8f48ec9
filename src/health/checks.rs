//! The verdicts: from progress stamps to what is wrong.
//!
//! Owns each check's threshold and its words. Pure: no clock, no I/O.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::backup;
use super::bridge::{self, BridgeReport};
use super::clock::{self, ClockReport};
use super::disk::{self, Sizes};
use super::memory::{self, Memory};
use super::share::{self, Share};
use super::silence::{self, Sources};
use super::{heartbeat, look, upload};
use crate::maintenance::schedule::BackupReport;
use crate::store::RoomReport;
use crate::upload::report::UploadReport;

/// The ids of all checks.
pub const CHECKS: [&str; 19] = [
    "broker.round_trip",
    "store.write",
    "store.heartbeat",
    "store.read",
    "store.corrupt",
    "store.queue",
    "store.disk",
    "store.wal",
    "store.directory",
    "store.backup",
    "ingest.silence",
    "ingest.quarantine",
    "clock.synchronised",
    "clock.step",
    "hub.memory",
    "bridge.connection",
    "bridge.lag",
    "bridge.outbox",
    "upload",
];

/// What was found at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Now, Unix milliseconds.
    pub now_ms: i64,
    /// How long the hub has run.
    pub ran: Duration,
    /// Whether a transaction has committed since the start.
    pub has_written: bool,
    /// How long the canary took through the router, or why it did not come back.
    pub round_trip: Result<Duration, String>,
    /// Since when a batch is being written, Unix milliseconds.
    pub writing_since_ms: Option<i64>,
    /// Failed transactions since the last that committed.
    pub failures_in_row: u32,
    /// The error of the last failed transaction.
    pub last_error: Option<String>,
    /// Whether the store is degraded.
    pub degraded: bool,
    /// Bytes in the queue.
    pub queue_bytes: usize,
    /// The queue's bound, bytes.
    pub queue_bytes_max: usize,
    /// Readings lost since the start, for want of room in the queue.
    pub lost: u64,
    /// Whether the database can be read.
    pub readable: Result<(), String>,
    /// The event of a damaged database that nobody has acknowledged: its number, and what happened.
    pub corruption: Option<(i64, String)>,
    /// Whether the database's directory can be written.
    pub directory_writable: bool,
    /// How long ago the last heartbeat was written.
    pub heartbeat_age: Duration,
    /// The free space, the database and its log.
    pub sizes: Sizes,
    /// When the disk will be full; `None` where that is not known, or never.
    pub full_in: Option<Duration>,
    /// What the writer does about a full disk.
    pub room: RoomReport,
    /// The programs that have the database open, where its log is too large.
    pub holders: Vec<String>,
    /// What came in lately.
    pub share: Share,
    /// The sources of readings.
    pub sources: Sources,
    /// The wall clock.
    pub clock: ClockReport,
    /// The hub's memory.
    pub memory: Memory,
    /// The bridge, where there is one.
    pub bridge: Option<BridgeReport>,
    /// The backups, where the hub makes them by itself.
    pub backup: Option<BackupReport>,
    /// The weather networks.
    pub uploads: Vec<UploadReport>,
}

/// What the configuration says about health.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// How long a batch may wait for its commit.
    pub write_silence: Duration,
    /// Failed transactions in a row that are too many.
    pub write_failures_max: u32,
    /// How old the last heartbeat may be.
    pub heartbeat_age_max: Duration,
    /// Free space that is too little, bytes.
    pub disk_free_bytes_min: u64,
    /// A write-ahead log that is too large, bytes.
    pub wal_bytes_max: u64,
    /// Memory of the hub that is too much, bytes.
    pub memory_bytes_max: Option<u64>,
}

/// How bad an issue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The hub does not do what it is for.
    Failing,
    /// The hub works, and somebody should look.
    Degraded,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Issue {
    /// The check, e.g. `store.write`.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do, for a person.
    pub text: String,
}

/// What is wrong with one thing that can be well or ill by itself: a check, or of the silence of sources, one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// What it is about: the check's id, for a source `ingest.silence/SOURCE`.
    pub subject: Arc<str>,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to do, for a person.
    pub text: String,
}

/// What was found at one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// What is wrong.
    pub found: Vec<Finding>,
    /// Of what it cannot be said yet whether it is: a check that needs time after the start.
    unsure: Vec<Arc<str>>,
}

impl Findings {
    /// Tells whether nothing can be said of a subject that was not found.
    pub fn is_unsure(&self, subject: &str) -> bool {
        self.unsure.iter().any(|unsure| **unsure == *subject)
    }
}

/// Takes the verdict apart into what is told for itself.
pub fn findings(snapshot: &Snapshot, issues: &[Issue]) -> Findings {
    let (silence, others): (Vec<&Issue>, Vec<&Issue>) = issues.iter().partition(|issue| issue.id == "ingest.silence");
    let finding = |check, subject, severity, text| Finding { check, subject, severity, text };
    let of_sources = silence.into_iter().flat_map(|issue| {
        silence::each(&snapshot.sources.silent)
            .map(move |(subject, text)| finding(issue.id, subject, issue.severity, text))
    });
    let of_checks =
        others.into_iter().map(|issue| finding(issue.id, issue.id.into(), issue.severity, issue.text.clone()));
    Findings { found: of_checks.chain(of_sources).collect(), unsure: unsure(snapshot) }
}

/// Returns of what nothing can be said yet: what was wrong before a restart is not over because of it.
fn unsure(snapshot: &Snapshot) -> Vec<Arc<str>> {
    let away = snapshot.bridge.as_ref().is_some_and(|bridge| !bridge.standing.connected);
    let checks = [
        (!snapshot.has_written, &["store.write", "store.heartbeat"][..]),
        (snapshot.full_in.is_none() && snapshot.ran < disk::GROWTH_TIME_MIN, &["store.disk"]),
        (snapshot.ran < share::TIME_MIN, &["ingest.quarantine"]),
        (snapshot.clock.synchronised == Some(false), &["clock.synchronised"]),
        (away, &["bridge.connection", "bridge.lag"]),
    ];
    let checks = checks.into_iter().filter(|(is_unsure, _)| *is_unsure).flat_map(|(_, ids)| ids);
    let awaited = snapshot.sources.awaited.iter().map(|source| silence::subject(source));
    checks.map(|id| Arc::from(*id)).chain(awaited).collect()
}

/// The verdict in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing is wrong.
    Ok,
    /// Something is, and the hub works.
    Degraded,
    /// The hub does not do what it is for.
    Failing,
}

impl Status {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Failing => "failing",
        }
    }
}

/// Returns the verdict over issues.
pub fn status(issues: &[Issue]) -> Status {
    match issues.iter().map(|issue| issue.severity).min() {
        None => Status::Ok,
        Some(Severity::Degraded) => Status::Degraded,
        Some(Severity::Failing) => Status::Failing,
    }
}

/// Returns what is wrong, worst first.
pub fn verdict(snapshot: &Snapshot, thresholds: Thresholds) -> Vec<Issue> {
    let checks = [
        broker(snapshot),
        // Where writing is at fault, the heartbeat says nothing new.
        write(snapshot, thresholds)
            .or_else(|| heartbeat::verdict(snapshot.heartbeat_age, thresholds.heartbeat_age_max)),
        read(snapshot),
        corrupt(snapshot),
        queue(snapshot),
        disk::space(snapshot.sizes, snapshot.full_in, thresholds.disk_free_bytes_min, snapshot.room),
        disk::wal(snapshot.sizes, thresholds.wal_bytes_max, &snapshot.holders),
        directory(snapshot),
        backup::verdict(snapshot.backup.as_ref()),
        upload::verdict(&snapshot.uploads),
        silence::verdict(&snapshot.sources.silent),
        share::verdict(snapshot.share),
        memory::verdict(snapshot.memory, thresholds.memory_bytes_max),
    ];
    let of_the_bridge = snapshot.bridge.iter().flat_map(|bridge| bridge::verdict(bridge, snapshot.now_ms));
    let of_the_clock = clock::verdict(snapshot.clock);
    let mut issues: Vec<Issue> = checks.into_iter().flatten().chain(of_the_clock).chain(of_the_bridge).collect();
    issues.sort_by_key(|issue| issue.severity);
    issues
}

fn broker(snapshot: &Snapshot) -> Option<Issue> {
    let error = snapshot.round_trip.as_ref().err()?;
    let text = format!(
        "the broker does not answer: {error}; sensors are not served; see the log, and restart the hub if it stays so"
    );
    Some(Issue { id: "broker.round_trip", severity: Severity::Failing, text })
}

fn write(snapshot: &Snapshot, thresholds: Thresholds) -> Option<Issue> {
    let error = snapshot.last_error.as_deref().unwrap_or("no error is known");
    let waiting_ms = snapshot.writing_since_ms.map_or(0, |since| snapshot.now_ms.saturating_sub(since));
    let waiting = u64::try_from(waiting_ms).map_or(Duration::ZERO, Duration::from_millis);
    let silent = waiting >= thresholds.write_silence;
    // A call that hangs is no failure yet: it is told in time for its end to be one.
    if snapshot.failures_in_row == 0 && waiting < thresholds.write_silence / 2 {
        return None;
    }
    let lasting = silent || snapshot.degraded || snapshot.failures_in_row >= thresholds.write_failures_max;
    Some(Issue {
        id: "store.write",
        severity: if lasting { Severity::Failing } else { Severity::Degraded },
        text: format!(
            "the database has not been written for {} s ({} failures in a row: {error}); readings are kept and tried again; see \
             which program has it locked, and whether its disk is there and has room",
            waiting_ms / 1000,
            snapshot.failures_in_row,
        ),
    })
}

fn read(snapshot: &Snapshot) -> Option<Issue> {
    let error = snapshot.readable.as_ref().err()?;
    let text = format!(
        "the database cannot be read by another connection within {} s: {error}; see whether the file is at its place, who may \
         read it, and whether the disk answers",
        look::READ_TIME_MAX.as_secs()
    );
    Some(Issue { id: "store.read", severity: Severity::Degraded, text })
}

fn corrupt(snapshot: &Snapshot) -> Option<Issue> {
    let (id, text) = snapshot.corruption.as_ref()?;
    Some(Issue {
        id: "store.corrupt",
        severity: Severity::Degraded,
        text: format!(
            "{text}; look after the disk, it may be failing, and say that you know with `stationhub events ack {id}`"
        ),
    })
}

fn queue(snapshot: &Snapshot) -> Option<Issue> {
    let percent = snapshot.queue_bytes.saturating_mul(100) / snapshot.queue_bytes_max.max(1);
    (percent >= 50).then(|| Issue {
        id: "store.queue",
        severity: if percent >= 90 { Severity::Failing } else { Severity::Degraded },
        text: format!(
            "the queue to the database is {percent} % full, {} readings without QoS are lost so far; \
             see why the database is not written",
            snapshot.lost
        ),
    })
}

fn directory(snapshot: &Snapshot) -> Option<Issue> {
    (!snapshot.directory_writable).then(|| Issue {
        id: "store.directory",
        severity: Severity::Degraded,
        text: "the database's directory cannot be written: SQLite needs it to open the database again; \
               check its owner and rights, and whether the disk was mounted read-only after an error"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLDS: Thresholds = Thresholds {
        write_silence: Duration::from_secs(60),
        write_failures_max: 10,
        heartbeat_age_max: Duration::from_secs(180),
        disk_free_bytes_min: 1 << 26,
        wal_bytes_max: 1 << 26,
        memory_bytes_max: Some(1 << 28),
    };

    fn well() -> Snapshot {
        Snapshot {
            now_ms: 1_000_000,
            ran: Duration::from_secs(7_200),
            has_written: true,
            round_trip: Ok(Duration::from_micros(50)),
            writing_since_ms: None,
            failures_in_row: 0,
            last_error: None,
            degraded: false,
            queue_bytes: 0,
            queue_bytes_max: 100,
            lost: 0,
            readable: Ok(()),
            corruption: None,
            directory_writable: true,
            heartbeat_age: Duration::from_secs(70),
            sizes: Sizes { free: Some(1 << 40), database: 1 << 30, wal: 1 << 22 },
            full_in: None,
            room: RoomReport::default(),
            holders: Vec::new(),
            share: Share { readings: 24, quarantined: 0 },
            sources: Sources::default(),
            clock: ClockReport::default(),
            memory: Memory { resident_bytes: Some(1 << 24), bound_bytes: None },
            bridge: None,
            backup: None,
            uploads: Vec::new(),
        }
    }

    fn found(snapshot: &Snapshot) -> Vec<(&'static str, Severity)> {
        verdict(snapshot, THRESHOLDS).into_iter().map(|issue| (issue.id, issue.severity)).collect()
    }

    #[test]
    fn a_hub_without_readings_is_well() {
        assert_eq!(found(&well()), []);
        assert_eq!(status(&[]), Status::Ok);
    }

    #[test]
    fn a_check_that_needs_time_after_the_start_does_not_say_that_all_is_well() {
        let sources = Sources { awaited: vec!["garden".to_owned()], ..Sources::default() };
        let start = Snapshot { ran: Duration::from_secs(1), has_written: false, sources, ..well() };
        let findings = findings(&start, &[]);
        for subject in ["store.write", "store.disk", "ingest.quarantine", "ingest.silence/garden"] {
            assert!(findings.is_unsure(subject), "{subject}");
        }
        assert!(!findings.is_unsure("broker.round_trip") && !findings.is_unsure("ingest.silence/attic"));
        assert_eq!(super::findings(&well(), &[]), Findings::default());
    }

    #[test]
    fn each_fault_has_its_issue() {
        use Severity::{Degraded, Failing};
        let mut away = bridge::tests::well();
        (away.standing.connected, away.backlog.bytes) = (false, 1_000);
        let issues = found(&Snapshot { bridge: Some(away), ..well() });
        assert_eq!(issues, [("bridge.connection", Degraded), ("bridge.outbox", Degraded)]);
        let sizes = well().sizes;
        let unsynchronised =
            ClockReport { unsynchronised_for: Some(Duration::from_secs(300)), ..ClockReport::default() };
        let set = ClockReport { stepped_ms: Some(7_000), ..ClockReport::default() };
        let huge = Memory { resident_bytes: Some(1 << 28), bound_bytes: None };
        let cases: [(Snapshot, &str, Severity); 16] = [
            (Snapshot { round_trip: Err("silent".into()), ..well() }, "broker.round_trip", Failing),
            (Snapshot { failures_in_row: 1, ..well() }, "store.write", Degraded),
            (Snapshot { failures_in_row: 10, ..well() }, "store.write", Failing),
            (Snapshot { writing_since_ms: Some(970_000), ..well() }, "store.write", Degraded),
            (Snapshot { writing_since_ms: Some(940_000), ..well() }, "store.write", Failing),
            (Snapshot { readable: Err("gone".into()), ..well() }, "store.read", Degraded),
            (Snapshot { queue_bytes: 50, ..well() }, "store.queue", Degraded),
            (Snapshot { queue_bytes: 90, ..well() }, "store.queue", Failing),
            (Snapshot { heartbeat_age: Duration::from_secs(180), ..well() }, "store.heartbeat", Failing),
            (Snapshot { sizes: Sizes { free: Some(1000), ..sizes }, ..well() }, "store.disk", Degraded),
            (Snapshot { sizes: Sizes { wal: 1 << 26, ..sizes }, ..well() }, "store.wal", Degraded),
            (Snapshot { share: Share { readings: 0, quarantined: 12 }, ..well() }, "ingest.quarantine", Degraded),
            (Snapshot { clock: unsynchronised, ..well() }, "clock.synchronised", Degraded),
            (Snapshot { clock: set, ..well() }, "clock.step", Degraded),
            (Snapshot { memory: huge, ..well() }, "hub.memory", Degraded),
            (Snapshot { directory_writable: false, ..well() }, "store.directory", Degraded),
        ];
        for (snapshot, id, severity) in cases {
            assert_eq!(found(&snapshot), [(id, severity)]);
            assert!(CHECKS.contains(&id), "{id}");
        }
        assert_eq!(found(&Snapshot { writing_since_ms: Some(970_001), ..well() }), [], "29.999 s");
    }

    #[test]
    fn the_worst_comes_first_and_decides() {
        let snapshot = Snapshot { directory_writable: false, round_trip: Err("silent".into()), ..well() };
        let issues = verdict(&snapshot, THRESHOLDS);
        assert_eq!(issues.iter().map(|issue| issue.id).collect::<Vec<_>>(), ["broker.round_trip", "store.directory"]);
        assert_eq!(status(&issues), Status::Failing);
    }
}
