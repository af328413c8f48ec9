//! Slots: time in equal parts, and which of them a network gets next.
//!
//! Owns what is due, what has to wait, and what is too old to be sent at all. Pure: time is an argument.

use std::time::Duration;

/// How long after its end a slot is sent: its last readings are on their way to the disk.
const SETTLE: Duration = Duration::from_secs(2);
const DAY_S: i64 = 86_400;

/// The slots of a network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slots {
    interval_s: i64,
    phase_s: i64,
    age_s: i64,
    settle_ms: i64,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing, for so long.
    In(Duration),
    /// A slot is to be sent.
    Due {
        /// Its end, Unix seconds.
        end_s: i64,
        /// How many before it are too old.
        missed: u64,
    },
}

impl Slots {
    /// Makes slots of `interval`, of which one may be sent for `age` after the newest. They end `phase` after the multiples of
    /// `interval`; `spread` is waited beside what every slot waits.
    pub(super) fn new(interval: Duration, phase: Duration, age: Duration, spread: Duration) -> Slots {
        let seconds = |time: Duration| i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 4_000);
        let settle = SETTLE.min(interval / 2) + spread;
        Slots {
            interval_s: seconds(interval).max(1),
            phase_s: seconds(phase),
            age_s: seconds(age),
            settle_ms: i64::try_from(settle.as_millis()).unwrap_or_default(),
        }
    }

    /// Returns the beginning of the slot that ends at `end_s`.
    pub(super) fn begin_s(&self, end_s: i64) -> i64 {
        end_s - self.interval_s
    }

    /// Returns the end of the newest slot that can be sent, Unix seconds.
    pub(super) fn newest_s(&self, now_ms: i64) -> i64 {
        let settled_s = (now_ms - self.settle_ms).div_euclid(1_000);
        settled_s - (settled_s - self.phase_s).rem_euclid(self.interval_s)
    }

    /// Returns the first end after a time.
    fn after_s(&self, time_s: i64) -> i64 {
        time_s + self.interval_s - (time_s - self.phase_s).rem_euclid(self.interval_s)
    }

    /// Says what is next where all up to `taken_s` is settled.
    pub(super) fn next(&self, taken_s: i64, now_ms: i64) -> Next {
        let newest_s = self.newest_s(now_ms);
        if newest_s <= taken_s {
            let due_ms = self.after_s(taken_s) * 1_000 + self.settle_ms;
            return Next::In(Duration::from_millis((due_ms - now_ms).max(1).unsigned_abs()));
        }
        let (first_s, oldest_s) = (self.after_s(taken_s), self.after_s(newest_s - self.age_s - 1));
        let end_s = first_s.max(oldest_s);
        Next::Due { end_s, missed: ((end_s - first_s) / self.interval_s).unsigned_abs() }
    }

    /// Returns how many slots wait.
    pub(super) fn waiting(&self, taken_s: i64, now_ms: i64) -> u64 {
        match self.next(taken_s, now_ms) {
            Next::In(_) => 0,
            Next::Due { end_s, .. } => ((self.newest_s(now_ms) - end_s) / self.interval_s + 1).unsigned_abs(),
        }
    }

    /// Tells whether what was taken lies so far ahead that the clock must have been wrong then.
    pub(super) fn is_ahead(&self, taken_s: i64, now_ms: i64) -> bool {
        taken_s - now_ms.div_euclid(1_000) > DAY_S.max(self.interval_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(age_s: u64) -> Slots {
        let seconds = Duration::from_secs;
        Slots::new(seconds(60), Duration::ZERO, seconds(age_s), Duration::ZERO)
    }

    #[test]
    fn a_slot_is_due_once_its_readings_have_settled() {
        let slots = slots(600);
        assert_eq!(slots.next(6_000, 6_061_999), Next::In(Duration::from_millis(1)));
        assert_eq!(slots.next(6_000, 6_062_000), Next::Due { end_s: 6_060, missed: 0 });
        assert_eq!(slots.next(6_060, 6_062_000), Next::In(Duration::from_secs(60)));
        assert_eq!(slots.begin_s(6_060), 6_000);
    }

    #[test]
    fn missed_slots_come_in_order_unless_they_are_too_old() {
        let (kept, live) = (slots(600), slots(0));
        assert_eq!(kept.next(6_000, 6_400_000), Next::Due { end_s: 6_060, missed: 0 });
        assert_eq!((kept.waiting(6_000, 6_400_000), kept.waiting(6_360, 6_400_000)), (6, 0));
        // The newest ends at 9,960.
        assert_eq!(kept.next(6_000, 9_962_000), Next::Due { end_s: 9_360, missed: 55 });
        assert_eq!(live.next(6_000, 9_962_000), Next::Due { end_s: 9_960, missed: 65 });
        assert_eq!(live.waiting(6_000, 9_962_000), 1);
    }

    #[test]
    fn slots_may_end_beside_the_full_minutes_and_another_interval_goes_on_after_the_last() {
        let seconds = Duration::from_secs;
        let slots = Slots::new(seconds(600), seconds(240), Duration::ZERO, Duration::ZERO);
        assert_eq!(slots.newest_s(6_242_000), 6_240);
        assert_eq!(slots.newest_s(6_241_999), 5_640);
        assert_eq!(slots.next(6_060, 6_242_000), Next::Due { end_s: 6_240, missed: 0 }, "6,060 was no end of these");
    }

    #[test]
    fn a_short_interval_settles_sooner_and_a_clock_that_was_wrong_is_noticed() {
        let slots = Slots::new(Duration::from_secs(1), Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!((slots.newest_s(5_499), slots.newest_s(5_500)), (4, 5));
        assert!(!slots.is_ahead(86_400, 0) && slots.is_ahead(86_401, 0));
    }
}
