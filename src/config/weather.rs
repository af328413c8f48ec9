//! Section `[weather]`: how raw readings become weather, and in which units it is shown.
//!
//! Owns its keys, and the reading of the station's own calibration file. What `hub.toml` says of a value wins over that file.

use std::fs;
use std::path::{Path, PathBuf};

use super::reader::Reader;
use crate::weather::calibration::{Calibration, Sensors, Vane};
use crate::weather::units::Units;

/// The station's own file, which is taken where it lies beside `hub.toml`.
const FILE: &str = "weather_station_calibration.json";
/// A calibration file is a few hundred bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Positions of a vane's table, at most.
const POSITIONS_MAX: usize = 360;

/// Section `[weather]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weather {
    /// The calibration file that was read.
    pub calibration_file: Option<PathBuf>,
    /// The calibration, of file and section together.
    pub calibration: Calibration,
    /// What the vane's readings mean.
    pub vane: Vane,
    /// The units that are shown where nobody asks for others.
    pub units: Units,
    /// What is not wrong, but should be known.
    pub warnings: Vec<String>,
}

impl Weather {
    /// Returns what has to be known of the sensors before their readings are put together.
    pub fn sensors(&self) -> Sensors {
        self.calibration.sensors(self.vane.clone())
    }
}

/// Reads the section.
pub(super) fn weather(reader: &mut Reader, base: &Path) -> Weather {
    let named = reader.path("weather.calibration_file", base, "a file", |text| !text.is_empty());
    let found = named.clone().or_else(|| Some(base.join(FILE)).filter(|path| path.exists()));
    let mut warnings = Vec::new();
    let mut calibration = match found.as_deref().map(read) {
        None => Calibration::default(),
        Some(Ok((calibration, unknown))) => {
            let path = found.as_deref().unwrap_or(base).display();
            warnings
                .extend(unknown.iter().map(|key| format!("{path}: {key:?} is no key of a calibration that is known")));
            calibration
        }
        Some(Err(text)) => {
            let path = found.as_deref().unwrap_or(base).display();
            reader.complain("weather.calibration_file", format!("{path}: {text}"));
            Calibration::default()
        }
    };
    overrule(reader, &mut calibration);
    let words = "\"metric\", \"imperial\" or \"si\"";
    let units = reader.text("weather.units", words, Units::named).unwrap_or_default();
    Weather { calibration_file: found, calibration, vane: vane(reader), units, warnings }
}

fn read(path: &Path) -> Result<(Calibration, Vec<String>), String> {
    let size = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("is no calibration file: it has {size} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("cannot be read: {error}"))?;
    Calibration::from_json(&text).map_err(|error| error.to_string())
}

/// Takes the values that stand in `hub.toml`.
fn overrule(reader: &mut Reader, calibration: &mut Calibration) {
    for (name, value, is_positive) in calibration.values_mut() {
        let least = if is_positive { 1e-6 } else { -1e9 };
        if let Some(given) = reader.real(&format!("weather.{name}"), least..=1e9) {
            *value = given;
        }
    }
}

fn vane(reader: &mut Reader) -> Vane {
    let words = "\"degrees\", \"sparkfun-12-bit\", or sections [[weather.vane_position]]";
    let named = |text: &str| match text {
        "degrees" => Some(Vane::Degrees),
        "sparkfun-12-bit" => Some(Vane::sparkfun_12_bit()),
        _ => None,
    };
    let named = reader.text("weather.vane", words, named);
    let keys = reader.list("weather.vane_position");
    if keys.len() > POSITIONS_MAX {
        reader
            .complain("weather.vane_position", format!("must be at most {POSITIONS_MAX} sections, are {}", keys.len()));
    }
    if named.is_some() && !keys.is_empty() {
        reader.complain("weather.vane", "must not stand beside [[weather.vane_position]]");
    }
    let table: Vec<(f64, f64)> = keys.iter().take(POSITIONS_MAX).filter_map(|key| position(reader, key)).collect();
    if table.is_empty() { named.unwrap_or(Vane::Degrees) } else { Vane::Table(table) }
}

fn position(reader: &mut Reader, key: &str) -> Option<(f64, f64)> {
    let (reading, degrees) = (format!("{key}.reading"), format!("{key}.degrees"));
    reader.require(&reading);
    reader.require(&degrees);
    let reading = reader.real(&reading, -1e9..=1e9);
    let degrees = reader.real(&degrees, 0.0..=360.0);
    Some((reading?, degrees?))
}
