//! The air: dew point, how warm it feels, and its pressure at sea level.
//!
//! Owns these formulas, each with its source and where it holds.

/// Magnus coefficients over water: WMO-No. 8 (2018), part I, annex 4.B.
const MAGNUS_HPA: f64 = 6.112;
const MAGNUS_A: f64 = 17.62;
const MAGNUS_B: f64 = 243.12;
const KELVIN: f64 = 273.15;
/// A humidity of 0 has no dew point: no sensor tells it from this one, percent.
const HUMIDITY_MIN: f64 = 0.1;

/// Returns the dew point, degrees Celsius, by the Magnus formula over water (WMO-No. 8 (2018), part I, annex 4.B; -45 to 60 °C).
pub fn dew_point_c(temperature_c: f64, humidity_percent: f64) -> f64 {
    let vapour =
        (humidity_percent.max(HUMIDITY_MIN) / 100.0).ln() + MAGNUS_A * temperature_c / (MAGNUS_B + temperature_c);
    MAGNUS_B * vapour / (MAGNUS_A - vapour)
}

/// Returns the pressure of saturated vapour over water, hectopascal, by the same formula.
pub fn saturation_hpa(temperature_c: f64) -> f64 {
    MAGNUS_HPA * (MAGNUS_A * temperature_c / (MAGNUS_B + temperature_c)).exp()
}

/// Returns the heat index, degrees Celsius; `None` below 80 °F, where it says nothing.
///
/// By the US National Weather Service (Weather Prediction Center, "The Heat Index Equation"): Rothfusz's regression of
/// Steadman's table, with both adjustments; below an index of 80 °F Steadman's simple formula.
pub fn heat_index_c(temperature_c: f64, humidity_percent: f64) -> Option<f64> {
    let (t, r) = (temperature_c * 1.8 + 32.0, humidity_percent);
    if t < 80.0 {
        return None;
    }
    let simple = 0.5 * (t + 61.0 + (t - 68.0) * 1.2 + r * 0.094);
    let index = if f64::midpoint(simple, t) < 80.0 { simple } else { rothfusz(t, r) };
    Some((index - 32.0) / 1.8)
}

fn rothfusz(t: f64, r: f64) -> f64 {
    let index = -42.379 + 2.049_015_23 * t + 10.143_331_27 * r
        - 0.224_755_41 * t * r
        - 0.006_837_83 * t * t
        - 0.054_817_17 * r * r
        + 0.001_228_74 * t * t * r
        + 0.000_852_82 * t * r * r
        - 0.000_001_99 * t * t * r * r;
    if r < 13.0 && t <= 112.0 {
        index - (13.0 - r) / 4.0 * ((17.0 - (t - 95.0).abs()) / 17.0).max(0.0).sqrt()
    } else if r > 85.0 && t <= 87.0 {
        index + (r - 85.0) / 10.0 * ((87.0 - t) / 5.0)
    } else {
        index
    }
}

/// Returns the wind chill, degrees Celsius; `None` above 10 °C and below 4.8 km/h, where it says nothing.
///
/// By the index of 2001 that the weather services of the USA and Canada share (Osczevski and Bluestein, 2005).
pub fn wind_chill_c(temperature_c: f64, wind_m_s: f64) -> Option<f64> {
    let km_h = wind_m_s * 3.6;
    if temperature_c > 10.0 || km_h <= 4.8 {
        return None;
    }
    let wind = km_h.powf(0.16);
    Some(13.12 + 0.6215 * temperature_c - 11.37 * wind + 0.3965 * temperature_c * wind)
}

/// Returns the pressure at sea level, hectopascal, of that at a station, metres above it.
///
/// The hypsometric formula with the mean temperature of the column below the station, which is warmer by 6.5 K for each kilometre
/// (ICAO standard lapse rate); the vapour's part is left out.
pub fn sea_level_hpa(station_hpa: f64, temperature_c: f64, altitude_m: f64) -> f64 {
    let mean_k = temperature_c + KELVIN + 0.0065 * altitude_m / 2.0;
    station_hpa * (9.806_65 * altitude_m / (287.05 * mean_k)).exp()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn c(fahrenheit: f64) -> f64 {
        (fahrenheit - 32.0) / 1.8
    }

    fn f(celsius: f64) -> f64 {
        celsius * 1.8 + 32.0
    }

    /// US National Weather Service, heat index chart (weather.gov/safety/heat-index): °F, %, °F.
    #[test]
    fn the_heat_index_chart() {
        for (t, r, index) in [
            (80.0, 40.0, 80.0),
            (84.0, 60.0, 88.0),
            (90.0, 50.0, 95.0),
            (90.0, 70.0, 105.0),
            (94.0, 60.0, 110.0),
            (100.0, 40.0, 109.0),
            (100.0, 55.0, 124.0),
            (88.0, 85.0, 110.0),
            (110.0, 40.0, 136.0),
        ] {
            let found = f(heat_index_c(c(t), r).unwrap());
            assert!((found - index).abs() <= 1.5, "{t} °F, {r} %: {found:.1}, not {index}");
        }
        assert_eq!(heat_index_c(26.0, 60.0), None);
    }

    /// US National Weather Service, wind chill chart (weather.gov/safety/cold-wind-chill-chart): °F, mph, °F.
    #[test]
    fn the_wind_chill_chart() {
        for (t, mph, chill) in [
            (40.0, 5.0, 36.0),
            (30.0, 20.0, 17.0),
            (20.0, 30.0, 1.0),
            (0.0, 15.0, -19.0),
            (-20.0, 40.0, -57.0),
            (-45.0, 60.0, -98.0),
        ] {
            let found = f(wind_chill_c(c(t), mph * 0.447_04).unwrap());
            assert!((found - chill).abs() <= 0.6, "{t} °F, {mph} mph: {found:.1}, not {chill}");
        }
        assert_eq!((wind_chill_c(10.1, 9.0), wind_chill_c(0.0, 1.3)), (None, None));
    }

    /// Saturation vapour pressure over water: Smithsonian Meteorological Tables (6th edition), table 94, hPa.
    #[test]
    fn the_saturation_table() {
        for (t, hpa) in [(-20.0, 1.254), (0.0, 6.108), (10.0, 12.272), (20.0, 23.373), (30.0, 42.430), (40.0, 73.777)] {
            assert!((saturation_hpa(t) / hpa - 1.0).abs() < 0.005, "{t} °C: {}", saturation_hpa(t));
        }
    }

    /// A dew point is where the vapour that is there saturates the air; pairs of the US NWS dew point calculator's chart.
    #[test]
    fn dew_points() {
        for (t, r, dew) in
            [(20.0, 50.0, 9.3), (25.0, 60.0, 16.7), (30.0, 80.0, 26.2), (10.0, 90.0, 8.4), (0.0, 70.0, -4.8)]
        {
            let found = dew_point_c(t, r);
            assert!((found - dew).abs() < 0.15, "{t} °C, {r} %: {found:.2}, not {dew}");
            assert!((saturation_hpa(found) / saturation_hpa(t) * 100.0 - r).abs() < 1e-6);
        }
        assert!(dew_point_c(20.0, 0.0).is_finite() && (dew_point_c(15.0, 100.0) - 15.0).abs() < 1e-9);
    }

    /// ICAO Doc 7488, standard atmosphere: altitude, temperature, pressure; at sea level 1013.25 hPa.
    #[test]
    fn the_standard_atmosphere_comes_to_1013_hpa_at_sea_level() {
        for (m, t, hpa) in
            [(0.0, 15.0, 1013.25), (500.0, 11.75, 954.61), (1_000.0, 8.5, 898.75), (2_000.0, 2.0, 794.95)]
        {
            let found = sea_level_hpa(hpa, t, m);
            assert!((found - 1013.25).abs() < 0.35, "{m} m: {found:.2}");
        }
        assert!(sea_level_hpa(1000.0, 15.0, -100.0) < 1000.0);
    }
}
