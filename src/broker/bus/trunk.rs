//! One of the router's links, and the task that drains it.
//!
//! Owns the link from its opening to its Disconnect; nobody else sends on it. What it reads goes to the sinks that ride on
//! it (`riders`). A checkpoint is proven in band: the task sends a PINGREQ, the router answers when it next serves the
//! link and forwards in the same turn what its logs hold. Where the link's buffer was too small for that, an `Unschedule`
//! stands behind it. Two PINGRESPs in a row without an `Unschedule` between them therefore mean that all that was
//! published before the first PINGREQ is read.
//!
//! A name that is new on the trunk begins at the end of its log, while an older name that matches the same topics may still
//! be far behind: what the new one brings would overtake it. So it is held until it is proven that the older ones have
//! read all that was published before the new one was there.
//!
//! The router numbers the messages of each filter; where a number is left out, it has dropped a message, and that is
//! counted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use rumqttd::local::{LinkError, LinkRx, LinkTx};
use rumqttd::protocol::{
    Disconnect, DisconnectReasonCode, Filter, Packet, PingReq, QoS, RetainForwardRule, Subscribe, SubscribeProperties,
    Unsubscribe,
};
use rumqttd::{Forward, Notification};
use tokio::sync::{mpsc, oneshot};

use super::names::REST;
use super::proof::{Next, Proof, Waiting};
use super::riders::Riders;
use super::sink::Sink;
use super::{ANSWER_TIME_MAX, Bus, BusError, Numbered};
use crate::tasks;

/// What is handed over at a time, messages.
const TAKEN_TOGETHER: usize = 256;

pub(super) enum Command {
    /// Takes a sink on, and tells its seat.
    Board {
        sink: Arc<dyn Sink>,
        seat: oneshot::Sender<usize>,
    },
    /// Lets a sink go, and unsubscribes from its names.
    Leave {
        seat: usize,
    },
    Subscribe {
        seat: usize,
        names: Vec<String>,
        done: oneshot::Sender<()>,
    },
    Unsubscribe {
        seat: usize,
        names: Vec<String>,
    },
    /// Drops the sender once all that was published before is read.
    Checkpoint(mpsc::Sender<()>),
}

/// The handle of a trunk; without any, the trunk leaves the router.
#[derive(Debug)]
pub(super) struct Trunk {
    commands: mpsc::UnboundedSender<Command>,
    riders: AtomicUsize,
}

impl Trunk {
    /// Starts the task of an opened link.
    pub(super) fn start(bus: Weak<Bus>, (link_tx, link_rx): (LinkTx, LinkRx)) -> Trunk {
        let (commands, received) = mpsc::unbounded_channel();
        let drain = Drain {
            bus,
            link_tx,
            link_rx,
            riders: Riders::default(),
            names: HashMap::new(),
            places: HashMap::new(),
            last_name: 0,
            pings_under_way: 0,
            is_leaving: false,
            numbers: Vec::new(),
            found: Vec::new(),
            subscribing: VecDeque::new(),
            fresh: HashSet::new(),
            held: Vec::new(),
            proof: Proof::default(),
        };
        tokio::spawn(tasks::named(tasks::Name::Part("trunk"), drain.run(received)));
        Trunk { commands, riders: AtomicUsize::new(0) }
    }

    /// Returns how many sinks ride on it.
    pub(super) fn riders(&self) -> usize {
        self.riders.load(Ordering::Relaxed)
    }

    /// Takes a sink on; returns its seat.
    pub(super) async fn board(&self, sink: Arc<dyn Sink>) -> Result<usize, BusError> {
        let (seat, taken) = oneshot::channel();
        self.send(Command::Board { sink, seat })?;
        let seat = answer(taken).await?;
        self.riders.fetch_add(1, Ordering::Relaxed);
        Ok(seat)
    }

    /// Lets a sink go.
    pub(super) fn leave(&self, seat: usize) {
        self.riders.fetch_sub(1, Ordering::Relaxed);
        // Where the task has ended, so has the ride.
        self.send(Command::Leave { seat }).unwrap_or(());
    }

    /// Subscribes to names as the router knows them; returns once the router has them.
    pub(super) async fn subscribe(&self, seat: usize, names: Vec<String>) -> Result<(), BusError> {
        let (done, is_done) = oneshot::channel();
        self.send(Command::Subscribe { seat, names, done })?;
        answer(is_done).await
    }

    /// Unsubscribes from names.
    pub(super) fn unsubscribe(&self, seat: usize, names: Vec<String>) {
        // Where the task has ended, so has the subscription.
        self.send(Command::Unsubscribe { seat, names }).unwrap_or(());
    }

    /// Drops `read` once all that was published before is read.
    pub(super) fn checkpoint(&self, read: mpsc::Sender<()>) {
        // Where the task has ended, there is nothing to wait for.
        self.send(Command::Checkpoint(read)).unwrap_or(());
    }

    fn send(&self, command: Command) -> Result<(), BusError> {
        self.commands.send(command).map_err(|_| BusError::RouterEnded)
    }
}

async fn answer<T>(given: oneshot::Receiver<T>) -> Result<T, BusError> {
    match tokio::time::timeout(ANSWER_TIME_MAX, given).await {
        Ok(answer) => answer.map_err(|_| BusError::RouterEnded),
        Err(_) => Err(BusError::Silent(ANSWER_TIME_MAX)),
    }
}

fn subscription(name: String, number: usize) -> Packet {
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

struct Drain {
    bus: Weak<Bus>,
    link_tx: LinkTx,
    link_rx: LinkRx,
    riders: Riders,
    /// What is subscribed to at the router.
    names: HashMap<String, Name>,
    /// By a name's number, the place of the last message that came by it.
    places: HashMap<usize, Option<u64>>,
    last_name: usize,
    pings_under_way: usize,
    is_leaving: bool,
    numbers: Vec<u64>,
    found: Vec<Numbered>,
    /// For each SUBACK that is due, the number of its name, and whom it tells.
    subscribing: VecDeque<(usize, Option<oneshot::Sender<()>>)>,
    /// Names that are new, and what they brought, until the older ones have caught up.
    fresh: HashSet<usize>,
    held: Vec<(usize, Numbered)>,
    proof: Proof,
}

impl Drop for Drain {
    /// However else the task ends, the hub has to know: nothing comes by this link any more.
    fn drop(&mut self) {
        if !self.is_leaving
            && let Some(bus) = self.bus.upgrade()
        {
            bus.has_lost_task.store(true, Ordering::Release);
        }
    }
}

/// A name that is subscribed to at the router.
struct Name {
    /// How often: filters may share a name, and sinks a filter.
    times: usize,
    /// The number that the router puts on every message that comes by it.
    number: usize,
}

impl Drain {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        loop {
            crate::fault::hang_task("trunk").await;
            let done = tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                notification = self.link_rx.next() => self.read(notification).await,
            };
            if done.is_err() {
                // The router is gone, or has cut this link off, and whoever watches the bus ends the hub.
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
        self.proof = Proof::default();
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
            Command::Board { sink, seat } => {
                // Where the asker has given up, the seat is free again.
                if let Err(given) = seat.send(self.riders.board(sink)) {
                    self.riders.leave(given);
                }
                Ok(())
            }
            Command::Leave { seat } => {
                let names = self.riders.leave(seat);
                self.unsubscribe(names).await
            }
            Command::Subscribe { seat, names, done } => {
                self.riders.add(seat, &names);
                self.subscribe(names, done).await
            }
            Command::Unsubscribe { seat, names } => {
                self.riders.remove(seat, &names);
                self.unsubscribe(names).await
            }
            Command::Checkpoint(passed) => {
                self.proof.add(Waiting::Checkpoint(passed));
                self.prove_next().await
            }
        }
    }

    async fn subscribe(&mut self, names: Vec<String>, done: oneshot::Sender<()>) -> Result<(), LinkError> {
        let mut packets = VecDeque::new();
        let rest = (!self.names.contains_key(REST)).then(|| REST.to_owned());
        for name in rest.into_iter().chain(names) {
            if let Some(known) = self.names.get_mut(&name) {
                known.times += 1;
                continue;
            }
            self.last_name += 1;
            // One packet for each, as a packet has one number.
            packets.push_back((self.last_name, subscription(name.clone(), self.last_name)));
            self.places.insert(self.last_name, None);
            self.fresh.insert(self.last_name);
            self.names.insert(name, Name { times: 1, number: self.last_name });
        }
        let Some((last_number, last)) = packets.pop_back() else {
            // The asker may have given up.
            done.send(()).unwrap_or(());
            return Ok(());
        };
        self.subscribing.extend(packets.iter().map(|(number, _)| (*number, None)));
        self.subscribing.push_back((last_number, Some(done)));
        self.link_tx.buffer().extend(packets.into_iter().map(|(_, packet)| packet));
        self.send(last).await
    }

    async fn unsubscribe(&mut self, names: Vec<String>) -> Result<(), LinkError> {
        let mut filters = Vec::new();
        for name in names {
            let Some(known) = self.names.get_mut(&name) else { continue };
            known.times -= 1;
            if known.times == 0 {
                let number = known.number;
                self.places.remove(&number);
                self.fresh.remove(&number);
                self.held.retain(|(name, _)| *name != number);
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
                    self.proof.disturb();
                    answers = 0;
                }
                Some(other) => match Option::<Packet>::from(other) {
                    Some(Packet::PingResp(_)) => {
                        answers += 1;
                        self.pings_under_way -= 1;
                    }
                    Some(Packet::SubAck(..)) => {
                        self.subscribed();
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
        self.prove_next().await?;
        self.answered(answers).await
    }

    /// Takes a SUBACK.
    fn subscribed(&mut self) {
        let Some((name, done)) = self.subscribing.pop_front() else { return };
        self.proof.add(Waiting::Name(name));
        if let Some(done) = done {
            // The asker may have given up.
            done.send(()).unwrap_or(());
        }
    }

    fn note(&mut self, forward: &Forward) {
        let Some(properties) = &forward.properties else { return };
        let name = properties.subscription_identifiers.last().copied().unwrap_or_default();
        let number = properties.correlation_data.as_deref();
        if let Some(Ok(number)) = number.map(<[u8; 8]>::try_from) {
            let number = u64::from_be_bytes(number);
            if self.fresh.contains(&name) { self.hold(name, number) } else { self.numbers.push(number) }
        }
        if let Some((_, place)) = forward.cursor {
            self.note_place(name, place);
        }
    }

    /// Keeps what a new name brought: the message itself, for the gate gives its room back before long.
    fn hold(&mut self, name: usize, number: u64) {
        let Some(bus) = self.bus.upgrade() else { return };
        let mut found = Vec::new();
        bus.gate.find(std::iter::once(number), &mut found);
        self.held.extend(found.into_iter().map(|message| (name, message)));
    }

    /// Hands over what new names brought, now that the older ones have caught up.
    fn settle(&mut self, name: usize) {
        if self.fresh.remove(&name) {
            let settled = self.held.extract_if(.., |(of, _)| *of == name).map(|(_, message)| message);
            self.found.extend(settled);
            self.riders.hand_over(&mut self.found);
        }
    }

    /// Notes where in the log of a name a message stood. The places of one name follow each other: where one is left out,
    /// the router has dropped a message before this link had read it.
    fn note_place(&mut self, name: usize, place: u64) {
        // A message may still be under way to a link that has unsubscribed from its name.
        let Some(last) = self.places.get_mut(&name) else { return };
        let expected = last.replace(place).map_or(place, |last| last + 1);
        let lost = place.saturating_sub(expected);
        if lost > 0
            && let Some(bus) = self.bus.upgrade()
        {
            bus.count_lost(lost);
        }
    }

    fn hand_over(&mut self) {
        if self.numbers.is_empty() {
            return;
        }
        let Some(bus) = self.bus.upgrade() else { return self.numbers.clear() };
        // The router brings them filter by filter.
        self.numbers.sort();
        bus.gate.find(self.numbers.drain(..), &mut self.found);
        self.riders.hand_over(&mut self.found);
    }

    /// Counts the PINGRESPs that came with no `Unschedule` behind them, and asks again until that proves what waits.
    async fn answered(&mut self, answers: u8) -> Result<(), LinkError> {
        if self.pings_under_way > 0 {
            return Ok(());
        }
        match self.proof.answer(answers) {
            Next::Rest => Ok(()),
            Next::Ask => self.ping().await,
            Next::Proven(proven) => {
                let mut passed = Vec::new();
                for waiting in proven {
                    match waiting {
                        Waiting::Name(name) => self.settle(name),
                        Waiting::Checkpoint(checkpoint) => passed.push(checkpoint),
                    }
                }
                // Passed only now: what was held is handed over, too.
                drop(passed);
                self.prove_next().await
            }
        }
    }

    /// Begins to prove what waits, unless a proof is under way.
    async fn prove_next(&mut self) -> Result<(), LinkError> {
        if self.proof.begin() { self.ping().await } else { Ok(()) }
    }

    async fn ping(&mut self) -> Result<(), LinkError> {
        self.pings_under_way += 1;
        self.send(Packet::PingReq(PingReq)).await
    }

    async fn send(&mut self, packet: Packet) -> Result<(), LinkError> {
        self.link_tx.send(packet).await.map(drop)
    }
}
