//! What once brought the bridge to a standstill, against real upstreams.
//!
//! Owns the cases that need no fault of an upstream's: floods, refusals by closing, a live lane whose session is gone. The
//! faults are in `bridge_faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::bridged::{counter, site, wait_connected, wait_drained};
use support::collector::Collector;
use support::feeder::{notes, number_of, readings};
use support::mqtt::Connect;
use support::upstream::{UNLIMITED, mosquitto, mosquitto_prepared};
use support::{PATIENTLY, SOON, wait_for};

#[test]
fn a_flood_of_commands_holds_up_neither_itself_nor_what_goes_up() {
    for version in [4, 5] {
        let Some(upstream) = mosquitto(UNLIMITED) else { return };
        let collector = Collector::start(upstream.address, version, "stations/#");
        let site = site(&upstream.url(), &format!("protocol = {version}\nsubscribe = [\"commands/#\"]"));
        let hub = site.start();
        wait_connected(&site);
        wait_for("the subscription", PATIENTLY, || {
            notes(upstream.address, "commands/probe", 0..1, 20);
            counter(&site, "received") > 0
        });
        let before = counter(&site, "received");
        std::thread::scope(|scope| {
            scope.spawn(|| notes(upstream.address, "commands/led", 0..3000, 60));
            scope.spawn(|| readings(hub.mqtt, 1, 0..500));
        });
        wait_for("all commands", PATIENTLY, || counter(&site, "received") >= before + 3000);
        collector.wait_count(500, PATIENTLY);
        wait_drained(&site, SOON);
    }
}

#[test]
fn a_message_that_mosquitto_closes_the_connection_at_is_set_aside_and_the_rest_goes_up() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, "stations/#");
    let site = site(&upstream.url(), "");
    let hub = site.start();
    notes(hub.mqtt, "farm/note", 0..5, 40);
    // Mosquitto takes no more than 200 levels.
    let mut client = Connect::new(4, "odd").open(hub.mqtt);
    client.publish_through(&format!("odd{}", "/x".repeat(250)), b"odd", 1);
    client.disconnect();
    notes(hub.mqtt, "farm/note", 5..40, 40);
    collector.wait_count(40, PATIENTLY);
    wait_drained(&site, SOON);
    assert_eq!(counter(&site, "refused"), 1);
    let arrived: Vec<u64> = collector.seen_once().iter().filter_map(|message| number_of(&message.payload)).collect();
    assert!((0..40).all(|number| arrived.contains(&number)), "{arrived:?}");
    assert_eq!(site.number("SELECT count(*) FROM quarantine WHERE reason = 'refused upstream'"), 1);
}

#[test]
fn what_is_live_and_what_waits_go_on_where_the_upstream_has_forgotten_the_session() {
    let forgetful = |_: &std::path::Path| format!("{UNLIMITED}persistence false\n");
    let Some(mut upstream) = mosquitto_prepared(forgetful) else { return };
    let site = site(&upstream.url(), "live_first = true");
    let hub = site.start();
    for round in 0..3 {
        let collector = Collector::start(upstream.address, 5, "stations/#");
        wait_connected(&site);
        readings(hub.mqtt, 1, round * 300..(round + 1) * 300);
        wait_for("some of it", PATIENTLY, || collector.count() > 0);
        upstream.kill_9();
        readings(hub.mqtt, 2, round * 300..(round + 1) * 300);
        upstream.start();
    }
    wait_drained(&site, PATIENTLY);
    drop(hub);
}
