//! One subscriber's link to the router, and the task that drains it.
//!
//! Owns the link from its opening to its Disconnect; nobody else sends on it. A checkpoint is proven in band: the task
//! sends a PINGREQ, the router answers when it next serves the link and forwards in the same turn what its logs hold.
//! Where the link's buffer was too small for that, an `Unschedule` stands behind it. Two PINGRESPs in a row without an
//! `Unschedule` between them therefore mean that all that was published before the first PINGREQ is read.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{
    Disconnect, DisconnectReasonCode, Filter, Packet, PingReq, QoS, RetainForwardRule, Subscribe, SubscribeProperties,
    Unsubscribe,
};
use rumqttd::{Forward, Notification};
use tokio::sync::{mpsc, oneshot};

use super::names::REST;
use super::{ANSWER_TIME_MAX, Bus, BusError, Numbered, lock};
use crate::topic;

const TAKEN_TOGETHER: usize = 256;

/// Takes the messages of a link; never waits.
pub trait Sink: Send + Sync + 'static {
    /// Takes messages in the order of publishing; one may come once for each filter that matches it.
    fn take(&self, messages: &mut Vec<Numbered>);
}

pub(super) enum Command {
    Subscribe {
        names: Vec<String>,
        done: oneshot::Sender<()>,
    },
    Unsubscribe(Vec<String>),
    /// Drops the sender once all that was published before is read.
    Checkpoint(mpsc::Sender<()>),
}

/// The handle of a link; dropping it ends the link.
pub struct Link {
    bus: Arc<Bus>,
    commands: mpsc::UnboundedSender<Command>,
    id: u64,
    subscribed: AtomicUsize,
}

impl Link {
    /// Subscribes to filters that are valid and not subscribed yet; returns once the router has them.
    ///
    /// # Errors
    /// [`BusError::TooManyFilters`], and nothing is subscribed; [`BusError::RouterEnded`], [`BusError::Silent`].
    pub async fn subscribe(&self, filters: &[&str]) -> Result<(), BusError> {
        // Counted first: from the SUBACK on, no message may take the short way past the bus.
        let weight = weight(filters);
        let before = self.bus.subscribed.fetch_add(weight, Ordering::AcqRel);
        let is_first = self.subscribed.fetch_add(weight, Ordering::AcqRel) == 0;
        let rest = is_first.then(|| REST.to_owned());
        let names = || filters.iter().map(|filter| self.bus.names.of_filter(filter));
        let subscribed = if before + weight > self.bus.filters_max {
            Err(BusError::TooManyFilters(self.bus.filters_max))
        } else {
            self.subscribe_names(rest.into_iter().chain(names()).collect()).await
        };
        if subscribed.is_err() {
            self.count_off(weight);
        }
        subscribed
    }

    /// Unsubscribes from filters that are subscribed.
    pub fn unsubscribe(&self, filters: &[&str]) {
        self.count_off(weight(filters));
        let names = filters.iter().map(|filter| self.bus.names.of_filter(filter)).collect();
        // Where the task has ended, so has the subscription.
        self.commands.send(Command::Unsubscribe(names)).unwrap_or(());
    }

    fn count_off(&self, weight: usize) {
        self.bus.subscribed.fetch_sub(weight, Ordering::AcqRel);
        self.subscribed.fetch_sub(weight, Ordering::AcqRel);
    }

    /// Subscribes to names as the router knows them.
    pub(super) async fn subscribe_names(&self, names: Vec<String>) -> Result<(), BusError> {
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::Subscribe { names, done }).map_err(|_| BusError::RouterEnded)?;
        match tokio::time::timeout(ANSWER_TIME_MAX, is_done).await {
            Ok(answer) => answer.map_err(|_| BusError::RouterEnded),
            Err(_) => Err(BusError::Silent(ANSWER_TIME_MAX)),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.bus.subscribed.fetch_sub(self.subscribed.load(Ordering::Acquire), Ordering::AcqRel);
        // The bus holds the other sender; without both, the task sees its commands end.
        lock(&self.bus.links).commands.remove(&self.id);
    }
}

fn subscribe(name: String, number: usize) -> Packet {
    let filter = Filter {
        path: name,
        qos: QoS::AtMostOnce,
        nolocal: false,
        preserve_retain: false,
        retain_forward_rule: RetainForwardRule::Never,
    };
    let properties = SubscribeProperties { id: Some(number), user_properties: Vec::new() };
    Packet::Subscribe(Subscribe { pkid: 1, filters: vec![filter] }, Some(properties))
}

fn weight(filters: &[&str]) -> usize {
    filters.iter().map(|filter| topic::weight(filter)).sum()
}

/// Starts the task of an opened link.
pub(super) fn start(
    bus: &Arc<Bus>,
    id: u64,
    name: String,
    (link_tx, link_rx): (LinkTx, LinkRx),
    sink: Arc<dyn Sink>,
) -> Link {
    let (commands, received) = mpsc::unbounded_channel();
    lock(&bus.links).commands.insert(id, commands.clone());
    let drain = Drain {
        bus: bus.clone(),
        link_tx,
        link_rx,
        sink,
        names: HashMap::new(),
        places: HashMap::new(),
        last_name: 0,
        pings_under_way: 0,
        is_leaving: false,
        numbers: Vec::new(),
        found: Vec::new(),
        subscribing: VecDeque::new(),
        checkpoints: Checkpoints::default(),
    };
    tokio::spawn(async move {
        let bus = drain.bus.clone();
        drain.run(received).await;
        lock(&bus.links).free_names.push(name);
    });
    Link { bus: bus.clone(), commands, id, subscribed: AtomicUsize::new(0) }
}

struct Drain {
    bus: Arc<Bus>,
    link_tx: LinkTx,
    link_rx: LinkRx,
    sink: Arc<dyn Sink>,
    /// What is subscribed to at the router.
    names: HashMap<String, Name>,
    /// By a name's number, the place of the last message that came by it.
    places: HashMap<usize, Option<u64>>,
    last_name: usize,
    pings_under_way: usize,
    is_leaving: bool,
    numbers: Vec<u64>,
    found: Vec<Numbered>,
    /// For each SUBACK that is due, whom it tells.
    subscribing: VecDeque<Option<oneshot::Sender<()>>>,
    checkpoints: Checkpoints,
}

/// A name that is subscribed to at the router.
struct Name {
    /// How often: filters may share a name.
    times: usize,
    /// The number that the router puts on every message that comes by it.
    number: usize,
}

/// The checkpoints that this link has yet to pass. Those that come while one is being proven wait for the next proof.
#[derive(Default)]
struct Checkpoints {
    proving: Vec<mpsc::Sender<()>>,
    next: Vec<mpsc::Sender<()>>,
    clean_answers: u8,
}

impl Drain {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            let done = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                notification = self.link_rx.next() => self.read(notification).await,
            };
            if done.is_err() {
                // The router is gone, and whoever watches it ends the hub.
                return;
            }
        }
        // Where the router is gone, there is nothing to leave.
        self.leave().await.unwrap_or(());
    }

    /// Leaves the router. Before the Disconnect, the link has to be idle there: the router panics on a `Ready` that
    /// reaches it after the Disconnect, and goes to sleep over a removed link that it finds among those to be served.
    /// Unsubscribed, and with every PINGREQ answered, it is neither.
    async fn leave(&mut self) -> Result<(), LinkError> {
        let filters: Vec<String> = self.names.drain().map(|(name, _)| name).collect();
        if !filters.is_empty() {
            self.send(Packet::Unsubscribe(Unsubscribe { pkid: 1, filters }, None)).await?;
        }
        self.checkpoints = Checkpoints::default();
        self.is_leaving = true;
        self.ping().await?;
        while self.pings_under_way > 0 {
            let notification = self.link_rx.next().await;
            self.read(notification).await?;
        }
        let disconnect = Disconnect { reason_code: DisconnectReasonCode::NormalDisconnection };
        // Nothing is sent on this link after this: the router forgets it.
        self.send(Packet::Disconnect(disconnect, None)).await
    }

    async fn obey(&mut self, command: Command) -> Result<(), LinkError> {
        match command {
            Command::Subscribe { names, done } => self.subscribe(names, done).await,
            Command::Unsubscribe(names) => self.unsubscribe(names).await,
            Command::Checkpoint(passed) => {
                self.checkpoints.next.push(passed);
                self.prove_next().await
            }
        }
    }

    async fn subscribe(&mut self, names: Vec<String>, done: oneshot::Sender<()>) -> Result<(), LinkError> {
        let mut packets = VecDeque::new();
        for name in names {
            if let Some(known) = self.names.get_mut(&name) {
                known.times += 1;
                continue;
            }
            self.last_name += 1;
            // One packet for each, as a packet has one number.
            packets.push_back(subscribe(name.clone(), self.last_name));
            self.places.insert(self.last_name, None);
            self.names.insert(name, Name { times: 1, number: self.last_name });
        }
        let Some(last) = packets.pop_back() else {
            // The asker may have given up.
            done.send(()).unwrap_or(());
            return Ok(());
        };
        self.subscribing.extend(packets.iter().map(|_| None));
        self.subscribing.push_back(Some(done));
        self.link_tx.buffer().extend(packets);
        self.send(last).await
    }

    async fn unsubscribe(&mut self, names: Vec<String>) -> Result<(), LinkError> {
        let mut filters = Vec::new();
        for name in names {
            let Some(known) = self.names.get_mut(&name) else { continue };
            known.times -= 1;
            if known.times == 0 {
                self.places.remove(&known.number);
                self.names.remove(&name);
                filters.push(name);
            }
        }
        if filters.is_empty() {
            return Ok(());
        }
        self.send(Packet::Unsubscribe(Unsubscribe { pkid: 1, filters }, None)).await
    }

    /// Reads one notification and all that stand behind it, and hands over what they carry.
    async fn read(&mut self, first: Result<Option<Notification>, LinkError>) -> Result<(), LinkError> {
        let mut next = first?;
        let mut must_wake = false;
        let mut answers = 0u8;
        loop {
            match next {
                Some(Notification::Forward(forward)) => self.note(&forward),
                Some(Notification::Unschedule) => {
                    must_wake = true;
                    self.checkpoints.clean_answers = 0;
                    answers = 0;
                }
                Some(other) => match Option::<Packet>::from(other) {
                    Some(Packet::PingResp(_)) => {
                        answers += 1;
                        self.pings_under_way -= 1;
                    }
                    Some(Packet::SubAck(..)) => {
                        if let Some(Some(done)) = self.subscribing.pop_front() {
                            // The asker may have given up.
                            done.send(()).unwrap_or(());
                        }
                    }
                    _ => {}
                },
                None => {}
            }
            if self.numbers.len() >= TAKEN_TOGETHER {
                self.hand_over();
            }
            next = match self.link_rx.recv_deadline(Instant::now()) {
                Ok(notification) => notification,
                Err(LinkError::RecvTimeout(_)) => break,
                Err(error) => return Err(error),
            };
        }
        self.hand_over();
        if must_wake && !(self.is_leaving && self.pings_under_way == 0) {
            self.link_rx.wake().await?;
        }
        self.answered(answers).await
    }

    fn note(&mut self, forward: &Forward) {
        let Some(properties) = &forward.properties else { return };
        let number = properties.correlation_data.as_deref();
        if let Some(Ok(number)) = number.map(<[u8; 8]>::try_from) {
            self.numbers.push(u64::from_be_bytes(number));
        }
        if let (Some((_, place)), Some(name)) = (forward.cursor, properties.subscription_identifiers.last()) {
            self.note_place(*name, place);
        }
    }

    /// Notes where in the log of a name a message stood. The places of one name follow each other: where one is left out,
    /// the router has dropped a message before this link had read it.
    fn note_place(&mut self, name: usize, place: u64) {
        // A message may still be under way to a link that has unsubscribed from its name.
        let Some(last) = self.places.get_mut(&name) else { return };
        let expected = last.replace(place).map_or(place, |last| last + 1);
        self.bus.count_lost(place.saturating_sub(expected));
    }

    fn hand_over(&mut self) {
        if !self.numbers.is_empty() {
            self.bus.gate.find(self.numbers.drain(..), &mut self.found);
            self.sink.take(&mut self.found);
            self.found.clear();
        }
    }

    /// Counts the PINGRESPs that came with no `Unschedule` behind them, and asks again until there are two in a row.
    async fn answered(&mut self, answers: u8) -> Result<(), LinkError> {
        if self.checkpoints.proving.is_empty() || self.pings_under_way > 0 {
            return Ok(());
        }
        self.checkpoints.clean_answers += answers;
        if self.checkpoints.clean_answers < 2 {
            return self.ping().await;
        }
        self.checkpoints.proving.clear();
        self.prove_next().await
    }

    /// Begins to prove the checkpoints that wait, unless one is being proven.
    async fn prove_next(&mut self) -> Result<(), LinkError> {
        if !self.checkpoints.proving.is_empty() || self.checkpoints.next.is_empty() {
            return Ok(());
        }
        self.checkpoints.proving = std::mem::take(&mut self.checkpoints.next);
        self.checkpoints.clean_answers = 0;
        self.ping().await
    }

    async fn ping(&mut self) -> Result<(), LinkError> {
        self.pings_under_way += 1;
        self.send(Packet::PingReq(PingReq)).await
    }

    async fn send(&mut self, packet: Packet) -> Result<(), LinkError> {
        self.link_tx.send(packet).await.map(drop)
    }
}
