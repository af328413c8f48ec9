//! From a row of the outbox to a message for the upstream.
//!
//! Owns the upstream topic, the identity and the gap marker's payload. Pure.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use crate::store::{Gap, Properties, Waiting};

/// Longest topic that MQTT can carry, bytes.
const TOPIC_BYTES_MAX: usize = 65_535;
/// What a PUBLISH holds beside topic, payload and the publisher's own properties, bytes, generously.
const FRAME_BYTES: usize = 256;

/// A message as the upstream gets it.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// Its number in the outbox.
    pub(super) id: i64,
    /// Its topic upstream.
    pub(super) topic: String,
    /// Its payload.
    pub(super) payload: Bytes,
    /// Whether the upstream is to retain it.
    pub(super) retain: bool,
    /// `<station>:<number>`, the same however often it is sent.
    pub(super) identity: String,
    /// When the hub received it, RFC 3339.
    pub(super) received: String,
    /// The publisher's own properties.
    pub(super) properties: Option<Box<Properties>>,
}

/// Makes messages out of rows.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// The station's name.
    pub(super) station: String,
    /// The upstream topic, `{topic}` in it.
    pub(super) prefix: String,
    /// Whether the retain flag is kept.
    pub(super) keep_retained: bool,
}

impl Form {
    /// Makes the message of a row.
    pub(super) fn outgoing(&self, row: Waiting) -> Outgoing {
        let payload = match &row.gap {
            Some(gap) => marker(gap).into(),
            None => row.payload.into(),
        };
        Outgoing {
            id: row.id,
            topic: self.prefix.replace("{topic}", &row.topic),
            payload,
            retain: row.retain && self.keep_retained,
            identity: format!("{}:{}", self.station, row.id),
            received: time(row.received_ms),
            properties: row.properties.map(Box::new),
        }
    }

    /// Tells whether an identity is one of this station's.
    pub(super) fn is_own(&self, identity: &str) -> bool {
        identity.strip_prefix(&self.station).is_some_and(|rest| rest.starts_with(':'))
    }
}

impl Outgoing {
    /// Tells why a message can never go upstream, where it cannot.
    pub(super) fn obstacle(&self, payload_bytes_max: usize, packet_bytes_max: Option<usize>) -> Option<String> {
        if self.topic.len() > TOPIC_BYTES_MAX {
            return Some(format!("its topic upstream has {} bytes, MQTT allows {TOPIC_BYTES_MAX}", self.topic.len()));
        }
        if self.topic.chars().any(char::is_control) {
            return Some("its topic has control characters, at which servers close the connection".to_owned());
        }
        if self.payload.len() > payload_bytes_max {
            return Some(format!(
                "it has {} bytes, bridge.payload_bytes_max is {payload_bytes_max}",
                self.payload.len()
            ));
        }
        let packet = self.bytes();
        packet_bytes_max
            .filter(|&most| packet > most)
            .map(|most| format!("it takes about {packet} bytes, and the upstream takes packets up to {most}"))
    }

    /// Returns about how many bytes the message takes on its way.
    pub(super) fn bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, Properties::bytes);
        FRAME_BYTES + self.topic.len() + self.payload.len() + self.identity.len() + properties
    }
}

/// What a gap marker tells.
#[derive(Serialize)]
struct Marker<'g> {
    /// Messages that were dropped.
    messages: u64,
    /// Their bytes.
    bytes: u64,
    first_id: i64,
    last_id: i64,
    first_received: String,
    last_received: String,
    reason: &'g str,
}

fn marker(gap: &Gap) -> Vec<u8> {
    let marker = Marker {
        messages: gap.messages,
        bytes: gap.bytes,
        first_id: gap.first_id,
        last_id: gap.last_id,
        first_received: time(gap.first_received_ms),
        last_received: time(gap.last_received_ms),
        reason: "outbox limit",
    };
    serde_json::to_vec(&marker).unwrap_or_default()
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn form(prefix: &str, keep_retained: bool) -> Form {
        Form { station: "hill".to_owned(), prefix: prefix.to_owned(), keep_retained }
    }

    fn row() -> Waiting {
        Waiting {
            id: 1_764_000_000_007,
            received_ms: 1_764_000_000_250,
            topic: "a/weathermeters/".to_owned(),
            retain: true,
            payload: b"{}".to_vec(),
            properties: None,
            gap: None,
        }
    }

    #[test]
    fn a_row_becomes_a_message_under_its_prefix_with_its_identity() {
        let message = form("stations/hill/{topic}", true).outgoing(row());
        assert_eq!(message.topic, "stations/hill/a/weathermeters/");
        assert_eq!(message.identity, "hill:1764000000007");
        assert_eq!(message.received, "2025-11-24T16:00:00.25Z");
        assert!(message.retain && !form("{topic}", false).outgoing(row()).retain);
    }

    #[test]
    fn a_gap_is_told_in_figures() {
        let gap = Gap {
            messages: 3,
            bytes: 900,
            first_id: 5,
            last_id: 7,
            first_received_ms: 1_764_000_000_000,
            last_received_ms: 1_764_000_060_000,
        };
        let message = form("{topic}", true).outgoing(Waiting { gap: Some(gap), ..row() });
        let told: serde_json::Value = serde_json::from_slice(&message.payload).unwrap();
        assert_eq!(
            (told["messages"].as_u64(), told["first_id"].as_i64(), told["last_id"].as_i64()),
            (Some(3), Some(5), Some(7))
        );
        assert_eq!(told["last_received"], "2025-11-24T16:01:00Z");
    }

    #[test]
    fn what_can_never_go_upstream_is_told_before_it_is_tried() {
        let message = form("stations/hill/{topic}", true).outgoing(Waiting { payload: vec![0; 1000], ..row() });
        assert_eq!(message.obstacle(1000, None), None);
        assert!(message.obstacle(999, None).unwrap().contains("payload_bytes_max"));
        assert!(message.obstacle(1000, Some(1000)).unwrap().contains("packets up to 1000"));
        let long = form("{topic}", true).outgoing(Waiting { topic: "x".repeat(65_536), ..row() });
        assert!(long.obstacle(1000, None).unwrap().contains("65536"));
        let odd = form("{topic}", true).outgoing(Waiting { topic: "a\tb".to_owned(), ..row() });
        assert!(odd.obstacle(1000, None).unwrap().contains("control"));
    }

    #[test]
    fn an_identity_is_own_by_the_whole_name() {
        let form = form("{topic}", true);
        assert!(form.is_own("hill:1") && !form.is_own("hill2:1") && !form.is_own("hil:1") && !form.is_own("hill"));
    }
}
