//! The clocks, read in one place, and whether the wall clock is to be trusted.
//!
//! Owns what "trusted" means: a machine without a clock chip boots in the past, and is right once it is synchronised. It never
//! sets a clock, and never changes what was noted by one.

use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A moment by both clocks: the wall clock may be set, the other one only runs on.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// By the wall clock, Unix milliseconds.
    pub ms: i64,
    /// By the clock that is never set.
    pub at: Instant,
}

impl Moment {
    /// Returns the present.
    pub fn now() -> Moment {
        Moment { ms: now_ms(), at: Instant::now() }
    }
}

/// 2020-01-01, Unix milliseconds: what seems to be older was seen while the clock was not set.
pub const CLOCK_SET_MS: i64 = 1_577_836_800_000;

/// Returns the time, Unix milliseconds; 0 where the clock stands before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the time since the boot of the machine, sleep included, milliseconds.
pub fn boot_ms() -> i64 {
    let since = clock_gettime(ClockId::Boottime);
    since.tv_sec.saturating_mul(1_000).saturating_add(since.tv_nsec / 1_000_000)
}

/// Returns how far the wall clock is ahead of the time since the boot, milliseconds.
pub fn offset_ms() -> i64 {
    now_ms().saturating_sub(boot_ms())
}

/// How far the wall clock may drift from where it was before that counts as another setting of it, milliseconds.
const DRIFT_MS_MAX: u64 = 500;

const NOT_ASKED: u8 = 0;
const UNKNOWN: u8 = 1;
const NO: u8 = 2;
const YES: u8 = 3;

/// Whether the wall clock is to be trusted. Once synchronised, it is for the rest of the run; where nobody says whether it is,
/// it is where it shows 2020 or later.
#[derive(Debug)]
pub struct Trust {
    start: Instant,
    start_boot_ms: i64,
    synchronised: AtomicU8,
    /// How far the clock was ahead of the time since the boot when it was last not to be trusted.
    offset_ms: AtomicI64,
}

impl Default for Trust {
    fn default() -> Trust {
        Trust {
            start: Instant::now(),
            start_boot_ms: boot_ms(),
            synchronised: AtomicU8::new(NOT_ASKED),
            offset_ms: AtomicI64::new(i64::MIN),
        }
    }
}

impl Trust {
    /// Notes what the time service says.
    pub fn note(&self, synchronised: Option<bool>) {
        let said = match synchronised {
            Some(true) => YES,
            Some(false) => NO,
            None => UNKNOWN,
        };
        // Who has said no once and says nothing now was too slow to answer.
        self.synchronised.fetch_max(said, Ordering::Relaxed);
    }

    /// Returns how far the clock was ahead of the time since the boot at a moment at which it was not to be trusted,
    /// milliseconds; `None` where it was.
    pub fn untrusted_offset_ms(&self, moment: Moment) -> Option<i64> {
        match self.synchronised.load(Ordering::Relaxed) {
            YES => return None,
            NOT_ASKED | UNKNOWN if moment.ms >= CLOCK_SET_MS => return None,
            _ => {}
        }
        let since = i64::try_from(moment.at.saturating_duration_since(self.start).as_millis()).unwrap_or(i64::MAX);
        let offset_ms = moment.ms.saturating_sub(self.start_boot_ms.saturating_add(since));
        let known = self.offset_ms.load(Ordering::Relaxed);
        if known != i64::MIN && known.abs_diff(offset_ms) <= DRIFT_MS_MAX {
            return Some(known);
        }
        self.offset_ms.store(offset_ms, Ordering::Relaxed);
        Some(offset_ms)
    }

    /// Tells whether the clock is to be trusted now to set right what it showed `lack_ms` ago: where nobody says whether it is
    /// synchronised, only what it showed before 2020.
    pub fn sets_right(&self, now_ms: i64, lack_ms: i64) -> bool {
        match self.synchronised.load(Ordering::Relaxed) {
            YES => true,
            UNKNOWN => now_ms >= CLOCK_SET_MS && now_ms.saturating_sub(lack_ms) < CLOCK_SET_MS,
            _ => false,
        }
    }
}

/// Returns a time in words, by the second.
pub fn in_words(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Returns a time between two moments, milliseconds.
pub fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_trusted_once_it_is_synchronised_and_where_nobody_knows_from_2020_on() {
        let trust = Trust::default();
        let at = |ms, seconds| Moment { ms, at: trust.start + Duration::from_secs(seconds) };
        let (old, set) = (5_000_000, CLOCK_SET_MS + 1);
        assert_eq!(trust.untrusted_offset_ms(at(set, 0)), None);
        let first = trust.untrusted_offset_ms(at(old, 0));
        assert_eq!(first, Some(old - trust.start_boot_ms));
        assert_eq!(trust.untrusted_offset_ms(at(old + 10_300, 10)), first, "it drifts");
        let stepped = trust.untrusted_offset_ms(at(old + 3_610_000, 10));
        assert_eq!(stepped, first.map(|offset| offset + 3_600_000));
        let sets_right = |lack_ms| trust.sets_right(set, lack_ms);
        assert!(!sets_right(set), "nobody was asked");
        trust.note(None);
        assert!(sets_right(set) && !sets_right(0));
        trust.note(Some(false));
        trust.note(None);
        assert!(trust.untrusted_offset_ms(at(set, 0)).is_some() && !sets_right(set));
        trust.note(Some(true));
        trust.note(Some(false));
        assert!(trust.untrusted_offset_ms(at(old, 0)).is_none() && sets_right(0), "for the rest of the run");
    }
}
