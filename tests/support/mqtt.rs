//! A small MQTT client, 3.1.1 and 5, that sends exactly the bytes a test asks for, right or wrong.
//!
//! Owns the packets of the end-to-end tests. It never retries, never answers a packet unless asked to, and shares no
//! code with the hub.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::SOON;
pub use super::packet::{Message, Packet, packet, publish, text};
use super::packet::{parse, variable_length};

/// What a client wants when it connects.
#[derive(Clone)]
pub struct Connect {
    pub id: String,
    /// 4 for MQTT 3.1.1, 5 for MQTT 5.
    pub version: u8,
    pub clean: bool,
    pub keep_alive_s: u16,
    /// MQTT 5: how long the session outlives the connection.
    pub expiry_s: Option<u32>,
    pub will: Option<(String, Vec<u8>, u8)>,
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Connect {
    pub fn new(version: u8, id: &str) -> Connect {
        let id = id.to_owned();
        Connect { id, version, clean: true, keep_alive_s: 60, expiry_s: None, will: None, user: None, password: None }
    }

    /// Asks for a session that outlives the connection, in the words of its version.
    pub fn persistent(mut self) -> Connect {
        self.clean = false;
        self.expiry_s = (self.version == 5).then_some(3600);
        self
    }

    pub fn keep_alive_s(mut self, seconds: u16) -> Connect {
        self.keep_alive_s = seconds;
        self
    }

    pub fn expiry_s(mut self, seconds: u32) -> Connect {
        self.expiry_s = Some(seconds);
        self
    }

    pub fn will(mut self, topic: &str, payload: &[u8], qos: u8) -> Connect {
        self.will = Some((topic.to_owned(), payload.to_owned(), qos));
        self
    }

    pub fn login(mut self, user: &str, password: &str) -> Connect {
        (self.user, self.password) = (Some(user.to_owned()), Some(password.to_owned()));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut body = text("MQTT");
        let mut flags = u8::from(self.clean) << 1;
        if let Some((_, _, qos)) = &self.will {
            flags |= 0x04 | qos << 3;
        }
        flags |= u8::from(self.user.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        body.extend([self.version, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == 5 {
            match self.expiry_s {
                Some(seconds) => {
                    body.extend([5, 0x11]);
                    body.extend(seconds.to_be_bytes());
                }
                None => body.push(0),
            }
        }
        body.extend(text(&self.id));
        if let Some((topic, payload, _)) = &self.will {
            if self.version == 5 {
                body.push(0);
            }
            body.extend(text(topic));
            body.extend((payload.len() as u16).to_be_bytes());
            body.extend(payload);
        }
        for field in [&self.user, &self.password].into_iter().flatten() {
            body.extend(text(field));
        }
        packet(0x10, &body)
    }

    /// Connects, and returns the code of the refusal, which must come.
    pub fn refused(&self, address: SocketAddr) -> u8 {
        let mut client = Client::raw(address, self.version).unwrap();
        client.send(&self.bytes()).unwrap();
        match client.read(SOON) {
            Ok(Packet::ConnAck { code, .. }) if code != 0 => code,
            other => panic!("{} should be refused, not answered {other:?}", self.id),
        }
    }

    pub fn try_open(&self, address: SocketAddr) -> io::Result<Client> {
        let mut client = Client::raw(address, self.version)?;
        client.send(&self.bytes())?;
        match client.read(SOON)? {
            Packet::ConnAck { session_present, code: 0 } => {
                client.session_present = session_present;
                Ok(client)
            }
            other => Err(io::Error::other(format!("{} was answered {other:?}", self.id))),
        }
    }

    pub fn open(&self, address: SocketAddr) -> Client {
        self.try_open(address).unwrap_or_else(|error| panic!("{} connects: {error}", self.id))
    }
}

/// Reads what has come into `unread`, once there is any before `deadline`.
pub fn read_more(stream: &mut TcpStream, unread: &mut Vec<u8>, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(ErrorKind::TimedOut.into());
    }
    stream.set_read_timeout(Some(left))?;
    let mut chunk = [0; 4096];
    match stream.read(&mut chunk) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(length) => {
            unread.extend(&chunk[..length]);
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::TimedOut.into()),
        Err(error) => Err(error),
    }
}

pub struct Client {
    stream: TcpStream,
    version: u8,
    unread: Vec<u8>,
    pending: VecDeque<Packet>,
    last_id: u16,
    pub session_present: bool,
}

impl Client {
    /// Opens the socket and says nothing.
    pub fn raw(address: SocketAddr, version: u8) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, SOON)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SOON))?;
        let (unread, pending) = (Vec::new(), VecDeque::new());
        Ok(Client { stream, version, unread, pending, last_id: 0, session_present: false })
    }

    pub fn version(&self) -> u8 {
        self.version
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: u8, id: u16, dup: bool) {
        let bytes = publish(self.version, topic.as_bytes(), payload, qos, id, dup);
        self.send(&bytes).unwrap();
    }

    /// Publishes and completes the handshake of `qos`.
    pub fn publish_through(&mut self, topic: &str, payload: &[u8], qos: u8) {
        let id = if qos == 0 { 0 } else { self.fresh_id() };
        self.publish(topic, payload, qos, id, false);
        match qos {
            0 => {}
            1 => self.expect_puback(id),
            _ => {
                self.expect_pubrec(id);
                self.pubrel(id);
            }
        }
    }

    pub fn fresh_id(&mut self) -> u16 {
        self.last_id = self.last_id % u16::MAX + 1;
        self.last_id
    }

    pub fn expect_puback(&mut self, id: u16) {
        match self.next_but_messages() {
            Packet::PubAck { id: acked, reason } if acked == id && reason < 0x80 => {}
            other => panic!("PUBACK {id} was expected, not {other:?}"),
        }
    }

    pub fn expect_pubrec(&mut self, id: u16) {
        match self.next_but_messages() {
            Packet::PubRec { id: acked, reason } if acked == id && reason < 0x80 => {}
            other => panic!("PUBREC {id} was expected, not {other:?}"),
        }
    }

    pub fn pubrel(&mut self, id: u16) {
        self.send(&[0x62, 2, (id >> 8) as u8, id as u8]).unwrap();
        assert_eq!(self.next_but_messages(), Packet::PubComp { id });
    }

    pub fn subscribe(&mut self, filter: &str, qos: u8) -> u8 {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        body.extend(text(filter));
        body.push(qos);
        self.send(&packet(0x82, &body)).unwrap();
        match self.next_but_messages() {
            Packet::SubAck { id: acked, codes } if acked == id && codes.len() == 1 => codes[0],
            other => panic!("SUBACK {id} was expected, not {other:?}"),
        }
    }

    pub fn unsubscribe(&mut self, filters: &[&str]) {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        if self.version == 5 {
            body.push(0);
        }
        body.extend(filters.iter().flat_map(|filter| text(filter)));
        self.send(&packet(0xA2, &body)).unwrap();
        assert_eq!(self.next_but_messages(), Packet::UnsubAck { id });
    }

    pub fn ping(&mut self) {
        self.send(&[0xC0, 0]).unwrap();
        assert_eq!(self.next_but_messages(), Packet::PingResp);
    }

    /// Says goodbye; the will is discarded.
    pub fn disconnect(mut self) {
        self.send(&[0xE0, 0]).unwrap();
        let _ = self.stream.shutdown(Shutdown::Write);
        self.expect_closed();
    }

    /// Ends the connection without a word.
    pub fn cut(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    pub fn end_sending(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Returns the next packet, deliveries kept for later.
    fn next_but_messages(&mut self) -> Packet {
        let mut kept = VecDeque::new();
        let found = loop {
            match self.read(SOON).expect("the broker answers") {
                message @ Packet::Publish(_) => kept.push_back(message),
                other => break other,
            }
        };
        kept.append(&mut self.pending);
        self.pending = kept;
        found
    }

    /// Returns the next delivery, its handshake done.
    pub fn receive(&mut self) -> Message {
        let message = self.receive_unacked();
        match message.qos {
            0 => {}
            1 => self.send(&[0x40, 2, (message.id >> 8) as u8, message.id as u8]).unwrap(),
            _ => {
                self.send(&[0x50, 2, (message.id >> 8) as u8, message.id as u8]).unwrap();
                assert_eq!(self.next_but_messages(), Packet::PubRel { id: message.id });
                self.send(&[0x70, 2, (message.id >> 8) as u8, message.id as u8]).unwrap();
            }
        }
        message
    }

    pub fn receive_unacked(&mut self) -> Message {
        match self.read(SOON) {
            Ok(Packet::Publish(message)) => message,
            other => panic!("a message was expected, not {other:?}"),
        }
    }

    /// Reads one packet; `TimedOut` when none comes within `within`, another error when the socket is closed.
    pub fn read(&mut self, within: Duration) -> io::Result<Packet> {
        if let Some(packet) = self.pending.pop_front() {
            return Ok(packet);
        }
        let (first, body) = self.read_raw(within)?;
        let packet = parse(self.version, first, &body);
        packet.ok_or_else(|| io::Error::other(format!("not a packet: {first:#x} {body:?}")))
    }

    /// Reads one packet as it is: its first byte, and its body.
    pub fn read_raw(&mut self, within: Duration) -> io::Result<(u8, Vec<u8>)> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(packet) = self.take_packet() {
                return Ok(packet);
            }
            read_more(&mut self.stream, &mut self.unread, deadline)?;
        }
    }

    /// Asserts that the broker sends nothing for `time`, and keeps the connection.
    pub fn assert_silent_for(&mut self, time: Duration) {
        match self.read(time) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => panic!("silence was expected, not {other:?}"),
        }
    }

    /// Waits for the broker to close the socket; returns the reason of its DISCONNECT, if it sent one.
    pub fn expect_closed(&mut self) -> Option<u8> {
        let mut reason = None;
        let deadline = Instant::now() + SOON;
        loop {
            match self.read(deadline.saturating_duration_since(Instant::now())) {
                Ok(Packet::Disconnect { reason: said }) => reason = Some(said),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    panic!("the broker should have closed the socket")
                }
                Err(_) => return reason,
            }
        }
    }

    fn take_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (length, start) = variable_length(self.unread.get(1..).unwrap_or(&[]))?;
        let (start, end) = (1 + start, 1 + start + length);
        if self.unread.len() < end {
            return None;
        }
        let mut raw: Vec<u8> = self.unread.drain(..end).collect();
        Some((raw[0], raw.split_off(start)))
    }
}
