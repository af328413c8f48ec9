//! The floor: how fast this disk lets one thread commit the hub's row alone, one per transaction. No durable ack can be
//! quicker. It runs as a process of its own (this binary with the argument `floor`), so that the slow disk, a shim
//! compiled here from `slowsync.c`, can be preloaded under it as under the hub.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, params};
use tempfile::TempDir;

use crate::histogram::Histogram;
use crate::process::{Memory, Process, cpu_s, memory};
use crate::target::{Measurement, WARM_UP};

const SHIM_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/slowsync.c");
const COMPILE_DEADLINE: Duration = Duration::from_secs(30);
/// What a floor may take beyond its measurement.
const GRACE: Duration = Duration::from_secs(30);
const SCHEMA: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA foreign_keys = ON;
    PRAGMA busy_timeout = 5000;
    CREATE TABLE weather_data (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp INTEGER NOT NULL,
        sample_interval INTEGER, temperature REAL, humidity REAL, pressure REAL, irradiance REAL,
        wind_direction INTEGER, rain_gauge_count INTEGER, anemometer_count INTEGER,
        created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP, source_id INTEGER, received_ms INTEGER, marks INTEGER);
    CREATE INDEX idx_weather_timestamp ON weather_data (timestamp);
    CREATE INDEX idx_weather_created ON weather_data (created_at);";
const INSERT: &str = "
    INSERT INTO weather_data (timestamp, sample_interval, temperature, humidity, pressure, irradiance, wind_direction,
        rain_gauge_count, anemometer_count, source_id, received_ms, marks)
    VALUES (?1, 5000, 5.22, 61.5, 1004.94, 0.83, 96, 170, ?2, 1, ?3, 0)";

/// The compiled shim, and how long it makes a sync take at least.
pub(crate) struct SlowSync {
    library: PathBuf,
    /// Milliseconds added to each sync.
    pub(crate) sync_ms: u64,
    _dir: TempDir,
}

impl SlowSync {
    /// Compiles the shim in a directory under `place`.
    pub(crate) fn compile(place: &Path, sync_ms: u64) -> Result<Self> {
        let dir = TempDir::with_prefix_in("slowsync-", place)?;
        let library = dir.path().join("slowsync.so");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(SHIM_SOURCE).arg("-ldl");
        Process::start("cc", &mut command, dir.path(), &[])?.wait(COMPILE_DEADLINE)?;
        Ok(Self { library, sync_ms, _dir: dir })
    }

    /// Makes the process to be started feel it.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("SLOWSYNC_MS", self.sync_ms.to_string());
    }

    /// Fails if an ack came sooner than a sync takes: then the shim was not felt, or the ack was given before the sync.
    pub(crate) fn check(&self, name: &str, measured: &Measurement) -> Result<()> {
        let (least_ms, sync_ms) = (measured.least_ms, self.sync_ms);
        ensure!(least_ms > 0.95 * sync_ms as f64, "{name} acked in {least_ms:.2} ms where a sync takes {sync_ms} ms");
        Ok(())
    }
}

/// Measures the floor for `duration` in a process of its own.
pub(crate) fn measure_apart(place: &Path, slow: Option<&SlowSync>, duration: Duration) -> Result<Measurement> {
    let dir = TempDir::with_prefix_in("floor-", place)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("floor").arg(dir.path()).arg(duration.as_secs_f64().to_string());
    if let Some(slow) = slow {
        slow.apply(&mut command);
    }
    Process::start("floor", &mut command, dir.path(), &[])?.wait(duration + WARM_UP + GRACE)?;
    let said = std::fs::read(dir.path().join("floor.out"))?;
    serde_json::from_slice(&said).context("the floor's answer")
}

/// Commits rows alone in `dir` for `duration` after a warm-up.
pub(crate) fn measure_here(dir: &Path, duration: Duration) -> Result<Measurement> {
    let db = Connection::open(dir.join("floor.db"))?;
    db.execute_batch(SCHEMA)?;
    let mut insert = db.prepare(INSERT)?;
    let mut latencies = Histogram::new();
    let mut count: i64 = 0;
    let mut commit_until = |end: Instant, latencies: &mut Histogram| -> Result<i64> {
        let first = count;
        while Instant::now() < end {
            let start = Instant::now();
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            insert.execute(params![now.as_secs() as i64, 1_000_000_000 + count, now.as_millis() as i64])?;
            latencies.record(start.elapsed());
            count += 1;
        }
        Ok(count - first)
    };
    commit_until(Instant::now() + WARM_UP, &mut latencies)?;
    latencies.clear();
    let (start, used_s) = (Instant::now(), cpu_s(std::process::id())?);
    let commits = commit_until(start + duration, &mut latencies)? as f64;
    let (elapsed, used_s) = (start.elapsed(), cpu_s(std::process::id())? - used_s);
    let Memory { rss_mib, peak_mib } = memory(std::process::id())?;
    Ok(Measurement {
        rate: commits / elapsed.as_secs_f64(),
        least_ms: latencies.quantile_ms(0.0),
        p50_ms: latencies.quantile_ms(0.5),
        p99_ms: latencies.quantile_ms(0.99),
        cpu_s: used_s / commits * 1e5,
        generator_cpu_s: 0.0,
        rss_mib,
        peak_mib,
    })
}
