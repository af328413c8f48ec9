//! MQTT 5 to the last property: CONNECTs with properties, and packets from the broker with theirs.
//!
//! Owns what `mqtt` leaves out. It builds for MQTT 3.1.1 too, without properties, so that a test can go through both.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::SOON;
use super::mqtt::Client;
use super::packet::{packet, text, variable_length};

pub const MESSAGE_EXPIRY: u8 = 0x02;
pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
pub const SESSION_EXPIRY: u8 = 0x11;
pub const ASSIGNED_CLIENT_ID: u8 = 0x12;
pub const SERVER_KEEP_ALIVE: u8 = 0x13;
pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
pub const WILL_DELAY: u8 = 0x18;
pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
pub const RESPONSE_INFORMATION: u8 = 0x1A;
pub const REASON_STRING: u8 = 0x1F;
pub const RECEIVE_MAXIMUM: u8 = 0x21;
pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub const TOPIC_ALIAS: u8 = 0x23;
pub const MAXIMUM_QOS: u8 = 0x24;
pub const RETAIN_AVAILABLE: u8 = 0x25;
pub const USER_PROPERTY: u8 = 0x26;
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
pub const WILDCARD_AVAILABLE: u8 = 0x28;
pub const SUBSCRIPTION_IDS_AVAILABLE: u8 = 0x29;
pub const SHARED_AVAILABLE: u8 = 0x2A;

/// Options of a subscription, beside its QoS.
pub const NO_LOCAL: u8 = 0x04;
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
pub const RETAIN_IF_NEW: u8 = 0x10;
pub const RETAIN_NEVER: u8 = 0x20;

/// Properties in the order sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Properties(pub Vec<(u8, Value)>);

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u32),
    Text(String),
    Pair(String, String),
}

impl Properties {
    pub fn number(mut self, id: u8, value: u32) -> Properties {
        self.0.push((id, Value::Number(value)));
        self
    }

    pub fn text(mut self, id: u8, value: &str) -> Properties {
        self.0.push((id, Value::Text(value.to_owned())));
        self
    }

    pub fn pair(mut self, name: &str, value: &str) -> Properties {
        self.0.push((USER_PROPERTY, Value::Pair(name.to_owned(), value.to_owned())));
        self
    }

    /// Returns the numbers under `id`, in their order.
    pub fn numbers(&self, id: u8) -> Vec<u32> {
        let number = |(found, value): &(u8, Value)| match value {
            Value::Number(number) if *found == id => Some(*number),
            _ => None,
        };
        self.0.iter().filter_map(number).collect()
    }

    pub fn has(&self, id: u8) -> bool {
        self.0.iter().any(|(found, _)| *found == id)
    }

    /// Returns the section with its length before it, as MQTT 5 has it; nothing before.
    fn bytes(&self, version: u8) -> Vec<u8> {
        if version < 5 {
            return Vec::new();
        }
        let mut section = Vec::new();
        for (id, value) in &self.0 {
            section.push(*id);
            match (value, width(*id)) {
                (Value::Number(number), Some(0)) => section.extend(variable(*number)),
                (Value::Number(number), Some(bytes)) => section.extend(&number.to_be_bytes()[4 - bytes..]),
                (Value::Text(string), _) => section.extend(text(string)),
                (Value::Pair(name, value), _) => section.extend([text(name), text(value)].concat()),
                (Value::Number(_), None) => panic!("property {id:#x} is no number"),
            }
        }
        [variable(section.len() as u32), section].concat()
    }

    /// Takes a section off the front.
    fn take(rest: &mut &[u8]) -> Properties {
        let (length, taken) = variable_length(rest).unwrap();
        let mut section = &rest[taken..taken + length];
        *rest = &rest[taken + length..];
        let mut found = Vec::new();
        while let Some((id, _)) = section.split_first() {
            section = &section[1..];
            let value = match width(*id) {
                Some(0) => {
                    let (number, taken) = variable_length(section).unwrap();
                    section = &section[taken..];
                    Value::Number(number as u32)
                }
                Some(bytes) => {
                    let (number, behind) = section.split_at(bytes);
                    section = behind;
                    Value::Number(number.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
                }
                None if *id == USER_PROPERTY => Value::Pair(string(&mut section), string(&mut section)),
                None => Value::Text(string(&mut section)),
            };
            found.push((*id, value));
        }
        Properties(found)
    }
}

/// Returns the bytes that a property's number takes: 0 for a variable byte integer, `None` for a text.
fn width(id: u8) -> Option<usize> {
    match id {
        SUBSCRIPTION_IDENTIFIER => Some(0),
        0x01 | REQUEST_PROBLEM_INFORMATION | REQUEST_RESPONSE_INFORMATION | MAXIMUM_QOS | RETAIN_AVAILABLE => Some(1),
        WILDCARD_AVAILABLE | SUBSCRIPTION_IDS_AVAILABLE | SHARED_AVAILABLE => Some(1),
        SERVER_KEEP_ALIVE | RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => Some(2),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET_SIZE => Some(4),
        _ => None,
    }
}

fn variable(number: u32) -> Vec<u8> {
    let mut bytes = packet(0, &vec![0; number as usize]);
    bytes.truncate(bytes.len() - number as usize);
    bytes.split_off(1)
}

fn string(rest: &mut &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
    let (string, behind) = rest[2..].split_at(length);
    *rest = behind;
    String::from_utf8(string.to_vec()).unwrap()
}

/// A CONNECT with all that it may say.
#[derive(Clone)]
pub struct Hello {
    pub version: u8,
    pub id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub properties: Properties,
    pub will: Option<Sent>,
}

impl Hello {
    pub fn new(version: u8, id: &str) -> Hello {
        Hello {
            version,
            id: id.to_owned(),
            clean: true,
            keep_alive_s: 60,
            properties: Properties::default(),
            will: None,
        }
    }

    pub fn with(mut self, id: u8, value: u32) -> Hello {
        self.properties = self.properties.number(id, value);
        self
    }

    /// Asks for a session that outlives the connection, in the words of its version.
    pub fn kept(mut self) -> Hello {
        self.clean = false;
        self.with(SESSION_EXPIRY, 3600)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        let mut body = [&text("MQTT")[..], &[self.version, flags], &self.keep_alive_s.to_be_bytes()].concat();
        body.extend(self.properties.bytes(self.version));
        body.extend(text(&self.id));
        if let Some(will) = &self.will {
            body.extend(will.properties.bytes(self.version));
            body.extend(text(&will.topic));
            body.extend((will.payload.len() as u16).to_be_bytes());
            body.extend(&will.payload);
        }
        packet(0x10, &body)
    }

    /// Connects and returns the broker's terms; panics where it is refused.
    pub fn open(&self, address: SocketAddr) -> (Client, Properties) {
        let (mut client, code, properties) = self.knock(address);
        assert_eq!(code, 0, "{} is let in", self.id);
        client.session_present = client.session_present && code == 0;
        (client, properties)
    }

    /// Sends the CONNECT and returns the answer's code and properties.
    pub fn knock(&self, address: SocketAddr) -> (Client, u8, Properties) {
        let mut client = Client::raw(address, self.version).unwrap();
        client.send(&self.bytes()).unwrap();
        let (first, body) = client.read_raw(SOON).expect("an answer to CONNECT");
        assert_eq!(first, 0x20);
        client.session_present = body[0] & 1 == 1;
        let mut rest = &body[2..];
        let properties = if self.version == 5 { Properties::take(&mut rest) } else { Properties::default() };
        assert!(rest.is_empty());
        (client, body[1], properties)
    }
}

/// A message, as sent or as delivered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sent {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub id: u16,
    pub properties: Properties,
}

impl Sent {
    pub fn new(topic: &str, payload: &[u8], qos: u8) -> Sent {
        let id = u16::from(qos > 0);
        Sent { topic: topic.to_owned(), payload: payload.to_owned(), qos, id, ..Sent::default() }
    }

    pub fn retained(mut self) -> Sent {
        self.retain = true;
        self
    }

    pub fn id(mut self, id: u16) -> Sent {
        self.id = id;
        self
    }

    pub fn with(mut self, id: u8, value: u32) -> Sent {
        self.properties = self.properties.number(id, value);
        self
    }

    pub fn bytes(&self, version: u8) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let id = self.id.to_be_bytes();
        let id = if self.qos > 0 { &id[..] } else { &[] };
        packet(first, &[&text(&self.topic)[..], id, &self.properties.bytes(version), &self.payload].concat())
    }

    /// Reads a PUBLISH.
    pub fn read(version: u8, first: u8, mut rest: &[u8]) -> Sent {
        let topic = string(&mut rest);
        let qos = first >> 1 & 3;
        let mut id = 0;
        if qos > 0 {
            id = u16::from_be_bytes([rest[0], rest[1]]);
            rest = &rest[2..];
        }
        let properties = if version == 5 { Properties::take(&mut rest) } else { Properties::default() };
        let (retain, dup) = (first & 1 == 1, first & 8 == 8);
        Sent { topic, payload: rest.to_vec(), qos, retain, dup, id, properties }
    }
}

impl Client {
    /// Sends a message and does the handshake of its QoS.
    pub fn deliver(&mut self, message: &Sent) {
        self.send(&message.bytes(self.version())).unwrap();
        match message.qos {
            0 => {}
            1 => self.expect_puback(message.id),
            _ => {
                self.expect_pubrec(message.id);
                self.pubrel(message.id);
            }
        }
    }

    /// Returns the next packet, which must be a message; it is not acknowledged.
    pub fn delivery(&mut self) -> Sent {
        let (first, body) = self.read_raw(SOON).expect("a message");
        assert_eq!(first >> 4, 3, "a message was expected, not {first:#x} {body:?}");
        Sent::read(self.version(), first, &body)
    }

    /// Returns the next message, acknowledged.
    pub fn delivery_acked(&mut self) -> Sent {
        let message = self.delivery();
        match message.qos {
            0 => {}
            1 => self.ack(0x40, message.id),
            _ => {
                self.ack(0x50, message.id);
                self.expect_ack(0x62, message.id);
                self.ack(0x70, message.id);
            }
        }
        message
    }

    pub fn ack(&mut self, first: u8, id: u16) {
        self.send(&packet(first, &id.to_be_bytes())).unwrap();
    }

    /// Asserts that the next packet is this acknowledgement, without a reason.
    pub fn expect_ack(&mut self, first: u8, id: u16) {
        self.expect_raw(first, &id.to_be_bytes());
    }

    pub fn expect_raw(&mut self, first: u8, body: &[u8]) {
        let (found_first, found) = self.read_raw(SOON).expect("a packet");
        assert_eq!((found_first, &found[..]), (first, body), "{found_first:#x} {found:?}");
    }

    /// Subscribes with options and properties; returns the codes and the answer's properties.
    pub fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &Properties) -> (Vec<u8>, Properties) {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        body.extend(properties.bytes(self.version()));
        for (filter, options) in filters {
            body.extend(text(filter));
            body.push(*options);
        }
        self.send(&packet(0x82, &body)).unwrap();
        self.answer(0x90, id)
    }

    /// Unsubscribes; returns the codes, of which there are none before MQTT 5.
    pub fn unsubscribe_with(&mut self, filters: &[&str]) -> Vec<u8> {
        let id = self.fresh_id();
        let mut body = id.to_be_bytes().to_vec();
        body.extend(Properties::default().bytes(self.version()));
        body.extend(filters.iter().flat_map(|filter| text(filter)));
        self.send(&packet(0xA2, &body)).unwrap();
        self.answer(0xB0, id).0
    }

    fn answer(&mut self, expected: u8, id: u16) -> (Vec<u8>, Properties) {
        let (first, body) = self.read_raw(SOON).expect("an answer");
        assert_eq!((first, &body[..2]), (expected, &id.to_be_bytes()[..]), "{body:?}");
        let mut rest = &body[2..];
        let properties = if self.version() == 5 { Properties::take(&mut rest) } else { Properties::default() };
        (rest.to_vec(), properties)
    }

    /// Waits for the broker to end the connection; returns the last packet before it, first byte and body.
    pub fn last_words(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut last = None;
        loop {
            match self.read_raw(SOON) {
                Ok(packet) => last = Some(packet),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => panic!("the broker should have closed"),
                Err(_) => return last,
            }
        }
    }

    /// Asserts that a DISCONNECT with this code, and whatever properties, is the end.
    pub fn expect_disconnect(&mut self, code: u8) {
        let (first, body) = self.last_words().expect("last words");
        assert_eq!((first, body.first()), (0xE0, Some(&code)), "{body:02x?}");
    }

    /// Asserts that all that was sent before was handled, and nothing is delivered.
    pub fn assert_nothing_waits(&mut self) {
        self.send(&[0xC0, 0]).unwrap();
        self.expect_raw(0xD0, &[]);
        self.assert_silent_for(Duration::from_millis(150));
    }
}
