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

/// What is known of it.
#[derive(Debug)]
pub(super) struct Suspicion {
    /// The most messages on their way at a time.
    window: usize,
    limit: usize,
    /// Acknowledged since the limit was set.
    acked: usize,
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
        Suspicion { window, limit: window, acked: 0, alone: None, steps_back: false }
    }

    /// Returns how many messages may be on their way at a time now.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Tells whether fewer are sent at a time than is usual.
    pub(super) fn is_narrow(&self) -> bool {
        self.limit < self.window
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
        if self.acked >= self.limit {
            (self.limit, self.acked) = ((self.limit * 2).min(self.window), 0);
        }
    }

    /// Notes that the upstream closed the connection while `first` was the first of the messages on their way; returns the
    /// message that is to blame for it, once that is settled.
    pub(super) fn closed(&mut self, first: i64) -> Option<i64> {
        if self.limit > 1 {
            (self.limit, self.acked, self.alone) = ((self.limit / 4).max(1), 0, None);
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
        assert!(suspicion.is_narrow() && suspicion.limit() == 25);
        (1..=75).for_each(|id| suspicion.taken(id));
        assert!(!suspicion.is_narrow() && suspicion.limit() == 100);
    }
}
