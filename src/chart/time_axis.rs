//! The axis of time: ticks at borders of the station's local time, and their labels. Pure: jiff knows when clocks change.
//!
//! A tick is where the local clock shows a round time, so a day of 23 or 25 hours has as many hours as it has, and three
//! hours may be two or four.

use super::ChartError;
use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan, Zoned, tz::TimeZone};
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// From one tick to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Less than a day, in seconds; a divisor of a day.
    Seconds(i64),
    /// Days, counted within a month.
    Days(i8),
    /// Weeks, from Monday.
    Weeks,
    /// Months, counted within a year.
    Months(i8),
    /// Years, counted from zero.
    Years(i16),
}

const DAY_S: i64 = 86_400;
const YEAR_S: i64 = 365 * DAY_S;

const SECONDS: [i64; 17] =
    [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 3 * 3600, 6 * 3600, 12 * 3600];
const YEARS: [i16; 11] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000];

impl Step {
    fn all() -> impl Iterator<Item = Self> {
        let days = [Self::Days(1), Self::Days(2), Self::Days(3), Self::Weeks, Self::Days(15)];
        let months = [1, 2, 3, 6].map(Self::Months);
        SECONDS.map(Self::Seconds).into_iter().chain(days).chain(months).chain(YEARS.map(Self::Years))
    }

    /// About how long it is, in seconds, and its widest label.
    fn measure(self) -> (i64, &'static str) {
        match self {
            Self::Seconds(s) if s < 60 => (s, "00:00:00"),
            Self::Seconds(s) => (s, "Mar 30"),
            Self::Days(n) => (i64::from(n) * DAY_S, "Mar 30"),
            Self::Weeks => (7 * DAY_S, "Mar 30"),
            Self::Months(n) => (i64::from(n) * 30 * DAY_S, "2000"),
            Self::Years(n) => (i64::from(n) * YEAR_S, "2000"),
        }
    }

    fn label(self, at: &Zoned) -> String {
        let midnight = at.hour() == 0 && at.minute() == 0 && at.second() == 0;
        let pattern = match self {
            Self::Seconds(_) if midnight => "%b %-d",
            Self::Seconds(s) if s < 60 => "%H:%M:%S",
            Self::Seconds(_) => "%H:%M",
            Self::Days(_) | Self::Weeks if at.day_of_year() > 1 => "%b %-d",
            Self::Months(_) if at.month() > 1 => "%b",
            _ => "%Y",
        };
        at.strftime(pattern).to_string()
    }
}

/// From when to when is drawn, where a tick is, and what is written under it.
#[derive(Debug, Clone)]
pub(super) struct TimeAxis {
    from_s: i64,
    to_s: i64,
    /// Times in seconds since 1970, with their labels.
    pub(super) ticks: Vec<(i64, String)>,
    /// What no label says: the day, or the year.
    pub(super) note: String,
}

impl TimeAxis {
    /// Makes the axis; `fits` says how many labels as wide as the one given there is room for.
    pub(super) fn new(from_s: i64, to_s: i64, zone: &TimeZone, fits: impl Fn(&str) -> f64) -> Result<Self, ChartError> {
        let wrong = || ChartError::Time { from_s, to_s };
        let (from, to) = (local(from_s, zone).ok_or_else(wrong)?, local(to_s, zone).ok_or_else(wrong)?);
        if from_s >= to_s {
            return Err(wrong());
        }
        let fitting = |step: &Step| {
            let (long_s, widest) = step.measure();
            (to_s - from_s) as f64 / long_s as f64 <= fits(widest).max(1.0)
        };
        let step = Step::all().find(fitting).unwrap_or(Step::Years(5000));
        let ticks = match step {
            Step::Seconds(step_s) => within_days(from_s, to_s, step_s, zone),
            _ => by_calendar(&from, to_s, step, zone),
        };
        let ticks = ticks.into_iter().map(|at| (at.timestamp().as_second(), step.label(&at))).collect();
        let last = local(to_s - 1, zone).unwrap_or(to);
        Ok(Self { from_s, to_s, ticks, note: note(step, from.date(), last.date()) })
    }
}

/// The local time at a second, where the calendar knows it.
pub(super) fn local(time_s: i64, zone: &TimeZone) -> Option<Zoned> {
    Timestamp::from_second(time_s).ok().map(|at| at.to_zoned(zone.clone()))
}

/// Seconds from a local clock's last round time to what it shows.
fn beyond_round(at: &Zoned, step_s: i64) -> i64 {
    (i64::from(at.hour()) * 3600 + i64::from(at.minute()) * 60 + i64::from(at.second())).rem_euclid(step_s)
}

/// Round times of the local clock. A step over a change of the clock misses the next round time, and is set right after it.
fn within_days(from_s: i64, to_s: i64, step_s: i64, zone: &TimeZone) -> Vec<Zoned> {
    let mut ticks = Vec::new();
    let mut at_s = from_s;
    while let Some(at) = local(at_s, zone).filter(|_| at_s <= to_s) {
        let beyond_s = beyond_round(&at, step_s);
        if beyond_s == 0 {
            ticks.push(at);
        }
        let next_s = at_s - beyond_s + step_s;
        let over_s = local(next_s, zone).map_or(0, |next| beyond_round(&next, step_s));
        // Put forward: the round time was before. Put back: it is still to come.
        at_s = if next_s - over_s > at_s { next_s - over_s } else { next_s };
    }
    ticks
}

/// Beginnings of days, weeks, months and years.
fn by_calendar(from: &Zoned, to_s: i64, step: Step, zone: &TimeZone) -> Vec<Zoned> {
    let mut ticks = Vec::new();
    let mut day = match step {
        Step::Days(_) | Step::Weeks => from.date(),
        Step::Months(_) => from.date().first_of_month(),
        _ => Date::new(from.year().div_euclid(years(step)) * years(step), 1, 1).unwrap_or(from.date()),
    };
    loop {
        let Some(at) = day.to_zoned(zone.clone()).ok().and_then(|at| at.start_of_day().ok()) else { break };
        if at.timestamp().as_second() > to_s {
            break;
        }
        if at >= *from && round_day(day, step) {
            ticks.push(at);
        }
        let next = match step {
            Step::Days(_) | Step::Weeks => day.checked_add(1.day()),
            Step::Months(_) => day.checked_add(1.month()),
            _ => day.checked_add(i64::from(years(step)).years()),
        };
        match next {
            Ok(next) => day = next,
            Err(_) => break,
        }
    }
    ticks
}

fn years(step: Step) -> i16 {
    if let Step::Years(n) = step { n } else { 1 }
}

fn round_day(day: Date, step: Step) -> bool {
    match step {
        // The last days of a month are nearer to the next one's first than to be told apart from it.
        Step::Days(n) => (day.day() - 1) % n == 0 && (n == 1 || day.days_in_month() - day.day() + 1 >= n),
        Step::Weeks => day.weekday() == Weekday::Monday,
        Step::Months(n) => (day.month() - 1) % n == 0,
        _ => true,
    }
}

/// Says of the time what no label does.
fn note(step: Step, first: Date, last: Date) -> String {
    let text = |day: Date, pattern: &str| day.strftime(pattern).to_string();
    match step {
        Step::Years(_) => String::new(),
        Step::Seconds(_) if first == last => text(first, "%b %-d, %Y"),
        Step::Seconds(_) if first.year() == last.year() && first.month() == last.month() => {
            format!("{}–{}", text(first, "%b %-d"), text(last, "%-d, %Y"))
        }
        Step::Seconds(_) if first.year() == last.year() => {
            format!("{} – {}", text(first, "%b %-d"), text(last, "%b %-d, %Y"))
        }
        Step::Seconds(_) => format!("{} – {}", text(first, "%b %-d, %Y"), text(last, "%b %-d, %Y")),
        _ if first.year() == last.year() => text(first, "%Y"),
        _ => format!("{}–{}", text(first, "%Y"), text(last, "%Y")),
    }
}

impl Ranged for TimeAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = i64;

    fn map(&self, value: &i64, limit: (i32, i32)) -> i32 {
        let share = (value - self.from_s) as f64 / (self.to_s - self.from_s) as f64;
        limit.0 + (share.clamp(0.0, 1.0) * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<i64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|tick| tick.0).collect() }
    }

    fn range(&self) -> Range<i64> {
        self.from_s..self.to_s
    }
}
