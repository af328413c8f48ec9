//! What the machine says: the database's files and their disk, the hub's memory, the time service.
//!
//! Owns the looking, which may wait for the disk: it runs on threads that may. It never judges what it finds.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access, statvfs};

use super::disk::Sizes;
use super::memory::{self, Memory};
use crate::place;
use crate::store::error::Class;
use crate::store::{Reader, StoreError};

/// How long a fresh connection may take to read the database.
pub(super) const READ_TIME_MAX: Duration = Duration::from_secs(1);
/// How long `timedatectl` may take, and how often it is looked whether it has ended.
const ASK_TIME_MAX: Duration = Duration::from_millis(500);
const ASK_LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// How many intervals of the checks an answer that the clock is synchronised, or that nobody knows, holds.
const ASK_INTERVALS: u32 = 10;
/// Programs that are named.
const HOLDERS_MAX: usize = 5;
/// What the time service of systemd makes, and makes in it once the clock is synchronised.
const TIMESYNC: &str = "/run/systemd/timesync";

/// What the machine says of the database and of the hub.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Whether the database can be read.
    pub(super) readable: Result<(), String>,
    /// Whether it cannot because it is damaged.
    pub(super) is_damaged: bool,
    /// Whether its directory can be written.
    pub(super) directory_writable: bool,
    pub(super) sizes: Sizes,
    /// The programs that have the database open, where that was asked for.
    pub(super) holders: Vec<String>,
    pub(super) memory: Memory,
    /// Whether the clock is synchronised; `None` where the system does not say.
    pub(super) synchronised: Option<bool>,
    /// When the oldest message that waits for the upstream was received, Unix milliseconds.
    pub(super) oldest_ms: Option<i64>,
}

impl Seen {
    /// Returns the same of a database that cannot be read.
    pub(super) fn unreadable(self, why: String) -> Seen {
        Seen { readable: Err(why), ..self }
    }
}

impl Default for Seen {
    /// What is seen before anything was looked at.
    fn default() -> Seen {
        Seen {
            readable: Ok(()),
            is_damaged: false,
            directory_writable: true,
            sizes: Sizes::default(),
            holders: Vec::new(),
            memory: Memory::default(),
            synchronised: None,
            oldest_ms: None,
        }
    }
}

/// Looks at a database and its disk; the programs that have it open are looked for where its log is larger than
/// `wal_bytes_max`.
pub(super) fn look_at(database: &Path, wal_bytes_max: u64) -> Seen {
    let database = &place::resolved(database);
    let directory = place::directory(database);
    let size_of = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let beside = |suffix: &str| place::beside(database, suffix);
    let free = statvfs(directory).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    let sizes = Sizes { free, database: size_of(database), wal: size_of(&beside("-wal")) };
    let read = read(database);
    Seen {
        is_damaged: read.as_ref().is_err_and(|error| error.class() == Class::Corrupt),
        readable: read.map_err(|error| error.to_string()).and_then(in_time).and_then(|()| may_be_read(database)),
        directory_writable: access(directory, Access::WRITE_OK).is_ok(),
        sizes,
        holders: if sizes.wal >= wal_bytes_max { holders(&beside("-shm")) } else { Vec::new() },
        memory: memory::look(),
        synchronised: None,
        oldest_ms: None,
    }
}

/// Returns how many writes the system has counted of a thread of the hub; 0 where it does not count.
pub(super) fn writes_of_thread(thread: i32) -> u64 {
    let counted = fs::read_to_string(format!("/proc/self/task/{thread}/io")).unwrap_or_default();
    let writes = counted.lines().find_map(|line| line.strip_prefix("syscw: "));
    writes.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Tells whether the hub may read the file: SQLite may read through a descriptor that it has from before, and to open the file
/// here would end its locks.
fn may_be_read(database: &Path) -> Result<(), String> {
    access(database, Access::READ_OK).map_err(|error| format!("the hub may not read the file: {error}"))
}

/// Reads a row by a fresh connection; returns how long that took.
fn read(database: &Path) -> Result<Duration, StoreError> {
    let start = Instant::now();
    Reader::open(database)?.probe().map(|()| start.elapsed())
}

fn in_time(took: Duration) -> Result<(), String> {
    if took > READ_TIME_MAX {
        return Err(format!("a fresh connection took {} ms to read one row", took.as_millis()));
    }
    Ok(())
}

/// Names the other programs that have a file open, as far as the hub may see them.
fn holders(file: &Path) -> Vec<String> {
    let own = std::process::id().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| Some((process.file_name().into_string().ok()?, process.path())))
        .filter(|(pid, path)| pid.bytes().all(|byte| byte.is_ascii_digit()) && *pid != own && has_open(path, file))
        .take(HOLDERS_MAX)
        .map(|(pid, path)| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim().escape_debug())
        })
        .collect()
}

fn has_open(process: &Path, file: &Path) -> bool {
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    open.into_iter().any(|open| fs::read_link(open.path()).is_ok_and(|target| target == file))
}

/// Asks whether the clock is synchronised. The kernel knows, and its call needs what this hub does without, `unsafe`; so
/// systemd's time service is asked by the file that it makes, and any other by `timedatectl`.
#[derive(Debug)]
pub(super) struct TimeService {
    interval: Duration,
    asked: Option<(Instant, Option<bool>)>,
}

impl TimeService {
    pub(super) fn new(interval: Duration) -> TimeService {
        TimeService { interval, asked: None }
    }

    /// Returns whether the clock is synchronised, where that can be told without asking a program.
    pub(super) fn at_once() -> Option<bool> {
        let made = Path::new(TIMESYNC);
        made.is_dir().then(|| made.join("synchronized").exists())
    }

    /// Returns whether the clock is synchronised; `None` where the system does not say.
    pub(super) fn synchronised(&mut self) -> Option<bool> {
        if let Some(said) = TimeService::at_once() {
            return Some(said);
        }
        // To ask starts a program or two, which costs a small machine more than all other checks.
        if let Some((at, answer)) = self.asked {
            let holds = self.interval * if answer == Some(false) { 1 } else { ASK_INTERVALS };
            if at.elapsed() < holds {
                return answer;
            }
        }
        let answer = ask_timedatectl();
        self.asked = Some((Instant::now(), answer));
        answer
    }
}

fn ask_timedatectl() -> Option<bool> {
    let mut child = Command::new("timedatectl")
        // Its words are not the hub's.
        .env_remove("NOTIFY_SOCKET")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    if !ends_in_time(&mut child) {
        return None;
    }
    let mut answer = String::new();
    child.stdout.take()?.take(64).read_to_string(&mut answer).ok()?;
    match answer.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// Waits for the end of a program, and ends it where that takes too long; tells whether it ended by itself.
fn ends_in_time(child: &mut Child) -> bool {
    let deadline = Instant::now() + ASK_TIME_MAX;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(ASK_LOOK_INTERVAL);
    }
    if child.kill().and_then(|()| child.wait()).is_err() {
        tracing::debug!("timedatectl could not be ended");
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn who_has_a_file_open_is_named_and_the_hub_itself_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap().join("held");
        let held = fs::File::create(&path).unwrap();
        assert_eq!(holders(&path), [""; 0]);
        let mut child = Command::new("sleep").arg("60").stdin(held).spawn().unwrap();
        let named = holders(&path);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(named.len(), 1);
        assert!(named[0].ends_with(&format!("(pid {})", child.id())), "{named:?}");
    }
}
