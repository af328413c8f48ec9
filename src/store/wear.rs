//! What the hub has written to the disk, by day: an SD card lives for so many bytes.
//!
//! Owns the table `wear` and the counting. The system counts what the process has it write to a disk, its log among it; what
//! the file system and the card write besides is not known here. The count rides with the heartbeat, and never asks for a
//! transaction of its own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde::Serialize;

use super::error::{Doing, StoreError};
use crate::clock::{CLOCK_SET_MS, now_ms};

/// Days that are remembered.
const DAYS_KEPT: i64 = 3_660;
/// Whole days that a day's figure is the mean of, at most.
const DAYS_MEAN: i64 = 30;
const DAY_MS: i64 = 86_400_000;
const DAY_S: u64 = 86_400;
/// Without a whole day, this run tells what a day may cost, once it has lasted for so long.
const RUN_TIME_MIN: Duration = Duration::from_secs(3_600);
const ADD: &str = "INSERT INTO wear(day, bytes) VALUES (?1, ?2) ON CONFLICT(day) DO UPDATE SET bytes = bytes + ?2";
const FORGET: &str = "DELETE FROM wear WHERE day <= ?1";
const RECENT: &str = "SELECT day, bytes FROM wear WHERE day >= ?1";

/// What is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WearReport {
    /// Bytes written since the start; `None` where the system does not count.
    pub since_start_bytes: Option<u64>,
    /// Bytes written today (UTC), by earlier runs, too.
    pub today_bytes: u64,
    /// Bytes written in a day: the mean of the last whole days, or as this run would have it; `None` before an hour.
    pub per_day_bytes: Option<u64>,
}

/// The count.
#[derive(Debug)]
pub struct Wear {
    started: Instant,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    /// How much of this run's bytes stands in the table.
    noted: u64,
    /// The table's recent days.
    days: BTreeMap<i64, u64>,
}

/// A count that is in the transaction under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Staged {
    day: i64,
    bytes: u64,
}

impl Default for Wear {
    fn default() -> Wear {
        Wear { started: Instant::now(), counted: Mutex::default() }
    }
}

impl Wear {
    /// Reads the recent days, when the database is opened.
    pub(super) fn opened(&self, connection: &Connection) -> Result<(), StoreError> {
        const DOING: &str = "cannot read how much was written";
        let mut statement = connection.prepare(RECENT).doing(DOING)?;
        let rows = statement
            .query_map([now_ms() / DAY_MS - DAYS_MEAN - 1], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs()))
            })
            .doing(DOING)?;
        self.lock().days = rows.collect::<Result<_, _>>().doing(DOING)?;
        Ok(())
    }

    /// Adds what was written since the last time to the day, within the transaction that is open.
    pub(super) fn write(&self, connection: &Connection) -> Result<Option<Staged>, StoreError> {
        let Some(bytes) = written_bytes().map(|all| all.saturating_sub(self.lock().noted)) else { return Ok(None) };
        let now_ms = now_ms();
        // Before the clock is set, nobody knows the day.
        if bytes == 0 || now_ms < CLOCK_SET_MS {
            return Ok(None);
        }
        let day = now_ms / DAY_MS;
        let add = || {
            connection.prepare_cached(ADD)?.execute([day, i64::try_from(bytes).unwrap_or(i64::MAX)])?;
            connection.prepare_cached(FORGET)?.execute([day - DAYS_KEPT])
        };
        add().doing("cannot note how much was written")?;
        Ok(Some(Staged { day, bytes }))
    }

    /// Notes that a count is on disk.
    pub(super) fn written(&self, Staged { day, bytes }: Staged) {
        let mut counted = self.lock();
        counted.noted += bytes;
        *counted.days.entry(day).or_default() += bytes;
        counted.days.retain(|known, _| *known >= day - DAYS_MEAN - 1);
    }

    /// Returns what is told of it.
    pub fn report(&self) -> WearReport {
        let since_start = written_bytes();
        let counted = self.lock();
        let unnoted = since_start.map_or(0, |all| all.saturating_sub(counted.noted));
        let today = now_ms() / DAY_MS;
        WearReport {
            since_start_bytes: since_start,
            today_bytes: counted.days.get(&today).copied().unwrap_or_default() + unnoted,
            per_day_bytes: mean(&counted.days, today).or_else(|| of_this_run(since_start?, self.started.elapsed())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the mean of the last whole days; the first day of all was not counted whole.
fn mean(days: &BTreeMap<i64, u64>, today: i64) -> Option<u64> {
    let whole: Vec<u64> = days.range(..today).skip(1).map(|(_, bytes)| *bytes).collect();
    let sum: u64 = whole.iter().sum();
    sum.checked_div(whole.len() as u64)
}

fn of_this_run(bytes: u64, ran: Duration) -> Option<u64> {
    let per_day = u128::from(bytes) * u128::from(DAY_S) / u128::from(ran.as_secs().max(1));
    (ran >= RUN_TIME_MIN).then(|| u64::try_from(per_day).unwrap_or(u64::MAX))
}

/// Returns what the system has written to disks for this process; `None` where it does not count.
fn written_bytes() -> Option<u64> {
    let io = std::fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    #[test]
    fn what_is_written_is_counted_once_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let wear = Wear::default();
        wear.written(Staged { day: now_ms() / DAY_MS, bytes: 0 });
        let Some(staged) = wear.write(&connection).unwrap() else { return };
        let again = wear.write(&connection).unwrap().unwrap();
        assert!(again.bytes >= staged.bytes, "one that did not commit is counted with the next");
        wear.written(again);
        let in_table: i64 = connection.query_row("SELECT bytes FROM wear", [], |row| row.get(0)).unwrap();
        assert_eq!(in_table.unsigned_abs(), staged.bytes + again.bytes, "both are in the table without a rollback");
        let next = Wear::default();
        next.opened(&connection).unwrap();
        assert!(next.report().today_bytes >= in_table.unsigned_abs());
    }

    #[test]
    fn a_days_figure_is_the_mean_of_whole_days() {
        let days = BTreeMap::from([(10, 7), (11, 100), (12, 300), (13, 5)]);
        assert_eq!(mean(&days, 13), Some(200), "neither the first day nor today");
        assert_eq!(mean(&BTreeMap::from([(13, 5)]), 13), None);
        assert_eq!(of_this_run(1_000, Duration::from_secs(3_599)), None);
        assert_eq!(of_this_run(1_000, Duration::from_secs(43_200)), Some(2_000));
    }
}
