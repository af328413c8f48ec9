#![allow(clippy::unwrap_used)]
use super::*;

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 1e-9 * expected.abs().max(1.0)
}

/// The three shapes that stations have.
#[test]
fn every_shape_of_the_stations_file_is_read() {
    let now = r#"{"metadata": {"version": "1.0"}, "calibration": {"wind_speed_counts_per_ms": 3.0, "temperature_offset_k": 273.15}}"#;
    let (calibration, unknown) = Calibration::from_json(now).unwrap();
    assert_eq!((calibration.wind_speed_counts_per_ms, calibration.rain_gauge_mm_per_count), (3.0, 0.2794));
    assert!(near(calibration.temperature_c(5.22), 5.22) && unknown.is_empty());

    let turned = r#"{"version": "2.0", "calibration_values": {"magnetic_flux_x_scale": 5e-8, "own_addition": 4},
        "coordinate_transformation": {"rotation_z_degrees": 90.0, "rms_error_nt": 478.8}}"#;
    let (calibration, unknown) = Calibration::from_json(turned).unwrap();
    assert_eq!(unknown, ["own_addition"]);
    let flux = calibration.flux_ut([1_000.0, 0.0, 0.0]);
    assert!(near(flux[0] + 1.0, 1.0) && near(flux[1], 50.0), "{flux:?}");

    let old = r#"{"rain_gauge_mm_per_count": 0.2, "humidity_offset": -3, "note": "by hand"}"#;
    let (calibration, unknown) = Calibration::from_json(old).unwrap();
    assert_eq!((calibration.rain_mm(5.0), calibration.humidity_percent(50.0)), (1.0, 47.0));
    assert!(unknown.is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_key() {
    for (text, words) in [
        ("[]", "is no JSON object"),
        ("{", "is no JSON object"),
        (r#"{"calibration": 5}"#, "calibration must be an object, is 5"),
        (r#"{"calibration": {"humidity_scale": "1"}}"#, "humidity_scale must be a number, is \"1\""),
        (r#"{"rain_gauge_mm_per_count": 0}"#, "rain_gauge_mm_per_count must be above 0, is 0"),
        (r#"{"wind_speed_counts_per_ms": -1.5}"#, "wind_speed_counts_per_ms must be above 0, is -1.5"),
        (r#"{"coordinate_transformation": {"rotation_x_degrees": null}}"#, "rotation_x_degrees must be a number"),
    ] {
        let error = Calibration::from_json(text).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn pressures_and_temperatures_are_understood_in_both_units() {
    let mut calibration = Calibration::default();
    assert!(near(calibration.pressure_hpa(1004.94), 1004.94));
    (calibration.pressure_scale, calibration.pressure_offset) = (100.0, 150.0);
    assert!(near(calibration.pressure_hpa(1004.94), 1006.44));
    calibration.temperature_offset_k = -0.5;
    assert!(near(calibration.temperature_c(20.0), 19.5));
    calibration.temperature_offset_k = 272.65;
    assert!(near(calibration.temperature_c(20.0), 19.5));
    assert_eq!((calibration.humidity_percent(104.0), calibration.irradiance_w_m2(-3.0)), (100.0, 0.0));
}

/// The kit's datasheet: 2.4 km/h for one closure a second, 0.2794 mm a tip.
#[test]
fn the_usual_kit_is_the_default() {
    let calibration = Calibration::default();
    assert!((calibration.wind_m_s(1.0) * 3.6 - 2.4).abs() < 0.001);
    assert!(near(calibration.rain_mm(10.0), 2.794));
    // HMC5883L: 1,090 LSb per gauss.
    assert!((calibration.flux_ut([1090.0, 0.0, 0.0])[0] - 100.0).abs() < 0.01);
}

#[test]
fn a_turn_keeps_the_magnitude_and_goes_about_x_then_y_then_z() {
    let rotation_deg = [-135.08, -92.26, 176.16];
    let turned = Calibration { rotation_deg, ..Calibration::default() };
    let (before, after) =
        (Calibration::default().flux_ut([1115.0, -558.0, -305.0]), turned.flux_ut([1115.0, -558.0, -305.0]));
    let length = |flux: [f64; 3]| flux.iter().map(|axis| axis * axis).sum::<f64>().sqrt();
    assert!(near(length(before), length(after)) && before != after);
    let quarter = Calibration { rotation_deg: [90.0, 90.0, 0.0], ..Calibration::default() };
    // y goes to z, and z to x.
    let flux = quarter.flux_ut([0.0, 1090.0, 0.0]);
    assert!((flux[0] - 100.0).abs() < 0.01 && flux[1].abs() < 1e-9 && flux[2].abs() < 1e-9, "{flux:?}");
}

#[test]
fn a_vane_points_where_its_table_says() {
    let vane = Vane::sparkfun_12_bit();
    for (raw, degrees) in SPARKFUN_12_BIT {
        assert_eq!(vane.direction_deg(raw), Some(degrees));
        assert_eq!(vane.direction_deg(raw + 8.0), Some(degrees), "noise of 8 counts at {degrees}");
    }
    assert_eq!((Vane::Degrees.direction_deg(360.0), Vane::Degrees.direction_deg(96.0)), (Some(0.0), Some(96.0)));
    assert_eq!((Vane::Degrees.direction_deg(361.0), Vane::Degrees.direction_deg(-1.0)), (None, None));
    assert_eq!((vane.direction_deg(f64::NAN), Vane::Table(Vec::new()).direction_deg(1.0)), (None, None));
    assert_ne!(vane.signature(), Vane::Degrees.signature());
    assert_ne!(vane.signature(), Vane::Table(vec![(3143.0, 1.0)]).signature());
}
