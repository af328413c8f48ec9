//! Times counted in a few buckets, for the metrics.
//!
//! Owns the buckets' bounds. It never waits: counting is a relaxed addition or three, so the ways that readings take may do it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets, microseconds; what is longer is in a bucket of its own.
pub const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

const BUCKETS: usize = BOUNDS_US.len() + 1;

/// Times in buckets, counted by many at once.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// What was counted up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many times are in each bucket, not in those below it as well.
    pub counts: [u64; BUCKETS],
    /// All times together, microseconds.
    pub sum_us: u64,
}

/// Times that are counted together: neighbours that fall into one bucket cost one addition.
pub struct Tally<'h> {
    histogram: &'h Histogram,
    bucket: usize,
    count: u64,
    sum_us: u64,
}

impl Histogram {
    /// Counts one time.
    pub fn count(&self, time: Duration) {
        self.tally().count(time);
    }

    /// Begins to count times that come together; they are in the histogram once the tally is dropped.
    pub fn tally(&self) -> Tally<'_> {
        Tally { histogram: self, bucket: 0, count: 0, sum_us: 0 }
    }

    /// Returns what was counted so far.
    pub fn counted(&self) -> Counted {
        let mut counted = Counted { sum_us: self.sum_us.load(Ordering::Relaxed), ..Counted::default() };
        for (count, found) in counted.counts.iter_mut().zip(&self.counts) {
            *count = found.load(Ordering::Relaxed);
        }
        counted
    }
}

impl Tally<'_> {
    /// Counts one time.
    pub fn count(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(BOUNDS_US.len());
        if bucket != self.bucket {
            self.hand_over();
            self.bucket = bucket;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
    }

    fn hand_over(&mut self) {
        let (count, sum_us) = (std::mem::take(&mut self.count), std::mem::take(&mut self.sum_us));
        if count > 0
            && let Some(bucket) = self.histogram.counts.get(self.bucket)
        {
            bucket.fetch_add(count, Ordering::Relaxed);
            self.histogram.sum_us.fetch_add(sum_us, Ordering::Relaxed);
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.hand_over();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_the_bucket_whose_bound_they_do_not_pass() {
        let histogram = Histogram::default();
        {
            let mut tally = histogram.tally();
            for us in [500, 499, 501, 31_000_000, 0] {
                tally.count(Duration::from_micros(us));
            }
        }
        histogram.count(Duration::from_secs(30));
        let counted = histogram.counted();
        assert_eq!(counted.counts, [3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(counted.sum_us, 500 + 499 + 501 + 31_000_000 + 30_000_000);
    }
}
