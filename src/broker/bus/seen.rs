//! Which of the last messages came already.
//!
//! Owns one bit for each message that may be under way on the bus. A message that several filters of a link match comes
//! once for each of them, never further apart than the bus holds messages. It never sees the messages themselves.

use super::gate::UNITS_MAX;

const WORD_BITS: usize = u64::BITS as usize;
/// How far apart the copies of one message may come: what a new name brings is held through two proofs at most, and the
/// bus holds `UNITS_MAX` messages between one and the next.
const WINDOW: usize = 4 * UNITS_MAX;

/// The numbers of the last messages; empty until the first is noted.
#[derive(Debug, Default)]
pub(super) struct Seen {
    highest: u64,
    words: Vec<u64>,
}

impl Seen {
    /// Notes a number; tells whether it was noted already.
    pub(super) fn is_repeated(&mut self, number: u64) -> bool {
        if self.words.is_empty() {
            self.words = vec![0; WINDOW / WORD_BITS];
            self.highest = number;
        }
        if number > self.highest {
            let passed = number - self.highest;
            if passed >= WINDOW as u64 {
                self.words.fill(0);
            } else {
                (self.highest + 1..=number).for_each(|passed| self.exchange(passed, false, |_| ()));
            }
            self.highest = number;
        }
        // Older than any that the bus can hold: nothing is known of it.
        if self.highest - number >= WINDOW as u64 {
            return false;
        }
        let mut was_set = false;
        self.exchange(number, true, |before| was_set = before);
        was_set
    }

    fn exchange(&mut self, number: u64, set: bool, mut before: impl FnMut(bool)) {
        let place = usize::try_from(number % WINDOW as u64).unwrap_or_default();
        let mask = 1 << (place % WORD_BITS);
        if let Some(word) = self.words.get_mut(place / WORD_BITS) {
            before(*word & mask != 0);
            *word = if set { *word | mask } else { *word & !mask };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_whatever_order_filters_bring_them() {
        let mut seen = Seen::default();
        let ahead = WINDOW as u64 - 1;
        for number in 0..3 * WINDOW as u64 {
            // One filter runs ahead of the other by as much as the bus holds.
            assert!(!seen.is_repeated(number + ahead) || number > 0, "{number}");
            if number >= ahead {
                assert!(seen.is_repeated(number), "{number} came ahead already");
            }
        }
    }

    #[test]
    fn a_number_that_takes_anothers_place_is_new() {
        let mut seen = Seen::default();
        for number in [5, 5 + WINDOW as u64, 5 + 9 * WINDOW as u64] {
            assert!(!seen.is_repeated(number), "{number}");
            assert!(seen.is_repeated(number), "{number}");
        }
        assert!(!seen.is_repeated(6 + 8 * WINDOW as u64), "a number skipped is new");
    }
}
