//! The gap ledger as its owner reads it: what is missing, and why; samples that are sent twice; what happened to the hub.
//!
//! Owns the causes of gaps and the events, each made for real. How pauses become gaps is tested in `src/gaps/`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;
use support::health::{get, often};
use support::mqtt::{Client, Connect};
use support::sensor::weather_topic;
use support::watch::figure;
use support::{Hub, PATIENTLY, SOON, Site, now_s, wait_for};

/// The time between two readings of the tests' sensors.
const INTERVAL: Duration = Duration::from_millis(100);
const SOURCE: &str = "test/station1/weathermeters";

fn sample(utc: i64, number: u64) -> Vec<u8> {
    format!(r#"{{"utc":{utc},"sampleinterval":{},"anemometercount":{number}}}"#, INTERVAL.as_millis()).into_bytes()
}

/// A sample of a sensor that samples once in five seconds.
fn slow(utc: i64, number: u64) -> Vec<u8> {
    format!(r#"{{"utc":{utc},"sampleinterval":5000,"anemometercount":{number}}}"#).into_bytes()
}

/// A sensor with a rhythm.
struct Rhythmic {
    client: Client,
    next: Instant,
    number: u64,
}

impl Rhythmic {
    fn connect(hub: &Hub, number: u64) -> Rhythmic {
        Rhythmic { client: Connect::new(4, "rhythmic").open(hub.mqtt), next: Instant::now(), number }
    }

    fn wait(&mut self, intervals: u32) {
        let next = self.next.max(Instant::now() - INTERVAL) + INTERVAL * intervals;
        wait_for("the sensor's time", PATIENTLY, || Instant::now() >= next);
        self.next = next;
    }

    /// Sends good readings, one each interval.
    fn send(&mut self, count: u64) {
        for _ in 0..count {
            self.wait(1);
            self.number += 1;
            self.client.publish_through(&weather_topic(1), &sample(now_s(), self.number), 1);
        }
    }
}

fn gaps(site: &Site) -> Value {
    let mut command = site.command("gaps");
    command.args(["--from", "1h", "--json"]);
    let output = site.refused(command, SOON);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("gaps prints JSON")
}

/// Returns the causes of a report's gaps and how many readings each lacks.
fn causes(report: &Value) -> Vec<(String, i64)> {
    let source = report["sources"].as_array().unwrap().iter().find(|found| found["source"] == SOURCE).unwrap();
    let count = |key: &str| source[key].as_i64().unwrap();
    assert_eq!(count("expected"), count("stored") + count("missing"), "{source}");
    let gaps = source["gaps"].as_array().unwrap();
    gaps.iter().map(|gap| (gap["cause"].as_str().unwrap().to_owned(), gap["missing"].as_i64().unwrap())).collect()
}

fn events(site: &Site) -> Vec<Value> {
    let mut command = site.command("events");
    command.args(["list", "--json"]);
    let output = site.refused(command, SOON);
    serde_json::from_slice(&output.stdout).expect("events prints JSON")
}

fn event(site: &Site, kind: &str) -> Option<Value> {
    events(site).into_iter().find(|event| event["kind"] == kind)
}

#[test]
fn a_sensor_that_was_silent_and_one_that_sent_garbage_are_told_apart() {
    let site = often("");
    let hub = site.start();
    wait_for("this run in the database", SOON, || site.number("SELECT count(*) FROM run") == 1);
    let mut sensor = Rhythmic::connect(&hub, 0);
    sensor.send(10);
    sensor.wait(20);
    sensor.send(10);
    for _ in 0..15 {
        sensor.wait(1);
        sensor.client.publish_through(&weather_topic(1), b"?", 1);
    }
    sensor.send(10);
    let report = gaps(&site);
    let found = causes(&report);
    let told: Vec<&str> = found.iter().map(|(cause, _)| cause.as_str()).collect();
    assert_eq!(told, ["sensor_silent", "rejected"], "{report}");
    assert!((18..=24).contains(&found[0].1) && (13..=19).contains(&found[1].1), "{report}");
    let (code, answer) = get(&hub, "/api/v1/gaps?from=1h&source=test%2Fstation1%2Fweathermeters");
    assert_eq!((code, causes(&serde_json::from_str(&answer).unwrap())[..2] == found[..2]), (200, true), "{answer}");
    assert_eq!(get(&hub, "/api/v1/gaps?from=yesterday").0, 400);
    let output = site.refused(site.command("gaps"), SOON);
    let said = String::from_utf8_lossy(&output.stdout);
    for words in [SOURCE, "stored 30 of", "missing: the sensor was silent", "missing: rejected, see the quarantine"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn a_hub_that_was_killed_is_the_cause_of_what_is_missing_and_an_event() {
    let site = often("");
    let hub = site.start();
    wait_for("this run in the database", SOON, || site.number("SELECT count(*) FROM run") == 1);
    let mut sensor = Rhythmic::connect(&hub, 0);
    sensor.send(12);
    hub.kill_9();
    sensor.wait(20);
    assert_eq!(causes(&gaps(&site)).last().unwrap().0, "hub_down", "while it is down");
    let hub = site.start();
    let mut sensor = Rhythmic::connect(&hub, sensor.number);
    sensor.send(10);
    let report = gaps(&site);
    let found = causes(&report);
    assert!(found.iter().all(|(cause, _)| cause == "hub_down") && found.len() == 1, "{report}");
    assert!(found[0].1 >= 18, "{report}");
    wait_for("the event", SOON, || event(&site, "hub.unclean").is_some());
    let unclean = event(&site, "hub.unclean").unwrap();
    assert!(unclean["text"].as_str().unwrap().contains("it was last seen alive at"), "{unclean}");
    let mut ack = site.command("events");
    ack.args(["ack", &unclean["id"].to_string()]);
    let output = site.refused(ack, SOON);
    assert!(output.status.success(), "{output:?}");
    assert!(event(&site, "hub.unclean").unwrap()["acknowledged_ms"].is_i64());
    let listed: Vec<Value> = serde_json::from_str(&get(&hub, "/api/v1/events").1).unwrap();
    assert!(listed.iter().any(|event| event["kind"] == "hub.unclean"), "{listed:?}");
    let mut unknown = site.command("events");
    unknown.args(["ack", "999"]);
    assert_eq!(site.refused(unknown, SOON).status.code(), Some(1));
    assert!(hub.stop().success());
    let hub = site.start();
    assert!(hub.stop().success());
    let unclean = events(&site).iter().filter(|event| event["kind"] == "hub.unclean").count();
    assert_eq!(unclean, 1, "a stop in order is no event");
    let mut ack = site.command("events");
    ack.args(["ack", "1"]);
    assert!(site.refused(ack, SOON).status.success(), "also while no hub runs");
}

#[test]
fn what_a_full_queue_lost_is_the_cause_of_what_is_missing_and_an_event() {
    let site = Site::with_config(
        "[health]\ninterval_s = 1\nwrite_failures_max = 1\n[ingest]\nqueue_bytes = 131072\npayload_bytes_max = 65536\n",
    );
    let hub = site.start();
    wait_for("this run in the database", SOON, || site.number("SELECT count(*) FROM run") == 1);
    let mut sensor = Rhythmic::connect(&hub, 0);
    sensor.send(10);
    let lock = Connection::open(site.db()).unwrap();
    lock.busy_timeout(SOON).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Another source fills the queue.
    let mut flood = Connect::new(4, "flood").open(hub.mqtt);
    while figure(&site, "lost") == 0 {
        (0..200).for_each(|number| flood.publish(&weather_topic(2), &sample(now_s(), number), 0, 0, false));
        flood.ping();
    }
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        sensor.wait(1);
        sensor.number += 1;
        sensor.client.publish(&weather_topic(1), &sample(now_s(), sensor.number), 0, 0, false);
    }
    sensor.client.ping();
    hub.wait_said(0, &["degraded mode: "], PATIENTLY);
    lock.execute_batch("ROLLBACK").unwrap();
    wait_for("the database to be written", PATIENTLY, || figure(&site, "queue_jobs") == 0);
    sensor.send(10);
    wait_for("the event", PATIENTLY, || event(&site, "store.lost").is_some());
    let lost = event(&site, "store.lost").unwrap();
    assert!(lost["text"].as_str().unwrap().contains("readings with QoS 0 were lost between"), "{lost}");
    let degraded = events(&site).iter().filter(|event| event["kind"] == "store.degraded").count();
    assert_eq!(degraded, 2, "it began and ended");
    let report = gaps(&site);
    let found = causes(&report);
    assert!(found.iter().any(|(cause, missing)| cause == "queue_overflow" && *missing > 10), "{report}");
    assert!(found.iter().all(|(cause, _)| cause != "rejected" && cause != "hub_down"), "{report}");
}

#[test]
fn a_sample_that_is_sent_again_as_a_new_message_is_stored_once_also_over_a_restart() {
    let site = Site::new();
    let hub = site.start();
    let (utc, topic) = (now_s(), weather_topic(1));
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    for (utc, number) in [(utc, 1), (utc, 1), (utc, 2), (utc - 5, 1), (utc - 5, 1), (utc, 2)] {
        client.publish_through(&topic, &slow(utc, number), 1);
    }
    assert_eq!((site.weather_count(), figure(&site, "repeats"), figure(&site, "readings")), (3, 3, 3));
    assert!(get(&hub, "/metrics").1.contains("\nstationhub_repeats_total 3\n"));
    // One that sends no time, one that samples ten times a second, and a magnetometer, send what they send.
    for _ in 0..3 {
        client.publish_through(&topic, br#"{"temperature":5}"#, 1);
        client.publish_through(&topic, &sample(utc, 9), 1);
        client.publish_through("test/station1/magneticfluxsensor/", br#"{"x":1,"y":2,"z":3}"#, 1);
    }
    assert_eq!((site.weather_count(), site.number("SELECT count(*) FROM magnetic_flux_data")), (9, 3));
    hub.kill_9();
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    for (utc, number) in [(utc - 5, 1), (utc, 2), (utc, 1), (utc, 3), (utc + 1, 1)] {
        client.publish_through(&topic, &slow(utc, number), 1);
    }
    assert_eq!((site.weather_count(), figure(&site, "repeats")), (11, 3));
}

#[test]
fn statistics_say_how_much_of_the_last_hour_is_stored() {
    let site = Site::with_config("[stats]\ninterval_s = 1\n");
    let hub = site.start();
    let mut sensor = Rhythmic::connect(&hub, 0);
    sensor.send(12);
    hub.wait_said(0, &["statistics:", ", stored 12 of "], SOON);
    hub.wait_said(0, &["expected in the last hour"], SOON);
}
