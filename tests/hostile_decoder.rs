//! Broken packets against the decoder alone, in this process: many more of them than sockets can carry.
//!
//! Owns what must hold of the decoder for all bytes: it never panics, how the bytes arrive in pieces changes nothing,
//! bytes go only with a packet, and a message that it let in can be sent on and read again. The one test here that looks
//! into the hub's library. `STATIONHUB_FUZZ_PACKETS` says how many packets, `STATIONHUB_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::BytesMut;
use stationhub::broker::wire::{self, Packet, Publish, PublishOut, Version, WireError};
use support::Dice;
use support::hostile::{Seeds, connect, mutate};

const PACKETS: u64 = 3_000_000;
const PACKET_BYTES_MAX: usize = 64 * 1024;

#[test]
fn no_bytes_make_the_decoder_panic_or_lose_its_place() {
    let given = std::env::var("STATIONHUB_FUZZ_PACKETS").ok();
    let wanted: u64 = given.map_or(PACKETS, |text| text.parse().expect("STATIONHUB_FUZZ_PACKETS is a number"));
    let dice = Dice::new();
    std::thread::scope(|scope| {
        for (part, (version, level)) in [(Version::V4, 4), (Version::V5, 5)].into_iter().enumerate() {
            let mut dice = dice.of_part(part as u64);
            scope.spawn(move || {
                let seeds = Seeds::new(level);
                let mut decoded = 0;
                for number in 0..wanted / 2 {
                    decoded += u64::from(try_packet(version, &seeds, &mut dice));
                    if number % 10 == 0 {
                        try_connect(level, &seeds, &mut dice);
                    }
                }
                println!("MQTT level {level}: {decoded} of {} broken packets were still packets", wanted / 2);
                assert!(decoded > wanted / 20, "the mutations leave nothing to decode");
            });
        }
    });
}

/// Decodes a broken packet and what stands behind it, at once and in pieces; tells whether it still was one.
fn try_packet(version: Version, seeds: &Seeds, dice: &mut Dice) -> bool {
    let good = seeds.any(dice);
    let mut stream = mutate(dice, seeds, good);
    stream.extend(seeds.any(dice));
    let (whole, end) = decode(version, &[&stream]);
    let cut = dice.below(stream.len() as u64 + 1) as usize;
    let in_pieces = decode(version, &[&stream[..cut], &stream[cut..]]);
    assert!((&whole, &end) == (&in_pieces.0, &in_pieces.1), "cut at {cut}, it is another stream: {stream:02x?}");
    for packet in &whole {
        if let Packet::Publish(publish) = packet
            && publish.topic_alias.is_none()
        {
            send_on(version, publish);
        }
    }
    !whole.is_empty()
}

/// Decodes all packets of a stream that comes in pieces, and tells how it ended.
fn decode(version: Version, pieces: &[&[u8]]) -> (Vec<Packet>, Result<(), WireError>) {
    let (mut buf, mut packets) = (BytesMut::new(), Vec::new());
    for piece in pieces {
        buf.extend_from_slice(piece);
        loop {
            let before = buf.len();
            match wire::decode(version, &mut buf, PACKET_BYTES_MAX) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => {
                    assert_eq!(buf.len(), before, "bytes went although no packet came");
                    break;
                }
                Err(error) => return (packets, Err(error)),
            }
            assert!(buf.len() < before, "a packet came out of no bytes");
        }
    }
    (packets, Ok(()))
}

fn try_connect(level: u8, seeds: &Seeds, dice: &mut Dice) {
    let good = connect(level, dice);
    let bytes = mutate(dice, seeds, &good);
    let mut buf = BytesMut::from(&bytes[..]);
    let whole = wire::decode_connect(&mut buf, PACKET_BYTES_MAX);
    assert!(!matches!(whole, Ok(None)) || buf.len() == bytes.len(), "bytes went although no CONNECT came");
    let cut = dice.below(bytes.len() as u64 + 1) as usize;
    let mut buf = BytesMut::from(&bytes[..cut]);
    let in_pieces = match wire::decode_connect(&mut buf, PACKET_BYTES_MAX) {
        Ok(None) => {
            buf.extend_from_slice(&bytes[cut..]);
            wire::decode_connect(&mut buf, PACKET_BYTES_MAX)
        }
        ended => ended,
    };
    assert_eq!(whole, in_pieces, "cut at {cut}, it is another CONNECT: {bytes:02x?}");
}

/// Asserts that a message that was let in can be written for a subscriber, who reads the same.
fn send_on(version: Version, message: &Publish) {
    let properties = message.properties.as_deref();
    let out = PublishOut {
        dup: message.dup,
        qos: message.qos,
        retain: message.retain,
        id: message.id,
        topic: &message.topic,
        payload: &message.payload,
        properties,
        message_expiry_s: properties.and_then(|properties| properties.message_expiry_s),
        subscription_identifiers: &[],
        topic_alias: None,
    };
    let mut bytes = BytesMut::new();
    wire::publish(&mut bytes, version, &out);
    assert_eq!(bytes.len(), wire::publish_len(version, &out), "{message:?}");
    let again = wire::decode(version, &mut bytes, usize::MAX);
    assert_eq!(again, Ok(Some(Packet::Publish(message.clone()))));
}
