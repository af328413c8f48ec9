//! What the upstream sends down, published locally.
//!
//! Owns the way of a message from the upstream to the hub's own clients, one after another: it is acknowledged upstream
//! when it has got there, and where it is a reading, when it is on disk. It never goes up again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::mpsc;

use super::echoes::Echoes;
use super::link::{Arrival, Sender};
use super::outgoing::Form;
use super::state::State;
use crate::broker::inside::{Given, Inside, Refused};
use crate::ingest::forward::ID_PROPERTY;
use crate::log::Rate;

/// All that publishing locally needs.
pub(super) struct Down {
    /// The way into the broker.
    pub(super) inside: Inside,
    /// What the hub has sent itself.
    pub(super) echoes: Arc<Echoes>,
    /// Whose messages are the hub's own.
    pub(super) form: Form,
    /// Whether the retain flag is kept.
    pub(super) keep_retained: bool,
    /// The counters.
    pub(super) state: Arc<State>,
    /// Bounds the lines about what is refused.
    pub(super) refused_lines: Rate,
}

impl Down {
    /// Publishes what comes, until the connection ends or the hub stops.
    pub(super) async fn bring(self: Arc<Self>, mut arrivals: mpsc::Receiver<Arrival>, sender: Sender) {
        while let Some(mut arrival) = arrivals.recv().await {
            if self.is_own(&arrival) {
                self.state.echoes.fetch_add(1, Ordering::Relaxed);
            } else {
                match self.publish(&mut arrival).await {
                    Ok(()) => self.state.received.fetch_add(1, Ordering::Relaxed),
                    // Not acknowledged, it comes again when the hub is back.
                    Err(Refused::TheHubStops) => return,
                    Err(refused) => {
                        if self.refused_lines.allows() {
                            let topic = arrival.topic.escape_debug();
                            tracing::warn!(%topic, "a message from the upstream is not published: {refused}");
                        }
                        self.state.denied.fetch_add(1, Ordering::Relaxed)
                    }
                };
            }
            if arrival.qos > 0 {
                sender.acknowledge(&arrival).await;
            }
        }
    }

    fn is_own(&self, arrival: &Arrival) -> bool {
        let mut carried = arrival.properties.iter().flat_map(|properties| &properties.user);
        carried.any(|(name, value)| name == ID_PROPERTY && self.form.is_own(value))
            || self.echoes.is_echo(&arrival.topic, &arrival.payload, Instant::now())
    }

    async fn publish(&self, arrival: &mut Arrival) -> Result<(), Refused> {
        if !self.echoes.is_wanted(&arrival.topic) {
            // The upstream's session may hold subscriptions of an earlier configuration.
            return Err(Refused::NotAllowed);
        }
        let given = Given {
            topic: std::mem::take(&mut arrival.topic),
            payload: std::mem::take(&mut arrival.payload),
            qos: arrival.qos,
            retain: arrival.retain && self.keep_retained,
            delivery: (arrival.qos > 0).then_some((arrival.id, arrival.dup)),
            properties: arrival.properties.take(),
            forwards: false,
        };
        self.inside.publish(given).await
    }
}
