//! Reads the few fields of a certificate that the hub itself speaks of: its time of validity and its subject's name.
//!
//! Owns a walk through the DER of an X.509 certificate (RFC 5280, 4.1) up to those fields. It never verifies anything:
//! rustls does, before a peer's certificate comes here.

use jiff::civil::DateTime;
use jiff::tz::Offset;

const INTEGER: u8 = 0x02;
const OBJECT_ID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0C;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// The optional version, tagged `[0]`.
const VERSION: u8 = 0xA0;
/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// What a certificate says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Unix seconds from which it is valid.
    pub not_before_s: i64,
    /// Unix seconds up to which it is valid.
    pub not_after_s: i64,
    /// The first common name of its subject.
    pub common_name: Option<String>,
}

/// Reads a certificate; `None` where it is none.
pub fn read(der: &[u8]) -> Option<Facts> {
    let mut certificate = Der(Der(der).take(SEQUENCE)?);
    let mut body = Der(certificate.take(SEQUENCE)?);
    if body.next_is(VERSION) {
        body.take(VERSION)?;
    }
    body.take(INTEGER)?; // serial number
    body.take(SEQUENCE)?; // signature algorithm
    body.take(SEQUENCE)?; // issuer
    let mut validity = Der(body.take(SEQUENCE)?);
    let (not_before_s, not_after_s) = (time(&mut validity)?, time(&mut validity)?);
    let common_name = common_name(Der(body.take(SEQUENCE)?));
    Some(Facts { not_before_s, not_after_s, common_name })
}

/// What is left of a sequence of elements.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    fn next_is(&self, tag: u8) -> bool {
        self.0.first() == Some(&tag)
    }

    /// Takes the next element where it has this tag, and returns its content.
    fn take(&mut self, tag: u8) -> Option<&'d [u8]> {
        let (found, content) = self.element()?;
        (found == tag).then_some(content)
    }

    fn element(&mut self) -> Option<(u8, &'d [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, mut rest) = rest.split_first()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (digits, after) = rest.split_at_checked(usize::from(first & 0x7F))?;
            if !(1..=4).contains(&digits.len()) {
                return None;
            }
            length = digits.iter().fold(0, |length, &digit| length << 8 | usize::from(digit));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// Takes a `Time`, Unix seconds.
fn time(der: &mut Der) -> Option<i64> {
    let (tag, content) = der.element()?;
    let text = std::str::from_utf8(content).ok()?.strip_suffix('Z')?;
    let text = match tag {
        // Two digits of the year stand for 1950 to 2049.
        UTC_TIME if text.get(..2)?.parse::<u8>().ok()? >= 50 => format!("19{text}"),
        UTC_TIME => format!("20{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    if text.len() != 14 || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize| text.get(from..from + 2)?.parse::<i8>().ok();
    let year = text.get(..4)?.parse::<i16>().ok()?;
    let civil = DateTime::new(year, part(4)?, part(6)?, part(8)?, part(10)?, part(12)?, 0).ok()?;
    Some(Offset::UTC.to_timestamp(civil).ok()?.as_second())
}

/// Finds the first common name; one that is empty or holds a control character is none.
fn common_name(mut names: Der) -> Option<String> {
    while let Some(set) = names.take(SET) {
        let mut set = Der(set);
        while let Some(attribute) = set.take(SEQUENCE) {
            let mut attribute = Der(attribute);
            if attribute.take(OBJECT_ID)? != COMMON_NAME {
                continue;
            }
            let (tag, content) = attribute.element()?;
            let is_text = matches!(tag, UTF8_STRING | PRINTABLE_STRING | IA5_STRING);
            let name = std::str::from_utf8(content).ok().filter(|_| is_text)?;
            return (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["hub.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(2050, 1, 2);
        params.distinguished_name.push(DnType::OrganizationName, "Back Acres");
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_validity_is_read_in_both_forms_of_time() {
        let facts = read(&certificate(|_| {})).unwrap();
        assert_eq!((facts.not_before_s, facts.not_after_s), (946_598_400, 2_524_694_400));
    }

    #[test]
    fn the_common_name_is_read_in_each_sort_of_text_and_refused_with_a_control_character() {
        let name_of = |value: DnValue| {
            read(&certificate(|params| params.distinguished_name.push(DnType::CommonName, value))).unwrap().common_name
        };
        assert_eq!(name_of(DnValue::Utf8String("Wetter–Süd".to_owned())).as_deref(), Some("Wetter–Süd"));
        assert_eq!(name_of(DnValue::PrintableString("sensor-1".try_into().unwrap())).as_deref(), Some("sensor-1"));
        assert_eq!(name_of(DnValue::Utf8String("a\0b".to_owned())), None);
        assert_eq!(name_of(DnValue::Utf8String(String::new())), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), at in 0usize..600) {
            prop_assert!(read(&bytes).is_none());
            let mut whole = certificate(|_| {});
            let at = at % whole.len();
            whole.truncate(at + bytes.len());
            whole.splice(at.., bytes.drain(..));
            read(&whole);
        }
    }
}
