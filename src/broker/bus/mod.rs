//! The bus: rumqttd's router, used to match topics and to fan out. The only room that knows rumqttd's router.
//!
//! Owns the router's thread, the one link that everything is published through, and the names of links. A message
//! itself never enters the router: it stands in a ring (`gate`), and its number goes through the router under its
//! topic. Sessions share a few of the router's links, the trunks: each has a task that drains it (`trunk`), hands on what
//! it brings (`riders`), and never waits for a client. A session's place on one is its `link`.
//!
//! # Pitfalls kept out
//! The router dies of a `Ready` for a link that it has removed: each trunk has one owner, its task, which sends nothing
//! after its Disconnect. It panics where a topic's first character is not ASCII, and it lets a leading wildcard match
//! `$` topics: every topic and filter gets a prefix, `m/` for ordinary and `d/` for `$` topics. It keeps some state
//! for every link name for ever: there are few; and for every topic and filter: see `names`.

mod canary;
mod gate;
mod link;
mod names;
mod proof;
mod riders;
mod seen;
mod sink;
mod trunk;

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rumqttd::local::{LinkBuilder, LinkRx, LinkTx};
use rumqttd::protocol::Packet;
use rumqttd::{Router, RouterConfig};
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use self::gate::Gate;
use self::names::Names;
use self::trunk::Trunk;
use super::message::Message;
use crate::log::Rate;
use crate::tasks::{self, Name};

pub use self::canary::Canary;
pub use self::gate::Numbered;
pub use self::link::Link;
pub use self::sink::Sink;

/// How long the router may take to answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Why the bus did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// The router's thread has ended.
    #[error("the message router has ended")]
    RouterEnded,
    /// The router has no room for another link.
    #[error("the message router has no room for another link ([router] max_connections in rumqttd.toml)")]
    NoRoom,
    /// All clients together subscribe to as many filters as the configuration allows.
    #[error("all clients together have {0} subscriptions, as many as broker.limits.filters allows")]
    TooManyFilters(usize),
    /// The router did not answer in time.
    #[error("the message router has not answered for {0:?}")]
    Silent(Duration),
}

/// What the bus holds, at most.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Filters that clients subscribe to, each client's counted by itself.
    pub filters: usize,
    /// Topics that have a name of their own in the router; others share one.
    pub topics: usize,
}

/// Opens a link; `None` where the router has no room or is gone.
type Build = dyn Fn(&str) -> Option<(LinkTx, LinkRx)> + Send + Sync;

/// The bus.
pub struct Bus {
    build: Arc<Build>,
    is_dead: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether a trunk's task has ended that was not to, or the one that gives the gate's room back.
    has_lost_task: AtomicBool,
    publisher: Mutex<Publisher>,
    gate: Gate,
    names: Names,
    /// The trunks that sinks ride on, as many as there are threads to drain them; opened when they are needed.
    trunks: AsyncMutex<Vec<Arc<Trunk>>>,
    trunks_max: usize,
    /// Trunks that one sink has for itself.
    apart: Mutex<Vec<Weak<Trunk>>>,
    /// Filters that clients subscribe to now, each client's counted by itself.
    subscribed: AtomicUsize,
    filters_max: usize,
    /// Messages that the router dropped before a link had read them.
    lost: AtomicU64,
    lost_lines: Rate,
}

struct Publisher {
    link: LinkTx,
    // Kept because the router would find the link's receiver gone.
    _answers: LinkRx,
}

impl Bus {
    /// Starts the router, and the task that gives the gate's room back.
    ///
    /// # Errors
    /// [`BusError::RouterEnded`] where the router does not come up.
    pub async fn start(config: RouterConfig, bounds: Bounds) -> Result<Arc<Bus>, BusError> {
        let (gate, names) = (Gate::new(&config), Names::new(&config, bounds.topics));
        let router = Router::new(0, config).spawn();
        let of_links = router.clone();
        let build: Arc<Build> = Arc::new(move |name| {
            let (link_tx, link_rx, _connack) = LinkBuilder::new(name, of_links.clone()).build().ok()?;
            Some((link_tx, link_rx))
        });
        let (link, answers) = open(build.clone(), "bus".to_owned()).await?;
        let bus = Arc::new(Bus {
            build,
            is_dead: Box::new(move || router.is_disconnected()),
            has_lost_task: AtomicBool::new(false),
            publisher: Mutex::new(Publisher { link, _answers: answers }),
            gate,
            names,
            trunks: AsyncMutex::default(),
            trunks_max: tokio::runtime::Handle::current().metrics().num_workers().max(1),
            apart: Mutex::default(),
            subscribed: AtomicUsize::new(0),
            filters_max: bounds.filters,
            lost: AtomicU64::new(0),
            lost_lines: Rate::default(),
        });
        let giving = tokio::spawn(tasks::named(Name::Part("gate"), give_room_back(Arc::downgrade(&bus))));
        let served = Arc::downgrade(&bus);
        tokio::spawn(async move {
            if giving.await.is_err()
                && let Some(bus) = served.upgrade()
            {
                bus.has_lost_task.store(true, Ordering::Release);
            }
        });
        Ok(bus)
    }

    /// Tells whether the router's thread has ended, or a trunk, without which the sessions that ride on it are deaf.
    pub fn is_dead(&self) -> bool {
        (self.is_dead)() || self.has_lost_task.load(Ordering::Acquire)
    }

    /// Returns how many messages the router dropped before a link had read them: none, as long as the gate holds.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn count_lost(&self, messages: u64) {
        if messages == 0 {
            return;
        }
        let lost = self.lost.fetch_add(messages, Ordering::Relaxed) + messages;
        if self.lost_lines.allows() {
            tracing::error!(
                lost,
                "the message router has dropped messages to subscribers; readings are stored all the same"
            );
        }
    }

    /// Tells whether any client subscribes to anything; where none does, publishing is not worth the way.
    pub fn has_subscribers(&self) -> bool {
        self.subscribed.load(Ordering::Acquire) > 0
    }

    /// Returns the number that the next message gets.
    pub fn next_number(&self) -> u64 {
        self.gate.next_number()
    }

    /// Publishes messages in their order, waiting for room while links have not read the last ones.
    ///
    /// # Errors
    /// [`BusError::RouterEnded`].
    pub async fn publish(&self, messages: Vec<Arc<Message>>) -> Result<(), BusError> {
        self.publish_from(&mut messages.into()).await
    }

    /// As [`Self::publish`]; where that is given up, what was not published is left in `rest`.
    ///
    /// # Errors
    /// [`BusError::RouterEnded`].
    pub async fn publish_from(&self, rest: &mut VecDeque<Arc<Message>>) -> Result<(), BusError> {
        while !rest.is_empty() {
            let (mut units, mut count) = (0, 0);
            while let Some(message) = rest.get(count).filter(|message| self.gate.fits_with(units, message)) {
                units += self.gate.units(message);
                count += 1;
            }
            self.gate.reserve(units).await?;
            let together = rest.drain(..count).map(|message| (self.names.of_topic(&message.topic), message));
            self.push(together.collect(), units)?;
        }
        Ok(())
    }

    /// Gives a sink its place, on the trunk that has the fewest.
    ///
    /// # Errors
    /// [`BusError::NoRoom`], [`BusError::RouterEnded`], [`BusError::Silent`].
    pub async fn link(self: &Arc<Self>, sink: Arc<dyn Sink>) -> Result<Link, BusError> {
        let trunk = {
            let mut trunks = self.trunks.lock().await;
            if trunks.len() < self.trunks_max {
                let opened = self.open_trunk(&format!("trunk{}", trunks.len())).await?;
                trunks.push(opened);
            }
            trunks.iter().min_by_key(|trunk| trunk.riders()).cloned().ok_or(BusError::NoRoom)?
        };
        let seat = trunk.board(sink).await?;
        Ok(Link::new(self.clone(), trunk, seat))
    }

    /// Gives a sink a trunk of its own, of this name.
    async fn link_apart(self: &Arc<Self>, name: &str, sink: Arc<dyn Sink>) -> Result<Link, BusError> {
        let trunk = self.open_trunk(name).await?;
        lock(&self.apart).push(Arc::downgrade(&trunk));
        let seat = trunk.board(sink).await?;
        Ok(Link::new(self.clone(), trunk, seat))
    }

    async fn open_trunk(self: &Arc<Self>, name: &str) -> Result<Arc<Trunk>, BusError> {
        match open(self.build.clone(), name.to_owned()).await {
            Ok(link) => Ok(Arc::new(Trunk::start(Arc::downgrade(self), link))),
            Err(_) if self.is_dead() => Err(BusError::RouterEnded),
            Err(error) => Err(error),
        }
    }

    /// Hands messages with their room reserved to the router, and returns the number of the last.
    fn push(&self, mut messages: Vec<(String, Arc<Message>)>, units: usize) -> Result<u64, BusError> {
        let Some((last_topic, last)) = messages.pop() else { return Ok(0) };
        let mut publisher = lock(&self.publisher);
        {
            let mut buffer = publisher.link.buffer();
            for (topic, message) in messages {
                buffer.push_back(self.gate.packet(topic, message).1);
            }
        }
        let (number, packet) = self.gate.packet(last_topic, last);
        // Within the publisher's lock, so that a checkpoint sees the messages and their room together.
        self.gate.taken(units);
        send_now(&mut publisher.link, packet)?;
        Ok(number)
    }

    /// Waits until every trunk has read what was published so far, and gives its room back.
    async fn checkpoint(&self) {
        let passed = {
            let _publisher = lock(&self.publisher);
            self.gate.snapshot()
        };
        self.all_read().await;
        self.gate.give_back(passed);
    }

    /// Waits until every trunk has read what was published so far.
    pub async fn all_read(&self) {
        let (read, mut all_read) = mpsc::channel::<()>(1);
        for trunk in self.trunks.lock().await.iter() {
            trunk.checkpoint(read.clone());
        }
        lock(&self.apart).retain(|trunk| trunk.upgrade().inspect(|trunk| trunk.checkpoint(read.clone())).is_some());
        drop(read);
        while all_read.recv().await.is_some() {}
    }
}

async fn give_room_back(bus: Weak<Bus>) {
    while let Some(bus) = bus.upgrade() {
        // A deadline, so that a bus that nobody holds any more is not held here, nor the last messages of a quiet one.
        let due = tokio::time::timeout(Duration::from_secs(1), bus.gate.is_due()).await.is_ok();
        if due || bus.gate.holds_any() {
            bus.checkpoint().await;
        }
    }
}

async fn open(build: Arc<Build>, name: String) -> Result<(LinkTx, LinkRx), BusError> {
    // Building waits for the router's thread.
    let built = tasks::blocking(Name::Part("bus"), move || build(&name));
    match tokio::time::timeout(ANSWER_TIME_MAX, built).await {
        Ok(Ok(Some(link))) => Ok(link),
        Ok(Ok(None)) => Err(BusError::NoRoom),
        Ok(Err(_)) => Err(BusError::RouterEnded),
        Err(_) => Err(BusError::Silent(ANSWER_TIME_MAX)),
    }
}

/// Sends a packet from where nothing may be awaited: rumqttd's `send` is asynchronous in name alone.
fn send_now(link: &mut LinkTx, packet: Packet) -> Result<(), BusError> {
    let mut sending = pin!(link.send(packet));
    match sending.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(_)) => Ok(()),
        Poll::Ready(Err(_)) | Poll::Pending => Err(BusError::RouterEnded),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
