//! Streams of broken packets against the real hub, beside two clients that check their own traffic all the while.
//!
//! Owns the long test of what bytes alone can do to the hub. A short form runs with all other tests; the long one is
//! `STATIONHUB_FUZZ_PACKETS=1200000 cargo test --test hostile_bytes`, and `STATIONHUB_SEED` repeats a run's streams. What
//! the decoder alone makes of such bytes is in `hostile_decoder.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use support::hostile::{Seeds, connect, mutate, stream};
use support::mqtt::{Client, Connect};
use support::packet::{parse, variable_length};
use support::watch::{assert_no_panic, figure, open_files, peak_kib};
use support::{Dice, PATIENTLY, Site, wait_for};

/// Broken packets in the short form.
const PACKETS: u64 = 20_000;
/// Connections at a time.
const PEERS: usize = 6;
const PACKETS_PER_CONNECTION: usize = 24;
/// How long the hub may take to be done with one connection.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// The most memory that the hub may ever have resident, with nothing but broken packets and two clients, KiB.
const PEAK_KIB_MAX: u64 = 96 * 1024;
/// Log lines that broken packets may cause, a second.
const LOG_LINES_PER_S_MAX: u64 = 20;

/// Counts of the broken packets and of the connections that they came on.
#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    sent: AtomicU64,
    /// The hub has looked at these, as its answers tell; at least so many.
    taken: AtomicU64,
}

#[test]
fn broken_packets_of_every_kind_disturb_no_bystander() {
    let given = std::env::var("STATIONHUB_FUZZ_PACKETS").ok();
    let wanted = given.map_or(PACKETS, |text| text.parse().expect("STATIONHUB_FUZZ_PACKETS is a number"));
    // With few sessions kept, or most of the time would go into what waits for those that are away.
    let site = Site::with_config("[broker.limits]\nsessions = 100\n");
    let hub = site.start();
    let bystanders: Vec<Bystander> = [4, 5].map(|version| Bystander::start(hub.mqtt, version)).into();
    wait_for("the bystanders", PATIENTLY, || bystanders.iter().all(|one| one.rounds.load(SeqCst) > 10));
    let files = open_files(&hub);

    let (dice, counts, started) = (Dice::new(), Arc::new(Counts::default()), Instant::now());
    let peers: Vec<JoinHandle<()>> = (0..PEERS)
        .map(|_| {
            let (dice, counts, address) = (dice.of_part(0), counts.clone(), hub.mqtt);
            std::thread::spawn(move || work(&dice, &counts, address, wanted))
        })
        .collect();
    for peer in peers {
        peer.join().expect("the hub answers or closes, whatever it is sent");
    }

    let took = started.elapsed();
    let rounds: Vec<u64> = bystanders.into_iter().map(Bystander::end).collect();
    println!(
        "{} connections, {} broken packets sent, {} taken, in {took:.1?}; bystanders' rounds {rounds:?}; peak {} KiB, {} log lines",
        counts.connections.load(SeqCst),
        counts.sent.load(SeqCst),
        counts.taken.load(SeqCst),
        peak_kib(&hub),
        hub.log().lines().count()
    );
    assert_no_panic(&site, &hub);
    wait_for("the broken peers' sockets to be closed", PATIENTLY, || open_files(&hub) <= files + 2);
    wait_for("the broken peers to be gone", PATIENTLY, || figure(&site, "clients") == 0);
    assert!(peak_kib(&hub) < PEAK_KIB_MAX, "the peak of the hub's memory: {} KiB", peak_kib(&hub));
    let lines = hub.log().lines().count() as u64;
    assert!(lines < LOG_LINES_PER_S_MAX * (took.as_secs() + 10), "{lines} lines: told, at a bounded rate");
    assert!(hub.stop().success(), "it stops as if nothing had been");
}

/// Sends streams, one connection after another, until enough broken packets are taken.
fn work(dice: &Dice, counts: &Counts, address: SocketAddr, wanted: u64) {
    let seeds: HashMap<u8, Seeds> = [4, 5].map(|version| (version, Seeds::new(version))).into();
    while counts.taken.load(SeqCst) < wanted {
        let number = counts.connections.fetch_add(1, SeqCst);
        let mut dice = dice.of_part(number);
        let version = 4 + dice.below(2) as u8;
        let seeds = &seeds[&version];
        let mut hello = connect(version, &mut dice);
        let hello_is_broken = dice.below(12) == 0;
        if hello_is_broken {
            hello = mutate(&mut dice, seeds, &hello);
        }
        let (packets, broken) = stream(&mut dice, seeds, PACKETS_PER_CONNECTION);
        hello.extend(packets);
        let answers = converse(address, &hello, number);
        if !hello_is_broken {
            check(version, &answers, number);
        }
        // The hub has answered the PINGREQs behind so many packets, and looked at one more before it closed.
        let taken = 1 + count_pingresps(&answers);
        let count = |broken: &[bool]| broken.iter().filter(|is_broken| **is_broken).count() as u64;
        counts.sent.fetch_add(count(&broken), SeqCst);
        counts.taken.fetch_add(count(&broken[..taken.min(broken.len())]), SeqCst);
    }
}

/// Sends all at once, and reads until the hub closes.
fn converse(address: SocketAddr, bytes: &[u8], number: u64) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(CONNECTION_TIME_MAX)).unwrap();
    // The hub may hang up before it has all.
    stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write)).ok();
    let mut answers = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answers) {
        let hangs = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
        assert!(!hangs, "connection {number} is not closed after {CONNECTION_TIME_MAX:?}");
    }
    answers
}

/// Returns the packets that the hub sent; the last one may be cut short.
fn packets(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, taken) = variable_length(rest.get(1..)?)?;
        let (packet, after) = rest.split_at_checked(1 + taken + length)?;
        rest = after;
        Some(packet)
    })
}

/// Asserts that whatever the hub was sent, what it sends is MQTT.
fn check(version: u8, answers: &[u8], number: u64) {
    for (place, packet) in packets(answers).enumerate() {
        let start = 1 + variable_length(&packet[1..]).map_or(0, |(_, taken)| taken);
        let parsed = parse(version, packet[0], &packet[start..]);
        assert!(parsed.is_some(), "connection {number} got a packet that is none: {packet:02x?}");
        assert_eq!(place == 0, packet[0] == 0x20, "connection {number}: the CONNACK comes first, and once");
    }
}

fn count_pingresps(answers: &[u8]) -> usize {
    packets(answers).filter(|packet| packet[0] == 0xD0).count()
}

/// A client that subscribes to what it publishes itself, at every QoS, numbered, and misses nothing.
struct Bystander {
    rounds: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Bystander {
    fn start(address: SocketAddr, version: u8) -> Bystander {
        let (rounds, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&rounds), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            let mut client = Connect::new(version, &format!("bystander-{version}")).open(address);
            assert_eq!(client.subscribe(&format!("calm/{version}/#"), 2), 2);
            let mut longest = Duration::ZERO;
            while !end.load(SeqCst) {
                let began = Instant::now();
                round(&mut client, version, count.load(SeqCst));
                longest = longest.max(began.elapsed());
                count.fetch_add(1, SeqCst);
            }
            client.ping();
            client.disconnect();
            longest
        });
        Bystander { rounds, done, thread }
    }

    /// Ends it, and returns how many rounds it made.
    fn end(self) -> u64 {
        self.done.store(true, SeqCst);
        let longest = self.thread.join().expect("the bystander was never disturbed");
        println!("a bystander's longest round took {longest:.1?}");
        self.rounds.load(SeqCst)
    }
}

/// Sends one message at each QoS, and takes each back, once and in order.
fn round(client: &mut Client, version: u8, number: u64) {
    for qos in 0..=2u8 {
        let topic = format!("calm/{version}/{}", number % 5);
        let payload = format!("{version} {number} {qos}");
        client.publish_through(&topic, payload.as_bytes(), qos);
        let message = client.receive();
        let got = (message.topic, String::from_utf8(message.payload).unwrap(), message.qos, message.dup);
        assert_eq!(got, (topic, payload, qos, false));
    }
}
