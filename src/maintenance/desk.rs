//! Where the owner's errands go to the writer: in the hub that runs, asked over its socket, or in a command beside one that
//! does not.
//!
//! Owns the way of an errand through the queue, and the wait for its answer, which has a deadline. It never writes itself.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::ingest::Ingest;
use crate::store::errand::{Done, Errand, Replayed, Work};
use crate::store::import::{ImportedRow, Station};
use crate::store::{AckGate, Content, Job, Origin, Queue, Reader, StoreError, Ticket};
use crate::tasks::{self, Name};

/// How long an errand may take: as long as a locked database is likely to be.
const DONE_TIME_MAX: Duration = Duration::from_secs(60);
/// Messages of the quarantine in one errand, and rows of another database: a few milliseconds of the writer's time.
pub(super) const MESSAGES_MAX: usize = 100;
pub(super) const ROWS_MAX: usize = 2_000;

/// Why an errand was not done.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writer does not come to it.
    #[error(
        "the database could not be written within {DONE_TIME_MAX:?}; it may still be done later; see `stationhub status`"
    )]
    TooLong,
    /// The hub stops.
    #[error("the hub stops; ask again when it runs")]
    Stops,
    /// More than is done at once.
    #[error("{0} are too many at once")]
    TooMany(usize),
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    database: PathBuf,
    ingest: Arc<Ingest>,
    queue: Arc<Queue>,
}

impl Desk {
    /// Makes the desk of a writer that takes from this queue.
    pub fn new(database: PathBuf, ingest: Arc<Ingest>, queue: Arc<Queue>) -> Desk {
        Desk { database, ingest, queue }
    }

    /// Adds readings of another database, each unless it is there.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn import(&self, station: Station, rows: Vec<ImportedRow>) -> Result<Done, DeskError> {
        if rows.len() > ROWS_MAX {
            return Err(DeskError::TooMany(rows.len()));
        }
        self.have_done(Work::Import(station, rows)).await
    }

    /// Drops messages of the quarantine.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn drop_messages(&self, ids: Vec<i64>) -> Result<Done, DeskError> {
        if ids.len() > MESSAGES_MAX {
            return Err(DeskError::TooMany(ids.len()));
        }
        self.have_done(Work::Drop(ids)).await
    }

    /// Decodes messages of the quarantine once more, as if they came when they were received: what is a reading now becomes
    /// one, what is not stays, with the reason that it has now.
    ///
    /// # Errors
    /// [`DeskError`].
    pub async fn replay(&self, ids: Vec<i64>) -> Result<Done, DeskError> {
        if ids.len() > MESSAGES_MAX {
            return Err(DeskError::TooMany(ids.len()));
        }
        let (database, ingest) = (self.database.clone(), self.ingest.clone());
        let decoded =
            tasks::blocking(Name::Part("quarantine"), move || decode(&Reader::open(&database)?, &ingest, &ids));
        let (messages, mut done) = decoded.await.map_err(|_| DeskError::Stops)??;
        if !messages.is_empty() {
            done.add(self.have_done(Work::Replay(messages)).await?);
        }
        Ok(done)
    }

    async fn have_done(&self, work: Work) -> Result<Done, DeskError> {
        let (errand, done) = Errand::new(work);
        let committed: Arc<Notify> = Arc::default();
        let gate = Arc::new(AckGate::new(committed.clone()));
        let ticket = Ticket { gate: gate.clone(), number: 1 };
        let job = Job { content: Content::Errand(errand), ticket: Some(ticket) };
        let through = async {
            let mut jobs = VecDeque::from([job]);
            self.queue.push(&mut jobs);
            while let Some(job) = jobs.front() {
                self.queue.room_for(job.bytes()).await.map_err(|_| DeskError::Stops)?;
                self.queue.push(&mut jobs);
            }
            while gate.stored() < 1 {
                committed.notified().await;
            }
            Ok::<(), DeskError>(())
        };
        tokio::time::timeout(DONE_TIME_MAX, through).await.map_err(|_| DeskError::TooLong)??;
        Ok(*done.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Decodes messages of the quarantine; what is not there, and what is on no station's topic, is counted.
fn decode(reader: &Reader, ingest: &Ingest, ids: &[i64]) -> Result<(Vec<Replayed>, Done), StoreError> {
    let (mut messages, mut done) = (Vec::new(), Done::default());
    for id in ids {
        let Some(message) = reader.quarantine_message(*id)? else {
            done.already += 1;
            continue;
        };
        let Some(entry) = ingest.again(&message.topic, &message.payload, message.received_ms) else {
            done.refused += 1;
            continue;
        };
        let origin = Origin {
            source: message.topic.into(),
            client: message.client_id.into(),
            qos: message.qos,
            received_ms: message.received_ms,
        };
        messages.push(Replayed { id: *id, origin, entry });
    }
    Ok((messages, done))
}
