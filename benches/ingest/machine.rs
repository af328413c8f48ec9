//! The machine and what is on it: the hub's binary, Mosquitto, a disk for databases, settings from the environment.
//!
//! Owns what all benchmarks ask before they begin. It never starts a server.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

const SECONDS_MAX: f64 = 3600.0;
/// The `f_type` of a tmpfs (statfs(2)): syncs there cost nothing.
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// Returns the hub's binary.
pub(crate) fn hub() -> Result<PathBuf> {
    let hub = env::var_os("STATIONHUB_BIN").map(PathBuf::from);
    let hub = hub.or_else(|| option_env!("CARGO_BIN_EXE_stationhub").map(PathBuf::from));
    let hub = hub.ok_or_else(|| anyhow!("no hub: set STATIONHUB_BIN"))?;
    // A hub runs in a directory of its own, where a relative path would lead elsewhere.
    hub.canonicalize().with_context(|| format!("no hub at {}", hub.display()))
}

/// Returns where every server gets its directory: on a disk.
pub(crate) fn place() -> Result<PathBuf> {
    let place = env::var_os("BENCH_DIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    fs::create_dir_all(&place)?;
    let place = place.canonicalize()?;
    let on_tmpfs = rustix::fs::statfs(&place)?.f_type as i64 == TMPFS_MAGIC;
    ensure!(!on_tmpfs, "{} is a tmpfs, where syncs cost nothing: set BENCH_DIR", place.display());
    Ok(place)
}

/// Says what was measured on what.
pub(crate) fn about(mosquitto: Option<&Path>) -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map_or("CPU", |it| it.1);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mosquitto = mosquitto.and_then(version_of).unwrap_or("without Mosquitto".to_owned());
    format!("{cores} cores of {cpu}, Linux {}, {mosquitto}.", kernel.trim())
}

/// Returns Mosquitto's binary, where there is one.
pub(crate) fn find_mosquitto() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(more).map(|dir| dir.join("mosquitto")).find(|file| file.is_file())
}

/// Returns the first line of Mosquitto's help, which is all it says of its version.
fn version_of(binary: &Path) -> Option<String> {
    let help = Command::new(binary).arg("-h").output().ok()?;
    Some(String::from_utf8_lossy(&help.stdout).lines().next()?.to_owned())
}

/// Returns the environment's value of `name`, or `default`.
pub(crate) fn setting<T: FromStr>(name: &str, default: T) -> Result<T> {
    match env::var(name) {
        Ok(text) => text.parse().map_err(|_| anyhow!("{name}: {text:?} is no number for it")),
        Err(_) => Ok(default),
    }
}

/// Returns a span of more than nothing and not more than an hour.
pub(crate) fn span(seconds: f64) -> Result<Duration> {
    ensure!(seconds > 0.0 && seconds <= SECONDS_MAX, "{seconds} seconds: want more than 0, at most {SECONDS_MAX}");
    Ok(Duration::from_secs_f64(seconds))
}
