//! Numbers and times as weather networks write them. Pure.

use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::weather::units::{Dimension, Units};

/// Returns a number with so many digits after the point at most, without zeros at its end.
pub(super) fn number(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Returns a value of the hub's in the units of the United States: °F, mph, inches, inches of mercury.
pub(super) fn imperial(dimension: Dimension, value: f64) -> f64 {
    Units::Imperial.of(dimension).convert(value)
}

/// Returns a time in UTC by a format of `strftime`.
pub(super) fn time(at_s: i64, format: &str) -> String {
    Timestamp::from_second(at_s).unwrap_or_default().strftime(format).to_string()
}

/// Returns a direction as a whole number, 1 to 360: north is 360, as observers write it.
pub(super) fn direction(degrees: f64) -> String {
    match degrees.rem_euclid(360.0).round() {
        0.0 => "360".to_owned(),
        degrees => format!("{degrees:.0}"),
    }
}

/// Returns a form's fields as a query, a space as `+`.
pub(super) fn query(fields: &[(&str, String)]) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string().replace("%20", "+");
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

/// All but what RFC 3986 (section 2.3) lets stand as it is.
const UNRESERVED: &percent_encoding::AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        assert_eq!([number(12.0, 1), number(29.10, 2), number(-0.04, 1)], ["12", "29.1", "0"]);
        assert_eq!([number(100.0, 0), number(0.125, 2)], ["100", "0.12"]);
        assert_eq!([direction(0.2), direction(359.6), direction(22.5)], ["360", "360", "23"]);
    }

    #[test]
    fn what_has_a_meaning_in_a_query_is_written_otherwise() {
        assert_eq!(query(&[("a", "1 &=+é".to_owned()), ("b", "x-y".to_owned())]), "a=1+%26%3D%2B%C3%A9&b=x-y");
    }
}
