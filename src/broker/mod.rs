//! The broker: MQTT clients on one side, rumqttd's router and the ingest on the other.
//!
//! Owns every socket that speaks MQTT, and all of an MQTT session: packet ids, windows, acks, redelivery, queues,
//! retained messages, wills. It never knows SQL: a publish on a routed topic becomes a job in the store's queue, and
//! its ack leaves once the store says that it is on disk.
//!
//! Data flows listener → (transport →) connection → (ingest → store's queue) and (bus → session → connection).

pub mod bus;
mod connection;
pub mod counters;
mod door;
mod end;
mod inbound;
pub mod listener;
mod message;
mod registry;
mod retained;
mod session;
mod tls;
mod transport;
mod websocket;
pub mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::bus::{Bus, BusError};
use self::counters::Counters;
use self::listener::{ListenError, Listener, Pending};
use self::message::Message;
use self::registry::Registry;
use self::retained::Retained;
use self::session::Session;
use self::wire::Will;
use crate::clock::now_ms;
use crate::config::{self, Limits};
use crate::ingest::{Arrival, Ingest};
use crate::reload::Reload;
use crate::store::Queue;

/// How often expired sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A port cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The router does not come up.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What all connections share.
pub struct Broker {
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    registry: Arc<Registry>,
    bus: Arc<Bus>,
    retained: Retained,
    ingest: Arc<Ingest>,
    queue: Arc<Queue>,
    pending: Pending,
    connections: CancellationToken,
    drained: CancellationToken,
    started_ms: i64,
    client_ids: AtomicU64,
}

/// Where clients are listened to.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// The listener's name.
    pub name: String,
    /// What it speaks below MQTT.
    pub kind: &'static str,
    /// Its address, with the port that was taken.
    pub address: SocketAddr,
}

/// The running broker.
pub struct Running {
    broker: Arc<Broker>,
    places: Vec<Place>,
    reloads: Vec<Arc<dyn Reload>>,
    listening: CancellationToken,
    listeners: TaskTracker,
    tasks: TaskTracker,
}

impl Running {
    /// Binds every listener, starts the router and serves.
    ///
    /// # Errors
    /// [`BrokerError`]; nothing is left running.
    pub async fn start(
        settings: config::Broker,
        ingest: Arc<Ingest>,
        queue: Arc<Queue>,
    ) -> Result<Running, BrokerError> {
        let mut bound = Vec::new();
        for listener in settings.listeners {
            bound.push(Listener::bind(listener)?);
        }
        let limits = Arc::new(settings.limits);
        let counters: Arc<Counters> = Arc::default();
        let broker = Arc::new(Broker {
            registry: Registry::new(limits.clone(), counters.clone()),
            bus: Bus::start(settings.router, limits.filters).await?,
            retained: Retained::new(limits.retained_messages, limits.retained_bytes),
            limits,
            counters,
            ingest,
            queue,
            pending: Pending::default(),
            connections: CancellationToken::new(),
            drained: CancellationToken::new(),
            started_ms: now_ms(),
            client_ids: AtomicU64::new(0),
        });
        let (listeners, tasks) = (TaskTracker::new(), TaskTracker::new());
        let listening = CancellationToken::new();
        let places = bound.iter().map(Listener::place).collect();
        let reloads = bound.iter().filter_map(Listener::reload).collect();
        for listener in bound {
            listeners.spawn(listener.serve(broker.clone(), listening.clone(), tasks.clone()));
        }
        listeners.spawn(sweep(broker.registry.clone(), listening.clone()));
        Ok(Running { broker, places, reloads, listening, listeners, tasks })
    }

    /// Returns where clients are listened to.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns what can be read anew while the broker serves.
    pub fn reloads(&self) -> Vec<Arc<dyn Reload>> {
        self.reloads.clone()
    }

    /// Returns the broker's counters.
    pub fn counters(&self) -> Arc<Counters> {
        self.broker.counters.clone()
    }

    /// Returns the bus.
    pub fn bus(&self) -> Arc<Bus> {
        self.broker.bus.clone()
    }

    /// Closes the listeners and lets sessions read no more; acks still leave.
    pub async fn stop_reading(&self) {
        self.listening.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.broker.connections.cancel();
    }

    /// Lets every session send the acks that are due, and ends it; waits for all within `deadline`.
    pub async fn end_sessions(self, deadline: Duration) {
        self.broker.drained.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::warn!(connections = self.tasks.len(), "connections did not end in time and are cut");
        }
    }
}

impl Broker {
    /// Publishes a client's will: to the store where its topic is routed, to subscribers, to the retained messages.
    async fn publish_will(&self, will: &Will, session: &Session) {
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

    /// Makes a client id for a client that brings none: unlike any other since the start, and before it.
    fn new_client_id(&self) -> String {
        let number = self.client_ids.fetch_add(1, Ordering::Relaxed);
        format!("auto-{:x}-{number:x}", self.started_ms)
    }

    /// Keeps a message where it asks for it.
    fn retain(&self, message: &Arc<Message>) {
        if message.retain && self.retained.set(message).is_err() && self.counters.refused_lines.allows() {
            tracing::warn!(
                topic = %message.topic.escape_debug(),
                "a retained message was not kept: broker.limits.retained_messages or retained_bytes is reached"
            );
        }
    }
}

async fn sweep(registry: Arc<Registry>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
        registry.sweep(Instant::now());
    }
}
