//! The packet ids of a client's QoS 2 publishes that wait for their PUBREL.
//!
//! Owns the answer to "did this come already?". It never sees a message.

use std::collections::HashSet;

/// Whether a publish came already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Came {
    /// It did not.
    First,
    /// It did.
    Again,
    /// A publish with its packet id did, before a restart. Clients are to mark what they send again, and this one is not
    /// marked; some do not.
    Perhaps,
}

/// The ids.
#[derive(Debug, Default)]
pub(super) struct Received {
    ids: HashSet<u16>,
    /// Those that were read back after a restart, and not heard of since. Their PUBREL may have come after they were
    /// last written, and the client may have given them to other messages.
    before: HashSet<u16>,
}

impl Received {
    /// Takes ids that outlived a restart.
    pub(super) fn restored(ids: Vec<u16>) -> Received {
        Received { ids: HashSet::new(), before: ids.into_iter().collect() }
    }

    /// Notes the id of a publish; tells whether that publish came already.
    pub(super) fn note(&mut self, id: u16, dup: bool) -> Came {
        match (self.before.remove(&id), self.ids.insert(id)) {
            (true, true) if !dup => Came::Perhaps,
            (false, true) => Came::First,
            _ => Came::Again,
        }
    }

    /// Forgets an id: its PUBREL came. False where it was not noted.
    pub(super) fn forget(&mut self, id: u16) -> bool {
        let was_before = self.before.remove(&id);
        self.ids.remove(&id) || was_before
    }

    /// Returns all that a restart must know.
    pub(super) fn all(&self) -> Vec<u16> {
        self.ids.union(&self.before).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_publish_until_its_pubrel() {
        let mut received = Received::default();
        let came = [false, false, true].map(|dup| received.note(1, dup));
        assert_eq!(came, [Came::First, Came::Again, Came::Again]);
        assert!(received.forget(1) && !received.forget(1));
        assert_eq!(received.note(1, true), Came::First);
    }

    #[test]
    fn an_id_that_outlived_a_restart_does_not_swallow_the_next_message_that_gets_it() {
        let mut received = Received::restored(vec![1, 2, 3]);
        assert_eq!(received.note(1, false), Came::Perhaps, "a new message");
        assert_eq!(received.note(1, true), Came::Again, "which is sent again");
        assert_eq!(received.note(2, true), Came::Again, "the old message is sent again");
        assert_eq!(received.all().len(), 3);
        assert!(received.forget(2) && received.forget(3) && !received.forget(3));
        assert_eq!(received.all(), [1]);
    }
}
