//! An imaginary weather station, as a pure model: a seed and a time make the payloads that its sensors would send.
//!
//! Owns the weather and the shape of the payloads. It never reads a clock and never does I/O.

use std::f64::consts::TAU;

const DAY_S: f64 = 86_400.0;
const YEAR_S: f64 = 365.2425 * DAY_S;

/// Counts per second of the usual cup anemometer at 1 m/s.
const ANEMOMETER_HZ_PER_MS: f64 = 1.5;

/// Rain that tips the usual gauge once, millimetres.
const RAIN_MM_PER_TIP: f64 = 0.2794;

/// Longest time that counters run on between two samples, seconds.
const STEP_S_MAX: f64 = 3_600.0;

/// Plays the sensors of one station.
#[derive(Clone, Debug)]
pub struct Station {
    random: SplitMix64,
    sample_interval_ms: u64,
    last_ms: Option<i64>,
    front_phase: f64,
    ripple_phase: f64,
    air: Drift,
    cloud: Drift,
    wet: Drift,
    wind: Drift,
    gust: Drift,
    vane: Drift,
    anemometer_counts: f64,
    rain_tips: f64,
}

impl Station {
    /// Makes a station whose weather `seed` decides, and which says that it samples every `sample_interval_ms`.
    pub fn new(seed: u64, sample_interval_ms: u64) -> Station {
        let mut random = SplitMix64(seed);
        Station {
            sample_interval_ms,
            last_ms: None,
            front_phase: random.unit() * TAU,
            ripple_phase: random.unit() * TAU,
            air: Drift::new(7_200.0, 1.0),
            cloud: Drift::new(1_800.0, 0.35),
            wet: Drift::new(3_600.0, 1.0),
            wind: Drift::new(900.0, 1.5),
            gust: Drift::new(15.0, 0.8),
            vane: Drift::new(900.0, 25.0),
            anemometer_counts: (1e6 * (1.0 + random.unit())).floor(),
            rain_tips: (1_000.0 * random.unit()).floor(),
            random,
        }
    }

    /// Returns the weather and the magnetic payload, JSON, of a sample at `now_ms`, Unix milliseconds.
    pub fn next(&mut self, now_ms: i64) -> (String, String) {
        let step_s = (now_ms - self.last_ms.unwrap_or(now_ms)) as f64 / 1_000.0;
        self.last_ms = Some(now_ms);
        self.drift(step_s.clamp(0.0, STEP_S_MAX));
        let now_s = now_ms as f64 / 1_000.0;
        (self.weather(now_s, step_s.clamp(0.0, STEP_S_MAX)), self.magnetic(now_s))
    }

    fn drift(&mut self, step_s: f64) {
        let drifts = [&mut self.air, &mut self.cloud, &mut self.wet, &mut self.wind, &mut self.gust, &mut self.vane];
        for drift in drifts {
            drift.step(step_s, self.random.noise());
        }
    }

    fn weather(&mut self, now_s: f64, step_s: f64) -> String {
        let day = now_s / DAY_S;
        let sun = (TAU * (day - 0.25)).sin().max(0.0);
        // Fronts pass every few days; low pressure brings cloud and rain.
        let front =
            (TAU * day / 5.3 + self.front_phase).sin() * 11.0 + (TAU * day / 2.1 + self.ripple_phase).sin() * 5.0;
        let pressure = 1_012.0 + front + 0.02 * self.random.noise();
        let cloud = (0.4 - front / 30.0 + self.cloud.value).clamp(0.0, 1.0);
        let rain_mm_per_h = ((self.wet.value - front / 12.0 - 1.0) * 3.0).max(0.0);
        // Coldest around 20 January, and just before sunrise; warmest at 15 h.
        let season = 10.0 - 8.0 * (TAU * (now_s / YEAR_S - 0.055)).cos();
        let swing = 5.0 * (1.0 - 0.6 * cloud) * (TAU * (day - 0.375)).sin();
        let temperature = season + swing + self.air.value + 0.02 * self.random.noise();
        let humidity = (72.0 - 3.5 * swing + 6.0 * rain_mm_per_h + 0.3 * self.random.noise()).clamp(12.0, 100.0);
        let irradiance = 900.0 * sun * (1.0 - 0.8 * cloud);
        let wind_ms = (2.5 + 1.5 * sun + self.wind.value + self.gust.value).max(0.0);
        let vane = (220.0 + 3.0 * front + self.vane.value).rem_euclid(360.0);
        self.anemometer_counts += wind_ms * ANEMOMETER_HZ_PER_MS * step_s;
        self.rain_tips += rain_mm_per_h / RAIN_MM_PER_TIP * step_s / 3_600.0;
        format!(
            "{{\"utc\":{},\"sampleinterval\":{},\"temperature\":{temperature:.2},\"humidity\":{humidity:.1},\
             \"pressure\":{pressure:.2},\"irradiance\":{irradiance:.2},\"winddirectionsensor\":{},\
             \"raingaugecount\":{},\"anemometercount\":{}}}",
            now_s.floor(),
            self.sample_interval_ms,
            vane.floor(),
            self.rain_tips.floor(),
            self.anemometer_counts.floor(),
        )
    }

    fn magnetic(&mut self, now_s: f64) -> String {
        let daily = 4.0 * (TAU * now_s / DAY_S).sin();
        let mut axis = |rest: f64, share: f64| (rest + share * daily + 1.5 * self.random.noise()).round();
        format!("{{\"x\":{},\"y\":{},\"z\":{}}}", axis(1_115.0, 1.0), axis(-558.0, -0.5), axis(-305.0, 0.3))
    }
}

/// A value that wanders around zero (Ornstein-Uhlenbeck), whatever the step.
#[derive(Clone, Debug)]
struct Drift {
    value: f64,
    memory_s: f64,
    spread: f64,
}

impl Drift {
    fn new(memory_s: f64, spread: f64) -> Drift {
        Drift { value: 0.0, memory_s, spread }
    }

    fn step(&mut self, step_s: f64, noise: f64) {
        let kept = (-step_s / self.memory_s).exp();
        self.value = self.value * kept + self.spread * (1.0 - kept * kept).sqrt() * noise;
    }
}

/// Sebastiano Vigna's SplitMix64: small, seeded, and good enough for weather.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Returns a number from 0 up to 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Returns a number around 0 with variance 1, between -3 and 3.
    fn noise(&mut self) -> f64 {
        2.0 * (self.unit() + self.unit() + self.unit() - 1.5)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::Value;

    use super::Station;

    const MIDNIGHT_MS: i64 = 1_759_449_600_000;
    const MINUTE_MS: i64 = 60_000;

    fn day(seed: u64) -> Vec<(Value, Value)> {
        let mut station = Station::new(seed, 60_000);
        let sample = |minute| station.next(MIDNIGHT_MS + minute * MINUTE_MS);
        let parse = |(weather, magnetic): (String, String)| {
            (serde_json::from_str(&weather).unwrap(), serde_json::from_str(&magnetic).unwrap())
        };
        (0..1_440).map(sample).map(parse).collect()
    }

    fn mean(samples: &[(Value, Value)], field: &str) -> f64 {
        samples.iter().map(|(weather, _)| weather[field].as_f64().unwrap()).sum::<f64>() / samples.len() as f64
    }

    #[test]
    fn payloads_have_the_fields_of_the_real_sensors_in_their_order() {
        let (weather, magnetic) = Station::new(7, 5_000).next(1_759_479_845_600);
        assert!(weather.starts_with(r#"{"utc":1759479845,"sampleinterval":5000,"temperature":"#), "{weather}");
        let fields = [
            "utc",
            "sampleinterval",
            "temperature",
            "humidity",
            "pressure",
            "irradiance",
            "winddirectionsensor",
            "raingaugecount",
            "anemometercount",
        ];
        let places: Vec<usize> = fields.iter().map(|field| weather.find(&format!("\"{field}\":")).unwrap()).collect();
        assert!(places.is_sorted(), "{weather}");
        let weather: Value = serde_json::from_str(&weather).unwrap();
        assert_eq!(weather.as_object().unwrap().len(), fields.len());
        for whole in ["utc", "winddirectionsensor", "raingaugecount", "anemometercount"] {
            assert!(weather[whole].is_i64(), "{whole}");
        }
        let magnetic: Value = serde_json::from_str(&magnetic).unwrap();
        assert_eq!(magnetic.as_object().unwrap().len(), 3);
        assert!(["x", "y", "z"].iter().all(|axis| magnetic[axis].is_i64()), "{magnetic}");
    }

    #[test]
    fn the_same_seed_makes_the_same_weather_and_another_seed_does_not() {
        assert_eq!(day(3), day(3));
        assert_ne!(day(3), day(4));
    }

    #[test]
    fn afternoons_are_warmer_than_nights_and_nights_are_dark() {
        for seed in 0..20 {
            let day = day(seed);
            assert!(mean(&day[840..960], "temperature") > mean(&day[120..240], "temperature") - 2.0, "seed {seed}");
            assert_eq!(mean(&day[60..240], "irradiance"), 0.0);
            assert!(mean(&day[660..780], "irradiance") > 50.0);
        }
        let many = |hours: std::ops::Range<usize>| {
            (0..20).map(|seed| mean(&day(seed)[hours.clone()], "temperature")).sum::<f64>()
        };
        assert!(many(840..960) > many(180..300) + 60.0);
    }

    #[test]
    fn values_stay_within_what_weather_does() {
        for (weather, magnetic) in (0..20).flat_map(day) {
            let within = |field: &str, low: f64, high: f64| {
                let value = weather[field].as_f64().unwrap();
                assert!((low..=high).contains(&value), "{field} {value}");
            };
            within("temperature", -25.0, 45.0);
            within("humidity", 0.0, 100.0);
            within("pressure", 970.0, 1_045.0);
            within("irradiance", 0.0, 1_000.0);
            within("winddirectionsensor", 0.0, 359.0);
            assert!((1_100..1_130).contains(&magnetic["x"].as_i64().unwrap()));
        }
    }

    #[test]
    fn counters_only_grow_and_a_clock_set_back_does_not_turn_them() {
        let count =
            |weather: &str, field: &str| serde_json::from_str::<Value>(weather).unwrap()[field].as_i64().unwrap();
        let mut station = Station::new(1, 5_000);
        let (mut wind, mut rain) = (0, 0);
        for step in [0, 5, 10, 4, 5_000, 1_000, 90_000_000] {
            let (weather, _) = station.next(MIDNIGHT_MS + step * 1_000);
            assert!(count(&weather, "anemometercount") >= wind && count(&weather, "raingaugecount") >= rain);
            (wind, rain) = (count(&weather, "anemometercount"), count(&weather, "raingaugecount"));
        }
        let day = day(1);
        let counts = |index: usize| day[index].0["anemometercount"].as_i64().unwrap();
        assert!(counts(1_439) - counts(0) > 10_000, "a day of wind turns the cups");
    }
}
