//! The messages that are on their way upstream, in their order.
//!
//! Owns which packet id stands for which message, and what has to be sent again after a connection was lost. Pure: it
//! sends nothing. The window spans from the oldest message that is not acknowledged to the newest that was sent, so a
//! packet id is never given out twice.

use std::collections::VecDeque;

use super::outgoing::Outgoing;
use crate::store::Lane;

/// One message on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// The message.
    pub(super) message: Outgoing,
    /// The lane that it came from.
    pub(super) lane: Lane,
    /// How many messages the upstream had acknowledged when it first said that the hub may not publish this one.
    pub(super) denied_at: Option<u64>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has to be handed to the connection.
    ToSend,
    /// It was handed to the connection and has no packet id yet.
    Handed,
    /// It is sent under this id; `again` where that was done on an earlier connection already.
    Sent { id: u16, again: bool },
    /// QoS 2: the upstream has it, and is to release the id.
    Received { id: u16, again: bool },
    /// The upstream has it for good.
    Done,
}

/// What is to be sent first on a new connection.
#[derive(Clone, Debug)]
pub(super) enum Again {
    /// A message that may have come, under its id.
    Publish(u16, Outgoing),
    /// A release of an id.
    Release(u16),
}

/// The window.
#[derive(Debug, Default)]
pub(super) struct Window {
    entries: VecDeque<Entry>,
    /// The rows of messages that were handed to the connection, in their order, until they have their id.
    handed: VecDeque<i64>,
    bytes: usize,
}

impl Window {
    /// Returns the number of messages from the oldest unacknowledged to the newest.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns about how many bytes they are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Tells whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns how many wait for their acknowledgement now.
    pub(super) fn unacknowledged(&self) -> usize {
        self.entries.iter().filter(|entry| !matches!(entry.stage, Stage::Done | Stage::ToSend)).count()
    }

    /// Tells whether messages of an earlier connection still wait; until then nothing new is sent, for the order's sake
    /// and because they hold their packet ids.
    pub(super) fn repeats(&self) -> bool {
        let again = |stage| matches!(stage, Stage::Sent { again: true, .. } | Stage::Received { again: true, .. });
        self.entries.iter().any(|entry| again(entry.stage))
    }

    /// Takes a message, still to be sent.
    pub(super) fn push(&mut self, message: Outgoing, lane: Lane) {
        self.bytes += message.bytes();
        self.entries.push_back(Entry { message, lane, denied_at: None, stage: Stage::ToSend });
    }

    /// Returns the first message that has to be handed to the connection, `not` aside.
    pub(super) fn to_send(&self, not: Option<i64>) -> Option<&Outgoing> {
        let messages = self.entries.iter().filter(|entry| entry.stage == Stage::ToSend).map(|entry| &entry.message);
        messages.into_iter().find(|message| Some(message.id) != not)
    }

    /// Notes that a message was handed to the connection.
    pub(super) fn handed(&mut self, row: i64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.message.id == row) {
            entry.stage = Stage::Handed;
            self.handed.push_back(row);
        }
    }

    /// Returns the first message that was sent and is not acknowledged.
    pub(super) fn first_sent(&self) -> Option<i64> {
        let sent = |entry: &&Entry| matches!(entry.stage, Stage::Sent { .. } | Stage::Received { .. });
        self.entries.iter().find(sent).map(|entry| entry.message.id)
    }

    /// Has everything that was sent, and not received at QoS 2, sent as if for the first time.
    pub(super) fn forget_ids(&mut self) {
        for entry in &mut self.entries {
            if matches!(entry.stage, Stage::Sent { .. }) {
                entry.stage = Stage::ToSend;
            }
        }
    }

    /// Notes the packet id of the message that was handed over first of those without one.
    pub(super) fn sent(&mut self, id: u16) {
        let Some(row) = self.handed.pop_front() else { return };
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.message.id == row) {
            entry.stage = Stage::Sent { id, again: false };
        }
    }

    /// Notes that the upstream has received a message at QoS 2.
    pub(super) fn received(&mut self, id: u16) {
        if let Some(entry) = self.of(id)
            && let Stage::Sent { again, .. } = entry.stage
        {
            entry.stage = Stage::Received { id, again };
        }
    }

    /// Notes that the upstream has a message for good, and returns its number; `None` where it is none of these.
    pub(super) fn acknowledged(&mut self, id: u16) -> Option<i64> {
        self.of(id).map(|entry| {
            entry.stage = Stage::Done;
            entry.message.id
        })
    }

    /// Notes that the upstream did not take a message: it has to be sent once more. Returns it.
    pub(super) fn refused(&mut self, id: u16) -> Option<&mut Entry> {
        let entry = self.of(id)?;
        entry.stage = Stage::ToSend;
        Some(entry)
    }

    /// Notes that a message is done with although the upstream has not got it, and returns its topic.
    pub(super) fn give_up(&mut self, row: i64) -> Option<String> {
        let entry = self.entries.iter_mut().find(|entry| entry.message.id == row)?;
        entry.stage = Stage::Done;
        Some(entry.message.topic.clone())
    }

    /// Takes the oldest message out, where it is done with.
    pub(super) fn pop_done(&mut self) -> Option<Entry> {
        let entry = self.entries.pop_front_if(|entry| entry.stage == Stage::Done)?;
        self.bytes = self.bytes.saturating_sub(entry.message.bytes());
        Some(entry)
    }

    /// Says that the connection is lost: what was sent on it is to be sent again, under its id.
    pub(super) fn lost(&mut self) {
        self.handed.clear();
        for entry in &mut self.entries {
            entry.stage = match entry.stage {
                Stage::Handed => Stage::ToSend,
                Stage::Sent { id, .. } => Stage::Sent { id, again: true },
                Stage::Received { id, .. } => Stage::Received { id, again: true },
                other => other,
            };
        }
    }

    /// Says whether the upstream still has the session. Where not, it has forgotten the ids, and the messages under them
    /// with those that it had received and not released: all are sent as if for the first time.
    pub(super) fn resumed(&mut self, present: bool, most: usize) {
        let mut published = 0;
        for entry in &mut self.entries {
            published += usize::from(matches!(entry.stage, Stage::Sent { .. }));
            match entry.stage {
                Stage::Sent { .. } if !present || published > most => entry.stage = Stage::ToSend,
                Stage::Received { .. } if !present => entry.stage = Stage::ToSend,
                _ => {}
            }
        }
    }

    /// Returns what has to be sent again on a new connection, in its order.
    pub(super) fn again(&self) -> Vec<Again> {
        let again = |entry: &Entry| match entry.stage {
            Stage::Sent { id, .. } => Some(Again::Publish(id, entry.message.clone())),
            Stage::Received { id, .. } => Some(Again::Release(id)),
            _ => None,
        };
        self.entries.iter().filter_map(again).collect()
    }

    fn of(&mut self, wanted: u16) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| matches!(entry.stage, Stage::Sent { id, .. } | Stage::Received { id, .. } if id == wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn message(id: i64) -> Outgoing {
        Outgoing {
            id,
            topic: format!("t/{id}"),
            payload: Bytes::new(),
            retain: false,
            identity: format!("s:{id}"),
            received: String::new(),
            properties: None,
        }
    }

    /// A window whose messages 1 to `count` are sent under the packet ids 11, 12 and so on.
    fn sent(count: i64) -> Window {
        let mut window = Window::default();
        for id in 1..=count {
            window.push(message(id), Lane::Backlog);
            window.handed(id);
        }
        for id in 1..=count {
            window.sent(u16::try_from(10 + id).unwrap_or(0));
        }
        window
    }

    fn done(window: &mut Window) -> Vec<i64> {
        std::iter::from_fn(|| window.pop_done()).map(|entry| entry.message.id).collect()
    }

    fn again(window: &Window) -> Vec<(u16, Option<i64>)> {
        let one = |again| match again {
            Again::Publish(id, message) => (id, Some(message.id)),
            Again::Release(id) => (id, None),
        };
        window.again().into_iter().map(one).collect()
    }

    #[test]
    fn messages_leave_in_their_order_whatever_the_order_of_acks() {
        let mut window = sent(3);
        assert_eq!((window.acknowledged(12), window.acknowledged(12)), (Some(2), None), "an id is acknowledged once");
        assert_eq!((done(&mut window), window.unacknowledged(), window.len()), (Vec::<i64>::new(), 2, 3));
        assert_eq!((window.acknowledged(11), window.acknowledged(13)), (Some(1), Some(3)));
        assert_eq!((done(&mut window), window.len(), window.bytes()), (vec![1, 2, 3], 0, 0));
    }

    #[test]
    fn after_a_loss_what_was_sent_goes_again_in_order_and_under_its_id() {
        let mut window = sent(3);
        window.push(message(4), Lane::Backlog);
        window.handed(4);
        assert_eq!(window.acknowledged(12), Some(2));
        window.lost();
        window.resumed(true, 100);
        assert_eq!(again(&window), [(11, Some(1)), (13, Some(3))]);
        assert!(window.repeats());
        assert_eq!(window.to_send(None).map(|message| message.id), Some(4), "it never got an id");
        assert_eq!((window.acknowledged(11), window.acknowledged(13)), (Some(1), Some(3)));
        assert!(!window.repeats());
        assert_eq!(done(&mut window), [1, 2, 3]);
    }

    #[test]
    fn without_a_session_everything_goes_as_if_for_the_first_time() {
        let mut window = sent(2);
        window.received(12);
        window.lost();
        window.resumed(false, 100);
        assert_eq!((again(&window).len(), window.repeats()), (0, false));
        for (row, id) in [(1, 1), (2, 2)] {
            assert_eq!(window.to_send(None).map(|message| message.id), Some(row));
            window.handed(row);
            window.sent(id);
        }
        assert_eq!((window.acknowledged(1), window.acknowledged(2)), (Some(1), Some(2)));
        assert_eq!(done(&mut window), [1, 2]);
    }

    #[test]
    fn an_upstream_that_takes_less_than_before_gets_the_rest_later() {
        let mut window = sent(3);
        window.lost();
        window.resumed(true, 2);
        assert_eq!(again(&window), [(11, Some(1)), (12, Some(2))]);
        assert_eq!(window.to_send(None).map(|message| message.id), Some(3));
    }

    #[test]
    fn a_suspect_lets_another_go_first() {
        let mut window = sent(2);
        window.lost();
        window.forget_ids();
        assert_eq!((window.to_send(Some(1)).map(|message| message.id), window.first_sent()), (Some(2), None));
        window.handed(2);
        assert!(window.to_send(Some(1)).is_none());
        window.sent(1);
        assert_eq!(window.first_sent(), Some(2));
        assert_eq!(window.acknowledged(1), Some(2));
    }

    #[test]
    fn what_qos_2_has_brought_over_is_released_not_sent_again() {
        let mut window = sent(2);
        window.received(11);
        window.lost();
        window.resumed(true, 100);
        assert_eq!(again(&window), [(11, None), (12, Some(2))]);
    }

    #[test]
    fn a_refused_message_is_sent_before_those_after_it() {
        let mut window = sent(2);
        window.push(message(3), Lane::Backlog);
        assert!(window.refused(11).is_some());
        assert_eq!(window.to_send(None).map(|message| message.id), Some(1));
        window.handed(1);
        window.handed(3);
        window.sent(21);
        window.sent(22);
        assert_eq!((window.acknowledged(22), window.acknowledged(12)), (Some(3), Some(2)));
        assert_eq!(done(&mut window), Vec::<i64>::new());
        assert_eq!(window.acknowledged(21), Some(1));
        assert_eq!(done(&mut window), [1, 2, 3]);
    }
}
