//! Pauses between attempts: growing, up to a cap, and never the same for two hubs.
//!
//! Pure: chance is an argument.

use std::time::Duration;

/// The first pause, before chance shortens it.
const FIRST: Duration = Duration::from_secs(1);

/// The pauses of a row of failures.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    /// Makes pauses of at most `most`.
    pub(super) fn new(most: Duration) -> Backoff {
        Backoff { next: FIRST.min(most), most }
    }

    /// Returns the next pause: between a half and the whole of what is due, as `chance` (0 to 255) has it, so that a
    /// fleet does not come back to its upstream in one moment.
    pub(super) fn pause(&mut self, chance: u8) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.most);
        due / 2 + (due / 2) * u32::from(chance) / 255
    }

    /// Begins anew after a success.
    pub(super) fn reset(&mut self) {
        self.next = FIRST.min(self.most);
    }
}

/// Returns a byte of chance; where the system has none, the middle.
pub(super) fn chance() -> u8 {
    let mut byte = [127];
    getrandom::fill(&mut byte).unwrap_or(());
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_cap_and_vary_by_half() {
        let mut backoff = Backoff::new(Duration::from_secs(5));
        let pauses: Vec<u128> = (0..5).map(|_| backoff.pause(255).as_millis()).collect();
        assert_eq!(pauses, [1000, 2000, 4000, 5000, 5000]);
        assert_eq!(backoff.pause(0).as_millis(), 2500);
        backoff.reset();
        assert_eq!(backoff.pause(0).as_millis(), 500);
    }

    #[test]
    fn a_cap_below_the_first_pause_holds() {
        assert_eq!(Backoff::new(Duration::from_millis(300)).pause(255).as_millis(), 300);
    }
}
