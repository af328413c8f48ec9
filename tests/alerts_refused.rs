//! Messages that a receiver does not take as they are: they keep no other waiting, and get nobody's secret told.
//!
//! Owns what becomes of an alert where trying again does not help. A server that is away is `alerts_webhook.rs`'s.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;

use support::alerts::{Sensor, expect, site};
use support::health::get;
use support::mqtt::Connect;
use support::webhook::{Mood, Webhook};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

fn publish(hub: &Hub, topics: impl Iterator<Item = String>) {
    let mut client = Connect::new(4, "crowd").open(hub.mqtt);
    topics.for_each(|topic| client.publish_through(&topic, b"{\"temperature\":-1}", 1));
}

/// A site whose channel waits a second for what fires together.
fn grouped(hook: &Webhook) -> Site {
    let site = site(hook, "");
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    fs::write(site.file("hub.toml"), config.replace("group_s = 0", "group_s = 1")).unwrap();
    site
}

#[test]
fn a_receiver_that_takes_short_messages_alone_gets_all_of_them() {
    let hook = Webhook::start(Mood::TakesUpTo(900));
    let site = grouped(&hook);
    let hub = site.start();
    publish(&hub, (0..16).map(|number| format!("house{number}/weathermeters")));
    wait_for("16 alerts", PATIENTLY, || hook.ids().len() >= 16);
    assert_eq!(hook.ids().into_iter().collect::<BTreeSet<_>>().len(), 16, "{:?}", hook.ids());
    assert!(hook.tried() > hook.taken().len(), "nothing was refused");
}

#[test]
fn a_message_that_is_never_taken_keeps_no_other_waiting_also_after_a_restart() {
    let hook = Webhook::start(Mood::TakesUpTo(900));
    let site = site(&hook, "");
    let hub = site.start();
    publish(&hub, std::iter::once(format!("{}/weathermeters", "x".repeat(2_000))));
    hook.wait_tried(1, SOON);
    Sensor::new(&hub).says(-1.0);
    expect(&hook, &[":firing"]);
    hub.kill_9();
    let hub = site.start();
    Sensor::new(&hub).says(1.0);
    expect(&hook, &[":firing", ":resolved"]);
    // A receiver that takes it after all gets it.
    hook.is_now(Mood::Takes);
    wait_for("the long one", PATIENTLY, || hook.ids().len() == 3);
}

#[test]
fn what_a_server_repeats_of_a_request_tells_no_secret() {
    let hook = Webhook::start(Mood::TakesUpTo(0));
    let site = site(&hook, "");
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    let secret = "headers = [\"Authorization: Bearer OpenSesame\"]\ntimeout_s = 1";
    let config = config.replace("/hook\"", "/services/T0/HushHush?token=Mumble\"").replace("timeout_s = 1", secret);
    fs::write(site.file("hub.toml"), config).unwrap();
    let hub = site.start();
    Sensor::new(&hub).says(-1.0);
    hub.wait_said(0, &["not delivered", "400", "too long"], SOON);
    let told = hub.log() + &get(&hub, "/api/v1/alerts").1;
    for word in ["HushHush", "Mumble", "OpenSesame"] {
        assert!(!told.to_lowercase().contains(&word.to_lowercase()), "{word} is told: {told}");
    }
}
