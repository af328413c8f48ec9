//! The axis of values: its range, its ticks at round numbers, and how many decimals a chart tells. Pure.

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged};
use std::ops::Range;

/// Values beyond this are no readings of a weather station, and are left out.
pub(super) const LARGEST: f64 = 1e12;

/// From where to where values are drawn, and where a tick is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ValueAxis {
    low: f64,
    high: f64,
    ticks: Vec<f64>,
    /// How many decimals a tick's label has; a single value is told with one more.
    pub(super) decimals: usize,
}

impl ValueAxis {
    /// Makes the axis of directions, in degrees.
    pub(super) fn directions() -> Self {
        Self { low: 0.0, high: 360.0, ticks: vec![0.0, 90.0, 180.0, 270.0, 360.0], decimals: 0 }
    }

    /// Makes the axis of a chart without values: no tick claims a range.
    pub(super) fn empty() -> Self {
        Self { low: 0.0, high: 1.0, ticks: Vec::new(), decimals: 0 }
    }

    /// Makes the axis of values from `low` to `high`, with at most about so many ticks. A range that is next to nothing
    /// becomes one around it, and reaches no further below zero than values do.
    pub(super) fn around(low: f64, high: f64, ticks: usize) -> Self {
        let least = (low.abs().max(high.abs()) * 1e-9).max(1e-6);
        let (low, high) = if high - low >= least {
            (low, high)
        } else {
            let pad = (low.abs() * 0.005).max(0.5);
            (if low >= 0.0 { (low - pad).max(0.0) } else { low - pad }, high + pad)
        };
        let step = round_step((high - low) / ticks.max(1) as f64);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let ticks = (0..=(last - first) as usize).map(|n| (first + n as f64) * step).collect();
        let decimals = (-step.log10()).ceil().clamp(0.0, 9.0) as usize;
        Self { low: first * step, high: last * step, ticks, decimals }
    }

    /// Writes a tick's label.
    pub(super) fn label(&self, value: f64) -> String {
        decimal(value, self.decimals)
    }

    /// Writes every label, for whoever needs room for them.
    pub(super) fn labels(&self) -> Vec<String> {
        self.ticks.iter().map(|tick| self.label(*tick)).collect()
    }
}

/// The next larger of 1, 2, 5 and 10 at this power of ten.
fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.log10().floor());
    let rounded = [1.0, 2.0, 5.0].into_iter().find(|step| step * power >= raw * 0.999);
    rounded.unwrap_or(10.0) * power
}

/// Writes a number with so many decimals, with a true minus, and no minus before zero.
pub(super) fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    match text.strip_prefix('-') {
        Some(rest) if rest.chars().all(|c| c == '0' || c == '.') => rest.to_owned(),
        Some(rest) => format!("−{rest}"),
        None => text,
    }
}

impl Ranged for ValueAxis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, hint: H) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}
