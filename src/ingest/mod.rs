//! From a publish to a job for the store.
//!
//! Owns the way of a message that the broker received: topic → route → decode → [`Job`]. It knows no socket, no SQL
//! and no clock: the broker says when a message came.

pub mod decode;
pub mod route;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::config::Route;
use crate::reading::{Kind, Marks, SourceId};
use crate::store::{Content, Delivery, Entry, Incoming, Job, Origin, Ticket};

pub use decode::{Limits, Reject};

/// A topic that carries readings, resolved once and kept by the connection that publishes on it.
#[derive(Clone, Debug)]
pub struct Routed {
    kind: Kind,
    source: SourceId,
    digest: u64,
}

/// A message on a routed topic, as the broker received it.
#[derive(Debug)]
pub struct Arrival<'m> {
    /// The payload.
    pub payload: &'m [u8],
    /// The client that published it.
    pub client: Arc<str>,
    /// The QoS it was published with.
    pub qos: u8,
    /// Packet id and DUP flag; `None` at QoS 0 and for a will.
    pub delivery: Option<(u16, bool)>,
    /// When it was received, Unix milliseconds.
    pub received_ms: i64,
    /// Whom to tell once it is on disk.
    pub ticket: Option<Ticket>,
}

/// Turns publishes into jobs.
#[derive(Debug)]
pub struct Ingest {
    routes: Vec<Route>,
    limits: Limits,
    time_missing: AtomicU64,
    time_skewed: AtomicU64,
}

impl Ingest {
    /// Makes an ingest with these routes and limits.
    pub fn new(routes: Vec<Route>, limits: Limits) -> Ingest {
        Ingest { routes, limits, time_missing: AtomicU64::new(0), time_skewed: AtomicU64::new(0) }
    }

    /// Resolves a topic; `None` where it carries no readings.
    pub fn route(&self, topic: &str) -> Option<Routed> {
        let kind = route::kind(&self.routes, topic)?;
        let source: SourceId = route::source_name(topic).into();
        Some(Routed { kind, digest: xxh3_64(topic.as_bytes()), source })
    }

    /// Decodes an arrival: a reading for its table, or a reject for the quarantine.
    pub fn job(&self, routed: &Routed, arrival: Arrival<'_>) -> Job {
        let Arrival { payload, client, qos, delivery, received_ms, ticket } = arrival;
        let entry = match decode::decode(routed.kind, payload, received_ms, self.limits) {
            Ok(reading) => {
                self.count(reading.marks);
                Entry::Reading(Box::new(reading))
            }
            Err(reject) => Entry::Rejected { reason: reject.reason(), detail: reject.to_string() },
        };
        let delivery = delivery.map(|(id, dup)| Delivery { id, dup, digest: digest(routed.digest, payload) });
        let origin = Origin { source: routed.source.clone(), client, qos, received_ms };
        Job {
            content: Content::Message(Incoming { origin, entry, payload: payload.into(), forward: None, delivery }),
            ticket,
        }
    }

    /// Returns how many readings came without a time of their own.
    pub fn time_missing(&self) -> u64 {
        self.time_missing.load(Ordering::Relaxed)
    }

    /// Returns how many readings came with a time far from the hub's.
    pub fn time_skewed(&self) -> u64 {
        self.time_skewed.load(Ordering::Relaxed)
    }

    fn count(&self, marks: Marks) {
        if marks.has(Marks::TIME_MISSING) {
            self.time_missing.fetch_add(1, Ordering::Relaxed);
        }
        if marks.has(Marks::TIME_SKEWED) {
            self.time_skewed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Digests topic and payload. XXH3 is the same on every machine and in every release, as marks on disk need it.
fn digest(topic: u64, payload: &[u8]) -> u64 {
    xxh3_64_with_seed(payload, topic)
}
