//! Keeping the ledger up: readings are counted, and times of receipt set right once the clock is.
//!
//! Owns when that is done, and how much at a time. Rows are added up beside the writer, which only gets the sums; a report
//! adds up by itself what is not counted yet, so that there is no hurry, and an SD card wears out by the transaction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Records;
use crate::clock;
use crate::store::{Counted, LedgerChange, Reader, Readings, SetRight, StoreError};
use crate::tasks::{self, Name};

/// How often it is looked whether there is something to do.
const LOOK_INTERVAL_MAX: Duration = Duration::from_secs(10);
/// Rows that are added up in one step, and from how many on it is done at once.
const STEP_ROWS_MAX: i64 = 5_000;
/// How long fewer rows wait.
const COUNT_INTERVAL: Duration = Duration::from_secs(600);
/// Pauses between steps are at least this long, and as long as the step was.
const PAUSE_MIN: Duration = Duration::from_millis(5);

impl Records {
    /// Keeps the ledger up until `stop`.
    pub async fn keep(self: Arc<Self>, look_interval: Duration, stop: CancellationToken) {
        let mut counted_at: Option<Instant> = None;
        let pause = look_interval.min(LOOK_INTERVAL_MAX);
        loop {
            let is_due = counted_at.is_none_or(|at| at.elapsed() >= COUNT_INTERVAL);
            let work = async {
                let counted = self.count(is_due).await;
                counted.map(|()| self.set_right())?.await
            };
            match stop.run_until_cancelled(work).await {
                None => return,
                Some(Ok(())) if is_due => counted_at = Some(Instant::now()),
                Some(Ok(())) => {}
                // The health checks tell of a database that cannot be read.
                Some(Err(error)) => debug!(%error, "the ledger of readings is not kept up for now"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Counts the readings of both tables: all where it is due, else only full steps.
    async fn count(&self, is_due: bool) -> Result<(), StoreError> {
        for readings in Readings::ALL {
            let mut before = None;
            loop {
                let start = Instant::now();
                let read = move |reader: &Reader| reader.count(readings, STEP_ROWS_MAX);
                let Some(counted) = self.read::<Counted>(read).await? else { return Ok(()) };
                let rows = counted.rows();
                // Sums that the database did not take are not offered again at once.
                if rows == 0 || (rows < STEP_ROWS_MAX && !is_due) || before == Some(counted.after()) {
                    break;
                }
                before = Some(counted.after());
                if self.change(LedgerChange::Counted(counted)).await.is_err() {
                    return Ok(());
                }
                tokio::time::sleep(start.elapsed().max(PAUSE_MIN)).await;
            }
        }
        Ok(())
    }

    /// Sets right what was received while the clock was not to be trusted, where it is now.
    async fn set_right(&self) -> Result<(), StoreError> {
        let skew_ms_max = self.skew_ms_max;
        let (mut rows, mut lack_ms, mut before) = (0, 0, None);
        loop {
            // All of it by one look at the clocks.
            let offset_ms = clock::offset_ms();
            let read = move |reader: &Reader| reader.untimed(offset_ms, skew_ms_max);
            let Some(Some(step)) = self.read::<Option<SetRight>>(read).await? else { break };
            let is_trusted = self.ingest.trust().sets_right(clock::now_ms(), step.lack_ms());
            // A step that the database did not take is not tried again at once.
            if !is_trusted || before == Some(step.place()) {
                break;
            }
            before = Some(step.place());
            rows += step.rows();
            lack_ms = std::cmp::max_by_key(lack_ms, step.lack_ms(), |lack_ms| lack_ms.unsigned_abs());
            if self.change(LedgerChange::SetRight(step)).await.is_err() {
                return Ok(());
            }
            tokio::time::sleep(PAUSE_MIN).await;
        }
        if rows > 0 {
            let text = format!(
                "the clock is right now: times of receipt of up to {rows} readings that came before were set right, by up to {} s",
                lack_ms / 1_000
            );
            info!("{text}");
            self.progress.journal.note("clock.set_right", text);
        }
        Ok(())
    }

    /// Reads on a thread that may wait for the disk; `None` where that thread ended.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<Option<T>, StoreError> {
        let database = self.asking.database().to_owned();
        match tasks::blocking(Name::Part("ledger"), move || question(&Reader::open(&database)?)).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Ok(None),
        }
    }
}
