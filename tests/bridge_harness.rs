//! What the upstreams of the bridge's tests promise by themselves, without a hub, and that the harness sees it.
//!
//! Owns the ground that the other tests of the bridge stand on: what Mosquitto and NATS keep over `kill -9`. It never starts
//! a hub.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use support::collector::Collector;
use support::fake::{Fake, Mood};
use support::feeder::{note, notes, number_of};
use support::mqtt::{Client, Connect, Packet, publish};
use support::proxy::{Link, Proxy};
use support::upstream::{UNLIMITED, Upstream, mosquitto, nats};
use support::{Dice, PATIENTLY, SOON, holds_within, wait_for, wait_for_a_moment};

/// A client that does as a bridge does: what was not acked is sent again, in order, on each new connection.
struct Sender {
    address: SocketAddr,
    unacked: VecDeque<u64>,
    next: u64,
}

impl Sender {
    fn run(&mut self, stop_after: Duration, acked_max: u64) {
        let connect = Connect::new(4, "sender").persistent();
        let mut client = None;
        holds_within(stop_after, || {
            if client.is_none() {
                client = connect.try_open(self.address).ok();
                let Some(client) = &mut client else { return false };
                let again: Vec<u8> = self.unacked.iter().flat_map(|number| self.bytes(*number)).collect();
                client.send(&again).ok();
            }
            if client.as_mut().is_some_and(|client| self.step(client, acked_max).is_err()) {
                client = None;
            }
            self.next >= acked_max && self.unacked.is_empty()
        });
    }

    fn step(&mut self, client: &mut Client, most: u64) -> std::io::Result<()> {
        let mut burst = Vec::new();
        while self.unacked.len() < 100 && self.next < most {
            burst.extend(self.bytes(self.next));
            self.unacked.push_back(self.next);
            self.next += 1;
        }
        client.send(&burst)?;
        loop {
            match client.read(Duration::from_millis(1)) {
                Ok(Packet::PubAck { id, .. }) => {
                    let oldest = self.unacked.pop_front().expect("an ack for something");
                    assert_eq!(id, packet_id(oldest), "acks in order");
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) if error.kind() == ErrorKind::TimedOut => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn bytes(&self, number: u64) -> Vec<u8> {
        publish(4, b"farm/notes", &note(number, 200), 1, packet_id(number), false)
    }
}

fn packet_id(number: u64) -> u16 {
    (number % 60_000) as u16 + 1
}

/// Publishes through a proxy while the server is killed again and again; returns the numbers that arrived, each once.
fn numbers_over_kills(upstream: &mut Upstream, collector: &Collector, rounds: u32) -> (Vec<u64>, u64) {
    let mut dice = Dice::new();
    let proxy = Proxy::start(upstream.address, Link::Open);
    let mut sender = Sender { address: proxy.address, unacked: VecDeque::new(), next: 0 };
    for _ in 0..rounds {
        let moment = Duration::from_micros(50_000 + dice.below(300_000));
        std::thread::scope(|scope| {
            scope.spawn(|| sender.run(moment + Duration::from_millis(50), u64::MAX));
            wait_for_a_moment(&mut dice, 300_000);
            upstream.kill_9();
        });
        let before = collector.subscriptions();
        proxy.set(Link::Cut);
        upstream.start();
        collector.wait_subscribed_since(before);
        proxy.set(Link::Open);
    }
    let most = sender.next;
    sender.run(PATIENTLY, most);
    assert!(sender.unacked.is_empty(), "everything is acked in the end");
    collector.wait_count(most as usize, PATIENTLY);
    let seen = collector.seen_once();
    (seen.iter().map(|message| number_of(&message.payload).unwrap()).collect(), most)
}

#[test]
fn mosquitto_acks_nothing_that_a_connected_collector_does_not_get_though_it_is_killed() {
    let Some(mut upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, "farm/#");
    let (numbers, most) = numbers_over_kills(&mut upstream, &collector, 10);
    println!("{most} messages, {} repeats", collector.repeats());
    assert_eq!(numbers, (0..most).collect::<Vec<u64>>());
}

#[test]
fn nats_acks_nothing_that_it_has_not_kept_though_it_is_killed() {
    let Some(mut upstream) = nats() else { return };
    let collector = Collector::start(upstream.address, 4, "farm/#");
    let (numbers, most) = numbers_over_kills(&mut upstream, &collector, 10);
    println!("{most} messages, {} repeats", collector.repeats());
    assert_eq!(numbers, (0..most).collect::<Vec<u64>>());
}

#[test]
fn a_stop_of_the_upstream_keeps_what_waits_for_a_collector_that_is_away() {
    for upstream in [mosquitto(UNLIMITED), nats()] {
        let Some(mut upstream) = upstream else { continue };
        drop(Collector::start(upstream.address, 4, "farm/#"));
        notes(upstream.address, "farm/notes", 0..500, 100);
        upstream.stop();
        upstream.start();
        let collector = Collector::start(upstream.address, 4, "farm/#");
        collector.wait_count(500, SOON);
        assert_eq!(collector.seen_once()[499].payload, note(499, 100));
    }
}

#[test]
fn the_proxy_stalls_slows_and_cuts() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let proxy = Proxy::start(upstream.address, Link::Open);
    let mut client = Connect::new(4, "through").open(proxy.address);
    client.ping();
    proxy.set(Link::Stalled);
    client.send(&[0xC0, 0]).unwrap();
    client.assert_silent_for(Duration::from_millis(200));
    proxy.set(Link::Slow(100_000));
    assert_eq!(client.read(SOON).unwrap(), Packet::PingResp);
    let took = notes(proxy.address, "farm/notes", 0..100, 1000);
    let slowest = *took.iter().max().unwrap();
    assert!(slowest > Duration::from_millis(500), "100 kB at 100 kB/s took {slowest:?}");
    proxy.cut_once();
    client.expect_closed();
    Connect::new(4, "through").open(proxy.address).ping();
}

#[test]
fn the_fake_upstream_has_each_of_its_moods() {
    for version in [4, 5] {
        let fake = Fake::start(Mood::Well);
        let connect = Connect::new(version, "hub");
        let mut client = connect.open(fake.address);
        assert_eq!(client.subscribe("commands/#", 1), 1);
        client.publish_through("a", b"taken", 1);
        assert_eq!(fake.taken()[0].payload, b"taken");
        fake.set(Mood::NeverAck);
        client.publish("a", b"never", 1, 7, false);
        client.ping();
        client.assert_silent_for(Duration::from_millis(50));
        fake.set(Mood::AckWith(0x97));
        client.publish("a", b"quota", 1, 8, false);
        assert_eq!(client.read(SOON).unwrap(), Packet::PubAck { id: 8, reason: 0x97 });
        fake.set(Mood::AckBackwards);
        client.publish("a", b"first", 1, 9, false);
        client.publish("a", b"second", 1, 10, false);
        for id in [10, 9] {
            assert_eq!(client.read(SOON).unwrap(), Packet::PubAck { id, reason: 0 });
        }
        wait_for("both to be taken", SOON, || fake.taken_count() == 3);
        fake.set(Mood::Disconnect(0x97));
        client.publish("a", b"last", 1, 11, false);
        assert_eq!(client.expect_closed(), Some(0x97));
        fake.set(Mood::Refuse(5));
        assert_eq!(connect.refused(fake.address), 5);
        fake.set(Mood::HangUpAtPublish);
        let mut client = connect.open(fake.address);
        client.publish("a", b"last", 1, 12, false);
        client.expect_closed();
        for mood in [Mood::HangUpAtConnect, Mood::Garbage, Mood::Mute] {
            fake.set(mood);
            let mut client = Client::raw(fake.address, version).unwrap();
            client.send(&connect.bytes()).unwrap();
            let answer = client.read(Duration::from_millis(200));
            assert!(answer.is_err(), "{mood:?}: {answer:?}");
        }
        assert_eq!(fake.taken_count(), 3, "nothing that was not acked");
    }
}
