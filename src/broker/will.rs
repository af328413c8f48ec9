//! Wills: when one is published, and what is done with it.
//!
//! Owns the wait of a delayed will, which ends early when the client comes back or its session ends. It never decides
//! whether a connection's end calls for its will.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Broker;
use super::message::Message;
use super::registry::Attachment;
use super::session::Session;
use super::wire::Will;
use crate::clock::now_ms;
use crate::ingest::Arrival;
use crate::topic;

/// Publishes a will: at once, or, unless the client comes back before, after its delay or with the end of its session.
pub(super) async fn publish_in_time(will: Will, attachment: &Attachment, broker: &Arc<Broker>) {
    let delay = Duration::from_secs(will.delay_s.into()).min(attachment.expiry);
    let fate = attachment.fate();
    if delay.is_zero() || fate.session.has_ended() {
        return broker.publish_will(&will, &fate.session).await;
    }
    let broker = broker.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = fate.succeeded.cancelled() => {}
            () = broker.connections.cancelled() => return,
        }
        if !fate.succeeded.is_cancelled() || fate.session.has_ended() {
            broker.publish_will(&will, &fate.session).await;
        }
    });
}

impl Broker {
    /// Publishes a client's will: to the store where its topic is routed, to subscribers, to the retained messages.
    async fn publish_will(&self, will: &Will, session: &Session) {
        if topic::is_of_the_server(&will.topic) {
            return;
        }
        if let Some(routed) = self.ingest.route(&will.topic) {
            let arrival = Arrival {
                payload: &will.payload,
                client: session.client().clone(),
                qos: will.qos as u8,
                delivery: None,
                received_ms: now_ms(),
                ticket: None,
            };
            self.queue.push(&mut VecDeque::from([self.ingest.job(&routed, arrival)]));
        }
        let message = Arc::new(Message::of_will(will, session.client(), Instant::now()));
        self.retain(&message);
        if self.bus.has_subscribers()
            && let Err(error) = self.bus.publish(vec![message]).await
        {
            tracing::warn!("a will was not delivered: {error}");
        }
    }
}
