//! What a subscribed session costs in memory: a thousand of them, idle, and after traffic.
//!
//! Owns the counting of resident memory around them. It never judges the figures.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::load::{connect, subscribe_blocking};
use crate::process::memory;

/// Sessions; Mosquitto and the hub both let in so many.
pub(crate) const SESSIONS: usize = 1_000;
/// Messages that each session gets.
const MESSAGES: u8 = 20;
const PAYLOAD_BYTES: usize = 200;

/// KiB for each session.
#[derive(Clone, Copy)]
pub(crate) struct PerSession {
    /// Connected, no subscription.
    pub(crate) connected_kib: f64,
    /// Subscribed, no message yet.
    pub(crate) idle_kib: f64,
    /// After messages at QoS 1 that all of them got.
    pub(crate) used_kib: f64,
    /// Messages delivered per second then, one publish in flight.
    pub(crate) rate: f64,
}

/// Measures the server `pid` at `addr`: each session with a filter of its own, or all with the same.
pub(crate) fn measure(addr: SocketAddr, pid: u32, own_filters: bool) -> Result<PerSession> {
    let each = |before: f64| -> Result<f64> { Ok((memory(pid)?.rss_mib - before) * 1024.0 / SESSIONS as f64) };
    let mut publisher = connect(addr, "publisher")?;
    let before = memory(pid)?.rss_mib;
    let lone: Vec<TcpStream> = (0..SESSIONS).map(|n| connect(addr, &format!("session-{n}"))).collect::<Result<_>>()?;
    let connected_kib = each(before)?;
    // The same clients again, so that what their connections take is not counted twice.
    drop(lone);
    let filter = |number: usize| if own_filters { format!("session/{number}") } else { "session/all".to_owned() };
    let mut sessions = (0..SESSIONS)
        .map(|number| subscribe_blocking(addr, &format!("session-{number}"), &filter(number), 1))
        .collect::<Result<Vec<TcpStream>>>()?;
    let idle_kib = each(before)?;
    let start = Instant::now();
    for number in 0..MESSAGES {
        let topics = if own_filters { SESSIONS } else { 1 };
        for topic in 0..topics {
            publisher.write_all(&publish(&filter(topic), number))?;
            let mut puback = [0; 4];
            publisher.read_exact(&mut puback).context("no PUBACK")?;
        }
        for session in &mut sessions {
            take(session)?;
        }
    }
    let rate = (SESSIONS * usize::from(MESSAGES)) as f64 / start.elapsed().as_secs_f64();
    let used_kib = each(before)?;
    Ok(PerSession { connected_kib, idle_kib, used_kib, rate })
}

/// Returns a publish at QoS 1.
fn publish(topic: &str, number: u8) -> Vec<u8> {
    let length = 2 + topic.len() + 2 + PAYLOAD_BYTES;
    let mut bytes = vec![0x32, (length % 128) as u8 | 0x80, (length / 128) as u8, 0, topic.len() as u8];
    bytes.extend(topic.as_bytes());
    bytes.extend([0, 1]);
    bytes.extend([number; PAYLOAD_BYTES]);
    bytes
}

/// Takes one message and acks it.
fn take(session: &mut TcpStream) -> Result<()> {
    let mut header = [0; 5];
    session.read_exact(&mut header).context("no message came")?;
    let length = usize::from(header[1] & 0x7F) | usize::from(header[2]) << 7;
    let mut body = vec![0; length - 2];
    session.read_exact(&mut body)?;
    let id = usize::from(header[4]);
    session.write_all(&[0x40, 2, body[id], body[id + 1]])?;
    Ok(())
}

/// Reads all that comes, in a thread, until the server closes.
pub(crate) fn read_on(mut session: TcpStream) {
    std::thread::spawn(move || {
        let mut inbox = vec![0; 256 * 1024];
        while session.read(&mut inbox).is_ok_and(|read| read > 0) {}
    });
}
