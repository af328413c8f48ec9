//! Owns the writing of the basic field types. What is too long for its field is cut, never written with a length that
//! lies. Never knows which packet it is writing.

use bytes::{BufMut, BytesMut};

/// The most that a variable byte integer holds.
pub(super) const VARINT_MAX: usize = 268_435_455;

/// The most bytes that a string or binary field holds.
const FIELD_BYTES_MAX: usize = u16::MAX as usize;

/// Computes the size of a variable byte integer in bytes.
#[inline]
pub(super) fn varint_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Writes a variable byte integer of at most [`VARINT_MAX`].
#[inline]
pub(super) fn put_varint(out: &mut BytesMut, value: usize) {
    let mut rest = value.min(VARINT_MAX);
    loop {
        let low = (rest & 0x7F) as u8;
        rest >>= 7;
        if rest == 0 {
            out.put_u8(low);
            return;
        }
        out.put_u8(low | 0x80);
    }
}

/// Computes the size of a string field in bytes.
#[inline]
pub(super) fn text_len(text: &str) -> usize {
    2 + clip_text(text).len()
}

/// Writes a string field.
#[inline]
pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    put_binary(out, clip_text(text).as_bytes());
}

/// Computes the size of a binary field in bytes.
#[inline]
pub(super) fn binary_len(bytes: &[u8]) -> usize {
    2 + clip(bytes).len()
}

/// Writes a binary field.
#[inline]
pub(super) fn put_binary(out: &mut BytesMut, bytes: &[u8]) {
    let bytes = clip(bytes);
    out.put_u16(bytes.len() as u16);
    out.put_slice(bytes);
}

/// Cuts bytes to what a field holds.
#[inline]
fn clip(bytes: &[u8]) -> &[u8] {
    bytes.get(..FIELD_BYTES_MAX).unwrap_or(bytes)
}

/// Cuts a string to what a field holds, between two characters.
#[inline]
fn clip_text(text: &str) -> &str {
    if text.len() <= FIELD_BYTES_MAX {
        return text;
    }
    // A character has at most four bytes, so one of these four places lies between two.
    (FIELD_BYTES_MAX - 3..=FIELD_BYTES_MAX).rev().find_map(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn variable_byte_integers_take_the_fewest_bytes() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7F]),
            (128, &[0x80, 0x01]),
            (16_383, &[0xFF, 0x7F]),
            (16_384, &[0x80, 0x80, 0x01]),
            (2_097_151, &[0xFF, 0xFF, 0x7F]),
            (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
            (VARINT_MAX, &[0xFF, 0xFF, 0xFF, 0x7F]),
        ] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            assert_eq!(varint_len(value), bytes.len(), "{value}");
        }
    }

    #[test]
    fn a_string_too_long_for_its_field_is_cut_between_two_characters() {
        let text = "é".repeat(40_000);
        let mut out = BytesMut::new();
        put_text(&mut out, &text);
        assert_eq!(out.len(), 2 + 65_534);
        assert_eq!(text_len(&text), out.len());
        assert!(std::str::from_utf8(out.get(2..).unwrap()).is_ok());
    }

    #[test]
    fn bytes_too_long_for_their_field_are_cut() {
        let mut out = BytesMut::new();
        put_binary(&mut out, &[7; 70_000]);
        assert_eq!(out.len(), 2 + 65_535);
        assert_eq!(binary_len(&[7; 70_000]), out.len());
    }
}
