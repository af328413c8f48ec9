//! The hub's own messages that an MQTT 3.1.1 upstream sends back.
//!
//! Owns the memory of what was sent lately on topics that the hub also subscribes to upstream. MQTT 5 needs none of it:
//! there the upstream keeps them away, and they carry the hub's identity.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::topic;

/// How many messages are remembered.
const REMEMBERED_MAX: usize = 4096;
/// For how long.
const REMEMBERED_TIME: Duration = Duration::from_secs(60);

/// What was sent lately and may come back.
#[derive(Debug)]
pub(super) struct Echoes {
    /// Upstream filters that the hub subscribes to.
    filters: Vec<String>,
    sent: Mutex<VecDeque<(Instant, u64)>>,
}

impl Echoes {
    /// Makes the memory of a bridge that subscribes to `filters`.
    pub(super) fn new(filters: Vec<String>) -> Echoes {
        Echoes { filters, sent: Mutex::default() }
    }

    /// Tells whether the hub has asked for messages on an upstream topic.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.filters.iter().any(|filter| {
            let plain = topic::shared(filter).map_or(filter.as_str(), |(_, inner)| inner);
            topic::matches(plain, name)
        })
    }

    /// Notes a message that is sent now.
    pub(super) fn sent(&self, name: &str, payload: &[u8], now: Instant) {
        if !self.is_wanted(name) {
            return;
        }
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        if sent.len() >= REMEMBERED_MAX {
            sent.pop_front();
        }
        sent.push_back((now, digest(name, payload)));
    }

    /// Tells whether a message from the upstream is one of those; each is taken for its echo once.
    pub(super) fn is_echo(&self, name: &str, payload: &[u8], now: Instant) -> bool {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        while sent.pop_front_if(|(when, _)| now.saturating_duration_since(*when) > REMEMBERED_TIME).is_some() {}
        let digest = digest(name, payload);
        match sent.iter().position(|(_, known)| *known == digest) {
            Some(index) => sent.remove(index).is_some(),
            None => false,
        }
    }
}

fn digest(name: &str, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_taken_for_its_echo_once() {
        let echoes = Echoes::new(vec!["cmd/#".into(), "$share/g/pool/+".into()]);
        let now = Instant::now();
        echoes.sent("cmd/a", b"1", now);
        echoes.sent("cmd/a", b"1", now);
        echoes.sent("other", b"1", now);
        assert!(echoes.is_echo("cmd/a", b"1", now) && echoes.is_echo("cmd/a", b"1", now));
        assert!(!echoes.is_echo("cmd/a", b"1", now), "somebody else sent the third");
        assert!(!echoes.is_echo("other", b"1", now), "it was not asked for");
        assert!(echoes.is_wanted("pool/1") && !echoes.is_wanted("pool/1/2"));
    }

    #[test]
    fn what_was_sent_long_ago_is_no_echo() {
        let echoes = Echoes::new(vec!["#".into()]);
        let now = Instant::now();
        echoes.sent("a", b"1", now);
        assert!(!echoes.is_echo("a", b"1", now + REMEMBERED_TIME + Duration::from_secs(1)));
    }
}
