//! Which topics are readings, and of which kind.
//!
//! Owns the matching of routes. Pure: no I/O, no state but the list.

use crate::config::{Pattern, Route};
use crate::reading::Kind;
use crate::topic;

/// Returns the kind of reading that a topic carries, by the first route that matches. A slash at the topic's end
/// makes no difference.
pub fn kind(routes: &[Route], name: &str) -> Option<Kind> {
    let name = source_name(name);
    routes.iter().find(|route| matches(&route.pattern, name)).map(|route| route.kind)
}

fn matches(pattern: &Pattern, name: &str) -> bool {
    match pattern {
        Pattern::Level(level) => name.split('/').any(|part| part == level),
        Pattern::Filter(filter) => topic::matches(filter, name),
    }
}

/// Returns the topic without a slash at its end: the name of the source.
pub fn source_name(topic: &str) -> &str {
    topic.strip_suffix('/').unwrap_or(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Vec<Route> {
        [(Kind::Weather, "weathermeters"), (Kind::Magnetic, "magneticfluxsensor")]
            .map(|(kind, level)| Route { kind, pattern: Pattern::Level(level.to_owned()) })
            .into()
    }

    #[test]
    fn a_level_matches_whole_and_anywhere() {
        let routes = defaults();
        for topic in
            ["weathermeters", "weathermeters/", "backacres/house/weatherstation/weathermeters/", "a/weathermeters/b"]
        {
            assert_eq!(kind(&routes, topic), Some(Kind::Weather), "{topic}");
        }
        assert_eq!(kind(&routes, "a/magneticfluxsensor"), Some(Kind::Magnetic));
        for topic in ["a/weathermeters2", "a/Weathermeters", "weather/meters", "/"] {
            assert_eq!(kind(&routes, topic), None, "{topic}");
        }
    }

    #[test]
    fn a_filter_matches_as_mqtt_says_with_a_slash_at_the_end_or_not() {
        let routes = [Route { kind: Kind::Weather, pattern: Pattern::Filter("farm/+/meteo".into()) }];
        assert_eq!(kind(&routes, "farm/1/meteo"), Some(Kind::Weather));
        assert_eq!(kind(&routes, "farm/1/meteo/"), Some(Kind::Weather));
        assert_eq!(kind(&routes, "farm/1/2/meteo"), None);
    }
}
