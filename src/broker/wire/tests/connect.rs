//! Owns the tests of the CONNECT decoder.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use bytes::BytesMut;

use super::super::*;
use super::{packet, text};

fn decode(bytes: &[u8]) -> Result<Option<Connect>, WireError> {
    decode_connect(&mut BytesMut::from(bytes), 1 << 20)
}

/// A CONNECT of this version with these flags and with everything behind the keep alive given.
fn with(version: Version, flags: u8, tail: &[u8]) -> Result<Connect, WireError> {
    let name: &[u8] = match version {
        Version::V3 => b"\x00\x06MQIsdp\x03",
        Version::V4 => b"\x00\x04MQTT\x04",
        Version::V5 => b"\x00\x04MQTT\x05",
    };
    decode(&packet(0x10, &[name, &[flags, 0, 60], tail])).map(Option::unwrap)
}

#[test]
fn a_full_connect_is_decoded_in_every_version() {
    let tail: &[&[u8]] = &[&text("c"), &text("t"), &text("bye"), &text("u"), &text("p")];
    for version in [Version::V3, Version::V4] {
        let connect = with(version, 0xF6, &tail.concat()).unwrap();
        assert_eq!((connect.version, connect.keep_alive), (version, 60));
        assert_eq!(connect.client_id, "c");
        assert!(connect.clean_start);
        assert_eq!(connect.username.unwrap(), "u");
        assert_eq!(connect.password.unwrap().reveal(), b"p");
        assert_eq!(connect.properties, ConnectProperties::default());
        let will = connect.will.unwrap();
        assert_eq!((will.topic.as_ref(), will.qos, will.retain), ("t", QoS::ExactlyOnce, true));
        assert_eq!((will.payload.as_ref(), will.delay_s), (&b"bye"[..], 0));
        assert_eq!(will.properties, None);
    }
}

#[test]
fn mqtt_5_properties_are_decoded() {
    let own: &[&[u8]] = &[
        &[0x11, 0, 0, 0, 9, 0x21, 0, 5, 0x27, 0, 0, 1, 0, 0x22, 0, 7, 0x19, 1, 0x17, 0, 0x26],
        &text("k"),
        &text("v"),
        &[0x15],
        &text("SCRAM"),
        &[0x16],
        &text("x"),
    ];
    let own = own.concat();
    let will = [&[0x18, 0, 0, 0, 30, 0x01, 1, 0x08][..], &text("answer")].concat();
    let tail: &[&[u8]] = &[&[own.len() as u8], &own, &text(""), &[will.len() as u8], &will, &text("t"), &text("")];
    let connect = with(Version::V5, 0x0C, &tail.concat()).unwrap();
    let found = connect.properties;
    assert_eq!((found.session_expiry_s, found.receive_maximum), (Some(9), Some(5)));
    assert_eq!((found.maximum_packet_size, found.topic_alias_maximum), (Some(256), Some(7)));
    assert!(found.request_response_information && !found.request_problem_information);
    assert_eq!(found.user_properties, [("k".into(), "v".into())]);
    assert_eq!(found.authentication_method.unwrap(), "SCRAM");
    assert_eq!(found.authentication_data.unwrap().reveal(), b"x");
    let will = connect.will.unwrap();
    assert_eq!((will.delay_s, will.qos), (30, QoS::AtLeastOnce));
    let properties = will.properties.unwrap();
    assert_eq!(properties.payload_format, Some(1));
    assert_eq!(properties.response_topic.unwrap(), "answer");
}

#[test]
fn an_empty_client_id_is_left_to_the_session() {
    assert_eq!(with(Version::V4, 0, &text("")).unwrap().client_id, "");
    assert_eq!(with(Version::V3, 0, &text("")).unwrap().client_id, "");
    assert_eq!(with(Version::V5, 0, &[0, 0, 0]).unwrap().client_id, "");
}

#[test]
fn what_is_not_mqtt_is_refused_on_the_byte_that_shows_it() {
    for bytes in [&b"G"[..], b"\x16\x03", b"\x11", b"\x30", b"\x00", b"\x10\x10\x01", b"\x10\x10\x00\x05"] {
        assert_eq!(decode(bytes), Err(WireError::NotMqtt), "{bytes:?}");
    }
    assert_eq!(decode(b"\x10\x10\x00\x04MQTX"), Err(WireError::NotMqtt));
    assert_eq!(decode(b"\x10\x10\x00\x06MQTTTT"), Err(WireError::NotMqtt));
    for bytes in [&b""[..], b"\x10", b"\x10\x10", b"\x10\x10\x00", b"\x10\x10\x00\x04MQT", b"\x10\x10\x00\x06MQI"] {
        assert_eq!(decode(bytes), Ok(None), "{bytes:?}");
    }
}

#[test]
fn an_unknown_version_is_refused_before_the_rest_arrives() {
    for level in [0, 3, 6, 0x84, 0xFF] {
        let bytes = [&b"\x10\x10\x00\x04MQTT"[..], &[level]].concat();
        assert_eq!(decode(&bytes), Err(WireError::UnsupportedVersion(level)));
    }
    assert_eq!(decode(b"\x10\x10\x00\x06MQIsdp\x04"), Err(WireError::UnsupportedVersion(4)));
}

#[test]
fn the_version_can_be_told_before_the_rest_arrives() {
    assert_eq!(peek_version(b"\x10\x10\x00\x04MQTT\x05"), Some(Version::V5));
    assert_eq!(peek_version(b"\x10\x10\x00\x04MQTT\x04\x02"), Some(Version::V4));
    assert_eq!(peek_version(b"\x10\x10\x00\x06MQIsdp\x03"), Some(Version::V3));
    assert_eq!(peek_version(b"\x10\x10\x00\x04MQTT"), None);
    assert_eq!(peek_version(b"GET / HTTP/1.1"), None);
}

#[test]
fn a_connect_larger_than_the_limit_is_refused_by_its_header() {
    let too_large = WireError::PacketTooLarge { bytes: 2 + 100, max: 101 };
    assert_eq!(decode_connect(&mut BytesMut::from(&b"\x10\x64"[..]), 101), Err(too_large));
    assert_eq!(decode_connect(&mut BytesMut::from(&b"\x10\x64"[..]), 102), Ok(None));
    assert_eq!(decode(b"\x10\xFF\xFF\xFF\xFF"), Err(WireError::MalformedLength));
}

#[test]
fn contradictory_flags_are_refused() {
    for version in [Version::V4, Version::V5] {
        for flags in [0x01, 0x08, 0x10, 0x20] {
            assert_eq!(with(version, flags, &[0, 0, 0]), Err(WireError::ConnectFlags(flags)));
        }
    }
    let will: &[&[u8]] = &[&text("c"), &text("t"), &text("m")];
    for version in [Version::V3, Version::V4] {
        assert_eq!(with(version, 0x1C, &will.concat()), Err(WireError::InvalidQos));
        let password = [text("c"), text("p")].concat();
        assert_eq!(with(version, 0x40, &password), Err(WireError::PasswordWithoutUsername));
    }
    let password = [&[0][..], &text("c"), &text("p")].concat();
    assert_eq!(with(Version::V5, 0x40, &password).unwrap().password.unwrap().reveal(), b"p");
}

#[test]
fn mqtt_3_1_ignores_unused_flags_and_allows_missing_credentials() {
    let connect = with(Version::V3, 0xC0 | 0x39, &text("c")).unwrap();
    assert_eq!((connect.will, connect.username, connect.password), (None, None, None));
    assert_eq!(with(Version::V4, 0xC0, &text("c")), Err(WireError::Truncated));
}

#[test]
fn a_will_needs_a_proper_topic() {
    for topic in ["", "a/+", "#", "a\0"] {
        let tail: &[&[u8]] = &[&text("c"), &text(topic), &text("m")];
        assert_eq!(with(Version::V4, 0x04, &tail.concat()), Err(WireError::TopicNameInvalid), "{topic:?}");
    }
}

#[test]
fn missing_and_left_over_bytes_are_refused() {
    assert_eq!(decode(b"\x10\x00"), Err(WireError::Truncated));
    assert_eq!(decode(b"\x10\x04\x00\x04MQ"), Err(WireError::Truncated));
    assert_eq!(with(Version::V4, 0x02, &[]), Err(WireError::Truncated));
    assert_eq!(with(Version::V4, 0x02, &[0, 1]), Err(WireError::Truncated));
    assert_eq!(with(Version::V4, 0x02, &[0, 1, b'c', 0]), Err(WireError::TrailingBytes));
    assert_eq!(with(Version::V4, 0x02, &[0, 1, 0]), Err(WireError::NulInString));
    assert_eq!(with(Version::V4, 0x02, &[0, 1, 0xFF]), Err(WireError::NotUtf8));
}

#[test]
fn what_follows_the_connect_stays_in_the_buffer() {
    let mut buf = BytesMut::from(&b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01c\xc0\x00"[..]);
    assert!(decode_connect(&mut buf, 100).unwrap().is_some());
    assert_eq!(buf, &b"\xc0\x00"[..]);
}

#[test]
fn a_debug_print_of_a_connect_shows_no_secret() {
    let rest = [text("c"), text("name"), text("hunter2")].concat();
    for version in [Version::V3, Version::V4, Version::V5] {
        let rest = if version == Version::V5 { [&[0][..], &rest].concat() } else { rest.clone() };
        let shown = format!("{:?}", with(version, 0xC0, &rest).unwrap());
        assert!(shown.contains("name") && !shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
    }
}
