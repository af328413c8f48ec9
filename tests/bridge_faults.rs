//! An upstream that fails in every way it can: it is told, ingest goes on, and all arrives once it is well.
//!
//! Owns the faults of the way up that are no kill. Logins and certificates are in `bridge_connection.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::bridged::{
    ALL, assert_complete, counter, site, status, wait_connected, wait_drained, wait_recovered, wait_told,
};
use support::collector::Collector;
use support::fake::{Fake, Mood};
use support::feeder::{number_of, quantile, readings};
use support::proxy::{Link, Proxy};
use support::upstream::{UNLIMITED, mosquitto};
use support::v5::Sent;
use support::{Hub, PATIENTLY, SOON, Signal, Site, holds_within, wait_for};

/// Asserts that the acks of `took` came about as quickly as those of `before`: a wait for the upstream would be seconds.
fn assert_as_quick(took: &[Duration], before: &[Duration]) {
    let (usual, now) = (quantile(before, 0.99), quantile(took, 0.99));
    assert!(now < usual * 10 + Duration::from_millis(500), "p99 of the acks was {usual:?} and is {now:?}");
}

/// Returns what came, each reading once, in the order of the first arrivals.
fn once(messages: Vec<Sent>) -> Vec<Sent> {
    let mut known = std::collections::HashSet::new();
    messages.into_iter().filter(|message| known.insert(number_of(&message.payload))).collect()
}

fn wait_taken(fake: &Fake, count: usize) {
    let all_came = holds_within(PATIENTLY, || once(fake.taken()).len() >= count);
    assert!(all_came, "the upstream took {} of {count}", once(fake.taken()).len());
}

/// A hub at a fake upstream that was well for 200 readings.
fn well(version: u8) -> (Fake, Site, Hub, Vec<Duration>) {
    let fake = Fake::start(Mood::Well);
    let site = site(&fake.url(), &format!("protocol = {version}"));
    let hub = site.start();
    let before = readings(hub.mqtt, 1, 0..200);
    wait_taken(&fake, 200);
    (fake, site, hub, before)
}

/// Lets the upstream fall ill, publishes, waits for the words about it, and lets it get well.
fn survives(version: u8, mood: Mood, words: &[&str]) {
    println!("MQTT {version}, {mood:?}");
    let (fake, site, hub, before) = well(version);
    let mark = hub.log_end();
    fake.turn(mood);
    let took = readings(hub.mqtt, 1, 200..500);
    assert_as_quick(&took, &before);
    wait_told(&site, &hub, mark, words);
    wait_for("a second attempt", PATIENTLY, || fake.accepted() >= 3 || matches!(mood, Mood::AckWith(_)));
    let took = readings(hub.mqtt, 1, 500..600);
    assert_as_quick(&took, &before);
    let lines = hub.said_since(mark, &["WARN", "upstream"]).len();
    assert!(lines < 10, "{lines} lines about one fault");
    fake.turn(Mood::Well);
    wait_taken(&fake, 600);
    wait_recovered(&site, &hub, mark);
    assert_complete(&once(fake.taken()), 600);
    assert!(hub.stop().success());
    assert_eq!(site.number("SELECT count(*) FROM outbox"), 0, "what the upstream has is not sent again");
}

/// Goes through faults of several versions and kinds, all at a time: most of it is waiting.
fn survives_all(faults: &[(u8, Mood, &[&str])]) {
    std::thread::scope(|scope| {
        for (version, mood, words) in faults {
            scope.spawn(move || survives(*version, *mood, words));
        }
    });
}

#[test]
fn an_upstream_that_accepts_and_says_nothing_is_left() {
    survives_all(&[(5, Mood::Mute, &["away"]), (4, Mood::Mute, &["away"])]);
}

#[test]
fn an_upstream_that_hangs_up_at_the_connect_is_tried_again() {
    survives_all(&[(5, Mood::HangUpAtConnect, &["away"]), (4, Mood::HangUpAtConnect, &["away"])]);
}

#[test]
fn an_upstream_that_refuses_the_login_is_tried_again() {
    survives_all(&[
        (5, Mood::Refuse(0x86), &["away", "refuse", "bridge.username"]),
        (4, Mood::Refuse(5), &["away", "refuse", "bridge.username"]),
    ]);
}

#[test]
fn an_upstream_that_refuses_for_another_reason_is_tried_again() {
    survives_all(&[(5, Mood::Refuse(0x88), &["away", "refuse"]), (4, Mood::Refuse(3), &["away", "refuse"])]);
}

#[test]
fn an_upstream_that_hangs_up_at_the_first_publish_is_tried_again() {
    survives_all(&[(5, Mood::HangUpAtPublish, &["away"]), (4, Mood::HangUpAtPublish, &["away"])]);
}

#[test]
fn an_upstream_that_acks_nothing_is_left_and_tried_again() {
    survives_all(&[(5, Mood::NeverAck, &["acknowledged none"]), (4, Mood::NeverAck, &["acknowledged none"])]);
}

#[test]
fn an_upstream_out_of_quota_is_asked_again_until_it_takes_everything() {
    survives(5, Mood::AckWith(0x97), &["quota"]);
}

#[test]
fn an_upstream_that_says_goodbye_is_tried_again() {
    survives_all(&[(5, Mood::Disconnect(0x97), &["away"]), (5, Mood::Disconnect(0x8B), &["away"])]);
}

#[test]
fn an_upstream_that_talks_garbage_is_tried_again() {
    survives_all(&[
        (5, Mood::Garbage, &["away"]),
        (4, Mood::Garbage, &["away"]),
        (5, Mood::GarbageAtPublish, &["away"]),
        (4, Mood::GarbageAtPublish, &["away"]),
    ]);
}

#[test]
fn acks_out_of_order_lose_and_repeat_nothing() {
    for version in [4, 5] {
        let (fake, site, hub, _) = well(version);
        fake.set(Mood::AckBackwards);
        readings(hub.mqtt, 1, 200..1000);
        wait_taken(&fake, 1000);
        wait_drained(&site, SOON);
        assert_complete(&fake.taken(), 1000);
        assert_eq!(counter(&site, "sent"), 1000);
    }
}

#[test]
fn a_link_that_stalls_mid_window_is_left_and_all_arrives() {
    for version in [4, 5] {
        let Some(upstream) = mosquitto(UNLIMITED) else { return };
        let collector = Collector::start(upstream.address, version, ALL);
        let proxy = Proxy::start(upstream.address, Link::Open);
        let site = site(&proxy.url(), &format!("protocol = {version}"));
        let hub = site.start();
        let before = readings(hub.mqtt, 1, 0..1000);
        collector.wait_count(500, PATIENTLY);
        let (mark, accepted) = (hub.log_end(), proxy.accepted());
        proxy.set(Link::Stalled);
        let took = readings(hub.mqtt, 1, 1000..3000);
        assert_as_quick(&took, &before);
        wait_told(&site, &hub, mark, &[]);
        wait_for("a new connection", PATIENTLY, || proxy.accepted() > accepted);
        proxy.set(Link::Open);
        collector.wait_count(3000, PATIENTLY);
        wait_recovered(&site, &hub, mark);
        wait_drained(&site, SOON);
        assert_complete(&collector.seen_once(), 3000);
    }
}

#[test]
fn a_link_that_is_cut_again_and_again_delivers_all() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, Link::Open);
    let site = site(&proxy.url(), "");
    let hub = site.start();
    for round in 0..10 {
        readings(hub.mqtt, 1, round * 300..(round + 1) * 300);
        wait_for("some of it", PATIENTLY, || collector.count() as u64 > round * 300);
        proxy.cut_once();
    }
    collector.wait_count(3000, PATIENTLY);
    wait_drained(&site, SOON);
    assert_complete(&collector.seen_once(), 3000);
}

#[test]
fn a_slow_link_is_not_taken_for_a_dead_one() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, Link::Slow(40_000));
    let site = site(&proxy.url(), "");
    let hub = site.start();
    wait_connected(&site);
    readings(hub.mqtt, 1, 0..1000);
    collector.wait_count(1000, PATIENTLY);
    wait_drained(&site, SOON);
    assert_complete(&collector.arrived(), 1000);
    assert_eq!(counter(&site, "connects"), 1, "{}", status(&site));
}

#[test]
fn a_hub_whose_upstream_is_mute_stops_in_time_and_goes_on_where_it_was() {
    let (fake, site, hub, _) = well(5);
    fake.set(Mood::NeverAck);
    readings(hub.mqtt, 1, 200..700);
    hub.signal(Signal::TERM);
    assert!(hub.stop().success(), "within 10 s");
    fake.set(Mood::Well);
    let _hub = site.start();
    wait_taken(&fake, 700);
    wait_drained(&site, SOON);
    assert_complete(&once(fake.taken()), 700);
}
