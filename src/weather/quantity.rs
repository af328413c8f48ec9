//! What an owner looks at: every quantity that the hub shows, measured or derived.
//!
//! Owns their names, labels and dimensions. It computes nothing: how each comes about is `almanac::derive`'s.

use super::units::Dimension;
use crate::reading::Kind;

macro_rules! quantities {
    ($($(#[$doc:meta])* $variant:ident, $name:literal, $label:literal, $dimension:ident, $kind:ident;)*) => {
        /// A quantity that is shown.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Observed { $($(#[$doc])* $variant,)* }

        impl Observed {
            /// Every quantity, in the order in which they are shown.
            pub const ALL: &[Observed] = &[$(Observed::$variant,)*];

            /// Returns its name in the API, in files and on the command line.
            pub fn name(self) -> &'static str {
                match self { $(Observed::$variant => $name,)* }
            }

            /// Returns its name for people.
            pub fn label(self) -> &'static str {
                match self { $(Observed::$variant => $label,)* }
            }

            /// Returns what its numbers measure.
            pub fn dimension(self) -> Dimension {
                match self { $(Observed::$variant => Dimension::$dimension,)* }
            }

            /// Returns the kind of reading that it comes from.
            pub fn kind(self) -> Kind {
                match self { $(Observed::$variant => Kind::$kind,)* }
            }
        }
    };
}

quantities! {
    /// Air temperature.
    Temperature, "temperature", "Temperature", Temperature, Weather;
    /// Relative humidity.
    Humidity, "humidity", "Humidity", Share, Weather;
    /// Dew point.
    DewPoint, "dew_point", "Dew point", Temperature, Weather;
    /// Heat index; only where it is hot enough.
    HeatIndex, "heat_index", "Heat index", Temperature, Weather;
    /// Wind chill; only where it is cold and windy enough.
    WindChill, "wind_chill", "Wind chill", Temperature, Weather;
    /// Air pressure at the station.
    Pressure, "pressure", "Pressure at the station", Pressure, Weather;
    /// Air pressure reduced to sea level; only where the station's altitude is known.
    PressureSeaLevel, "pressure_sea_level", "Pressure at sea level", Pressure, Weather;
    /// How the pressure has changed within 3 hours.
    PressureTendency, "pressure_tendency", "Pressure tendency, 3 h", Pressure, Weather;
    /// Mean wind speed.
    WindSpeed, "wind_speed", "Wind speed", Speed, Weather;
    /// Highest wind speed of a sample.
    WindGust, "wind_gust", "Gust", Speed, Weather;
    /// Where the wind comes from.
    WindDirection, "wind_direction", "Wind direction", Angle, Weather;
    /// Rain that fell.
    Rain, "rain", "Rain", Depth, Weather;
    /// Rain of the last hour; only now.
    RainHour, "rain_hour", "Rain of the last hour", Depth, Weather;
    /// How fast it rains.
    RainRate, "rain_rate", "Rain rate", DepthRate, Weather;
    /// Irradiance.
    Irradiance, "irradiance", "Irradiance", Irradiance, Weather;
    /// Energy of the sun.
    SolarEnergy, "solar_energy", "Solar energy", Energy, Weather;
    /// Magnetic flux density along x.
    FluxX, "flux_x", "Magnetic flux x", Flux, Magnetic;
    /// Magnetic flux density along y.
    FluxY, "flux_y", "Magnetic flux y", Flux, Magnetic;
    /// Magnetic flux density along z.
    FluxZ, "flux_z", "Magnetic flux z", Flux, Magnetic;
    /// Its magnitude.
    FluxMagnitude, "flux_magnitude", "Magnetic flux, magnitude", Flux, Magnetic;
    /// Its inclination.
    FluxInclination, "flux_inclination", "Magnetic inclination", Angle, Magnetic;
    /// Its declination.
    FluxDeclination, "flux_declination", "Magnetic declination", Angle, Magnetic;
}

impl Observed {
    /// Returns the quantity of a name.
    pub fn named(name: &str) -> Option<Observed> {
        Observed::ALL.iter().copied().find(|quantity| quantity.name() == name)
    }

    /// Tells whether it has a value at each time; the others are of hours up to now.
    pub fn is_series(self) -> bool {
        !matches!(self, Observed::PressureTendency | Observed::RainHour)
    }

    /// Tells whether lowest and highest of an hour or a day mean anything.
    pub fn has_extremes(self) -> bool {
        let has_none = [Observed::WindDirection, Observed::RainRate, Observed::DewPoint];
        self.is_series() && !has_none.contains(&self)
    }

    /// Tells whether values of several times add up, as rain does.
    pub fn adds_up(self) -> bool {
        matches!(self, Observed::Rain | Observed::SolarEnergy)
    }
}
