//! Owns the room's tests: here those that take in all of it (packets split anywhere, bytes that are anything at all),
//! below those of its parts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod connect;
mod control;
mod encode;
mod properties;
mod publish;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const ALL: [Version; 3] = [Version::V3, Version::V4, Version::V5];
const OLD: [Version; 2] = [Version::V3, Version::V4];
const PACKET_BYTES_MAX: usize = 4096;

/// Builds a packet out of its first byte and the parts of its body.
fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let mut out = BytesMut::from(&[first][..]);
    field::put_varint(&mut out, body.len());
    out.extend_from_slice(&body);
    out.to_vec()
}

/// Builds a string field.
fn text(text: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    field::put_text(&mut out, text);
    out.to_vec()
}

/// Decodes bytes that are one whole packet.
fn decode_all(version: Version, bytes: &[u8]) -> Result<Packet, WireError> {
    let mut buf = BytesMut::from(bytes);
    let packet = decode(version, &mut buf, 1 << 20)?.unwrap();
    assert!(buf.is_empty());
    Ok(packet)
}

/// Good CONNECT packets, one for each version.
fn connects() -> Vec<Vec<u8>> {
    let tail = [text("c"), text("t"), text("bye"), text("u"), text("p")].concat();
    let v5: &[&[u8]] = &[&[8, 0x11, 0, 0, 0, 9, 0x21, 0, 5], &text("c"), &[5, 0x18, 0, 0, 0, 1], &text("t"), &text("")];
    vec![
        packet(0x10, &[b"\x00\x06MQIsdp\x03\xF6\x00\x3C", &tail]),
        packet(0x10, &[b"\x00\x04MQTT\x04\xF6\x00\x3C", &tail]),
        packet(0x10, &[b"\x00\x04MQTT\x05\x04\x00\x3C", &v5.concat()]),
    ]
}

/// Good packets of every other type, with properties where the version has them.
fn packets(version: Version) -> Vec<Vec<u8>> {
    let v5 = version == Version::V5;
    let section = |bytes: &[u8]| {
        if v5 { [&[bytes.len() as u8], bytes].concat() } else { Vec::new() }
    };
    let user = section(b"\x26\x00\x01k\x00\x01v");
    let mut all = vec![
        packet(0x30, &[&text("a"), &section(&[0x23, 0, 1]), b"x"]),
        packet(0x3D, &[&text("a/b/c"), &[0, 1], &section(b"\x01\x01\x08\x00\x01r\x26\x00\x01k\x00\x01v"), &[9; 200]]),
        vec![0x40, 2, 0, 1],
        vec![0x50, 2, 0, 1],
        vec![0x62, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        packet(0x82, &[&[0, 1], &section(&[0x0B, 0xFF, 0x01]), &text("a/#"), &[1], &text("b"), &[2]]),
        packet(0xA2, &[&[0, 1], &user, &text("a/#"), &text("b")]),
        vec![0xC0, 0],
        vec![0x10, 1, 0],
        vec![0xE0, 0],
    ];
    if v5 {
        all.push(packet(0x40, &[&[0, 1, 0x10], &user]));
        all.push(packet(0x62, &[&[0, 1, 0x92]]));
        all.push(packet(0xE0, &[&[4], &section(&[0x11, 0, 0, 0, 1])]));
        all.push(vec![0xF0, 0]);
    }
    all
}

/// Decodes all that a buffer holds and says how it ended: with an error, or with bytes left over.
fn drain(version: Version, buf: &mut BytesMut, into: &mut Vec<Packet>) -> Result<(), WireError> {
    loop {
        let before = buf.len();
        match decode(version, buf, PACKET_BYTES_MAX)? {
            Some(packet) => {
                assert!(buf.len() < before, "a packet came out of no bytes");
                into.push(packet);
            }
            None => {
                assert_eq!(buf.len(), before, "bytes went although no packet came");
                return Ok(());
            }
        }
    }
}

/// Decodes a stream that arrives in pieces of this size.
fn in_pieces(version: Version, bytes: &[u8], size: usize) -> (Vec<Packet>, Result<(), WireError>) {
    let (mut buf, mut packets) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(size) {
        buf.extend_from_slice(piece);
        if let Err(error) = drain(version, &mut buf, &mut packets) {
            return (packets, Err(error));
        }
    }
    (packets, Ok(()))
}

/// Decodes a CONNECT that arrives in pieces of this size.
fn connect_in_pieces(bytes: &[u8], size: usize) -> Result<Option<Connect>, WireError> {
    let mut buf = BytesMut::new();
    for piece in bytes.chunks(size) {
        buf.extend_from_slice(piece);
        let before = buf.len();
        if let Some(connect) = decode_connect(&mut buf, PACKET_BYTES_MAX)? {
            assert!(buf.len() < before);
            return Ok(Some(connect));
        }
        assert_eq!(buf.len(), before);
    }
    Ok(None)
}

#[test]
fn a_stream_split_anywhere_gives_the_same_packets() {
    for version in ALL {
        let packets = packets(version);
        let stream = packets.concat();
        let (at_once, end) = in_pieces(version, &stream, usize::MAX);
        assert_eq!(end, Ok(()));
        assert_eq!(at_once.len(), packets.len());
        for size in 1..40 {
            assert_eq!(in_pieces(version, &stream, size), (at_once.clone(), Ok(())));
        }
    }
    for bytes in connects() {
        let at_once = connect_in_pieces(&bytes, usize::MAX);
        assert!(matches!(at_once, Ok(Some(_))));
        for size in 1..40 {
            assert_eq!(connect_in_pieces(&bytes, size), at_once);
        }
    }
}

#[test]
fn a_packet_cut_short_anywhere_asks_for_more() {
    for version in ALL {
        for bytes in packets(version) {
            for end in 0..bytes.len() {
                let mut buf = BytesMut::from(&bytes[..end]);
                assert_eq!(decode(version, &mut buf, PACKET_BYTES_MAX), Ok(None), "{bytes:?} {end}");
            }
        }
    }
    for bytes in connects() {
        for end in 0..bytes.len() {
            assert_eq!(connect_in_pieces(&bytes[..end], usize::MAX), Ok(None));
        }
    }
}

#[test]
fn errors_have_the_reason_codes_of_the_standard() {
    let too_large = WireError::PacketTooLarge { bytes: 2, max: 1 };
    for (error, code) in [
        (WireError::Truncated, 0x81),
        (WireError::ReservedFlags(0), 0x81),
        (WireError::PropertyNotAllowed(0), 0x81),
        (WireError::DuplicateProperty(0), 0x82),
        (WireError::UnsupportedVersion(9), 0x84),
        (WireError::EmptyFilter, 0x8F),
        (WireError::TopicNameInvalid, 0x90),
        (WireError::TopicAliasZero, 0x94),
        (too_large, 0x95),
        (WireError::TooManyUserProperties(1), 0x97),
    ] {
        assert_eq!(error.reason_code(), code);
    }
    assert_eq!(too_large.to_string(), "a packet of 2 bytes is larger than the limit of 1");
    assert_eq!(WireError::InvalidProperty(1).to_string(), "property 0x01 has a value that is not allowed");
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(ALL.to_vec())
}

/// A good stream with some of its bytes replaced, taken out or put in.
fn mutated(good: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 0..6);
    edits.prop_map(move |edits| {
        let mut bytes = good.clone();
        for (place, byte, what) in edits {
            let at = place.index(bytes.len());
            match what {
                0 => bytes[at] = byte,
                1 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, byte),
            }
        }
        bytes
    })
}

fn mutated_stream() -> impl Strategy<Value = (Version, Vec<u8>)> {
    version().prop_flat_map(|version| (Just(version), mutated(packets(version).concat())))
}

fn mutated_connect() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(connects()).prop_flat_map(mutated)
}

/// A packet with a good header and any body.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let first = prop::sample::select(vec![0x30, 0x32, 0x34, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0]);
    // Small numbers make plausible lengths and property identifiers.
    let byte = prop_oneof![3 => 0..0x30_u8, 1 => any::<u8>()];
    (first, prop::collection::vec(byte, 0..64)).prop_map(|(first, body)| packet(first, &[&body]))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(version in version(), bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(in_pieces(version, &bytes, 1), in_pieces(version, &bytes, usize::MAX));
        prop_assert_eq!(connect_in_pieces(&bytes, 1), connect_in_pieces(&bytes, usize::MAX));
    }

    #[test]
    fn random_bodies_never_panic(version in version(), bytes in any_body()) {
        prop_assert_eq!(in_pieces(version, &bytes, 1), in_pieces(version, &bytes, usize::MAX));
    }

    #[test]
    fn mutated_packets_never_panic((version, bytes) in mutated_stream(), size in 1_usize..50) {
        prop_assert_eq!(in_pieces(version, &bytes, size), in_pieces(version, &bytes, usize::MAX));
    }

    #[test]
    fn mutated_connects_never_panic(bytes in mutated_connect(), size in 1_usize..50) {
        prop_assert_eq!(connect_in_pieces(&bytes, size), connect_in_pieces(&bytes, usize::MAX));
    }

    #[test]
    fn what_decodes_as_a_publish_encodes_to_the_same_message((version, bytes) in mutated_stream()) {
        for found in in_pieces(version, &bytes, usize::MAX).0 {
            let Packet::Publish(found) = found else { continue };
            let mut out = BytesMut::new();
            let message = PublishOut {
                dup: found.dup,
                qos: found.qos,
                retain: found.retain,
                id: found.id,
                topic: &found.topic,
                payload: &found.payload,
                properties: found.properties.as_deref(),
                message_expiry_s: None,
                subscription_identifiers: &[],
                topic_alias: found.topic_alias,
            };
            publish(&mut out, version, &message);
            prop_assert_eq!(out.len(), publish_len(version, &message));
            let again = decode(version, &mut out, usize::MAX);
            prop_assert_eq!(again, Ok(Some(Packet::Publish(found))));
        }
    }
}
