//! Owns the encoding of every packet that the server sends, appended to the caller's buffer. Never decides what to
//! send, and leaves out what the connection's version has no place for.

use bytes::{BufMut, BytesMut};

use super::field::{self, VARINT_MAX, put_varint, varint_len};
use super::packet::{PublishProperties, QoS, Version};
use super::properties::{self, id};

/// Names the four acknowledgements of the QoS 1 and 2 exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AckKind {
    /// The answer to a QoS 1 message.
    PubAck = 0x40,
    /// The first answer to a QoS 2 message.
    PubRec = 0x50,
    /// The release of a QoS 2 message that the server sent.
    PubRel = 0x62,
    /// The end of a QoS 2 exchange.
    PubComp = 0x70,
}

/// Holds the MQTT 5 properties of a CONNACK; what is `None` is left out and has the standard's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnAckProperties<'a> {
    /// The session expiry that the server uses in place of the client's, in seconds.
    pub session_expiry_s: Option<u32>,
    /// How many QoS 1 and 2 messages the server takes at a time, at least 1.
    pub receive_maximum: Option<u16>,
    /// The highest QoS that the server takes; QoS 2 is the default and never written.
    pub maximum_qos: Option<QoS>,
    /// Whether the server keeps retained messages.
    pub retain_available: Option<bool>,
    /// The largest packet the server takes, in bytes, at least 1.
    pub maximum_packet_size: Option<u32>,
    /// The name that the server gives to a client that came without one.
    pub assigned_client_id: Option<&'a str>,
    /// The highest topic alias that the server takes.
    pub topic_alias_maximum: Option<u16>,
    /// What a person reading the client's log should know.
    pub reason_string: Option<&'a str>,
    /// Whether filters may have wildcards.
    pub wildcard_available: Option<bool>,
    /// Whether subscriptions may have identifiers.
    pub subscription_ids_available: Option<bool>,
    /// Whether subscriptions may be shared.
    pub shared_available: Option<bool>,
    /// The keep alive that the client has to use in place of its own, in seconds.
    pub server_keep_alive_s: Option<u16>,
    /// What the client may build its response topics from.
    pub response_information: Option<&'a str>,
}

/// Holds a message on its way to one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishOut<'a> {
    /// Whether it was sent before; never written at QoS 0.
    pub dup: bool,
    /// The delivery.
    pub qos: QoS,
    /// Whether the subscriber sees it as retained.
    pub retain: bool,
    /// The packet identifier; not written at QoS 0.
    pub id: u16,
    /// The topic name; empty only together with a topic alias.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// The MQTT 5 properties it came with.
    pub properties: Option<&'a PublishProperties>,
    /// The MQTT 5 message expiry that is left, in seconds, in place of the one in `properties`.
    pub message_expiry_s: Option<u32>,
    /// The MQTT 5 identifiers of the subscriptions that it matches, each 1 to 268 435 455.
    pub subscription_identifiers: &'a [u32],
    /// The MQTT 5 topic alias, not 0.
    pub topic_alias: Option<u16>,
}

/// Encodes a CONNACK; the code is the one for that version, and a refusal never says that a session is present.
pub fn connack(
    out: &mut BytesMut,
    version: Version,
    session_present: bool,
    code: u8,
    properties: &ConnAckProperties<'_>,
) {
    // In MQTT 3.1 the byte is reserved.
    let present = u8::from(session_present && code == 0 && version != Version::V3);
    if version != Version::V5 {
        out.put_slice(&[0x20, 2, present, code]);
        return;
    }
    // Connections are rare enough for a buffer of its own, which spares the counting.
    let mut section = BytesMut::new();
    put_connack_properties(&mut section, properties);
    out.put_u8(0x20);
    put_varint(out, 2 + varint_len(section.len()) + section.len());
    out.put_slice(&[present, code]);
    put_varint(out, section.len());
    out.put_slice(&section);
}

/// Writes the properties of a CONNACK that are there.
fn put_connack_properties(out: &mut BytesMut, from: &ConnAckProperties<'_>) {
    let numbers = [(id::SESSION_EXPIRY, from.session_expiry_s), (id::MAXIMUM_PACKET_SIZE, from.maximum_packet_size)];
    let shorts = [
        (id::RECEIVE_MAXIMUM, from.receive_maximum),
        (id::TOPIC_ALIAS_MAXIMUM, from.topic_alias_maximum),
        (id::SERVER_KEEP_ALIVE, from.server_keep_alive_s),
    ];
    let bits = [
        (id::MAXIMUM_QOS, from.maximum_qos.filter(|qos| *qos != QoS::ExactlyOnce).map(|qos| qos == QoS::AtLeastOnce)),
        (id::RETAIN_AVAILABLE, from.retain_available),
        (id::WILDCARD_AVAILABLE, from.wildcard_available),
        (id::SUBSCRIPTION_IDS_AVAILABLE, from.subscription_ids_available),
        (id::SHARED_AVAILABLE, from.shared_available),
    ];
    let texts = [
        (id::ASSIGNED_CLIENT_ID, from.assigned_client_id),
        (id::REASON_STRING, from.reason_string),
        (id::RESPONSE_INFORMATION, from.response_information),
    ];
    for (property, value) in numbers {
        value.into_iter().for_each(|value| properties::put_u32(out, property, value));
    }
    for (property, value) in shorts {
        value.into_iter().for_each(|value| properties::put_u16(out, property, value));
    }
    for (property, value) in bits {
        value.into_iter().for_each(|value| properties::put_u8(out, property, u8::from(value)));
    }
    for (property, value) in texts {
        value.into_iter().for_each(|value| properties::put_text(out, property, value));
    }
}

/// Encodes a PUBLISH, or nothing at all if it is larger than any MQTT packet can be (268 435 455 bytes of content).
#[inline]
pub fn publish(out: &mut BytesMut, version: Version, message: &PublishOut<'_>) {
    let section = section_len(version, message);
    let remaining = remaining_len(version, message, section);
    if remaining > VARINT_MAX {
        return;
    }
    out.reserve(1 + varint_len(remaining) + remaining);
    let acked = message.qos != QoS::AtMostOnce;
    let dup = message.dup && acked;
    out.put_u8(0x30 | u8::from(dup) << 3 | (message.qos as u8) << 1 | u8::from(message.retain));
    put_varint(out, remaining);
    field::put_text(out, message.topic);
    if acked {
        out.put_u16(message.id);
    }
    if version == Version::V5 {
        put_section(out, message, section);
    }
    out.put_slice(message.payload);
}

/// Computes the size in bytes of the whole packet that [`publish`] makes, to hold against a maximum packet size.
#[inline]
pub fn publish_len(version: Version, message: &PublishOut<'_>) -> usize {
    let remaining = remaining_len(version, message, section_len(version, message));
    1 + varint_len(remaining) + remaining
}

/// Computes how many bytes follow the fixed header of a PUBLISH.
#[inline]
fn remaining_len(version: Version, message: &PublishOut<'_>, section: usize) -> usize {
    let id = if message.qos == QoS::AtMostOnce { 0 } else { 2 };
    let section = if version == Version::V5 { varint_len(section) + section } else { 0 };
    field::text_len(message.topic) + id + section + message.payload.len()
}

/// Computes how many bytes the properties of a PUBLISH take, their length not counted.
#[inline]
fn section_len(version: Version, message: &PublishOut<'_>) -> usize {
    if version != Version::V5 {
        return 0;
    }
    let own = match message.properties {
        Some(properties) => properties::message_len(properties, message.message_expiry_s),
        None => message.message_expiry_s.map_or(0, |_| 5),
    };
    let identifiers = message.subscription_identifiers.iter().map(|identifier| 1 + varint_len(*identifier as usize));
    own + message.topic_alias.map_or(0, |_| 3) + identifiers.sum::<usize>()
}

/// Writes the properties of a PUBLISH, their length first.
#[inline]
fn put_section(out: &mut BytesMut, message: &PublishOut<'_>, section: usize) {
    put_varint(out, section);
    if section == 0 {
        return;
    }
    match (message.properties, message.message_expiry_s) {
        (Some(properties), expiry_s) => properties::put_message(out, properties, expiry_s),
        (None, Some(expiry_s)) => properties::put_u32(out, id::MESSAGE_EXPIRY, expiry_s),
        (None, None) => {}
    }
    if let Some(alias) = message.topic_alias {
        properties::put_u16(out, id::TOPIC_ALIAS, alias);
    }
    for identifier in message.subscription_identifiers {
        out.put_u8(id::SUBSCRIPTION_IDENTIFIER);
        put_varint(out, *identifier as usize);
    }
}

/// Encodes an acknowledgement; the reason is written only in MQTT 5, and only when it is not 0.
#[inline]
pub fn ack(out: &mut BytesMut, version: Version, kind: AckKind, id: u16, reason: u8) {
    let [high, low] = id.to_be_bytes();
    if reason == 0 || version != Version::V5 {
        out.extend_from_slice(&[kind as u8, 2, high, low]);
    } else {
        out.extend_from_slice(&[kind as u8, 3, high, low, reason]);
    }
}

/// Encodes a SUBACK with one code per filter, and in MQTT 5 what a person reading the client's log should know; before
/// MQTT 5 every failure becomes 0x80.
pub fn suback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8], reason_string: Option<&str>) {
    subscription_ack(out, 0x90, version, id, codes.len(), reason_string);
    match version {
        Version::V5 => out.put_slice(codes),
        Version::V3 | Version::V4 => out.extend(codes.iter().map(|code| (*code).min(0x80))),
    }
}

/// Encodes an UNSUBACK with one code per filter; before MQTT 5 there are none.
pub fn unsuback(out: &mut BytesMut, version: Version, id: u16, codes: &[u8]) {
    let codes = if version == Version::V5 { codes } else { &[] };
    subscription_ack(out, 0xB0, version, id, codes.len(), None);
    out.put_slice(codes);
}

/// Writes a SUBACK or UNSUBACK up to its codes.
fn subscription_ack(
    out: &mut BytesMut,
    first: u8,
    version: Version,
    id: u16,
    codes: usize,
    reason_string: Option<&str>,
) {
    let section = reason_string.map_or(0, |text| 1 + field::text_len(text));
    let properties = if version == Version::V5 { varint_len(section) + section } else { 0 };
    out.reserve(8 + properties + codes);
    out.put_u8(first);
    put_varint(out, 2 + properties + codes);
    out.put_u16(id);
    if version == Version::V5 {
        put_varint(out, section);
        if let Some(text) = reason_string {
            properties::put_text(out, id::REASON_STRING, text);
        }
    }
}

/// Encodes a PINGRESP.
#[inline]
pub fn pingresp(out: &mut BytesMut) {
    out.extend_from_slice(&[0xD0, 0]);
}

/// Encodes a DISCONNECT; before MQTT 5, where servers send none, it writes nothing.
pub fn disconnect(out: &mut BytesMut, version: Version, reason: u8, reason_string: Option<&str>) {
    if version != Version::V5 {
        return;
    }
    let Some(text) = reason_string else {
        out.put_slice(&[0xE0, 1, reason]);
        return;
    };
    let section = 1 + field::text_len(text);
    out.put_u8(0xE0);
    put_varint(out, 1 + varint_len(section) + section);
    out.put_u8(reason);
    put_varint(out, section);
    properties::put_text(out, id::REASON_STRING, text);
}
