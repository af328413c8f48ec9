//! The clock's health: whether it is synchronised, and whether it was set while the hub runs.
//!
//! Owns these checks' words. Pure: both clocks are read elsewhere.

use std::time::{Duration, Instant};

use super::bridge::span;
use super::checks::{Issue, Severity};
use crate::clock::Moment;

/// The wall clock was set where it goes further ahead or back against the other one, between two looks.
const STEP_MIN: Duration = Duration::from_secs(2);
/// How many intervals of the checks a step is told.
const STEP_TOLD_INTERVALS: u32 = 10;
/// How many intervals the clock may be unsynchronised: after a start, the network may have to come first.
const UNSYNCHRONISED_INTERVALS: u32 = 5;

/// What is known of the wall clock at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockReport {
    /// Whether it is synchronised; `None` where the system does not say.
    pub synchronised: Option<bool>,
    /// How long it has not been, where that is too long.
    pub unsynchronised_for: Option<Duration>,
    /// How far it was set lately, milliseconds, forward where positive.
    pub stepped_ms: Option<i64>,
    /// The same, where that was seen by this look.
    pub just_stepped_ms: Option<i64>,
}

/// Watches the wall clock.
#[derive(Debug)]
pub(super) struct ClockWatch {
    interval: Duration,
    last: Moment,
    unsynchronised_since: Option<Instant>,
    /// How far the clock was set, and when that was seen.
    step: Option<(i64, Instant)>,
}

impl ClockWatch {
    /// Begins at the start.
    pub(super) fn begin(start: Moment, interval: Duration) -> ClockWatch {
        ClockWatch { interval, last: start, unsynchronised_since: None, step: None }
    }

    /// Looks at both clocks.
    pub(super) fn look(&mut self, now: Moment, synchronised: Option<bool>) -> ClockReport {
        let ran = i64::try_from(now.at.saturating_duration_since(self.last.at).as_millis()).unwrap_or(i64::MAX);
        let step_ms = now.ms.saturating_sub(self.last.ms).saturating_sub(ran);
        if u128::from(step_ms.unsigned_abs()) >= STEP_MIN.as_millis() {
            self.step = Some((step_ms, now.at));
        }
        let just_stepped_ms = self.step.filter(|(_, seen)| *seen == now.at).map(|(step_ms, _)| step_ms);
        self.last = now;
        let told_max = self.interval * STEP_TOLD_INTERVALS;
        self.step = self.step.filter(|(_, seen)| now.at.saturating_duration_since(*seen) < told_max);
        self.unsynchronised_since = match synchronised {
            Some(false) => self.unsynchronised_since.or(Some(now.at)),
            _ => None,
        };
        let unsynchronised_for = self.unsynchronised_since.map(|since| now.at.saturating_duration_since(since));
        ClockReport {
            synchronised,
            unsynchronised_for: unsynchronised_for.filter(|time| *time >= self.interval * UNSYNCHRONISED_INTERVALS),
            stepped_ms: self.step.map(|(step_ms, _)| step_ms),
            just_stepped_ms,
        }
    }
}

/// Says how far the clock was set.
pub(super) fn step_in_words(step_ms: i64) -> String {
    let way = if step_ms > 0 { "forward" } else { "back" };
    format!("the clock was set {way} by {}", span(step_ms.unsigned_abs() / 1_000))
}

/// Returns what is wrong with the clock.
pub(super) fn verdict(clock: ClockReport) -> impl Iterator<Item = Issue> {
    let unsynchronised = clock.unsynchronised_for.map(|time| {
        let text = format!(
            "the clock has not been synchronised for {}: readings without a time of their own get a wrong one; check the \
             network and `timedatectl`, or give the machine a clock with a battery",
            span(time.as_secs())
        );
        Issue { id: "clock.synchronised", severity: Severity::Degraded, text }
    });
    let stepped = clock.stepped_ms.map(|step_ms| {
        let text = format!(
            "{}: times of readings before and after do not fit together; nothing is to be done \
             where that was its first synchronisation after the start",
            step_in_words(step_ms)
        );
        Issue { id: "clock.step", severity: Severity::Degraded, text }
    });
    unsynchronised.into_iter().chain(stepped)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clocks {
        at: Instant,
        ms: i64,
        watch: ClockWatch,
    }

    impl Clocks {
        fn new() -> Clocks {
            let at = Instant::now();
            Clocks { at, ms: 0, watch: ClockWatch::begin(Moment { ms: 0, at }, Duration::from_secs(60)) }
        }

        /// Both clocks run on, the wall clock a little more.
        fn look(&mut self, seconds: u64, more_ms: i64, synchronised: Option<bool>) -> ClockReport {
            self.at += Duration::from_secs(seconds);
            self.ms += i64::try_from(seconds).unwrap_or(0) * 1_000 + more_ms;
            self.watch.look(Moment { ms: self.ms, at: self.at }, synchronised)
        }
    }

    fn ids(clock: ClockReport) -> Vec<&'static str> {
        verdict(clock).map(|issue| issue.id).collect()
    }

    #[test]
    fn a_clock_that_is_set_is_told_for_ten_intervals_and_one_that_is_slewed_is_not() {
        let mut clocks = Clocks::new();
        assert_eq!(ids(clocks.look(60, 30, Some(true))), [""; 0], "500 ppm");
        for step_ms in [3_600_000, -7_200_000] {
            let clock = clocks.look(60, step_ms, None);
            assert_eq!(clock.stepped_ms, Some(step_ms));
            assert_eq!(ids(clock), ["clock.step"]);
            assert_eq!(ids(clocks.look(599, 0, None)), ["clock.step"]);
            assert_eq!(ids(clocks.look(1, 0, None)), [""; 0]);
        }
    }

    #[test]
    fn a_clock_that_stays_unsynchronised_is_told_until_it_is_or_until_nobody_knows() {
        let mut clocks = Clocks::new();
        assert_eq!(ids(clocks.look(60, 0, Some(false))), [""; 0]);
        assert_eq!(ids(clocks.look(299, 0, Some(false))), [""; 0], "the network may have to come first");
        assert_eq!(ids(clocks.look(1, 0, Some(false))), ["clock.synchronised"]);
        assert_eq!(ids(clocks.look(60, 0, Some(true))), [""; 0]);
        assert_eq!(ids(clocks.look(60, 0, Some(false))), [""; 0], "it counts anew");
        assert_eq!(ids(clocks.look(600, 0, None)), [""; 0]);
    }
}
