//! A message that the upstream closes the connection at.
//!
//! Owns how it is found: some servers know no other way to refuse one, and without this the same message would be sent, and
//! the connection closed, for ever. After a connection that was closed with messages on their way, fewer are sent at a
//! time, down to one. If it is closed at the same one again and again, another one is sent in its place: only where that is
//! taken is the first to blame, and not the upstream. Pure.

/// As often in a row has the connection to be closed at a message before it is suspected.
const STRIKES: u32 = 3;
/// As often does another one have to be taken, and the connection be closed at the suspect again.
const TAKEN_IN_ITS_PLACE: u32 = 2;

/// After so many acknowledgements the ceiling is raised.
const ACKED_BELOW: usize = 256;

/// What is known of it.
#[derive(Debug)]
pub(super) struct Suspicion {
    /// The most messages on their way at a time.
    window: usize,
    limit: usize,
    /// The limit grows up to this: some upstreams close where more are on their way, and cannot say so before.
    ceiling: usize,
    /// Acknowledged since the limit was set, and since the ceiling was.
    acked: usize,
    acked_below: usize,
    alone: Option<Alone>,
    /// Whether another one is to be sent before the suspect.
    steps_back: bool,
}

/// The message that was alone on its way when the connection was closed.
#[derive(Clone, Copy, Debug)]
struct Alone {
    id: i64,
    /// How often in a row.
    strikes: u32,
    /// How often another one was taken in between.
    others_taken: u32,
}

impl Suspicion {
    /// Suspects nothing.
    pub(super) fn new(window: u16) -> Suspicion {
        let window = window.into();
        Suspicion { window, limit: window, ceiling: window, acked: 0, acked_below: 0, alone: None, steps_back: false }
    }

    /// Returns how many messages may be on their way at a time now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Tells whether messages go one by one, so that it shows at which of them the upstream closes.
    pub(super) fn is_alone(&self) -> bool {
        self.limit == 1 && (self.window > 1 || self.alone.is_some())
    }

    /// Forgets a message that is done with although the upstream has not got it.
    pub(super) fn forget(&mut self, id: i64) {
        if self.alone.is_some_and(|alone| alone.id == id) {
            (self.alone, self.steps_back) = (None, false);
        }
    }

    /// Returns the message that is not to be sent before another one was.
    pub(super) fn suspect(&self) -> Option<i64> {
        self.alone.filter(|_| self.steps_back).map(|alone| alone.id)
    }

    /// Notes that the upstream has taken a message.
    pub(super) fn taken(&mut self, id: i64) {
        if let Some(alone) = self.alone.as_mut().filter(|alone| alone.id != id) {
            alone.others_taken += 1;
            self.steps_back = false;
            return;
        }
        (self.alone, self.steps_back) = (None, false);
        self.acked += 1;
        self.acked_below += 1;
        if self.acked_below >= ACKED_BELOW {
            (self.ceiling, self.acked_below) = ((self.ceiling * 2).min(self.window), 0);
        }
        if self.acked >= self.limit {
            (self.limit, self.acked) = ((self.limit * 2).min(self.ceiling), 0);
        }
    }

    /// Has fewer messages on their way at a time.
    pub(super) fn narrow(&mut self) {
        self.ceiling = (self.limit / 2).max(1);
        self.limit = (self.limit / 4).max(1);
        (self.acked, self.acked_below) = (0, 0);
    }

    /// Notes that the upstream closed the connection while `first` was the first of the messages on their way; returns the
    /// message that is to blame for it, once that is settled.
    pub(super) fn closed(&mut self, first: i64) -> Option<i64> {
        if self.limit > 1 {
            self.alone = None;
            self.narrow();
            return None;
        }
        let known = self.alone.filter(|alone| alone.id == first);
        // Where another one was sent in its place, the upstream closes at that, too.
        let mut alone = known.unwrap_or(Alone { id: first, strikes: 0, others_taken: 0 });
        alone.strikes += 1;
        self.steps_back = alone.strikes >= STRIKES;
        self.alone = Some(alone);
        if self.steps_back && alone.others_taken >= TAKEN_IN_ITS_PLACE {
            (self.alone, self.steps_back) = (None, false);
            return Some(first);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Closes the connection at 7 until it steps back for another; tells how many times that took.
    fn suspect_7(suspicion: &mut Suspicion) -> usize {
        let mut closed = 0;
        while suspicion.suspect().is_none() {
            assert_eq!(suspicion.closed(7), None);
            closed += 1;
            assert!(closed < 100, "never suspected");
        }
        closed
    }

    #[test]
    fn a_message_that_closes_every_connection_is_to_blame_where_others_are_taken() {
        let mut suspicion = Suspicion::new(100);
        assert_eq!(suspect_7(&mut suspicion), 3 + 3, "to 25, 6 and 1, and three times alone");
        assert_eq!((suspicion.limit(), suspicion.suspect()), (1, Some(7)));
        suspicion.taken(8);
        assert_eq!((suspicion.limit(), suspicion.suspect()), (1, None), "it is its turn again");
        assert_eq!((suspicion.closed(7), suspicion.suspect()), (None, Some(7)));
        suspicion.taken(9);
        assert_eq!(suspicion.closed(7), Some(7));
        suspicion.taken(10);
        assert_eq!((suspicion.limit(), suspicion.suspect()), (2, None));
    }

    #[test]
    fn an_upstream_that_closes_at_everything_is_to_blame_itself() {
        let mut suspicion = Suspicion::new(1);
        for _ in 0..10 {
            suspect_7(&mut suspicion);
            assert_eq!((suspicion.closed(8), suspicion.suspect()), (None, None), "the other fared no better");
            for _ in 0..5 {
                assert_eq!(suspicion.closed(7), None);
            }
        }
    }

    #[test]
    fn a_suspect_that_is_taken_in_the_end_is_cleared() {
        let mut suspicion = Suspicion::new(1);
        suspect_7(&mut suspicion);
        suspicion.taken(8);
        suspicion.taken(7);
        for _ in 0..2 {
            assert_eq!((suspicion.closed(9), suspicion.suspect()), (None, None));
        }
    }

    #[test]
    fn acks_widen_the_window_again() {
        let mut suspicion = Suspicion::new(100);
        assert_eq!(suspicion.closed(1), None);
        assert_eq!(suspicion.limit(), 25);
        (1..=25).for_each(|id| suspicion.taken(id));
        assert_eq!(suspicion.limit(), 50, "that is the ceiling for now");
        (26..=256 + 50).for_each(|id| suspicion.taken(id));
        assert_eq!(suspicion.limit(), 100);
    }
}
