//! Which of a session's messages the store has.
//!
//! Owns the numbers of messages that a restart must not lose: they rise, so "all up to here have a row" is one number. It
//! never sees a message.

/// The numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Rows {
    last: u64,
    saved: u64,
    /// Messages that have a row and are done with.
    done: Vec<u64>,
}

impl Rows {
    /// Makes the numbers of a session that was read back: all up to `last` have a row, and those in `done` need it no
    /// more.
    pub(super) fn restored(last: u64, done: Vec<u64>) -> Rows {
        Rows { last, saved: last, done }
    }

    /// Returns the number that was given out last.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Gives out the next number, counted from 1.
    pub(super) fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Tells whether a message has no row yet.
    pub(super) fn lacks(&self, number: u64) -> bool {
        number > self.saved
    }

    /// Notes that a message is done with.
    pub(super) fn done(&mut self, number: u64) {
        if number > 0 && number <= self.saved {
            self.done.push(number);
        }
    }

    /// Notes that every message has its row now; returns those whose row is to go.
    pub(super) fn saved(&mut self) -> Vec<u64> {
        self.saved = self.last;
        std::mem::take(&mut self.done)
    }

    /// Notes that the store forgets the session: no message has a row any more.
    pub(super) fn forgotten(&mut self) {
        self.saved = 0;
        self.done = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_messages_with_a_row_have_one_to_lose() {
        let mut rows = Rows::default();
        let (first, second) = (rows.number(), rows.number());
        rows.done(first);
        assert!(rows.lacks(second) && rows.saved().is_empty());
        let third = rows.number();
        rows.done(second);
        rows.done(third);
        rows.done(0);
        assert_eq!(rows.saved(), [second]);
        rows.done(third);
        rows.forgotten();
        assert!(rows.lacks(1) && rows.saved().is_empty());
        let mut restored = Rows::restored(7, vec![5]);
        assert!(!restored.lacks(7) && restored.lacks(8));
        assert_eq!(restored.saved(), [5]);
    }
}
