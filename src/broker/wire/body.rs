//! Owns the reading of the fixed header and of the basic field types. Every read is checked against what is left, so
//! nothing here can panic. Never knows which packet it is reading.

use bytes::{Buf, Bytes, BytesMut};
use bytestring::ByteString;

use super::error::WireError;

/// Holds what a packet's fixed header says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    /// The size of the fixed header in bytes.
    pub(super) header_bytes: usize,
    /// The size of the whole packet in bytes.
    pub(super) packet_bytes: usize,
}

impl Header {
    /// Reads a fixed header; `None` as long as it is incomplete.
    #[inline]
    pub(super) fn read(buf: &[u8], packet_bytes_max: usize) -> Result<Option<Self>, WireError> {
        let Some((_, rest)) = buf.split_first() else {
            return Ok(None);
        };
        let Some((remaining, length_bytes)) = varint(rest)? else {
            return Ok(None);
        };
        let header_bytes = 1 + length_bytes;
        let packet_bytes = header_bytes + remaining as usize;
        if packet_bytes > packet_bytes_max {
            return Err(WireError::PacketTooLarge { bytes: packet_bytes, max: packet_bytes_max });
        }
        Ok(Some(Self { header_bytes, packet_bytes }))
    }
}

/// Reads a variable byte integer and its size in bytes; `None` as long as it is incomplete.
#[inline]
fn varint(buf: &[u8]) -> Result<Option<(u32, usize)>, WireError> {
    let mut value = 0;
    for (index, &byte) in buf.iter().take(4).enumerate() {
        value |= u32::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((value, index + 1)));
        }
    }
    if buf.len() < 4 { Ok(None) } else { Err(WireError::MalformedLength) }
}

/// Holds what is still unread of a packet or of one of its property sections.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl Body {
    /// Takes a packet out of the buffer and steps over its header; refused while the packet is incomplete.
    #[inline]
    pub(super) fn take(buf: &mut BytesMut, header: Header) -> Result<Self, WireError> {
        if buf.len() < header.packet_bytes {
            return Err(WireError::Truncated);
        }
        let mut body = Self(buf.split_to(header.packet_bytes).freeze());
        body.skip(header.header_bytes)?;
        Ok(body)
    }

    /// Steps over bytes that were read already.
    #[inline]
    pub(super) fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        if self.0.len() < bytes {
            return Err(WireError::Truncated);
        }
        self.0.advance(bytes);
        Ok(())
    }

    /// Tells whether everything has been read.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses left-over bytes.
    #[inline]
    pub(super) fn finish(self) -> Result<(), WireError> {
        if self.0.is_empty() { Ok(()) } else { Err(WireError::TrailingBytes) }
    }

    /// Hands over everything that is left.
    #[inline]
    pub(super) fn rest(self) -> Bytes {
        self.0
    }

    /// Reads one byte.
    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, WireError> {
        self.0.try_get_u8().map_err(|_| WireError::Truncated)
    }

    /// Reads a two-byte integer.
    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, WireError> {
        self.0.try_get_u16().map_err(|_| WireError::Truncated)
    }

    /// Reads a four-byte integer.
    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, WireError> {
        self.0.try_get_u32().map_err(|_| WireError::Truncated)
    }

    /// Reads a variable byte integer.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u32, WireError> {
        let (value, bytes) = varint(&self.0)?.ok_or(WireError::Truncated)?;
        self.0.advance(bytes);
        Ok(value)
    }

    /// Reads a packet identifier, which is never 0.
    #[inline]
    pub(super) fn packet_id(&mut self) -> Result<u16, WireError> {
        match self.u16()? {
            0 => Err(WireError::PacketIdZero),
            id => Ok(id),
        }
    }

    /// Reads binary data: two bytes of length, then the bytes.
    #[inline]
    pub(super) fn binary(&mut self) -> Result<Bytes, WireError> {
        let length = usize::from(self.u16()?);
        if self.0.len() < length {
            return Err(WireError::Truncated);
        }
        Ok(self.0.split_to(length))
    }

    /// Reads a string, which is UTF-8 without U+0000.
    pub(super) fn string(&mut self) -> Result<ByteString, WireError> {
        let text = utf8(self.binary()?)?;
        if text.as_bytes().contains(&0) {
            return Err(WireError::NulInString);
        }
        Ok(text)
    }

    /// Reads a topic name, possibly empty, and refuses wildcards and U+0000.
    #[inline]
    pub(super) fn topic(&mut self) -> Result<ByteString, WireError> {
        let topic = utf8(self.binary()?)?;
        // Without an early end the loop runs on vector instructions.
        let bad = topic.as_bytes().iter().fold(false, |bad, &b| bad | (b == b'+') | (b == b'#') | (b == 0));
        if bad { Err(WireError::TopicNameInvalid) } else { Ok(topic) }
    }

    /// Reads a topic name that must not be empty.
    pub(super) fn full_topic(&mut self) -> Result<ByteString, WireError> {
        let topic = self.topic()?;
        if topic.is_empty() { Err(WireError::TopicNameInvalid) } else { Ok(topic) }
    }

    /// Reads a topic filter, which must not be empty.
    pub(super) fn filter(&mut self) -> Result<ByteString, WireError> {
        let filter = self.string()?;
        if filter.is_empty() { Err(WireError::EmptyFilter) } else { Ok(filter) }
    }

    /// Cuts off a property section: a variable byte integer of length, then the properties.
    #[inline]
    pub(super) fn section(&mut self) -> Result<Self, WireError> {
        let length = self.varint()? as usize;
        if self.0.len() < length {
            return Err(WireError::Truncated);
        }
        Ok(Self(self.0.split_to(length)))
    }
}

/// Checks that bytes are UTF-8.
#[inline]
fn utf8(bytes: Bytes) -> Result<ByteString, WireError> {
    ByteString::try_from(bytes).map_err(|_| WireError::NotUtf8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn body(bytes: &[u8]) -> Body {
        Body(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn variable_byte_integers_are_read_up_to_four_bytes() {
        for (bytes, value) in [
            (&[0x00][..], 0),
            (&[0x7F], 127),
            (&[0x80, 0x01], 128),
            (&[0xFF, 0x7F], 16_383),
            (&[0x80, 0x80, 0x01], 16_384),
            (&[0xFF, 0xFF, 0xFF, 0x7F], 268_435_455),
            (&[0x80, 0x00], 0),
        ] {
            assert_eq!(body(bytes).varint().unwrap(), value);
        }
        assert_eq!(body(&[0x80, 0x80, 0x80, 0x80, 0x01]).varint(), Err(WireError::MalformedLength));
        assert_eq!(body(&[0x80, 0x80]).varint(), Err(WireError::Truncated));
    }

    #[test]
    fn fields_never_run_past_the_end() {
        assert_eq!(body(&[]).u8(), Err(WireError::Truncated));
        assert_eq!(body(&[1]).u16(), Err(WireError::Truncated));
        assert_eq!(body(&[1, 2, 3]).u32(), Err(WireError::Truncated));
        assert_eq!(body(&[0, 3, b'a', b'b']).binary(), Err(WireError::Truncated));
        assert_eq!(body(&[3, 1, 2]).section().map(Body::rest), Err(WireError::Truncated));
        assert_eq!(body(&[1, 2]).skip(3), Err(WireError::Truncated));
    }

    #[test]
    fn strings_are_utf8_without_nul() {
        assert_eq!(body(&[0, 2, 0xC3, 0xA9]).string().unwrap(), "é");
        assert_eq!(body(&[0, 0]).string().unwrap(), "");
        // An overlong slash, a lone surrogate, and half a character.
        assert_eq!(body(&[0, 2, 0xC0, 0xAF]).string(), Err(WireError::NotUtf8));
        assert_eq!(body(&[0, 3, 0xED, 0xA0, 0x80]).string(), Err(WireError::NotUtf8));
        assert_eq!(body(&[0, 1, 0xC3]).string(), Err(WireError::NotUtf8));
        assert_eq!(body(&[0, 3, b'a', 0, b'b']).string(), Err(WireError::NulInString));
        // A byte order mark stays part of the string.
        assert_eq!(body(&[0, 3, 0xEF, 0xBB, 0xBF]).string().unwrap(), "\u{FEFF}");
    }
}
