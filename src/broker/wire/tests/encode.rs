//! Owns the tests of the encoders.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;

use super::super::*;
use super::{ALL, OLD};

fn bytes(write: impl FnOnce(&mut BytesMut)) -> Vec<u8> {
    // What the buffer holds already has to stay.
    let mut out = BytesMut::from(&b"before"[..]);
    write(&mut out);
    out.strip_prefix(b"before").unwrap().to_vec()
}

fn message<'a>(topic: &'a str, payload: &'a [u8], qos: QoS) -> PublishOut<'a> {
    PublishOut {
        dup: false,
        qos,
        retain: false,
        id: 0x0102,
        topic,
        payload,
        properties: None,
        message_expiry_s: None,
        subscription_identifiers: &[],
        topic_alias: None,
    }
}

#[test]
fn a_connack_before_mqtt_5_has_no_properties() {
    let properties = ConnAckProperties { receive_maximum: Some(9), ..Default::default() };
    let connack = |version, present, code| bytes(|out| connack(out, version, present, code, &properties));
    assert_eq!(connack(Version::V4, true, 0), [0x20, 2, 1, 0]);
    assert_eq!(connack(Version::V4, true, 5), [0x20, 2, 0, 5]);
    assert_eq!(connack(Version::V3, true, 0), [0x20, 2, 0, 0]);
}

#[test]
fn a_connack_in_mqtt_5_has_the_properties_that_are_set() {
    let none = ConnAckProperties::default();
    assert_eq!(bytes(|out| connack(out, Version::V5, true, 0, &none)), [0x20, 3, 1, 0, 0]);
    assert_eq!(bytes(|out| connack(out, Version::V5, true, 0x87, &none)), [0x20, 3, 0, 0x87, 0]);
    let all = ConnAckProperties {
        session_expiry_s: Some(1),
        receive_maximum: Some(2),
        maximum_qos: Some(QoS::AtLeastOnce),
        retain_available: Some(true),
        maximum_packet_size: Some(3),
        assigned_client_id: Some("id"),
        topic_alias_maximum: Some(4),
        reason_string: Some("why"),
        wildcard_available: Some(true),
        subscription_ids_available: Some(false),
        shared_available: Some(true),
        server_keep_alive_s: Some(5),
        response_information: Some("r"),
    };
    let want: &[&[u8]] = &[
        &[0x20, 47, 0, 0, 44, 0x11, 0, 0, 0, 1, 0x27, 0, 0, 0, 3, 0x21, 0, 2, 0x22, 0, 4, 0x13, 0, 5],
        &[0x24, 1, 0x25, 1, 0x28, 1, 0x29, 0, 0x2A, 1, 0x12, 0, 2, b'i', b'd', 0x1F, 0, 3, b'w', b'h', b'y'],
        &[0x1A, 0, 1, b'r'],
    ];
    let got = bytes(|out| connack(out, Version::V5, false, 0, &all));
    assert_eq!(got.len(), 49);
    assert_eq!(got, want.concat());
    let best = ConnAckProperties { maximum_qos: Some(QoS::ExactlyOnce), ..Default::default() };
    assert_eq!(bytes(|out| connack(out, Version::V5, false, 0, &best)), [0x20, 3, 0, 0, 0]);
}

#[test]
fn a_long_reason_takes_a_longer_length() {
    let reason = "x".repeat(200);
    let properties = ConnAckProperties { reason_string: Some(&reason), ..Default::default() };
    let got = bytes(|out| connack(out, Version::V5, false, 0x80, &properties));
    assert_eq!(got[..9], [0x20, 0xCF, 0x01, 0, 0x80, 0xCB, 0x01, 0x1F, 0]);
    assert_eq!(got.len(), 3 + 207);
}

#[test]
fn a_publish_has_the_layout_of_its_version() {
    let publish = |version, message: &PublishOut<'_>| bytes(|out| publish(out, version, message));
    let zero = PublishOut { dup: true, retain: true, ..message("t", b"p", QoS::AtMostOnce) };
    let two = PublishOut { dup: true, ..message("t", b"p", QoS::ExactlyOnce) };
    for version in OLD {
        assert_eq!(publish(version, &zero), [0x31, 4, 0, 1, b't', b'p']);
        assert_eq!(publish(version, &two), [0x3C, 6, 0, 1, b't', 1, 2, b'p']);
    }
    assert_eq!(publish(Version::V5, &zero), [0x31, 5, 0, 1, b't', 0, b'p']);
    assert_eq!(publish(Version::V5, &two), [0x3C, 7, 0, 1, b't', 1, 2, 0, b'p']);
    let all = PublishOut {
        message_expiry_s: Some(7),
        subscription_identifiers: &[1, 128],
        topic_alias: Some(3),
        ..message("", b"p", QoS::AtMostOnce)
    };
    let section = [13, 0x02, 0, 0, 0, 7, 0x23, 0, 3, 0x0B, 1, 0x0B, 0x80, 0x01];
    assert_eq!(publish(Version::V5, &all), [&[0x30, 17, 0, 0][..], &section, b"p"].concat());
    assert_eq!(publish(Version::V4, &all), [0x30, 3, 0, 0, b'p']);
}

#[test]
fn the_length_foretold_is_the_length_written_and_the_packet_decodes_again() {
    let properties = PublishProperties {
        content_type: Some("x".repeat(120).into()),
        user_properties: vec![("k".into(), "v".into())],
        ..Default::default()
    };
    for version in ALL {
        for size in [0, 100, 120, 127, 128, 16_377, 16_384, 2_097_145, 2_097_152] {
            let payload = vec![7; size];
            for properties in [None, Some(&properties)] {
                let message = PublishOut { properties, ..message("a/b", &payload, QoS::AtLeastOnce) };
                let mut out = BytesMut::new();
                publish(&mut out, version, &message);
                assert_eq!(out.len(), publish_len(version, &message));
                let decoded = decode(version, &mut out, usize::MAX).unwrap();
                let want = Publish {
                    dup: false,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    id: 0x0102,
                    topic: "a/b".into(),
                    payload: payload.clone().into(),
                    topic_alias: None,
                    properties: properties.filter(|_| version == Version::V5).cloned().map(Box::new),
                };
                assert!(decoded == Some(Packet::Publish(want)), "{version:?} {size}");
            }
        }
    }
}

#[test]
fn a_publish_larger_than_any_packet_is_not_written() {
    let payload = vec![0; field::VARINT_MAX];
    let message = message("t", &payload, QoS::AtMostOnce);
    assert!(publish_len(Version::V4, &message) > field::VARINT_MAX);
    assert!(bytes(|out| publish(out, Version::V4, &message)).is_empty());
}

#[test]
fn acks_are_as_short_as_their_version_allows() {
    let ack = |version, kind, reason| bytes(|out| ack(out, version, kind, 0x0102, reason));
    for version in ALL {
        assert_eq!(ack(version, AckKind::PubAck, 0), [0x40, 2, 1, 2]);
        assert_eq!(ack(version, AckKind::PubRec, 0), [0x50, 2, 1, 2]);
        assert_eq!(ack(version, AckKind::PubRel, 0), [0x62, 2, 1, 2]);
        assert_eq!(ack(version, AckKind::PubComp, 0), [0x70, 2, 1, 2]);
    }
    for version in OLD {
        assert_eq!(ack(version, AckKind::PubAck, 0x87), [0x40, 2, 1, 2]);
    }
    assert_eq!(ack(Version::V5, AckKind::PubAck, 0x87), [0x40, 3, 1, 2, 0x87]);
}

#[test]
fn subacks_and_unsubacks_have_the_layout_of_their_version() {
    for version in OLD {
        assert_eq!(bytes(|out| suback(out, version, 1, &[0, 2, 0x87], Some("no"))), [0x90, 5, 0, 1, 0, 2, 0x80]);
        assert_eq!(bytes(|out| unsuback(out, version, 1, &[0, 0x11])), [0xB0, 2, 0, 1]);
    }
    assert_eq!(bytes(|out| suback(out, Version::V5, 1, &[1, 0x87], None)), [0x90, 5, 0, 1, 0, 1, 0x87]);
    assert_eq!(bytes(|out| unsuback(out, Version::V5, 1, &[0, 0x11])), [0xB0, 5, 0, 1, 0, 0, 0x11]);
    let told = bytes(|out| suback(out, Version::V5, 1, &[0x87], Some("no")));
    assert_eq!(told, [0x90, 9, 0, 1, 5, 0x1F, 0, 2, b'n', b'o', 0x87]);
    let many = bytes(|out| suback(out, Version::V5, 1, &[0; 200], None));
    assert_eq!((many.len(), &many[..3]), (3 + 203, &[0x90, 0xCB, 0x01][..]));
}

#[test]
fn a_server_says_goodbye_in_mqtt_5_only() {
    for version in OLD {
        assert!(bytes(|out| disconnect(out, version, 0x8B, Some("why"))).is_empty());
    }
    assert_eq!(bytes(|out| disconnect(out, Version::V5, 0x8B, None)), [0xE0, 1, 0x8B]);
    let want = [0xE0, 8, 0x8B, 6, 0x1F, 0, 3, b'w', b'h', b'y'];
    assert_eq!(bytes(|out| disconnect(out, Version::V5, 0x8B, Some("why"))), want);
    assert_eq!(bytes(pingresp), [0xD0, 0]);
}
