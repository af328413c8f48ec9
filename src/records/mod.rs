//! The hub's records of itself: events and gaps, for whoever asks the running hub; and what keeps the ledger up (`keeping`).
//!
//! Owns the questions that may be asked, and how many at a time. It never writes: what is to be changed is handed to the
//! store's writer.

mod keeping;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::asking::{AskError, Asking};
use crate::clock::{Moment, now_ms};
use crate::ingest::Ingest;
use crate::store::queue::Closed;
use crate::store::{AckGate, Content, Event, GapQuery, GapReport, Job, LedgerChange, Progress, Queue, Ticket};

/// Events that are listed.
const EVENTS_MAX: u32 = 1_000;
/// How long the acknowledgement of an event may take to be on disk.
const WRITE_TIME_MAX: Duration = Duration::from_secs(5);
/// The time of a report where nobody says.
pub const REPORT_TIME_MS: i64 = 7 * 24 * 3_600_000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// There is no such event.
    #[error("there is no event {0}; see `stationhub events list`")]
    Unknown(i64),
    /// The database cannot be read, or not now.
    #[error(transparent)]
    Unanswered(#[from] AskError),
    /// The question is wrong.
    #[error("{0}")]
    Wrong(String),
}

/// The records of the running hub.
pub struct Records {
    asking: Asking,
    progress: Arc<Progress>,
    queue: Arc<Queue>,
    ingest: Arc<Ingest>,
    skew_ms_max: i64,
}

impl Records {
    /// Tells whether the wall clock is trusted now.
    pub fn is_clock_trusted(&self) -> bool {
        self.ingest.trust().untrusted_offset_ms(Moment::now()).is_none()
    }

    /// Makes the records of a hub that has just started.
    pub fn new(
        database: &Path,
        progress: Arc<Progress>,
        queue: Arc<Queue>,
        ingest: Arc<Ingest>,
        skew_max: Duration,
    ) -> Records {
        Records {
            asking: Asking::new(database, 1, "records"),
            progress,
            queue,
            ingest,
            skew_ms_max: crate::clock::millis(skew_max),
        }
    }

    /// Lists the newest events, newest first.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn events(&self) -> Result<Vec<Event>, RecordsError> {
        Ok(self.asking.ask(|reader| reader.events(EVENTS_MAX)).await?)
    }

    /// Finds which readings are missing between two times.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn gaps(&self, question: Question) -> Result<GapReport, RecordsError> {
        let query = question.query(now_ms(), true)?;
        Ok(self.asking.ask(move |reader| reader.gaps(&query)).await?)
    }

    /// Notes that somebody knows of an event; tells whether that is on disk already.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn acknowledge(&self, id: i64) -> Result<bool, RecordsError> {
        if !self.asking.ask(move |reader| reader.has_event(id)).await? {
            return Err(RecordsError::Unknown(id));
        }
        self.progress.journal.acknowledge(id);
        let written = tokio::time::timeout(WRITE_TIME_MAX, self.write(Content::Heartbeat)).await;
        Ok(matches!(written, Ok(Ok(()))))
    }

    /// Has something written, and waits until it is on disk.
    async fn write(&self, content: Content) -> Result<(), Closed> {
        let committed: Arc<Notify> = Arc::default();
        let gate = Arc::new(AckGate::new(committed.clone()));
        let mut jobs = VecDeque::from([Job { content, ticket: Some(Ticket { gate: gate.clone(), number: 1 }) }]);
        self.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.queue.room_for(job.bytes()).await?;
            self.queue.push(&mut jobs);
        }
        while gate.stored() < 1 {
            committed.notified().await;
        }
        Ok(())
    }

    async fn change(&self, change: LedgerChange) -> Result<(), Closed> {
        self.write(Content::Ledger(change)).await
    }
}

/// A question for gaps.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// From when, Unix milliseconds; 7 days before the end where nothing is said.
    pub from_ms: Option<i64>,
    /// Until when, Unix milliseconds; now where nothing is said.
    pub to_ms: Option<i64>,
    /// Of which source alone.
    pub source: Option<String>,
}

impl Question {
    /// Returns what to ask the store.
    ///
    /// # Errors
    /// [`RecordsError::Wrong`].
    pub fn query(self, now_ms: i64, is_alive: bool) -> Result<GapQuery, RecordsError> {
        let to_ms = self.to_ms.unwrap_or(now_ms).min(now_ms);
        let from_ms = self.from_ms.unwrap_or(to_ms - REPORT_TIME_MS);
        if from_ms >= to_ms {
            return Err(RecordsError::Wrong("`from` is not before `to`, or not before the present".to_owned()));
        }
        Ok(GapQuery { source: self.source, ..GapQuery::between(from_ms, to_ms, is_alive) })
    }
}

/// Returns events in lines for a person.
pub fn in_words(events: &[Event]) -> String {
    let lines = events.iter().map(|event| {
        let known = if event.acknowledged_ms.is_some() { ", acknowledged" } else { "" };
        let (at, text) = (crate::clock::in_words(event.at_ms), event.text.escape_debug());
        format!("{}  {at}  {}{known}: {text}", event.id, event.kind.escape_debug())
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "Nothing has happened.".to_owned() } else { lines.join("\n") }
}
