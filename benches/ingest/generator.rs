//! The load: many MQTT 3.1.1 clients on one thread, each keeping a fixed number of QoS 1 publishes in flight. It shares
//! its cores with the server it measures, so it does as little as it can: a packet is a template patched in place, all
//! packets due on a socket leave in one write, and of what comes back only PUBACKs are understood.
//!
//! Acks must come in the order of the publishes, as the standard demands (MQTT-4.6.0-2); any other byte is an error.
//! It never waits without a deadline.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, anyhow, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::histogram::Histogram;
use crate::outbox::Outbox;
use crate::packet::{DISCONNECT, PUBACK_LEN, Template, connect_packet, id_after};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may leave every client without any ack.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// The longest the loop sleeps before it looks at the clock.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Where the count starts: ten digits from the first reading to the last.
const FIRST_COUNT: u64 = 1_000_000_000;

/// How many clients, and how many publishes each keeps in flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Clients, 1 to 999.
    pub(crate) clients: usize,
    /// Unacked publishes per client, 1 to 999.
    pub(crate) in_flight: usize,
}

impl FromStr for Shape {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || anyhow!("{text}: want CLIENTSxINFLIGHT, each 1 to 999, for instance 10x20");
        let (clients, in_flight) = text.split_once(['x', '×']).ok_or_else(wrong)?;
        let number = |part: &str| part.trim().parse().ok().filter(|n| (1..1000).contains(n)).ok_or_else(wrong);
        Ok(Self { clients: number(clients)?, in_flight: number(in_flight)? })
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} × {}", self.clients, self.in_flight)
    }
}

/// When a pump stops.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// At this moment.
    Time(Instant),
    /// When so many publishes have been acked since the generator connected, which must be by that moment.
    Acked(u64, Instant),
}

/// All clients, connected.
pub(crate) struct Generator {
    shape: Shape,
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    numbers: Numbers,
    inbox: Vec<u8>,
    sending: bool,
    acked: u64,
    last_ack: Instant,
    /// From write to ack, of all acks since it was last cleared.
    pub(crate) latencies: Histogram,
}

impl Generator {
    /// Connects all clients to `addr`, one after another.
    pub(crate) fn connect(addr: SocketAddr, shape: Shape) -> Result<Self> {
        let poll = Poll::new()?;
        let mut clients = Vec::with_capacity(shape.clients);
        for number in 0..shape.clients {
            let mut client = Client::connect(addr, number, shape.in_flight)
                .with_context(|| format!("client {number} cannot connect to {addr}"))?;
            poll.registry().register(&mut client.stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
            clients.push(client);
        }
        Ok(Self {
            shape,
            poll,
            events: Events::with_capacity(256),
            clients,
            numbers: Numbers::new(),
            inbox: vec![0; 16 * 1024],
            sending: false,
            acked: 0,
            last_ack: Instant::now(),
            latencies: Histogram::new(),
        })
    }

    /// Returns how many publishes have been acked so far.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// Keeps every window full until `until`; windows stay as they are between two pumps.
    pub(crate) fn pump(&mut self, until: Until) -> Result<()> {
        if !self.sending {
            self.sending = true;
            self.last_ack = Instant::now();
            self.numbers.tell_time(&mut self.clients);
            for client in &mut self.clients {
                client.publish(self.shape.in_flight, Instant::now(), &mut self.numbers);
                client.flush()?;
            }
        }
        while !self.reached(until)? {
            self.turn()?;
        }
        Ok(())
    }

    /// Publishes no more, and waits until all that was published is acked.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.sending = false;
        let end = Instant::now() + DRAIN_DEADLINE;
        while self.in_flight() > 0 {
            ensure!(Instant::now() < end, "{} publishes still unacked after {DRAIN_DEADLINE:?}", self.in_flight());
            self.turn()?;
        }
        Ok(())
    }

    /// Takes leave of the server.
    pub(crate) fn disconnect(mut self) -> Result<()> {
        for client in &mut self.clients {
            client.stream.write_all(&DISCONNECT)?;
        }
        Ok(())
    }

    fn reached(&self, until: Until) -> Result<bool> {
        match until {
            Until::Time(end) => Ok(Instant::now() >= end),
            Until::Acked(count, end) => {
                ensure!(Instant::now() < end, "too slow: {} of {count} acked when the time was up", self.acked);
                Ok(self.acked >= count)
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.clients.iter().map(|client| client.sent_at.len()).sum()
    }

    /// Waits for sockets, takes their acks, and publishes as many again.
    fn turn(&mut self) -> Result<()> {
        match self.poll.poll(&mut self.events, Some(LOOK_AGAIN)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(error).context("poll");
            }
            _ => {}
        }
        self.numbers.tell_time(&mut self.clients);
        let before = self.acked;
        for event in &self.events {
            let number = event.token().0;
            let client = &mut self.clients[number];
            let lost = || format!("client {number}, after {} acks in all", self.acked);
            if event.is_readable() {
                let acked = client.take_acks(&mut self.inbox, &mut self.latencies).with_context(lost)?;
                if self.sending && acked > 0 {
                    client.publish(acked, Instant::now(), &mut self.numbers);
                }
                self.acked += acked as u64;
            }
            client.flush().with_context(|| format!("client {number} cannot write"))?;
        }
        if self.acked > before {
            self.last_ack = Instant::now();
        } else if self.last_ack.elapsed() > SILENCE_MAX {
            bail!("no PUBACK for {SILENCE_MAX:?}: {} acked, {} in flight", self.acked, self.in_flight());
        }
        Ok(())
    }
}

/// What makes each reading another one: a count over all clients, and the clock.
struct Numbers {
    count: u64,
    utc_s: u64,
}

impl Numbers {
    fn new() -> Self {
        Self { count: FIRST_COUNT, utc_s: 0 }
    }

    /// Writes the time into all templates if a new second has begun.
    fn tell_time(&mut self, clients: &mut [Client]) {
        let utc_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if utc_s != self.utc_s {
            self.utc_s = utc_s;
            for client in clients {
                client.template.tell_time(utc_s);
            }
        }
    }
}

/// One client: its socket, what is in flight, and what the socket would not take yet.
struct Client {
    stream: TcpStream,
    template: Template,
    outbox: Outbox,
    /// When each publish in flight was written, the oldest first.
    sent_at: VecDeque<Instant>,
    next_id: u16,
    next_acked_id: u16,
    /// The beginning of a PUBACK whose end has not arrived.
    partial: [u8; PUBACK_LEN],
    partial_len: usize,
}

impl Client {
    fn connect(addr: SocketAddr, number: usize, in_flight: usize) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect_timeout(&addr, CONNECT_DEADLINE)?;
        stream.set_read_timeout(Some(CONNECT_DEADLINE))?;
        stream.set_write_timeout(Some(CONNECT_DEADLINE))?;
        stream.set_nodelay(true)?;
        stream.write_all(&connect_packet(&format!("bench-{number}")))?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack).context("no CONNACK")?;
        ensure!(connack == [0x20, 2, 0, 0], "refused: CONNACK {connack:02x?}");
        stream.set_nonblocking(true)?;
        let template = Template::new(&format!("bench/{number}/weathermeters"));
        Ok(Self {
            stream: TcpStream::from_std(stream),
            outbox: Outbox::with_room(in_flight * template.len()),
            template,
            sent_at: VecDeque::with_capacity(in_flight),
            next_id: 1,
            next_acked_id: 1,
            partial: [0; PUBACK_LEN],
            partial_len: 0,
        })
    }

    /// Puts `count` new publishes into the outbox.
    fn publish(&mut self, count: usize, now: Instant, numbers: &mut Numbers) {
        for _ in 0..count {
            self.template.append_to(&mut self.outbox.bytes, self.next_id, numbers.count);
            numbers.count += 1;
            self.next_id = id_after(self.next_id);
            self.sent_at.push_back(now);
        }
    }

    /// Writes as much of the outbox as the socket takes.
    fn flush(&mut self) -> Result<()> {
        self.outbox.flush(&mut self.stream)
    }

    /// Reads all there is, and returns how many publishes it acked.
    fn take_acks(&mut self, inbox: &mut [u8], latencies: &mut Histogram) -> Result<usize> {
        let mut acked = 0;
        loop {
            let held = self.partial_len;
            inbox[..held].copy_from_slice(&self.partial[..held]);
            let filled = match self.stream.read(&mut inbox[held..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => held + read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(acked),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            let now = Instant::now();
            let acks = inbox[..filled].chunks_exact(PUBACK_LEN);
            let rest = acks.remainder();
            self.partial[..rest.len()].copy_from_slice(rest);
            self.partial_len = rest.len();
            for ack in acks {
                self.settle(ack, now, latencies)?;
                acked += 1;
            }
            // A short read has emptied the socket; its next bytes make an event of their own.
            if filled < inbox.len() {
                return Ok(acked);
            }
        }
    }

    fn settle(&mut self, ack: &[u8], now: Instant, latencies: &mut Histogram) -> Result<()> {
        let [high, low] = self.next_acked_id.to_be_bytes();
        ensure!(ack == [0x40, 2, high, low], "want PUBACK {}, got the bytes {ack:02x?}", self.next_acked_id);
        let sent_at = self.sent_at.pop_front().ok_or_else(|| anyhow!("PUBACK for nothing in flight: {ack:02x?}"))?;
        latencies.record(now.saturating_duration_since(sent_at));
        self.next_acked_id = id_after(self.next_acked_id);
        Ok(())
    }
}
