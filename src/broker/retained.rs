//! Retained messages.
//!
//! Owns the newest retained message of each topic, bounded by number and bytes, and which topics differ from what the
//! store has. It never writes: the keeper takes the changes.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytestring::ByteString;

use super::keeper::Changed;
use super::message::Message;
use super::record;
use super::wire::QoS;
use crate::clock::now_ms;
use crate::store::{Change, KeptMessage};
use crate::topic;

/// The retained messages.
#[derive(Debug)]
pub struct Retained {
    messages_max: usize,
    bytes_max: usize,
    changed: Arc<Changed>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<ByteString, Arc<Message>>,
    bytes: usize,
    /// Topics that have a row in the store.
    stored: HashSet<ByteString>,
    /// Topics whose row differs from what is here.
    differs: HashSet<ByteString>,
}

/// Says that a retained message was not kept: the bound is reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Retained {
    /// Makes an empty map with these bounds.
    pub(super) fn new(messages_max: usize, bytes_max: usize, changed: Arc<Changed>) -> Retained {
        Retained { messages_max, bytes_max, changed, kept: Mutex::default() }
    }

    /// Keeps a message in the place of the topic's last, or, where its payload is empty, only forgets that.
    ///
    /// # Errors
    /// [`Full`] where it would pass a bound; the topic's last message is gone all the same, since it is outdated.
    pub fn set(&self, message: &Arc<Message>) -> Result<(), Full> {
        let mut kept = self.lock();
        kept.remove(&message.topic);
        if self.changed.rows_are_unknown() {
            kept.differs.insert(message.topic.clone());
        }
        self.changed.note(message.qos > QoS::AtMostOnce);
        if message.payload.is_empty() {
            return Ok(());
        }
        if self.is_full(&kept, message) {
            kept.forget_expired(Instant::now());
        }
        if self.is_full(&kept, message) {
            return Err(Full);
        }
        kept.insert(message.clone());
        kept.differs.insert(message.topic.clone());
        Ok(())
    }

    /// Returns the messages that a filter matches and that have not expired.
    pub fn matching(&self, filter: &str, now: Instant) -> Vec<Arc<Message>> {
        let kept = self.lock();
        kept.messages
            .values()
            .filter(|message| topic::matches(filter, &message.topic) && message.life_left(now).is_some())
            .cloned()
            .collect()
    }

    /// Returns the topics whose message came from a publisher of this name.
    pub(super) fn topics_of(&self, publisher: &str) -> Vec<String> {
        let kept = self.lock();
        let own = kept.messages.values().filter(|message| *message.publisher == *publisher);
        own.map(|message| message.topic.to_string()).collect()
    }

    /// Takes what the store kept; returns how many messages have no room, or are no messages, and are forgotten.
    pub(super) fn restore(&self, stored: Vec<(String, KeptMessage)>) -> usize {
        let (now, now_ms) = (Instant::now(), now_ms());
        let mut kept = self.lock();
        let mut refused = 0;
        for (topic, message) in stored {
            let topic = ByteString::from(topic);
            kept.stored.insert(topic.clone());
            let is_expired = message.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms);
            match record::read(message, now, now_ms) {
                Some(message) if message.topic == topic && !self.is_full(&kept, &message) => kept.insert(message),
                _ => {
                    refused += usize::from(!is_expired);
                    kept.differs.insert(topic);
                }
            }
        }
        if !kept.differs.is_empty() {
            self.changed.note(false);
        }
        refused
    }

    /// Takes changes that the store does not have yet, about `bytes_max` of them.
    pub(super) fn take_changes(&self, bytes_max: usize) -> Vec<Change> {
        let (now, now_ms) = (Instant::now(), now_ms());
        let mut kept = self.lock();
        let mut changes = Vec::new();
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(topic) = kept.differs.iter().next().cloned() else { break };
            kept.differs.remove(&topic);
            let message =
                kept.messages.get(&topic).map(|message| record::write(message, message.qos, true, now, now_ms));
            if message.is_some() {
                kept.stored.insert(topic.clone());
            } else {
                kept.stored.remove(&topic);
            }
            let change = Change::Retain { topic: (&*topic).into(), message };
            bytes += change.bytes();
            changes.push(change);
        }
        changes
    }

    fn is_full(&self, kept: &Kept, message: &Message) -> bool {
        kept.messages.len() >= self.messages_max || kept.bytes + message.bytes() > self.bytes_max
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn insert(&mut self, message: Arc<Message>) {
        self.bytes += message.bytes();
        self.messages.insert(message.topic.clone(), message);
    }

    /// Forgets a topic's message, and notes whether the store has to.
    fn remove(&mut self, topic: &ByteString) {
        if let Some(last) = self.messages.remove(topic) {
            self.bytes -= last.bytes();
        }
        if self.stored.contains(topic) {
            self.differs.insert(topic.clone());
        } else {
            self.differs.remove(topic);
        }
    }

    fn forget_expired(&mut self, now: Instant) {
        let expired: Vec<ByteString> = self
            .messages
            .values()
            .filter(|message| message.life_left(now).is_none())
            .map(|message| message.topic.clone())
            .collect();
        for topic in expired {
            self.remove(&topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn empty(messages_max: usize, bytes_max: usize) -> Retained {
        Retained::new(messages_max, bytes_max, Arc::default())
    }

    /// Returns the changes as topic and whether there is a message, sorted.
    fn changes(retained: &Retained) -> Vec<(String, bool)> {
        let mut changes: Vec<_> = retained
            .take_changes(usize::MAX)
            .into_iter()
            .map(|change| match change {
                Change::Retain { topic, message } => (topic.into(), message.is_some()),
                other => panic!("{other:?}"),
            })
            .collect();
        changes.sort();
        changes
    }

    fn message(topic: &'static str, payload: &'static [u8]) -> Arc<Message> {
        Arc::new(Message {
            topic: topic.into(),
            payload: Bytes::from_static(payload),
            qos: QoS::AtMostOnce,
            retain: true,
            publisher: "p".into(),
            properties: None,
            expires: None,
        })
    }

    #[test]
    fn a_message_replaces_the_last_and_an_empty_one_forgets_it() {
        let retained = empty(10, 10_000);
        assert_eq!(retained.set(&message("a/b", b"1")), Ok(()));
        assert_eq!(retained.set(&message("a/b", b"2")), Ok(()));
        let found = retained.matching("a/+", Instant::now());
        assert_eq!(found.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [b"2"]);
        assert_eq!(retained.set(&message("a/b", b"")), Ok(()));
        assert!(retained.matching("#", Instant::now()).is_empty());
    }

    #[test]
    fn the_bounds_hold() {
        let retained = empty(1, 10_000);
        assert_eq!(retained.set(&message("a", b"1")), Ok(()));
        assert_eq!(retained.set(&message("b", b"1")), Err(Full));
        assert_eq!(retained.set(&message("a", b"2")), Ok(()));
        let small = empty(10, 10);
        assert_eq!(small.set(&message("a", b"1")), Err(Full));
        assert!(small.matching("#", Instant::now()).is_empty());
    }

    #[test]
    fn the_store_is_told_of_each_topic_once_and_of_nothing_that_it_never_had() {
        let retained = empty(10, 10_000);
        for payload in [b"1", b"2", b"3"] {
            assert_eq!(retained.set(&message("often", payload)), Ok(()));
        }
        assert_eq!(retained.set(&message("brief", b"1")), Ok(()));
        assert_eq!(retained.set(&message("brief", b"")), Ok(()));
        assert_eq!(changes(&retained), [("often".to_owned(), true)]);
        assert!(changes(&retained).is_empty());
        for payload in [&b""[..], b"4", b""] {
            assert_eq!(retained.set(&message("often", payload)), Ok(()));
        }
        assert_eq!(changes(&retained), [("often".to_owned(), false)]);
    }

    #[test]
    fn what_the_store_kept_comes_back_within_the_bounds() {
        let before = empty(10, 10_000);
        for topic in ["a", "b"] {
            assert_eq!(before.set(&message(topic, b"1")), Ok(()));
        }
        let rows = |retained: &Retained| {
            let rows = retained.take_changes(usize::MAX).into_iter().filter_map(|change| match change {
                Change::Retain { topic, message } => Some((topic.into(), message?)),
                _ => None,
            });
            rows.collect::<Vec<(String, KeptMessage)>>()
        };
        let after = empty(1, 10_000);
        assert_eq!(after.restore(rows(&before)), 1);
        assert_eq!(after.matching("#", Instant::now()).len(), 1);
        assert_eq!(changes(&after).len(), 1, "the row without room goes");
    }
}
