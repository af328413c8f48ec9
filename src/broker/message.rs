//! A message on its way to subscribers.
//!
//! Owns the value that bus, sessions and the retained map share by reference count, in buffers of its own size: it
//! never pins the socket buffer that it was read from.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytestring::ByteString;

use super::wire::{Publish, PublishProperties, QoS, Will};

/// A message as its publisher sent it.
#[derive(Debug)]
pub struct Message {
    /// The topic's name.
    pub topic: ByteString,
    /// The payload.
    pub payload: Bytes,
    /// The publisher's QoS.
    pub qos: QoS,
    /// The publisher's retain flag.
    pub retain: bool,
    /// The publisher's client id.
    pub publisher: Arc<str>,
    /// MQTT 5's properties.
    pub properties: Option<Box<PublishProperties>>,
    /// When the message expires, if ever.
    pub expires: Option<Instant>,
}

impl Message {
    /// Makes a message out of a publish that was received at `now`.
    pub fn of_publish(publish: &Publish, publisher: &Arc<str>, now: Instant) -> Message {
        Message {
            topic: copy_text(&publish.topic),
            payload: Bytes::copy_from_slice(&publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            publisher: publisher.clone(),
            properties: publish.properties.as_deref().map(|properties| Box::new(copy(properties))),
            expires: expiry(publish.properties.as_deref(), now),
        }
    }

    /// Makes a message out of a will that is published at `now`.
    pub fn of_will(will: &Will, publisher: &Arc<str>, now: Instant) -> Message {
        Message {
            topic: will.topic.clone(),
            payload: will.payload.clone(),
            qos: will.qos,
            retain: will.retain,
            publisher: publisher.clone(),
            properties: will.properties.clone(),
            expires: expiry(will.properties.as_deref(), now),
        }
    }

    /// Returns the seconds that are left of the message's life: `Some(None)` where it lives for ever, `None` where it
    /// has expired.
    pub fn life_left(&self, now: Instant) -> Option<Option<u32>> {
        match self.expires {
            None => Some(None),
            Some(expires) => {
                let left = expires.checked_duration_since(now)?;
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                (seconds > 0).then(|| Some(u32::try_from(seconds).unwrap_or(u32::MAX)))
            }
        }
    }

    /// Returns about how many bytes the message occupies.
    pub fn bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, |properties| {
            size_of::<PublishProperties>()
                + properties.correlation_data.as_ref().map_or(0, Bytes::len)
                + properties.response_topic.as_deref().map_or(0, str::len)
                + properties.content_type.as_deref().map_or(0, str::len)
                + properties.user_properties.iter().map(|(name, value)| 64 + name.len() + value.len()).sum::<usize>()
        });
        size_of::<Message>() + self.topic.len() + self.payload.len() + properties
    }
}

fn expiry(properties: Option<&PublishProperties>, now: Instant) -> Option<Instant> {
    let seconds = properties?.message_expiry_s?;
    now.checked_add(Duration::from_secs(seconds.into()))
}

/// Copies a text out of the socket buffer that it is a slice of.
pub(super) fn copy_text(text: &ByteString) -> ByteString {
    ByteString::from(&**text)
}

/// Copies a will out of the socket buffer that it is a slice of.
pub(super) fn copy_will(will: &Will) -> Will {
    Will {
        topic: copy_text(&will.topic),
        payload: Bytes::copy_from_slice(&will.payload),
        properties: will.properties.as_deref().map(|properties| Box::new(copy(properties))),
        ..will.clone()
    }
}

fn copy(properties: &PublishProperties) -> PublishProperties {
    PublishProperties {
        payload_format: properties.payload_format,
        message_expiry_s: properties.message_expiry_s,
        response_topic: properties.response_topic.as_ref().map(copy_text),
        correlation_data: properties.correlation_data.as_deref().map(Bytes::copy_from_slice),
        content_type: properties.content_type.as_ref().map(copy_text),
        user_properties: properties
            .user_properties
            .iter()
            .map(|(name, value)| (copy_text(name), copy_text(value)))
            .collect(),
    }
}
