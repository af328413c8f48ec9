//! The load: publishers at QoS 1 with full windows and subscribers that take all they get, on one thread. It shares its
//! cores with the server it measures, so of a delivery it looks at the header and the packet id alone, and answers all
//! that one read brought in one write.
//!
//! Publishes, acks and deliveries are counted, so that what was lost is known to the last message. It never waits
//! without a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::outbox::Outbox;
use crate::packet::{DISCONNECT, PUBACK_LEN, Template, connect_packet, id_after};

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a server may leave publishers without any ack.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
/// Nothing has come for so long: all that was not lost is here.
const QUIET: Duration = Duration::from_millis(700);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What one read may bring, bytes.
const INBOX_BYTES: usize = 64 * 1024;
/// Reads of one socket before the next one gets its turn.
const READS_MAX: usize = 8;

/// Who publishes, and who listens.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Clients that publish.
    pub(crate) publishers: usize,
    /// Unacked publishes of each.
    pub(crate) in_flight: usize,
    /// Clients that subscribe.
    pub(crate) subscribers: usize,
    /// What they subscribe with: 0 or 1.
    pub(crate) qos: u8,
}

/// All clients, connected and subscribed.
pub(crate) struct Load {
    shape: Shape,
    poll: Poll,
    events: Events,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Sockets that have more to read than one turn allowed.
    unfinished: Vec<usize>,
    inbox: Vec<u8>,
    sending: bool,
    last_sign: Instant,
}

impl Load {
    /// Connects all clients to `addr`; subscribers first, so that nothing is published before they listen.
    pub(crate) fn connect(addr: SocketAddr, shape: Shape) -> Result<Self> {
        let poll = Poll::new()?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let mut subscribers = Vec::with_capacity(shape.subscribers);
        for number in 0..shape.subscribers {
            let mut stream = subscribe(addr, &format!("subscriber-{number}"), "fanout/#", shape.qos)?;
            poll.registry().register(&mut stream, Token(shape.publishers + number), both)?;
            subscribers.push(Subscriber { socket: Socket::new(stream), rest: Vec::new(), delivered: 0 });
        }
        let mut publishers = Vec::with_capacity(shape.publishers);
        for number in 0..shape.publishers {
            let stream = connect(addr, &format!("publisher-{number}"))?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), both)?;
            publishers.push(Publisher::new(Socket::new(stream), number));
        }
        Ok(Self {
            shape,
            poll,
            events: Events::with_capacity(256),
            publishers,
            subscribers,
            unfinished: Vec::new(),
            inbox: vec![0; INBOX_BYTES],
            sending: false,
            last_sign: Instant::now(),
        })
    }

    /// Returns how many publishes are acked.
    pub(crate) fn acked(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.acked).sum()
    }

    /// Returns how many messages have been delivered, to all subscribers together.
    pub(crate) fn delivered(&self) -> u64 {
        self.subscribers.iter().map(|subscriber| subscriber.delivered).sum()
    }

    /// Keeps every window full until `end`.
    pub(crate) fn pump(&mut self, end: Instant) -> Result<()> {
        if !self.sending {
            self.sending = true;
            self.last_sign = Instant::now();
            for publisher in &mut self.publishers {
                publisher.publish(self.shape.in_flight);
                publisher.socket.flush()?;
            }
        }
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// Publishes no more, and takes what still comes: the acks of all publishes, and messages until none comes for a
    /// while.
    pub(crate) fn drain(&mut self) -> Result<()> {
        self.sending = false;
        let end = Instant::now() + DRAIN_DEADLINE;
        self.last_sign = Instant::now();
        while self.publishers.iter().any(|publisher| publisher.in_flight > 0) || self.last_sign.elapsed() < QUIET {
            ensure!(Instant::now() < end, "messages still come {DRAIN_DEADLINE:?} after the last publish");
            self.turn()?;
        }
        Ok(())
    }

    /// Takes leave of the server.
    pub(crate) fn disconnect(self) -> Result<()> {
        let sockets = self.publishers.into_iter().map(|it| it.socket);
        for mut socket in sockets.chain(self.subscribers.into_iter().map(|it| it.socket)) {
            socket.stream.write_all(&DISCONNECT)?;
        }
        Ok(())
    }

    /// Waits for sockets, takes what they have, publishes as many as were acked and acks what was delivered.
    fn turn(&mut self) -> Result<()> {
        let patience = if self.unfinished.is_empty() { LOOK_AGAIN } else { Duration::ZERO };
        match self.poll.poll(&mut self.events, Some(patience)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error).context("poll"),
            _ => {}
        }
        let mut ready = std::mem::take(&mut self.unfinished);
        ready.extend(self.events.iter().map(|event| event.token().0));
        ready.sort_unstable();
        ready.dedup();
        let before = self.acked() + self.delivered();
        for number in ready {
            if self.serve(number).with_context(|| format!("client {number} of {}", self.shape.publishers))? {
                self.unfinished.push(number);
            }
        }
        if self.acked() + self.delivered() > before {
            self.last_sign = Instant::now();
        } else if self.last_sign.elapsed() > SILENCE_MAX {
            bail!("nothing came for {SILENCE_MAX:?}: {} acked, {} delivered", self.acked(), self.delivered());
        }
        Ok(())
    }

    /// Serves one socket; tells whether it has more to read.
    fn serve(&mut self, number: usize) -> Result<bool> {
        if let Some(index) = number.checked_sub(self.shape.publishers) {
            return self.subscribers[index].take(&mut self.inbox);
        }
        let publisher = &mut self.publishers[number];
        let acked = publisher.take_acks(&mut self.inbox)?;
        if self.sending {
            publisher.publish(acked);
        }
        publisher.socket.flush()?;
        Ok(false)
    }
}

/// Connects a client, blocking.
pub(crate) fn connect(addr: SocketAddr, id: &str) -> Result<std::net::TcpStream> {
    let mut stream = std::net::TcpStream::connect_timeout(&addr, CONNECT_DEADLINE)?;
    stream.set_read_timeout(Some(CONNECT_DEADLINE))?;
    stream.set_write_timeout(Some(CONNECT_DEADLINE))?;
    stream.set_nodelay(true)?;
    stream.write_all(&connect_packet(id))?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).with_context(|| format!("no CONNACK for {id}"))?;
    ensure!(connack == [0x20, 2, 0, 0], "{id} is refused: CONNACK {connack:02x?}");
    Ok(stream)
}

/// Connects a client and subscribes, blocking; the socket does not block any more then.
fn subscribe(addr: SocketAddr, id: &str, filter: &str, qos: u8) -> Result<TcpStream> {
    let stream = subscribe_blocking(addr, id, filter, qos)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// Connects a client and subscribes, blocking.
pub(crate) fn subscribe_blocking(addr: SocketAddr, id: &str, filter: &str, qos: u8) -> Result<std::net::TcpStream> {
    let mut stream = connect(addr, id)?;
    let length = filter.len() as u8;
    stream.write_all(&[&[0x82, length + 5, 0, 1, 0, length][..], filter.as_bytes(), &[qos]].concat())?;
    let mut suback = [0; 5];
    stream.read_exact(&mut suback).with_context(|| format!("no SUBACK for {id}"))?;
    ensure!(suback == [0x90, 3, 0, 1, qos], "{id} may not subscribe: SUBACK {suback:02x?}");
    Ok(stream)
}

/// A socket and what it would not take yet.
struct Socket {
    stream: TcpStream,
    outbox: Outbox,
}

impl Socket {
    fn new(stream: TcpStream) -> Self {
        Self { stream, outbox: Outbox::default() }
    }

    /// Writes as much of the outbox as the socket takes.
    fn flush(&mut self) -> Result<()> {
        self.outbox.flush(&mut self.stream)
    }

    /// Reads into `inbox`; 0 where there is nothing now.
    fn read(&mut self, inbox: &mut [u8]) -> Result<usize> {
        loop {
            match self.stream.read(inbox) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

struct Publisher {
    socket: Socket,
    template: Template,
    in_flight: usize,
    acked: u64,
    next_id: u16,
    count: u64,
    /// Bytes of a PUBACK whose end has not arrived.
    partial: usize,
}

impl Publisher {
    fn new(socket: Socket, number: usize) -> Self {
        let template = Template::new(&format!("fanout/{number}/reading"));
        Self { socket, template, in_flight: 0, acked: 0, next_id: 1, count: 0, partial: 0 }
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            self.template.append_to(&mut self.socket.outbox.bytes, self.next_id, self.count);
            self.next_id = id_after(self.next_id);
            self.count += 1;
        }
        self.in_flight += count;
    }

    /// Reads all there is; returns how many publishes it acked.
    fn take_acks(&mut self, inbox: &mut [u8]) -> Result<usize> {
        let mut acked = 0;
        loop {
            let read = self.socket.read(inbox)?;
            let firsts = inbox[..read].iter().skip((PUBACK_LEN - self.partial) % PUBACK_LEN).step_by(PUBACK_LEN);
            ensure!(firsts.copied().all(|first| first == 0x40), "a PUBACK was expected");
            let whole = self.partial + read;
            self.partial = whole % PUBACK_LEN;
            acked += whole / PUBACK_LEN;
            if read < inbox.len() {
                break;
            }
        }
        ensure!(acked <= self.in_flight, "more acks than publishes");
        self.in_flight -= acked;
        self.acked += acked as u64;
        Ok(acked)
    }
}

struct Subscriber {
    socket: Socket,
    /// The beginning of a packet whose end has not arrived.
    rest: Vec<u8>,
    delivered: u64,
}

impl Subscriber {
    /// Takes what there is, up to a bound, and acks it; tells whether there is more.
    fn take(&mut self, inbox: &mut [u8]) -> Result<bool> {
        let mut more = true;
        for _ in 0..READS_MAX {
            let held = self.rest.len();
            inbox[..held].copy_from_slice(&self.rest);
            let read = self.socket.read(&mut inbox[held..])?;
            let filled = held + read;
            let used = self.count(&inbox[..filled])?;
            self.rest.clear();
            self.rest.extend_from_slice(&inbox[used..filled]);
            more = filled == inbox.len();
            if !more {
                break;
            }
        }
        self.socket.flush()?;
        Ok(more)
    }

    /// Counts the deliveries in `bytes` and puts their acks into the outbox; returns how many bytes whole packets took.
    fn count(&mut self, bytes: &[u8]) -> Result<usize> {
        let mut at = 0;
        while let Some((header, length)) = header(&bytes[at..]) {
            let body = at + header;
            let Some(packet) = bytes.get(body..body + length) else { break };
            let qos = match bytes[at] {
                0x30 => 0,
                0x32 => 1,
                other => bail!("a PUBLISH was expected, not {other:#04x}"),
            };
            if qos == 1 {
                let id = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                self.socket.outbox.bytes.extend_from_slice(&[0x40, 2, packet[id], packet[id + 1]]);
            }
            self.delivered += 1;
            at = body + length;
        }
        Ok(at)
    }
}

/// Reads a fixed header: how long it is itself, and how long what follows.
fn header(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes {
        [_, length, ..] if length < 0x80 => Some((2, usize::from(length))),
        [_, low, high, ..] if high < 0x80 => Some((3, usize::from(low & 0x7F) | usize::from(high) << 7)),
        _ => None,
    }
}
