//! Alerts about the hub's own health: each source is told by itself, and a restart is not the end of a fault.
//!
//! Owns what becomes of checks in alerts. That each check finds its fault is tested in `health.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::health::{get, healthz, often};
use support::mqtt::{Client, Connect};
use support::sensor::{weather, weather_topic};
use support::{Hub, PATIENTLY, SOON, Site, holds_within, wait_for};

/// Two sensors that may be silent for a few seconds, and one rule about all checks.
fn two_sensors() -> Site {
    let source = |number| format!("[[health.source]]\nfilter = \"test/station{number}/#\"\nsilence_s = 4\n");
    often(&format!("{}{}", source(1), source(2)))
}

fn sensor(hub: &Hub) -> Client {
    Connect::new(4, "sensor").open(hub.mqtt)
}

fn listed(hub: &Hub, list: &str) -> Vec<(i64, String)> {
    let listing: serde_json::Value = serde_json::from_str(&get(hub, "/api/v1/alerts").1).unwrap();
    let alerts = listing[list].as_array().unwrap().iter();
    alerts.map(|alert| (alert["id"].as_i64().unwrap(), alert["subject"].as_str().unwrap().to_owned())).collect()
}

fn subjects(hub: &Hub, list: &str) -> Vec<String> {
    listed(hub, list).into_iter().map(|(_, subject)| subject).collect()
}

#[test]
fn a_second_sensor_that_falls_silent_is_told_while_the_first_one_is() {
    let site = two_sensors();
    let hub = site.start();
    let mut client = sensor(&hub);
    let mut number = 0;
    let mut says = |station| {
        number += 1;
        client.publish_through(&weather_topic(station), &weather(station, number), 1);
    };
    let [first, second] = [1, 2].map(|number| format!("ingest.silence/test/station{number}/weathermeters"));
    says(1);
    wait_for("the first to be told", PATIENTLY, || {
        says(2);
        subjects(&hub, "firing") == [&*first]
    });
    wait_for("the second to be told", PATIENTLY, || subjects(&hub, "firing") == [&*first, &*second]);
    hub.wait_said(0, &["alert: ", " firing (", "no reading comes from test/station2"], SOON);
    wait_for("the end of the first", PATIENTLY, || {
        says(1);
        subjects(&hub, "firing") == [&*second] && subjects(&hub, "ended") == [&*first]
    });
    let told = hub.said_since(0, &["alert: ", " firing ("]);
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn a_sensor_that_is_still_silent_after_a_restart_was_not_back() {
    let site = two_sensors();
    let hub = site.start();
    wait_for("both to be told", PATIENTLY, || listed(&hub, "firing").len() == 2);
    let told = listed(&hub, "firing");
    wait_for("their rows", SOON, || site.number("SELECT count(*) FROM alert_episode") == 2);
    hub.kill_9();
    let hub = site.start();
    // Longer than it takes until they are found silent anew.
    assert!(!holds_within(Duration::from_secs(7), || listed(&hub, "firing") != told), "{:?}", listed(&hub, "ended"));
    assert!(healthz(&hub, "ingest.silence").2.is_some());
    let mut client = sensor(&hub);
    client.publish_through(&weather_topic(1), &weather(1, 1), 1);
    wait_for("the end of one", SOON, || listed(&hub, "ended") == told[..1]);
    assert_eq!(site.number("SELECT count(*) FROM alert_episode"), 2, "one was told anew");
}
