//! The packet ids of a client's QoS 2 publishes that wait for their PUBREL.
//!
//! Owns the answer to "did this come already?". It never sees a message.

use std::collections::HashSet;

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

    /// Notes the id of a publish; false where that publish came already. After a restart only one that is marked as sent
    /// again is known to be the same.
    pub(super) fn note(&mut self, id: u16, dup: bool) -> bool {
        let was_before = self.before.remove(&id);
        self.ids.insert(id) && !(was_before && dup)
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
        assert!(received.note(1, false) && !received.note(1, false) && !received.note(1, true));
        assert!(received.forget(1) && !received.forget(1) && received.note(1, true));
    }

    #[test]
    fn an_id_that_outlived_a_restart_does_not_swallow_the_next_message_that_gets_it() {
        let mut received = Received::restored(vec![1, 2, 3]);
        assert!(received.note(1, false), "a new message");
        assert!(!received.note(1, true), "which is sent again");
        assert!(!received.note(2, true), "the old message is sent again");
        assert_eq!(received.all().len(), 3);
        assert!(received.forget(2) && received.forget(3) && !received.forget(3));
        assert_eq!(received.all(), [1]);
    }
}
