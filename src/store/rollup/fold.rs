//! How values become the summary of a time.
//!
//! Owns the arithmetic of rollups: it is pure, and knows no table. It never looks at a clock.

use super::Summary;
use crate::reading::Quantity;
use crate::weather::calibration::{Sensors, Vane};
use crate::weather::counter::{Counter, Kind, Limits, Step};

/// Returns a counter for a quantity that is a count; `None` for any other.
pub(super) fn counter(quantity: Quantity, sensors: &Sensors) -> Option<Counter> {
    match quantity {
        Quantity::RainGaugeCount => Some(Counter::new(Limits::Rain)),
        Quantity::AnemometerCount => Some(Counter::new(Limits::Wind(sensors.wind_counts_max))),
        _ => None,
    }
}

/// What a reading says of a quantity.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen {
    /// A value.
    Value(f64),
    /// A direction, degrees.
    Direction(f64),
    /// What a count came to, at a time, Unix seconds.
    Count(i64, Step),
}

impl Seen {
    /// Takes a value that is no count; `None` for a direction that is none.
    pub(super) fn value(quantity: Quantity, value: f64, vane: &Vane) -> Option<Seen> {
        match quantity {
            Quantity::WindDirection => vane.direction_deg(value).map(Seen::Direction),
            _ => Some(Seen::Value(value)),
        }
    }
}

impl Summary {
    /// Makes one of a single value; `None` for what comes to nothing by itself, as a count does.
    pub fn of_value(quantity: Quantity, value: f64, sensors: &Sensors) -> Option<Summary> {
        if counter(quantity, sensors).is_some() {
            return None;
        }
        let mut summary = Summary::default();
        summary.add(Seen::value(quantity, value, &sensors.vane)?);
        Some(summary)
    }

    /// Adds what a reading says.
    pub(super) fn add(&mut self, seen: Seen) {
        self.count += 1;
        match seen {
            Seen::Value(value) => self.add_value(value),
            Seen::Direction(degrees) => {
                let (sin, cos) = degrees.to_radians().sin_cos();
                *self.sum_sin.get_or_insert(0.0) += sin;
                *self.sum_cos.get_or_insert(0.0) += cos;
            }
            Seen::Count(time_s, step) => self.add_step(time_s, step),
        }
    }

    /// Adds what a value of a count came to; lowest and highest are rises a second.
    fn add_step(&mut self, time_s: i64, step: Step) {
        *self.resets.get_or_insert(0) += i64::from(step.is_doubtful());
        if matches!(step.kind, Kind::First | Kind::Held) {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "seconds between two readings")]
        let seconds = time_s.saturating_sub(step.since_s).max(1) as f64;
        if step.rise >= 0.0 {
            self.add_end(step.rise / seconds);
        }
        *self.sum.get_or_insert(0.0) += step.rise;
        *self.seconds.get_or_insert(0.0) += seconds;
    }

    fn add_value(&mut self, value: f64) {
        self.add_end(value);
        *self.sum.get_or_insert(0.0) += value;
    }

    fn add_end(&mut self, value: f64) {
        self.minimum = Some(self.minimum.map_or(value, |minimum| minimum.min(value)));
        self.maximum = Some(self.maximum.map_or(value, |maximum| maximum.max(value)));
    }

    /// Adds what another time came to.
    pub(in crate::store) fn merge(&mut self, other: &Summary) {
        let both = |a: Option<f64>, b: Option<f64>, join: fn(f64, f64) -> f64| match (a, b) {
            (Some(a), Some(b)) => Some(join(a, b)),
            (a, b) => a.or(b),
        };
        self.count += other.count;
        self.minimum = both(self.minimum, other.minimum, f64::min);
        self.maximum = both(self.maximum, other.maximum, f64::max);
        self.sum = both(self.sum, other.sum, |a, b| a + b);
        self.sum_sin = both(self.sum_sin, other.sum_sin, |a, b| a + b);
        self.sum_cos = both(self.sum_cos, other.sum_cos, |a, b| a + b);
        self.seconds = both(self.seconds, other.seconds, |a, b| a + b);
        self.resets = match (self.resets, other.resets) {
            (Some(a), Some(b)) => Some(a + b),
            (a, b) => a.or(b),
        };
    }

    /// Returns the mean of the values; of a direction, degrees, where it has one.
    pub fn mean(&self) -> Option<f64> {
        #[allow(clippy::cast_precision_loss, reason = "readings of a day")]
        let count = self.count as f64;
        match (self.sum_sin, self.sum_cos) {
            (Some(sin), Some(cos)) if sin.hypot(cos) > count * 1e-9 => {
                Some(sin.atan2(cos).to_degrees().rem_euclid(360.0))
            }
            (Some(_), _) => None,
            _ => self.sum.map(|sum| sum / count),
        }
    }
}
