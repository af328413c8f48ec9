//! Bytes to readings.
//!
//! Owns the payloads' shapes and every reason for which a payload is no reading. Pure: the receive time is an
//! argument, nothing is logged, and nothing that a sensor sent is changed.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, Visitor};
use serde_json::error::Category;

use crate::reading::{Kind, Magnetic, Marks, Number, Reading, Sample, Weather};

/// Why a payload is no reading.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reject {
    /// More bytes than a reading may have.
    #[error("{bytes} bytes, the limit is {max}")]
    TooLarge {
        /// The payload's size.
        bytes: usize,
        /// `ingest.payload_bytes_max`.
        max: usize,
    },
    /// Not JSON at all, or cut short.
    #[error("{0}")]
    NotJson(String),
    /// JSON, but not an object.
    #[error("the payload is not a JSON object")]
    NotAnObject,
    /// A field of the wrong type or value.
    #[error("{0}")]
    WrongType(String),
    /// A required field is missing.
    #[error("field `{0}` is required")]
    Missing(&'static str),
}

impl Reject {
    /// Returns the reason in a word or two, as the quarantine's column `reason` has it.
    pub fn reason(&self) -> &'static str {
        match self {
            Reject::TooLarge { .. } => "too large",
            Reject::NotJson(_) => "not JSON",
            Reject::NotAnObject => "not an object",
            Reject::WrongType(_) => "wrong type",
            Reject::Missing(_) => "missing field",
        }
    }
}

/// The limits that decoding knows.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A reading's payload, bytes.
    pub payload_bytes_max: usize,
    /// From which distance on a sensor's time is marked, milliseconds.
    pub clock_skew_ms_max: u64,
}

/// Decodes a payload that was received at `received_ms`, Unix milliseconds.
///
/// # Errors
/// [`Reject`], with what is wrong and where.
pub fn decode(kind: Kind, payload: &[u8], received_ms: i64, limits: Limits) -> Result<Reading, Reject> {
    if payload.len() > limits.payload_bytes_max {
        return Err(Reject::TooLarge { bytes: payload.len(), max: limits.payload_bytes_max });
    }
    match kind {
        Kind::Weather => parse(payload).and_then(|fields| weather(fields, received_ms, limits)),
        Kind::Magnetic => parse(payload).and_then(magnetic),
    }
}

#[derive(Deserialize)]
struct WeatherFields {
    utc: Option<Field>,
    sampleinterval: Option<Field>,
    temperature: Option<Field>,
    humidity: Option<Field>,
    pressure: Option<Field>,
    irradiance: Option<Field>,
    winddirectionsensor: Option<Field>,
    raingaugecount: Option<Field>,
    anemometercount: Option<Field>,
}

#[derive(Deserialize)]
struct MagneticFields {
    x: Option<Field>,
    y: Option<Field>,
    z: Option<Field>,
}

fn parse<'p, F: Deserialize<'p>>(payload: &'p [u8]) -> Result<F, Reject> {
    let payload = std::str::from_utf8(payload).map_err(|error| Reject::NotJson(format!("not UTF-8: {error}")))?;
    let object = payload.trim_ascii_start().starts_with('{');
    let fields = serde_json::from_str(payload).map_err(|error| match error.classify() {
        Category::Data if object => Reject::WrongType(error.to_string()),
        Category::Data => Reject::NotAnObject,
        _ => Reject::NotJson(error.to_string()),
    })?;
    // An array would do as the fields in their order.
    if object { Ok(fields) } else { Err(Reject::NotAnObject) }
}

fn weather(fields: WeatherFields, received_ms: i64, limits: Limits) -> Result<Reading, Reject> {
    let number = |field: Option<Field>| field.map(|Field(number)| number);
    let (timestamp, marks) = match fields.utc {
        None => (received_ms.div_euclid(1000), Marks::TIME_MISSING),
        Some(Field(utc)) => {
            let seconds = whole_seconds(utc)?;
            let skew_ms = seconds.saturating_mul(1000).abs_diff(received_ms);
            let skewed = skew_ms > limits.clock_skew_ms_max;
            (seconds, if skewed { Marks::TIME_SKEWED } else { Marks::default() })
        }
    };
    let sample = Sample::Weather(Weather {
        timestamp,
        sample_interval: number(fields.sampleinterval),
        temperature: number(fields.temperature),
        humidity: number(fields.humidity),
        pressure: number(fields.pressure),
        irradiance: number(fields.irradiance),
        wind_direction: number(fields.winddirectionsensor),
        rain_gauge_count: number(fields.raingaugecount),
        anemometer_count: number(fields.anemometercount),
    });
    Ok(Reading { sample, marks })
}

/// Returns the whole seconds of a Unix time; the table holds no fractions.
fn whole_seconds(utc: Number) -> Result<i64, Reject> {
    match utc {
        Number::Int(seconds) => Ok(seconds),
        #[allow(clippy::cast_possible_truncation, reason = "the range is checked")]
        Number::Real(seconds) if seconds.abs() < 9.0e15 => Ok(seconds.floor() as i64),
        Number::Real(seconds) => Err(Reject::WrongType(format!("field `utc`: {seconds} is no Unix time"))),
    }
}

fn magnetic(fields: MagneticFields) -> Result<Reading, Reject> {
    let axis = |field: Option<Field>, name| field.map(|Field(number)| number).ok_or(Reject::Missing(name));
    let sample =
        Sample::Magnetic(Magnetic { x: axis(fields.x, "x")?, y: axis(fields.y, "y")?, z: axis(fields.z, "z")? });
    Ok(Reading { sample, marks: Marks::default() })
}

/// A number, or a string that is one.
struct Field(Number);

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_any(FieldVisitor)
    }
}

struct FieldVisitor;

impl Visitor<'_> for FieldVisitor {
    type Value = Field;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Field, E> {
        Ok(Field(Number::Int(value)))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Field, E> {
        i64::try_from(value)
            .map(|value| Field(Number::Int(value)))
            .map_err(|_| E::custom(format_args!("{value} is too large a number")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Field, E> {
        if value.is_finite() {
            Ok(Field(Number::Real(value)))
        } else {
            Err(E::custom(format_args!("{value} is not a number")))
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Field, E> {
        let trimmed = text.trim();
        if let Ok(value) = trimmed.parse::<i64>() {
            return self.visit_i64(value);
        }
        match trimmed.parse::<f64>() {
            Ok(value) if value.is_finite() => self.visit_f64(value),
            _ => Err(E::custom(format_args!("the string {:?} is not a number", shortened(text)))),
        }
    }
}

/// Returns the start of a text, short enough for a log line.
fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        Some((end, _)) => Cow::Owned(format!("{}…", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const NOW: i64 = 1_759_479_846_200;
    const LIMITS: Limits = Limits { payload_bytes_max: 65_536, clock_skew_ms_max: 86_400_000 };
    const STATION: &str = r#"{"utc":1759479845,"sampleinterval":5000,"temperature":5.22,"humidity":61.5,
        "pressure":1004.94,"irradiance":0.83,"winddirectionsensor":96,"raingaugecount":170,"anemometercount":1047952}"#;

    fn weather_of(payload: &str) -> Result<(Weather, Marks), Reject> {
        decode(Kind::Weather, payload.as_bytes(), NOW, LIMITS).map(|reading| match reading.sample {
            Sample::Weather(weather) => (weather, reading.marks),
            Sample::Magnetic(_) => panic!("not weather"),
        })
    }

    fn reason(kind: Kind, payload: &[u8]) -> &'static str {
        decode(kind, payload, NOW, LIMITS).unwrap_err().reason()
    }

    #[test]
    fn a_stations_payload_is_decoded_field_by_field() {
        let (weather, marks) = weather_of(STATION).unwrap();
        assert_eq!(
            weather,
            Weather {
                timestamp: 1_759_479_845,
                sample_interval: Some(Number::Int(5000)),
                temperature: Some(Number::Real(5.22)),
                humidity: Some(Number::Real(61.5)),
                pressure: Some(Number::Real(1004.94)),
                irradiance: Some(Number::Real(0.83)),
                wind_direction: Some(Number::Int(96)),
                rain_gauge_count: Some(Number::Int(170)),
                anemometer_count: Some(Number::Int(1_047_952)),
            }
        );
        assert_eq!(marks, Marks::default());
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_or_null_ones_are_none() {
        let (weather, _) =
            weather_of(r#"{"utc":1759479845,"temperature":"-3.5","humidity":null,"new":[1,{"a":2}]}"#).unwrap();
        assert_eq!(weather.temperature, Some(Number::Real(-3.5)));
        assert_eq!((weather.humidity, weather.pressure), (None, None));
    }

    #[test]
    fn a_missing_time_is_the_receive_time_and_marked() {
        let (weather, marks) = weather_of(r#"{"temperature":1}"#).unwrap();
        assert_eq!(weather.timestamp, NOW / 1000);
        assert!(marks.has(Marks::TIME_MISSING));
    }

    #[test]
    fn a_far_time_is_kept_as_sent_and_marked() {
        for utc in [0, -1, 253_402_300_799, i64::MAX, i64::MIN] {
            let (weather, marks) = weather_of(&format!(r#"{{"utc":{utc}}}"#)).unwrap();
            assert_eq!(weather.timestamp, utc);
            assert!(marks.has(Marks::TIME_SKEWED), "{utc}");
        }
    }

    #[test]
    fn a_time_with_a_fraction_keeps_its_whole_seconds() {
        assert_eq!(weather_of(r#"{"utc":1759479845.75}"#).unwrap().0.timestamp, 1_759_479_845);
        assert_eq!(reason(Kind::Weather, br#"{"utc":1e300}"#), "wrong type");
    }

    #[test]
    fn what_is_no_reading_says_why() {
        for (payload, expected) in [
            (&b""[..], "not JSON"),
            (b"hello", "not JSON"),
            (br#"{"utc":1759479845,"temper"#, "not JSON"),
            (br#"{"temperature":NaN}"#, "not JSON"),
            (br#"{"temperature":1} trailing"#, "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"{\"utc\":1,\"note\":\"\xff\"}", "not JSON"),
            (b"[1,2,3]", "not an object"),
            (b"[]", "not an object"),
            (b"5", "not an object"),
            (b"null", "not an object"),
            (br#"{"temperature":"warm"}"#, "wrong type"),
            (br#"{"temperature":"NaN"}"#, "wrong type"),
            (br#"{"temperature":"inf"}"#, "wrong type"),
            (br#"{"temperature":true}"#, "wrong type"),
            (br#"{"temperature":{"v":1}}"#, "wrong type"),
            (br#"{"anemometercount":18446744073709551615}"#, "wrong type"),
        ] {
            assert_eq!(reason(Kind::Weather, payload), expected, "{}", payload.escape_ascii());
        }
        assert_eq!(reason(Kind::Magnetic, br#"{"y":1,"z":2}"#), "missing field");
        assert_eq!(reason(Kind::Magnetic, br#"{"x":null,"y":1,"z":2}"#), "missing field");
        assert_eq!(reason(Kind::Weather, &vec![b' '; 65_537]), "too large");
    }

    #[test]
    fn a_numeric_string_is_taken() {
        let reading = decode(Kind::Magnetic, br#"{"x":"1115","y":-558,"z":"-305.5"}"#, NOW, LIMITS).unwrap();
        let flux = Magnetic { x: Number::Int(1115), y: Number::Int(-558), z: Number::Real(-305.5) };
        assert_eq!(reading.sample, Sample::Magnetic(flux));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_reading_or_a_reject(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in [Kind::Weather, Kind::Magnetic] {
                if let Err(reject) = decode(kind, &payload, NOW, LIMITS) {
                    prop_assert!(!reject.to_string().is_empty());
                }
            }
        }

        #[test]
        fn a_cut_payload_is_never_a_reading(length in 0..STATION.len() - 1) {
            prop_assert!(decode(Kind::Weather, &STATION.as_bytes()[..length], NOW, LIMITS).is_err());
        }
    }
}
