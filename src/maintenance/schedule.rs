//! The backups that the hub makes by itself, in a thread of their own.
//!
//! Owns when the next one is due, the names of the files, and which of them are removed: the oldest of those that it made
//! itself, and only once a newer one is whole. It never removes any other file. What the clock says before it was set is no
//! time for a backup: its name would make it the oldest.

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::Serialize;
use tracing::{info, warn};

use super::MaintenanceError;
use super::backup::{give_way, make};
use super::whole::Replace;
use crate::clock::{CLOCK_SET_MS, now_ms};
use crate::config;
use crate::store::Progress;
use crate::store::backup::Pace;

/// How soon after the start one may be made: those who connect again come first.
const FIRST_PAUSE: Duration = Duration::from_secs(3);
/// How often it is looked whether one is due: the clock may be set.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);
/// How soon one that failed is tried again, at the latest.
const AGAIN_AFTER: Duration = Duration::from_secs(900);
const TIME_FORMAT: &str = "%Y%m%dT%H%M%SZ";
const TIME_CHARS: usize = 16;

/// How the backups stand.
#[derive(Clone, Debug, Serialize)]
pub struct BackupReport {
    /// Where they are put.
    pub directory: PathBuf,
    /// The time between two, seconds.
    pub every_s: u64,
    /// Whether one is being made.
    pub is_running: bool,
    /// The newest that is whole.
    pub last: Option<PathBuf>,
    /// When it was made, Unix milliseconds.
    pub last_ms: Option<i64>,
    /// Why the last attempt failed; `None` where it did not.
    pub error: Option<String>,
}

/// The backups of the running hub.
#[derive(Debug)]
pub struct Schedule {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    report: BackupReport,
    stops: bool,
}

/// What the thread works with.
struct Work {
    database: PathBuf,
    directory: PathBuf,
    every: Duration,
    keep: usize,
    store: Arc<Progress>,
    schedule: Arc<Schedule>,
}

impl Schedule {
    /// Starts the thread; `None` where no backups are to be made.
    ///
    /// # Errors
    /// The system's.
    pub fn start(config: &config::Store, store: Arc<Progress>) -> io::Result<Option<Arc<Schedule>>> {
        let Some((directory, every)) = config.backup.schedule() else { return Ok(None) };
        let report = BackupReport {
            directory: directory.to_owned(),
            every_s: every.as_secs(),
            is_running: false,
            last: None,
            last_ms: None,
            error: None,
        };
        let state = Mutex::new(State { report, stops: false });
        let schedule = Arc::new(Schedule { state, changed: Condvar::new() });
        let work = Work {
            database: config.path.clone(),
            directory: directory.to_owned(),
            every,
            keep: config.backup.keep,
            store,
            schedule: schedule.clone(),
        };
        std::thread::Builder::new().name("store-backup".into()).spawn(move || work.run())?;
        Ok(Some(schedule))
    }

    /// Returns how they stand.
    pub fn report(&self) -> BackupReport {
        self.lock().report.clone()
    }

    /// Ends the thread, and the backup that is being made. It is not waited for: what it leaves behind has no name.
    pub fn stop(&self) {
        self.lock().stops = true;
        self.changed.notify_all();
    }

    fn stops(&self) -> bool {
        self.lock().stops
    }

    /// Waits; tells whether the hub stops.
    fn stops_within(&self, time: Duration) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), time, |state| !state.stops);
        waited.unwrap_or_else(PoisonError::into_inner).0.stops
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn run(&self) {
        give_way();
        let mut pause = FIRST_PAUSE;
        while !self.schedule.stops_within(pause) {
            pause = LOOK_INTERVAL;
            if !self.is_due(now_ms()) {
                continue;
            }
            self.schedule.lock().report.is_running = true;
            let made = self.make();
            let mut state = self.schedule.lock();
            state.report.is_running = false;
            let failed_before = state.report.error.is_some();
            match made {
                Ok(()) => {
                    state.report.error = None;
                    drop(state);
                    if failed_before {
                        self.store.journal.note("store.backup", "backups are made again".to_owned());
                    }
                }
                Err(_) if state.stops => return,
                Err(error) => {
                    pause = AGAIN_AFTER.min(self.every);
                    let text = error.to_string();
                    state.report.error = Some(text.clone());
                    drop(state);
                    warn!("no backup was made: {text}; it is tried again in {} s", pause.as_secs());
                    if !failed_before {
                        self.store.journal.note("store.backup", format!("no backup was made: {text}"));
                    }
                }
            }
        }
    }

    /// Tells whether the newest is old enough. One of the future says that the clock was set back: then it is now that counts.
    fn is_due(&self, now_ms: i64) -> bool {
        if now_ms < CLOCK_SET_MS {
            return false;
        }
        let newest = self.made().pop();
        let mut state = self.schedule.lock();
        state.report.last_ms = newest.as_ref().map(|(time, _)| time.as_millisecond());
        state.report.last = newest.map(|(_, path)| path);
        let every_ms = i64::try_from(self.every.as_millis()).unwrap_or(i64::MAX);
        state.report.last_ms.is_none_or(|last_ms| now_ms - last_ms >= every_ms || last_ms - now_ms > every_ms)
    }

    fn make(&self) -> Result<(), MaintenanceError> {
        self.remove_stale();
        let now = Timestamp::from_millisecond(now_ms()).unwrap_or_default();
        let target = self.directory.join(format!("{}-{}.db", self.stem(), now.strftime(TIME_FORMAT)));
        let told = |_| if self.schedule.stops() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let made = make(&self.database, &target, Replace::No, Pace::Gentle, told)?;
        info!(file = %target.display(), bytes = made.bytes, "a backup was made and checked");
        let mut state = self.schedule.lock();
        state.report.last_ms = Some(now.as_millisecond());
        state.report.last = Some(target.clone());
        drop(state);
        if self.store.journal.corruption().is_some() {
            warn!("no old backup is removed: the database was damaged, and nobody has acknowledged that yet");
            return Ok(());
        }
        self.remove_oldest(&target)
    }

    fn remove_oldest(&self, newest: &Path) -> Result<(), MaintenanceError> {
        let others: Vec<PathBuf> =
            self.made().into_iter().map(|(_, path)| path).filter(|path| path != newest).collect();
        let surplus = (others.len() + 1).saturating_sub(self.keep);
        for path in &others[..surplus.min(others.len())] {
            fs::remove_file(path).map_err(|source| MaintenanceError::File {
                doing: "cannot remove the old backup",
                path: path.clone(),
                source,
            })?;
        }
        Ok(())
    }

    /// Returns the backups that are there, oldest first.
    fn made(&self) -> Vec<(Timestamp, PathBuf)> {
        let mut made: Vec<(Timestamp, PathBuf)> = self
            .names()
            .filter_map(|name| Some((time_in(&self.stem(), name.strip_suffix(".db")?)?, self.directory.join(&name))))
            .collect();
        made.sort();
        made
    }

    /// Removes what an attempt left that was killed, unless somebody writes it.
    fn remove_stale(&self) {
        for name in self.names() {
            let is_ours = name.strip_suffix(".db.partial").is_some_and(|name| time_in(&self.stem(), name).is_some());
            let path = self.directory.join(&name);
            if is_ours
                && let Ok(file) = OpenOptions::new().read(true).open(&path)
                && fs4::FileExt::try_lock(&file).is_ok()
                && let Err(error) = fs::remove_file(&path)
            {
                warn!(path = %path.display(), "an unfinished backup cannot be removed: {error}");
            }
        }
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok())
    }

    fn stem(&self) -> String {
        self.database.file_stem().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Returns the time in the name of a backup; `None` for any other file.
fn time_in(stem: &str, name: &str) -> Option<Timestamp> {
    let time = name.strip_prefix(stem)?.strip_prefix('-')?;
    if time.len() != TIME_CHARS {
        return None;
    }
    let time = DateTime::strptime(TIME_FORMAT.trim_end_matches('Z'), time.strip_suffix('Z')?).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}
