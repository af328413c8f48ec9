//! The clocks, read in one place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

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
