//! The magnetic field out of its components: x to the north, y to the east, z down (the convention of the World Magnetic Model).
//!
//! Owns magnitude, inclination and declination.

/// Returns the magnitude, in the unit of the components.
pub fn magnitude_ut([x, y, z]: [f64; 3]) -> f64 {
    x.hypot(y).hypot(z)
}

/// Returns the inclination, -90 to 90 degrees, positive where the field points down; `None` where there is no field.
pub fn inclination_deg(flux: [f64; 3]) -> Option<f64> {
    let [x, y, z] = flux;
    (magnitude_ut(flux) > 0.0).then(|| z.atan2(x.hypot(y)).to_degrees())
}

/// Returns the declination, -180 to 180 degrees, positive to the east; `None` where the field has no horizontal part.
pub fn declination_deg([x, y, _]: [f64; 3]) -> Option<f64> {
    (x.hypot(y) > 0.0).then(|| y.atan2(x).to_degrees())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// WMM2020 test values (NOAA NCEI, WMM2020_TEST_VALUES.txt), 2020.0, height 0 km: components and what follows, nT and degrees.
    #[test]
    fn the_test_values_of_the_world_magnetic_model() {
        for ([x, y, z], (f, inclination, declination)) in [
            ([6_570.4, -146.3, 54_606.0], (55_000.1, 83.14, -1.28)),
            ([39_624.3, 109.9, -10_932.5], (41_104.9, -15.42, 0.16)),
            ([5_940.6, 15_772.1, -52_480.8], (55_120.6, -72.20, 69.36)),
        ] {
            let flux = [x, y, z];
            assert!((magnitude_ut(flux) - f).abs() < 1.0, "{} {f}", magnitude_ut(flux));
            assert!((inclination_deg(flux).unwrap() - inclination).abs() < 0.02, "{:?}", inclination_deg(flux));
            assert!((declination_deg(flux).unwrap() - declination).abs() < 0.02, "{:?}", declination_deg(flux));
        }
        assert_eq!((inclination_deg([0.0; 3]), declination_deg([0.0, 0.0, 5.0])), (None, None));
    }
}
