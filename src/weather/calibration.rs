//! Calibration: from what a sensor sends to physical values, and the station's own file of it.
//!
//! Owns the shapes of `weather_station_calibration.json`. The formula is the station's: value × scale + offset. Defaults are those
//! of the usual kit (SparkFun weather meters, Argent 80422: 1.5 closures per second for each metre per second, 0.2794 mm a tip;
//! HMC5883L: 9.174e-8 T per LSb), not those of the station's program, which fit no sensor.

use serde_json::{Map, Value};

/// Below this an offset of the temperature is a correction in degrees, above it turns degrees Celsius into kelvin.
const KELVIN_OFFSET_MIN: f64 = 100.0;
const KELVIN: f64 = 273.15;
/// From this scale on a pressure becomes pascal; below, it stays the hectopascal that the sensor sends.
const PASCAL_SCALE_MIN: f64 = 10.0;
const MICROTESLA: f64 = 1e6;
/// Where the station's file has its values: in one of these objects, or beside everything else.
const SECTIONS: [&str; 2] = ["calibration", "calibration_values"];
const TURN: &str = "coordinate_transformation";

/// What turns raw values into physical ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// Counts per second for each metre per second of wind.
    pub wind_speed_counts_per_ms: f64,
    /// Millimetres of rain for each tip.
    pub rain_gauge_mm_per_count: f64,
    /// Scale of the temperature.
    pub temperature_scale: f64,
    /// Offset of the temperature: kelvin where it is about 273.15, else a correction.
    pub temperature_offset_k: f64,
    /// Scale of the humidity.
    pub humidity_scale: f64,
    /// Offset of the humidity, percent.
    pub humidity_offset: f64,
    /// Scale of the pressure: 1 keeps hectopascal, 100 makes pascal.
    pub pressure_scale: f64,
    /// Offset of the pressure, pascal.
    pub pressure_offset: f64,
    /// Scale of the irradiance.
    pub irradiance_scale: f64,
    /// Offset of the irradiance, watt per square metre.
    pub irradiance_offset: f64,
    /// How far the vane's north lies east of true north, degrees.
    pub vane_offset_deg: f64,
    /// Tesla per count, by axis.
    pub magnetic_flux_scale: [f64; 3],
    /// Offset, tesla, by axis.
    pub magnetic_flux_offset: [f64; 3],
    /// Angles by which the magnetometer is turned about x, then y, then z, degrees.
    pub rotation_deg: [f64; 3],
}

impl Default for Calibration {
    fn default() -> Calibration {
        Calibration {
            wind_speed_counts_per_ms: 1.5,
            rain_gauge_mm_per_count: 0.2794,
            temperature_scale: 1.0,
            temperature_offset_k: 0.0,
            humidity_scale: 1.0,
            humidity_offset: 0.0,
            pressure_scale: 1.0,
            pressure_offset: 0.0,
            irradiance_scale: 1.0,
            irradiance_offset: 0.0,
            vane_offset_deg: 0.0,
            magnetic_flux_scale: [9.174e-8; 3],
            magnetic_flux_offset: [0.0; 3],
            rotation_deg: [0.0; 3],
        }
    }
}

/// Why a calibration file cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// It is no JSON object.
    #[error("is no JSON object: {0}")]
    NoObject(String),
    /// A value is none that it may be.
    #[error("{key} must be {allowed}, is {found}")]
    Value {
        /// Its key.
        key: String,
        /// What it may be.
        allowed: &'static str,
        /// What it is.
        found: String,
    },
}

impl Calibration {
    /// Reads the station's file: its values stand under `calibration`, under `calibration_values`, or at the top. Returns the
    /// calibration, with defaults for what is missing, and the names of numbers that are not known.
    ///
    /// # Errors
    /// [`CalibrationError`].
    pub fn from_json(text: &str) -> Result<(Calibration, Vec<String>), CalibrationError> {
        let no_object = |what: &dyn std::fmt::Display| CalibrationError::NoObject(what.to_string());
        let file: Value = serde_json::from_str(text).map_err(|error| no_object(&error))?;
        let Value::Object(file) = file else { return Err(no_object(&"it is another value")) };
        let section = SECTIONS.iter().find_map(|name| Some((*name, file.get(*name)?)));
        let values = match section {
            Some((_, Value::Object(values))) => values,
            Some((name, other)) => return Err(wrong(name, "an object", other)),
            None => &file,
        };
        let mut calibration = Calibration::default();
        let mut unknown = Vec::new();
        for (key, value) in values {
            let known = calibration.values_mut().into_iter().find(|(name, ..)| name == key);
            match known {
                Some((_, place, is_positive)) => {
                    *place = number(key, value)?;
                    if is_positive && *place <= 0.0 {
                        return Err(wrong(key, "above 0", place));
                    }
                }
                None if value.is_number() && section.is_some() => unknown.push(key.clone()),
                None => {}
            }
        }
        if let Some(turn) = file.get(TURN).or_else(|| values.get(TURN)) {
            let Value::Object(turn) = turn else { return Err(wrong(TURN, "an object", turn)) };
            calibration.turn(turn)?;
        }
        Ok((calibration, unknown))
    }

    /// Returns every value with its name in the station's file, and whether it has to be above 0.
    pub fn values_mut(&mut self) -> [(&'static str, &mut f64, bool); 17] {
        let [x_scale, y_scale, z_scale] = &mut self.magnetic_flux_scale;
        let [x_offset, y_offset, z_offset] = &mut self.magnetic_flux_offset;
        [
            ("wind_speed_counts_per_ms", &mut self.wind_speed_counts_per_ms, true),
            ("rain_gauge_mm_per_count", &mut self.rain_gauge_mm_per_count, true),
            ("temperature_scale", &mut self.temperature_scale, false),
            ("temperature_offset_k", &mut self.temperature_offset_k, false),
            ("humidity_scale", &mut self.humidity_scale, false),
            ("humidity_offset", &mut self.humidity_offset, false),
            ("pressure_scale", &mut self.pressure_scale, false),
            ("pressure_offset", &mut self.pressure_offset, false),
            ("irradiance_scale", &mut self.irradiance_scale, false),
            ("irradiance_offset", &mut self.irradiance_offset, false),
            ("vane_offset_deg", &mut self.vane_offset_deg, false),
            ("magnetic_flux_x_scale", x_scale, false),
            ("magnetic_flux_y_scale", y_scale, false),
            ("magnetic_flux_z_scale", z_scale, false),
            ("magnetic_flux_x_offset", x_offset, false),
            ("magnetic_flux_y_offset", y_offset, false),
            ("magnetic_flux_z_offset", z_offset, false),
        ]
    }

    fn turn(&mut self, turn: &Map<String, Value>) -> Result<(), CalibrationError> {
        for (axis, key) in ["rotation_x_degrees", "rotation_y_degrees", "rotation_z_degrees"].into_iter().enumerate() {
            if let Some(value) = turn.get(key) {
                self.rotation_deg[axis] = number(key, value)?;
            }
        }
        Ok(())
    }

    /// Returns a temperature, degrees Celsius.
    pub fn temperature_c(&self, raw: f64) -> f64 {
        let value = raw * self.temperature_scale + self.temperature_offset_k;
        if self.temperature_offset_k.abs() >= KELVIN_OFFSET_MIN { value - KELVIN } else { value }
    }

    /// Returns a relative humidity, 0 to 100 percent.
    pub fn humidity_percent(&self, raw: f64) -> f64 {
        (raw * self.humidity_scale + self.humidity_offset).clamp(0.0, 100.0)
    }

    /// Returns an air pressure, hectopascal.
    pub fn pressure_hpa(&self, raw: f64) -> f64 {
        let is_pascal = self.pressure_scale.abs() >= PASCAL_SCALE_MIN;
        let scaled = raw * self.pressure_scale;
        (if is_pascal { scaled / 100.0 } else { scaled }) + self.pressure_offset / 100.0
    }

    /// Returns an irradiance, watt per square metre, not below 0.
    pub fn irradiance_w_m2(&self, raw: f64) -> f64 {
        (raw * self.irradiance_scale + self.irradiance_offset).max(0.0)
    }

    /// Returns a wind speed, metres per second, of so many counts per second.
    pub fn wind_m_s(&self, counts_per_second: f64) -> f64 {
        counts_per_second / self.wind_speed_counts_per_ms
    }

    /// Returns what has to be known of the sensors before their readings are put together.
    pub fn sensors(&self, vane: Vane) -> Sensors {
        Sensors { vane, wind_counts_max: WIND_M_S_MAX * self.wind_speed_counts_per_ms }
    }

    /// Returns the rain of so many tips, millimetres.
    pub fn rain_mm(&self, counts: f64) -> f64 {
        counts * self.rain_gauge_mm_per_count
    }

    /// Tells whether the magnetometer's axes are turned into others.
    pub fn is_rotated(&self) -> bool {
        self.rotation_deg != [0.0; 3]
    }

    /// Returns the magnetic flux density, microtesla: scaled, turned about x, then y, then z, and the offset added, as the
    /// station's own calibrator does it.
    pub fn flux_ut(&self, raw: [f64; 3]) -> [f64; 3] {
        let [mut x, mut y, mut z] = [0, 1, 2].map(|axis| raw[axis] * self.magnetic_flux_scale[axis]);
        if self.is_rotated() {
            let [about_x, about_y, about_z] = self.rotation_deg.map(|angle| angle.to_radians().sin_cos());
            (y, z) = (y * about_x.1 - z * about_x.0, y * about_x.0 + z * about_x.1);
            (x, z) = (x * about_y.1 + z * about_y.0, z * about_y.1 - x * about_y.0);
            (x, y) = (x * about_z.1 - y * about_z.0, x * about_z.0 + y * about_z.1);
        }
        let [x_offset, y_offset, z_offset] = self.magnetic_flux_offset;
        [x + x_offset, y + y_offset, z + z_offset].map(|tesla| tesla * MICROTESLA)
    }
}

fn number(key: &str, value: &Value) -> Result<f64, CalibrationError> {
    value.as_f64().filter(|number| number.is_finite()).ok_or_else(|| wrong(key, "a number", value))
}

fn wrong(key: &str, allowed: &'static str, found: &dyn std::fmt::Display) -> CalibrationError {
    let found: String = found.to_string().chars().take(60).collect();
    CalibrationError::Value { key: key.to_owned(), allowed, found }
}

/// The highest wind that is believed, metres per second: above the record of 113.2 (Barrow Island, 1996; WMO World Weather and
/// Climate Extremes Archive).
const WIND_M_S_MAX: f64 = 120.0;

/// What has to be known of the sensors before their readings are put together.
#[derive(Clone, Debug, PartialEq)]
pub struct Sensors {
    /// What the vane's readings mean.
    pub vane: Vane,
    /// Counts of the anemometer within a second, at most.
    pub wind_counts_max: f64,
}

impl Default for Sensors {
    fn default() -> Sensors {
        Calibration::default().sensors(Vane::Degrees)
    }
}

impl Sensors {
    /// Returns a short text that is another one where readings come to something else; empty for the usual ones.
    pub fn signature(&self) -> String {
        match (self == &Sensors::default(), &self.vane) {
            (true, _) => String::new(),
            (false, vane) => format!("{} {}", vane.signature(), self.wind_counts_max),
        }
    }
}

/// What a vane's readings mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Vane {
    /// They are degrees.
    #[default]
    Degrees,
    /// Each position has a reading; what comes is the nearest.
    Table(Vec<(f64, f64)>),
}

/// SparkFun weather meters behind 10 kΩ at 5 V, read by a converter of 12 bit: reading and degrees of each position, by the
/// kit's datasheet.
const SPARKFUN_12_BIT: [(f64, f64); 16] = [
    (3143.0, 0.0),
    (1624.0, 22.5),
    (1845.0, 45.0),
    (335.0, 67.5),
    (372.0, 90.0),
    (264.0, 112.5),
    (738.0, 135.0),
    (506.0, 157.5),
    (1149.0, 180.0),
    (979.0, 202.5),
    (2520.0, 225.0),
    (2397.0, 247.5),
    (3780.0, 270.0),
    (3309.0, 292.5),
    (3548.0, 315.0),
    (2810.0, 337.5),
];

impl Vane {
    /// Returns the table of the usual kit.
    pub fn sparkfun_12_bit() -> Vane {
        Vane::Table(SPARKFUN_12_BIT.to_vec())
    }

    /// Returns the direction that a reading means, 0 to below 360 degrees; `None` for what is no direction.
    pub fn direction_deg(&self, raw: f64) -> Option<f64> {
        match self {
            Vane::Degrees => (0.0..=360.0).contains(&raw).then(|| raw.rem_euclid(360.0)),
            Vane::Table(table) if raw.is_finite() => {
                let distance = |entry: &&(f64, f64)| (entry.0 - raw).abs();
                table
                    .iter()
                    .min_by(|a, b| distance(a).total_cmp(&distance(b)))
                    .map(|(_, degrees)| degrees.rem_euclid(360.0))
            }
            Vane::Table(_) => None,
        }
    }

    /// Returns a short text that is another one where the readings mean something else.
    pub fn signature(&self) -> String {
        match self {
            Vane::Degrees => "degrees".to_owned(),
            Vane::Table(table) => {
                let bytes: Vec<u8> = table
                    .iter()
                    .flat_map(|(raw, degrees)| [raw.to_bits(), degrees.to_bits()])
                    .flat_map(u64::to_le_bytes)
                    .collect();
                format!("table {:016x}", xxhash_rust::xxh3::xxh3_64(&bytes))
            }
        }
    }
}

#[cfg(test)]
#[path = "calibration_tests.rs"]
mod tests;
