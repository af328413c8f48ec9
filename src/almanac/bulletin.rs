//! The bulletin of a short time: the weather at its end, as weather networks want it.
//!
//! Owns which readings count for it: those of sources that were heard within it, so that nothing old is told as new. What is not
//! known, or in doubt because a counter went back or jumped, is left out. It knows no network and no unit but the hub's.

use super::derive::derive;
use super::range::Range;
use super::sources::Source;
use super::{AlmanacError, Open};
use crate::reading::Kind;
use crate::weather::quantity::Observed;

/// Sources that are looked at, at most.
const SOURCES_MAX: usize = 16;
/// Readings of a day, at most; a station sends 17,280.
const ROWS_MAX: usize = 200_000;
const HOUR_S: i64 = 3_600;
const DAY_S: i64 = 86_400;

/// The weather at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bulletin {
    /// The time, Unix seconds.
    pub at_s: i64,
    /// Degrees Celsius.
    pub temperature: Option<f64>,
    /// Percent.
    pub humidity: Option<f64>,
    /// Degrees Celsius.
    pub dew_point: Option<f64>,
    /// Hectopascal at sea level.
    pub pressure: Option<f64>,
    /// Metres per second, the mean of ten minutes.
    pub wind: Option<f64>,
    /// Metres per second, the highest sample of ten minutes.
    pub gust: Option<f64>,
    /// Degrees that the wind comes from.
    pub direction: Option<f64>,
    /// Millimetres of rain in the hour before.
    pub rain_hour: Option<f64>,
    /// Millimetres of rain in the 24 hours before.
    pub rain_day: Option<f64>,
    /// Millimetres of rain since the station's midnight.
    pub rain_today: Option<f64>,
    /// Watt per square metre.
    pub irradiance: Option<f64>,
}

impl Bulletin {
    /// Tells whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Bulletin { at_s: self.at_s, ..Bulletin::default() }
    }
}

impl Open<'_> {
    /// Returns the bulletin of a time; `None` where no weather was heard within it.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn bulletin(&self, time: Range) -> Result<Option<Bulletin>, AlmanacError> {
        let mut heard = Vec::new();
        for source in self.sources()?.into_iter().filter(|source| source.kind == Kind::Weather).take(SOURCES_MAX) {
            // Too many rows are some.
            if self.fold(&source, time, ROWS_MAX, |_| 0)?.is_none_or(|found| !found.is_empty()) {
                heard.push(source);
            }
        }
        if heard.is_empty() {
            return Ok(None);
        }
        let mut then = self.at(time.to_s)?;
        then.sources.retain(|then| then.kind == Kind::Weather && heard.iter().any(|source| source.name == then.name));
        let value = |quantity| then.value(quantity).filter(|value| !value.is_doubtful).map(|value| value.value);
        let bulletin = Bulletin {
            at_s: time.to_s,
            temperature: value(Observed::Temperature),
            humidity: value(Observed::Humidity),
            dew_point: value(Observed::DewPoint),
            pressure: value(Observed::PressureSeaLevel),
            wind: value(Observed::WindSpeed),
            gust: value(Observed::WindGust),
            direction: value(Observed::WindDirection),
            rain_hour: self.rain(&heard, time.to_s, HOUR_S)?,
            rain_day: self.rain(&heard, time.to_s, DAY_S)?,
            rain_today: value(Observed::Rain),
            irradiance: value(Observed::Irradiance),
        };
        Ok(Some(bulletin).filter(|bulletin| !bulletin.is_empty()))
    }

    /// Returns the rain of the `span_s` seconds before a time, of the first source that measures any.
    fn rain(&self, sources: &[Source], to_s: i64, span_s: i64) -> Result<Option<f64>, AlmanacError> {
        for source in sources {
            let range = Range { from_s: to_s - span_s, to_s };
            let found = self.fold(source, range, ROWS_MAX, |_| 0)?.unwrap_or_default();
            #[allow(clippy::cast_precision_loss, reason = "seconds of a day")]
            let rain = found.values().next().and_then(|all| derive(Observed::Rain, all, span_s as f64, self.terms));
            if let Some(rain) = rain {
                return Ok(Some(rain.value).filter(|_| !rain.is_doubtful));
            }
        }
        Ok(None)
    }
}
