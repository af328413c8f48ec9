//! The heartbeat: this run's row, written again and again, to see that the whole way to the disk works while nobody publishes,
//! and to know later for how long the hub was there.
//!
//! Owns the table of runs, and what is written along with it: the rhythms that were learnt. A heartbeat that is asked for rides in the
//! next transaction, whatever else that holds, since an SD card wears out by the transaction; only where there is none, the
//! asker queues a job for it. It never decides whether it is late.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension, Row};

use super::error::{Doing, StoreError};
use crate::clock::{in_words, millis, now_ms};
use crate::reading::SourceId;

/// Runs that are remembered.
const RUNS_MAX: i64 = 10_000;
const BEGIN: &str = "INSERT INTO run(boot, started_ms, alive_ms) VALUES (?1, ?2, ?3) RETURNING id";
const ALIVE: &str = "UPDATE run SET alive_ms = ?2 WHERE id = ?1";
const STARTED: &str = "UPDATE run SET started_ms = ?2 WHERE id = ?1";
const STOPPED: &str = "UPDATE run SET alive_ms = ?2, stopped_ms = ?2 WHERE id = ?1";
const FORGET: &str = "DELETE FROM run WHERE id <= ?1";
const LAST: &str = "SELECT id, boot, started_ms, alive_ms, stopped_ms FROM run ORDER BY id DESC LIMIT 1";
const WRITE_RHYTHM: &str = "UPDATE source SET rhythm_ms = ?2 WHERE topic = ?1";

/// A source, and the usual time between its readings.
pub type Learnt = (SourceId, Duration);

/// One run of the hub, as its row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: i64,
    /// The boot of the machine that it was in.
    pub boot: String,
    /// When it began, Unix milliseconds.
    pub started_ms: i64,
    /// When it was last seen alive, Unix milliseconds.
    pub alive_ms: i64,
    /// When it stopped in order, Unix milliseconds; `None` for one that runs, or was killed.
    pub stopped_ms: Option<i64>,
}

/// What is asked for, and when it was last done.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    started_ms: i64,
    boot: String,
    /// The number of this run's row; 0 before it has one.
    run: AtomicI64,
    previous: OnceLock<Option<Run>>,
    /// Whether it was looked how that one ended.
    told: AtomicBool,
    wanted: AtomicBool,
    /// Whether a job of its own waits in the queue.
    queued: AtomicBool,
    /// When the last one was on disk, milliseconds since the start.
    written: AtomicU64,
    learnt: Mutex<Vec<Learnt>>,
    /// The start was noted by a clock that was not right, and that is now.
    wrong_start: AtomicBool,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            started: Instant::now(),
            started_ms: now_ms(),
            boot: boot(),
            run: AtomicI64::new(0),
            previous: OnceLock::new(),
            told: AtomicBool::new(false),
            wanted: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            written: AtomicU64::new(0),
            learnt: Mutex::default(),
            wrong_start: AtomicBool::new(false),
        }
    }
}

impl Heartbeat {
    /// Asks for a heartbeat in the next transaction, and for rhythms to be written with it.
    pub fn ask(&self, learnt: Vec<Learnt>) {
        *self.lock() = learnt;
        self.wanted.store(true, Ordering::Release);
    }

    /// Tells whether one was asked for that is not on disk yet.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Notes that a job was queued for it.
    pub fn queued(&self) {
        self.queued.store(true, Ordering::Release);
    }

    /// Tells whether such a job waits.
    pub(super) fn is_queued(&self) -> bool {
        self.queued.load(Ordering::Acquire)
    }

    /// Returns how long ago the last one was on disk; without any, how long ago the store was started.
    pub fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.written.load(Ordering::Relaxed)))
    }

    /// Writes it, where it was asked for, into the transaction that is open; tells whether it did.
    pub(super) fn write(&self, connection: &Connection) -> Result<bool, StoreError> {
        if !self.is_wanted() {
            return Ok(false);
        }
        let write = || {
            self.write_run(connection)?;
            for (source, usual) in self.lock().iter() {
                let usual_ms = i64::try_from(usual.as_millis()).unwrap_or(i64::MAX);
                connection.prepare_cached(WRITE_RHYTHM)?.execute((&**source, usual_ms))?;
            }
            Ok(())
        };
        write().doing("cannot write the heartbeat").map(|()| true)
    }

    /// Returns the run before this one, once the database was opened; `None` where this is its first.
    pub fn previous(&self) -> Option<&Run> {
        self.previous.get()?.as_ref()
    }

    /// Reads of the run before, at the first time that the database is opened.
    pub(super) fn opened(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.previous.get().is_none() {
            let last = connection.query_row(LAST, [], run).optional().doing("cannot read of the last run")?;
            self.previous.get_or_init(|| last);
        }
        Ok(())
    }

    /// Returns, once this run has its row, what is to be said of the one before where that did not stop in order; once. A
    /// command that works on the database has no row, and says nothing.
    pub(super) fn take_unclean(&self) -> Option<String> {
        if self.run.load(Ordering::Relaxed) == 0 || self.told.swap(true, Ordering::Relaxed) {
            return None;
        }
        self.previous()?.stopped_ms.is_none().then(|| self.previous().map(|run| self.unclean(run)))?
    }

    /// Says how the run before ended that did not stop in order.
    fn unclean(&self, before: &Run) -> String {
        let how = if before.boot == self.boot { "it was killed, or died" } else { "the machine was restarted since" };
        format!(
            "the hub was not stopped in order: it was last seen alive at {}, and {how}; it runs again since {}",
            in_words(before.alive_ms),
            in_words(self.started_ms)
        )
    }

    /// Sets the start of this run right, once the clock is.
    pub fn set_right(&self) {
        self.wrong_start.store(true, Ordering::Release);
    }

    /// Notes that this run ends in order.
    pub(super) fn stopped(&self, connection: &Connection) -> Result<(), StoreError> {
        if self.run.load(Ordering::Relaxed) == 0 && self.is_wanted() {
            self.write_run(connection).doing("cannot note the end of this run")?;
        }
        connection
            .execute(STOPPED, [self.run.load(Ordering::Relaxed), now_ms()])
            .map(drop)
            .doing("cannot note the end of this run")
    }

    /// Writes this run's row; a new one where it has none, or the database is another file than before.
    fn write_run(&self, connection: &Connection) -> rusqlite::Result<()> {
        let now_ms = now_ms();
        let known = self.run.load(Ordering::Relaxed);
        if known > 0 && connection.prepare_cached(ALIVE)?.execute([known, now_ms])? > 0 {
            if self.wrong_start.load(Ordering::Acquire) {
                connection.execute(STARTED, [known, now_ms - millis(self.started.elapsed())])?;
            }
            return Ok(());
        }
        let id: i64 =
            connection.prepare_cached(BEGIN)?.query_row((&self.boot, self.started_ms, now_ms), |row| row.get(0))?;
        connection.execute(FORGET, [id - RUNS_MAX])?;
        self.run.store(id, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that it is on disk.
    pub(super) fn written(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.written.store(now, Ordering::Relaxed);
        self.lock().clear();
        self.wrong_start.store(false, Ordering::Release);
        self.wanted.store(false, Ordering::Release);
        self.queued.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Learnt>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns what names this boot of the machine. Where nothing does, no two runs are taken for one boot's.
pub(super) fn boot() -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    if id.trim().is_empty() { format!("unknown-{}", std::process::id()) } else { id.trim().to_owned() }
}

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        boot: row.get(1)?,
        started_ms: row.get(2)?,
        alive_ms: row.get(3)?,
        stopped_ms: row.get(4)?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    #[test]
    fn it_is_one_row_and_takes_the_rhythms_of_known_sources_along() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = super::super::schema::open(&path, Synchronous::Full, true).unwrap();
        connection.execute_batch("INSERT INTO source(topic, first_seen_ms) VALUES ('a', 1), ('b', 1)").unwrap();
        let heartbeat = Heartbeat::default();
        assert!(!heartbeat.write(&connection).unwrap(), "nobody asked");
        for seconds in [5, 60] {
            heartbeat.ask(vec![("a".into(), Duration::from_secs(seconds)), ("unknown".into(), Duration::from_secs(1))]);
            assert!(heartbeat.write(&connection).unwrap());
            assert!(heartbeat.is_wanted(), "until it is on disk");
            heartbeat.written();
            assert!(!heartbeat.is_wanted());
        }
        heartbeat.stopped(&connection).unwrap();
        let next = Heartbeat::default();
        next.opened(&connection).unwrap();
        let run = next.previous().unwrap();
        assert_eq!((run.id, run.started_ms, run.stopped_ms), (1, heartbeat.started_ms, Some(run.alive_ms)));
        let reader = super::super::Reader::open(&path).unwrap();
        assert_eq!(reader.rhythms().unwrap(), [("a".into(), Duration::from_secs(60))]);
    }
}
