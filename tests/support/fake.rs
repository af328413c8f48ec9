//! An upstream that does what no real server can be brought to do: says nothing, hangs up, refuses, answers wrongly.
//!
//! Owns the faults of the bridge's tests. A message counts as taken once its good ack is written, so that the record is
//! what a hub may rely on. It speaks MQTT 3.1.1 and 5, QoS 0 and 1 alone, and remembers no session.

use std::io::{self, ErrorKind, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::mqtt::read_more;
use super::packet::{packet, variable_length};
use super::upstream::free_listener;
use super::v5::Sent;

/// How the fake answers; it may change at any time, also within a connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mood {
    /// Takes everything.
    Well,
    /// Accepts the socket and never says a word.
    Mute,
    /// Hangs up once the CONNECT has come.
    HangUpAtConnect,
    /// Refuses the CONNECT with this code.
    Refuse(u8),
    /// Lets the client in and hangs up at its first PUBLISH.
    HangUpAtPublish,
    /// Acks nothing, and answers all else.
    NeverAck,
    /// Answers each PUBLISH with this reason, which only MQTT 5 can say.
    AckWith(u8),
    /// Acks in the reverse order of arrival.
    AckBackwards,
    /// Answers the first PUBLISH with a DISCONNECT of this reason.
    Disconnect(u8),
    /// Answers the CONNECT with bytes that are no packet.
    Garbage,
    /// Lets the client in, and answers the first PUBLISH with bytes that are no packet.
    GarbageAtPublish,
}

struct Shared {
    mood: Mutex<Mood>,
    halt: AtomicBool,
    taken: Mutex<Vec<Sent>>,
    accepted: AtomicU64,
    connects: AtomicU64,
    publishes: AtomicU64,
    /// How often all connections were cut.
    cuts: AtomicU64,
}

pub struct Fake {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    pub fn start(mood: Mood) -> Fake {
        let listener = free_listener();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            mood: Mutex::new(mood),
            halt: AtomicBool::new(false),
            taken: Mutex::default(),
            accepted: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            publishes: AtomicU64::new(0),
            cuts: AtomicU64::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let thread = Some(std::thread::spawn(move || for_thread.accept(&listener)));
        Fake { address, shared, thread }
    }

    pub fn url(&self) -> String {
        format!("mqtt://{}", self.address)
    }

    pub fn set(&self, mood: Mood) {
        *self.shared.mood.lock().unwrap() = mood;
    }

    /// Changes its mood, and hangs up on whoever is there.
    pub fn turn(&self, mood: Mood) {
        self.set(mood);
        self.shared.cuts.fetch_add(1, SeqCst);
    }

    /// Returns the messages that it acked well, in the order of their arrival.
    pub fn taken(&self) -> Vec<Sent> {
        self.shared.taken.lock().unwrap().clone()
    }

    pub fn taken_count(&self) -> usize {
        self.shared.taken.lock().unwrap().len()
    }

    /// Returns how many sockets it accepted.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(SeqCst)
    }

    /// Returns how many CONNECTs have come.
    pub fn connects(&self) -> u64 {
        self.shared.connects.load(SeqCst)
    }

    /// Returns how many PUBLISHes have come, acked or not.
    pub fn publishes(&self) -> u64 {
        self.shared.publishes.load(SeqCst)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.shared.halt.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

impl Shared {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn accept(self: &Arc<Shared>, listener: &TcpListener) {
        while !self.halt.load(SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    self.accepted.fetch_add(1, SeqCst);
                    let shared = Arc::clone(self);
                    std::thread::spawn(move || Visit { shared, stream, version: 4, late: Vec::new() }.run());
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// One connection.
struct Visit {
    shared: Arc<Shared>,
    stream: TcpStream,
    version: u8,
    /// Publishes whose acks are to go out backwards.
    late: Vec<Sent>,
}

impl Visit {
    fn run(mut self) {
        self.stream.set_nonblocking(false).ok();
        self.stream.set_nodelay(true).ok();
        let ended = self.converse();
        debug_assert!(ended.is_err());
        self.stream.shutdown(Shutdown::Both).ok();
    }

    /// Answers until one side hangs up, which is an error.
    fn converse(&mut self) -> io::Result<()> {
        let mut unread = Vec::new();
        let cuts = self.shared.cuts.load(SeqCst);
        loop {
            if self.shared.halt.load(SeqCst) || self.shared.cuts.load(SeqCst) > cuts {
                return Err(io::Error::other("cut"));
            }
            match read_more(&mut self.stream, &mut unread, Instant::now() + Duration::from_millis(20)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => self.ack_backwards()?,
                Err(error) => return Err(error),
            }
            let mut start = 0;
            while let Some((length, taken)) = variable_length(unread.get(start + 1..).unwrap_or(&[])) {
                let (body, end) = (start + 1 + taken, start + 1 + taken + length);
                if unread.len() < end {
                    break;
                }
                let (first, body) = (unread[start], unread[body..end].to_vec());
                self.answer(first, &body)?;
                start = end;
            }
            unread.drain(..start);
        }
    }

    fn answer(&mut self, first: u8, body: &[u8]) -> io::Result<()> {
        let mood = self.shared.mood();
        if mood == Mood::Mute {
            return Ok(());
        }
        if first >> 4 == 1 {
            self.version = body[6];
        }
        let properties: &[u8] = if self.version == 5 { &[0] } else { &[] };
        match first >> 4 {
            1 => {
                self.shared.connects.fetch_add(1, SeqCst);
                let code = match mood {
                    Mood::HangUpAtConnect => return Err(io::Error::other("hangs up")),
                    Mood::Garbage => return self.stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
                    Mood::Refuse(code) => code,
                    _ => 0,
                };
                self.stream.write_all(&packet(0x20, &[&[0, code], properties].concat()))?;
                if code == 0 { Ok(()) } else { Err(io::Error::other("refused")) }
            }
            3 => {
                self.shared.publishes.fetch_add(1, SeqCst);
                self.published(mood, Sent::read(self.version, first, body))
            }
            8 => {
                let filters = subscribed(&body[2 + properties.len()..]);
                self.stream.write_all(&packet(0x90, &[&body[..2], properties, &vec![1; filters]].concat()))
            }
            10 => self.stream.write_all(&packet(0xB0, &[&body[..2], properties].concat())),
            12 => self.stream.write_all(&[0xD0, 0]),
            14 => Err(io::Error::other("the client left")),
            _ => Ok(()),
        }
    }

    fn published(&mut self, mood: Mood, message: Sent) -> io::Result<()> {
        match mood {
            Mood::HangUpAtPublish => Err(io::Error::other("hangs up")),
            Mood::NeverAck => Ok(()),
            Mood::AckWith(reason) => self.ack(message.id, reason),
            Mood::AckBackwards => {
                self.late.push(message);
                Ok(())
            }
            Mood::Disconnect(reason) => {
                self.stream.write_all(&packet(0xE0, &[reason, 0]))?;
                Err(io::Error::other("disconnected"))
            }
            Mood::GarbageAtPublish => self.stream.write_all(&[0xFF; 64]),
            _ => self.take(message),
        }
    }

    fn take(&mut self, message: Sent) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let mut taken = shared.taken.lock().unwrap();
        if message.qos > 0 {
            self.ack(message.id, 0)?;
        }
        taken.push(message);
        Ok(())
    }

    fn ack(&mut self, id: u16, reason: u8) -> io::Result<()> {
        let [high, low] = id.to_be_bytes();
        let body: &[u8] = if reason == 0 { &[high, low] } else { &[high, low, reason] };
        self.stream.write_all(&packet(0x40, body))
    }

    /// Acks what waits, the latest first, and records it in the order of its arrival.
    fn ack_backwards(&mut self) -> io::Result<()> {
        let late = std::mem::take(&mut self.late);
        let shared = Arc::clone(&self.shared);
        let mut taken = shared.taken.lock().unwrap();
        for message in late.iter().rev() {
            self.ack(message.id, 0)?;
        }
        taken.extend(late);
        Ok(())
    }
}

/// Returns how many filters a SUBSCRIBE's payload holds.
fn subscribed(mut rest: &[u8]) -> usize {
    let mut count = 0;
    while rest.len() > 2 {
        rest = rest.get(3 + usize::from(u16::from_be_bytes([rest[0], rest[1]]))..).unwrap_or(&[]);
        count += 1;
    }
    count
}
