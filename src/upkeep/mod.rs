//! Upkeep: rollups are made, and old rows go, in the background.
//!
//! Owns when that is done and how fast: a small step, then a pause that is longer than the step took, so that ten years of
//! old rows are caught up with while acks wait for nothing. What is worked out is read on connections of its own; what is to
//! be written goes through the queue as everything else does, one small job at a time. It never touches SQL.

mod hand;
mod old;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::hand::Hand;
use crate::clock::{Moment, now_ms};
use crate::config::{self, Config};
use crate::log::Rate;
use crate::reading::Kind;
use crate::records::Records;
use crate::store::queue::Closed;
use crate::store::{Claims, Content, Days, Progress, Queue, Reader, RollupChange, Room, Step, StoreError};
use crate::tasks::{self, Name};
use crate::weather::calibration::Sensors;

const KINDS: [Kind; 2] = [Kind::Weather, Kind::Magnetic];
/// How often it is looked whether there is something to do.
const TICK: Duration = Duration::from_secs(1);
/// How often it is looked whether an hour is over.
const HOURS_INTERVAL: Duration = Duration::from_secs(20);
/// How long late readings are gathered before their hours are done again.
const LATE_INTERVAL: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(30);
/// How many times as long as a step took the pause after it is.
const PAUSE_FACTOR: u32 = 3;
/// Changes in one job: on a small machine, a few milliseconds.
const CHANGES_MAX: usize = 256;
/// From how many steps on catching up is told.
const STEPS_TOLD: u32 = 30;

/// What it works on.
pub struct Upkeep {
    database: PathBuf,
    queue: Arc<Queue>,
    claims: Arc<Claims>,
    room: Arc<Room>,
    records: Arc<Records>,
    /// The wall clock at the last look at old rows, and when that was.
    clock: Mutex<Option<Moment>>,
    days: Days,
    sensors: Sensors,
    retention: config::Retention,
    too_late_lines: Rate,
    error_lines: Rate,
}

/// Why a turn ended before its end.
#[derive(Debug)]
enum Ended {
    /// The hub stops.
    Stopping,
    /// The database could not be read.
    Failed(StoreError),
}

impl From<Closed> for Ended {
    fn from(_: Closed) -> Ended {
        Ended::Stopping
    }
}

impl Upkeep {
    /// Makes it for this station and this store.
    pub fn new(config: &Config, queue: Arc<Queue>, progress: &Progress, records: Arc<Records>) -> Upkeep {
        let zone = config.station.timezone.as_deref();
        let days = Days::of_zone(zone).unwrap_or_else(|| {
            let zone = zone.unwrap_or_default();
            warn!("station.timezone: {zone:?} is not known on this machine; the days of rollups are those of UTC");
            Days::utc()
        });
        Upkeep {
            database: config.store.path.clone(),
            queue,
            claims: progress.claims.clone(),
            room: progress.room.clone(),
            records,
            clock: Mutex::default(),
            days,
            sensors: config.weather.sensors(),
            retention: config.store.retention.clone(),
            too_late_lines: Rate::default(),
            error_lines: Rate::default(),
        }
    }

    /// Starts its task, which works until `stop`.
    pub fn start(self, tracker: &TaskTracker, stop: &CancellationToken) {
        let (upkeep, stopping) = (Arc::new(self), stop.clone());
        tasks::lasting(tracker, Name::Part("upkeep"), stop.clone(), move || upkeep.clone().run(stopping.clone()));
    }

    async fn run(self: Arc<Upkeep>, stop: CancellationToken) {
        stop.run_until_cancelled(self.work()).await;
    }

    async fn work(self: &Arc<Upkeep>) {
        let mut hand = Hand::new(self.queue.clone());
        let (mut hours_due, mut old_due) = (Instant::now(), Instant::now());
        loop {
            let pause = match self.turn(&mut hand, &mut hours_due, &mut old_due).await {
                Ok(any_late) => {
                    if any_late {
                        LATE_INTERVAL
                    } else {
                        TICK
                    }
                }
                // The queue is closed a little before all else is told to stop.
                Err(Ended::Stopping) => return std::future::pending().await,
                Err(Ended::Failed(error)) => {
                    if self.error_lines.allows() {
                        warn!("rollups and retention wait: {error}");
                    }
                    PAUSE_AFTER_ERROR
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Does what is due; tells whether late readings came meanwhile.
    async fn turn(
        self: &Arc<Upkeep>,
        hand: &mut Hand,
        hours_due: &mut Instant,
        old_due: &mut Instant,
    ) -> Result<bool, Ended> {
        if self.claims.take_late() || Instant::now() >= *hours_due {
            *hours_due = Instant::now() + HOURS_INTERVAL;
            for kind in KINDS {
                self.roll_up(hand, kind).await?;
            }
        }
        if Instant::now() >= *old_due {
            *old_due = Instant::now() + old::INTERVAL;
            self.delete_old(hand).await?;
        }
        Ok(self.claims.has_late())
    }

    /// Works out one step after the other until nothing is left to do.
    async fn roll_up(self: &Arc<Upkeep>, hand: &mut Hand, kind: Kind) -> Result<(), Ended> {
        let (begun, mut steps) = (Instant::now(), 0);
        // On a full disk the rollups go first, and none is made.
        while self.room.is_ample() {
            let start = Instant::now();
            let changes = match self.next_step(kind).await? {
                Step::Nothing => break,
                Step::Claim(change) => {
                    hand.store(Content::Rollup(vec![change])).await?;
                    continue;
                }
                Step::Write(work) => {
                    if work.came_too_late && self.too_late_lines.allows() {
                        warn!(
                            "late readings of an hour whose raw rows are gone already: they are stored, and in no rollup"
                        );
                    }
                    work.changes
                }
            };
            self.write(hand, changes).await?;
            steps += 1;
            if steps == STEPS_TOLD {
                info!("rollups of the {} readings are caught up with in the background", kind.name());
            }
            tokio::time::sleep((start.elapsed() * PAUSE_FACTOR).max(PAUSE_MIN)).await;
        }
        if steps >= STEPS_TOLD {
            let seconds = begun.elapsed().as_secs();
            info!(steps, seconds, "rollups of the {} readings are caught up with", kind.name());
        }
        Ok(())
    }

    async fn next_step(self: &Arc<Upkeep>, kind: Kind) -> Result<Step, Ended> {
        let upkeep = self.clone();
        blocking(move || {
            let now_s = now_ms().div_euclid(1000);
            Reader::open(&upkeep.database)?.rollup_step(kind, &upkeep.days, &upkeep.sensors, &upkeep.claims, now_s)
        })
        .await
    }

    /// Has changes written, a few in each transaction, in their order: what says that hours are done comes last.
    async fn write(&self, hand: &mut Hand, changes: Vec<RollupChange>) -> Result<(), Ended> {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let start = Instant::now();
            hand.store(Content::Rollup(changes.by_ref().take(CHANGES_MAX).collect())).await?;
            if changes.peek().is_some() {
                tokio::time::sleep(start.elapsed().max(PAUSE_MIN)).await;
            }
        }
        Ok(())
    }
}

/// Reads on a thread that may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Ended> {
    match tasks::blocking(Name::Part("upkeep"), work).await {
        Ok(result) => result.map_err(Ended::Failed),
        // It panicked, which is logged, and is not tried again.
        Err(_) => Err(Ended::Stopping),
    }
}
