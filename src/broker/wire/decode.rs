//! Owns the decoding of every packet that a client sends after its CONNECT. Never remembers anything between packets,
//! so aliases, packet ids in flight and subscriptions are the session's to judge.

use bytes::{Buf, BytesMut};

use super::body::{Body, Header};
use super::error::WireError;
use super::packet::{
    Ack, Disconnect, Packet, Publish, QoS, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe, Version,
};
use super::properties;

/// The packet types that a client sends, as in the upper half of the header's first byte.
mod kind {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const PUBACK: u8 = 4;
    pub(super) const PUBREC: u8 = 5;
    pub(super) const PUBREL: u8 = 6;
    pub(super) const PUBCOMP: u8 = 7;
    pub(super) const SUBSCRIBE: u8 = 8;
    pub(super) const UNSUBSCRIBE: u8 = 10;
    pub(super) const PINGREQ: u8 = 12;
    pub(super) const DISCONNECT: u8 = 14;
    pub(super) const AUTH: u8 = 15;
}

/// Decodes the next packet; `None` while more bytes are needed.
///
/// Wrong header bytes and a packet larger than `packet_bytes_max`, header included, are refused on the byte that shows
/// it. The buffer is left alone until a packet is complete.
#[inline]
pub fn decode(version: Version, buf: &mut BytesMut, packet_bytes_max: usize) -> Result<Option<Packet>, WireError> {
    let Some(&first) = buf.first() else {
        return Ok(None);
    };
    check_first(version, first)?;
    let Some(header) = Header::read(buf, packet_bytes_max)? else {
        return Ok(None);
    };
    if buf.len() < header.packet_bytes {
        return Ok(None);
    }
    // Most acks are these four bytes; they need no share of the buffer.
    if let (kind::PUBACK..=kind::PUBCOMP, [_, 2, high, low, ..]) = (first >> 4, &buf[..]) {
        let id = u16::from_be_bytes([*high, *low]);
        buf.advance(header.packet_bytes);
        if id == 0 {
            return Err(WireError::PacketIdZero);
        }
        return Ok(Some(ack_packet(first, Ack { id, reason: 0 })));
    }
    packet(version, first, Body::take(buf, header)?).map(Some)
}

/// Refuses packet types that no client sends, and wrong reserved flags.
#[inline]
fn check_first(version: Version, first: u8) -> Result<(), WireError> {
    let flags = first & 0x0F;
    let want = match first >> 4 {
        kind::PUBLISH => {
            let qos = QoS::try_from((flags >> 1) & 0x03)?;
            let dup = flags & 0x08 != 0;
            return if dup && qos == QoS::AtMostOnce { Err(WireError::DupAtQosZero) } else { Ok(()) };
        }
        kind::PUBREL | kind::SUBSCRIBE | kind::UNSUBSCRIBE => 0b0010,
        kind::CONNECT | kind::PUBACK | kind::PUBREC | kind::PUBCOMP | kind::PINGREQ | kind::DISCONNECT => 0,
        kind::AUTH if version == Version::V5 => 0,
        other => return Err(WireError::UnexpectedPacket(other)),
    };
    // MQTT 3.1 has a DUP flag in some of these and calls the other flags unused.
    if flags == want || version == Version::V3 { Ok(()) } else { Err(WireError::ReservedFlags(first)) }
}

/// Decodes the body of a packet whose header has been checked.
#[inline]
fn packet(version: Version, first: u8, body: Body) -> Result<Packet, WireError> {
    match first >> 4 {
        kind::PUBLISH => publish(version, first, body).map(Packet::Publish),
        kind::PUBACK..=kind::PUBCOMP => Ok(ack_packet(first, ack(version, first, body)?)),
        kind::SUBSCRIBE => subscribe(version, body).map(Packet::Subscribe),
        kind::UNSUBSCRIBE => unsubscribe(version, body).map(Packet::Unsubscribe),
        kind::PINGREQ => body.finish().map(|()| Packet::PingReq),
        kind::DISCONNECT => disconnect(version, body).map(Packet::Disconnect),
        kind::AUTH => Ok(Packet::Auth),
        kind::CONNECT => Ok(Packet::Connect),
        other => Err(WireError::UnexpectedPacket(other)),
    }
}

/// Decodes a PUBLISH.
#[inline]
fn publish(version: Version, first: u8, mut body: Body) -> Result<Publish, WireError> {
    let qos = QoS::try_from((first >> 1) & 0x03)?;
    let topic = body.topic()?;
    let id = if qos == QoS::AtMostOnce { 0 } else { body.packet_id()? };
    let (topic_alias, properties) = match version {
        Version::V5 => properties::publish(body.section()?)?,
        Version::V3 | Version::V4 => (None, None),
    };
    if topic.is_empty() && topic_alias.is_none() {
        let missing = version == Version::V5;
        return Err(if missing { WireError::TopicMissing } else { WireError::TopicNameInvalid });
    }
    Ok(Publish {
        dup: first & 0x08 != 0,
        qos,
        retain: first & 0x01 != 0,
        id,
        topic,
        payload: body.rest(),
        topic_alias,
        properties,
    })
}

/// Names an acknowledgement after its packet type.
#[inline]
fn ack_packet(first: u8, ack: Ack) -> Packet {
    match first >> 4 {
        kind::PUBACK => Packet::PubAck(ack),
        kind::PUBREC => Packet::PubRec(ack),
        kind::PUBREL => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    }
}

/// Decodes an acknowledgement that is not in the short form.
fn ack(version: Version, first: u8, mut body: Body) -> Result<Ack, WireError> {
    let id = body.packet_id()?;
    let mut reason = 0;
    if version == Version::V5 && !body.is_empty() {
        reason = body.u8()?;
        let known = match first >> 4 {
            kind::PUBACK | kind::PUBREC => {
                matches!(reason, 0x00 | 0x10 | 0x80 | 0x83 | 0x87 | 0x90 | 0x91 | 0x97 | 0x99)
            }
            _ => matches!(reason, 0x00 | 0x92),
        };
        if !known {
            return Err(WireError::InvalidReason(reason));
        }
        if !body.is_empty() {
            properties::ack(body.section()?)?;
        }
    }
    body.finish()?;
    Ok(Ack { id, reason })
}

/// Decodes a SUBSCRIBE.
fn subscribe(version: Version, mut body: Body) -> Result<Subscribe, WireError> {
    let id = body.packet_id()?;
    let subscription_identifier = match version {
        Version::V5 => properties::subscribe(body.section()?)?,
        Version::V3 | Version::V4 => None,
    };
    if body.is_empty() {
        return Err(WireError::EmptySubscribe);
    }
    // A SUBSCRIBE seldom names more than one filter, so the list starts at one, not four.
    let mut filters = Vec::with_capacity(1);
    while !body.is_empty() {
        filters.push(subscribe_filter(version, &mut body)?);
    }
    Ok(Subscribe { id, subscription_identifier, filters })
}

/// Decodes one filter of a SUBSCRIBE with its options.
fn subscribe_filter(version: Version, body: &mut Body) -> Result<SubscribeFilter, WireError> {
    let filter = body.filter()?;
    let options = body.u8()?;
    let reserved = match version {
        Version::V3 => 0,
        Version::V4 => 0b1111_1100,
        Version::V5 => 0b1100_0000,
    };
    if options & reserved != 0 {
        return Err(WireError::SubscriptionOptions(options));
    }
    let qos = QoS::try_from(options & 0x03).map_err(|_| WireError::RequestedQos)?;
    if version != Version::V5 {
        let retain_handling = RetainHandling::Send;
        return Ok(SubscribeFilter { filter, qos, no_local: false, retain_as_published: false, retain_handling });
    }
    let retain_handling = match (options >> 4) & 0x03 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return Err(WireError::RetainHandling),
    };
    let no_local = options & 0x04 != 0;
    if no_local && filter.starts_with("$share/") {
        return Err(WireError::NoLocalOnShared);
    }
    Ok(SubscribeFilter { filter, qos, no_local, retain_as_published: options & 0x08 != 0, retain_handling })
}

/// Decodes an UNSUBSCRIBE.
fn unsubscribe(version: Version, mut body: Body) -> Result<Unsubscribe, WireError> {
    let id = body.packet_id()?;
    if version == Version::V5 {
        properties::unsubscribe(body.section()?)?;
    }
    if body.is_empty() {
        return Err(WireError::EmptySubscribe);
    }
    let mut filters = Vec::with_capacity(1);
    while !body.is_empty() {
        filters.push(body.filter()?);
    }
    Ok(Unsubscribe { id, filters })
}

/// Decodes a DISCONNECT.
fn disconnect(version: Version, mut body: Body) -> Result<Disconnect, WireError> {
    let mut disconnect = Disconnect { reason: 0, session_expiry_s: None };
    if version == Version::V5 && !body.is_empty() {
        let reason = body.u8()?;
        // The codes left out are the ones that only a server has use for.
        if !matches!(reason, 0x00 | 0x04 | 0x80..=0x83 | 0x90 | 0x93..=0x99) {
            return Err(WireError::InvalidReason(reason));
        }
        disconnect.reason = reason;
        if !body.is_empty() {
            disconnect.session_expiry_s = properties::disconnect(body.section()?)?;
        }
    }
    body.finish()?;
    Ok(disconnect)
}
