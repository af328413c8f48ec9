//! What the writer is asked to store, and how the asker learns that it is on disk.
//!
//! Owns the types of the queue and the ack gate. The gate is a watermark: a connection numbers its jobs, the queue
//! and the writer keep their order, so "everything up to number n is on disk" is one number.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

use super::alerts::AlertChange;
use super::errand::Errand;
use super::kept::Change;
use super::ledger::LedgerChange;
use super::outbox::{Forward, OutboxChange};
use super::retention::Retention;
use super::rollup::RollupChange;
use super::salvaged::Batch;
use super::uploads::Sent;
use crate::reading::{Reading, SourceId};

/// One thing to store.
#[derive(Debug)]
pub struct Job {
    /// What it is.
    pub content: Content,
    /// Whom to tell once it is on disk; `None` at QoS 0.
    pub ticket: Option<Ticket>,
}

/// What is to be stored.
#[derive(Debug)]
pub enum Content {
    /// A message on a station's topic, or on one that is forwarded.
    Message(Incoming),
    /// Changes of what the broker keeps over a restart.
    Kept(Vec<Change>),
    /// Changes of what is kept of alerts.
    Alerts(Vec<AlertChange>),
    /// Changes of the outbox, which the bridge asks for.
    Outbox(Vec<OutboxChange>),
    /// Hours and days that were worked out.
    Rollup(Vec<RollupChange>),
    /// Old rows to delete.
    Retention(Retention),
    /// What the owner has done.
    Errand(Errand),
    /// Rows out of a damaged database.
    Salvaged(Box<Batch>),
    /// Nothing: a transaction is wanted for the heartbeat.
    Heartbeat,
    /// A change of the ledger of readings.
    Ledger(LedgerChange),
    /// A weather network has taken the weather up to a time.
    Sent(Sent),
}

/// One message on its way to disk.
#[derive(Debug)]
pub struct Incoming {
    /// Where it came from.
    pub origin: Origin,
    /// What it became.
    pub entry: Entry,
    /// The raw payload, for the quarantine and the outbox.
    pub payload: Box<[u8]>,
    /// How it goes upstream; `None` where it does not.
    pub forward: Option<Box<Forward>>,
    /// How to recognise its redelivery; `None` at QoS 0.
    pub delivery: Option<Delivery>,
}

/// Where a message came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The topic it was published on, without a trailing slash.
    pub source: SourceId,
    /// The client that published it.
    pub client: Arc<str>,
    /// The QoS it was published with.
    pub qos: u8,
    /// When the hub received it, Unix milliseconds.
    pub received_ms: i64,
}

/// What a message became.
#[derive(Debug)]
pub enum Entry {
    /// A reading, for its table.
    Reading(Box<Reading>),
    /// Something that is no reading, for the quarantine.
    Rejected {
        /// Why, in one word or two.
        reason: &'static str,
        /// Where in the payload, and what was found.
        detail: String,
    },
    /// Something that is nothing to the hub and only passes through it on its way upstream.
    Passing,
}

/// Recognises a publish when it is delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The packet id.
    pub id: u16,
    /// A digest of topic and payload.
    pub digest: u64,
    /// Whether the client marked it as sent before.
    pub dup: bool,
}

/// A job's place in its connection's order.
#[derive(Debug)]
pub struct Ticket {
    /// The connection's gate.
    pub gate: Arc<AckGate>,
    /// The job's number on that connection, counted from 1.
    pub number: u64,
}

/// Tells a connection up to which of its jobs everything is on disk.
#[derive(Debug)]
pub struct AckGate {
    stored: AtomicU64,
    changed: Arc<Notify>,
}

impl AckGate {
    /// Makes a gate that notifies `changed` whenever its watermark has risen.
    pub fn new(changed: Arc<Notify>) -> AckGate {
        AckGate { stored: AtomicU64::new(0), changed }
    }

    /// Returns the highest number whose job, like all before it, is on disk.
    pub fn stored(&self) -> u64 {
        self.stored.load(Ordering::Acquire)
    }

    /// Raises the watermark.
    pub(super) fn raise(&self, number: u64) {
        self.stored.store(number, Ordering::Release);
        self.changed.notify_one();
    }
}

impl Job {
    /// Returns the bytes that this job occupies in the queue.
    pub fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Message(Incoming { origin, entry, payload, forward, .. }) => {
                let entry = match entry {
                    Entry::Reading(_) => size_of::<Reading>(),
                    Entry::Rejected { detail, .. } => detail.len(),
                    Entry::Passing => 0,
                };
                let forward = forward.as_deref().map_or(0, Forward::bytes);
                entry + forward + payload.len() + origin.source.len() + origin.client.len()
            }
            Content::Kept(changes) => changes.iter().map(Change::bytes).sum(),
            Content::Alerts(changes) => changes.iter().map(AlertChange::bytes).sum(),
            Content::Outbox(changes) => changes.iter().map(OutboxChange::bytes).sum(),
            Content::Ledger(change) => change.bytes(),
            Content::Rollup(changes) => changes.iter().map(RollupChange::bytes).sum(),
            Content::Errand(errand) => errand.bytes(),
            Content::Salvaged(batch) => batch.bytes(),
            Content::Sent(sent) => sent.bytes(),
            Content::Retention(_) | Content::Heartbeat => 0,
        };
        size_of::<Job>() + content
    }

    /// Tells whether it makes room in the database and needs none: it is taken where everything else waits. The bridge, and the
    /// deleting of old rows, have one of these under way at a time.
    pub fn makes_room(&self) -> bool {
        match &self.content {
            Content::Outbox(changes) => changes.iter().all(|change| matches!(change, OutboxChange::Sent { .. })),
            Content::Retention(_) => true,
            _ => false,
        }
    }

    /// Tells whether it is something that the hub, or its owner, does beside taking readings, and needs room for.
    pub fn can_wait(&self) -> bool {
        matches!(
            self.content,
            Content::Salvaged(_) | Content::Errand(_) | Content::Rollup(_) | Content::Ledger(_) | Content::Sent(_)
        )
    }

    /// Returns the message, where it is one.
    pub fn message(&self) -> Option<&Incoming> {
        match &self.content {
            Content::Message(message) => Some(message),
            _ => None,
        }
    }
}
