//! A subscriber that cannot keep up: it loses what its queue cannot hold, to the last message counted, and nobody else
//! waits for it.
//!
//! Owns the arithmetic of loss: published = delivered + dropped. What it costs the ingest is measured by
//! `cargo bench --bench fanout`, not asserted here.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::mqtt::{Client, Connect, Packet, publish};
use support::watch::{assert_no_panic, figure, peak_kib, rss_kib};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

const PUBLISHES: u32 = 200_000;
/// Publishes in flight.
const WINDOW: u32 = 50;
/// What one subscriber that takes nothing may cost: its queue of 1 MiB and 1,000 messages, the messages on the bus, and
/// buffers, KiB.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
const TOPIC: &str = "load/numbers";

/// Returns a publish with a number and as much as a reading has beside it.
fn numbered(number: u32, qos: u8) -> Vec<u8> {
    let payload = [&number.to_be_bytes()[..], &[0x2E; 100]].concat();
    publish(4, TOPIC.as_bytes(), &payload, qos, 1 + (number % WINDOW) as u16, false)
}

/// Publishes all numbers at QoS 1, a window at a time, and returns how long it took.
fn publish_all(address: SocketAddr) -> Duration {
    let mut publisher = Connect::new(4, "publisher").open(address);
    let started = Instant::now();
    for first in (0..PUBLISHES).step_by(WINDOW as usize) {
        let window: Vec<u8> = (first..first + WINDOW).flat_map(|number| numbered(number, 1)).collect();
        publisher.send(&window).unwrap();
        for number in first..first + WINDOW {
            publisher.expect_puback(1 + (number % WINDOW) as u16);
        }
    }
    let took = started.elapsed();
    publisher.disconnect();
    took
}

/// Takes what is there for a subscriber, until what it got and what was dropped make up all that was published.
fn take_the_rest(site: &Site, slow: &mut Client) -> u64 {
    let mut delivered = 0;
    let mut last = None;
    let deadline = Instant::now() + PATIENTLY;
    while Instant::now() < deadline {
        match slow.read(Duration::from_millis(300)) {
            Ok(Packet::Publish(message)) => {
                let number = u32::from_be_bytes(message.payload[..4].try_into().unwrap());
                assert!(last < Some(number), "{number} came after {last:?}: twice, or out of order");
                last = Some(number);
                if message.qos == 1 {
                    slow.send(&[0x40, 2, (message.id >> 8) as u8, message.id as u8]).unwrap();
                }
                delivered += 1;
            }
            Ok(other) => panic!("a message was expected, not {other:?}"),
            Err(_) if delivered + figure(site, "dropped") == u64::from(PUBLISHES) => break,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::TimedOut),
        }
    }
    slow.assert_silent_for(Duration::from_millis(200));
    delivered
}

fn assert_all_is_accounted_for(site: &Site, hub: &Hub, what: &str, delivered: u64, before_kib: u64) {
    let dropped = figure(site, "dropped");
    let growth = peak_kib(hub).saturating_sub(before_kib);
    println!("{what}: {PUBLISHES} published, {delivered} delivered, {dropped} dropped, {growth} KiB more");
    assert_eq!(delivered + dropped, u64::from(PUBLISHES), "published = delivered + dropped");
    assert_eq!(figure(site, "router_lost"), 0, "nothing is lost inside the router");
    assert!(dropped > 0, "it kept up: the test shows nothing");
    assert!(growth < GROWTH_KIB_MAX, "{what}: {growth} KiB more");
    assert!(!hub.said_since(0, &[" warn ", "slow", "cannot keep up"]).is_empty(), "the log names it");
    assert!(hub.log().lines().count() < 100, "told, at a bounded rate");
    assert_no_panic(site, hub);
}

#[test]
fn what_a_subscriber_that_reads_nothing_loses_is_counted_to_the_last_message() {
    for qos in 0..=1 {
        let site = Site::new();
        let hub = site.start();
        let alone = publish_all(hub.mqtt);
        let mut slow = Connect::new(4, "slow").open(hub.mqtt);
        slow.subscribe("load/#", qos);
        let before_kib = rss_kib(&hub);
        let beside = publish_all(hub.mqtt);
        let delivered = take_the_rest(&site, &mut slow);
        println!("QoS {qos}: {PUBLISHES} publishes took {alone:.1?}, beside the slow subscriber {beside:.1?}");
        assert_all_is_accounted_for(&site, &hub, &format!("QoS {qos}"), delivered, before_kib);
        assert_eq!(figure(&site, "delivered"), delivered, "what was written came");
        slow.disconnect();
        let dropped = figure(&site, "dropped");
        hub.wait_said(0, &[" warn ", "client=slow", &format!("dropped={dropped}")], SOON);
    }
}

#[test]
fn what_a_client_that_is_away_loses_is_counted_to_the_last_message() {
    let site = Site::new();
    let hub = site.start();
    let connect = Connect::new(4, "slow").persistent();
    let mut slow = connect.open(hub.mqtt);
    slow.subscribe(TOPIC, 1);
    slow.disconnect();
    wait_for("it to be away", SOON, || figure(&site, "clients") == 0);
    let before_kib = rss_kib(&hub);
    publish_all(hub.mqtt);
    let mut slow = connect.open(hub.mqtt);
    let delivered = take_the_rest(&site, &mut slow);
    assert_eq!(delivered, 1_000, "its queue was full");
    assert_all_is_accounted_for(&site, &hub, "away", delivered, before_kib);
}

#[test]
fn a_crowd_of_slow_subscribers_is_counted_and_does_not_flood_the_log() {
    let site = Site::with_config("[broker.limits]\nsession_queue_messages = 1\ninflight = 1\n");
    let hub = site.start();
    let slow: Vec<Client> = (0..100)
        .map(|number| {
            let mut client = Connect::new(4, &format!("slow-{number}")).open(hub.mqtt);
            client.subscribe(TOPIC, 1);
            client
        })
        .collect();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..20 {
        publisher.send(&numbered(number, 1)).unwrap();
        publisher.expect_puback(1 + number as u16);
    }
    // One in flight to each, and one in its queue.
    wait_for("all that did not fit to be counted", SOON, || figure(&site, "dropped") == 100 * (20 - 2));
    slow.into_iter().for_each(Client::cut);
    wait_for("all to be gone", SOON, || figure(&site, "clients") == 1);
    let lines = hub.said_since(0, &[" warn ", "dropped="]).len();
    assert!((1..=20).contains(&lines), "{lines} lines");
}
