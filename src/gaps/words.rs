//! Gaps in words, and the report that programs read.
//!
//! Owns the forms of times that a user may type.

use std::fmt::Write;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::Cause;
use crate::clock::in_words as time;
use crate::store::GapReport;

/// Gaps that are printed, of each source.
const PRINTED_MAX: usize = 1_000;

/// Reads a time: a date (its midnight), date and time, both in UTC, RFC 3339, or as long ago as `30m`, `6h` or `7d`.
///
/// # Errors
/// What it should be.
pub fn parse_time(text: &str, now_ms: i64) -> Result<i64, String> {
    let utc = |time: DateTime| time.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp());
    let ago = || {
        let (count, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
        let minutes = match unit {
            "m" => 1,
            "h" => 60,
            "d" => 24 * 60,
            _ => return None,
        };
        let minutes = count.parse::<u32>().ok()?.checked_mul(minutes)?;
        Timestamp::from_millisecond(now_ms).ok()?.checked_sub(SignedDuration::from_mins(minutes.into())).ok()
    };
    let parsed = ago()
        .or_else(|| text.parse::<Timestamp>().ok())
        .or_else(|| text.parse::<Zoned>().ok().map(|time| time.timestamp()))
        .or_else(|| text.parse::<DateTime>().ok().and_then(|time| utc(time).ok()))
        .or_else(|| text.parse::<Date>().ok().and_then(|date| utc(date.at(0, 0, 0, 0)).ok()));
    parsed.map(Timestamp::as_millisecond).ok_or_else(|| {
        "is no time: 2025-10-03, 2025-10-03T08:24:05, both in UTC, 2025-10-03T08:24:05[Europe/Berlin], or as long ago as 30m, 6h or 7d"
            .to_owned()
    })
}

/// Returns a cause in words.
pub fn cause_in_words(cause: Cause) -> &'static str {
    match cause {
        Cause::HubDown => "the hub was down",
        Cause::QueueOverflow => "lost, the queue was full",
        Cause::Rejected => "rejected, see the quarantine",
        Cause::SensorSilent => "the sensor was silent",
        Cause::Unknown => "unknown, before the hub's first run",
    }
}

/// Returns a report in lines for a person.
pub fn in_words(report: &GapReport) -> String {
    let mut text = format!("From {} to {}:\n", time(report.from_ms), time(report.to_ms));
    // Writing to a string cannot fail.
    for source in &report.sources {
        let name = source.source.escape_debug();
        writeln!(text, "{name}: stored {} of {} expected, {} gaps", source.stored, source.expected, source.gap_count)
            .unwrap_or_default();
        for gap in source.gaps.iter().take(PRINTED_MAX) {
            let scattered = if gap.scattered { ", here and there" } else { "" };
            let (from, to) = (time(gap.from_ms), time(gap.to_ms));
            writeln!(text, "  {from} - {to}  {} missing{scattered}: {}", gap.missing, cause_in_words(gap.cause))
                .unwrap_or_default();
        }
        if source.gap_count > source.gaps.len().min(PRINTED_MAX) {
            writeln!(text, "  and {} more", source.gap_count - source.gaps.len().min(PRINTED_MAX)).unwrap_or_default();
        }
    }
    if report.sources.is_empty() {
        text += "No source has readings.\n";
    }
    if !report.is_counted {
        text += "The readings that were here before are still being counted: ask again later for all of them.\n";
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_may_be_typed_in_several_ways() {
        let now_ms = 1_759_479_845_000;
        for (typed, ms) in [
            ("2025-10-03", 1_759_449_600_000),
            ("2025-10-03T08:24:05", now_ms),
            ("2025-10-03 08:24:05", now_ms),
            ("2025-10-03T10:24:05+02:00", now_ms),
            ("1d", now_ms - 86_400_000),
            ("90m", now_ms - 5_400_000),
        ] {
            assert_eq!(parse_time(typed, now_ms), Ok(ms), "{typed}");
        }
        for typed in ["", "d", "yesterday", "-1d", "4294967295d"] {
            assert!(parse_time(typed, now_ms).is_err(), "{typed}");
        }
    }
}
