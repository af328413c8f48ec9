//! The room's tasks, from its start to its end.
//!
//! Owns their order: what an earlier run left is read before anything is observed, and the ledger ends last, so that what is
//! sent at the end is marked. It never looks at what is told.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Mutex, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Alerts;
use super::ledger::Ledger;
use crate::broker::inside::Inside;
use crate::config;
use crate::health::checks::Findings;
use crate::store::{KeptAlerts, Measured, Queue, Reader, Tap};
use crate::tasks::{self, Name};

/// How long the start may wait for what is kept of alerts.
const KEPT_READ_TIME_MAX: Duration = Duration::from_secs(5);
const KEPT_READ_PAUSE: Duration = Duration::from_millis(500);
/// How long the end may wait for what is under way, and for its rows.
const END_TIME_MAX: Duration = Duration::from_millis(1_500);

/// What the room watches.
pub struct Inputs {
    /// What is wrong with the hub; `None` before its first look at itself.
    pub findings: watch::Receiver<Option<Arc<Findings>>>,
    /// Readings as they are stored.
    pub readings: (Arc<Tap>, mpsc::Receiver<Measured>),
}

/// Makes the tap that the room watches readings by, for rules that are about readings now or later.
pub fn tap() -> (Arc<Tap>, mpsc::Receiver<Measured>) {
    let (tap, readings) = Tap::new();
    (Arc::new(tap), readings)
}

/// The tasks of the room.
pub struct Running {
    alerts: Arc<Alerts>,
    tasks: TaskTracker,
    stop: CancellationToken,
    writing: TaskTracker,
    stop_writing: CancellationToken,
}

impl Running {
    /// Starts the room: what an earlier run left is read, and goes on.
    pub async fn start(
        settings: &config::Alerts,
        station: &str,
        database: &Path,
        queue: Arc<Queue>,
        broker: &Inside,
        inputs: Inputs,
    ) -> Running {
        let ledger = Arc::new(Ledger::new(queue));
        let kept = read_kept(database).await;
        let Inputs { findings, readings: (tap, readings) } = inputs;
        let alerts = Arc::new(Alerts::new(settings, station, broker, ledger.clone(), kept, tap));
        let running = Running {
            alerts: alerts.clone(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            writing: TaskTracker::new(),
            stop_writing: CancellationToken::new(),
        };
        {
            let stop_writing = running.stop_writing.clone();
            tasks::lasting(&running.writing, Name::Part("alerts ledger"), stop_writing.clone(), move || {
                let (ledger, stop) = (ledger.clone(), stop_writing.clone());
                async move { ledger.run(stop).await }
            });
            for outlet in &alerts.outlets {
                let (outlet, stop) = (outlet.clone(), running.stop.clone());
                tasks::lasting(&running.tasks, Name::Part("alerts channel"), stop.clone(), move || {
                    let (outlet, stop) = (outlet.clone(), stop.clone());
                    async move { outlet.run(stop).await }
                });
            }
            let stop = running.stop.clone();
            let readings = Arc::new(Mutex::new(readings));
            tasks::lasting(&running.tasks, Name::Part("alerts"), stop.clone(), move || {
                let (alerts, findings, readings) = (alerts.clone(), findings.clone(), readings.clone());
                let stop = stop.clone();
                async move { alerts.watch(findings, &mut *readings.lock().await, stop).await }
            });
        }
        running
    }

    /// Returns the room.
    pub fn alerts(&self) -> Arc<Alerts> {
        self.alerts.clone()
    }

    /// Ends the room while the store still takes what it notes last.
    pub async fn stop(&self) {
        let ended = async {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            self.stop_writing.cancel();
            self.writing.close();
            self.writing.wait().await;
        };
        if tokio::time::timeout(END_TIME_MAX, ended).await.is_err() {
            warn!("the last alerts were not written in time: they may be sent again after the next start");
        }
    }
}

/// Reads what an earlier run left, for a while if another program keeps it from that; then the room starts without.
async fn read_kept(database: &Path) -> KeptAlerts {
    let deadline = Instant::now() + KEPT_READ_TIME_MAX;
    loop {
        let path = database.to_owned();
        let read = tasks::blocking(Name::Part("start"), move || Reader::open(&path)?.alerts()).await;
        match read {
            Ok(Ok(kept)) => return kept,
            Ok(Err(error)) if Instant::now() >= deadline => {
                warn!("{error}; what was told before the start may be told again, or never be told to be over");
                return KeptAlerts::default();
            }
            Ok(Err(_)) => tokio::time::sleep(KEPT_READ_PAUSE).await,
            Err(_) => return KeptAlerts::default(),
        }
    }
}
