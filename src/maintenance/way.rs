//! The way to the writer: through the hub that runs, or, where none does, a writer of this command's own, under the database's
//! lock.
//!
//! Owns that choice. There is never a second writer.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::MaintenanceError;
use super::desk::Desk;
use crate::config::Config;
use crate::http;
use crate::http::client::ClientError;
use crate::http::errands::{self, Messages, Rows};
use crate::ingest::{Ingest, Limits};
use crate::lock::{self, Lock};
use crate::place::{Follow, identity};
use crate::store::errand::Done;
use crate::store::{Queue, Settings, Writer};

const END_TIME_MAX: Duration = Duration::from_secs(10);

/// The way.
#[derive(Debug)]
pub(super) enum Way {
    /// Through the hub, by its database.
    Hub(PathBuf),
    /// By ourselves.
    Alone(Box<Alone>),
}

/// A writer where no hub runs.
#[derive(Debug)]
pub(super) struct Alone {
    desk: Desk,
    writer: Writer,
    _lock: Lock,
}

impl Way {
    /// Finds the way.
    pub(super) async fn find(config: &Config) -> Result<Way, MaintenanceError> {
        let database = &config.store.path;
        match http::status(database).await {
            Ok(_) => Ok(Way::Hub(database.clone())),
            Err(ClientError::NotRunning { .. }) => Ok(Way::Alone(Box::new(Alone::open(config)?))),
            Err(error) => Err(error.into()),
        }
    }

    /// Tells whether others wait for the writer.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self, Way::Hub(_))
    }

    pub(super) async fn import(&self, rows: Rows) -> Result<Done, MaintenanceError> {
        match self {
            Way::Hub(database) => read(&errands::ask_import(database, &rows).await?),
            Way::Alone(alone) => Ok(alone.desk.import(rows.station, rows.rows).await?),
        }
    }

    pub(super) async fn replay(&self, ids: Vec<i64>) -> Result<Done, MaintenanceError> {
        match self {
            Way::Hub(database) => read(&errands::ask_replay(database, &Messages { ids }).await?),
            Way::Alone(alone) => Ok(alone.desk.replay(ids).await?),
        }
    }

    pub(super) async fn drop_messages(&self, ids: Vec<i64>) -> Result<Done, MaintenanceError> {
        match self {
            Way::Hub(database) => read(&errands::ask_drop(database, &Messages { ids }).await?),
            Way::Alone(alone) => Ok(alone.desk.drop_messages(ids).await?),
        }
    }

    /// Closes the database, where it was opened.
    pub(super) async fn end(self) -> Result<(), MaintenanceError> {
        let Way::Alone(alone) = self else { return Ok(()) };
        match alone.writer.stop(END_TIME_MAX).await {
            Some(ended) => Ok(ended?),
            None => Err(MaintenanceError::Answer("the thread that writes to the database ended".to_owned())),
        }
    }
}

impl Alone {
    fn open(config: &Config) -> Result<Alone, MaintenanceError> {
        let lock = lock::take_database(&config.store.path)?;
        let queue = Arc::new(Queue::new(config.ingest.queue_bytes));
        let settings = Settings {
            path: config.store.path.clone(),
            synchronous: config.store.synchronous,
            batch_max: config.store.batch_max,
            quarantine_bytes_max: config.store.quarantine_bytes_max,
            write_failures_max: config.health.write_failures_max,
            tap: None,
            reserve_bytes: config.store.reserve_bytes,
        };
        let file = || identity(&config.store.path, Follow::Yes);
        let before = file();
        let writer = Writer::start(settings, queue.clone(), None)?;
        if before.is_some() && before != file() {
            let why =
                "was damaged, and is put aside; start the hub, which takes over what can be read of it".to_owned();
            return Err(MaintenanceError::Unfit { path: config.store.path.clone(), why });
        }
        let limits = Limits {
            payload_bytes_max: config.ingest.payload_bytes_max,
            clock_skew_ms_max: u64::try_from(config.ingest.clock_skew_max.as_millis()).unwrap_or(u64::MAX),
        };
        let ingest = Arc::new(Ingest::new(config.ingest.routes.clone(), limits, None));
        Ok(Alone { desk: Desk::new(config.store.path.clone(), ingest, queue), writer, _lock: lock })
    }
}

fn read(answer: &str) -> Result<Done, MaintenanceError> {
    serde_json::from_str(answer).map_err(|error| MaintenanceError::Answer(error.to_string()))
}

/// Tells whether a database is there: a command that only needs what is in one does not make one.
pub(super) fn see_that_it_is_there(database: &Path) -> Result<(), MaintenanceError> {
    match std::fs::metadata(database) {
        Ok(_) => Ok(()),
        Err(source) => {
            Err(MaintenanceError::File { doing: "cannot open the database", path: database.to_owned(), source })
        }
    }
}
