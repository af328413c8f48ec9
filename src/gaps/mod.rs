//! The gap ledger: which readings are missing, and why.
//!
//! Owns what a gap is, and what is taken for its cause. Pure: values in (what is stored of a source, runs of the hub, what was
//! rejected, what was lost), gaps out.
//!
//! A gap is a pause of more than two and a half intervals between two stored readings of a source. What is expected is what
//! is stored and what is missing: a pause lacks the readings that would have come in it at the interval of its time. Each of
//! them has the cause of its moment: the hub was down, the queue was full, what came was rejected; else the sensor was silent,
//! or nothing is known, before the hub's first run.

mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

pub use words::{cause_in_words, in_words, parse_time};

use crate::clock::CLOCK_SET_MS;

/// Milliseconds of an hour.
pub const HOUR_MS: i64 = 3_600_000;
/// How long a sensor may take to come back to a hub that has just started, at the least.
const RETURN_MS_MIN: i64 = 10_000;

/// Why readings are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The hub, or its machine, did not run.
    HubDown,
    /// The queue to the database was full.
    QueueOverflow,
    /// What came was no reading.
    Rejected,
    /// Nothing came.
    SensorSilent,
    /// It was before the hub's first run.
    Unknown,
}

/// A time without readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// From when, Unix milliseconds.
    pub from_ms: i64,
    /// Until when, Unix milliseconds.
    pub to_ms: i64,
    /// Why.
    pub cause: Cause,
    /// How many readings are missing.
    pub missing: i64,
    /// Whether they are missing here and there in that time, and not all of it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub scattered: bool,
}

/// What is stored of a source in one hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hour {
    /// All that is expected, as far as its count tells.
    Whole {
        /// Readings stored.
        stored: i64,
    },
    /// Less than that; when they came is not known.
    Some {
        /// Readings stored.
        stored: i64,
    },
    /// When each came, Unix milliseconds.
    Times(Vec<i64>),
}

/// What is known of one source.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its hours, counted from 1970, with the interval of their readings in milliseconds; those without readings are left out.
    pub hours: BTreeMap<i64, (Hour, i64)>,
    /// The interval before the first of them, milliseconds.
    pub interval_ms: i64,
    /// Whether it had readings before.
    pub is_old: bool,
    /// Whether no more are expected after the last one.
    pub has_ended: bool,
    /// When readings of it were lost.
    pub lost: Vec<(i64, i64)>,
    /// When messages of it were rejected.
    pub rejected: Vec<(i64, i64)>,
}

/// One run of the hub.
#[derive(Clone, Copy, Debug)]
pub struct Ran {
    /// When it began, Unix milliseconds.
    pub started_ms: i64,
    /// When it stopped, or was last seen alive, Unix milliseconds.
    pub ended_ms: i64,
}

/// When the hub was down.
#[derive(Clone, Debug, Default)]
pub struct Downs {
    /// From when until when, in order.
    pub times: Vec<(i64, i64)>,
    /// Since when anything is known of it.
    pub known_since_ms: i64,
}

impl Downs {
    /// Finds out when the hub was down by its runs, in their order, up to `now_ms`; the last one runs on where `is_alive`.
    pub fn between(runs: &[Ran], now_ms: i64, is_alive: bool) -> Downs {
        let mut downs = Downs { times: Vec::new(), known_since_ms: i64::MAX };
        let mut end = None;
        for run in runs.iter().filter(|run| run.ended_ms >= CLOCK_SET_MS) {
            // A start by a clock that was never set right says nothing: what came then has no right time either.
            let started_ms = if run.started_ms >= CLOCK_SET_MS { run.started_ms } else { run.ended_ms };
            downs.known_since_ms = downs.known_since_ms.min(started_ms);
            downs.times.extend(end.filter(|end| *end < started_ms).map(|end| (end, started_ms)));
            end = Some(run.ended_ms.max(end.unwrap_or(i64::MIN)));
        }
        downs.times.extend(end.filter(|end| !is_alive && *end < now_ms).map(|end| (end, now_ms)));
        downs
    }
}

/// What became of a source's readings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Readings stored.
    pub stored: i64,
    /// The gaps, in order; none overlaps another.
    pub gaps: Vec<Gap>,
}

impl Found {
    /// Returns how many readings are missing.
    pub fn missing(&self) -> i64 {
        self.gaps.iter().map(|gap| gap.missing).sum()
    }
}

/// Finds the gaps of a source between two times.
pub fn find(known: &Known, downs: &Downs, from_ms: i64, to_ms: i64) -> Found {
    let mut walk = Walk { known, downs, last: known.is_old.then_some(from_ms), found: Found::default() };
    let mut interval_ms = known.interval_ms;
    for (hour, (content, interval)) in &known.hours {
        interval_ms = *interval;
        let (begin, end) = ((hour * HOUR_MS).max(from_ms), ((hour + 1) * HOUR_MS).min(to_ms));
        match content {
            Hour::Whole { stored } | Hour::Some { stored } => {
                walk.reading(begin, interval_ms);
                walk.found.stored += stored;
                let missing = (end - begin) / interval_ms.max(1) - stored;
                if matches!(content, Hour::Some { .. }) && missing > 0 {
                    let gap = Gap { from_ms: begin, to_ms: end, cause: Cause::Unknown, missing, scattered: true };
                    walk.found.gaps.push(Gap { cause: walk.cause_around(begin, end, interval_ms), ..gap });
                }
                walk.last = Some(end);
            }
            Hour::Times(times) => {
                for ms in times.iter().copied().filter(|ms| (from_ms..to_ms).contains(ms)) {
                    walk.reading(ms, interval_ms);
                    walk.found.stored += 1;
                }
            }
        }
    }
    if !known.has_ended && walk.last.is_some() {
        walk.reading(to_ms, interval_ms);
    }
    walk.found
}

struct Walk<'k> {
    known: &'k Known,
    downs: &'k Downs,
    last: Option<i64>,
    found: Found,
}

impl Walk<'_> {
    /// Takes the next reading, or the end.
    fn reading(&mut self, ms: i64, interval_ms: i64) {
        let Some(last) = self.last.filter(|last| *last < ms) else {
            self.last = Some(self.last.map_or(ms, |last| last.max(ms)));
            return;
        };
        self.last = Some(ms);
        let (pause, interval_ms) = (ms - last, interval_ms.max(1));
        if pause.saturating_mul(2) > interval_ms.saturating_mul(5) {
            let missing = (pause + interval_ms / 2) / interval_ms - 1;
            self.split(last, ms, missing, interval_ms);
        }
    }

    /// Splits a pause where its cause changes.
    fn split(&mut self, from_ms: i64, to_ms: i64, missing: i64, interval_ms: i64) {
        let mut cuts = vec![self.downs.known_since_ms];
        for (begin, end) in self.causes(interval_ms).map(|(_, begin, end)| (begin, end)) {
            cuts.extend([begin, end]);
        }
        cuts.retain(|cut| (from_ms + 1..to_ms).contains(cut));
        cuts.push(to_ms);
        cuts.sort_unstable();
        cuts.dedup();
        let first = self.found.gaps.len();
        let (mut begin, mut before, mut counted) = (from_ms, from_ms, 0);
        for end in cuts {
            let count = came_before(end, from_ms, to_ms, missing) - counted;
            counted += count;
            let cause = self.cause_at(before + (end - before) / 2, interval_ms);
            before = end;
            let begun = self.found.gaps.len() > first;
            match self.found.gaps.last_mut().filter(|gap| begun && (count == 0 || gap.cause == cause)) {
                Some(gap) => (gap.to_ms, gap.missing) = (end, gap.missing + count),
                // What lacks nothing goes with what follows.
                None if count == 0 => continue,
                None => {
                    self.found.gaps.push(Gap { from_ms: begin, to_ms: end, cause, missing: count, scattered: false })
                }
            }
            begin = end;
        }
    }

    /// Returns each known cause with its time, those that count first before others.
    fn causes(&self, interval_ms: i64) -> impl Iterator<Item = (Cause, i64, i64)> {
        let back_ms = RETURN_MS_MIN.max(interval_ms * 5 / 2);
        let downs = self.downs.times.iter().map(move |(begin, end)| (Cause::HubDown, *begin, end + back_ms));
        // A reading stands for the interval before it, and the next one is due an interval after it.
        let around = move |cause, times: &(i64, i64)| (cause, times.0 - interval_ms, times.1 + interval_ms);
        let lost = self.known.lost.iter().map(move |times| around(Cause::QueueOverflow, times));
        let rejected = self.known.rejected.iter().map(move |times| around(Cause::Rejected, times));
        downs.chain(lost).chain(rejected)
    }

    fn cause_at(&self, ms: i64, interval_ms: i64) -> Cause {
        let found = self.causes(interval_ms).find(|(_, begin, end)| (*begin..*end).contains(&ms));
        match found {
            Some((cause, ..)) => cause,
            None if ms < self.downs.known_since_ms => Cause::Unknown,
            None => Cause::SensorSilent,
        }
    }

    /// Returns the cause that is known in a time, where it is not known when in it readings are missing.
    fn cause_around(&self, from_ms: i64, to_ms: i64, interval_ms: i64) -> Cause {
        let found = self.causes(interval_ms).find(|(_, begin, end)| *begin < to_ms && *end > from_ms);
        found.map_or_else(|| self.cause_at(from_ms, interval_ms), |(cause, ..)| cause)
    }
}

/// Returns how many of a gap's missing readings, which lie evenly in it, would have come before `ms`.
pub(crate) fn came_before(ms: i64, from_ms: i64, to_ms: i64, missing: i64) -> i64 {
    let (since, whole) = (i128::from(ms.clamp(from_ms, to_ms) - from_ms), i128::from((to_ms - from_ms).max(1)));
    let count = since * (i128::from(missing) + 1) / whole;
    i64::try_from(count).unwrap_or(missing).min(missing)
}
