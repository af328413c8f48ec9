//! From a publish to a job for the store.
//!
//! Owns the way of a message that the broker received: topic → route → decode → [`Job`], and whether it goes upstream as
//! well. It knows no socket, no SQL and no clock: the broker says when a message came. When a source's readings came is
//! noted (`sources`), and its rhythm learnt from that (`rhythm`, pure).

pub mod decode;
pub mod forward;
mod rhythm;
pub mod route;
pub mod sources;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use self::forward::Way;
use self::sources::{Source, Sources};
use crate::clock::{Moment, Trust};
use crate::config::Route;
use crate::log::Rate;
use crate::reading::{Kind, Marks, SourceId};
use crate::store::{Content, Delivery, Entry, Forward, Incoming, Job, Origin, Properties, Ticket};

pub use decode::{Limits, Reject};
pub use forward::Forwarding;

/// A topic that carries readings or is forwarded, resolved once and kept by the connection that publishes on it.
#[derive(Clone, Debug)]
pub struct Routed {
    /// `None` where it carries no readings.
    kind: Option<Kind>,
    /// Where its readings are noted; `None` where it carries none, or too many sources are known.
    heard: Option<Arc<Source>>,
    source: SourceId,
    /// The topic as it is published on.
    topic: Arc<str>,
    way: Way,
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
    /// Whether it was published to be retained.
    pub retain: bool,
    /// Its MQTT 5 properties; they are not looked at where [`Routed::is_forwarded`] says no.
    pub properties: Option<Properties>,
    /// Whether it may go upstream, whatever its topic says.
    pub forwards: bool,
    /// Packet id and DUP flag; `None` at QoS 0 and for a will.
    pub delivery: Option<(u16, bool)>,
    /// When it was received.
    pub received: Moment,
    /// Whom to tell once it is on disk.
    pub ticket: Option<Ticket>,
}

/// How a message goes upstream, or why not.
enum Verdict {
    Goes(Box<Forward>),
    Stays,
    TooLarge,
}

impl Routed {
    /// Tells whether the topic carries readings.
    pub fn is_of_readings(&self) -> bool {
        self.kind.is_some()
    }

    /// Tells whether the topic is forwarded.
    pub fn is_forwarded(&self) -> bool {
        self.way == Way::Goes
    }
}

/// Turns publishes into jobs.
#[derive(Debug)]
pub struct Ingest {
    routes: Vec<Route>,
    limits: Limits,
    forwarding: Option<Forwarding>,
    sources: Sources,
    trust: Trust,
    time_missing: AtomicU64,
    time_skewed: AtomicU64,
    came_round: AtomicU64,
    came_round_lines: Rate,
    too_large: AtomicU64,
    too_large_lines: Rate,
}

impl Ingest {
    /// Makes an ingest with these routes and limits; without `forwarding` everything stays here.
    pub fn new(routes: Vec<Route>, limits: Limits, forwarding: Option<Forwarding>) -> Ingest {
        Ingest {
            routes,
            limits,
            forwarding,
            sources: Sources::new(),
            trust: Trust::default(),
            time_missing: AtomicU64::new(0),
            time_skewed: AtomicU64::new(0),
            came_round: AtomicU64::new(0),
            came_round_lines: Rate::default(),
            too_large: AtomicU64::new(0),
            too_large_lines: Rate::default(),
        }
    }

    /// Resolves a topic; `None` where it carries no readings and is not forwarded.
    pub fn route(&self, topic: &str) -> Option<Routed> {
        let kind = route::kind(&self.routes, topic);
        let way = self.forwarding.as_ref().map_or(Way::Stays, |forwarding| forwarding.way(topic));
        if kind.is_none() && way == Way::Stays {
            return None;
        }
        let source: SourceId = route::source_name(topic).into();
        let name = if source.len() == topic.len() { source.clone() } else { topic.into() };
        let heard = kind.and_then(|_| self.sources.source(&source));
        Some(Routed { kind, heard, digest: xxh3_64(topic.as_bytes()), source, topic: name, way })
    }

    /// Decodes an arrival: a reading for its table, a reject for the quarantine, or what only passes through on its way
    /// upstream. `None` where it is nothing to the store: no reading, and not to be forwarded.
    pub fn job(&self, routed: &Routed, mut arrival: Arrival<'_>) -> Option<Job> {
        let verdict = self.judge(routed, &mut arrival);
        let Arrival { payload, client, qos, delivery, received, ticket, .. } = arrival;
        let entry = match (routed.kind, &verdict) {
            (Some(kind), _) => self.decode(kind, routed, payload, received),
            (None, Verdict::Goes(_)) => Entry::Passing,
            (None, Verdict::TooLarge) => Entry::Rejected {
                reason: "too large to forward",
                detail: format!("its payload has {} bytes, above bridge.payload_bytes_max", payload.len()),
            },
            (None, Verdict::Stays) => return None,
        };
        let forward = match verdict {
            Verdict::Goes(forward) => Some(forward),
            Verdict::Stays | Verdict::TooLarge => None,
        };
        let delivery = delivery.map(|(id, dup)| Delivery { id, dup, digest: digest(routed.digest, payload) });
        let origin = Origin { source: routed.source.clone(), client, qos, received_ms: received.ms };
        let incoming = Incoming { origin, entry, payload: payload.into(), forward, delivery };
        Some(Job { content: Content::Message(incoming), ticket })
    }

    /// Judges whether a message goes upstream, and counts and tells why one does not that its topic lets go.
    fn judge(&self, routed: &Routed, arrival: &mut Arrival<'_>) -> Verdict {
        let Some(forwarding) = self.forwarding.as_ref().filter(|_| arrival.forwards && routed.way != Way::Stays) else {
            return Verdict::Stays;
        };
        let properties = arrival.properties.take();
        if routed.way == Way::CameRound || properties.as_ref().is_some_and(|found| forwarding.came_round(found)) {
            self.came_round.fetch_add(1, Ordering::Relaxed);
            if self.came_round_lines.allows() {
                tracing::warn!(
                    topic = %routed.topic.escape_debug(),
                    "a message that a hub of this name has forwarded came back and is not forwarded again; hubs that bridge to \
                     each other need names of their own (station.name)"
                );
            }
            return Verdict::Stays;
        }
        if !forwarding.takes(arrival.payload) {
            self.too_large.fetch_add(1, Ordering::Relaxed);
            if routed.kind.is_some() && self.too_large_lines.allows() {
                let (topic, client) = (routed.topic.escape_debug(), arrival.client.escape_debug());
                tracing::warn!(
                    %topic, %client, bytes = arrival.payload.len(),
                    "a reading is stored and not forwarded: its payload is above bridge.payload_bytes_max"
                );
            }
            return Verdict::TooLarge;
        }
        let (topic, retain) = (routed.topic.clone(), arrival.retain);
        Verdict::Goes(Box::new(Forward { topic, retain, properties: properties.map(Box::new) }))
    }

    fn decode(&self, kind: Kind, routed: &Routed, payload: &[u8], received: Moment) -> Entry {
        match decode::decode(kind, payload, received.ms, self.limits) {
            Ok(mut reading) => {
                self.count(reading.marks);
                if let Some(offset_ms) = self.trust.untrusted_offset_ms(received) {
                    reading.marks = reading.marks.with(Marks::clock_untrusted(offset_ms));
                }
                if let Some(source) = &routed.heard {
                    source.note(received);
                }
                Entry::Reading(Box::new(reading))
            }
            Err(reject) => Entry::Rejected { reason: reject.reason(), detail: reject.to_string() },
        }
    }

    /// Decodes a message once more that was received before, as if it came then; nothing is counted or noted. `None` where its
    /// topic carries no readings.
    pub fn again(&self, topic: &str, payload: &[u8], received_ms: i64) -> Option<Entry> {
        let kind = route::kind(&self.routes, topic)?;
        Some(match decode::decode(kind, payload, received_ms, self.limits) {
            Ok(reading) => Entry::Reading(Box::new(reading)),
            Err(reject) => Entry::Rejected { reason: reject.reason(), detail: reject.to_string() },
        })
    }

    /// Returns the sources of readings.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Returns whether the wall clock is to be trusted, for those who learn of it.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Returns how many readings came without a time of their own.
    pub fn time_missing(&self) -> u64 {
        self.time_missing.load(Ordering::Relaxed)
    }

    /// Returns how many readings came with a time far from the hub's.
    pub fn time_skewed(&self) -> u64 {
        self.time_skewed.load(Ordering::Relaxed)
    }

    /// Returns how many messages were not forwarded because this hub had sent them upstream before.
    pub fn came_round(&self) -> u64 {
        self.came_round.load(Ordering::Relaxed)
    }

    /// Returns how many messages were not forwarded because their payloads are too large.
    pub fn too_large_to_forward(&self) -> u64 {
        self.too_large.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests;
