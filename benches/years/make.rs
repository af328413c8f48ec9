//! Makes a database of many years: plausible readings every 5 s, the last of them about now.
//!
//! Owns the rows and how they get quickly into the file. The tables are the hub's own, made by its writer. It never touches
//! a file that is there already.

use std::f64::consts::TAU;
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rusqlite::{Connection, params};
use stationhub::config::Synchronous;
use stationhub::store::{Queue, Settings, Writer};

use crate::figures::grouped;

/// Time between two readings.
pub(crate) const RHYTHM_S: i64 = 5;
const DAY_S: i64 = 86_400;
/// The topics of the station.
const TOPICS: [&str; 2] = ["bench/years/weathermeters", "bench/years/magneticfluxsensor"];
const ROWS_OF_A_TRANSACTION: i64 = 200_000;
const ROWS_OF_A_LINE: i64 = 5_000_000;
const WEATHER: &str =
    "INSERT INTO weather_data(timestamp, sample_interval, temperature, humidity, pressure, irradiance,
   wind_direction, rain_gauge_count, anemometer_count, created_at, source_id, received_ms)
 VALUES (?1, 5000, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const FLUX: &str = "INSERT INTO magnetic_flux_data(x, y, z, created_at, source_id, received_ms)
 VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

/// Makes `rows` readings of each table in a new file.
pub(crate) fn make(rows: i64, path: &Path) -> Result<()> {
    ensure!(!path.exists(), "{} is there already", path.display());
    ensure!(rows > 0, "no rows");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Under another name until it is whole.
    let unfinished = path.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_file(&unfinished)?;
    }
    open_as_the_hub(&unfinished)?;
    fill(rows, &unfinished)?;
    open_as_the_hub(&unfinished)?;
    std::fs::rename(&unfinished, path)?;
    Ok(())
}

/// Lets the hub's writer open and close a database: what it lacks is made, and its log is gone.
fn open_as_the_hub(path: &Path) -> Result<()> {
    let settings = Settings {
        path: path.to_owned(),
        synchronous: Synchronous::Full,
        batch_max: 512,
        quarantine_bytes_max: 1 << 20,
        write_failures_max: 1,
        tap: None,
        reserve_bytes: 0,
    };
    let writer = Writer::start(settings, Arc::new(Queue::new(1 << 20)), None)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let ended = runtime.block_on(writer.stop(std::time::Duration::from_secs(60)));
    ended.context("the writer panicked")??;
    Ok(())
}

fn fill(rows: i64, path: &Path) -> Result<()> {
    let mut connection = Connection::open(path)?;
    // A file that is not whole is thrown away, so nothing has to survive.
    for pragma in ["journal_mode = OFF", "synchronous = OFF", "locking_mode = EXCLUSIVE", "cache_size = -262144"] {
        connection.execute_batch(&format!("PRAGMA {pragma}"))?;
    }
    let now_s = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    let first_s = (now_s / RHYTHM_S - rows) * RHYTHM_S;
    for (number, topic) in TOPICS.iter().enumerate() {
        let sql = "INSERT INTO source(id, topic, first_seen_ms, rhythm_ms) VALUES (?1, ?2, ?3, 5000)";
        connection.execute(sql, params![number as i64 + 1, topic, first_s * 1000])?;
    }
    let (begun, mut station, mut clock) = (Instant::now(), Station::default(), Clock::default());
    let mut row = 0;
    while row < rows {
        let transaction = connection.transaction()?;
        {
            let (mut weather, mut flux) = (transaction.prepare(WEATHER)?, transaction.prepare(FLUX)?);
            let end = rows.min(row + ROWS_OF_A_TRANSACTION);
            while row < end {
                let time_s = first_s + row * RHYTHM_S;
                station.go_on(time_s);
                let text = clock.text(time_s)?;
                // The first half is what the old station left: without source and time of receipt.
                let is_old = row < rows / 2;
                let received_ms = (!is_old).then_some(time_s * 1000 + 120);
                let Station { temperature, humidity, pressure, irradiance, direction, rain, wind, .. } = station;
                weather.execute(params![
                    time_s,
                    temperature,
                    humidity,
                    pressure,
                    irradiance,
                    direction,
                    rain,
                    wind,
                    text,
                    (!is_old).then_some(1),
                    received_ms
                ])?;
                let [x, y, z] = station.flux;
                flux.execute(params![x, y, z, text, (!is_old).then_some(2), received_ms])?;
                row += 1;
            }
        }
        transaction.commit()?;
        if row % ROWS_OF_A_LINE < ROWS_OF_A_TRANSACTION {
            eprintln!(
                "{} of {} rows in {:.0} s",
                grouped(row as f64),
                grouped(rows as f64),
                begun.elapsed().as_secs_f64()
            );
        }
    }
    Ok(())
}

/// What the station measures: seasons, days, weather that drifts, counters that go back to 0 now and then.
#[derive(Clone, Copy, Default)]
struct Station {
    chance: u64,
    drift: f64,
    temperature: f64,
    humidity: f64,
    pressure: f64,
    irradiance: f64,
    direction: i64,
    rain: i64,
    wind: i64,
    flux: [i64; 3],
}

impl Station {
    fn go_on(&mut self, time_s: i64) {
        let year = (time_s as f64 / (365.25 * DAY_S as f64)).fract() * TAU;
        let day = (time_s % DAY_S) as f64 / DAY_S as f64 * TAU;
        self.drift = self.drift * 0.9999 + (self.by_chance() - 0.5) * 0.02;
        self.temperature = hundredths(10.0 - 10.0 * year.cos() - 5.0 * day.cos() + self.drift * 10.0);
        self.humidity = hundredths((65.0 + 15.0 * day.cos() - self.drift * 20.0).clamp(5.0, 100.0));
        self.pressure = hundredths(1013.0 + self.drift * 30.0);
        self.irradiance = hundredths((-day.cos()).max(0.0) * (600.0 - 300.0 * year.cos()));
        self.direction = (180 + (self.drift * 300.0) as i64).rem_euclid(360);
        self.rain += i64::from(self.drift > 0.05 && self.by_chance() < 0.02);
        self.wind += (self.by_chance() * 40.0) as i64;
        // The sensor is started again about twice a year.
        if self.by_chance() < 3e-7 {
            (self.rain, self.wind) = (0, 0);
        }
        let noise = (self.by_chance() * 9.0) as i64;
        self.flux = [1115 + noise, -558 - noise, -305 + (day.sin() * 20.0) as i64];
    }

    /// Returns a number from 0 to 1, the same row of them every time (xorshift).
    fn by_chance(&mut self) -> f64 {
        let mut chance = if self.chance == 0 { 0x9E37_79B9_7F4A_7C15 } else { self.chance };
        chance ^= chance << 13;
        chance ^= chance >> 7;
        chance ^= chance << 17;
        self.chance = chance;
        (chance >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn hundredths(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}

/// The text of `created_at`, its date made once for each day.
#[derive(Default)]
struct Clock {
    day: i64,
    text: String,
}

impl Clock {
    fn text(&mut self, time_s: i64) -> Result<&str> {
        let (day, second) = (time_s.div_euclid(DAY_S), time_s.rem_euclid(DAY_S));
        if self.text.is_empty() || self.day != day {
            self.day = day;
            self.text = Timestamp::from_second(day * DAY_S)?.strftime("%Y-%m-%d ").to_string();
        }
        self.text.truncate(11);
        self.text += &format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60);
        Ok(&self.text)
    }
}
