//! Extremes: the lowest and highest of a day, a month, a year, or of all time, and when.
//!
//! Owns the periods. A day's extremes are known by the hour, longer ones by the day.

use super::derive::derive;
use super::range::Range;
use super::series::of_kind;
use super::sources::{Source, meant};
use super::{AlmanacError, Open};
use crate::store::series::Buckets;
use crate::weather::quantity::Observed;

/// A period whose extremes are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// A day of the station.
    Day,
    /// A month.
    Month,
    /// A year.
    Year,
    /// All time.
    All,
}

impl Period {
    /// Every period, the shortest first.
    pub const ALL: [Period; 4] = [Period::Day, Period::Month, Period::Year, Period::All];

    /// Returns its name in queries.
    pub fn name(self) -> &'static str {
        match self {
            Period::Day => "day",
            Period::Month => "month",
            Period::Year => "year",
            Period::All => "all",
        }
    }

    /// Returns the period of a name.
    pub fn named(name: &str) -> Option<Period> {
        Period::ALL.into_iter().find(|period| period.name() == name)
    }
}

/// The extremes of a period.
#[derive(Clone, Debug, PartialEq)]
pub struct Extremes {
    /// Which period.
    pub period: Period,
    /// From when to when that is.
    pub range: Range,
    /// The extreme of each quantity that has readings, in the order in which they are shown.
    pub extremes: Vec<Extreme>,
    /// Whether newer readings are missing, because they are still being summarised.
    pub is_partial: bool,
}

/// The extremes of a quantity, in the hub's units.
#[derive(Clone, Debug, PartialEq)]
pub struct Extreme {
    /// Of which quantity.
    pub quantity: Observed,
    /// Whose.
    pub source: String,
    /// The lowest, and the beginning of the hour or day in which it was, Unix seconds; `None` for what adds up.
    pub lowest: Option<(f64, i64)>,
    /// The highest; of what adds up, the highest of an hour or day.
    pub highest: (f64, i64),
    /// Of what adds up, the sum.
    pub total: Option<f64>,
}

impl Open<'_> {
    /// Returns the extremes of the period that a time lies in.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn extremes(&self, period: Period, time_s: i64) -> Result<Extremes, AlmanacError> {
        let range = self.range_of(period, time_s)?;
        let mut found = Extremes { period, range, extremes: Vec::new(), is_partial: false };
        let sources = self.sources()?;
        for kind in super::sources::KINDS {
            let Some(source) = meant(&sources, kind, None) else { continue };
            let gathered = match period {
                Period::Day => self.hours(source, range, &of_kind(kind))?,
                _ => self.days_of(source, range.from_s, range.to_s, &of_kind(kind))?,
            };
            found.is_partial |= gathered.is_partial;
            let span_s = if period == Period::Day { 3_600.0 } else { 86_400.0 };
            let of_kind = Observed::ALL.iter().filter(|quantity| quantity.kind() == kind && quantity.has_extremes());
            found
                .extremes
                .extend(of_kind.filter_map(|&quantity| self.extreme(quantity, source, &gathered.buckets, span_s)));
        }
        Ok(found)
    }

    fn range_of(&self, period: Period, time_s: i64) -> Result<Range, AlmanacError> {
        let (from_s, to_s) = match period {
            Period::Day => self.days().bounds(time_s),
            Period::Month => self.days().month(time_s),
            Period::Year => self.days().year(time_s),
            Period::All => self.reach()?.map_or((time_s, time_s + 1), |(first_s, last_s)| (first_s, last_s + 1)),
        };
        Ok(Range { from_s, to_s })
    }

    fn extreme(&self, quantity: Observed, source: &Source, buckets: &Buckets, span_s: f64) -> Option<Extreme> {
        let mut found: Option<Extreme> = None;
        for (&time_s, readings) in buckets {
            let Some(observed) = derive(quantity, readings, span_s, self.terms) else { continue };
            let (low, high) = ((observed.min, time_s), (observed.max, time_s));
            let extreme = found.get_or_insert_with(|| Extreme {
                quantity,
                source: source.name.clone(),
                lowest: (!quantity.adds_up()).then_some(low),
                highest: high,
                total: quantity.adds_up().then_some(0.0),
            });
            extreme.lowest = extreme.lowest.map(|lowest| if low.0 < lowest.0 { low } else { lowest });
            if high.0 > extreme.highest.0 {
                extreme.highest = high;
            }
            extreme.total = extreme.total.map(|total| total + observed.value);
        }
        found
    }
}
