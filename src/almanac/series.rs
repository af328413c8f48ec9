//! Quantities over a time: for charts, for files, for programs.
//!
//! Owns the choice between raw readings, hours and days, and that no answer is larger than it may be. Minimum and maximum of
//! what is drawn together are kept, so that no spike is lost.

use std::collections::BTreeSet;

use super::derive::{Observation, derive, raw_quantities};
use super::range::Range;
use super::sources::{Source, meant, patience_s};
use super::{AlmanacError, Open};
use crate::reading::{Kind, Quantity};
use crate::store::series::{Buckets, Summaries};
use crate::weather::quantity::Observed;

/// Points of a series, at most.
pub const SERIES_POINTS_MAX: usize = 10_000;
/// Raw rows that an answer is made of, at most.
const ROWS_MAX: usize = 200_000;
/// Rows that are not rolled up yet and are folded with what is, about.
const TAIL_ROWS_MAX: usize = 100_000;
/// Up to this length a range is drawn from raw rows, seconds: two days and what the clocks may add.
const RAW_SPAN_S_MAX: i64 = 49 * HOUR_S;
/// Up to this length it is drawn from hours.
const HOURS_SPAN_S_MAX: i64 = 62 * DAY_S;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;
/// The time between readings where none is known.
const USUAL_S: f64 = 5.0;

/// How finely a time is to be divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// As suits so many points.
    Points(usize),
    /// Each reading by itself.
    Raw,
    /// So many seconds together.
    Seconds(i64),
    /// By hours.
    Hours,
    /// By the station's days.
    Days,
}

/// A question for series.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Over which time.
    pub range: Range,
    /// Of which source; for each kind of reading the one heard last where nothing is said.
    pub source: Option<String>,
    /// Which quantities.
    pub quantities: Vec<Observed>,
    /// How finely.
    pub resolution: Resolution,
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// Over which time.
    pub range: Range,
    /// A series for each quantity, in the order in which they were asked for; those of kinds without a source are left out.
    pub series: Vec<Series>,
    /// Whether newer readings are missing: they are more than one answer holds, or still being summarised.
    pub is_partial: bool,
}

/// One quantity over a time.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// Which.
    pub quantity: Observed,
    /// Whose.
    pub source: String,
    /// The time that a point stands for, seconds; `None` where each is a reading.
    pub step_s: Option<i64>,
    /// Two points further apart have a gap between them, seconds.
    pub break_after_s: i64,
    /// The points, in the order of time.
    pub points: Vec<Point>,
}

/// A point of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When its time begins, Unix seconds.
    pub time_s: i64,
    /// How long that is, seconds.
    pub span_s: i64,
    /// What was observed.
    pub observed: Observation,
}

/// Where a series comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    Raw,
    Seconds(i64),
    Hours,
    Days,
}

impl Grain {
    /// Chooses a grain that makes no more points than there may be: a step that is too small for a time is made larger.
    fn of(resolution: Resolution, range: Range) -> Grain {
        let span_s = range.span_s();
        let at_least = |points: usize| {
            let points = i64::try_from(points.clamp(1, SERIES_POINTS_MAX)).unwrap_or(1);
            (span_s.saturating_add(points - 1) / points).max(1)
        };
        match resolution {
            Resolution::Raw => Grain::Raw,
            Resolution::Points(points) if span_s <= RAW_SPAN_S_MAX => Grain::Seconds(at_least(points)),
            Resolution::Points(_) if span_s <= HOURS_SPAN_S_MAX => Grain::Hours,
            Resolution::Seconds(seconds) => Grain::Seconds(seconds.max(at_least(SERIES_POINTS_MAX))),
            Resolution::Hours if HOUR_S >= at_least(SERIES_POINTS_MAX) => Grain::Hours,
            Resolution::Points(_) | Resolution::Hours | Resolution::Days => Grain::Days,
        }
    }

    /// Returns the grain to take where there are too many raw rows for this one.
    fn coarser(range: Range) -> Grain {
        Grain::of(Resolution::Hours, range)
    }
}

/// Buckets of one source, and whether some are missing.
pub(super) struct Gathered {
    pub(super) buckets: Buckets,
    pub(super) is_partial: bool,
}

impl Open<'_> {
    /// Returns quantities over a time.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn series(&self, asked: &Asked) -> Result<Shown, AlmanacError> {
        let wanted = Grain::of(asked.resolution, asked.range);
        let mut shown = Shown { range: asked.range, series: Vec::new(), is_partial: false };
        let mut is_known = asked.source.is_none();
        let sources = self.sources()?;
        for kind in super::sources::KINDS {
            let quantities: Vec<Observed> =
                asked.quantities.iter().copied().filter(|quantity| quantity.kind() == kind).collect();
            let Some(source) = meant(&sources, kind, asked.source.as_deref()) else { continue };
            is_known = true;
            if quantities.is_empty() {
                continue;
            }
            let raws: BTreeSet<Quantity> =
                quantities.iter().flat_map(|quantity| raw_quantities(*quantity)).copied().collect();
            let raws: Vec<Quantity> = raws.into_iter().collect();
            let (grain, gathered) = self.gather(source, wanted, asked.range, &raws)?;
            shown.is_partial |= gathered.is_partial;
            let thinned = match asked.resolution {
                Resolution::Points(points) => thin(gathered.buckets, points),
                _ => Thinned { buckets: gathered.buckets, together: 1 },
            };
            for quantity in quantities {
                shown.series.push(self.one(quantity, source, grain, &thinned));
            }
        }
        match (is_known, &asked.source) {
            (false, Some(name)) => Err(AlmanacError::UnknownSource(name.clone())),
            _ => {
                let place = |series: &Series| asked.quantities.iter().position(|other| *other == series.quantity);
                shown.series.sort_by_key(place);
                Ok(shown)
            }
        }
    }

    fn one(&self, quantity: Observed, source: &Source, grain: Grain, thinned: &Thinned) -> Series {
        #[allow(clippy::cast_possible_truncation, reason = "seconds between readings")]
        let patience_s = source.patience_s().unwrap_or_else(|| patience_s(USUAL_S)) as i64;
        let (step_s, break_after_s) = match grain {
            Grain::Raw => (None, patience_s),
            Grain::Seconds(seconds) => (Some(seconds), patience_s.max(seconds * 5 / 2)),
            Grain::Hours => (Some(HOUR_S), HOUR_S * 5 / 2),
            Grain::Days => (Some(DAY_S), DAY_S * 5 / 2),
        };
        let step_s = step_s.map(|step_s| step_s * thinned.together);
        let points = thinned.buckets.iter().filter_map(|(&time_s, readings)| {
            let whole_s = step_s.unwrap_or(patience_s.min(HOUR_S));
            // What is not over yet is as long as it has lasted.
            let span_s = whole_s.min((self.now_s - time_s).max(1));
            #[allow(clippy::cast_precision_loss, reason = "seconds of a chart")]
            let observed = derive(quantity, readings, span_s as f64, self.terms)?;
            Some(Point { time_s, span_s: whole_s, observed })
        });
        Series {
            quantity,
            source: source.name.clone(),
            step_s,
            break_after_s: break_after_s * thinned.together,
            points: points.collect(),
        }
    }

    /// Gathers what the readings of a source came to, by this grain or a coarser one.
    fn gather(
        &self,
        source: &Source,
        grain: Grain,
        range: Range,
        quantities: &[Quantity],
    ) -> Result<(Grain, Gathered), AlmanacError> {
        let Range { from_s, to_s } = range;
        let gathered = match grain {
            Grain::Raw => self.readings(source, range)?,
            Grain::Hours => self.hours(source, range, quantities)?,
            Grain::Days => self.days_of(source, from_s, to_s, quantities)?,
            Grain::Seconds(seconds) => {
                let bucket = |time_s: i64| time_s - (time_s - from_s).rem_euclid(seconds);
                match self.fold(source, range, ROWS_MAX, bucket)? {
                    Some(buckets) => Gathered { buckets, is_partial: false },
                    None => return self.gather(source, Grain::coarser(range), range, quantities),
                }
            }
        };
        Ok((grain, gathered))
    }

    /// Gathers single readings, as many of the first as there may be.
    fn readings(&self, source: &Source, range: Range) -> Result<Gathered, AlmanacError> {
        let times = self.reader.times(source.kind, &source.ids(), range.from_s..range.to_s, SERIES_POINTS_MAX + 1)?;
        let (to_s, is_partial) = match times.get(SERIES_POINTS_MAX) {
            Some(beyond_s) => (*beyond_s, true),
            None => (range.to_s, false),
        };
        let within = Range { from_s: range.from_s, to_s };
        let buckets = self.fold(source, within, usize::MAX, |time_s| time_s)?.unwrap_or_default();
        Ok(Gathered { buckets, is_partial })
    }

    /// Folds raw rows; `None` where there are more than `rows_max`.
    pub(super) fn fold(
        &self,
        source: &Source,
        range: Range,
        rows_max: usize,
        bucket: impl Fn(i64) -> i64,
    ) -> Result<Option<Buckets>, AlmanacError> {
        let ids = source.ids();
        Ok(self.reader.folded(source.kind, &ids, &self.terms.sensors, range.from_s..range.to_s, rows_max, bucket)?)
    }

    /// Gathers hours: those that are rolled up, and after them raw rows.
    pub(super) fn hours(
        &self,
        source: &Source,
        range: Range,
        quantities: &[Quantity],
    ) -> Result<Gathered, AlmanacError> {
        let hour_of = |time_s: i64| time_s.div_euclid(HOUR_S) * HOUR_S;
        let from_s = hour_of(range.from_s);
        let mut buckets = self.reader.hours(&source.ids(), quantities, from_s..range.to_s)?;
        let tail = self.tail(source, from_s, range.to_s, hour_of)?;
        let is_partial = tail.is_none();
        if let Some((done_s, tail)) = tail {
            buckets.retain(|hour, _| *hour < done_s);
            buckets.extend(tail);
        }
        Ok(Gathered { buckets, is_partial })
    }

    /// Gathers the station's days that a time touches.
    pub(super) fn days_of(
        &self,
        source: &Source,
        from_s: i64,
        to_s: i64,
        quantities: &[Quantity],
    ) -> Result<Gathered, AlmanacError> {
        let begin = |time_s: i64| self.days().bounds(time_s).0;
        let from_s = begin(from_s);
        let mut buckets = self.reader.days(&source.ids(), quantities, self.days(), from_s..to_s)?;
        let tail = self.tail(source, from_s, to_s, begin)?;
        let is_partial = tail.is_none();
        if let Some((done_s, tail)) = tail {
            buckets.retain(|day, _| *day < done_s);
            for (day, readings) in tail {
                buckets.entry(day).or_default().merge(&readings);
            }
        }
        Ok(Gathered { buckets, is_partial })
    }

    /// Folds what is not rolled up yet of a time; returns from when on that is, and `None` where it is too much.
    fn tail(
        &self,
        source: &Source,
        from_s: i64,
        to_s: i64,
        bucket: impl Fn(i64) -> i64,
    ) -> Result<Option<(i64, Buckets)>, AlmanacError> {
        let done_s = self.reader.rolled_up_until_s(source.kind)?.unwrap_or(i64::MIN).max(from_s);
        if done_s >= to_s {
            return Ok(Some((done_s, Buckets::new())));
        }
        // Where much is not rolled up yet, it is not tried.
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a guess"
        )]
        let rows =
            ((to_s.min(self.now_s) - done_s).max(0) as f64 / source.usual_s.unwrap_or(USUAL_S).max(0.1)) as usize;
        if rows > TAIL_ROWS_MAX {
            return Ok(None);
        }
        let tail = self.fold(source, Range { from_s: done_s, to_s }, ROWS_MAX, bucket)?;
        Ok(tail.map(|tail| (done_s, tail)))
    }
}

/// Buckets, so many of the first ones in each.
struct Thinned {
    buckets: Buckets,
    together: i64,
}

/// Puts neighbours together until there are no more than `points`.
fn thin(buckets: Buckets, points: usize) -> Thinned {
    let together = buckets.len().div_ceil(points.max(1)).max(1);
    if together == 1 {
        return Thinned { buckets, together: 1 };
    }
    let all: Vec<(i64, Summaries)> = buckets.into_iter().collect();
    let thinned = all.chunks(together).filter_map(|chunk| {
        let (first, rest) = chunk.split_first()?;
        let mut whole = first.1.clone();
        rest.iter().for_each(|(_, readings)| whole.merge(readings));
        Some((first.0, whole))
    });
    Thinned { buckets: thinned.collect(), together: i64::try_from(together).unwrap_or(1) }
}

/// Returns the raw quantities of a kind of reading.
pub(super) fn of_kind(kind: Kind) -> Vec<Quantity> {
    Quantity::ALL.into_iter().filter(|quantity| quantity.kind() == kind).collect()
}
