//! A backlog goes upstream whole, once and in order, though the hub and the upstream are killed meanwhile.
//!
//! Owns the bridge's first promise, against real servers. STATIONHUB_BRIDGE_READINGS and STATIONHUB_BRIDGE_ROUNDS make
//! it as long as one likes. What a limit drops is in `bridge_limits.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::bridged::{ALL, assert_complete, site, status, wait_connected, wait_drained};
use support::collector::{Collector, assert_in_order_by_id};
use support::feeder::{number_of, readings};
use support::proxy::{Link, Proxy};
use support::sensor::{Fleet, Load, weather_topic};
use support::upstream::{UNLIMITED, Upstream, mosquitto, nats};
use support::v5::Sent;
use support::{Dice, Hub, PATIENTLY, SOON, Site, wait_for, wait_for_a_moment};

/// The station of the backlog; those of the fleet have other numbers.
const BACKLOG: u64 = 1;

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn readings_in_all(default: u64) -> u64 {
    from_environment("STATIONHUB_BRIDGE_READINGS", default)
}

/// Returns a time that `messages` take on a slow and busy machine.
fn time_for(messages: u64) -> Duration {
    PATIENTLY + Duration::from_millis(messages * 3)
}

#[test]
fn readings_of_an_outage_arrive_each_once_and_in_order() {
    let Some(mut upstream) = mosquitto(UNLIMITED) else { return };
    let count = readings_in_all(10_000);
    let collector = Collector::start(upstream.address, 5, ALL);
    upstream.stop();
    let site = site(&upstream.url(), "");
    let hub = site.start();
    readings(hub.mqtt, BACKLOG, 0..count);
    let backlog = status(&site)["backlog"].clone();
    assert_eq!(backlog["messages"], count, "{backlog}");
    upstream.start();
    collector.wait_count(count as usize, time_for(count));
    wait_drained(&site, PATIENTLY);
    assert_complete(&collector.arrived(), count);
    let last = collector.arrived().pop().unwrap();
    assert_eq!(last.topic, format!("stations/hill/{}", weather_topic(BACKLOG)));
    let received: jiff::Timestamp = last.user_property("stationhub-received").unwrap().parse().unwrap();
    assert!((support::now_s() - received.as_second()).abs() < 600, "{received}");
    assert_eq!(site.weather_count() as u64, count);
}

/// A hub and its upstream under blows, a proxy between them that is open only while the collector listens: so whatever
/// the upstream acks, the collector gets.
struct Ring {
    site: Site,
    hub: Hub,
    upstream: Upstream,
    proxy: Proxy,
    collector: Collector,
    fleet: Fleet,
    dice: Dice,
}

impl Ring {
    fn enter(upstream: Upstream, version: u8) -> Ring {
        let collector = Collector::start(upstream.address, version, ALL);
        let proxy = Proxy::start(upstream.address, Link::Cut);
        let site = site(&proxy.url(), &format!("protocol = {version}"));
        let hub = site.start();
        let load = Load { sensors: 2, qos: 1, window: 5, pause: Duration::from_millis(25) };
        let fleet = Fleet::start(hub.mqtt, 10, load);
        Ring { site, hub, upstream, proxy, collector, fleet, dice: Dice::new() }
    }

    /// Lets the drain go on for `progress` messages and a moment, and strikes.
    fn round(self, progress: u64) -> Ring {
        let Ring { site, mut hub, mut upstream, proxy, collector, fleet, mut dice } = self;
        let before = collector.count() as u64;
        proxy.set(Link::Open);
        wait_for("the drain to go on", PATIENTLY, || collector.count() as u64 >= before + progress);
        wait_for_a_moment(&mut dice, 30_000);
        let blow = dice.below(3);
        let subscriptions = collector.subscriptions();
        if blow != 0 {
            upstream.kill_9();
        }
        if blow != 1 {
            hub.kill_9();
            hub = site.start();
            fleet.move_to(hub.mqtt);
        }
        proxy.set(Link::Cut);
        if blow != 0 {
            upstream.start();
            collector.wait_subscribed_since(subscriptions);
        }
        println!("{} killed, {} arrived", ["hub", "upstream", "both"][blow as usize], collector.count());
        Ring { site, hub, upstream, proxy, collector, fleet, dice }
    }
}

/// Returns what a station's readings are, in the order in which they came.
fn by_station(messages: &[Sent]) -> BTreeMap<String, Vec<u64>> {
    let mut stations: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in messages {
        stations.entry(message.topic.clone()).or_default().push(number_of(&message.payload).unwrap());
    }
    stations
}

fn drain_under_blows(upstream: Upstream, version: u8, count: u64, rounds: u64) {
    let mut ring = Ring::enter(upstream, version);
    readings(ring.hub.mqtt, BACKLOG, 0..count);
    for _ in 0..rounds {
        // Half of the backlog in all, so that every blow falls into the drain.
        ring = ring.round(count / rounds / 2);
    }
    ring.proxy.set(Link::Open);
    let Ring { site, hub: _hub, upstream: _upstream, proxy: _proxy, collector, fleet, .. } = ring;
    let sensors = fleet.finish(PATIENTLY);
    let total = count + sensors.iter().map(|sensor| sensor.sent).sum::<u64>();
    collector.wait_count(total as usize, time_for(total));
    wait_drained(&site, PATIENTLY);
    println!("{total} messages, {} repeats", collector.repeats());
    let seen = collector.seen_once();
    if version == 5 {
        assert_in_order_by_id(&seen);
    }
    let stations = by_station(&seen);
    let expect = |station: u64, count: u64| {
        let numbers = &stations[&format!("stations/hill/{}", weather_topic(station))];
        let wrong = numbers.iter().zip(0..).find(|(number, place)| **number != *place);
        assert_eq!(wrong, None, "station {station}: a number out of its place");
        assert_eq!(numbers.len() as u64, count, "station {station}");
    };
    expect(BACKLOG, count);
    sensors.iter().for_each(|sensor| expect(sensor.number, sensor.sent));
    assert_eq!(seen.len() as u64, total);
}

#[test]
fn kills_of_hub_and_mosquitto_during_the_drain_lose_nothing_and_keep_the_order() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    drain_under_blows(upstream, 5, readings_in_all(10_000), from_environment("STATIONHUB_BRIDGE_ROUNDS", 6));
}

#[test]
fn kills_of_hub_and_nats_during_the_drain_lose_nothing_and_keep_the_order() {
    let Some(upstream) = nats() else { return };
    drain_under_blows(upstream, 4, readings_in_all(5_000), from_environment("STATIONHUB_BRIDGE_ROUNDS", 4));
}

#[test]
fn readings_of_an_outage_arrive_at_nats_without_repeats() {
    let Some(mut upstream) = nats() else { return };
    let count = readings_in_all(5_000);
    let collector = Collector::start(upstream.address, 4, ALL);
    upstream.stop();
    let site = site(&upstream.url(), "protocol = 4");
    let hub = site.start();
    readings(hub.mqtt, BACKLOG, 0..count);
    upstream.start();
    collector.wait_count(count as usize, time_for(count));
    wait_drained(&site, PATIENTLY);
    assert_complete(&collector.arrived(), count);
}

#[test]
fn a_graceful_stop_of_the_hub_in_the_drain_causes_no_repeat() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, Link::Cut);
    let site = site(&proxy.url(), "");
    let hub = site.start();
    readings(hub.mqtt, BACKLOG, 0..3000);
    proxy.set(Link::Open);
    wait_for("half of it", PATIENTLY, || collector.count() > 1000);
    assert!(hub.stop().success());
    let hub = site.start();
    wait_connected(&site);
    collector.wait_count(3000, PATIENTLY);
    wait_drained(&site, SOON);
    assert_complete(&collector.arrived(), 3000);
    drop(hub);
}
