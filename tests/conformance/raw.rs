//! A socket that speaks MQTT byte by byte: what a test sends is what leaves, what it reads is a whole packet as it came.
//!
//! Owns the building of CONNECT and of property sections, and the taking apart of deliveries. It answers nothing by
//! itself.

use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::mqtt::read_more;
use crate::support::packet::{packet, text, variable_length};
use crate::support::{Hub, SOON};

/// A CONNECT, field by field.
#[derive(Clone)]
pub struct Connect {
    pub version: u8,
    pub flags: u8,
    pub keep_alive_s: u16,
    pub properties: Vec<u8>,
    /// What follows the properties: the client id and all that the flags promise.
    pub payload: Vec<u8>,
}

impl Connect {
    /// Starts clean, keep alive 60 s.
    pub fn new(version: u8, id: &str) -> Connect {
        Connect { version, flags: 0x02, keep_alive_s: 60, properties: Vec::new(), payload: text(id) }
    }

    /// Asks for a session that outlives the connection.
    pub fn kept(version: u8, id: &str) -> Connect {
        let properties = if version == 5 { vec![0x11, 0, 0, 1, 0] } else { Vec::new() };
        Connect { flags: 0, properties, ..Connect::new(version, id) }
    }

    pub fn flags(mut self, flags: u8) -> Connect {
        self.flags = flags;
        self
    }

    pub fn properties(mut self, properties: &[u8]) -> Connect {
        self.properties = properties.to_vec();
        self
    }

    /// Adds a will with these properties (before MQTT 5 there are none) and flags: QoS and retain.
    pub fn will(mut self, flags: u8, properties: &[u8], topic: &str, message: &str) -> Connect {
        self.flags |= 0x04 | flags;
        self.payload.extend(section(self.version, properties));
        self.payload.extend(text(topic));
        self.payload.extend(text(message));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let [high, low] = self.keep_alive_s.to_be_bytes();
        let head = [self.version, self.flags, high, low];
        packet(0x10, &[&text("MQTT"), &head[..], &section(self.version, &self.properties), &self.payload].concat())
    }

    /// Connects and returns the socket with its CONNACK, which must say yes.
    pub fn open(&self, hub: &Hub) -> (Raw, Vec<u8>) {
        let mut raw = Raw::new(hub, self.version);
        raw.send(&self.bytes());
        let connack = raw.next();
        assert!(connack[0] == 0x20 && connack[3] == 0, "CONNACK: {connack:02X?}");
        (raw, connack)
    }
}

/// Returns properties with their length before them, and nothing before MQTT 5.
pub fn section(version: u8, properties: &[u8]) -> Vec<u8> {
    if version == 5 { packet(0, properties)[1..].to_vec() } else { Vec::new() }
}

/// Returns a user property.
pub fn user_property(name: &str, value: &str) -> Vec<u8> {
    [&[0x26][..], &text(name), &text(value)].concat()
}

/// Returns a SUBSCRIBE of one filter.
pub fn subscribe(version: u8, id: u16, filter: &str, options: u8) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes()[..], &section(version, &[]), &text(filter), &[options]].concat())
}

/// Returns an UNSUBSCRIBE.
pub fn unsubscribe(version: u8, id: u16, filters: &[&str]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    packet(0xA2, &[&id.to_be_bytes()[..], &section(version, &[]), &filters].concat())
}

/// Returns a PUBLISH with the given first byte and properties; the id is left out at QoS 0.
pub fn publish(version: u8, first: u8, topic: &str, id: u16, properties: &[u8], payload: &[u8]) -> Vec<u8> {
    let id = if first & 0x06 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
    packet(first, &[&text(topic)[..], &id, &section(version, properties), payload].concat())
}

/// Takes a property section apart: identifiers and values, in their order.
pub fn properties(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [id, rest @ ..] = bytes {
        let text = |at: usize| 2 + (usize::from(rest[at]) << 8 | usize::from(rest[at + 1]));
        let length = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => 1,
            0x13 | 0x21..=0x23 => 2,
            0x02 | 0x11 | 0x18 | 0x27 => 4,
            0x0B => variable_length(rest).unwrap().1,
            0x26 => text(0) + text(text(0)),
            _ => text(0),
        };
        found.push((*id, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    found
}

/// Returns one property of a CONNACK of MQTT 5.
pub fn connack_property(connack: &[u8], wanted: u8) -> Option<Vec<u8>> {
    let (length, taken) = variable_length(&connack[4..]).unwrap();
    assert_eq!(connack.len(), 4 + taken + length, "{connack:02X?}");
    properties(&connack[4 + taken..]).into_iter().find(|(id, _)| *id == wanted).map(|(_, value)| value)
}

/// A PUBLISH of the hub's.
#[derive(Debug, PartialEq)]
pub struct Delivery {
    pub dup: bool,
    pub qos: u8,
    pub retain: bool,
    pub id: u16,
    pub topic: String,
    pub properties: Vec<(u8, Vec<u8>)>,
    pub payload: Vec<u8>,
}

impl Delivery {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }
}

/// One connection.
pub struct Raw {
    stream: TcpStream,
    version: u8,
    unread: Vec<u8>,
}

impl Raw {
    /// Opens the socket and says nothing.
    pub fn new(hub: &Hub, version: u8) -> Raw {
        let stream = TcpStream::connect_timeout(&hub.mqtt, SOON).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_write_timeout(Some(SOON)).unwrap();
        Raw { stream, version, unread: Vec::new() }
    }

    /// Connects with a clean session.
    pub fn connected(hub: &Hub, version: u8, id: &str) -> Raw {
        Connect::new(version, id).open(hub).0
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Subscribes to one filter and checks the SUBACK; returns its code.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.send(&subscribe(self.version, 0x7001, filter, options));
        let suback = self.next();
        assert_eq!(suback[..1], [0x90], "{suback:02X?}");
        suback[suback.len() - 1]
    }

    /// Publishes at QoS 0 and waits until the hub has taken it.
    pub fn tell(&mut self, first: u8, topic: &str, payload: &str) {
        self.send(&publish(self.version, first, topic, 0, &[], payload.as_bytes()));
        self.ping();
    }

    /// Publishes at QoS 1 and waits for the PUBACK.
    pub fn publish(&mut self, first: u8, topic: &str, id: u16, payload: &str) {
        self.send(&publish(self.version, first, topic, id, &[], payload.as_bytes()));
        self.expect(&[0x40, 2, (id >> 8) as u8, id as u8]);
    }

    /// Waits for the answer to a PINGREQ, which must be the next packet.
    pub fn ping(&mut self) {
        self.send(&[0xC0, 0]);
        self.expect(&[0xD0, 0]);
    }

    /// Returns the deliveries that come before the answer to a PINGREQ.
    pub fn ping_with_deliveries(&mut self) -> Vec<Delivery> {
        self.send(&[0xC0, 0]);
        let mut deliveries = Vec::new();
        loop {
            let packet = self.next();
            if packet == [0xD0, 0] {
                return deliveries;
            }
            deliveries.push(self.parse(&packet));
        }
    }

    /// Returns the next packet as it came.
    pub fn next(&mut self) -> Vec<u8> {
        match self.read(Instant::now() + SOON) {
            Ok(packet) => packet,
            Err(error) => panic!("a packet was expected, not {error}"),
        }
    }

    /// Returns the next packet, or `None` where the hub closes the connection instead.
    pub fn try_next(&mut self) -> Option<Vec<u8>> {
        match self.read(Instant::now() + SOON) {
            Err(error) if error.kind() == ErrorKind::TimedOut => panic!("neither a packet nor the end"),
            read => read.ok(),
        }
    }

    pub fn expect(&mut self, bytes: &[u8]) {
        let packet = self.next();
        assert_eq!(packet, bytes, "{packet:02X?} instead of {bytes:02X?}");
    }

    /// Returns the next packet, which must be a delivery, without answering it.
    pub fn delivery(&mut self) -> Delivery {
        let packet = self.next();
        self.parse(&packet)
    }

    fn parse(&self, packet: &[u8]) -> Delivery {
        assert_eq!(packet[0] >> 4, 3, "a PUBLISH was expected, not {packet:02X?}");
        let (_, taken) = variable_length(&packet[1..]).unwrap();
        let mut rest = &packet[1 + taken..];
        let mut cut = |length: usize| {
            let (head, tail) = rest.split_at(length);
            rest = tail;
            head.to_vec()
        };
        let number = |bytes: Vec<u8>| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
        let qos = packet[0] >> 1 & 3;
        let length = number(cut(2));
        let topic = String::from_utf8(cut(length)).unwrap();
        let id = if qos > 0 { number(cut(2)) as u16 } else { 0 };
        let (length, taken) = if self.version == 5 { variable_length(rest).unwrap() } else { (0, 0) };
        let (_, tail) = rest.split_at(taken);
        let (properties, payload) = tail.split_at(length);
        let (dup, retain) = (packet[0] & 8 != 0, packet[0] & 1 != 0);
        Delivery { dup, qos, retain, id, topic, properties: self::properties(properties), payload: payload.to_vec() }
    }

    /// Answers a QoS 1 delivery.
    pub fn ack(&mut self, delivery: &Delivery) {
        self.send(&[0x40, 2, (delivery.id >> 8) as u8, delivery.id as u8]);
    }

    /// Returns what comes before the hub closes the connection; it must close it.
    pub fn closed(&mut self) -> Vec<Vec<u8>> {
        let deadline = Instant::now() + SOON;
        let mut packets = Vec::new();
        loop {
            match self.read(deadline) {
                Ok(packet) => packets.push(packet),
                Err(error) if error.kind() == ErrorKind::TimedOut => panic!("the connection is still open"),
                Err(_) => return packets,
            }
        }
    }

    /// Returns the code that an MQTT 5 connection is ended with; before MQTT 5 it must end without a word.
    pub fn ended_with(&mut self) -> Option<u8> {
        let mut packets = self.closed();
        match (self.version, packets.pop()) {
            (5, Some(last)) if packets.is_empty() && last[0] == 0xE0 => Some(last.get(2).copied().unwrap_or(0)),
            (4, None) => None,
            (_, last) => panic!("{packets:02X?} {last:02X?}"),
        }
    }

    /// Asserts that nothing comes for a while.
    pub fn silent(&mut self) {
        match self.read(Instant::now() + Duration::from_millis(200)) {
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            other => panic!("silence was expected, not {other:02X?}"),
        }
    }

    fn read(&mut self, deadline: Instant) -> std::io::Result<Vec<u8>> {
        loop {
            if let Some((length, taken)) = variable_length(self.unread.get(1..).unwrap_or(&[])) {
                let whole = 1 + taken + length;
                if self.unread.len() >= whole {
                    return Ok(self.unread.drain(..whole).collect());
                }
            }
            read_more(&mut self.stream, &mut self.unread, deadline)?;
        }
    }
}
