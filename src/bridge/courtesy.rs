//! How the backlog steps back while readings come in.
//!
//! Owns the rule that whoever publishes here goes first: while messages come in, the backlog is sent in small portions, fast
//! enough to shrink all the same. Pure: time is an argument.

use std::time::{Duration, Instant};

use super::pace::Pace;

/// Messages of the backlog a second, beside as many as come in: far above what a link carries, and little work for the hub.
const RATE: u32 = 8_000;
/// Messages in one go.
const BURST: f64 = 16.0;
/// Messages come in if one has come within this time.
const RECENTLY: Duration = Duration::from_millis(200);

/// Whether to step back, and how far.
#[derive(Debug)]
pub(super) struct Courtesy {
    pace: Pace,
    added: u64,
    came: Option<Instant>,
}

impl Courtesy {
    /// Begins at `now`, when the outbox had taken `added` messages.
    pub(super) fn new(now: Instant, added: u64) -> Courtesy {
        Courtesy { pace: Pace::with_burst(Some(RATE), BURST, now, added), added, came: None }
    }

    /// Takes the allowance for one message, where there is one.
    pub(super) fn take(&mut self, now: Instant, added: u64) -> bool {
        if added != self.added {
            (self.added, self.came) = (added, Some(now));
        }
        !self.steps_back(now) || self.pace.take(now, added)
    }

    /// Returns how long it takes until the next message is allowed.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        if self.steps_back(now) { self.pace.wait() } else { Duration::ZERO }
    }

    fn steps_back(&self, now: Instant) -> bool {
        self.came.is_some_and(|came| now.saturating_duration_since(came) < RECENTLY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(courtesy: &mut Courtesy, now: Instant, added: u64) -> usize {
        std::iter::from_fn(|| courtesy.take(now, added).then_some(())).take(10_000).count()
    }

    #[test]
    fn the_backlog_goes_at_full_speed_until_something_comes_in() {
        let start = Instant::now();
        let mut courtesy = Courtesy::new(start, 5);
        assert_eq!(taken(&mut courtesy, start, 5), 10_000);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(taken(&mut courtesy, at(1), 6) <= 17);
        assert!(!courtesy.wait(at(1)).is_zero());
        assert!((8..=17).contains(&taken(&mut courtesy, at(2), 6)));
        assert_eq!(taken(&mut courtesy, at(300), 6), 10_000, "nothing has come for a while");
    }
}
