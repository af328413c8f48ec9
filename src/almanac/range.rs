//! Times that are asked for: the quick ranges, and a range of one's own in local time.
//!
//! Owns their names and what they mean at a time. Pure.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// The shortest range, seconds.
const SPAN_S_MIN: i64 = 1;
/// The longest range: a hundred years.
const SPAN_S_MAX: i64 = 100 * 366 * 86_400;

/// A range that is offered by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quick {
    /// The last half hour.
    HalfHour,
    /// The last hour.
    Hour,
    /// The last 6 hours.
    SixHours,
    /// The last 24 hours.
    Day,
    /// The last 7 days.
    Week,
    /// The last 30 days.
    Month,
    /// The last 365 days.
    Year,
    /// All that there is.
    All,
}

impl Quick {
    /// Every quick range, the shortest first.
    pub const ALL: [Quick; 8] =
        [Quick::HalfHour, Quick::Hour, Quick::SixHours, Quick::Day, Quick::Week, Quick::Month, Quick::Year, Quick::All];

    /// Returns its name in queries and on the command line.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// Returns its name for people.
    pub fn label(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str, Option<i64>) {
        match self {
            Quick::HalfHour => ("30m", "30 min", Some(1_800)),
            Quick::Hour => ("1h", "1 h", Some(3_600)),
            Quick::SixHours => ("6h", "6 h", Some(6 * 3_600)),
            Quick::Day => ("24h", "24 h", Some(86_400)),
            Quick::Week => ("7d", "7 d", Some(7 * 86_400)),
            Quick::Month => ("30d", "30 d", Some(30 * 86_400)),
            Quick::Year => ("1y", "1 y", Some(365 * 86_400)),
            Quick::All => ("all", "All", None),
        }
    }

    /// Returns the quick range of a name.
    pub fn named(name: &str) -> Option<Quick> {
        Quick::ALL.into_iter().find(|quick| quick.name() == name)
    }

    /// Returns its length, seconds; `None` for all that there is.
    pub fn span_s(self) -> Option<i64> {
        self.words().2
    }
}

/// A time, from its first second to before its last, Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// From when.
    pub from_s: i64,
    /// Until when.
    pub to_s: i64,
}

impl Range {
    /// Returns a quick range as of now; `reach` is from when to when there are readings.
    pub fn quick(quick: Quick, now_s: i64, reach: Option<(i64, i64)>) -> Range {
        match (quick.span_s(), reach) {
            (Some(span_s), _) => Range { from_s: now_s - span_s, to_s: now_s + 1 },
            (None, Some((first_s, _))) => Range { from_s: first_s.min(now_s - 1), to_s: now_s + 1 },
            (None, None) => Range { from_s: now_s - 86_400, to_s: now_s + 1 },
        }
    }

    /// Returns the range between two times.
    ///
    /// # Errors
    /// Words for whoever asked.
    pub fn between(from_s: i64, to_s: i64) -> Result<Range, String> {
        match to_s.checked_sub(from_s) {
            Some(SPAN_S_MIN..=SPAN_S_MAX) => Ok(Range { from_s, to_s }),
            Some(span_s) if span_s < SPAN_S_MIN => Err("`from` must be before `to`".to_owned()),
            _ => Err("a range must not be longer than 100 years".to_owned()),
        }
    }

    /// Returns its length, seconds.
    pub fn span_s(self) -> i64 {
        self.to_s - self.from_s
    }
}

/// Reads a time: one with a zone or an offset as it says, `2026-03-01T12:00` and `2026-03-01` in the station's own zone, a whole
/// number as Unix seconds.
///
/// # Errors
/// Words for whoever asked.
pub fn moment(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let wrong = || {
        "must be a time such as 2026-03-01, 2026-03-01T12:00 (both local), 2026-03-01T12:00:00Z or Unix seconds"
            .to_owned()
    };
    if let Ok(seconds) = text.parse::<i64>() {
        return Timestamp::from_second(seconds).map(Timestamp::as_second).map_err(|_| wrong());
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Ok(timestamp.as_second());
    }
    if text.contains(['[', 'Z', 'z']) {
        return Err(wrong());
    }
    let time = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    let zoned = time.and_then(|time| time.to_zoned(zone.clone()));
    zoned.map(|zoned| zoned.timestamp().as_second()).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_is_local_unless_it_says_otherwise() {
        let zone = TimeZone::get("Europe/Berlin").unwrap();
        for (text, seconds) in [
            ("1970-01-01T01:00", 0),
            ("1970-01-02", 82_800),
            ("1970-01-01T01:00:00Z", 3_600),
            ("1970-01-01T01:00+02:00", -3_600),
            ("-5", -5),
        ] {
            assert_eq!(moment(text, &zone), Ok(seconds), "{text}");
        }
        for text in ["", "yesterday", "2026-13-01", "9223372036854775807", "1e9", "2026-03-01T25:00"] {
            assert!(moment(text, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_has_a_length_within_bounds() {
        assert!(Range::between(5, 5).is_err() && Range::between(6, 5).is_err());
        assert!(Range::between(i64::MIN, i64::MAX).is_err());
        assert_eq!(Range::between(0, 1).unwrap().span_s(), 1);
        assert_eq!(Range::quick(Quick::All, 1_000, Some((10, 900))), Range { from_s: 10, to_s: 1_001 });
        assert!(Quick::ALL.into_iter().all(|quick| Quick::named(quick.name()) == Some(quick)));
    }
}
