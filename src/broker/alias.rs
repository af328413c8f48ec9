//! MQTT 5's topic aliases, in both directions.
//!
//! Owns the two tables of one connection; they begin empty with it and end with it. It never decides whether a packet
//! is sent.

use std::collections::HashMap;

use bytestring::ByteString;

use super::message::copy_text;

/// The aliases that a client has set.
#[derive(Debug)]
pub(super) struct Incoming {
    most: u16,
    topics: HashMap<u16, ByteString>,
}

/// What is wrong with a publish that uses an alias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AliasError {
    /// It is higher than the hub allows.
    TooHigh,
    /// It stands for no topic.
    Unknown,
}

impl Incoming {
    /// Makes an empty table for aliases up to `most`.
    pub(super) fn new(most: u16) -> Incoming {
        Incoming { most, topics: HashMap::new() }
    }

    /// Returns the topic of a publish: its own, for which the alias stands from now on, or the one that the alias
    /// stands for.
    pub(super) fn resolve(&mut self, alias: u16, topic: &ByteString) -> Result<ByteString, AliasError> {
        if alias > self.most {
            return Err(AliasError::TooHigh);
        }
        if topic.is_empty() {
            return self.topics.get(&alias).cloned().ok_or(AliasError::Unknown);
        }
        if self.topics.get(&alias) != Some(topic) {
            self.topics.insert(alias, copy_text(topic));
        }
        Ok(topic.clone())
    }
}

/// The aliases that the hub has set: the first topics get one each, later ones go without.
#[derive(Debug)]
pub(super) struct Outgoing {
    most: u16,
    aliases: HashMap<ByteString, u16>,
}

/// How a topic is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alias {
    /// By its name alone.
    None,
    /// By its name, together with an alias that the client learns by it.
    New(u16),
    /// By an alias alone.
    Known(u16),
}

impl Outgoing {
    /// Makes an empty table for aliases up to `most`.
    pub(super) fn new(most: u16) -> Outgoing {
        Outgoing { most, aliases: HashMap::new() }
    }

    /// Returns how a topic is to be written.
    pub(super) fn of(&self, topic: &str) -> Alias {
        if self.most == 0 {
            return Alias::None;
        }
        match self.aliases.get(topic) {
            Some(alias) => Alias::Known(*alias),
            None => match u16::try_from(self.aliases.len() + 1) {
                Ok(alias) if alias <= self.most => Alias::New(alias),
                _ => Alias::None,
            },
        }
    }

    /// Notes that the packet that sets a new alias is written.
    pub(super) fn learned(&mut self, topic: &ByteString, alias: u16) {
        self.aliases.insert(topic.clone(), alias);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_stands_for_the_topic_that_came_with_it_last() {
        let mut aliases = Incoming::new(2);
        let (none, a, b) = (ByteString::new(), ByteString::from("a"), ByteString::from("b"));
        assert_eq!(aliases.resolve(1, &none), Err(AliasError::Unknown));
        assert_eq!(aliases.resolve(1, &a), Ok(a.clone()));
        assert_eq!(aliases.resolve(1, &none), Ok(a));
        assert_eq!(aliases.resolve(1, &b), Ok(b.clone()));
        assert_eq!(aliases.resolve(1, &none), Ok(b));
        assert_eq!(aliases.resolve(2, &none), Err(AliasError::Unknown));
        assert_eq!(aliases.resolve(3, &"c".into()), Err(AliasError::TooHigh));
    }

    #[test]
    fn an_alias_is_set_by_a_packet_that_was_written_and_no_more_than_the_client_takes() {
        let mut aliases = Outgoing::new(1);
        assert_eq!(aliases.of("a"), Alias::New(1));
        assert_eq!(aliases.of("b"), Alias::New(1), "the packet for a was not written");
        aliases.learned(&"b".into(), 1);
        assert_eq!(aliases.of("b"), Alias::Known(1));
        assert_eq!(aliases.of("a"), Alias::None);
        assert_eq!(Outgoing::new(0).of("a"), Alias::None);
    }
}
