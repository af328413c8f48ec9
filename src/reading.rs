//! What a station says, as values: readings, their kinds and their sources.
//!
//! Owns the types that travel from `ingest` to `store`. It never does I/O, never reads a clock and never changes
//! a number: what a sensor sent is what is stored.

use std::sync::Arc;

/// Names a source of readings: the topic that it publishes on, without a trailing slash.
pub type SourceId = Arc<str>;

/// Holds a number as its sensor sent it, so that whole numbers stay whole in the database.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole number.
    Int(i64),
    /// A finite number with a fraction.
    Real(f64),
}

/// Tells which kind of reading a topic carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Weather meters: temperature, humidity, pressure, irradiance, wind and rain counts.
    Weather,
    /// A magnetometer: three axes of raw counts.
    Magnetic,
}

/// Names one number of a reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// [`Weather::temperature`].
    Temperature,
    /// [`Weather::humidity`].
    Humidity,
    /// [`Weather::pressure`].
    Pressure,
    /// [`Weather::irradiance`].
    Irradiance,
    /// [`Weather::wind_direction`].
    WindDirection,
    /// [`Weather::rain_gauge_count`].
    RainGaugeCount,
    /// [`Weather::anemometer_count`].
    AnemometerCount,
    /// [`Magnetic::x`].
    X,
    /// [`Magnetic::y`].
    Y,
    /// [`Magnetic::z`].
    Z,
}

impl Quantity {
    /// Every quantity.
    pub const ALL: [Quantity; 10] = [
        Quantity::Temperature,
        Quantity::Humidity,
        Quantity::Pressure,
        Quantity::Irradiance,
        Quantity::WindDirection,
        Quantity::RainGaugeCount,
        Quantity::AnemometerCount,
        Quantity::X,
        Quantity::Y,
        Quantity::Z,
    ];

    /// Returns the kind of reading that has it.
    pub fn kind(self) -> Kind {
        match self {
            Quantity::X | Quantity::Y | Quantity::Z => Kind::Magnetic,
            _ => Kind::Weather,
        }
    }

    /// Returns its name, that of the database's column.
    pub fn name(self) -> &'static str {
        match self {
            Quantity::Temperature => "temperature",
            Quantity::Humidity => "humidity",
            Quantity::Pressure => "pressure",
            Quantity::Irradiance => "irradiance",
            Quantity::WindDirection => "wind_direction",
            Quantity::RainGaugeCount => "rain_gauge_count",
            Quantity::AnemometerCount => "anemometer_count",
            Quantity::X => "x",
            Quantity::Y => "y",
            Quantity::Z => "z",
        }
    }

    /// Returns its value in a sample; `None` where the sample has none.
    pub fn of(self, sample: &Sample) -> Option<f64> {
        let number = match (self, sample) {
            (Quantity::Temperature, Sample::Weather(weather)) => weather.temperature,
            (Quantity::Humidity, Sample::Weather(weather)) => weather.humidity,
            (Quantity::Pressure, Sample::Weather(weather)) => weather.pressure,
            (Quantity::Irradiance, Sample::Weather(weather)) => weather.irradiance,
            (Quantity::WindDirection, Sample::Weather(weather)) => weather.wind_direction,
            (Quantity::RainGaugeCount, Sample::Weather(weather)) => weather.rain_gauge_count,
            (Quantity::AnemometerCount, Sample::Weather(weather)) => weather.anemometer_count,
            (Quantity::X, Sample::Magnetic(flux)) => Some(flux.x),
            (Quantity::Y, Sample::Magnetic(flux)) => Some(flux.y),
            (Quantity::Z, Sample::Magnetic(flux)) => Some(flux.z),
            _ => None,
        };
        number.map(Number::as_real)
    }
}

impl Number {
    /// Returns the number as one with a fraction; beyond 2^53, about.
    #[allow(clippy::cast_precision_loss, reason = "no sensor counts that far")]
    pub fn as_real(self) -> f64 {
        match self {
            Number::Int(number) => number as f64,
            Number::Real(number) => number,
        }
    }
}

impl Kind {
    /// Returns the name that the configuration and the quarantine use.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Weather => "weather",
            Kind::Magnetic => "magnetic",
        }
    }
}

/// One sample of the weather meters. A field that the sensor did not send is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weather {
    /// Sensor time, Unix seconds.
    pub timestamp: i64,
    /// Time between samples, milliseconds.
    pub sample_interval: Option<Number>,
    /// Air temperature, degrees Celsius.
    pub temperature: Option<Number>,
    /// Relative humidity, percent.
    pub humidity: Option<Number>,
    /// Air pressure at the station, hectopascal.
    pub pressure: Option<Number>,
    /// Irradiance, watt per square metre after calibration.
    pub irradiance: Option<Number>,
    /// Vane position, in the station's own unit.
    pub wind_direction: Option<Number>,
    /// Cumulative tips of the rain gauge.
    pub rain_gauge_count: Option<Number>,
    /// Cumulative closures of the anemometer.
    pub anemometer_count: Option<Number>,
}

/// One sample of the magnetometer, raw counts per axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Magnetic {
    /// Axis x, counts.
    pub x: Number,
    /// Axis y, counts.
    pub y: Number,
    /// Axis z, counts.
    pub z: Number,
}

/// The sample itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Sample {
    /// From the weather meters.
    Weather(Weather),
    /// From the magnetometer.
    Magnetic(Magnetic),
}

/// What the hub noted about a reading's time; kept beside it, never instead of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    bits: u8,
    /// Where the hub's clock is not to be trusted: how far it is ahead of the time since the boot, milliseconds.
    offset_ms: i64,
}

impl Marks {
    /// The sensor sent no time: the hub's receive time stands in its place.
    pub const TIME_MISSING: Marks = Marks { bits: 1, offset_ms: 0 };
    /// The sensor's time is further from the hub's clock than `ingest.clock_skew_max_s`.
    pub const TIME_SKEWED: Marks = Marks { bits: 2, offset_ms: 0 };
    const CLOCK_UNTRUSTED: u8 = 4;

    /// Marks a reading that came while the hub's clock was not to be trusted; `offset_ms` is how far that is ahead of the
    /// time since the boot.
    pub fn clock_untrusted(offset_ms: i64) -> Marks {
        Marks { bits: Marks::CLOCK_UNTRUSTED, offset_ms }
    }

    /// Returns how far the hub's clock was ahead of the time since the boot, where it was not to be trusted, milliseconds.
    pub fn untrusted_offset_ms(self) -> Option<i64> {
        (self.bits & Marks::CLOCK_UNTRUSTED != 0).then_some(self.offset_ms)
    }

    /// Returns these marks and `other` together.
    pub fn with(self, other: Marks) -> Marks {
        let offset_ms = if other.untrusted_offset_ms().is_some() { other.offset_ms } else { self.offset_ms };
        Marks { bits: self.bits | other.bits, offset_ms }
    }

    /// Tells whether every mark of `other` is set.
    pub fn has(self, other: Marks) -> bool {
        self.bits & other.bits == other.bits
    }

    /// Returns the value of the database column, `None` where there is nothing to note.
    pub fn column(self) -> Option<u8> {
        (self.bits != 0).then_some(self.bits)
    }
}

/// A decoded reading, ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub sample: Sample,
    /// What was noted about its time.
    pub marks: Marks,
}
