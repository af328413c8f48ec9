//! Owns the tests of the decoders of everything but PUBLISH and its acknowledgements.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;

use super::super::*;
use super::{ALL, OLD, decode_all, packet, text};

#[test]
fn a_subscribe_is_decoded_in_every_version() {
    for version in ALL {
        let section: &[u8] = if version == Version::V5 { &[3, 0x0B, 0x80, 0x01] } else { &[] };
        let bytes = packet(0x82, &[&[0, 9], section, &text("a/#"), &[1], &text("b"), &[2]]);
        let Ok(Packet::Subscribe(subscribe)) = decode_all(version, &bytes) else { panic!("{version:?}") };
        assert_eq!(subscribe.id, 9);
        assert_eq!(subscribe.subscription_identifier, (version == Version::V5).then_some(128));
        let got: Vec<_> = subscribe.filters.iter().map(|f| (f.filter.as_ref(), f.qos)).collect();
        assert_eq!(got, [("a/#", QoS::AtLeastOnce), ("b", QoS::ExactlyOnce)]);
    }
}

#[test]
fn mqtt_5_subscription_options_are_decoded() {
    let bytes = packet(0x82, &[&[0, 9, 0], &text("a"), &[0b01_1101], &text("b"), &[0b10_0000]]);
    let Ok(Packet::Subscribe(subscribe)) = decode_all(Version::V5, &bytes) else { panic!("not a SUBSCRIBE") };
    let mut filters = subscribe.filters.iter();
    let first = filters.next().unwrap();
    assert!(first.no_local && first.retain_as_published);
    assert_eq!(first.retain_handling, RetainHandling::SendIfNew);
    let second = filters.next().unwrap();
    assert!(!second.no_local && !second.retain_as_published);
    assert_eq!(second.retain_handling, RetainHandling::DoNotSend);
}

#[test]
fn a_faulty_subscribe_is_refused() {
    let v4 = |parts: &[&[u8]]| decode_all(Version::V4, &packet(0x82, parts));
    assert_eq!(v4(&[&[0, 0], &text("a"), &[0]]), Err(WireError::PacketIdZero));
    assert_eq!(v4(&[&[0, 1]]), Err(WireError::EmptySubscribe));
    assert_eq!(v4(&[&[0, 1], &text(""), &[0]]), Err(WireError::EmptyFilter));
    assert_eq!(v4(&[&[0, 1], &text("a\0"), &[0]]), Err(WireError::NulInString));
    assert_eq!(v4(&[&[0, 1], &text("a")]), Err(WireError::Truncated));
    assert_eq!(v4(&[&[0, 1], &text("a"), &[3]]), Err(WireError::RequestedQos));
    assert_eq!(v4(&[&[0, 1], &text("a"), &[4]]), Err(WireError::SubscriptionOptions(4)));
    let v5 = |parts: &[&[u8]]| decode_all(Version::V5, &packet(0x82, parts));
    assert_eq!(v5(&[&[0, 1, 0]]), Err(WireError::EmptySubscribe));
    assert_eq!(v5(&[&[0, 1, 0], &text("a"), &[0x30]]), Err(WireError::RetainHandling));
    assert_eq!(v5(&[&[0, 1, 0], &text("a"), &[0x40]]), Err(WireError::SubscriptionOptions(0x40)));
    assert_eq!(v5(&[&[0, 1, 0], &text("$share/g/a"), &[0x04]]), Err(WireError::NoLocalOnShared));
    assert_eq!(v5(&[&[0, 1, 2, 0x0B, 0], &text("a"), &[0]]), Err(WireError::InvalidProperty(0x0B)));
}

#[test]
fn an_unsubscribe_is_decoded_or_refused_in_every_version() {
    for version in ALL {
        let none: &[u8] = if version == Version::V5 { &[0] } else { &[] };
        let go = |parts: &[&[u8]]| decode_all(version, &packet(0xA2, &[&[&[0, 7], none], parts].concat()));
        let filters = vec!["a".into(), "b/+".into()];
        assert_eq!(go(&[&text("a"), &text("b/+")]), Ok(Packet::Unsubscribe(Unsubscribe { id: 7, filters })));
        assert_eq!(go(&[]), Err(WireError::EmptySubscribe));
        assert_eq!(go(&[&text("")]), Err(WireError::EmptyFilter));
        assert_eq!(go(&[&[0]]), Err(WireError::Truncated));
    }
}

#[test]
fn pings_and_goodbyes_are_decoded() {
    let goodbye = |reason, session_expiry_s| Ok(Packet::Disconnect(Disconnect { reason, session_expiry_s }));
    for version in ALL {
        assert_eq!(decode_all(version, &[0xC0, 0]), Ok(Packet::PingReq));
        assert_eq!(decode_all(version, &[0xC0, 1, 0]), Err(WireError::TrailingBytes));
        assert_eq!(decode_all(version, &[0xE0, 0]), goodbye(0, None));
    }
    for version in OLD {
        assert_eq!(decode_all(version, &[0xE0, 1, 0]), Err(WireError::TrailingBytes));
    }
    let v5 = |bytes: &[u8]| decode_all(Version::V5, bytes);
    assert_eq!(v5(&[0xE0, 1, 4]), goodbye(4, None));
    assert_eq!(v5(&[0xE0, 2, 4, 0]), goodbye(4, None));
    assert_eq!(v5(&[0xE0, 7, 0, 5, 0x11, 0, 0, 1, 0]), goodbye(0, Some(256)));
    assert_eq!(v5(&[0xE0, 1, 0x8D]), Err(WireError::InvalidReason(0x8D)));
    assert_eq!(v5(&[0xE0, 3, 0, 0, 0]), Err(WireError::TrailingBytes));
    assert_eq!(v5(&[0xE0, 5, 0, 3, 0x1C, 0, 0]), Err(WireError::PropertyNotAllowed(0x1C)));
}

#[test]
fn a_second_connect_and_auth_are_only_named() {
    assert_eq!(decode_all(Version::V4, &[0x10, 2, 9, 9]), Ok(Packet::Connect));
    assert_eq!(decode_all(Version::V5, &[0xF0, 0]), Ok(Packet::Auth));
    for version in OLD {
        assert_eq!(decode_all(version, &[0xF0, 0]), Err(WireError::UnexpectedPacket(15)));
    }
}

#[test]
fn wrong_packet_types_and_flags_are_refused_on_the_first_byte() {
    for version in ALL {
        for kind in [0_u8, 2, 9, 11, 13] {
            assert_eq!(decode_all(version, &[kind << 4]), Err(WireError::UnexpectedPacket(kind)));
        }
    }
    for first in [0x11, 0x41, 0x52, 0x60, 0x6A, 0x72, 0x80, 0x8A, 0xA0, 0xC1, 0xE8] {
        for version in [Version::V4, Version::V5] {
            assert_eq!(decode_all(version, &[first]), Err(WireError::ReservedFlags(first)));
        }
        // MQTT 3.1 calls these flags unused, or DUP.
        assert_eq!(decode(Version::V3, &mut BytesMut::from(&[first][..]), 100), Ok(None));
    }
}

#[test]
fn a_packet_larger_than_the_limit_is_refused_by_its_header() {
    for version in ALL {
        let limited = |bytes: &[u8], max| decode(version, &mut BytesMut::from(bytes), max);
        let error = WireError::PacketTooLarge { bytes: 3 + 128, max: 130 };
        assert_eq!(limited(&[0x30, 0x80, 0x01], 130), Err(error));
        assert_eq!(limited(&[0x30, 0x80, 0x01], 131), Ok(None));
        assert_eq!(limited(&[0x30, 0xFF, 0xFF, 0xFF, 0x80], usize::MAX), Err(WireError::MalformedLength));
        assert_eq!(limited(&[0x40, 2, 0, 1], 3), Err(WireError::PacketTooLarge { bytes: 4, max: 3 }));
    }
}
