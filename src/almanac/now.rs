//! The weather now: the latest values, the wind of the last ten minutes, the rain and the sun of today.
//!
//! Owns over which time each value is taken, and when one is stale. Wind is a mean of ten minutes with its highest sample as the
//! gust (WMO-No. 8, part I, chapter 5).

use super::derive::{Observation, derive, raw_quantities};
use super::range::Range;
use super::series::of_kind;
use super::sources::Source;
use super::{AlmanacError, Open};
use crate::reading::Kind;
use crate::store::series::{Buckets, Summaries};
use crate::weather::quantity::Observed;
use crate::weather::{pressure, wind};

/// Sources that are shown, at most.
const SOURCES_MAX: usize = 16;
const MINUTE_S: i64 = 60;
const HOUR_S: i64 = 3_600;
/// The time of the wind's mean, and of the rain rate.
const WIND_S: i64 = 600;
/// The time of the pressure's tendency, and how far around its beginning a reading is looked for.
const TENDENCY_S: i64 = 3 * HOUR_S;
const TENDENCY_AROUND_S: i64 = 300;
/// Readings of the last hours, at most; a station sends 2,300.
const ROWS_MAX: usize = 100_000;
/// A source whose rhythm is not known is stale after this time, seconds.
const STALE_S: f64 = 300.0;

/// The weather now.
#[derive(Clone, Debug, PartialEq)]
pub struct Now {
    /// The present, Unix seconds.
    pub at_s: i64,
    /// Each source, the one heard last first.
    pub sources: Vec<SourceNow>,
}

/// What a source says now.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceNow {
    /// Its topic.
    pub name: String,
    /// What it sends.
    pub kind: Kind,
    /// The time of its last reading, Unix seconds.
    pub last_s: i64,
    /// Whether it has been silent for longer than its rhythm explains.
    pub is_stale: bool,
    /// Its values.
    pub values: Vec<NowValue>,
}

/// A value now, in the hub's units.
#[derive(Clone, Debug, PartialEq)]
pub struct NowValue {
    /// Of which quantity.
    pub quantity: Observed,
    /// The value.
    pub value: f64,
    /// Whether a counter went back or jumped in its time.
    pub is_doubtful: bool,
    /// Today's lowest and highest.
    pub today: Option<(f64, f64)>,
    /// A word about it.
    pub note: Option<String>,
}

/// The times around the present of one source.
struct Times {
    last: Summaries,
    ten_minutes: Summaries,
    hour: Summaries,
    three_hours_ago: Summaries,
    today: Summaries,
    /// Watt-hours per square metre.
    sun_today: Option<Observation>,
}

impl Now {
    /// Returns the value of a quantity, of the source that was heard last.
    pub fn value(&self, quantity: Observed) -> Option<&NowValue> {
        self.sources.iter().flat_map(|source| &source.values).find(|value| value.quantity == quantity)
    }
}

impl Open<'_> {
    /// Returns the weather now, of every source.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn now(&self) -> Result<Now, AlmanacError> {
        let mut sources = self.sources()?;
        sources.truncate(SOURCES_MAX);
        let told = sources.iter().map(|source| {
            let minutes = self.minutes(source)?;
            let last = Summaries::of_reading(source.kind, &source.last, &self.terms.sensors);
            let today = self.days_of(source, self.now_s, self.now_s + 1, &of_kind(source.kind))?;
            let today = today.buckets.into_values().next_back().unwrap_or_default();
            let times = self.times(source, &minutes, last, today)?;
            Ok(self.told(source, &times))
        });
        Ok(Now { at_s: self.now_s, sources: told.collect::<Result<_, AlmanacError>>()? })
    }

    /// Returns the weather as it was at a time, of the sources that were heard in the ten minutes before it.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn at(&self, time_s: i64) -> Result<Now, AlmanacError> {
        let then = Open { now_s: time_s, ..*self };
        let mut told = Vec::new();
        for source in self.sources()?.into_iter().take(SOURCES_MAX) {
            let minutes = then.minutes(&source)?;
            let newest = minutes.range(time_s - WIND_S..time_s).next_back();
            let Some((last_s, last)) = newest.map(|(minute, readings)| (*minute, readings.clone())) else { continue };
            let (from_s, _) = then.days().bounds(time_s);
            let range = Range { from_s, to_s: time_s };
            let today = then.fold(&source, range, ROWS_MAX, |_| from_s)?.unwrap_or_default();
            let today = today.into_values().next().unwrap_or_default();
            let source = Source { last_s, ..source };
            let times = then.times(&source, &minutes, last, today)?;
            told.push(then.told(&source, &times));
        }
        Ok(Now { at_s: time_s, sources: told })
    }

    /// Returns the minutes of the last hours.
    fn minutes(&self, source: &Source) -> Result<Buckets, AlmanacError> {
        let range = Range { from_s: self.now_s - TENDENCY_S - TENDENCY_AROUND_S, to_s: self.now_s + 1 };
        let minute = |time_s: i64| time_s.div_euclid(MINUTE_S) * MINUTE_S;
        Ok(self.fold(source, range, ROWS_MAX, minute)?.unwrap_or_default())
    }

    fn times(
        &self,
        source: &Source,
        minutes: &Buckets,
        last: Summaries,
        today: Summaries,
    ) -> Result<Times, AlmanacError> {
        let since = |from_s: i64, to_s: i64| {
            let mut whole = Summaries::default();
            minutes.range(from_s..to_s).for_each(|(_, readings)| whole.merge(readings));
            whole
        };
        let (now_s, then_s) = (self.now_s, self.now_s - TENDENCY_S);
        let sun_today = match source.kind {
            Kind::Weather => self.sun_today(source)?,
            Kind::Magnetic => None,
        };
        Ok(Times {
            last,
            ten_minutes: since(now_s - WIND_S, now_s + 1),
            hour: since(now_s - HOUR_S, now_s + 1),
            three_hours_ago: since(then_s - TENDENCY_AROUND_S, then_s + TENDENCY_AROUND_S),
            today,
            sun_today,
        })
    }

    /// Adds up the sun's energy of today, hour by hour: an hour without readings adds nothing.
    fn sun_today(&self, source: &Source) -> Result<Option<Observation>, AlmanacError> {
        let (from_s, _) = self.days().bounds(self.now_s);
        let range = Range { from_s, to_s: self.now_s + 1 };
        let hours = self.hours(source, range, raw_quantities(Observed::SolarEnergy))?;
        let mut whole: Option<Observation> = None;
        for (hour, readings) in hours.buckets {
            let begin_s = hour.max(from_s);
            #[allow(clippy::cast_precision_loss, reason = "seconds of an hour")]
            let span_s = (hour + HOUR_S).min(self.now_s).saturating_sub(begin_s).max(0) as f64;
            let Some(energy) = derive(Observed::SolarEnergy, &readings, span_s, self.terms) else { continue };
            let before = whole.map_or(0.0, |whole| whole.value);
            whole = Some(Observation { value: before + energy.value, ..energy });
        }
        Ok(whole)
    }

    fn told(&self, source: &Source, times: &Times) -> SourceNow {
        let of_kind = Observed::ALL.iter().copied().filter(|quantity| quantity.kind() == source.kind);
        let stale_s = source.patience_s().unwrap_or(STALE_S);
        #[allow(clippy::cast_precision_loss, reason = "the age of a reading")]
        let is_stale = (self.now_s - source.last_s) as f64 > stale_s;
        SourceNow {
            name: source.name.clone(),
            kind: source.kind,
            last_s: source.last_s,
            is_stale,
            values: of_kind.filter_map(|quantity| self.value(quantity, times)).collect(),
        }
    }

    fn value(&self, quantity: Observed, times: &Times) -> Option<NowValue> {
        let of = |readings: &Summaries, span_s: i64| {
            #[allow(clippy::cast_precision_loss, reason = "seconds of a day")]
            derive(quantity, readings, span_s as f64, self.terms)
        };
        let found = match quantity {
            Observed::WindSpeed | Observed::WindGust | Observed::WindDirection | Observed::RainRate => {
                of(&times.ten_minutes, WIND_S)
            }
            Observed::WindChill => of(&times.ten_minutes, WIND_S),
            Observed::Rain => of(&times.today, 86_400),
            Observed::SolarEnergy => times.sun_today,
            Observed::PressureTendency => self.tendency(times),
            Observed::RainHour => derive(Observed::Rain, &times.hour, 3_600.0, self.terms),
            _ => of(&times.last, 1),
        }?;
        let today = match quantity {
            _ if !quantity.has_extremes() => None,
            Observed::Rain | Observed::SolarEnergy | Observed::HeatIndex | Observed::WindChill => None,
            Observed::WindGust => of(&times.today, 86_400).map(|day| (0.0, day.max)),
            _ => of(&times.today, 86_400).filter(|day| day.min < day.max).map(|day| (day.min, day.max)),
        };
        let note = note(quantity, &found);
        Some(NowValue { quantity, value: found.value, is_doubtful: found.is_doubtful, today, note })
    }

    fn tendency(&self, times: &Times) -> Option<Observation> {
        let hpa = |readings: &Summaries| derive(Observed::Pressure, readings, 1.0, self.terms);
        let (now, then) = (hpa(&times.last)?, hpa(&times.three_hours_ago)?);
        let value = now.value - then.value;
        Some(Observation { value, min: value, max: value, ..now })
    }
}

fn note(quantity: Observed, found: &Observation) -> Option<String> {
    match quantity {
        Observed::WindSpeed => Some(wind::beaufort(found.value).1.to_owned()),
        Observed::WindDirection => Some(wind::compass(found.value).to_owned()),
        Observed::PressureTendency => Some(pressure::tendency_word(found.value).to_owned()),
        _ => None,
    }
}
