//! The heartbeat: a row that is written again and again, to see that the whole way to the disk works while nobody publishes.
//!
//! Owns that row, and what is written along with it: the rhythms that were learnt. A heartbeat that is asked for rides in the
//! next transaction, whatever else that holds, since an SD card wears out by the transaction; only where there is none, the
//! asker queues a job for it. It never decides whether it is late.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::{Doing, StoreError};
use crate::clock::now_ms;
use crate::reading::SourceId;

const WRITE: &str = "INSERT INTO heartbeat(one, written_ms) VALUES (1, ?1)
  ON CONFLICT(one) DO UPDATE SET written_ms = ?1";
const WRITE_RHYTHM: &str = "UPDATE source SET rhythm_ms = ?2 WHERE topic = ?1";

/// A source, and the usual time between its readings.
pub type Learnt = (SourceId, Duration);

/// What is asked for, and when it was last done.
#[derive(Debug)]
pub struct Heartbeat {
    started: Instant,
    wanted: AtomicBool,
    /// Whether a job of its own waits in the queue.
    queued: AtomicBool,
    /// When the last one was on disk, milliseconds since the start.
    written: AtomicU64,
    learnt: Mutex<Vec<Learnt>>,
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat {
            started: Instant::now(),
            wanted: AtomicBool::new(false),
            queued: AtomicBool::new(false),
            written: AtomicU64::new(0),
            learnt: Mutex::default(),
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
            connection.prepare_cached(WRITE)?.execute([now_ms()])?;
            for (source, usual) in self.lock().iter() {
                let usual_ms = i64::try_from(usual.as_millis()).unwrap_or(i64::MAX);
                connection.prepare_cached(WRITE_RHYTHM)?.execute((&**source, usual_ms))?;
            }
            Ok(())
        };
        write().doing("cannot write the heartbeat").map(|()| true)
    }

    /// Notes that it is on disk.
    pub(super) fn written(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.written.store(now, Ordering::Relaxed);
        self.lock().clear();
        self.wanted.store(false, Ordering::Release);
        self.queued.store(false, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Learnt>> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
        let count: i64 = connection.query_row("SELECT count(*) FROM heartbeat", [], |row| row.get(0)).unwrap();
        assert_eq!(count, 1);
        let reader = super::super::Reader::open(&path).unwrap();
        assert_eq!(reader.rhythms().unwrap(), [("a".into(), Duration::from_secs(60))]);
    }
}
