//! How fast the backlog is sent, where that is limited.
//!
//! Owns the count of messages that may be sent now. Pure: time is an argument. As many as come in may always be sent, so
//! that a limit leaves the link usable and the backlog shrinks all the same.

use std::time::{Duration, Instant};

/// The allowance of messages to send.
#[derive(Debug)]
pub(super) struct Pace {
    /// Messages of the backlog a second; `None` without a limit.
    rate: Option<f64>,
    allowed: f64,
    /// Messages that came in and have not been matched by one sent.
    came: u64,
    last: Instant,
    added: u64,
}

/// As many that came in may be sent in one go.
const CAME_MAX: u64 = 1_000;

impl Pace {
    /// Begins at `now`, when the outbox had taken `added` messages.
    pub(super) fn new(rate_max: Option<u32>, now: Instant, added: u64) -> Pace {
        Pace { rate: rate_max.map(f64::from), allowed: 0.0, came: 0, last: now, added }
    }

    /// Takes the allowance for one message, where there is one.
    pub(super) fn take(&mut self, now: Instant, added: u64) -> bool {
        let Some(rate) = self.rate else { return true };
        let passed = now.saturating_duration_since(self.last);
        self.came = (self.came + added.saturating_sub(self.added)).min(CAME_MAX);
        (self.last, self.added) = (now, added);
        // What was not used within a second is not saved up: a burst would fill the link.
        self.allowed = (self.allowed + passed.as_secs_f64() * rate).min(rate.max(1.0));
        if self.came > 0 {
            self.came -= 1;
            return true;
        }
        let takes = self.allowed >= 1.0;
        if takes {
            self.allowed -= 1.0;
        }
        takes
    }

    /// Begins anew with a connection: what came in while there was none is backlog.
    pub(super) fn begin(&mut self, now: Instant, added: u64) {
        (self.came, self.last, self.added) = (0, now, added);
    }

    /// Returns how long it takes until the next message is allowed.
    pub(super) fn wait(&self) -> Duration {
        match self.rate {
            Some(rate) if self.allowed < 1.0 => Duration::from_secs_f64(((1.0 - self.allowed) / rate).min(60.0)),
            _ => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(pace: &mut Pace, now: Instant, added: u64) -> usize {
        std::iter::from_fn(|| pace.take(now, added).then_some(())).take(10_000).count()
    }

    #[test]
    fn the_rate_holds_over_time_and_is_not_saved_up() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(100), start, 0);
        assert_eq!(taken(&mut pace, start, 0), 0);
        assert!((9..=10).contains(&pace.wait().as_millis()), "{:?}", pace.wait());
        assert_eq!(taken(&mut pace, start + Duration::from_millis(100), 0), 10);
        assert_eq!(taken(&mut pace, start + Duration::from_secs(50), 0), 100);
    }

    #[test]
    fn what_comes_in_may_go_out_beside_the_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1), start, 5);
        assert_eq!(taken(&mut pace, start, 505), 500);
        assert_eq!(taken(&mut pace, start + Duration::from_secs(1), 515), 11);
        pace.begin(start + Duration::from_secs(1), 2_000);
        assert_eq!(taken(&mut pace, start + Duration::from_secs(1), 2_001), 1, "what came before is backlog");
    }

    #[test]
    fn without_a_limit_everything_goes() {
        let start = Instant::now();
        assert_eq!(taken(&mut Pace::new(None, start, 0), start, 0), 10_000);
    }
}
