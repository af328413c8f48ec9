//! Publishers inside the hub: what the bridge brings down, and the wills of clients.
//!
//! Owns the way of a message that came on no connection: rights, store, retained messages, subscribers, as a client's
//! publish goes. It is no session: it holds nothing between two messages, and receives none.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::Notify;

use super::auth::Rights;
use super::counters::Counters;
use super::message::Message;
use super::wire::QoS;
use super::{Broker, Running, forwarded};
use crate::clock::{Moment, now_ms};
use crate::ingest::Arrival;
use crate::store::queue::Closed;
use crate::store::{AckGate, Properties, Ticket};
use crate::topic;

/// How long a message may wait for room on the bus before it is dropped.
const BUS_TIME_MAX: Duration = Duration::from_secs(2);

/// A publisher inside the hub.
#[derive(Clone)]
pub struct Inside {
    broker: Arc<Broker>,
    name: Arc<str>,
    rights: Arc<Rights>,
}

/// A message that the hub itself publishes.
#[derive(Clone, Debug)]
pub struct Given {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Bytes,
    /// The QoS; at 1 and 2 it is waited for until the message is on disk, where it is to be.
    pub qos: u8,
    /// Whether it is to be retained.
    pub retain: bool,
    /// The packet id that it came with, and whether it was marked as sent before: a message on the store's way that is
    /// published again is then stored once.
    pub delivery: Option<(u16, bool)>,
    /// Its MQTT 5 properties.
    pub properties: Option<Properties>,
    /// Whether it may go upstream.
    pub forwards: bool,
}

/// Why a message is not published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The user may not publish on the topic, or nobody may.
    #[error("the access rules do not let it be published")]
    NotAllowed,
    /// The topic is none to publish on.
    #[error("its topic is none to publish on")]
    InvalidTopic,
    /// The hub stops, and the message may not be on disk.
    #[error("the hub stops")]
    TheHubStops,
}

/// What becomes of a message besides what it says itself.
pub(super) struct Fate {
    /// As in [`Given`].
    pub(super) delivery: Option<(u16, bool)>,
    /// As in [`Given`].
    pub(super) forwards: bool,
    /// Whom to tell once it is on disk; without, it is shed where the store's queue has no room.
    pub(super) ticket: Option<Ticket>,
}

impl Running {
    /// Makes a publisher inside the hub with the rights that the access rules give to `user`, who need not be one that
    /// logs in; `name` stands in the place of its client id.
    pub fn inside(&self, name: &str, user: &str) -> Inside {
        let rights = Rights::inside(self.broker.access.clone(), user, name);
        Inside { broker: self.broker.clone(), name: name.into(), rights }
    }
}

impl Inside {
    /// Publishes a message as a client's, and waits until it is on disk where a client would be acked only then.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn publish(&self, given: Given) -> Result<(), Refused> {
        let stored = Arc::new(Notify::new());
        let Some(gate) = self.begin(given, &stored).await? else { return Ok(()) };
        while gate.stored() == 0 {
            tokio::select! {
                biased;
                () = stored.notified() => {}
                () = self.broker.drained.cancelled() => return Err(Refused::TheHubStops),
            }
        }
        Ok(())
    }

    /// Publishes a message as [`Inside::publish`] does, and does not wait for the disk.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn publish_soon(&self, given: Given) -> Result<(), Refused> {
        self.begin(given, &Arc::default()).await.map(drop)
    }

    /// Waits until what was published stands in the queues of those who get it; whether it has left is not known.
    pub async fn until_queued(&self) {
        self.broker.bus.all_read().await;
    }

    /// Returns the topics whose retained message came from a publisher of this name, in this run or an earlier one.
    pub fn retained(&self) -> Vec<String> {
        self.broker.retained.topics_of(&self.name)
    }

    /// Publishes a message; returns what is raised once it is on disk, and notifies `stored` then, where that is to be waited
    /// for.
    async fn begin(&self, given: Given, stored: &Arc<Notify>) -> Result<Option<Arc<AckGate>>, Refused> {
        let broker = &self.broker;
        if broker.connections.is_cancelled() {
            return Err(Refused::TheHubStops);
        }
        Counters::add(&broker.counters.received, 1);
        if !forwarded::is_topic(&given.topic) {
            return Err(Refused::InvalidTopic);
        }
        if topic::is_of_the_server(&given.topic) {
            return Err(Refused::NotAllowed);
        }
        if !self.rights.may_write(&given.topic) {
            broker.counters.denied("a publish", &self.name, &self.rights, &given.topic);
            return Err(Refused::NotAllowed);
        }
        let gate = Arc::new(AckGate::new(stored.clone()));
        let fate = Fate {
            delivery: given.delivery.filter(|_| given.qos > 0),
            forwards: given.forwards,
            ticket: (given.qos > 0).then(|| Ticket { gate: gate.clone(), number: 1 }),
        };
        let waits = fate.ticket.is_some();
        let is_queued =
            broker.publish_inside(self.message(given), fate).await.map_err(|Closed| Refused::TheHubStops)?;
        Ok((waits && is_queued).then_some(gate))
    }

    fn message(&self, given: Given) -> Arc<Message> {
        let properties = given.properties.map(|properties| Box::new(forwarded::of_stored(properties, now_ms())));
        let life = properties.as_ref().and_then(|properties| properties.message_expiry_s);
        Arc::new(Message {
            topic: given.topic.into(),
            payload: Bytes::copy_from_slice(&given.payload),
            qos: QoS::try_from(given.qos).unwrap_or(QoS::ExactlyOnce),
            retain: given.retain,
            publisher: self.name.clone(),
            properties,
            expires: life.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds.into()))),
        })
    }
}

impl Broker {
    /// Publishes a message that came on no connection: to the store where its topic is routed, to the retained messages, to
    /// subscribers. Tells whether the store got it.
    ///
    /// # Errors
    /// [`Closed`] where it waited for room in the store's queue and the hub stops.
    pub(super) async fn publish_inside(&self, message: Arc<Message>, fate: Fate) -> Result<bool, Closed> {
        let is_queued = self.queue_inside(&message, fate).await?;
        self.retain(&message);
        if self.bus.has_subscribers() {
            match tokio::time::timeout(BUS_TIME_MAX, self.bus.publish(vec![message])).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("a message of the hub's own was not delivered: {error}"),
                Err(_) => self.count_bus_full(1),
            }
        }
        Ok(is_queued)
    }

    /// Hands a message to the store, where its topic is routed.
    async fn queue_inside(&self, message: &Message, fate: Fate) -> Result<bool, Closed> {
        let Some(routed) = self.ingest.route(&message.topic) else { return Ok(false) };
        Counters::add(&self.counters.routed, usize::from(routed.is_of_readings()));
        let received = Moment::now();
        let properties = message.properties.as_deref().filter(|_| fate.forwards && routed.is_forwarded());
        let arrival = Arrival {
            payload: &message.payload,
            client: message.publisher.clone(),
            qos: message.qos as u8,
            retain: message.retain,
            properties: properties.map(|properties| forwarded::to_stored(properties, received.ms)),
            forwards: fate.forwards,
            delivery: fate.delivery,
            received,
            ticket: fate.ticket,
        };
        let Some(job) = self.ingest.job(&routed, arrival) else { return Ok(false) };
        let mut jobs = VecDeque::from([job]);
        self.queue.push(&mut jobs);
        while let Some(job) = jobs.front() {
            self.queue.room_for(job.bytes()).await?;
            self.queue.push(&mut jobs);
        }
        Ok(true)
    }

    /// Counts messages that subscribers lose because the bus has no room, and tells of them at a bounded rate.
    pub(super) fn count_bus_full(&self, messages: usize) {
        Counters::add(&self.counters.dropped, messages);
        if self.counters.refused_lines.allows() {
            tracing::warn!(messages, "the message router has no room: messages to subscribers are dropped");
        }
    }
}
