//! The disk's health: what is free, when it will be full, and the write-ahead log.
//!
//! Owns these checks' words and the measuring of growth. Pure: sizes are given, and so is the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::bridge::{size, span};
use super::checks::{Issue, Severity};
use crate::store::{RoomReport, Stage};

/// Growth is measured over this time at least, and at most.
pub(super) const GROWTH_TIME_MIN: Duration = Duration::from_secs(3_600);
const GROWTH_TIME_MAX: Duration = Duration::from_secs(24 * 3_600);
/// How often a size is noted for it.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(600);
/// A disk that will be full within this time is told.
const FULL_SOON: Duration = Duration::from_secs(7 * 24 * 3_600);

/// The sizes at one moment, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Free space where the database is; `None` where it is unknown.
    pub free: Option<u64>,
    /// The database.
    pub database: u64,
    /// Its write-ahead log.
    pub wal: u64,
}

/// Measures how fast the disk fills.
#[derive(Debug, Default)]
pub(super) struct Growth {
    samples: VecDeque<(Instant, Sizes)>,
}

impl Growth {
    /// Notes the sizes of a moment; returns how long it takes until the disk is full, `None` where that is not known yet, or
    /// nothing grows.
    pub(super) fn look(&mut self, at: Instant, now: Sizes) -> Option<Duration> {
        // What could not be looked at has not shrunk.
        let free = now.free?;
        if self.samples.back().is_none_or(|(last, _)| at.saturating_duration_since(*last) >= SAMPLE_INTERVAL) {
            self.samples.push_back((at, now));
        }
        // The oldest is the last one that is old enough: growth of the last day, not of all time.
        while self.samples.get(1).is_some_and(|(second, _)| at.saturating_duration_since(*second) >= GROWTH_TIME_MAX) {
            self.samples.pop_front();
        }
        let (since, then) = self.samples.front()?;
        let time = at.saturating_duration_since(*since);
        if time < GROWTH_TIME_MIN {
            return None;
        }
        let was_free = then.free?;
        let written = (now.database + now.wal).saturating_sub(then.database + then.wal);
        let grown = written.max(was_free.saturating_sub(free));
        if grown == 0 {
            return None;
        }
        let seconds = u128::from(free) * u128::from(time.as_secs()) / u128::from(grown);
        Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX)))
    }
}

/// Returns what is wrong with the free space.
pub(super) fn space(sizes: Sizes, full_in: Option<Duration>, free_bytes_min: u64, room: RoomReport) -> Option<Issue> {
    let little = sizes.free.is_some_and(|free| free < free_bytes_min);
    let soon = full_in.is_some_and(|time| time <= FULL_SOON);
    if !little && !soon && room.stage == Stage::Ample {
        return None;
    }
    let outlook = match (room.stage, full_in) {
        (Stage::Ample, Some(time)) => format!("at the present rate it is full in {}", span(time.as_secs())),
        (Stage::Ample, None) => "how fast it fills is not known yet".to_owned(),
        (Stage::Tight, _) => format!(
            "it counts as full, the database does not grow any more, and {} rows were dropped for readings to take their place",
            room.dropped
        ),
        (Stage::Out, _) => "it is full, nothing can be spared any more, and readings wait unacked".to_owned(),
    };
    let text = format!(
        "{} are free on the database's disk ({} of it are the database): {outlook}; make room: once it is full, nothing is \
         stored and readings at QoS 0 are lost",
        sizes.free.map_or_else(|| "an unknown number of bytes".to_owned(), size),
        size(sizes.database + sizes.wal)
    );
    let severity = if room.stage == Stage::Out { Severity::Failing } else { Severity::Degraded };
    Some(Issue { id: "store.disk", severity, text })
}

/// Remembers whether it was told that the disk fills.
#[derive(Debug, Default)]
pub(super) struct Warned(bool);

impl Warned {
    /// Returns an event where the warning begins, or is over. What the writer does about a full disk it notes itself.
    pub(super) fn look(&mut self, issues: &[Issue]) -> Option<String> {
        let issue = issues.iter().find(|issue| issue.id == "store.disk");
        let before = std::mem::replace(&mut self.0, issue.is_some());
        match issue {
            Some(issue) if !before => Some(issue.text.clone()),
            None if before => Some("the disk has enough room again".to_owned()),
            _ => None,
        }
    }
}

/// Returns what is wrong with the write-ahead log; `holders` are the programs that have the database open.
pub(super) fn wal(sizes: Sizes, bytes_max: u64, holders: &[String]) -> Option<Issue> {
    if sizes.wal < bytes_max {
        return None;
    }
    let who = match holders {
        [] => "`fuser -v` on the database names those that have it open".to_owned(),
        some => format!("the database is open in {}", some.join(", ")),
    };
    let text = format!(
        "the write-ahead log has grown to {}: another program holds a read transaction open, so that the log cannot be moved \
         into the database; {who}; end the transaction or the program, nothing is lost meanwhile",
        size(sizes.wal)
    );
    Some(Issue { id: "store.wal", severity: Severity::Degraded, text })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sizes(free: u64, database: u64) -> Sizes {
        Sizes { free: Some(free), database, wal: 0 }
    }

    #[test]
    fn how_long_the_disk_lasts_is_known_after_an_hour_and_not_before() {
        let start = Instant::now();
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let mut growth = Growth::default();
        assert_eq!(growth.look(after(0), sizes(10 * GIB, 0)), None);
        assert_eq!(growth.look(after(59), sizes(9 * GIB, GIB)), None, "not for an hour yet");
        assert_eq!(growth.look(after(60), Sizes::default()), None, "the disk does not answer");
        let left = growth.look(after(60), sizes(9 * GIB, GIB)).unwrap();
        assert_eq!(left, Duration::from_secs(9 * 3_600), "1 GiB an hour");
        // Others fill the disk as well.
        let left = growth.look(after(120), sizes(6 * GIB, GIB)).unwrap();
        assert_eq!(left, Duration::from_secs(3 * 3_600), "2 GiB an hour");
    }

    #[test]
    fn a_disk_that_does_not_fill_lasts_and_growth_of_long_ago_does_not_count() {
        let start = Instant::now();
        let after = |hours: u64| start + Duration::from_secs(hours * 3_600);
        let mut growth = Growth::default();
        growth.look(after(0), sizes(10 * GIB, 0));
        for hour in 1..=48 {
            growth.look(after(hour), sizes(8 * GIB, 2 * GIB));
        }
        assert_eq!(growth.look(after(49), sizes(8 * GIB, 2 * GIB)), None);
        assert!(growth.samples.len() <= 26, "{}", growth.samples.len());
    }

    #[test]
    fn little_space_is_told_and_so_is_a_disk_that_is_full_in_a_week() {
        let ample = RoomReport::default();
        assert_eq!(space(sizes(100, 1), None, 100, ample), None);
        assert_eq!(space(Sizes { free: None, ..sizes(0, 0) }, None, 100, ample), None, "not known");
        let told = space(sizes(99, 1), None, 100, ample).unwrap();
        assert!(told.text.contains("99 bytes are free") && told.text.contains("not known yet"), "{}", told.text);
        let soon = Some(Duration::from_secs(6 * 86_400));
        let told = space(sizes(GIB, 5 * GIB), soon, 100, ample).unwrap();
        assert!(told.text.contains("full in 6 days") && told.text.contains("5120 MiB of it"), "{}", told.text);
        assert_eq!(space(sizes(GIB, GIB), Some(Duration::from_secs(8 * 86_400)), 100, ample), None);
    }

    #[test]
    fn each_stage_of_a_full_disk_is_told_and_what_begins_and_ends_is_an_event_once() {
        let mut warned = Warned::default();
        let told = |stage, dropped| space(sizes(GIB, 1), None, 100, RoomReport { stage, reserve_bytes: 1, dropped });
        let tight = told(Stage::Tight, 7).unwrap();
        assert!(tight.severity == Severity::Degraded && tight.text.contains("7 rows were dropped"), "{}", tight.text);
        let out = told(Stage::Out, 7).unwrap();
        assert!(out.severity == Severity::Failing && out.text.contains("wait unacked"), "{}", out.text);
        assert_eq!(warned.look(&[]), None);
        assert_eq!(warned.look(std::slice::from_ref(&tight)), Some(tight.text.clone()));
        assert_eq!(warned.look(&[out]), None);
        assert!(warned.look(&[]).is_some() && warned.look(&[]).is_none());
    }

    #[test]
    fn a_log_that_grows_is_told_with_who_has_the_database_open() {
        let large = Sizes { wal: 100, ..sizes(GIB, GIB) };
        assert_eq!(wal(large, 101, &[]), None);
        assert!(wal(large, 100, &[]).unwrap().text.contains("fuser"));
        let told = wal(large, 100, &["sqlite3 (pid 7)".to_owned()]).unwrap();
        assert!(told.text.contains("open in sqlite3 (pid 7);"), "{}", told.text);
    }
}
