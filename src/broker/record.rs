//! Messages as the store keeps them over a restart.
//!
//! Owns the form: an MQTT 5 PUBLISH packet, which holds all that subscribers get, with the publisher and the time of
//! expiry beside it; before the packet of a message that waits for one client stands what that client's subscriptions
//! add, as JSON behind its length (2 bytes, big-endian). Instants of this run become times of the wall clock and back: a hub that was off does not stop the
//! clock of a message.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use super::message::Message;
use super::queued::{Identifiers, Queued};
use super::wire::{self, Packet, PublishOut, QoS, Version};
use crate::store::KeptMessage;

/// Stands for a packet id, which a message gets when it is sent.
const NO_ID: u16 = 1;

/// What subscriptions add to a message that waits for their client.
#[derive(Serialize, Deserialize)]
struct Extras {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    identifiers: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<String>,
}

/// Writes a message that waits for a client.
pub(super) fn write_queued(queued: &Queued, now: Instant, now_ms: i64) -> KeptMessage {
    let extras = Extras {
        identifiers: queued.identifiers.as_slice().to_vec(),
        share: queued.share.as_deref().map(str::to_owned),
    };
    let extras = serde_json::to_vec(&extras).unwrap_or_default();
    let mut kept = write(&queued.message, queued.qos, queued.retain, now, now_ms);
    let length = u16::try_from(extras.len()).unwrap_or_default();
    let extras = extras.get(..length.into()).unwrap_or_default();
    kept.packet = [&length.to_be_bytes(), extras, &kept.packet].concat();
    kept
}

/// Reads a message back that waits for a client.
pub(super) fn read_queued(number: u64, mut kept: KeptMessage, now: Instant, now_ms: i64) -> Option<Queued> {
    let (length, rest) = kept.packet.split_first_chunk()?;
    let (extras, packet) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let Extras { identifiers: numbers, share } =
        serde_json::from_slice(extras).unwrap_or(Extras { identifiers: Vec::new(), share: None });
    kept.packet = packet.to_vec();
    let message = read(kept, now, now_ms)?;
    let mut identifiers = Identifiers::None;
    numbers.into_iter().for_each(|number| identifiers.add(number));
    Some(Queued {
        qos: message.qos,
        retain: message.retain,
        message,
        identifiers,
        share: share.map(Into::into),
        number,
    })
}

/// Writes a message as it goes to a client, with this QoS and retain flag.
pub(super) fn write(message: &Message, qos: QoS, retain: bool, now: Instant, now_ms: i64) -> KeptMessage {
    let mut packet = BytesMut::new();
    let out = PublishOut {
        dup: false,
        qos,
        retain,
        id: NO_ID,
        topic: &message.topic,
        payload: &message.payload,
        properties: message.properties.as_deref(),
        message_expiry_s: None,
        subscription_identifiers: &[],
        topic_alias: None,
    };
    wire::publish(&mut packet, Version::V5, &out);
    let expires_ms = message.expires.map(|expires| {
        let left = expires.saturating_duration_since(now).as_millis();
        now_ms.saturating_add(i64::try_from(left).unwrap_or(i64::MAX))
    });
    KeptMessage { publisher: message.publisher.clone(), expires_ms, packet: packet.into() }
}

/// Reads a message back; `None` where the row holds no such packet, or the message has expired meanwhile.
pub(super) fn read(kept: KeptMessage, now: Instant, now_ms: i64) -> Option<Arc<Message>> {
    let mut packet = BytesMut::from(&kept.packet[..]);
    let Ok(Some(Packet::Publish(publish))) = wire::decode(Version::V5, &mut packet, usize::MAX) else { return None };
    let expires = match kept.expires_ms {
        None => None,
        Some(expires_ms) => {
            let left = u64::try_from(expires_ms.saturating_sub(now_ms)).ok().filter(|&left| left > 0)?;
            Some(now.checked_add(Duration::from_millis(left))?)
        }
    };
    Some(Arc::new(Message { expires, ..Message::of_publish(&publish, &kept.publisher, now) }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::broker::wire::PublishProperties;
    use bytes::Bytes;

    fn message(expires: Option<Instant>) -> Message {
        Message {
            topic: "été/x".into(),
            payload: Bytes::from_static(&[0, 255, 7]),
            qos: QoS::ExactlyOnce,
            retain: true,
            publisher: "p".into(),
            properties: Some(Box::new(PublishProperties {
                response_topic: Some("answers".into()),
                user_properties: vec![("a".into(), "b".into())],
                ..PublishProperties::default()
            })),
            expires,
        }
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let now = Instant::now();
        let sent = message(None);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let back = read(write(&sent, qos, true, now, 0), now, 5).unwrap();
            assert_eq!((&back.topic, &back.payload, back.qos, back.retain), (&sent.topic, &sent.payload, qos, true));
            assert_eq!((&back.publisher, &back.properties, back.expires), (&sent.publisher, &sent.properties, None));
        }
    }

    #[test]
    fn a_message_that_waits_comes_back_with_what_its_subscriptions_add() {
        let now = Instant::now();
        let mut identifiers = Identifiers::One(3);
        identifiers.add(70_000);
        let share = Some("$share/g/a".into());
        let message = Arc::new(message(None));
        for (identifiers, share) in [(identifiers, share), (Identifiers::None, None)] {
            let queued = Queued {
                message: message.clone(),
                qos: QoS::AtLeastOnce,
                retain: false,
                identifiers,
                share,
                number: 9,
            };
            let back = read_queued(9, write_queued(&queued, now, 0), now, 0).unwrap();
            assert_eq!((back.qos, back.retain, back.number, back.share), (queued.qos, false, 9, queued.share));
            assert_eq!(back.identifiers.as_slice(), queued.identifiers.as_slice());
            assert_eq!(back.message.payload, message.payload);
        }
        assert!(
            read_queued(1, KeptMessage { packet: vec![9], ..write(&message, QoS::AtMostOnce, true, now, 0) }, now, 0)
                .is_none()
        );
    }

    #[test]
    fn the_time_that_the_hub_was_off_counts_against_a_message() {
        let now = Instant::now();
        let kept = write(&message(Some(now + Duration::from_secs(10))), QoS::AtMostOnce, false, now, 1_000);
        let back = read(kept.clone(), now, 5_000).unwrap();
        assert_eq!(back.expires, Some(now + Duration::from_secs(6)));
        assert!(read(kept, now, 11_000).is_none());
    }
}
