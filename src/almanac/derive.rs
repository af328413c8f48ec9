//! From what the readings of a time came to, to what its weather was.
//!
//! Owns which raw quantities each shown one is made of. The formulas are `weather`'s. Pure: no database, no clock.
//!
//! Straight lines (scale and offset) carry a time's minimum and maximum over exactly. What is bent, such as the dew point, is
//! made of the time's means: exact for single readings, close for the minutes behind a chart's dot, an approximation for an
//! hour or a day, where no minimum and maximum are given.

use super::terms::Terms;
use crate::reading::Quantity;
use crate::store::Summary;
use crate::store::series::Summaries;
use crate::weather::quantity::Observed;
use crate::weather::{air, magnetic};

/// The time over which a rain rate is taken, at least, seconds: a single tip within 5 s would be a cloudburst.
pub const RAIN_RATE_S: f64 = 600.0;

/// What a quantity was in a time, in the hub's units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// The mean; of what adds up, the sum; of a gust, the highest.
    pub value: f64,
    /// The lowest, where it is known.
    pub min: f64,
    /// The highest, where it is known.
    pub max: f64,
    /// The readings that it is made of.
    pub count: i64,
    /// Whether a counter went back or jumped in this time.
    pub is_doubtful: bool,
}

/// Returns what a quantity was; `span_s` is the length of the time, seconds. `None` where its readings do not say.
pub fn derive(quantity: Observed, readings: &Summaries, span_s: f64, terms: &Terms) -> Option<Observation> {
    let look = Look { readings, span_s, terms };
    let found = match quantity {
        Observed::Temperature => look.line(Quantity::Temperature, |raw| terms.calibration.temperature_c(raw)),
        Observed::Humidity => look.line(Quantity::Humidity, |raw| terms.calibration.humidity_percent(raw)),
        Observed::Pressure => look.line(Quantity::Pressure, |raw| terms.calibration.pressure_hpa(raw)),
        Observed::Irradiance => look.line(Quantity::Irradiance, |raw| terms.calibration.irradiance_w_m2(raw)),
        Observed::PressureSeaLevel => look.sea_level(),
        Observed::DewPoint => look.bent(|air| Some(air::dew_point_c(air.temperature, air.humidity?))),
        Observed::HeatIndex => look.bent(|air| air::heat_index_c(air.temperature, air.humidity?)),
        Observed::WindChill => look.bent(|air| air::wind_chill_c(air.temperature, air.wind?)),
        Observed::WindSpeed => look.wind_speed(),
        Observed::WindGust => look.gust(),
        Observed::WindDirection => look.direction(),
        Observed::Rain => look.rain(),
        Observed::RainRate => look.rain_rate(),
        Observed::SolarEnergy => look.energy(),
        Observed::FluxX => look.axis(0),
        Observed::FluxY => look.axis(1),
        Observed::FluxZ => look.axis(2),
        Observed::FluxMagnitude => look.field(|flux| Some(magnetic::magnitude_ut(flux))),
        Observed::FluxInclination => look.field(magnetic::inclination_deg),
        Observed::FluxDeclination => look.field(magnetic::declination_deg),
        // They need more than one time.
        Observed::PressureTendency | Observed::RainHour => None,
    }?;
    [found.value, found.min, found.max].into_iter().all(f64::is_finite).then_some(found)
}

/// Returns the raw quantities that a quantity is made of.
pub fn raw_quantities(quantity: Observed) -> &'static [Quantity] {
    match quantity {
        Observed::Temperature => &[Quantity::Temperature],
        Observed::Humidity => &[Quantity::Humidity],
        Observed::DewPoint | Observed::HeatIndex => &[Quantity::Temperature, Quantity::Humidity],
        Observed::WindChill => &[Quantity::Temperature, Quantity::AnemometerCount],
        Observed::Pressure | Observed::PressureTendency => &[Quantity::Pressure],
        Observed::PressureSeaLevel => &[Quantity::Pressure, Quantity::Temperature],
        Observed::WindSpeed | Observed::WindGust => &[Quantity::AnemometerCount],
        Observed::WindDirection => &[Quantity::WindDirection],
        Observed::Rain | Observed::RainHour | Observed::RainRate => &[Quantity::RainGaugeCount],
        Observed::Irradiance | Observed::SolarEnergy => &[Quantity::Irradiance],
        Observed::FluxX
        | Observed::FluxY
        | Observed::FluxZ
        | Observed::FluxMagnitude
        | Observed::FluxInclination
        | Observed::FluxDeclination => &[Quantity::X, Quantity::Y, Quantity::Z],
    }
}

/// The air of a time, of its means.
struct Air {
    temperature: f64,
    humidity: Option<f64>,
    wind: Option<f64>,
}

struct Look<'a> {
    readings: &'a Summaries,
    span_s: f64,
    terms: &'a Terms,
}

impl Look<'_> {
    fn line(&self, quantity: Quantity, convert: impl Fn(f64) -> f64) -> Option<Observation> {
        let summary = self.readings.of(quantity)?;
        let mean = convert(summary.mean()?);
        let ends = [summary.minimum, summary.maximum].map(|end| end.map_or(mean, &convert));
        // A negative scale turns them round.
        Some(of(mean, ends[0].min(ends[1]), ends[0].max(ends[1]), summary))
    }

    fn mean(&self, quantity: Observed) -> Option<f64> {
        derive(quantity, self.readings, self.span_s, self.terms).map(|found| found.value)
    }

    fn bent(&self, formula: impl Fn(&Air) -> Option<f64>) -> Option<Observation> {
        let air = Air {
            temperature: self.mean(Observed::Temperature)?,
            humidity: self.mean(Observed::Humidity),
            wind: self.mean(Observed::WindSpeed),
        };
        let value = formula(&air)?;
        Some(of(value, value, value, self.readings.of(Quantity::Temperature)?))
    }

    fn sea_level(&self) -> Option<Observation> {
        let station = derive(Observed::Pressure, self.readings, self.span_s, self.terms)?;
        let (altitude_m, temperature) = (self.terms.altitude_m?, self.mean(Observed::Temperature)?);
        let reduced = |hpa| air::sea_level_hpa(hpa, temperature, altitude_m);
        let (value, min, max) = (reduced(station.value), reduced(station.min), reduced(station.max));
        Some(Observation { value, min, max, ..station })
    }

    fn wind_speed(&self) -> Option<Observation> {
        let summary = self.readings.of(Quantity::AnemometerCount)?;
        let speed = |rate| self.terms.calibration.wind_m_s(rate);
        // What is taken back of a counter can be more than what it rose by.
        let mean = speed(summary.sum? / summary.seconds.filter(|seconds| *seconds > 0.0)?).max(0.0);
        let ends = [summary.minimum, summary.maximum].map(|rate| rate.map_or(mean, speed));
        Some(of(mean, ends[0], ends[1], summary))
    }

    fn gust(&self) -> Option<Observation> {
        let summary = self.readings.of(Quantity::AnemometerCount)?;
        let gust = self.terms.calibration.wind_m_s(summary.maximum?);
        Some(of(gust, gust, gust, summary))
    }

    fn direction(&self) -> Option<Observation> {
        let summary = self.readings.of(Quantity::WindDirection)?;
        let value = (summary.mean()? + self.terms.calibration.vane_offset_deg).rem_euclid(360.0);
        Some(of(value, value, value, summary))
    }

    fn rain(&self) -> Option<Observation> {
        let summary = self.readings.of(Quantity::RainGaugeCount)?;
        // What was counted too much just before this time may be taken back in it.
        let value = self.terms.calibration.rain_mm(summary.sum?.max(0.0));
        Some(of(value, value, value, summary))
    }

    fn rain_rate(&self) -> Option<Observation> {
        let rain = self.rain()?;
        let value = rain.value / (self.span_s.max(RAIN_RATE_S) / 3_600.0);
        Some(Observation { value, min: value, max: value, ..rain })
    }

    fn energy(&self) -> Option<Observation> {
        let mean = derive(Observed::Irradiance, self.readings, self.span_s, self.terms)?;
        let value = mean.value * self.span_s / 3_600.0;
        Some(Observation { value, min: value, max: value, ..mean })
    }

    /// Returns the means of the axes, microtesla, in the station's own directions.
    fn flux(&self) -> Option<[f64; 3]> {
        let mean = |quantity| self.readings.of(quantity).and_then(Summary::mean);
        let raw = [mean(Quantity::X)?, mean(Quantity::Y)?, mean(Quantity::Z)?];
        Some(self.terms.calibration.flux_ut(raw))
    }

    fn axis(&self, axis: usize) -> Option<Observation> {
        let quantity = [Quantity::X, Quantity::Y, Quantity::Z][axis];
        let (summary, value) = (self.readings.of(quantity)?, self.flux()?[axis]);
        if self.terms.calibration.is_rotated() {
            // An axis is a mixture of the sensor's own then, whose extremes need not have come at one time.
            return Some(of(value, value, value, summary));
        }
        let one = |raw| self.terms.calibration.flux_ut([raw; 3])[axis];
        let ends = [summary.minimum, summary.maximum].map(|end| end.map_or(value, one));
        Some(of(value, ends[0].min(ends[1]), ends[0].max(ends[1]), summary))
    }

    fn field(&self, formula: impl Fn([f64; 3]) -> Option<f64>) -> Option<Observation> {
        let value = formula(self.flux()?)?;
        Some(of(value, value, value, self.readings.of(Quantity::X)?))
    }
}

fn of(value: f64, min: f64, max: f64, summary: &Summary) -> Observation {
    Observation { value, min, max, count: summary.count, is_doubtful: summary.resets.is_some_and(|resets| resets > 0) }
}
