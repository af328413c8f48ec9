//! How raw readings are to be understood: calibration, sensors, altitude, time zone.
//!
//! Owns these settings of a station together. It never changes while the hub runs.

use crate::config::Config;
use crate::store::Days;
use crate::weather::calibration::{Calibration, Sensors};

/// The terms of a station.
#[derive(Clone, Debug)]
pub struct Terms {
    /// From raw values to physical ones.
    pub calibration: Calibration,
    /// What the sensors' readings are put together by.
    pub sensors: Sensors,
    /// Metres above sea level.
    pub altitude_m: Option<f64>,
    /// Its days.
    pub days: Days,
}

impl Terms {
    /// Takes them out of a configuration; days are those of UTC where this machine does not know the station's zone.
    pub fn of(config: &Config) -> Terms {
        Terms {
            calibration: config.weather.calibration.clone(),
            sensors: config.weather.sensors(),
            altitude_m: config.station.altitude_m,
            days: Days::of_zone(config.station.timezone.as_deref()).unwrap_or_else(Days::utc),
        }
    }
}
