//! The processes under measurement: started, watched, stopped, each wait with a deadline, none left behind; and what
//! `/proc` says of their CPU time and memory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How often a wait looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Returns a command of the hub's. What is set for a benchmark, or for tests, the hub would take for keys of its configuration.
pub(crate) fn hub(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("STATIONHUB_")) {
        command.env_remove(name);
    }
    command
}

/// A child process that dies with this value.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    /// Files whose ends tell why it failed.
    logs: Vec<PathBuf>,
}

impl Process {
    /// Starts `command` with its standard output and error in `dir`; `logs` are further files it writes.
    pub(crate) fn start(name: &'static str, command: &mut Command, dir: &Path, logs: &[PathBuf]) -> Result<Self> {
        let (out, err) = (dir.join(format!("{name}.out")), dir.join(format!("{name}.err")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let logs = [out, err].into_iter().chain(logs.iter().cloned()).collect();
        Ok(Self { name, child, logs })
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns what `ready` finds, asked again and again until `deadline` has passed or the process has ended.
    pub(crate) fn wait_until<T>(&mut self, deadline: Duration, ready: impl Fn() -> Option<T>) -> Result<T> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(found) = ready() {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before it served: {status}{}", self.name, self.last_words());
            }
            if Instant::now() > end {
                bail!("{} did not serve within {deadline:?}{}", self.name, self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits for its end; fails unless that is a success, and in time.
    pub(crate) fn wait(&mut self, deadline: Duration) -> Result<()> {
        let status = self.wait_for_end(deadline)?;
        if !status.success() {
            bail!("{} failed: {status}{}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits for that.
    pub(crate) fn stop(mut self, deadline: Duration) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop {}", self.name))?;
        self.wait(deadline)
    }

    fn wait_for_end(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + deadline;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > end {
                bail!("{} did not end within {deadline:?}{}", self.name, self.last_words());
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Returns the last lines of what it wrote, for an error message.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::new();
        for log in &self.logs {
            let text = fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(8)..] {
                words += &format!("\n    {}: {line}", self.name);
            }
        }
        words
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Returns the CPU time a process has used so far, user and system, all threads, in seconds.
pub(crate) fn cpu_s(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| path.clone())?;
    // The name, in parentheses, may hold anything; after it come the state (field 3), then utime and stime (14, 15).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    let [user, system] = ticks[..] else { bail!("{path} reads strangely: {stat}") };
    Ok((user + system) as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Memory of a process in MiB.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// Resident now (VmRSS).
    pub(crate) rss_mib: f64,
    /// The most that ever was resident (VmHWM).
    pub(crate) peak_mib: f64,
}

/// Returns how much memory a process has resident.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| path.clone())?;
    let mib = |key: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or_else(|| anyhow!("{path}: no {key}"))?;
        let kib = line.split_whitespace().next().ok_or_else(|| anyhow!("{path}: {key} is empty"))?;
        Ok(kib.parse::<f64>()? / 1024.0)
    };
    Ok(Memory { rss_mib: mib("VmRSS:")?, peak_mib: mib("VmHWM:")? })
}
