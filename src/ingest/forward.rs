//! Which messages go upstream, and which have been there.
//!
//! Owns the rules: what the filters match goes, but nothing that this hub has sent up before and that came round. Pure: no
//! I/O, no state but the rules.

use super::route;
use crate::store::Properties;
use crate::topic;

/// The MQTT 5 user property by which a forwarded message is known upstream: `STATION:NUMBER`.
pub const ID_PROPERTY: &str = "stationhub-id";

/// What is forwarded.
#[derive(Clone, Debug)]
pub struct Forwarding {
    filters: Vec<String>,
    payload_bytes_max: usize,
    /// What this hub's values of [`ID_PROPERTY`] begin with.
    own_ids: String,
    /// What this hub's topics begin with upstream; empty where nothing tells them from others.
    own_topics: String,
}

/// What a topic says of whether its messages go upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// They stay here.
    Stays,
    /// They go.
    Goes,
    /// They went, and came round.
    CameRound,
}

impl Forwarding {
    /// Makes the rules: filters of local topics, the largest payload that goes, and the station's name with its prefix, as
    /// it stands before `{topic}`.
    pub fn new(filters: Vec<String>, payload_bytes_max: usize, station: &str, prefix: &str) -> Forwarding {
        let own_topics = prefix.split("{topic}").next().unwrap_or_default().to_owned();
        Forwarding { filters, payload_bytes_max, own_ids: format!("{station}:"), own_topics }
    }

    /// Judges a topic. A slash at its end makes no difference, as with routes. What begins with `$` is the broker's own.
    pub(super) fn way(&self, name: &str) -> Way {
        let names = [name, route::source_name(name)];
        if name.starts_with('$')
            || !self.filters.iter().any(|filter| names.iter().any(|name| topic::matches(filter, name)))
        {
            return Way::Stays;
        }
        if self.is_own(name) { Way::CameRound } else { Way::Goes }
    }

    /// Tells whether a message's properties say that this hub has sent it upstream before.
    pub(super) fn came_round(&self, properties: &Properties) -> bool {
        properties.user.iter().any(|(name, value)| name == ID_PROPERTY && value.starts_with(&self.own_ids))
    }

    /// Tells whether a payload is small enough to go.
    pub(super) fn takes(&self, payload: &[u8]) -> bool {
        payload.len() <= self.payload_bytes_max
    }

    /// Tells whether this hub's prefix stands within a topic, where a level begins: another hub has put its own before it.
    /// At the topic's beginning it may be a sensor's own choice; and so it may be anywhere, once, where it is one level.
    fn is_own(&self, name: &str) -> bool {
        let own = self.own_topics.as_str();
        if own.is_empty() {
            return false;
        }
        let begins_a_level = |&(at, _): &(usize, &str)| at > 0 && name.as_bytes().get(at - 1) == Some(&b'/');
        let found = name.match_indices(own).filter(begins_a_level).count();
        let levels = own.matches('/').count();
        found >= if levels > 1 { 1 } else { 2 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forwarding(filters: &[&str], prefix: &str) -> Forwarding {
        Forwarding::new(filters.iter().map(|&filter| filter.to_owned()).collect(), 100, "a", prefix)
    }

    #[test]
    fn what_a_filter_matches_goes_with_a_slash_at_its_end_or_not_and_the_brokers_own_stays() {
        let some = forwarding(&["farm/+/meteo", "log/#"], "");
        for name in ["farm/1/meteo", "farm/1/meteo/", "log", "log/x/y"] {
            assert_eq!(some.way(name), Way::Goes, "{name}");
        }
        for name in ["farm/1/meteo/x", "logs", "$SYS/uptime"] {
            assert_eq!(some.way(name), Way::Stays, "{name}");
        }
        assert_eq!(forwarding(&["$internal/#"], "").way("$internal/x"), Way::Stays);
        assert_eq!(forwarding(&[], "").way("a"), Way::Stays);
    }

    #[test]
    fn a_topic_that_this_hub_made_upstream_has_come_round_however_it_was_wrapped() {
        let all = forwarding(&["#"], "stations/a/{topic}");
        for name in ["stations/b/stations/a/x", "down/stations/a/stations/a/x", "stations/a/stations/a/x"] {
            assert_eq!(all.way(name), Way::CameRound, "{name}");
        }
        for name in ["stations/a/x", "stations/ab/x", "stations/b/x", "mystations/a/x", "stations/a"] {
            assert_eq!(all.way(name), Way::Goes, "{name}");
        }
        let short = forwarding(&["#"], "a/{topic}");
        for name in ["a/x", "farm/a/x", "a/a/x"] {
            assert_eq!(short.way(name), Way::Goes, "{name}: sensors like to name their station");
        }
        assert_eq!(short.way("b/a/b/a/x"), Way::CameRound);
        assert_eq!(forwarding(&["#"], "{topic}").way("x"), Way::Goes);
        assert_eq!(forwarding(&["up/#"], "stations/a/{topic}").way("stations/a/x"), Way::Stays);
    }

    #[test]
    fn a_message_is_known_by_its_number_upstream() {
        let all = forwarding(&["#"], "{topic}");
        let with = |name: &str, value: &str| Properties {
            user: vec![("x".to_owned(), "a:1".to_owned()), (name.to_owned(), value.to_owned())],
            ..Properties::default()
        };
        assert!(all.came_round(&with(ID_PROPERTY, "a:17")));
        assert!(!all.came_round(&with(ID_PROPERTY, "ab:17")));
        assert!(!all.came_round(&with("other", "a:17")));
    }
}
