//! What the upstream sends down, published locally.
//!
//! Owns the way of a message from the upstream to the hub's own clients, one after another: it is acknowledged upstream
//! when it has got there, and where it is a reading, when it is on disk. It never goes up again, and it carries a mark by
//! which hubs that subscribe to each other know what they have brought down before.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::echoes::{Echoes, Rounds};
use super::link::{Arrival, Receipt, Sender};
use super::outgoing::Form;
use super::state::State;
use crate::broker::inside::{Given, Inside, Refused};
use crate::ingest::forward::went_up_from;
use crate::log::Rate;

/// The user property that names the hubs that have brought a message down.
const VIA_PROPERTY: &str = "stationhub-via";
/// How often it is tried again to hand acks over that found no room.
const ACK_INTERVAL: Duration = Duration::from_millis(20);

/// All that publishing locally needs.
pub(super) struct Down {
    /// The way into the broker.
    pub(super) inside: Inside,
    /// What the hub has sent itself.
    pub(super) echoes: Arc<Echoes>,
    /// What came down lately.
    pub(super) rounds: Rounds,
    /// Whose messages are the hub's own, and whether the retain flag is kept.
    pub(super) form: Form,
    /// Largest payload that is published, bytes.
    pub(super) payload_bytes_max: usize,
    /// The counters.
    pub(super) state: Arc<State>,
    /// Bounds the lines about what is refused.
    pub(super) refused_lines: Rate,
}

impl Down {
    /// Publishes what comes, until the connection ends or the hub stops. It never waits for an ack to leave: rumqttc takes
    /// acks only while it is polled, and is polled only while what comes is taken.
    pub(super) async fn bring(self: Arc<Self>, mut arrivals: mpsc::Receiver<Arrival>, sender: Sender) {
        let mut acks = VecDeque::new();
        loop {
            let arrival = tokio::select! {
                biased;
                arrival = arrivals.recv() => arrival,
                () = tokio::time::sleep(ACK_INTERVAL), if !acks.is_empty() => {
                    hand_over(&sender, &mut acks);
                    continue;
                }
            };
            let Some(mut arrival) = arrival else { return };
            if !self.bring_one(&mut arrival).await {
                return;
            }
            if arrival.qos > 0 {
                acks.push_back(arrival.receipt());
                hand_over(&sender, &mut acks);
            }
        }
    }

    /// Publishes one message; false where the hub stops and it is to come again.
    async fn bring_one(&self, arrival: &mut Arrival) -> bool {
        if self.is_own(arrival) {
            self.state.echoes.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let topic = arrival.topic.clone();
        let text = match self.publish(arrival).await {
            Ok(()) => {
                self.state.received.fetch_add(1, Ordering::Relaxed);
                return true;
            }
            // Not acknowledged, it comes again when the hub is back.
            Err(Kept::Out(Refused::TheHubStops)) => return false,
            // What the access rules deny, the broker tells.
            Err(Kept::Out(Refused::NotAllowed) | Kept::Unwanted) => None,
            Err(Kept::Out(refused)) => Some(refused.to_string()),
            Err(Kept::TooLarge(bytes)) => {
                Some(format!("it has {bytes} bytes, bridge.payload_bytes_max is {}", self.payload_bytes_max))
            }
            Err(Kept::GoesRound) => {
                Some("it goes round and round: hubs that subscribe to each other bring it down again".to_owned())
            }
        };
        self.state.denied.fetch_add(1, Ordering::Relaxed);
        if let Some(text) = text.filter(|_| self.refused_lines.allows()) {
            tracing::warn!(topic = %topic.escape_debug(), "a message from the upstream is not published: {text}");
        }
        true
    }

    fn is_own(&self, arrival: &Arrival) -> bool {
        arrival.properties.as_ref().is_some_and(|properties| went_up_from(&self.form.station, properties))
            || self.echoes.is_echo(&arrival.topic, &arrival.payload, Instant::now())
    }

    async fn publish(&self, arrival: &mut Arrival) -> Result<(), Kept> {
        if !self.echoes.is_wanted(&arrival.topic) {
            // The upstream's session may hold subscriptions of an earlier configuration.
            return Err(Kept::Unwanted);
        }
        if arrival.payload.len() > self.payload_bytes_max {
            return Err(Kept::TooLarge(arrival.payload.len()));
        }
        let mut properties = arrival.properties.take().unwrap_or_default();
        let via = (VIA_PROPERTY.to_owned(), self.form.station.clone());
        if properties.user.contains(&via) || self.rounds.goes_round(&arrival.topic, &arrival.payload, Instant::now()) {
            return Err(Kept::GoesRound);
        }
        properties.user.push(via);
        let given = Given {
            topic: std::mem::take(&mut arrival.topic),
            payload: std::mem::take(&mut arrival.payload),
            qos: arrival.qos,
            retain: arrival.retain && self.form.keep_retained,
            delivery: (arrival.qos > 0).then_some((arrival.id, arrival.dup)),
            properties: Some(properties),
            forwards: false,
        };
        self.inside.publish(given).await.map_err(Kept::Out)
    }
}

/// Why a message from the upstream is not published.
enum Kept {
    /// The broker does not take it.
    Out(Refused),
    /// No subscription asks for it.
    Unwanted,
    /// Its payload has so many bytes.
    TooLarge(usize),
    /// It came down before.
    GoesRound,
}

/// Hands acks over, as many as there is room for.
fn hand_over(sender: &Sender, acks: &mut VecDeque<Receipt>) {
    while acks.front().is_some_and(|receipt| sender.acknowledge(receipt)) {
        acks.pop_front();
    }
}
