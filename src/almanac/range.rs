//! Times that are asked for: the quick ranges, and a range of one's own in local time.
//!
//! Owns their names and what they mean at a time. Pure.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;

/// The first second of 1970 wherever that begins earlier than in UTC.
const FIRST_S: i64 = -86_400;
/// The last second of the year 9999, in UTC and wherever it ends earlier.
const LAST_S: i64 = 253_402_214_400;

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

    /// Returns the range between two times, whichever comes first; a second at least.
    pub fn between(one_s: i64, other_s: i64) -> Range {
        let from_s = one_s.min(other_s);
        Range { from_s, to_s: one_s.max(other_s).max(from_s + 1) }
    }

    /// Returns its length, seconds.
    pub fn span_s(self) -> i64 {
        self.to_s - self.from_s
    }
}

/// A time that is asked for: a quick range up to now, or a range of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A quick range.
    Quick(Quick),
    /// A range of one's own.
    Range(Range),
}

impl Wanted {
    /// Makes it of what is said: between two times, or as long as a quick range from one, up to one, or up to now; 24 hours where
    /// nothing is.
    pub fn of(quick: Option<Quick>, from: Option<i64>, to: Option<i64>, now_s: i64) -> Wanted {
        let between = |one_s, other_s| Wanted::Range(Range::between(one_s, other_s));
        match (from, to, quick) {
            (None, None, quick) => Wanted::Quick(quick.unwrap_or(Quick::Day)),
            (Some(from_s), Some(to_s), _) => between(from_s, to_s),
            (Some(from_s), None, quick) => match quick.and_then(Quick::span_s) {
                Some(span_s) => between(from_s, from_s + span_s),
                None => between(from_s, now_s + 1),
            },
            (None, Some(to_s), quick) => match quick.unwrap_or(Quick::Day).span_s() {
                Some(span_s) => between(to_s - span_s, to_s),
                None => between(0, to_s),
            },
        }
    }
}

/// Reads a time from 1970 to 9999: one with a zone or an offset as it says, `2026-03-01T12:00` and `2026-03-01` in the station's
/// own zone, a whole number as Unix seconds.
///
/// # Errors
/// Words for whoever asked.
pub fn moment(text: &str, zone: &TimeZone) -> Result<i64, String> {
    let wrong =
        "must be a time such as 2026-03-01, 2026-03-01T12:00 (both local), 2026-03-01T12:00:00Z or Unix seconds";
    read(text, zone).filter(|seconds| (FIRST_S..=LAST_S).contains(seconds)).ok_or_else(|| wrong.to_owned())
}

fn read(text: &str, zone: &TimeZone) -> Option<i64> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok();
    }
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return Some(timestamp.as_second());
    }
    if text.contains(['[', 'Z', 'z']) {
        return None;
    }
    let time = text.parse::<DateTime>().or_else(|_| text.parse::<Date>().map(|date| date.at(0, 0, 0, 0)));
    let zoned = time.and_then(|time| time.to_zoned(zone.clone()));
    zoned.ok().map(|zoned| zoned.timestamp().as_second())
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
            ("1970-01-01T04:00+02:00", 7_200),
            ("1759479845", 1_759_479_845),
        ] {
            assert_eq!(moment(text, &zone), Ok(seconds), "{text}");
        }
        for text in
            ["", "yesterday", "2026-13-01", "9223372036854775807", "-5", "1e9", "2026-03-01T25:00", "0999-01-01"]
        {
            assert!(moment(text, &zone).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_of_ones_own_has_one_end_or_two() {
        let own = |from_s, to_s| Wanted::Range(Range { from_s, to_s });
        assert_eq!(Wanted::of(None, None, None, 9), Wanted::Quick(Quick::Day));
        assert_eq!(Wanted::of(Some(Quick::Hour), Some(5), Some(7), 9), own(5, 7));
        assert_eq!(Wanted::of(Some(Quick::Hour), Some(5), None, 9), own(5, 3_605));
        assert_eq!(Wanted::of(None, Some(5), None, 9), own(5, 10));
        assert_eq!(Wanted::of(Some(Quick::All), None, Some(7), 9), own(0, 7));
        assert_eq!(Wanted::of(None, None, Some(86_407), 9), own(7, 86_407));
    }

    #[test]
    fn a_range_has_a_length_whichever_end_comes_first() {
        assert_eq!((Range::between(5, 5).span_s(), Range::between(6, 5)), (1, Range { from_s: 5, to_s: 6 }));
        assert_eq!(Range::quick(Quick::All, 1_000, Some((10, 900))), Range { from_s: 10, to_s: 1_001 });
        assert!(Quick::ALL.into_iter().all(|quick| Quick::named(quick.name()) == Some(quick)));
    }
}
