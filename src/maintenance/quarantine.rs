//! `stationhub quarantine`: what was rejected, shown, decoded once more, or dropped.
//!
//! Owns which messages are meant and what is said of them.

use std::path::Path;

use super::MaintenanceError;
use super::desk::MESSAGES_MAX;
use super::progress::{Progress, Unit};
use super::way::{Way, see_that_it_is_there};
use crate::config::Config;
use crate::store::errand::Done;
use crate::store::{RawMessage, Reader};

/// Which messages are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those of these numbers.
    These(Vec<i64>),
    /// All that are there now.
    All,
}

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// They are decoded once more.
    Replay,
    /// They are dropped.
    Drop,
}

/// Returns one message.
///
/// # Errors
/// [`MaintenanceError`], also where it is not there.
pub fn show(database: &Path, id: i64) -> Result<RawMessage, MaintenanceError> {
    see_that_it_is_there(database)?;
    Reader::open(database)?.quarantine_message(id)?.ok_or(MaintenanceError::NotInQuarantine { id })
}

/// Returns a message in lines for a person.
pub fn in_words(message: &RawMessage) -> String {
    let received = jiff::Timestamp::from_millisecond(message.received_ms).unwrap_or_default();
    // What a sensor sent may hold anything, also what a terminal would obey.
    let payload = String::from_utf8_lossy(&message.payload);
    format!(
        "number    {}\nreceived  {received}\ntopic     {}\nclient    {}\nqos       {}\nreason    {}: {}\nbytes     {}\n\n{}",
        message.id,
        message.topic.escape_debug(),
        message.client_id.escape_debug(),
        message.qos,
        message.reason,
        message.detail.escape_debug(),
        message.payload.len(),
        payload.escape_debug()
    )
}

/// Has something done with messages; returns what to say of it.
///
/// # Errors
/// [`MaintenanceError`]; what was done before it stays done.
pub async fn run(config: &Config, what: What, which: Which) -> Result<String, MaintenanceError> {
    see_that_it_is_there(&config.store.path)?;
    let way = Way::find(config).await?;
    let done = each(config, &way, what, which).await;
    let ended = way.end().await;
    // Why the writer ended says more than that it gave no answer.
    ended?;
    Ok(said(what, done?))
}

async fn each(config: &Config, way: &Way, what: What, which: Which) -> Result<Done, MaintenanceError> {
    let (word, mut done) = (if what == What::Replay { "replaying" } else { "dropping" }, Done::default());
    let mut progress = Progress::begin(word, Unit::Messages);
    let ids = match which {
        Which::These(ids) => ids,
        Which::All => all(&config.store.path)?,
    };
    for (part, chunk) in ids.chunks(MESSAGES_MAX).enumerate() {
        let chunk = chunk.to_vec();
        done.add(match what {
            What::Replay => way.replay(chunk).await?,
            What::Drop => way.drop_messages(chunk).await?,
        });
        progress.tell(((part + 1) * MESSAGES_MAX) as u64, ids.len() as u64);
    }
    Ok(done)
}

/// Returns the numbers of all messages, which the quarantine's own bound bounds.
fn all(database: &Path) -> Result<Vec<i64>, MaintenanceError> {
    let reader = Reader::open(database)?;
    Ok(reader.quarantine_ids(0, u32::MAX)?)
}

fn said(what: What, done: Done) -> String {
    let gone = match done.already {
        0 => String::new(),
        count => format!(", {count} not in the quarantine"),
    };
    match what {
        What::Replay => {
            format!("{} became readings, {} stay, with the reason that they have now{gone}", done.done, done.refused)
        }
        What::Drop => format!("{} dropped{gone}", done.done),
    }
}
