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
    let mut portions = Portions::of(&config.store.path, which)?;
    while let Some(ids) = portions.next()? {
        done.add(match what {
            What::Replay => way.replay(ids).await?,
            What::Drop => way.drop_messages(ids).await?,
        });
        progress.tell(done.done + done.already + done.refused, 0);
    }
    Ok(done)
}

/// The numbers of the messages that are meant, a portion at a time.
enum Portions {
    These(Vec<i64>),
    /// Those above the one and up to the other: what is rejected meanwhile is not meant.
    All {
        reader: Box<Reader>,
        after: i64,
        last: i64,
    },
}

impl Portions {
    fn of(database: &Path, which: Which) -> Result<Portions, MaintenanceError> {
        Ok(match which {
            Which::These(ids) => Portions::These(ids),
            Which::All => {
                let reader = Box::new(Reader::open(database)?);
                let last = reader.quarantine(1)?.first().map_or(0, |message| message.id);
                Portions::All { reader, after: 0, last }
            }
        })
    }

    fn next(&mut self) -> Result<Option<Vec<i64>>, MaintenanceError> {
        let ids: Vec<i64> = match self {
            Portions::These(ids) => ids.drain(..ids.len().min(MESSAGES_MAX)).collect(),
            Portions::All { reader, after, last } => {
                let most = u32::try_from(MESSAGES_MAX).unwrap_or(u32::MAX);
                let found = reader.quarantine_ids(*after, most)?;
                *after = found.last().copied().unwrap_or(*after);
                found.into_iter().filter(|id| id <= last).collect()
            }
        };
        Ok((!ids.is_empty()).then_some(ids))
    }
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
