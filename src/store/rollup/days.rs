//! The days of a station, in its own time zone.
//!
//! Owns the borders of local days, which are 23 or 25 hours long where the clocks are changed. It never does I/O, the look
//! at the machine's time zones at its making aside.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::HOUR_S;

/// The days of a time zone.
#[derive(Clone, Debug)]
pub struct Days {
    zone: TimeZone,
    name: String,
}

/// A day: its date, its first second, and that of the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Day {
    pub(super) date: Date,
    pub(super) from_s: i64,
    pub(super) to_s: i64,
}

impl Days {
    /// Makes them for a zone by its IANA name, or for the machine's own; `None` where the machine does not know the name.
    pub fn of_zone(name: Option<&str>) -> Option<Days> {
        match name {
            Some(name) => Some(Days { zone: TimeZone::get(name).ok()?, name: name.to_owned() }),
            None => {
                let zone = TimeZone::system();
                let name = zone.iana_name().unwrap_or("the system's").to_owned();
                Some(Days { zone, name })
            }
        }
    }

    /// Makes them for UTC.
    pub fn utc() -> Days {
        Days { zone: TimeZone::UTC, name: "UTC".to_owned() }
    }

    /// Returns the name of the zone.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the day that a time lies in; the beginning of time where it lies beyond what has dates.
    pub(super) fn of(&self, time_s: i64) -> Day {
        let time = Timestamp::from_second(time_s).unwrap_or_default().to_zoned(self.zone.clone());
        let date = time.date();
        let begins = |date: Date| date.to_zoned(self.zone.clone()).map(|zoned| zoned.timestamp().as_second());
        let from_s = begins(date).unwrap_or(time_s);
        let to_s = date.tomorrow().and_then(begins).unwrap_or(from_s + 24 * HOUR_S);
        Day { date, from_s, to_s: to_s.max(time_s + 1) }
    }

    /// Returns the first second of the day that a time lies in, and that of the next, Unix seconds.
    pub fn bounds(&self, time_s: i64) -> (i64, i64) {
        let day = self.of(time_s);
        (day.from_s, day.to_s)
    }

    /// Returns the first second of the month that a time lies in, and that of the next, Unix seconds.
    pub fn month(&self, time_s: i64) -> (i64, i64) {
        let first = self.of(time_s).date.first_of_month();
        self.between_dates(first, first.saturating_add(1.month()))
    }

    /// Returns the first second of the year that a time lies in, and that of the next, Unix seconds.
    pub fn year(&self, time_s: i64) -> (i64, i64) {
        let first = self.of(time_s).date.first_of_year();
        self.between_dates(first, first.saturating_add(1.year()))
    }

    /// Returns the date of the day that a time lies in, as the table of days has it.
    pub fn date(&self, time_s: i64) -> String {
        self.of(time_s).date.to_string()
    }

    /// Returns the first second of a date as the table of days has it; `None` for what is none.
    pub fn begin(&self, date: &str) -> Option<i64> {
        let date: Date = date.parse().ok()?;
        date.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp().as_second())
    }

    /// Returns the zone.
    pub fn zone(&self) -> &TimeZone {
        &self.zone
    }

    fn between_dates(&self, from: Date, to: Date) -> (i64, i64) {
        let begin = |date: Date| date.to_zoned(self.zone.clone()).map_or(0, |zoned| zoned.timestamp().as_second());
        (begin(from), begin(to))
    }

    /// Returns the days that a time touches, in order.
    pub(super) fn between(&self, from_s: i64, to_s: i64) -> Vec<Day> {
        let mut days = Vec::new();
        let mut at_s = from_s;
        while at_s < to_s {
            let day = self.of(at_s);
            at_s = day.to_s;
            days.push(day);
        }
        days
    }
}

impl Day {
    /// Tells whether it begins and ends with an hour of UTC, so that hours make it up.
    pub(super) fn is_of_whole_hours(&self) -> bool {
        self.from_s % HOUR_S == 0 && self.to_s % HOUR_S == 0
    }
}
