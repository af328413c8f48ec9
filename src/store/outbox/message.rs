//! What waits for the upstream, as values.
//!
//! Owns the types that go into the outbox and come out of it, and the JSON that their rows hold. It never touches the
//! database.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The topic that stands in the row of a gap marker.
pub const GAP_TOPIC: &str = "stationhub/gap";

/// Which of the two orders a message is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// What has waited: up to the boundary, and everything where there is none.
    Backlog,
    /// What came in since: above the boundary.
    Live,
}

/// How a message goes upstream.
#[derive(Clone, Debug)]
pub struct Forward {
    /// The topic as it was published on, with its trailing slash if it has one.
    pub topic: Arc<str>,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// Its MQTT 5 properties; `None` where it has none.
    pub properties: Option<Box<Properties>>,
}

/// The MQTT 5 properties of a message that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Properties {
    /// The payload's media type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The topic for answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// What an answer has to carry along.
    #[serde(skip_serializing_if = "Option::is_none", with = "in_base64")]
    pub correlation_data: Option<Vec<u8>>,
    /// 0: bytes; 1: UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_format: Option<u8>,
    /// Names and values of the user, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<(String, String)>,
    /// When the message expires, Unix milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_ms: Option<i64>,
}

/// What is missing at a place in the outbox, because it was dropped for its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Messages dropped.
    pub messages: u64,
    /// Their payloads, bytes.
    pub bytes: u64,
    /// The number of the first.
    pub first_id: i64,
    /// The number of the last, which is the marker's own.
    pub last_id: i64,
    /// When the first was received, Unix milliseconds.
    pub first_received_ms: i64,
    /// When the last was received, Unix milliseconds.
    pub last_received_ms: i64,
}

/// A message, or a gap marker, that waits for the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its number; one comes after those with lower ones.
    pub id: i64,
    /// When the hub received it, Unix milliseconds.
    pub received_ms: i64,
    /// The topic it was published on.
    pub topic: String,
    /// Whether it was published to be retained.
    pub retain: bool,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its MQTT 5 properties.
    pub properties: Option<Properties>,
    /// What is missing here, where this is a gap marker.
    pub gap: Option<Gap>,
}

/// A change of the outbox that the bridge asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OutboxChange {
    /// The upstream has what lies above `lane_after`, up to and with `through`.
    Sent {
        /// The number below the lane's first.
        lane_after: i64,
        /// The number of the last that it has.
        through: i64,
    },
    /// The upstream will never take this message: it goes to quarantine. A gap marker goes for good.
    SetAside {
        /// Its number.
        id: i64,
        /// Why, in one word or two.
        reason: &'static str,
        /// What the upstream said.
        detail: String,
    },
}

impl Forward {
    /// Returns about how many bytes it occupies, the topic aside, which others share.
    pub fn bytes(&self) -> usize {
        size_of::<Forward>() + self.properties.as_deref().map_or(0, Properties::bytes)
    }
}

impl Properties {
    /// Returns about how many bytes they occupy.
    pub fn bytes(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let user = self.user.iter().map(|(name, value)| size_of::<(String, String)>() + name.len() + value.len());
        size_of::<Properties>()
            + text(&self.content_type)
            + text(&self.response_topic)
            + self.correlation_data.as_ref().map_or(0, Vec::len)
            + user.sum::<usize>()
    }
}

impl OutboxChange {
    /// Returns about how many bytes the change occupies.
    pub fn bytes(&self) -> usize {
        let detail = match self {
            OutboxChange::Sent { .. } => 0,
            OutboxChange::SetAside { detail, .. } => detail.len(),
        };
        size_of::<OutboxChange>() + detail
    }
}

mod in_base64 {
    //! Bytes as text that JSON can hold.

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Option<Vec<u8>>, serializer: S) -> Result<S::Ok, S::Error> {
        bytes.as_ref().map(|bytes| STANDARD.encode(bytes)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| STANDARD.decode(text)).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn properties_come_back_from_their_row_as_they_went_in() {
        let all = Properties {
            content_type: Some("application/json".to_owned()),
            response_topic: Some("a/answers".to_owned()),
            correlation_data: Some(vec![0, 255, 7]),
            payload_format: Some(1),
            user: vec![("a".to_owned(), "1".to_owned()), ("a".to_owned(), "2".to_owned())],
            expires_ms: Some(1_759_479_845_000),
        };
        for properties in [all, Properties::default()] {
            let text = serde_json::to_string(&properties).unwrap();
            assert_eq!(serde_json::from_str::<Properties>(&text).unwrap(), properties, "{text}");
        }
    }
}
