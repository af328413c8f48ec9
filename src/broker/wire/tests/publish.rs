//! Owns the tests of the PUBLISH and acknowledgement decoders.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;

use super::super::*;
use super::{ALL, OLD, decode_all, packet, text};

fn publication(version: Version, bytes: &[u8]) -> Publish {
    match decode_all(version, bytes) {
        Ok(Packet::Publish(publish)) => publish,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publish_is_decoded_in_every_version() {
    for version in ALL {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let publish = publication(version, &packet(0x3B, &[&text("a/b"), &[1, 2], none, b"21.5"]));
        assert!(publish.dup && publish.retain);
        assert_eq!((publish.qos, publish.id), (QoS::AtLeastOnce, 0x0102));
        assert_eq!((publish.topic.as_ref(), publish.payload.as_ref()), ("a/b", &b"21.5"[..]));
        assert_eq!((publish.topic_alias, publish.properties), (None, None));
        let publish = publication(version, &packet(0x30, &[&text("t"), none]));
        assert_eq!((publish.qos, publish.id, publish.payload.len()), (QoS::AtMostOnce, 0, 0));
    }
}

#[test]
fn topic_and_payload_are_slices_of_the_read_buffer() {
    let bytes = packet(0x30, &[&text("a/b"), &[7; 100]]);
    let mut buf = BytesMut::from(&bytes[..]);
    let start = buf.as_ptr() as usize;
    let Some(Packet::Publish(publish)) = decode(Version::V4, &mut buf, 1000).unwrap() else {
        panic!("not a PUBLISH");
    };
    assert_eq!(publish.topic.as_ptr() as usize, start + 4);
    assert_eq!(publish.payload.as_ptr() as usize, start + 7);
}

#[test]
fn the_properties_of_a_publish_are_decoded() {
    let own: &[&[u8]] = &[
        &[0x01, 1, 0x02, 0, 0, 0, 60, 0x03],
        &text("text/plain"),
        &[0x08],
        &text("answer"),
        &[0x09],
        &text("id"),
        &[0x23, 0, 4, 0x26],
        &text("k"),
        &text("1"),
        &[0x26],
        &text("k"),
        &text("2"),
    ];
    let own = own.concat();
    let publish = publication(Version::V5, &packet(0x30, &[&text(""), &[own.len() as u8], &own, b"x"]));
    assert_eq!((publish.topic.as_ref(), publish.topic_alias), ("", Some(4)));
    let found = publish.properties.unwrap();
    assert_eq!((found.payload_format, found.message_expiry_s), (Some(1), Some(60)));
    assert_eq!(found.content_type.unwrap(), "text/plain");
    assert_eq!(found.response_topic.unwrap(), "answer");
    assert_eq!(found.correlation_data.unwrap(), "id");
    assert_eq!(found.user_properties, [("k".into(), "1".into()), ("k".into(), "2".into())]);
}

#[test]
fn a_topic_alias_alone_leaves_the_properties_empty() {
    let publish = publication(Version::V5, &packet(0x30, &[&text("t"), &[3, 0x23, 0, 4]]));
    assert_eq!((publish.topic_alias, publish.properties), (Some(4), None));
}

#[test]
fn a_faulty_publish_is_refused() {
    for version in ALL {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let refused = |first, parts: &[&[u8]], error| {
            assert_eq!(decode_all(version, &packet(first, parts)), Err(error), "{version:?} {parts:?}");
        };
        refused(0x36, &[&text("t"), &[0, 1], none], WireError::InvalidQos);
        refused(0x38, &[&text("t"), none], WireError::DupAtQosZero);
        refused(0x32, &[&text("t"), &[0, 0], none], WireError::PacketIdZero);
        refused(0x32, &[&text("t"), &[1]], WireError::Truncated);
        refused(0x30, &[&[0]], WireError::Truncated);
        refused(0x30, &[&[0, 9, b't']], WireError::Truncated);
        refused(0x30, &[&[0, 1, 0xFF], none], WireError::NotUtf8);
        for topic in ["+", "a/#", "a\0b"] {
            refused(0x30, &[&text(topic), none], WireError::TopicNameInvalid);
        }
        let empty = if version == Version::V5 { WireError::TopicMissing } else { WireError::TopicNameInvalid };
        refused(0x30, &[&text(""), none], empty);
    }
    let refused = |section: &[u8], error| {
        assert_eq!(decode_all(Version::V5, &packet(0x30, &[&text("t"), section])), Err(error));
    };
    refused(&[], WireError::Truncated);
    refused(&[3, 0x23, 0], WireError::Truncated);
    refused(&[3, 0x23, 0, 0], WireError::TopicAliasZero);
    refused(&[2, 0x0B, 1], WireError::SubscriptionIdentifierInPublish);
    refused(&[5, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], WireError::MalformedLength);
}

#[test]
fn every_short_ack_is_decoded() {
    for version in ALL {
        let ack = Ack { id: 0x0102, reason: 0 };
        assert_eq!(decode_all(version, &[0x40, 2, 1, 2]), Ok(Packet::PubAck(ack)));
        assert_eq!(decode_all(version, &[0x50, 2, 1, 2]), Ok(Packet::PubRec(ack)));
        assert_eq!(decode_all(version, &[0x62, 2, 1, 2]), Ok(Packet::PubRel(ack)));
        assert_eq!(decode_all(version, &[0x70, 2, 1, 2]), Ok(Packet::PubComp(ack)));
        assert_eq!(decode_all(version, &[0x40, 2, 0, 0]), Err(WireError::PacketIdZero));
        assert_eq!(decode_all(version, &[0x40, 1, 1]), Err(WireError::Truncated));
        assert_eq!(decode_all(version, &[0x40, 0]), Err(WireError::Truncated));
        // A length may take more bytes than it needs.
        assert_eq!(decode_all(version, &[0x40, 0x82, 0, 1, 2]), Ok(Packet::PubAck(ack)));
    }
}

#[test]
fn a_long_ack_is_decoded_in_mqtt_5_only() {
    let v5 = |bytes: &[u8]| decode_all(Version::V5, bytes);
    let ack = |reason| Ack { id: 1, reason };
    assert_eq!(v5(&[0x40, 3, 0, 1, 0x10]), Ok(Packet::PubAck(ack(0x10))));
    assert_eq!(v5(&[0x50, 4, 0, 1, 0x87, 0]), Ok(Packet::PubRec(ack(0x87))));
    assert_eq!(v5(&[0x62, 8, 0, 1, 0x92, 4, 0x1F, 0, 1, b'x']), Ok(Packet::PubRel(ack(0x92))));
    assert_eq!(v5(&[0x70, 9, 0, 1, 0, 5, 0x26, 0, 0, 0, 0]), Ok(Packet::PubComp(ack(0))));
    assert_eq!(v5(&[0x40, 3, 0, 0, 0]), Err(WireError::PacketIdZero));
    assert_eq!(v5(&[0x40, 3, 0, 1, 0x92]), Err(WireError::InvalidReason(0x92)));
    assert_eq!(v5(&[0x62, 3, 0, 1, 0x10]), Err(WireError::InvalidReason(0x10)));
    assert_eq!(v5(&[0x40, 5, 0, 1, 0, 0, 0]), Err(WireError::TrailingBytes));
    assert_eq!(v5(&[0x40, 4, 0, 1, 0, 1]), Err(WireError::Truncated));
    for version in OLD {
        assert_eq!(decode_all(version, &[0x40, 3, 0, 1, 0]), Err(WireError::TrailingBytes));
    }
}
