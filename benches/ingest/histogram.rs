//! Latencies, counted: a log-linear histogram of nanoseconds, 64 steps to the octave, so that a quantile is off by
//! less than one per cent. It never allocates while it records.

use std::time::Duration;

/// Steps per octave, as a power of two.
const STEP_BITS: u32 = 6;
const STEPS: usize = 1 << STEP_BITS;
/// One run of steps for everything below the first octave, then one per remaining bit of a `u64`.
const BUCKETS: usize = STEPS * (64 - STEP_BITS as usize + 1);

/// Counts durations by their size.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Returns an empty histogram.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }

    /// Forgets all that was recorded.
    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(ns)] += 1;
        self.total += 1;
    }

    /// Returns the duration in milliseconds that the share `quantile` (0 to 1) of all lie at or below; 0 when empty.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let rank = ((quantile * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return middle_ns(index) / 1e6;
            }
        }
        0.0
    }
}

fn bucket(ns: u64) -> usize {
    let octave = (u64::BITS - ns.leading_zeros()).saturating_sub(STEP_BITS + 1);
    // Within an octave the step is what is left of the number, its leading bit included.
    octave as usize * STEPS + (ns >> octave) as usize
}

fn middle_ns(index: usize) -> f64 {
    if index < 2 * STEPS {
        return index as f64;
    }
    let octave = index / STEPS - 1;
    let step = index - octave * STEPS;
    (step as f64 + 0.5) * 2f64.powi(octave as i32)
}
