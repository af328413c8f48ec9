//! The store: one SQLite database, one writer, any number of read-only readers.
//!
//! Owns everything that touches the database file. It never speaks MQTT and never starts a tokio task: the writer
//! is a thread of its own, fed by a bounded [`Queue`]. Data flows `Job` → queue → writer → disk → `AckGate`.

pub mod alerts;
mod aside;
pub mod backup;
mod cached;
mod damage;
mod delivery;
pub mod errand;
pub mod error;
pub mod export;
mod gaps;
mod heartbeat;
pub mod import;
pub mod job;
mod journal;
pub mod kept;
pub mod ledger;
mod losses;
mod migrate;
pub mod outbox;
mod progress;
pub mod queue;
pub mod reader;
mod renewal;
mod repeats;
pub mod retention;
pub mod rollup;
mod salvage;
mod salvaged;
mod salvager;
mod schema;
pub mod series;
mod space;
mod tables;
pub mod tap;
mod transaction;
mod untimed;
mod uploads;
mod wear;
pub mod writer;

pub use alerts::{AlertChange, KeptAlerts};
pub use damage::Doubts;
pub use errand::Errand;
pub use error::StoreError;
pub use gaps::{GapQuery, GapReport, HourGaps, SourceGaps};
pub use heartbeat::{Heartbeat, Learnt, Run};
pub use job::{AckGate, Content, Delivery, Entry, Incoming, Job, Origin, Ticket};
pub use journal::{Event, Journal, acknowledge_event};
pub use kept::{Change, Kept, KeptMessage, KeptSession};
pub use ledger::{Counted, LedgerChange, Readings};
pub use losses::Losses;
pub use outbox::{Forward, Gap, Lane, Outbox, OutboxChange, OutboxSettings, Properties, Waiting};
pub use progress::Progress;
pub use queue::Queue;
pub use reader::{Quarantined, RawMessage, Reader};
pub use retention::{Old, Retention, Told};
pub use rollup::{Claims, Days, RollupChange, Step, Summary};
pub use space::{Room, RoomReport, Stage};
pub use tap::{Measured, Tap};
pub use untimed::SetRight;
pub use uploads::Sent;
pub use wear::{Wear, WearReport};
pub use writer::{Settings, Writer};

/// Returns how SQLite would run a statement, a line for each step.
#[cfg(test)]
fn plan(connection: &rusqlite::Connection, sql: &str) -> String {
    let explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).and_then(|mut statement| {
        let mut rows = statement.raw_query();
        let mut plan = String::new();
        while let Some(row) = rows.next()? {
            plan += &(row.get::<_, String>(3)? + "\n");
        }
        Ok(plan)
    });
    explained.unwrap_or_else(|error| error.to_string())
}
