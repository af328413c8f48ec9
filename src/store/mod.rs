//! The store: one SQLite database, one writer, any number of read-only readers.
//!
//! Owns everything that touches the database file. It never speaks MQTT and never starts a tokio task: the writer
//! is a thread of its own, fed by a bounded [`Queue`]. Data flows `Job` → queue → writer → disk → `AckGate`.

pub mod alerts;
mod aside;
mod cached;
mod damage;
mod delivery;
pub mod error;
mod heartbeat;
pub mod job;
mod journal;
pub mod kept;
pub mod outbox;
mod progress;
pub mod queue;
pub mod reader;
mod renewal;
mod salvage;
mod salvaged;
mod salvager;
mod schema;
mod tables;
pub mod tap;
mod transaction;
pub mod writer;

pub use alerts::{AlertChange, KeptAlerts};
pub use damage::Doubts;
pub use error::StoreError;
pub use heartbeat::{Heartbeat, Learnt, Run};
pub use job::{AckGate, Content, Delivery, Entry, Incoming, Job, Origin, Ticket};
pub use journal::{Event, Journal};
pub use kept::{Change, Kept, KeptMessage, KeptSession};
pub use outbox::{Forward, Gap, Lane, Outbox, OutboxChange, OutboxSettings, Properties, Waiting};
pub use progress::Progress;
pub use queue::Queue;
pub use reader::{Quarantined, Reader};
pub use tap::{Measured, Tap};
pub use writer::{Settings, Writer};
