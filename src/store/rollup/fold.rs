//! How values become the summary of a time.
//!
//! Owns the arithmetic of rollups: it is pure, and knows no table. It never looks at a clock.

use super::Summary;
use crate::reading::Quantity;

/// How much a count can rise in a second, by far: what rises faster is a glitch, and nothing is made of it.
const RAIN_RATE_MAX: f64 = 10.0;
const WIND_RATE_MAX: f64 = 10_000.0;

/// A value of a series, as it comes in the order of time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) time_s: i64,
    pub(super) value: f64,
}

/// Whether a quantity is a count that only rises.
pub(super) fn is_count(quantity: Quantity) -> bool {
    rate_max(quantity).is_some()
}

fn rate_max(quantity: Quantity) -> Option<f64> {
    match quantity {
        Quantity::RainGaugeCount => Some(RAIN_RATE_MAX),
        Quantity::AnemometerCount => Some(WIND_RATE_MAX),
        _ => None,
    }
}

impl Summary {
    /// Adds a value; `before` is the series' previous one, of which a count needs to know.
    pub(super) fn add(&mut self, quantity: Quantity, point: Point, before: Option<Point>) {
        self.count += 1;
        if quantity == Quantity::WindDirection {
            // Taken as degrees.
            let (sin, cos) = point.value.to_radians().sin_cos();
            *self.sum_sin.get_or_insert(0.0) += sin;
            *self.sum_cos.get_or_insert(0.0) += cos;
            return;
        }
        let Some(rate_max) = rate_max(quantity) else { return self.add_value(point.value) };
        self.resets.get_or_insert(0);
        let Some(before) = before else { return };
        let rise = point.value - before.value;
        #[allow(clippy::cast_precision_loss, reason = "seconds between two readings")]
        let seconds = (point.time_s - before.time_s).max(1) as f64;
        if (0.0..=rate_max * seconds).contains(&rise) {
            self.add_value(rise);
        } else {
            *self.resets.get_or_insert(0) += 1;
        }
    }

    fn add_value(&mut self, value: f64) {
        self.minimum = Some(self.minimum.map_or(value, |minimum| minimum.min(value)));
        self.maximum = Some(self.maximum.map_or(value, |maximum| maximum.max(value)));
        *self.sum.get_or_insert(0.0) += value;
    }

    /// Adds what another time came to.
    pub(super) fn merge(&mut self, other: &Summary) {
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
