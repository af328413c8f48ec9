//! What topics and filters are called in the router.
//!
//! Owns the budget of names. The router keeps a log for every filter and an entry for every topic that it ever saw, and
//! forgets neither. So only so many have a name of their own there; all others share a few. Whoever reads a shared name
//! sees messages that it did not ask for: the sessions look at every message themselves and take what is theirs.
//! Never forgets a name either, for the router would not.

use std::collections::HashSet;
use std::sync::Mutex;

use rumqttd::RouterConfig;
use xxhash_rust::xxh3::xxh3_64;

use super::lock;

/// Every message under a topic without a name of its own; every trunk reads it.
pub(super) const REST: &str = "r";

/// Memory that the logs of all filters may come to hold, bytes.
const LOGS_BYTES_MAX: usize = 64 << 20;
/// What a log holds in memory for each byte that it counts, in tenths: a message takes about 350 bytes there, and
/// counts as 256 at least.
const LOG_TENTHS: usize = 14;

/// The longest topic or filter that may have a name of its own, bytes: the router keeps names whole, and matches each
/// with each. Longer ones are not worth remembering elsewhere either.
pub(super) const OWN_BYTES_MAX: usize = 256;

/// The names in use.
pub(super) struct Names {
    filters: Mutex<HashSet<String>>,
    filters_max: usize,
    /// Digests of topics: where two are alike, the router knows one topic more than is counted.
    topics: Mutex<HashSet<u64>>,
    topics_max: usize,
}

impl Names {
    /// Makes the budget: filters as they fit the size of the router's logs, and `topics_max` topics, at about 360 bytes in
    /// the router each.
    pub(super) fn new(config: &RouterConfig, topics_max: usize) -> Names {
        let log_bytes =
            config.max_segment_size.saturating_mul(config.max_segment_count).saturating_mul(LOG_TENTHS) / 10;
        let filters_max = (LOGS_BYTES_MAX / log_bytes.max(1)).max(16);
        Names { filters: Mutex::default(), filters_max, topics: Mutex::default(), topics_max }
    }

    /// Returns the name that a message is published under.
    pub(super) fn of_topic(&self, topic: &str) -> String {
        if topic.len() > OWN_BYTES_MAX {
            return REST.to_owned();
        }
        let mut topics = lock(&self.topics);
        let digest = xxh3_64(topic.as_bytes());
        let is_own = topics.contains(&digest) || (topics.len() < self.topics_max && topics.insert(digest));
        drop(topics);
        if is_own { own_name(topic) } else { REST.to_owned() }
    }

    /// Returns the name that a link subscribes to for a filter, the same each time.
    pub(super) fn of_filter(&self, filter: &str) -> String {
        let mut filters = lock(&self.filters);
        if filters.contains(filter) {
            return own_name(filter);
        }
        if filters.len() < self.filters_max && filter.len() <= OWN_BYTES_MAX {
            filters.insert(filter.to_owned());
            return own_name(filter);
        }
        format!("{}#", prefix(filter))
    }
}

/// Returns a topic or a filter as the router knows it: a leading wildcard never meets a `$` topic, and a first
/// character that is not ASCII, of which the router dies, never gets there.
fn own_name(name: &str) -> String {
    format!("{}{name}", prefix(name))
}

fn prefix(name: &str) -> &'static str {
    if name.starts_with('$') { "d/" } else { "m/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let config = RouterConfig { max_segment_size: 1 << 20, max_segment_count: 4, ..RouterConfig::default() };
        Names::new(&config, 100)
    }

    #[test]
    fn filters_beyond_the_budget_share_two_names_for_good() {
        let names = names();
        for number in 0..16 {
            assert_eq!(names.of_filter(&format!("a/{number}")), format!("m/a/{number}"));
        }
        for _ in 0..2 {
            assert_eq!(names.of_filter("b/+"), "m/#");
            assert_eq!(names.of_filter("$SYS/#"), "d/#");
            assert_eq!(names.of_filter("a/3"), "m/a/3");
        }
    }

    #[test]
    fn what_is_very_long_shares_a_name_from_the_start() {
        let (names, long) = (names(), "a".repeat(OWN_BYTES_MAX + 1));
        assert_eq!((names.of_topic(&long), names.of_filter(&long)), (REST.to_owned(), "m/#".to_owned()));
        assert_eq!(names.of_topic(&long[1..]), own_name(&long[1..]));
        assert_eq!(names.of_filter(&long[1..]), own_name(&long[1..]));
    }

    #[test]
    fn topics_beyond_the_budget_share_one_name_for_good() {
        let names = names();
        for number in 0..100 {
            assert_eq!(names.of_topic(&format!("{number}")), format!("m/{number}"));
        }
        assert_eq!(names.of_topic("été"), REST);
        assert_eq!(names.of_topic("7"), "m/7");
    }
}
