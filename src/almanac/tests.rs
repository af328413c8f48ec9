#![allow(clippy::unwrap_used)]
use super::derive::derive;
use super::*;
use crate::reading::{Kind, Quantity};
use crate::store::Days;
use crate::store::Summary;
use crate::store::series::Summaries;
use crate::weather::calibration::{Calibration, Sensors};
use crate::weather::quantity::Observed;

fn terms() -> Terms {
    Terms {
        calibration: Calibration::default(),
        sensors: Sensors::default(),
        altitude_m: Some(100.0),
        days: Days::utc(),
    }
}

fn counted(rise: f64, seconds: f64, highest: f64) -> Summary {
    Summary {
        count: 120,
        minimum: Some(0.0),
        maximum: Some(highest),
        sum: Some(rise),
        resets: Some(0),
        seconds: Some(seconds),
        ..Summary::default()
    }
}

fn value(quantity: Observed, readings: &Summaries, terms: &Terms) -> Option<f64> {
    derive(quantity, readings, 600.0, terms).map(|found| found.value)
}

#[test]
fn what_a_counter_takes_back_makes_no_wind_below_nothing() {
    let mut readings = Summaries::of_reading(Kind::Weather, &[None; 7], &Sensors::default());
    readings.add(Quantity::AnemometerCount, &counted(-90.0, 300.0, 0.0));
    assert_eq!(value(Observed::WindSpeed, &readings, &terms()), Some(0.0));
}

fn near(found: Option<f64>, expected: f64) -> bool {
    found.is_some_and(|found| (found - expected).abs() < 0.01)
}

#[test]
fn every_quantity_comes_of_its_readings() {
    let values = [5.0, 60.0, 1000.0, 200.0, 96.0, 170.0, 900.0].map(Some);
    let mut readings = Summaries::of_reading(Kind::Weather, &values, &Sensors::default());
    let terms = terms();
    assert!(near(value(Observed::Temperature, &readings, &terms), 5.0));
    assert!(near(value(Observed::WindDirection, &readings, &terms), 96.0));
    assert!(near(value(Observed::SolarEnergy, &readings, &terms), 200.0 / 6.0));
    assert_eq!(value(Observed::Rain, &readings, &terms), None, "one value of a count is no rain");
    assert_eq!(value(Observed::WindChill, &readings, &terms), None, "no wind is known");
    readings.add(Quantity::AnemometerCount, &counted(9_000.0, 600.0, 30.0));
    readings.add(Quantity::RainGaugeCount, &counted(10.0, 600.0, 0.2));
    // 15 counts a second are 10 m/s.
    assert!(near(value(Observed::WindSpeed, &readings, &terms), 10.0));
    assert!(near(value(Observed::WindGust, &readings, &terms), 20.0));
    assert!(near(value(Observed::Rain, &readings, &terms), 2.794));
    assert!(near(value(Observed::RainRate, &readings, &terms), 16.764));
    assert!(value(Observed::WindChill, &readings, &terms).unwrap() < 1.0);
    assert!(value(Observed::PressureSeaLevel, &readings, &terms).unwrap() > 1012.0);
    assert_eq!(value(Observed::HeatIndex, &readings, &terms), None, "it is not hot");
    let nowhere = Terms { altitude_m: None, ..terms };
    assert_eq!(value(Observed::PressureSeaLevel, &readings, &nowhere), None);
}

#[test]
fn a_negative_scale_turns_the_ends_round_and_a_rotation_has_none() {
    let mut readings = Summaries::default();
    for temperature in [10.0, 20.0] {
        let values = [Some(temperature), None, None, None, None, None, None];
        readings.merge(&Summaries::of_reading(Kind::Weather, &values, &Sensors::default()));
    }
    let mut terms = terms();
    terms.calibration.temperature_scale = -1.0;
    let found = derive(Observed::Temperature, &readings, 1.0, &terms).unwrap();
    assert_eq!((found.value, found.min, found.max, found.count), (-15.0, -20.0, -10.0, 2));

    let mut flux = Summaries::default();
    for x in [1_000.0, 2_000.0] {
        flux.merge(&Summaries::of_reading(Kind::Magnetic, &[Some(x), Some(0.0), Some(0.0)], &Sensors::default()));
    }
    let found = derive(Observed::FluxX, &flux, 1.0, &terms).unwrap();
    assert!((found.min - 91.74).abs() < 0.01 && (found.max - 183.48).abs() < 0.01, "{found:?}");
    terms.calibration.rotation_deg = [0.0, 0.0, 90.0];
    let found = derive(Observed::FluxY, &flux, 1.0, &terms).unwrap();
    assert!(found.min == found.max && (found.value - 137.61).abs() < 0.01, "{found:?}");
}
