//! Owns the decoding of the first packet of a connection, CONNECT, and the early recognition of what is not MQTT at
//! all. Never judges the client id, the credentials or the session asked for.

use bytes::BytesMut;

use super::body::{Body, Header};
use super::error::WireError;
use super::packet::{Connect, ConnectProperties, QoS, Version, Will};
use super::properties;

/// The fixed header's first byte of every CONNECT.
const CONNECT: u8 = 0x10;

const CLEAN: u8 = 0x02;
const WILL: u8 = 0x04;
const WILL_QOS: u8 = 0x18;
const WILL_RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USERNAME: u8 = 0x80;

/// Decodes the first packet of a connection; `None` while more bytes are needed.
///
/// What is not MQTT, too large or of an unknown version is refused on the byte that shows it.
pub fn decode_connect(buf: &mut BytesMut, packet_bytes_max: usize) -> Result<Option<Connect>, WireError> {
    let Some((header, version)) = opening(buf, packet_bytes_max)? else {
        return Ok(None);
    };
    if buf.len() < header.packet_bytes {
        return Ok(None);
    }
    // The packet is all there, so a version that could not be read is missing.
    let version = version.ok_or(WireError::Truncated)?;
    let mut body = Body::take(buf, header)?;
    body.skip(if version == Version::V3 { 9 } else { 7 })?;
    connect(version, body).map(Some)
}

/// Tells the version that a CONNECT asks for as soon as its first bytes show it.
///
/// A caller that wants to answer a faulty CONNECT asks before it decodes, since the answer depends on the version.
pub fn peek_version(buf: &[u8]) -> Option<Version> {
    opening(buf, usize::MAX).ok().flatten().and_then(|(_, version)| version)
}

/// Reads the fixed header and as much of the protocol name and level as is there.
fn opening(buf: &[u8], packet_bytes_max: usize) -> Result<Option<(Header, Option<Version>)>, WireError> {
    if buf.first().is_some_and(|&first| first != CONNECT) {
        return Err(WireError::NotMqtt);
    }
    let Some(header) = Header::read(buf, packet_bytes_max)? else {
        return Ok(None);
    };
    let packet = buf.get(..header.packet_bytes).unwrap_or(buf);
    let version = protocol(packet.get(header.header_bytes..).unwrap_or_default())?;
    Ok(Some((header, version)))
}

/// Reads the protocol name and level off the start of a CONNECT's body; `None` while they may still turn out right.
fn protocol(body: &[u8]) -> Result<Option<Version>, WireError> {
    let begins_like = |name: &[u8]| body.iter().zip(name).all(|(have, want)| have == want);
    let (level, known): (_, &[(u8, Version)]) = if begins_like(b"\x00\x04MQTT") {
        (body.get(6), &[(4, Version::V4), (5, Version::V5)])
    } else if begins_like(b"\x00\x06MQIsdp") {
        (body.get(8), &[(3, Version::V3)])
    } else {
        return Err(WireError::NotMqtt);
    };
    let Some(&level) = level else {
        return Ok(None);
    };
    match known.iter().find(|(number, _)| *number == level) {
        Some(&(_, version)) => Ok(Some(version)),
        None => Err(WireError::UnsupportedVersion(level)),
    }
}

/// Decodes what follows the protocol level.
fn connect(version: Version, mut body: Body) -> Result<Connect, WireError> {
    let flags = body.u8()?;
    check_flags(version, flags)?;
    let keep_alive = body.u16()?;
    let properties = match version {
        Version::V5 => properties::connect(body.section()?)?,
        Version::V3 | Version::V4 => ConnectProperties::default(),
    };
    let client_id = body.string()?;
    let will = if flags & WILL != 0 { Some(Box::new(will(version, flags, &mut body)?)) } else { None };
    // MQTT 3.1 lets the packet end early although the flags promise a user name or password.
    let present = |flag: u8, body: &Body| flags & flag != 0 && !(version == Version::V3 && body.is_empty());
    let username = if present(USERNAME, &body) { Some(body.string()?) } else { None };
    let password = if present(PASSWORD, &body) { Some(body.binary()?.into()) } else { None };
    body.finish()?;
    let clean_start = flags & CLEAN != 0;
    Ok(Connect { version, keep_alive, client_id, clean_start, will, username, password, properties })
}

/// Refuses CONNECT flags that contradict each other.
fn check_flags(version: Version, flags: u8) -> Result<(), WireError> {
    if version != Version::V3 {
        let reserved = flags & 0x01 != 0;
        let will_options_alone = flags & WILL == 0 && flags & (WILL_QOS | WILL_RETAIN) != 0;
        if reserved || will_options_alone {
            return Err(WireError::ConnectFlags(flags));
        }
    }
    if version != Version::V5 && flags & (USERNAME | PASSWORD) == PASSWORD {
        return Err(WireError::PasswordWithoutUsername);
    }
    Ok(())
}

/// Decodes the will that the flags announce.
fn will(version: Version, flags: u8, body: &mut Body) -> Result<Will, WireError> {
    let qos = QoS::try_from((flags & WILL_QOS) >> 3)?;
    let (delay_s, properties) = match version {
        Version::V5 => properties::will(body.section()?)?,
        Version::V3 | Version::V4 => (0, None),
    };
    let topic = body.full_topic()?;
    let payload = body.binary()?;
    Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, delay_s, properties })
}
