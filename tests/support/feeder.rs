//! A quick publisher: many messages at QoS 1 over one connection, and how long each took to be acked.
//!
//! Owns the load of the bridge's tests that no fault stands in the way of. `sensor` has stations that reconnect.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::SOON;
use super::mqtt::{Connect, Packet, publish};
use super::sensor::{weather, weather_topic};

/// How many publishes wait for their acks at a time.
const IN_FLIGHT: usize = 500;

/// Publishes readings of a station with these numbers and waits for all acks; returns how long each took.
pub fn readings(hub: SocketAddr, station: u64, numbers: Range<u64>) -> Vec<Duration> {
    let topic = weather_topic(station);
    feed(hub, &topic, IN_FLIGHT, numbers.map(|number| weather(station, number)))
}

/// Publishes texts of `length` bytes that begin with their number, on a topic that carries no reading.
pub fn notes(hub: SocketAddr, topic: &str, numbers: Range<u64>, length: usize) -> Vec<Duration> {
    feed(hub, topic, IN_FLIGHT, numbers.map(|number| note(number, length)))
}

/// Returns a text of `length` bytes, or more, that begins with its number.
pub fn note(number: u64, length: usize) -> Vec<u8> {
    format!("{number:010} {}", "x".repeat(length.saturating_sub(11))).into_bytes()
}

/// Returns the number that a note or a reading carries.
pub fn number_of(payload: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(payload).ok()?;
    if text.starts_with('{') {
        let reading: serde_json::Value = serde_json::from_str(text).ok()?;
        return reading["anemometercount"].as_u64();
    }
    text.get(..10)?.parse().ok()
}

/// Publishes payloads at QoS 1, so many in flight, and insists on an ack of each, in order.
pub fn feed(
    hub: SocketAddr,
    topic: &str,
    in_flight: usize,
    payloads: impl IntoIterator<Item = Vec<u8>>,
) -> Vec<Duration> {
    let mut client = Connect::new(4, &format!("feeder-{topic}")).open(hub);
    let mut waiting: VecDeque<(u16, Instant)> = VecDeque::new();
    let mut took = Vec::new();
    let mut payloads = payloads.into_iter().peekable();
    while payloads.peek().is_some() || !waiting.is_empty() {
        let mut burst = Vec::new();
        while waiting.len() < in_flight
            && let Some(payload) = payloads.next()
        {
            let id = client.fresh_id();
            burst.extend(publish(4, topic.as_bytes(), &payload, 1, id, false));
            waiting.push_back((id, Instant::now()));
        }
        client.send(&burst).unwrap();
        let mut patience = SOON;
        while let Some((expected, since)) = waiting.front().copied() {
            match client.read(patience) {
                Ok(Packet::PubAck { id, reason: 0 }) if id == expected => took.push(since.elapsed()),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut && patience < SOON => break,
                other => panic!("PUBACK {expected} was expected, not {other:?}"),
            }
            waiting.pop_front();
            patience = Duration::from_millis(1);
        }
    }
    client.disconnect();
    took
}

/// Returns the time that this share of the acks took at most.
pub fn quantile(took: &[Duration], share: f64) -> Duration {
    let mut sorted = took.to_vec();
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
