//! The weather of raw readings: calibration, counters, formulas, units.
//!
//! Owns every formula with its source. Pure: values in, values out; no clock, no file, no database.

pub mod air;
pub mod calibration;
pub mod counter;
pub mod magnetic;
pub mod pressure;
pub mod quantity;
pub mod units;
pub mod wind;
