//! Units by choice: metric, imperial or SI.
//!
//! Owns the factors from the hub's own units to those shown. Inside the hub every quantity has one unit: degrees Celsius,
//! percent, hectopascal, metres per second, degrees, millimetres, millimetres per hour, watt per square metre, watt-hours per
//! square metre, microtesla.

/// What a number measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    /// Degrees Celsius inside the hub.
    Temperature,
    /// Percent.
    Share,
    /// Hectopascal inside the hub.
    Pressure,
    /// Metres per second inside the hub.
    Speed,
    /// Degrees.
    Angle,
    /// Millimetres inside the hub.
    Depth,
    /// Millimetres per hour inside the hub.
    DepthRate,
    /// Watt per square metre.
    Irradiance,
    /// Watt-hours per square metre inside the hub.
    Energy,
    /// Microtesla inside the hub.
    Flux,
}

/// A system of units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Units {
    /// °C, hPa, km/h, mm.
    #[default]
    Metric,
    /// °F, inHg, mph, in.
    Imperial,
    /// K, Pa, m/s, mm, J/m², T.
    Si,
}

/// How numbers of a dimension are shown in a system.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit {
    /// Its symbol.
    pub symbol: &'static str,
    /// Digits after the point that are worth showing.
    pub digits: usize,
    scale: f64,
    offset: f64,
}

impl Units {
    /// Every system.
    pub const ALL: [Units; 3] = [Units::Metric, Units::Imperial, Units::Si];

    /// Returns its name in the configuration and in queries.
    pub fn name(self) -> &'static str {
        match self {
            Units::Metric => "metric",
            Units::Imperial => "imperial",
            Units::Si => "si",
        }
    }

    /// Returns the system of a name.
    pub fn named(name: &str) -> Option<Units> {
        Units::ALL.into_iter().find(|units| units.name() == name)
    }

    /// Returns the unit of a dimension. Factors: NIST SP 811 (2008), appendix B.8.
    pub fn of(self, dimension: Dimension) -> Unit {
        let unit = |symbol, digits, scale, offset| Unit { symbol, digits, scale, offset };
        match (dimension, self) {
            (Dimension::Temperature, Units::Metric) => unit("°C", 1, 1.0, 0.0),
            (Dimension::Temperature, Units::Imperial) => unit("°F", 1, 1.8, 32.0),
            (Dimension::Temperature, Units::Si) => unit("K", 1, 1.0, 273.15),
            (Dimension::Share, _) => unit("%", 0, 1.0, 0.0),
            (Dimension::Pressure, Units::Metric) => unit("hPa", 1, 1.0, 0.0),
            (Dimension::Pressure, Units::Imperial) => unit("inHg", 2, 1.0 / 33.863_89, 0.0),
            (Dimension::Pressure, Units::Si) => unit("Pa", 0, 100.0, 0.0),
            (Dimension::Speed, Units::Metric) => unit("km/h", 1, 3.6, 0.0),
            (Dimension::Speed, Units::Imperial) => unit("mph", 1, 1.0 / 0.447_04, 0.0),
            (Dimension::Speed, Units::Si) => unit("m/s", 1, 1.0, 0.0),
            (Dimension::Angle, _) => unit("°", 0, 1.0, 0.0),
            (Dimension::Depth, Units::Imperial) => unit("in", 2, 1.0 / 25.4, 0.0),
            (Dimension::Depth, _) => unit("mm", 1, 1.0, 0.0),
            (Dimension::DepthRate, Units::Imperial) => unit("in/h", 2, 1.0 / 25.4, 0.0),
            (Dimension::DepthRate, _) => unit("mm/h", 1, 1.0, 0.0),
            (Dimension::Irradiance, _) => unit("W/m²", 0, 1.0, 0.0),
            (Dimension::Energy, Units::Si) => unit("J/m²", 0, 3_600.0, 0.0),
            (Dimension::Energy, _) => unit("Wh/m²", 0, 1.0, 0.0),
            (Dimension::Flux, Units::Si) => unit("T", 8, 1e-6, 0.0),
            (Dimension::Flux, _) => unit("µT", 2, 1.0, 0.0),
        }
    }
}

impl Unit {
    /// Returns a number in this unit, out of one in the hub's own.
    pub fn convert(self, value: f64) -> f64 {
        value * self.scale + self.offset
    }

    /// Returns the difference of two numbers in this unit, out of one in the hub's own.
    pub fn convert_difference(self, difference: f64) -> f64 {
        difference * self.scale
    }

    /// Returns a number of this unit as people read it.
    pub fn text(self, converted: f64) -> String {
        let text = format!("{converted:.*}", self.digits);
        // Minus nothing is nothing.
        if text.trim_start_matches(['-', '0', '.']).is_empty() { text.trim_start_matches('-').to_owned() } else { text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(units: Units, dimension: Dimension, value: f64) -> String {
        let unit = units.of(dimension);
        format!("{} {}", unit.text(unit.convert(value)), unit.symbol)
    }

    /// Pairs of the tables of NIST SP 811 and of the definitions of inch and mile.
    #[test]
    fn known_pairs() {
        assert_eq!(shown(Units::Imperial, Dimension::Temperature, 100.0), "212.0 °F");
        assert_eq!(shown(Units::Si, Dimension::Temperature, -273.15), "0.0 K");
        assert_eq!(shown(Units::Imperial, Dimension::Pressure, 1013.25), "29.92 inHg");
        assert_eq!(shown(Units::Imperial, Dimension::Speed, 0.447_04), "1.0 mph");
        assert_eq!(shown(Units::Metric, Dimension::Speed, 1.0), "3.6 km/h");
        assert_eq!(shown(Units::Imperial, Dimension::Depth, 25.4), "1.00 in");
        assert_eq!(shown(Units::Si, Dimension::Energy, 1.0), "3600 J/m²");
        assert_eq!(shown(Units::Metric, Dimension::Temperature, -0.04), "0.0 °C");
    }
}
