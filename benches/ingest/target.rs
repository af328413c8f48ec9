//! What the load goes to: a fresh hub, or a fresh Mosquitto, in a directory of its own on a real disk; and one cell's
//! measurement of it. A hub's stored rows are counted against the acks it gave while it still runs, so that nothing
//! but the promise "an ack means stored" can make them equal.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::floor::SlowSync;
use crate::generator::{Generator, Shape, Until};
use crate::process::{Memory, Process, cpu_s, memory};

const READY_DEADLINE: Duration = Duration::from_secs(20);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const WARM_UP: Duration = Duration::from_millis(500);

/// What one cell came to.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Acked per second.
    pub(crate) rate: f64,
    /// The quickest ack.
    pub(crate) least_ms: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU seconds of the server per 100,000 messages.
    pub(crate) cpu_s: f64,
    /// CPU seconds of the generator per 100,000 messages.
    pub(crate) generator_cpu_s: f64,
    /// Resident memory of the server at the end, and the most there was.
    pub(crate) rss_mib: f64,
    pub(crate) peak_mib: f64,
}

/// Measures `generator` for `duration` after a warm-up, and the server `pid` beside it; 0 is said of no server.
pub(crate) fn measure(generator: &mut Generator, pid: Option<u32>, duration: Duration) -> Result<Measurement> {
    let server_cpu_s = || pid.map_or(Ok(0.0), cpu_s);
    generator.pump(Until::Time(Instant::now() + WARM_UP))?;
    generator.latencies.clear();
    let (start, acked) = (Instant::now(), generator.acked());
    let (server_s, own_s) = (server_cpu_s()?, cpu_s(std::process::id())?);
    generator.pump(Until::Time(start + duration))?;
    let (elapsed, acked) = (start.elapsed(), (generator.acked() - acked) as f64);
    let (server_s, own_s) = (server_cpu_s()? - server_s, cpu_s(std::process::id())? - own_s);
    ensure!(acked > 0.0, "nothing was acked within {duration:?}");
    let Memory { rss_mib, peak_mib } = match pid {
        Some(pid) => memory(pid)?,
        None => Memory { rss_mib: 0.0, peak_mib: 0.0 },
    };
    Ok(Measurement {
        rate: acked / elapsed.as_secs_f64(),
        least_ms: generator.latencies.quantile_ms(0.0),
        p50_ms: generator.latencies.quantile_ms(0.5),
        p99_ms: generator.latencies.quantile_ms(0.99),
        cpu_s: server_s / acked * 1e5,
        generator_cpu_s: own_s / acked * 1e5,
        rss_mib,
        peak_mib,
    })
}

/// A server that waits for load.
pub(crate) struct Server {
    process: Process,
    /// Where it listens for MQTT.
    pub(crate) addr: SocketAddr,
    /// Where a hub listens for HTTP.
    pub(crate) http: Option<SocketAddr>,
    /// The database of a hub.
    pub(crate) db: Option<PathBuf>,
    // Last, so that the files go after the process.
    _dir: TempDir,
}

impl Server {
    /// Starts the hub `binary` under a fresh directory in `place`, its disk slowed down by `slow`.
    pub(crate) fn hub(binary: &Path, place: &Path, slow: Option<&SlowSync>) -> Result<Self> {
        Self::hub_with(binary, place, slow, "")
    }

    /// Starts the hub as [`Self::hub`] does, with a `hub.toml` of its own.
    pub(crate) fn hub_with(binary: &Path, place: &Path, slow: Option<&SlowSync>, config: &str) -> Result<Self> {
        Self::hub_on(binary, place, slow, config, None)
    }

    /// Starts the hub as [`Self::hub_with`] does, on a database that is there, or else on a new one.
    pub(crate) fn hub_on(
        binary: &Path,
        place: &Path,
        slow: Option<&SlowSync>,
        config: &str,
        db: Option<&Path>,
    ) -> Result<Self> {
        let dir = TempDir::with_prefix_in("hub-", place)?;
        let at = |name: &str| dir.path().join(name);
        fs::write(at("hub.toml"), config)?;
        let (ready, log) = (at("ready.json"), at("hub.log"));
        let db = db.map_or_else(|| Ok(at("weather_data.db")), Path::canonicalize)?;
        let mut command = crate::process::hub(binary);
        command.current_dir(dir.path()).arg("--db").arg(&db).arg("--pid").arg(at("hub.pid"));
        command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--silent"]);
        command.arg("--ready-file").arg(&ready).arg("--log").arg(&log);
        if let Some(slow) = slow {
            slow.apply(&mut command);
        }
        let mut process = Process::start("hub", &mut command, dir.path(), &[log])?;
        let (addr, http) = process.wait_until(READY_DEADLINE, || addresses(&ready))?;
        Ok(Self { process, addr, http, db: Some(db), _dir: dir })
    }

    /// Starts Mosquitto with all its limits on messages lifted, storing nothing.
    pub(crate) fn mosquitto(binary: &Path, place: &Path) -> Result<Self> {
        Self::mosquitto_with(binary, place, 0, 0)
    }

    /// Starts Mosquitto with this window and this queue for each client, in messages, storing nothing.
    pub(crate) fn mosquitto_with(binary: &Path, place: &Path, window: usize, queue: usize) -> Result<Self> {
        Self::mosquitto_at(free_address()?, binary, place, window, queue)
    }

    /// Starts Mosquitto as [`Self::mosquitto_with`] does, at this address.
    pub(crate) fn mosquitto_at(
        addr: SocketAddr,
        binary: &Path,
        place: &Path,
        window: usize,
        queue: usize,
    ) -> Result<Self> {
        let dir = TempDir::with_prefix_in("mosquitto-", place)?;
        let config = dir.path().join("mosquitto.conf");
        let listener = format!("listener {} 127.0.0.1\n", addr.port());
        let limits = format!("max_inflight_messages {window}\nmax_queued_messages {queue}\n");
        let rest = "allow_anonymous true\npersistence false\nlog_type none\n";
        fs::write(&config, listener + &limits + rest)?;
        let mut command = Command::new(binary);
        command.arg("-c").arg(&config);
        let mut process = Process::start("mosquitto", &mut command, dir.path(), &[])?;
        process.wait_until(READY_DEADLINE, || TcpStream::connect_timeout(&addr, READY_DEADLINE).ok())?;
        Ok(Self { process, addr, http: None, db: None, _dir: dir })
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Connects `shape`, lets `load` do its work, drains, counts the rows of a hub, and stops the server.
    pub(crate) fn under<T>(self, shape: Shape, load: impl FnOnce(&mut Generator, u32) -> Result<T>) -> Result<T> {
        let pid = self.pid();
        let loaded = || -> Result<(T, u64)> {
            let mut generator = Generator::connect(self.addr, shape)?;
            let done = load(&mut generator, pid)?;
            generator.drain()?;
            let acked = generator.acked();
            generator.disconnect()?;
            Ok((done, acked))
        };
        let (done, acked) = loaded().with_context(|| format!("{shape}{}", self.last_words()))?;
        if let Some(db) = &self.db {
            let stored = stored_rows(db)?;
            ensure!(stored >= acked, "READINGS LOST at {shape}: {acked} acked, {stored} stored");
            ensure!(stored <= acked, "READINGS DOUBLED at {shape}: {acked} acked, {stored} stored");
        }
        self.stop()?;
        Ok(done)
    }

    /// Stops the server.
    pub(crate) fn stop(self) -> Result<()> {
        self.process.stop(STOP_DEADLINE)
    }

    /// Returns the last lines of what the server wrote, for an error message.
    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }
}

/// Returns an address on which nobody listens.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Returns the first MQTT address of a ready file, and that of HTTP; none while it is missing or half written.
fn addresses(ready: &Path) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let ready: serde_json::Value = serde_json::from_slice(&fs::read(ready).ok()?).ok()?;
    let mqtt = ready["mqtt"].as_array()?.first()?.as_str()?.parse().ok()?;
    Some((mqtt, ready["http"].as_str().and_then(|address| address.parse().ok())))
}

fn stored_rows(db: &Path) -> Result<u64> {
    let db = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    db.busy_timeout(Duration::from_secs(10))?;
    let rows: i64 = db.query_row("SELECT count(*) FROM weather_data", [], |row| row.get(0))?;
    Ok(rows.unsigned_abs())
}
