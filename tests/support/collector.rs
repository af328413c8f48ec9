//! A collector at the upstream: subscribes, keeps its session, comes back by itself, writes down all that arrives.
//!
//! Owns the view from the other end of a bridge. It acknowledges what it has written down, and never drops a repeat from
//! its record; [`Collector::seen_once`] does, by the id that the hub gives, or by the payload where there is none.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mqtt::{Connect, read_more, text};
use super::packet::{packet, variable_length};
use super::v5::{Sent, Value};
use super::{SOON, wait_for};

impl Sent {
    /// Returns the first value of a user property.
    pub fn user_property(&self, name: &str) -> Option<&str> {
        self.user_properties(name).first().copied()
    }

    /// Returns all values of a user property, in their order.
    pub fn user_properties(&self, name: &str) -> Vec<&str> {
        let mut found = Vec::new();
        for (_, value) in &self.properties.0 {
            if let Value::Pair(key, value) = value
                && key == name
            {
                found.push(value.as_str());
            }
        }
        found
    }

    /// Returns the number in `stationhub-id`, `<station>:<number>`, of the hub that it came from last.
    pub fn number(&self) -> Option<u64> {
        self.user_properties("stationhub-id").last()?.rsplit_once(':')?.1.parse().ok()
    }

    /// Returns what is the same in each repeat: the id that the first hub gave, or topic and payload.
    fn identity(&self) -> Vec<u8> {
        match self.user_property("stationhub-id") {
            Some(id) => id.as_bytes().to_vec(),
            None => [self.topic.as_bytes(), b"\n", &self.payload].concat(),
        }
    }
}

#[derive(Default)]
struct Record {
    messages: Vec<Sent>,
    /// Whether a message has come before, for each of them.
    repeats: Vec<bool>,
    known: HashSet<Vec<u8>>,
    /// How often the upstream granted its subscription.
    subscriptions: u64,
}

struct Shared {
    record: Mutex<Record>,
    halt: AtomicBool,
}

pub struct Collector {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Collector {
    /// Starts a collector of MQTT `version`, and waits until it is subscribed to `filter`.
    pub fn start(address: SocketAddr, version: u8, filter: &str) -> Collector {
        let connect = Connect::new(version, &format!("collector-{version}")).persistent();
        Collector::start_as(connect, address, filter)
    }

    /// Starts a collector under a name, or login, of its own.
    pub fn start_as(connect: Connect, address: SocketAddr, filter: &str) -> Collector {
        let shared = Arc::new(Shared { record: Mutex::default(), halt: AtomicBool::new(false) });
        let work = Work { shared: Arc::clone(&shared), connect, address, filter: filter.to_owned() };
        let thread = Some(std::thread::spawn(move || work.run()));
        let collector = Collector { shared, thread };
        collector.wait_subscribed_since(0);
        collector
    }

    /// Returns how often the upstream has granted its subscription, once for each connection.
    pub fn subscriptions(&self) -> u64 {
        self.shared.record.lock().unwrap().subscriptions
    }

    /// Waits until the upstream has its subscription once more than `before`.
    pub fn wait_subscribed_since(&self, before: u64) {
        wait_for("the collector to be subscribed", SOON, || self.subscriptions() > before);
    }

    /// Returns all that arrived, repeats too, in their order.
    pub fn arrived(&self) -> Vec<Sent> {
        self.shared.record.lock().unwrap().messages.clone()
    }

    /// Returns what arrived, each message once, in the order of the first arrivals.
    pub fn seen_once(&self) -> Vec<Sent> {
        let record = self.shared.record.lock().unwrap();
        let first = record.messages.iter().zip(&record.repeats).filter(|(_, repeat)| !**repeat);
        first.map(|(message, _)| message.clone()).collect()
    }

    /// Returns how many different messages arrived.
    pub fn count(&self) -> usize {
        self.shared.record.lock().unwrap().known.len()
    }

    pub fn repeats(&self) -> usize {
        let record = self.shared.record.lock().unwrap();
        record.messages.len() - record.known.len()
    }

    /// Waits until `count` different messages have come.
    pub fn wait_count(&self, count: usize, within: Duration) {
        let came = super::holds_within(within, || self.count() >= count);
        assert!(came, "after {within:?}, {} of {count} messages have come", self.count());
    }

    /// Waits for the message with this payload and returns it.
    pub fn wait_payload(&self, payload: &[u8], within: Duration) -> Sent {
        let mut found = None;
        wait_for(&format!("{} upstream", String::from_utf8_lossy(payload)), within, || {
            let record = self.shared.record.lock().unwrap();
            found = record.messages.iter().find(|message| message.payload == payload).cloned();
            found.is_some()
        });
        found.unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.halt.store(true, SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the collector panicked");
        }
    }
}

/// Asserts that the numbers of the messages, each of which has one, only grow.
pub fn assert_in_order_by_id(messages: &[Sent]) {
    let numbers: Vec<u64> = messages.iter().map(|message| message.number().expect("an id")).collect();
    if let Some(place) = numbers.windows(2).position(|pair| pair[0] >= pair[1]) {
        let around = &numbers[place.saturating_sub(3)..numbers.len().min(place + 5)];
        panic!("out of order at message {place}: {around:?}");
    }
}

struct Work {
    shared: Arc<Shared>,
    connect: Connect,
    address: SocketAddr,
    filter: String,
}

impl Work {
    fn run(&self) {
        while !self.shared.halt.load(SeqCst) {
            if self.serve().is_err() {
                super::holds_within(Duration::from_millis(5), || self.shared.halt.load(SeqCst));
            }
        }
    }

    /// Connects, subscribes anew, and writes down what comes until the connection breaks.
    fn serve(&self) -> io::Result<()> {
        let mut stream = std::net::TcpStream::connect_timeout(&self.address, SOON)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SOON))?;
        stream.write_all(&self.connect.bytes())?;
        let properties: &[u8] = if self.connect.version == 5 { &[0] } else { &[] };
        // Retained messages keep their flag where the version can say so.
        let options = if self.connect.version == 5 { 1 | super::v5::RETAIN_AS_PUBLISHED } else { 1 };
        let subscribe = [&[0, 1], properties, &text(&self.filter), &[options]].concat();
        stream.write_all(&packet(0x82, &subscribe))?;
        let mut unread = Vec::new();
        let mut pinged = Instant::now();
        while !self.shared.halt.load(SeqCst) {
            match read_more(&mut stream, &mut unread, Instant::now() + Duration::from_millis(50)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {}
                Err(error) => return Err(error),
            }
            let acks = self.take(&mut unread)?;
            stream.write_all(&acks)?;
            if pinged.elapsed() > Duration::from_secs(15) {
                stream.write_all(&[0xC0, 0])?;
                pinged = Instant::now();
            }
        }
        Ok(())
    }

    /// Writes down the whole packets of `unread`, and returns the acks that are due.
    fn take(&self, unread: &mut Vec<u8>) -> io::Result<Vec<u8>> {
        let mut acks = Vec::new();
        let mut start = 0;
        let mut record = self.shared.record.lock().unwrap();
        while let Some((length, taken)) = variable_length(unread.get(start + 1..).unwrap_or(&[])) {
            let (body, end) = (start + 1 + taken, start + 1 + taken + length);
            if unread.len() < end {
                break;
            }
            let (first, body) = (unread[start], &unread[body..end]);
            match first >> 4 {
                2 if body[1] != 0 => return Err(io::Error::other("refused")),
                3 => {
                    let message = Sent::read(self.connect.version, first, body);
                    if message.qos == 1 {
                        acks.extend([0x40, 2, (message.id >> 8) as u8, message.id as u8]);
                    }
                    let repeat = !record.known.insert(message.identity());
                    record.repeats.push(repeat);
                    record.messages.push(message);
                }
                9 if *body.last().unwrap() <= 2 => record.subscriptions += 1,
                14 => return Err(io::Error::other("disconnected")),
                _ => {}
            }
            start = end;
        }
        unread.drain(..start);
        Ok(acks)
    }
}
