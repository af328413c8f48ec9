//! Records: the bytes of one row, as SQLite's file format has them, to values.
//!
//! Owns varints and serial types. Pure, and made for bytes that nobody vouches for: whatever they are, the answer is values
//! or nothing.

use rusqlite::types::Value;

/// Columns that a record may have; a damaged header may claim any number.
const COLUMNS_MAX: usize = 256;

/// Reads a variable-length integer; returns it with its length.
pub(super) fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(9).enumerate() {
        if index == 8 {
            return Some((value << 8 | u64::from(byte), 9));
        }
        value = value << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

/// Columns at a record's end that may be unreadable.
const MISSING_MAX: usize = 3;

/// Where a record's body begins, and the serial types of its columns.
#[derive(Debug)]
pub(super) struct Header {
    body: usize,
    types: Vec<u64>,
}

impl Header {
    /// Reads a record's header, of which the whole must be in `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Option<Header> {
        let (size, mut at) = varint(bytes)?;
        let body = usize::try_from(size).ok().filter(|&size| size >= at && size <= bytes.len())?;
        let mut types = Vec::new();
        while at < body {
            // A type that the header's end cuts off is damaged, and those before it may be whole: no bytes are as many as it says.
            let (serial, taken) = varint(bytes.get(at..body)?).unwrap_or((u64::MAX, body - at));
            at += taken;
            types.push(serial);
            if types.len() > COLUMNS_MAX {
                return None;
            }
        }
        Some(Header { body, types })
    }

    /// Reads the values; a text that is not UTF-8 becomes a blob. Where the bytes end before the columns do, one of their types is
    /// damaged: as long as it is one of the last, these are NULL.
    pub(super) fn values(&self, bytes: &[u8]) -> Option<Vec<Value>> {
        let mut at = self.body;
        let mut values = Vec::with_capacity(self.types.len());
        for &serial in &self.types {
            let end = length(serial).and_then(|length| at.checked_add(length));
            let Some((end, here)) = end.and_then(|end| Some((end, bytes.get(at..end)?))) else { break };
            values.push(value(serial, here));
            at = end;
        }
        let missing = self.types.len() - values.len();
        values.resize(self.types.len(), Value::Null);
        (missing <= MISSING_MAX).then_some(values)
    }
}

/// Returns the bytes that a value of a serial type takes; `None` where no memory holds them.
fn length(serial: u64) -> Option<usize> {
    match serial {
        // 10 and 11 stand in no file; where one byte is damaged, the others may still be right.
        0 | 8..=11 => Some(0),
        1..=4 => usize::try_from(serial).ok(),
        5 => Some(6),
        6 | 7 => Some(8),
        _ => usize::try_from((serial - 12) / 2).ok(),
    }
}

fn value(serial: u64, bytes: &[u8]) -> Value {
    let whole = || {
        let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
        bytes.iter().fold(if negative { -1i64 } else { 0 }, |value, &byte| value << 8 | i64::from(byte))
    };
    match serial {
        0 | 10 | 11 => Value::Null,
        8 => Value::Integer(0),
        9 => Value::Integer(1),
        1..=6 => Value::Integer(whole()),
        7 => {
            let real = f64::from_bits(whole().cast_unsigned());
            // The database itself keeps no such number.
            if real.is_nan() { Value::Null } else { Value::Real(real) }
        }
        _ if serial.is_multiple_of(2) => Value::Blob(bytes.to_vec()),
        _ => String::from_utf8(bytes.to_vec()).map_or_else(|error| Value::Blob(error.into_bytes()), Value::Text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_of_every_kind_are_read() {
        let bytes = [9, 0, 1, 2, 7, 9, 8, 17, 16, 0xff, 0x01, 0x00, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0, b'h', b'i', 1, 2];
        let header = Header::read(&bytes).unwrap();
        let expected = [
            Value::Null,
            Value::Integer(-1),
            Value::Integer(256),
            Value::Real(1.5),
            Value::Integer(1),
            Value::Integer(0),
            Value::Text("hi".to_owned()),
            Value::Blob(vec![1, 2]),
        ];
        assert_eq!(header.values(&bytes).unwrap(), expected);
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0x81]), None);
    }

    #[test]
    fn a_type_that_the_headers_end_cuts_off_costs_its_own_column_alone() {
        let bytes = [4, 1, 1, 0xc1, 5, 6];
        let expected = [Value::Integer(5), Value::Integer(6), Value::Null];
        assert_eq!(Header::read(&bytes).unwrap().values(&bytes).unwrap(), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(header) = Header::read(&bytes) {
                header.values(&bytes);
            }
        }
    }
}
