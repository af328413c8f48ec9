//! The broker: MQTT clients on one side, rumqttd's router and the ingest on the other.
//!
//! Owns every socket that speaks MQTT, and all of an MQTT session: packet ids, windows, acks, redelivery, queues,
//! retained messages, shared subscriptions, wills. It never knows SQL: a publish on a routed topic becomes a job in the store's queue, and
//! its ack leaves once the store says that it is on disk.
//!
//! Data flows listener → (transport →) connection → (ingest → store's queue) and (bus → session → connection).

mod alias;
pub mod auth;
pub mod bus;
mod connack;
mod connection;
pub mod counters;
mod crowd;
mod door;
mod end;
mod forwarded;
mod inbound;
pub mod inside;
mod keeper;
pub mod listener;
mod login;
mod message;
mod outbound;
mod partial;
mod pen;
mod queued;
mod received;
mod record;
mod registry;
mod restore;
mod retained;
mod rows;
mod session;
mod share;
mod subscribing;
mod tls;
mod transport;
mod websocket;
mod will;
pub mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::auth::{Access, AccessFiles, Auth, AuthErrors};
use self::bus::{Bounds, Bus, BusError};
use self::counters::Counters;
use self::crowd::Crowd;
use self::keeper::{Changed, Keeper};
use self::listener::{ListenError, Listener, Pending};
use self::message::Message;
use self::partial::Partial;
use self::registry::Registry;
use self::retained::Retained;
use self::share::{Groups, Shares};
use crate::clock::now_ms;
use crate::config::{self, Limits};
use crate::ingest::Ingest;
use crate::reload::Reload;
use crate::store::{Kept, Queue};
use crate::tasks::{self, Faults, Name};

/// How often expired sessions are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How long connections may take to hand over what they had read when the hub stops.
const READING_TIME_MAX: Duration = Duration::from_millis(500);
/// How long a stop waits for the wills of those who are connected.
const WILLS_TIME_MAX: Duration = Duration::from_secs(1);

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// A port cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Users or rights cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthErrors),
    /// The router does not come up.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// What all connections share.
pub struct Broker {
    limits: Arc<Limits>,
    counters: Arc<Counters>,
    access: Arc<Access>,
    registry: Arc<Registry>,
    bus: Arc<Bus>,
    shares: Shares,
    retained: Retained,
    changed: Arc<Changed>,
    ingest: Arc<Ingest>,
    queue: Arc<Queue>,
    pending: Pending,
    partial: Arc<Partial>,
    /// The wills that are still to be published or dropped.
    wills: TaskTracker,
    crowd: Arc<Crowd>,
    /// The connections that still take what their clients send.
    reading: TaskTracker,
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
    keeping: CancellationToken,
    keeper: JoinHandle<bool>,
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
        kept: Option<Kept>,
        faults: &Arc<Faults>,
    ) -> Result<Running, BrokerError> {
        let auth = Auth::load(&settings)?;
        for warning in auth.warnings() {
            tracing::warn!("{warning}");
        }
        let access = Access::new(auth);
        let users = AccessFiles::of(access.clone(), &settings);
        let mut bound = Vec::new();
        for listener in settings.listeners {
            bound.push(Listener::bind(listener)?);
        }
        let limits = Arc::new(settings.limits);
        let bounds = Bounds { filters: limits.filters, topics: limits.topics };
        let (counters, changed): (Arc<Counters>, Arc<Changed>) = Default::default();
        let bus = Bus::start(settings.router, bounds).await?;
        let groups = Groups::new(limits.filters, counters.clone());
        let broker = Arc::new(Broker {
            registry: Registry::new(limits.clone(), counters.clone(), groups.clone(), changed.clone()),
            shares: Shares::new(bus.clone(), groups),
            bus,
            retained: Retained::new(limits.retained_messages, limits.retained_bytes, changed.clone()),
            partial: Partial::new(limits.partial_bytes),
            changed,
            limits,
            counters,
            access,
            ingest,
            queue,
            pending: Pending::default(),
            wills: TaskTracker::new(),
            crowd: Arc::default(),
            reading: TaskTracker::new(),
            connections: CancellationToken::new(),
            drained: CancellationToken::new(),
            started_ms: now_ms(),
            client_ids: AtomicU64::new(0),
        });
        if kept.is_none() {
            broker.changed.forget_rows();
        }
        let kept = kept.unwrap_or_default();
        let stored = kept.sessions.iter().map(|session| session.client.clone()).collect();
        restore::restore(&broker, kept).await;
        let (listeners, tasks) = (TaskTracker::new(), TaskTracker::new());
        let (listening, keeping) = (CancellationToken::new(), CancellationToken::new());
        let keeper = Keeper::new(broker.clone(), stored).run(keeping.clone());
        let keeper = tasks::essential(faults, "keeper", keeping.clone(), keeper);
        let places = bound.iter().map(Listener::place).collect();
        let mut reloads: Vec<Arc<dyn Reload>> = bound.iter().filter_map(Listener::reload).collect();
        reloads.extend(users.map(|users| Arc::new(users) as Arc<dyn Reload>));
        for listener in bound {
            let (broker, stop, clients, listener) =
                (broker.clone(), listening.clone(), tasks.clone(), Arc::new(listener));
            tasks::lasting(&listeners, listener.task(), listening.clone(), move || {
                listener.clone().serve(broker.clone(), stop.clone(), clients.clone())
            });
        }
        let (swept, stop) = (broker.clone(), listening.clone());
        tasks::lasting(&listeners, Name::Part("sweep"), listening.clone(), move || sweep(swept.clone(), stop.clone()));
        Ok(Running { broker, places, reloads, listening, listeners, keeping, keeper, tasks })
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

    /// Closes the listeners and lets sessions read no more; wills are published, and acks still leave.
    pub async fn stop_reading(&self) {
        self.listening.cancel();
        self.listeners.close();
        self.listeners.wait().await;
        self.broker.connections.cancel();
        self.broker.reading.close();
        if tokio::time::timeout(READING_TIME_MAX, self.broker.reading.wait()).await.is_err() {
            tracing::warn!(connections = self.broker.reading.len(), "not all connections stopped reading in time");
        }
        self.broker.wills.close();
        if tokio::time::timeout(WILLS_TIME_MAX, self.broker.wills.wait()).await.is_err() {
            tracing::warn!(wills = self.broker.wills.len(), "not all wills were published in time");
        }
    }

    /// Hands the last changes of retained messages and sessions to the store; false where `deadline` is over before all is
    /// on disk.
    pub async fn keep_the_last(&mut self, deadline: Duration) -> bool {
        let kept = async {
            // What was acked a moment ago may still be on its way to the sessions.
            self.broker.bus.all_read().await;
            self.keeping.cancel();
            (&mut self.keeper).await
        };
        matches!(tokio::time::timeout(deadline, kept).await, Ok(Ok(true)))
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
    /// Makes a client id for a client that brings none: unlike any other since the start, and before it, and not one
    /// that another client has guessed.
    fn new_client_id(&self) -> String {
        loop {
            let number = self.client_ids.fetch_add(1, Ordering::Relaxed);
            let client_id = format!("auto-{:x}-{number:x}", self.started_ms);
            if !self.registry.knows(&client_id) {
                return client_id;
            }
        }
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

async fn sweep(broker: Arc<Broker>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_some() {
        broker.registry.sweep(Instant::now());
        broker.shares.tidy().await;
    }
}
