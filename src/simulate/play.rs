//! What the simulation has sampled, handed to the client, sent and had acknowledged: bookkeeping without I/O.
//!
//! Owns the window of messages under way, and which of them go again after a lost connection.

use std::collections::VecDeque;

use rumqttc::{Event, Outgoing, Packet, QoS};

use super::station::Station;
use super::{Options, quality};

/// Most messages under way: handed to the client, or sent and not acknowledged.
pub(super) const WINDOW: usize = 64;

/// One reading on its way.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    topic: String,
    payload: String,
    is_counted: bool,
}

impl Message {
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    pub(super) fn payload(&self) -> &str {
        &self.payload
    }
}

/// A message that waits for its acknowledgement.
#[derive(Debug)]
struct Sent {
    packet_id: u16,
    message: Message,
    /// Whether the broker has it at QoS 2, so that it need not go again.
    is_received: bool,
}

/// The state of a simulation.
#[derive(Debug)]
pub(super) struct Play {
    station: Station,
    prefix: String,
    qos: QoS,
    samples_left: Option<u64>,
    waiting: VecDeque<Message>,
    handed: VecDeque<Message>,
    unacked: VecDeque<Sent>,
    sent: u64,
    acked: u64,
}

impl Play {
    pub(super) fn new(options: &Options) -> Play {
        let interval_ms = u64::try_from(options.interval.as_millis()).unwrap_or(u64::MAX);
        Play {
            station: Station::new(options.seed, interval_ms),
            prefix: options.topic.0.clone(),
            qos: quality(options.qos),
            samples_left: options.count,
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            unacked: VecDeque::new(),
            sent: 0,
            acked: 0,
        }
    }

    /// Tells whether another sample is due and has room to wait.
    pub(super) fn wants_sample(&self) -> bool {
        self.samples_left != Some(0) && self.waiting.len() < WINDOW
    }

    /// Takes a sample: two messages.
    pub(super) fn sample(&mut self, now_ms: i64) {
        let (weather, magnetic) = self.station.next(now_ms);
        for (sensor, payload) in [("weathermeters", weather), ("magneticfluxsensor", magnetic)] {
            let topic = format!("{}/{sensor}/", self.prefix);
            self.waiting.push_back(Message { topic, payload, is_counted: false });
        }
        self.samples_left = self.samples_left.map(|left| left.saturating_sub(1));
    }

    /// Hands waiting messages to `publish` while the window has room and it takes them.
    pub(super) fn hand_over(&mut self, mut publish: impl FnMut(&Message, QoS) -> bool) {
        while self.handed.len() + self.unacked.len() < WINDOW {
            let Some(message) = self.waiting.pop_front() else {
                return;
            };
            if !publish(&message, self.qos) {
                self.waiting.push_front(message);
                return;
            }
            self.handed.push_back(message);
        }
    }

    /// Takes note of what the client sent or received.
    pub(super) fn note(&mut self, event: &Event) {
        match event {
            Event::Outgoing(Outgoing::Publish(packet_id)) => self.note_sent(*packet_id),
            Event::Incoming(Packet::PubAck(ack)) => self.note_acked(ack.pkid),
            Event::Incoming(Packet::PubComp(ack)) => self.note_acked(ack.pkid),
            Event::Incoming(Packet::PubRec(ack)) => {
                for sent in self.unacked.iter_mut().filter(|sent| sent.packet_id == ack.pkid) {
                    sent.is_received = true;
                }
            }
            _ => {}
        }
    }

    /// Begins a new connection: what the broker has not acknowledged goes again, first and in its order.
    pub(super) fn connected(&mut self) {
        let (received, again): (Vec<Sent>, Vec<Sent>) = self.unacked.drain(..).partition(|sent| sent.is_received);
        self.acked += received.len() as u64;
        let mut waiting: VecDeque<Message> = again.into_iter().map(|sent| sent.message).collect();
        waiting.append(&mut self.handed);
        waiting.append(&mut self.waiting);
        self.waiting = waiting;
    }

    /// Tells whether everything was sampled, sent, and acknowledged where it is to be.
    pub(super) fn is_done(&self) -> bool {
        let is_empty = self.waiting.is_empty() && self.handed.is_empty() && self.unacked.is_empty();
        self.samples_left == Some(0) && is_empty
    }

    /// Returns the progress in words.
    pub(super) fn progress(&self) -> String {
        match self.qos {
            QoS::AtMostOnce => format!("{} readings sent", self.sent),
            _ => format!("{} readings sent, {} acknowledged", self.sent, self.acked),
        }
    }

    fn note_sent(&mut self, packet_id: u16) {
        let Some(mut message) = self.handed.pop_front() else {
            return;
        };
        self.sent += u64::from(!message.is_counted);
        message.is_counted = true;
        if packet_id != 0 {
            self.unacked.push_back(Sent { packet_id, message, is_received: false });
        }
    }

    fn note_acked(&mut self, packet_id: u16) {
        let before = self.unacked.len();
        self.unacked.retain(|sent| sent.packet_id != packet_id);
        self.acked += (before - self.unacked.len()) as u64;
    }
}
