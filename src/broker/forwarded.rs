//! The properties of messages on their way upstream and down from there.
//!
//! Owns the translation between MQTT 5's properties as a packet holds them and as the store does, with the time of expiry
//! for the seconds that are left. It never judges a message.

use std::time::Duration;

use bytes::Bytes;

use super::wire::PublishProperties;
use crate::store::Properties;

/// Makes the store's of a packet's that was received at `received_ms`.
pub(super) fn to_stored(properties: &PublishProperties, received_ms: i64) -> Properties {
    let PublishProperties { payload_format, message_expiry_s, response_topic, .. } = properties;
    Properties {
        content_type: properties.content_type.as_deref().map(str::to_owned),
        response_topic: response_topic.as_deref().map(str::to_owned),
        correlation_data: properties.correlation_data.as_deref().map(<[u8]>::to_vec),
        payload_format: *payload_format,
        user: properties.user_properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
        expires_ms: message_expiry_s.map(|seconds| received_ms.saturating_add(i64::from(seconds) * 1000)),
    }
}

/// Makes a packet's of the store's at `now_ms`. What no packet may hold is left out: the other end may check less.
pub(super) fn of_stored(properties: Properties, now_ms: i64) -> PublishProperties {
    let is_text = |text: &String| is_text(text);
    let Properties { content_type, response_topic, correlation_data, payload_format, user, expires_ms } = properties;
    let user = user.into_iter().filter(|(name, value)| is_text(name) && is_text(value));
    PublishProperties {
        payload_format: payload_format.filter(|format| *format <= 1),
        message_expiry_s: expires_ms.map(|expires_ms| seconds_until(expires_ms, now_ms)),
        response_topic: response_topic.filter(|topic| is_topic(topic)).map(Into::into),
        correlation_data: correlation_data.filter(|data| data.len() <= usize::from(u16::MAX)).map(Bytes::from),
        content_type: content_type.filter(is_text).map(Into::into),
        user_properties: user.map(|(name, value)| (name.into(), value.into())).collect(),
    }
}

/// Tells whether a text may stand in a packet as the name of a topic to publish on.
pub(super) fn is_topic(name: &str) -> bool {
    !name.is_empty() && is_text(name) && !name.contains(['+', '#'])
}

fn is_text(text: &str) -> bool {
    text.len() <= usize::from(u16::MAX) && !text.contains('\0')
}

/// Returns the seconds until a message expires; part of one counts as one.
fn seconds_until(expires_ms: i64, now_ms: i64) -> u32 {
    let left = Duration::from_millis(u64::try_from(expires_ms.saturating_sub(now_ms)).unwrap_or(0));
    u32::try_from(left.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_go_to_the_store_and_back_and_expire_with_the_time_between() {
        let sent = PublishProperties {
            payload_format: Some(1),
            message_expiry_s: Some(10),
            response_topic: Some("answers".into()),
            correlation_data: Some(Bytes::from_static(&[0, 255])),
            content_type: Some("text/plain".into()),
            user_properties: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        };
        let stored = to_stored(&sent, 1_000);
        assert_eq!(of_stored(stored.clone(), 1_000), sent);
        assert_eq!(of_stored(stored.clone(), 4_500).message_expiry_s, Some(7));
        assert_eq!(of_stored(stored, 99_000).message_expiry_s, Some(0));
    }

    #[test]
    fn what_no_packet_may_hold_is_left_out() {
        let wrong = Properties {
            content_type: Some("a\0".to_owned()),
            response_topic: Some("a/#".to_owned()),
            payload_format: Some(2),
            user: vec![("a\0".to_owned(), String::new()), ("b".to_owned(), "1".to_owned())],
            ..Properties::default()
        };
        let expected = PublishProperties { user_properties: vec![("b".into(), "1".into())], ..Default::default() };
        assert_eq!(of_stored(wrong, 0), expected);
    }
}
