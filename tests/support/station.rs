//! A station that has run for two days, with a hole of two hours in which its sensors were silent.
//!
//! Owns its weather: days and nights, a front with rain, a field that turns with the sun. It writes the database as an earlier
//! version of the hub left it, so that today's migrates, counts and summarises it, and it ends when all of that is done.

use std::f64::consts::TAU;

use rusqlite::{Connection, params};
use serde_json::Value;

use super::health::get;
use super::mqtt::Client;
use super::{Hub, PATIENTLY, Site, now_s, wait_for};

/// The topic of the weather.
pub const WEATHER: &str = "backacres/house/weathermeters";
/// The topic of the magnetic field.
pub const FLUX: &str = "backacres/house/magneticfluxsensor";
/// What its configuration says.
pub const STATION: &str = "[station]\nname = \"Back Acres\"\naltitude_m = 85\ntimezone = \"Europe/Berlin\"\n";

/// The time between two of its readings, seconds.
const RHYTHM_S: i64 = 300;
const DAYS: i64 = 2;
const DAY_S: i64 = 86_400;
/// When the sensors were silent, seconds before now.
const SILENT_S: std::ops::Range<i64> = 14 * 3_600..16 * 3_600;

const SCHEMA: &str = include_str!("../data/schema_v4.sql");

/// What the sensors measure at a time.
#[derive(Clone, Copy, Debug)]
struct Sample {
    time_s: i64,
    temperature: f64,
    humidity: f64,
    pressure: f64,
    irradiance: f64,
    vane: i64,
    rain: i64,
    wind: i64,
    field: [i64; 3],
}

impl Sample {
    /// Returns what they measure at `time_s` where the history ends at `end_s`.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
    fn at(time_s: i64, end_s: i64) -> Sample {
        let hours = (time_s - (end_s - DAYS * DAY_S)) as f64 / 3_600.0;
        let day = time_s as f64 / DAY_S as f64;
        // Coldest before sunrise, warmest in the afternoon; the ripples are clouds.
        let (sun, swing) = ((TAU * (day - 0.25)).sin().max(0.0), (TAU * (day - 0.375)).sin());
        let ripple = |period: f64| (TAU * hours / period).sin();
        let cloud = 0.5 + 0.3 * ripple(1.7) + 0.2 * ripple(0.73);
        let temperature = 9.4 + 4.8 * swing + 0.4 * ripple(2.9) - 0.02 * hours;
        // Counters of wind and rain only grow: each is the integral of a rate that is never below nothing.
        let gusty = 3.6 * hours - 6.0 * (TAU * hours / 24.0).cos() + 0.3 * (TAU * hours / 1.3).cos();
        let tips = 1.2 * hours + 9.0 / (1.0 + (-(hours - 27.0)).exp()) + 22.0 / (1.0 + (-2.0 * (hours - 30.0)).exp());
        Sample {
            time_s,
            temperature,
            humidity: (74.0 - 16.0 * swing + 2.0 * ripple(3.1)).min(98.0),
            pressure: 1_004.0 + 7.0 * ripple(61.0) + 0.6 * ripple(11.0),
            irradiance: 640.0 * sun * (1.0 - 0.6 * cloud),
            vane: (225.0 + 38.0 * ripple(19.0) + 14.0 * ripple(2.3)).rem_euclid(360.0) as i64,
            rain: 170 + tips as i64,
            wind: 1_047_952 + (gusty * 3_600.0 * 1.5) as i64,
            field: [1_115.0 + 6.0 * swing, -558.0 - 3.0 * swing, -305.0 + 2.0 * ripple(7.0)].map(|raw| raw as i64),
        }
    }

    /// Returns the payload that the weather's sensor would send.
    fn payload(&self) -> Vec<u8> {
        let Sample { time_s, temperature, humidity, pressure, irradiance, vane, rain, wind, .. } = self;
        format!(
            "{{\"utc\":{time_s},\"sampleinterval\":{},\"temperature\":{temperature:.2},\"humidity\":{humidity:.1},\
             \"pressure\":{pressure:.2},\"irradiance\":{irradiance:.2},\"winddirectionsensor\":{vane},\
             \"raingaugecount\":{rain},\"anemometercount\":{wind}}}",
            RHYTHM_S * 1_000
        )
        .into_bytes()
    }
}

/// A station with its past.
pub struct Station {
    /// Where it is.
    pub site: Site,
    /// Its last reading, Unix seconds.
    pub end_s: i64,
}

impl Station {
    /// Makes one with a past, and with more in its configuration.
    pub fn with_past(more: &str) -> Station {
        let site = Site::with_config(&format!("{STATION}{more}"));
        let end_s = now_s() - 60;
        write_past(&site, end_s);
        // Its hub ran all the time; else nobody knew why readings are missing.
        assert!(site.start().stop().success());
        let database = Connection::open(site.db()).unwrap();
        database.execute("UPDATE run SET started_ms = started_ms - ?1", [(DAYS + 1) * DAY_S * 1_000]).unwrap();
        Station { site, end_s }
    }

    /// Waits until a hub has counted and summarised the past.
    pub fn wait_summarised(&self, hub: &Hub) {
        let asked = |path: &str| serde_json::from_str::<Value>(&get(hub, path).1).unwrap();
        wait_for("the past to be counted", PATIENTLY, || asked("/api/v1/gaps?from=3d")["is_counted"] == true);
        wait_for("the past to be summarised", PATIENTLY, || {
            let year = asked("/api/v1/readings?range=1y&quantities=temperature");
            year["is_partial"] == false && year["series"][0]["points"].as_array().is_some_and(|found| found.len() >= 2)
        });
    }

    /// Sends what the sensors measure now, but this temperature where there is one.
    pub fn send(&self, client: &mut Client, temperature: Option<f64>) {
        let usual = Sample::at(now_s(), self.end_s);
        let sample = Sample { temperature: temperature.unwrap_or(usual.temperature), ..usual };
        client.publish_through(&format!("{WEATHER}/"), &sample.payload(), 1);
        let [x, y, z] = sample.field;
        client.publish_through(FLUX, format!("{{\"x\":{x},\"y\":{y},\"z\":{z}}}").as_bytes(), 1);
    }
}

fn write_past(site: &Site, end_s: i64) {
    let mut database = Connection::open(site.db()).unwrap();
    database.execute_batch(SCHEMA).unwrap();
    database.pragma_update(None, "user_version", 4).unwrap();
    let past = database.transaction().unwrap();
    for (id, topic) in [(1, WEATHER), (2, FLUX)] {
        let source = "INSERT INTO source(id, topic, first_seen_ms, rhythm_ms) VALUES (?1, ?2, ?3, ?4)";
        past.execute(source, params![id, topic, (end_s - DAYS * DAY_S) * 1_000, RHYTHM_S * 1_000]).unwrap();
    }
    let weather = "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance,
          wind_direction, rain_gauge_count, anemometer_count, created_at, source_id, received_ms)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, datetime(?1, 'unixepoch'), 1, ?1 * 1000)";
    let flux = "INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id, received_ms)
        VALUES (?2, ?3, ?4, datetime(?1, 'unixepoch'), 2, ?1 * 1000)";
    for number in (0..=DAYS * DAY_S / RHYTHM_S).rev() {
        let time_s = end_s - number * RHYTHM_S;
        if SILENT_S.contains(&(end_s - time_s)) {
            continue;
        }
        let sample = Sample::at(time_s, end_s);
        let Sample { temperature, humidity, pressure, irradiance, vane, rain, wind, field, .. } = sample;
        let (interval_ms, rounded) = (RHYTHM_S * 1_000, (temperature * 100.0).round() / 100.0);
        past.execute(weather, params![time_s, interval_ms, rounded, humidity, pressure, irradiance, vane, rain, wind])
            .unwrap();
        past.execute(flux, params![time_s, field[0], field[1], field[2]]).unwrap();
    }
    past.commit().unwrap();
}
