//! Ids and topics: what the hub's entities are called in Home Assistant, and where it publishes.
//!
//! Owns the form of ids: letters, digits, `_` and `-` only, the same at each start, and different for different sources.
//! Pure. It never publishes, and it knows no route: whoever asks compares the topics with them.

use sha2::{Digest, Sha256};

/// Longest text that stands in an id as it is, bytes.
const PLAIN_BYTES_MAX: usize = 64;
/// Bytes of the digest that an id ends with where the text does not stand in it as it is.
const DIGEST_BYTES: usize = 6;
/// Stands between the parts of an id.
const SEPARATOR: &str = "--";
/// Stands before the digest, and in no text that stands in an id as it is.
const DIGEST_MARK: &str = "---";

/// The topics and ids of one station.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    prefix: String,
    base: String,
    station: String,
}

impl Names {
    /// Makes them of Home Assistant's prefix, the beginning of the topics with states, and the station's name.
    pub fn new(prefix: &str, base: &str, station: &str) -> Names {
        Names { prefix: prefix.to_owned(), base: base.to_owned(), station: id_of(station) }
    }

    /// Returns the filters that match every topic the hub publishes on, and hardly any other.
    pub fn filters(&self) -> [String; 3] {
        let Names { prefix, base, station } = self;
        [
            format!("{prefix}/sensor/{station}/+/config"),
            format!("{base}/{station}/+/state"),
            format!("{base}/{station}/status"),
        ]
    }

    /// Returns the topic that says whether the hub runs.
    pub fn status(&self) -> String {
        format!("{}/{}/status", self.base, self.station)
    }

    /// Returns the topic with the values of a source.
    pub fn state(&self, source: &str) -> String {
        format!("{}/{}/{}/state", self.base, self.station, id_of_source(source))
    }

    /// Returns the topic that announces a quantity of a source.
    pub fn config(&self, source: &str, quantity: &str) -> String {
        let (prefix, station, source) = (&self.prefix, &self.station, id_of_source(source));
        format!("{prefix}/sensor/{station}/{source}{SEPARATOR}{quantity}/config")
    }

    /// Tells whether a topic is one that this station has, whatever its sources.
    pub fn has(&self, topic: &str) -> bool {
        self.filters().iter().any(|filter| crate::topic::matches(filter, topic))
    }

    /// Returns the id of a quantity of a source.
    pub fn entity(&self, source: &str, quantity: &str) -> String {
        let source = id_of_source(source);
        format!("{}{SEPARATOR}{source}{SEPARATOR}{quantity}", self.device())
    }

    /// Returns the id of the station.
    pub fn device(&self) -> String {
        format!("stationhub{SEPARATOR}{}", self.station)
    }
}

/// Returns a source's id. A topic of one level alone never stands there as it is: as a level of another topic it would make
/// that one a topic of readings.
fn id_of_source(topic: &str) -> String {
    if topic.contains('/') { id_of(topic) } else { digested(topic) }
}

/// Returns an id of a text, with `--` for each `/`. Where it is not clear from the id which text it was, its digest is part of it.
fn id_of(text: &str) -> String {
    let is_plain = |level: &str| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        !level.is_empty()
            && level.bytes().all(allowed)
            && !level.starts_with('-')
            && !level.ends_with('-')
            && !level.contains(SEPARATOR)
    };
    if text.len() <= PLAIN_BYTES_MAX && text.split('/').all(is_plain) {
        text.replace('/', SEPARATOR)
    } else {
        digested(text)
    }
}

fn digested(text: &str) -> String {
    let readable = |letter: char| match letter {
        '/' => SEPARATOR.to_owned(),
        letter if letter.is_ascii_alphanumeric() => letter.to_string(),
        _ => "_".to_owned(),
    };
    let beginning: String = text.chars().take(PLAIN_BYTES_MAX).map(readable).collect();
    let digest = Sha256::digest(text.as_bytes());
    let digest: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("{}{DIGEST_MARK}{digest}", beginning.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names() -> Names {
        Names::new("homeassistant", "stationhub", "back acres")
    }

    #[test]
    fn a_usual_topic_stands_in_ids_as_it_is() {
        let names = Names::new("homeassistant", "stationhub", "farm");
        let source = "backacres/house/weather-station/weathermeters";
        assert_eq!(names.status(), "stationhub/farm/status");
        assert_eq!(names.state(source), "stationhub/farm/backacres--house--weather-station--weathermeters/state");
        assert_eq!(
            names.config(source, "dew_point"),
            "homeassistant/sensor/farm/backacres--house--weather-station--weathermeters--dew_point/config"
        );
        assert_eq!(
            names.entity(source, "rain"),
            "stationhub--farm--backacres--house--weather-station--weathermeters--rain"
        );
    }

    #[test]
    fn what_does_not_stand_there_as_it_is_has_a_digest_that_stays_the_same() {
        assert_eq!(names().device(), "stationhub--back_acres---6bd988950159");
        assert_eq!(id_of_source("weathermeters"), "weathermeters---d7d7433bc962");
    }

    #[test]
    fn different_sources_have_different_ids_of_allowed_letters_and_bounded_length() {
        let long = format!("{}/a", "x".repeat(60_000));
        let longer = format!("{}/b", "x".repeat(60_000));
        let topics = [
            "a/b",
            "a--b",
            "a/b/",
            "a//b",
            "/a/b",
            "a-/b",
            "a/-b",
            "a-b",
            "a_b",
            "a b",
            "a.b",
            "a\u{e4}b",
            "A/b",
            "a/B",
            "a",
            "",
            "/",
            "//",
            "a/b---000000000000",
            "été/x",
            "ete/x",
            "a/\u{1F327}",
            "a/\n",
            "a/\t",
            "a/+x",
            "a/\"'}}{{",
            &long,
            &longer,
        ];
        let mut ids = HashSet::new();
        for topic in topics {
            for quantity in ["rain", "rain_rate"] {
                let id = names().entity(topic, quantity);
                assert!(id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')), "{id}");
                assert!(id.len() <= 255, "{id}");
                assert!(ids.insert(id), "{topic:?} has the id of another");
            }
        }
        let configs: HashSet<String> = topics.iter().map(|topic| names().config(topic, "rain")).collect();
        let states: HashSet<String> = topics.iter().map(|topic| names().state(topic)).collect();
        assert_eq!((configs.len(), states.len()), (topics.len(), topics.len()));
    }

    #[test]
    fn a_station_and_a_source_do_not_run_into_each_other() {
        let left = Names::new("h", "s", "a").entity("b/c", "rain");
        assert_ne!(left, Names::new("h", "s", "a--b").entity("c", "rain"));
    }

    #[test]
    fn no_level_is_a_sources_last_one() {
        let names = Names::new("homeassistant", "stationhub", "farm");
        for source in ["weathermeters", "a/weathermeters", "weathermeters/", "/weathermeters", "weathermeters/x"] {
            for topic in [names.state(source), names.config(source, "rain"), names.status()] {
                assert!(topic.split('/').all(|level| level != "weathermeters"), "{topic}");
                assert!(names.has(&topic), "{topic}");
            }
        }
        assert!(!names.has("homeassistant/sensor/barn/a--rain/config"));
    }
}
