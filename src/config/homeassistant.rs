//! Section `[homeassistant]`: how the weather is told to Home Assistant.
//!
//! Owns its keys, their defaults and ranges, and the rule that no route may take what the hub publishes there for readings.

use std::time::Duration;

use super::reader::Reader;
use super::sections::seconds;
use super::{Pattern, Route};
use crate::homeassistant::Names;
use crate::topic::overlap;

/// Longest beginning of a topic, bytes.
const TOPIC_BYTES_MAX: usize = 256;

/// Section `[homeassistant]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeAssistant {
    /// Whether anything is told.
    pub enabled: bool,
    /// Where Home Assistant looks for announcements.
    pub prefix: String,
    /// The beginning of the topics with values.
    pub topic: String,
    /// Time between two looks for new readings.
    pub interval: Duration,
}

/// Reads the section; `station` is the station's name.
pub(super) fn homeassistant(reader: &mut Reader, station: &str, routes: &[Route]) -> HomeAssistant {
    let enabled = reader.switch("homeassistant.enabled").unwrap_or(false);
    let words = "the beginning of a topic, without '+', '#', a '$' in front and a '/' at its end";
    let topic = |text: &str| is_beginning(text).then(|| text.to_owned());
    let mut beginning = |key: &str, default: &str| reader.text(key, words, topic).unwrap_or_else(|| default.to_owned());
    let (prefix, topic) =
        (beginning("homeassistant.prefix", "homeassistant"), beginning("homeassistant.topic", "stationhub"));
    let interval = seconds(reader, "homeassistant.interval_s", 10, 1..=3_600);
    if enabled {
        refuse_routes(reader, &Names::new(&prefix, &topic, station), routes);
    }
    HomeAssistant { enabled, prefix, topic, interval }
}

fn is_beginning(text: &str) -> bool {
    let is_wrong = text.is_empty()
        || text.len() > TOPIC_BYTES_MAX
        || text.starts_with('$')
        || text.ends_with('/')
        || text.contains(['+', '#', '\0']);
    !is_wrong
}

/// Reports the first route that matches what the hub itself would publish: each message would come back as a reading.
fn refuse_routes(reader: &mut Reader, names: &Names, routes: &[Route]) {
    let own = names.filters();
    let taken = routes.iter().find_map(|route| {
        let is_taken = |own: &&String| match &route.pattern {
            Pattern::Level(level) => own.split('/').any(|part| part == level),
            Pattern::Filter(filter) => overlap(filter, own),
        };
        Some((own.iter().find(is_taken)?, &route.pattern))
    });
    if let Some((own, Pattern::Level(route) | Pattern::Filter(route))) = taken {
        let text = format!(
            "the hub would publish on {own:?}, which the route {route:?} of [[ingest.route]] takes for readings; let the route \
             match less, or change homeassistant.prefix or homeassistant.topic"
        );
        reader.complain("homeassistant.enabled", text);
    }
}
