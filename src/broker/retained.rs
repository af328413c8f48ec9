//! Retained messages.
//!
//! Owns the newest retained message of each topic, bounded by number and bytes. In memory: a restart forgets them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytestring::ByteString;

use super::message::Message;
use crate::topic;

/// The retained messages.
#[derive(Debug)]
pub struct Retained {
    messages_max: usize,
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    messages: HashMap<ByteString, Arc<Message>>,
    bytes: usize,
}

/// Says that a retained message was not kept: the bound is reached.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Retained {
    /// Makes an empty map with these bounds.
    pub fn new(messages_max: usize, bytes_max: usize) -> Retained {
        Retained { messages_max, bytes_max, kept: Mutex::default() }
    }

    /// Keeps a message in the place of the topic's last, or, where its payload is empty, only forgets that.
    ///
    /// # Errors
    /// [`Full`] where it would pass a bound; the topic's last message is gone all the same, since it is outdated.
    pub fn set(&self, message: &Arc<Message>) -> Result<(), Full> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = kept.messages.remove(&message.topic) {
            kept.bytes -= last.bytes();
        }
        if message.payload.is_empty() {
            return Ok(());
        }
        let full =
            |kept: &Kept| kept.messages.len() >= self.messages_max || kept.bytes + message.bytes() > self.bytes_max;
        if full(&kept) {
            kept.forget_expired(Instant::now());
        }
        if full(&kept) {
            return Err(Full);
        }
        kept.bytes += message.bytes();
        kept.messages.insert(message.topic.clone(), message.clone());
        Ok(())
    }

    /// Returns the messages that a filter matches and that have not expired.
    pub fn matching(&self, filter: &str, now: Instant) -> Vec<Arc<Message>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.messages
            .values()
            .filter(|message| topic::matches(filter, &message.topic) && message.life_left(now).is_some())
            .cloned()
            .collect()
    }
}

impl Kept {
    fn forget_expired(&mut self, now: Instant) {
        self.messages.retain(|_, message| message.life_left(now).is_some());
        self.bytes = self.messages.values().map(|message| message.bytes()).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::wire::QoS;
    use bytes::Bytes;

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
        let retained = Retained::new(10, 10_000);
        assert_eq!(retained.set(&message("a/b", b"1")), Ok(()));
        assert_eq!(retained.set(&message("a/b", b"2")), Ok(()));
        let found = retained.matching("a/+", Instant::now());
        assert_eq!(found.iter().map(|message| &message.payload[..]).collect::<Vec<_>>(), [b"2"]);
        assert_eq!(retained.set(&message("a/b", b"")), Ok(()));
        assert!(retained.matching("#", Instant::now()).is_empty());
    }

    #[test]
    fn the_bounds_hold() {
        let retained = Retained::new(1, 10_000);
        assert_eq!(retained.set(&message("a", b"1")), Ok(()));
        assert_eq!(retained.set(&message("b", b"1")), Err(Full));
        assert_eq!(retained.set(&message("a", b"2")), Ok(()));
        let small = Retained::new(10, 10);
        assert_eq!(small.set(&message("a", b"1")), Err(Full));
        assert!(small.matching("#", Instant::now()).is_empty());
    }
}
