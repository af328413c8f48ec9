//! Old rows go, for as long as there are any, a few at a time.
//!
//! Owns what is old, and how many rows go in one transaction, by how long the last one took. Age is counted from the newest
//! hour that is rolled up, not from the clock alone: a clock that runs ahead deletes nothing by itself, and a station that
//! fell silent keeps what it has. It never deletes anything itself.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tracing::info;

use super::hand::Hand;
use super::{Ended, KINDS, PAUSE_MIN, Upkeep, blocking};
use crate::clock::{Moment, now_ms};
use crate::store::{Content, Old, Reader, Retention, Told};

/// How often old rows are looked for.
pub(super) const INTERVAL: Duration = Duration::from_secs(600);
/// Rows that are looked at in one job, at first, at least and at most.
const ROWS: u32 = 100;
const ROWS_MIN: u32 = 10;
const ROWS_MAX: u32 = 2_000;
/// A job is to take about so long, from the queue to the disk.
const TIME_LOW: Duration = Duration::from_millis(8);
const TIME_HIGH: Duration = Duration::from_millis(20);
/// How many times as long as a job took the pause after it is: fewer than one ack in ten waits for one.
const PAUSE_FACTOR: u32 = 10;
const HOUR_S: i64 = 3_600;
/// A clock that was set by more than this says nothing of ages until the next look, milliseconds.
const STEP_MS_MAX: i64 = 60_000;

impl Upkeep {
    /// Has old rows deleted, for as long as there are any.
    pub(super) async fn delete_old(self: &Arc<Upkeep>, hand: &mut Hand) -> Result<(), Ended> {
        if !self.knows_the_time() {
            return Ok(());
        }
        if let Some(age) = self.retention.raw {
            for kind in KINDS {
                let upkeep = self.clone();
                let done_s = blocking(move || Reader::open(&upkeep.database)?.rolled_up_until_s(kind)).await?;
                let Some(done_s) = done_s else { continue };
                let newest_s = done_s.min(now_ms().div_euclid(1000));
                let before_s = (newest_s - seconds(age)).div_euclid(HOUR_S) * HOUR_S;
                let deleted = delete(hand, Old::Raw(kind, before_s)).await?;
                if deleted > 0 {
                    info!(deleted, "{} readings older than store.retention.raw_days were deleted", kind.name());
                }
            }
        }
        if let Some(age) = self.retention.quarantine {
            let deleted = delete(hand, Old::Quarantine(now_ms() - seconds(age) * 1000)).await?;
            if deleted > 0 {
                info!(deleted, "messages older than store.retention.quarantine_days were deleted from quarantine");
            }
        }
        Ok(())
    }
}

impl Upkeep {
    /// Tells whether the clock says how old rows are: it is trusted, and was not set since the last look.
    fn knows_the_time(&self) -> bool {
        let now = Moment::now();
        let before = self.clock.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        let stepped = before.is_some_and(|before| {
            let passed = i64::try_from(now.at.saturating_duration_since(before.at).as_millis()).unwrap_or(i64::MAX);
            now.ms.saturating_sub(before.ms).saturating_sub(passed).abs() > STEP_MS_MAX
        });
        self.records.is_clock_trusted() && !stepped
    }
}

/// Has old rows deleted until a look finds none; returns how many.
async fn delete(hand: &mut Hand, old: Old) -> Result<u64, Ended> {
    let (mut deleted, mut rows_max, mut after) = (0, ROWS, Default::default());
    loop {
        let told: Arc<Told> = Arc::default();
        let start = Instant::now();
        hand.store(Content::Retention(Retention { old, rows_max, after, told: told.clone() })).await?;
        let took = start.elapsed();
        deleted += told.deleted();
        if told.looked_at() == 0 {
            return Ok(deleted);
        }
        after = told.last();
        rows_max = next_rows_max(rows_max, took);
        tokio::time::sleep((took * PAUSE_FACTOR).max(PAUSE_MIN)).await;
    }
}

/// Returns how many rows the next job may look at.
fn next_rows_max(rows_max: u32, took: Duration) -> u32 {
    let next = match took {
        _ if took < TIME_LOW => rows_max * 2,
        _ if took > TIME_HIGH => rows_max / 2,
        _ => rows_max,
    };
    next.clamp(ROWS_MIN, ROWS_MAX)
}

fn seconds(age: Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX / 2_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_disk_is_asked_for_fewer_rows_and_a_quick_one_for_more_within_bounds() {
        assert_eq!(next_rows_max(100, Duration::from_millis(1)), 200);
        assert_eq!(next_rows_max(100, Duration::from_millis(10)), 100);
        assert_eq!(next_rows_max(100, Duration::from_millis(60)), 50);
        assert_eq!(next_rows_max(ROWS_MIN, Duration::from_secs(1)), ROWS_MIN);
        assert_eq!(next_rows_max(ROWS_MAX, Duration::ZERO), ROWS_MAX);
    }
}
