//! The rate limit for lines that outsiders can cause. It never decides what is worth a line.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Limits how often lines of one sort are logged: a few in each interval, so that outsiders cannot fill the disk.
#[derive(Debug)]
pub struct Rate {
    interval: Duration,
    lines_max: u32,
    window: Mutex<Window>,
    suppressed: AtomicU64,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::new(5, Duration::from_secs(10))
    }
}

impl Rate {
    /// Makes a limit of `lines_max` lines in each `interval`.
    pub fn new(lines_max: u32, interval: Duration) -> Rate {
        Rate { interval, lines_max, window: Mutex::default(), suppressed: AtomicU64::new(0) }
    }

    /// Tells whether a line may be logged now; says how many were not, with the first that may again.
    pub fn allows(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if window.since.is_none_or(|since| now.duration_since(since) >= self.interval) {
            window.since = Some(now);
            window.lines = 0;
            let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
            if suppressed > 0 {
                tracing::warn!(lines = suppressed, "lines like the next were left out of the log");
            }
        }
        window.lines += 1;
        if window.lines > self.lines_max {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_lets_a_few_lines_through_in_each_interval() {
        let rate = Rate::new(2, Duration::from_secs(3600));
        assert_eq!([rate.allows(), rate.allows(), rate.allows()], [true, true, false]);
        let rate = Rate::new(1, Duration::ZERO);
        assert!(rate.allows() && rate.allows());
    }
}
