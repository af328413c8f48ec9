//! Owns the MQTT 5 properties: which packet may carry which, how often and with what values, and the writing of those
//! that travel with a message. Never judges what a property means for a session.

use bytes::{BufMut, BytesMut};
use bytestring::ByteString;

use super::body::Body;
use super::error::WireError;
use super::field;
use super::packet::{ConnectProperties, PublishProperties};

/// The property identifiers.
pub(super) mod id {
    pub(in super::super) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(in super::super) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(in super::super) const CONTENT_TYPE: u8 = 0x03;
    pub(in super::super) const RESPONSE_TOPIC: u8 = 0x08;
    pub(in super::super) const CORRELATION_DATA: u8 = 0x09;
    pub(in super::super) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(in super::super) const SESSION_EXPIRY: u8 = 0x11;
    pub(in super::super) const ASSIGNED_CLIENT_ID: u8 = 0x12;
    pub(in super::super) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(in super::super) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(in super::super) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(in super::super) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(in super::super) const WILL_DELAY: u8 = 0x18;
    pub(in super::super) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(in super::super) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(in super::super) const REASON_STRING: u8 = 0x1F;
    pub(in super::super) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(in super::super) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(in super::super) const TOPIC_ALIAS: u8 = 0x23;
    pub(in super::super) const MAXIMUM_QOS: u8 = 0x24;
    pub(in super::super) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(in super::super) const USER_PROPERTY: u8 = 0x26;
    pub(in super::super) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(in super::super) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(in super::super) const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
    pub(in super::super) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// User properties of a packet. Each takes five bytes on the wire and sixty-four here: a packet of a megabyte that holds
/// nothing else would become thirteen.
const USER_PROPERTIES_MAX: usize = 1_024;

/// Walks a property section and refuses what comes twice.
struct Walk {
    section: Body,
    seen: u64,
    user_properties: usize,
}

impl Walk {
    fn new(section: Body) -> Self {
        Self { section, seen: 0, user_properties: 0 }
    }

    /// Reads the next property's identifier; its value is the caller's to read.
    fn next(&mut self) -> Result<Option<u8>, WireError> {
        if self.section.is_empty() {
            return Ok(None);
        }
        let number = self.section.varint()?;
        // Every identifier there is fits in the mask.
        let property = match u8::try_from(number) {
            Ok(property @ 0..64) => property,
            _ => return Err(WireError::PropertyNotAllowed(number)),
        };
        let bit = 1_u64 << property;
        if self.seen & bit != 0 && property != id::USER_PROPERTY {
            return Err(WireError::DuplicateProperty(property));
        }
        self.seen |= bit;
        Ok(Some(property))
    }

    /// Reads a byte that is 0 or 1.
    fn bit(&mut self, property: u8) -> Result<u8, WireError> {
        match self.section.u8()? {
            bit @ (0 | 1) => Ok(bit),
            _ => Err(WireError::InvalidProperty(property)),
        }
    }

    /// Reads a name and its value.
    fn pair(&mut self) -> Result<(ByteString, ByteString), WireError> {
        self.user_properties += 1;
        if self.user_properties > USER_PROPERTIES_MAX {
            return Err(WireError::TooManyUserProperties(USER_PROPERTIES_MAX));
        }
        Ok((self.section.string()?, self.section.string()?))
    }

    /// Reads a property that is understood only well enough to step over it.
    fn ignore(&mut self, property: u8) -> Result<(), WireError> {
        match property {
            id::USER_PROPERTY => self.pair().map(drop),
            id::REASON_STRING => self.section.string().map(drop),
            _ => Err(not_allowed(property)),
        }
    }

    /// Reads a property that belongs to a message.
    fn message(&mut self, property: u8, into: &mut Option<Box<PublishProperties>>) -> Result<(), WireError> {
        if !matches!(property, 0x01..=0x03 | id::RESPONSE_TOPIC | id::CORRELATION_DATA | id::USER_PROPERTY) {
            return Err(not_allowed(property));
        }
        let into = into.get_or_insert_default();
        match property {
            id::PAYLOAD_FORMAT => into.payload_format = Some(self.bit(property)?),
            id::MESSAGE_EXPIRY => into.message_expiry_s = Some(self.section.u32()?),
            id::CONTENT_TYPE => into.content_type = Some(self.section.string()?),
            id::RESPONSE_TOPIC => into.response_topic = Some(self.section.full_topic()?),
            id::CORRELATION_DATA => into.correlation_data = Some(self.section.binary()?),
            _ => into.user_properties.push(self.pair()?),
        }
        Ok(())
    }
}

fn not_allowed(property: u8) -> WireError {
    WireError::PropertyNotAllowed(u32::from(property))
}

/// Refuses a value of 0.
fn not_zero<T: Default + PartialEq>(property: u8, value: T) -> Result<T, WireError> {
    if value == T::default() { Err(WireError::InvalidProperty(property)) } else { Ok(value) }
}

/// Decodes the properties of a CONNECT.
pub(super) fn connect(section: Body) -> Result<ConnectProperties, WireError> {
    let mut found = ConnectProperties::default();
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::SESSION_EXPIRY => found.session_expiry_s = Some(walk.section.u32()?),
            id::RECEIVE_MAXIMUM => found.receive_maximum = Some(not_zero(property, walk.section.u16()?)?),
            id::MAXIMUM_PACKET_SIZE => found.maximum_packet_size = Some(not_zero(property, walk.section.u32()?)?),
            id::TOPIC_ALIAS_MAXIMUM => found.topic_alias_maximum = Some(walk.section.u16()?),
            id::REQUEST_RESPONSE_INFORMATION => found.request_response_information = walk.bit(property)? == 1,
            id::REQUEST_PROBLEM_INFORMATION => found.request_problem_information = walk.bit(property)? == 1,
            id::USER_PROPERTY => found.user_properties.push(walk.pair()?),
            id::AUTHENTICATION_METHOD => found.authentication_method = Some(walk.section.string()?),
            id::AUTHENTICATION_DATA => found.authentication_data = Some(walk.section.binary()?.into()),
            _ => return Err(not_allowed(property)),
        }
    }
    if found.authentication_data.is_some() && found.authentication_method.is_none() {
        return Err(WireError::AuthenticationDataWithoutMethod);
    }
    Ok(found)
}

/// Decodes the properties of a will: its delay in seconds and those of its message.
pub(super) fn will(section: Body) -> Result<(u32, Option<Box<PublishProperties>>), WireError> {
    let (mut delay_s, mut properties) = (0, None);
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::WILL_DELAY => delay_s = walk.section.u32()?,
            _ => walk.message(property, &mut properties)?,
        }
    }
    Ok((delay_s, properties))
}

/// Decodes the properties of a PUBLISH: its topic alias and those of its message.
#[inline]
pub(super) fn publish(section: Body) -> Result<(Option<u16>, Option<Box<PublishProperties>>), WireError> {
    let (mut topic_alias, mut properties) = (None, None);
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::TOPIC_ALIAS => match walk.section.u16()? {
                0 => return Err(WireError::TopicAliasZero),
                alias => topic_alias = Some(alias),
            },
            id::SUBSCRIPTION_IDENTIFIER => return Err(WireError::SubscriptionIdentifierInPublish),
            _ => walk.message(property, &mut properties)?,
        }
    }
    Ok((topic_alias, properties))
}

/// Checks the properties of an acknowledgement, none of which the server has use for.
pub(super) fn ack(section: Body) -> Result<(), WireError> {
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        walk.ignore(property)?;
    }
    Ok(())
}

/// Decodes the properties of a SUBSCRIBE: its subscription identifier.
pub(super) fn subscribe(section: Body) -> Result<Option<u32>, WireError> {
    let mut identifier = None;
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::SUBSCRIPTION_IDENTIFIER => identifier = Some(not_zero(property, walk.section.varint()?)?),
            id::USER_PROPERTY => walk.ignore(property)?,
            _ => return Err(not_allowed(property)),
        }
    }
    Ok(identifier)
}

/// Checks the properties of an UNSUBSCRIBE, of which there is only the user property.
pub(super) fn unsubscribe(section: Body) -> Result<(), WireError> {
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::USER_PROPERTY => walk.ignore(property)?,
            _ => return Err(not_allowed(property)),
        }
    }
    Ok(())
}

/// Decodes the properties of a DISCONNECT: its session expiry in seconds.
pub(super) fn disconnect(section: Body) -> Result<Option<u32>, WireError> {
    let mut session_expiry_s = None;
    let mut walk = Walk::new(section);
    while let Some(property) = walk.next()? {
        match property {
            id::SESSION_EXPIRY => session_expiry_s = Some(walk.section.u32()?),
            _ => walk.ignore(property)?,
        }
    }
    Ok(session_expiry_s)
}

/// Computes how many bytes [`put_message`] writes.
pub(super) fn message_len(properties: &PublishProperties, message_expiry_s: Option<u32>) -> usize {
    let text = |text: &Option<ByteString>| text.as_ref().map_or(0, |text| 1 + field::text_len(text));
    let expires = message_expiry_s.or(properties.message_expiry_s).is_some();
    let pair = |(name, value): &(ByteString, ByteString)| 1 + field::text_len(name) + field::text_len(value);
    usize::from(properties.payload_format.is_some()) * 2
        + usize::from(expires) * 5
        + text(&properties.content_type)
        + text(&properties.response_topic)
        + properties.correlation_data.as_ref().map_or(0, |data| 1 + field::binary_len(data))
        + properties.user_properties.iter().map(pair).sum::<usize>()
}

/// Writes the properties of a message, with the expiry given in place of their own.
pub(super) fn put_message(out: &mut BytesMut, properties: &PublishProperties, message_expiry_s: Option<u32>) {
    if let Some(format) = properties.payload_format {
        put_u8(out, id::PAYLOAD_FORMAT, format);
    }
    if let Some(expiry_s) = message_expiry_s.or(properties.message_expiry_s) {
        put_u32(out, id::MESSAGE_EXPIRY, expiry_s);
    }
    if let Some(text) = &properties.content_type {
        put_text(out, id::CONTENT_TYPE, text);
    }
    if let Some(topic) = &properties.response_topic {
        put_text(out, id::RESPONSE_TOPIC, topic);
    }
    if let Some(data) = &properties.correlation_data {
        out.put_u8(id::CORRELATION_DATA);
        field::put_binary(out, data);
    }
    for (name, value) in &properties.user_properties {
        put_text(out, id::USER_PROPERTY, name);
        field::put_text(out, value);
    }
}

/// Writes a property of one byte.
pub(super) fn put_u8(out: &mut BytesMut, property: u8, value: u8) {
    out.put_slice(&[property, value]);
}

/// Writes a property of a two-byte integer.
pub(super) fn put_u16(out: &mut BytesMut, property: u8, value: u16) {
    out.put_u8(property);
    out.put_u16(value);
}

/// Writes a property of a four-byte integer.
pub(super) fn put_u32(out: &mut BytesMut, property: u8, value: u32) {
    out.put_u8(property);
    out.put_u32(value);
}

/// Writes a property of a string.
pub(super) fn put_text(out: &mut BytesMut, property: u8, text: &str) {
    out.put_u8(property);
    field::put_text(out, text);
}
