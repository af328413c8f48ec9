//! The channel to the hub's own broker: the state of each rule, retained, on a topic of its own.
//!
//! Owns these topics and what stands in them. Whoever subscribes later finds the state as it is. What the bridge forwards of
//! it, the bridge's configuration says, as of any topic.

use bytes::Bytes;

use super::super::error::AlertError;
use super::super::message::Message;
use crate::broker::inside::{Given, Inside};

/// The broker, and where on it.
pub struct States {
    broker: Inside,
    topic: String,
}

impl States {
    pub(super) fn new(broker: Inside, topic: String) -> States {
        States { broker, topic }
    }

    pub(super) async fn send(&self, message: &Message) -> Result<(), AlertError> {
        let given = Given {
            topic: self.topic_of(message),
            payload: Bytes::from(state(message)),
            qos: 1,
            retain: !message.is_test,
            delivery: None,
            properties: None,
            forwards: true,
        };
        // What is published is not published again because the disk is slow: the store may be what it is about.
        self.broker.publish_soon(given).await.map_err(|refused| AlertError::Broker(refused.to_string()))
    }

    /// Returns the topic of a rule and what it is about.
    fn topic_of(&self, message: &Message) -> String {
        format!("{}/{}/{}", self.topic, message.rule, level(&message.subject))
    }
}

/// Writes a source's topic as one level: with its own levels it would be taken for a topic of readings.
fn level(subject: &str) -> String {
    subject.replace('%', "%25").replace(':', "%3A").replace('/', ":")
}

fn state(message: &Message) -> String {
    serde_json::json!({
        "id": message.id,
        "station": message.station,
        "rule": message.rule,
        "subject": message.subject,
        "state": message.state(),
        "severity": message.severity,
        "text": message.text,
        "time": message.time,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn a_source_is_one_level_and_two_sources_are_two() {
        assert_eq!(level("farm/house/weathermeters"), "farm:house:weathermeters");
        assert_ne!(level("a/b"), level("a:b"));
        assert_ne!(level("a:b"), level("a%3Ab"));
    }
}
