//! The wall clock, read in one place.

use std::time::{SystemTime, UNIX_EPOCH};

/// 2020-01-01, Unix milliseconds: what seems to be older was seen while the clock was not set.
pub const CLOCK_SET_MS: i64 = 1_577_836_800_000;

/// Returns the time, Unix milliseconds; 0 where the clock stands before 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
