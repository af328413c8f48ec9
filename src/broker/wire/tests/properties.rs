//! Owns the tests of the MQTT 5 property rules.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;

use super::super::body::{Body, Header};
use super::super::properties::*;
use super::super::{PublishProperties, WireError};
use super::{packet, text};

fn section(bytes: &[u8]) -> Body {
    let mut buf = BytesMut::from(&packet(0, &[bytes])[..]);
    let header = Header::read(&buf, 1 << 20).unwrap().unwrap();
    Body::take(&mut buf, header).unwrap()
}

/// One well-formed property of every identifier there is.
fn samples() -> Vec<(u8, Vec<u8>)> {
    let bytes = [0x01, 0x17, 0x19, 0x24, 0x25, 0x28, 0x29, 0x2A].map(|id| (id, vec![id, 1]));
    let shorts = [0x13, 0x21, 0x22, 0x23].map(|id| (id, vec![id, 0, 1]));
    let numbers = [0x02, 0x11, 0x18, 0x27].map(|id| (id, vec![id, 0, 0, 0, 1]));
    let texts = [0x03, 0x08, 0x09, 0x12, 0x15, 0x16, 0x1A, 0x1C, 0x1F].map(|id| (id, vec![id, 0, 1, b'x']));
    let mut all = [&bytes[..], &shorts, &numbers, &texts].concat();
    all.push((0x0B, vec![0x0B, 1]));
    all.push((0x26, vec![0x26, 0, 1, b'k', 0, 1, b'v']));
    all
}

/// Holds the name of a packet, its decoder and the properties that it may have.
type Place = (&'static str, fn(Body) -> Result<(), WireError>, &'static [u8]);

const PLACES: [Place; 7] = [
    ("CONNECT", |s| connect(s).map(drop), &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]),
    ("will", |s| will(s).map(drop), &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]),
    ("PUBLISH", |s| publish(s).map(drop), &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
    ("ack", ack, &[0x1F, 0x26]),
    ("SUBSCRIBE", |s| subscribe(s).map(drop), &[0x0B, 0x26]),
    ("UNSUBSCRIBE", unsubscribe, &[0x26]),
    ("DISCONNECT", |s| disconnect(s).map(drop), &[0x11, 0x1F, 0x26]),
];

#[test]
fn each_property_has_its_place_and_comes_once() {
    for (place, decode, allowed) in PLACES {
        for (id, bytes) in samples() {
            let once = decode(section(&bytes));
            let twice = decode(section(&[&bytes[..], &bytes].concat()));
            match id {
                0x26 => assert_eq!((once, twice), (Ok(()), Ok(())), "{place}"),
                0x0B if place == "PUBLISH" => {
                    assert_eq!(once, Err(WireError::SubscriptionIdentifierInPublish))
                }
                0x16 if place == "CONNECT" => {
                    assert_eq!(once, Err(WireError::AuthenticationDataWithoutMethod))
                }
                _ if allowed.contains(&id) => {
                    assert_eq!(once, Ok(()), "{place} {id:#x}");
                    assert_eq!(twice, Err(WireError::DuplicateProperty(id)), "{place} {id:#x}");
                }
                _ => assert_eq!(once, Err(WireError::PropertyNotAllowed(u32::from(id))), "{place} {id:#x}"),
            }
        }
    }
}

#[test]
fn unknown_properties_are_refused() {
    for (_, decode, _) in PLACES {
        for (bytes, number) in [(&[0x00][..], 0), (&[0x2B], 0x2B), (&[0x7F], 0x7F), (&[0x81, 0x02], 0x101)] {
            assert_eq!(decode(section(bytes)), Err(WireError::PropertyNotAllowed(number)));
        }
    }
}

#[test]
fn values_that_the_standard_rules_out_are_refused() {
    for bytes in [&[0x21, 0, 0][..], &[0x27, 0, 0, 0, 0], &[0x17, 2], &[0x19, 0xFF]] {
        assert_eq!(connect(section(bytes)), Err(WireError::InvalidProperty(bytes[0])));
    }
    assert_eq!(publish(section(&[0x01, 2])), Err(WireError::InvalidProperty(1)));
    assert_eq!(publish(section(&[0x23, 0, 0])), Err(WireError::TopicAliasZero));
    assert_eq!(subscribe(section(&[0x0B, 0])), Err(WireError::InvalidProperty(0x0B)));
    for topic in ["", "a/+", "#"] {
        assert_eq!(publish(section(&[&[0x08][..], &text(topic)].concat())), Err(WireError::TopicNameInvalid));
    }
    assert_eq!(publish(section(&[0x03, 0, 1, 0])), Err(WireError::NulInString));
    assert_eq!(publish(section(&[0x03, 0, 1, 0xFF])), Err(WireError::NotUtf8));
}

#[test]
fn every_cut_through_a_property_is_refused() {
    for (place, decode, allowed) in PLACES {
        for (_, bytes) in samples().iter().filter(|(id, _)| allowed.contains(id)) {
            for end in 1..bytes.len() {
                assert_eq!(decode(section(&bytes[..end])), Err(WireError::Truncated), "{place} {bytes:?}");
            }
        }
    }
}

#[test]
fn message_properties_survive_a_round_trip() {
    let all = PublishProperties {
        payload_format: Some(1),
        message_expiry_s: Some(60),
        response_topic: Some("answer".into()),
        correlation_data: Some("id".into()),
        content_type: Some("text/plain".into()),
        user_properties: vec![("k".into(), "v".into()), ("k".into(), "".into())],
    };
    for properties in [all.clone(), PublishProperties { payload_format: Some(0), ..Default::default() }] {
        let mut out = BytesMut::new();
        put_message(&mut out, &properties, None);
        assert_eq!(out.len(), message_len(&properties, None));
        assert_eq!(publish(section(&out)), Ok((None, Some(Box::new(properties)))));
    }
    let mut out = BytesMut::new();
    put_message(&mut out, &all, Some(7));
    assert_eq!(out.len(), message_len(&all, Some(7)));
    assert_eq!(publish(section(&out)).unwrap().1.unwrap().message_expiry_s, Some(7));
}
