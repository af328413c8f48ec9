//! MQTT packets as bytes: what clients send, built; what a broker sends, read.
//!
//! Owns the wire format of the end-to-end tests. It never checks what it builds: wrong packets are what tests need.

/// A packet from the broker, properties left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    ConnAck { session_present: bool, code: u8 },
    Publish(Message),
    PubAck { id: u16, reason: u8 },
    PubRec { id: u16, reason: u8 },
    PubRel { id: u16 },
    PubComp { id: u16 },
    SubAck { id: u16, codes: Vec<u8> },
    UnsubAck { id: u16 },
    PingResp,
    Disconnect { reason: u8 },
}

/// An application message as it is delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub dup: bool,
}

/// Returns the bytes of a PUBLISH.
pub fn publish(version: u8, topic: &[u8], payload: &[u8], qos: u8, id: u16, dup: bool) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic);
    if qos > 0 {
        body.extend(id.to_be_bytes());
    }
    if version == 5 {
        body.push(0);
    }
    body.extend(payload);
    packet(0x30 | u8::from(dup) << 3 | qos << 1, &body)
}

/// Returns a packet: first byte, length, body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut left = body.len();
    loop {
        let more = left > 127;
        bytes.push((left % 128) as u8 | u8::from(more) << 7);
        left /= 128;
        if !more {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

/// Returns a string with its length before it.
pub fn text(string: &str) -> Vec<u8> {
    let mut bytes = (string.len() as u16).to_be_bytes().to_vec();
    bytes.extend(string.as_bytes());
    bytes
}

/// Reads a variable byte integer: its value, and how many bytes it took.
pub fn variable_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (place, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7F) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, place + 1));
        }
    }
    None
}

/// Reads a broker's packet of the given protocol level; `None` where it is none.
pub fn parse(version: u8, first: u8, body: &[u8]) -> Option<Packet> {
    let id = || Some(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let reason = || body.get(2).copied().unwrap_or(0);
    let after_properties = |start: usize| {
        let rest = body.get(start..)?;
        let (length, taken) = if version == 5 { variable_length(rest)? } else { (0, 0) };
        rest.get(taken + length..)
    };
    Some(match first >> 4 {
        2 => Packet::ConnAck { session_present: *body.first()? & 1 == 1, code: *body.get(1)? },
        3 => {
            let qos = first >> 1 & 3;
            let topic_end = 2 + usize::from(id()?);
            let topic = String::from_utf8(body.get(2..topic_end)?.to_vec()).ok()?;
            let id_end = topic_end + if qos > 0 { 2 } else { 0 };
            let id = body.get(topic_end..id_end)?.iter().fold(0, |id, byte| id << 8 | *byte as u16);
            let payload = after_properties(id_end)?.to_vec();
            Packet::Publish(Message { topic, payload, qos, id, dup: first & 8 != 0 })
        }
        4 => Packet::PubAck { id: id()?, reason: reason() },
        5 => Packet::PubRec { id: id()?, reason: reason() },
        6 => Packet::PubRel { id: id()? },
        7 => Packet::PubComp { id: id()? },
        9 => Packet::SubAck { id: id()?, codes: after_properties(2)?.to_vec() },
        11 => Packet::UnsubAck { id: id()? },
        13 => Packet::PingResp,
        14 => Packet::Disconnect { reason: body.first().copied().unwrap_or(0) },
        _ => return None,
    })
}
