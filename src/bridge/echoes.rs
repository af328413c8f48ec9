//! The hub's own messages that an MQTT 3.1.1 upstream sends back, and messages that go round between hubs.
//!
//! Owns the memory of what was sent lately on topics that the hub also subscribes to upstream, and of what came down lately.
//! MQTT 5 needs little of it: there the upstream keeps echoes away, and messages carry marks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::topic;

/// How many messages are remembered.
const REMEMBERED_MAX: usize = 4096;
/// For how long.
const REMEMBERED_TIME: Duration = Duration::from_secs(60);

/// The same message may come down so often in this time.
const ROUNDS_MAX: usize = 10;
const ROUND_TIME: Duration = Duration::from_secs(10);

/// What was sent lately and may come back.
#[derive(Debug)]
pub(super) struct Echoes {
    /// Upstream filters that the hub subscribes to.
    filters: Vec<String>,
    sent: Recent,
}

impl Echoes {
    /// Makes the memory of a bridge that subscribes to `filters`.
    pub(super) fn new(filters: Vec<String>) -> Echoes {
        Echoes { filters, sent: Recent::within(REMEMBERED_TIME) }
    }

    /// Tells whether the hub has asked for messages on an upstream topic.
    pub(super) fn is_wanted(&self, name: &str) -> bool {
        self.filters.iter().any(|filter| topic::matches(filter, name))
    }

    /// Notes a message that is sent now.
    pub(super) fn sent(&self, name: &str, payload: &[u8], now: Instant) {
        if self.is_wanted(name) {
            note(&mut self.sent.seen(now), digest(name, payload), now);
        }
    }

    /// Tells whether a message from the upstream is one of those; each is taken for its echo once.
    pub(super) fn is_echo(&self, name: &str, payload: &[u8], now: Instant) -> bool {
        let mut sent = self.sent.seen(now);
        let digest = digest(name, payload);
        let place = sent.iter().position(|(_, known)| *known == digest);
        place.and_then(|index| sent.remove(index)).is_some()
    }
}

/// What came down lately, to notice what goes round between hubs that subscribe to each other where nothing marks it.
#[derive(Debug)]
pub(super) struct Rounds {
    came: Recent,
}

impl Rounds {
    /// Makes the memory of a bridge to which nothing has come down yet.
    pub(super) fn new() -> Rounds {
        Rounds { came: Recent::within(ROUND_TIME) }
    }

    /// Notes a message that came down; tells whether the same has come so often lately that it goes round.
    pub(super) fn goes_round(&self, name: &str, payload: &[u8], now: Instant) -> bool {
        let digest = digest(name, payload);
        let mut came = self.came.seen(now);
        note(&mut came, digest, now);
        came.iter().filter(|(_, known)| *known == digest).count() > ROUNDS_MAX
    }
}

/// The digests of the last messages within some time, the oldest first.
#[derive(Debug)]
struct Recent {
    time: Duration,
    seen: Mutex<VecDeque<(Instant, u64)>>,
}

impl Recent {
    fn within(time: Duration) -> Recent {
        Recent { time, seen: Mutex::default() }
    }

    /// Returns those that are not too old at `now`.
    fn seen(&self, now: Instant) -> MutexGuard<'_, VecDeque<(Instant, u64)>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.pop_front_if(|(when, _)| now.saturating_duration_since(*when) > self.time).is_some() {}
        seen
    }
}

/// Adds a digest; where there are too many, the oldest goes.
fn note(seen: &mut VecDeque<(Instant, u64)>, digest: u64, now: Instant) {
    if seen.len() >= REMEMBERED_MAX {
        seen.pop_front();
    }
    seen.push_back((now, digest));
}

fn digest(name: &str, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, xxh3_64(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_is_taken_for_its_echo_once() {
        let echoes = Echoes::new(vec!["cmd/#".into(), "pool/+".into()]);
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
    fn what_comes_again_and_again_goes_round() {
        let (rounds, now) = (Rounds::new(), Instant::now());
        let often = |at| (0..ROUNDS_MAX).any(|_| rounds.goes_round("a", b"1", at));
        assert!(!often(now));
        assert!(rounds.goes_round("a", b"1", now) && !rounds.goes_round("a", b"2", now));
        assert!(!often(now + ROUND_TIME + Duration::from_secs(1)));
    }

    #[test]
    fn what_was_sent_long_ago_is_no_echo() {
        let echoes = Echoes::new(vec!["#".into()]);
        let now = Instant::now();
        echoes.sent("a", b"1", now);
        assert!(!echoes.is_echo("a", b"1", now + REMEMBERED_TIME + Duration::from_secs(1)));
    }
}
