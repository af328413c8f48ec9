//! The checks of the hub's own parts, broken for real and mended again: told everywhere, and so is the end.
//!
//! Owns what an owner is to learn of router, writer and queue. Where nothing outside can break a part, a fault comes on command
//! (`HUB_TEST_FAULTS`, debug builds only). What the watchdog makes of them is tested in `service.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;

use rusqlite::Connection;
use support::health::{healthz, often, telling, wait_over, wait_told};
use support::mqtt::{Client, Connect};
use support::sensor::{Fleet, Load, weather, weather_topic};
use support::{Hub, PATIENTLY, SOON, Site, is_root, set_mode, wait_for};

const NOBODY: u32 = 65_534;

fn with_faults(site: &Site) -> Hub {
    let mut command = site.run_command();
    command.env("HUB_TEST_FAULTS", site.file("faults"));
    site.start_with(command)
}

fn sensor(hub: &Hub) -> Client {
    Connect::new(4, "sensor").open(hub.mqtt)
}

#[test]
fn a_router_that_stands_still_is_told_within_a_minute_and_its_return_too() {
    // At the usual interval.
    let site = telling(60, "");
    let hub = with_faults(&site);
    fs::write(site.file("faults"), "hang trunk\n").unwrap();
    wait_told(&site, &hub, 0, "broker.round_trip", &["the broker does not answer"], PATIENTLY);
    assert_eq!(healthz(&hub, "broker.round_trip").0, 503);
    let mark = hub.log_end();
    fs::remove_file(site.file("faults")).unwrap();
    wait_over(&hub, mark, "broker.round_trip", PATIENTLY);
}

#[test]
fn a_write_that_hangs_is_told_before_it_has_failed() {
    let site = often("write_silence_s = 4\n");
    let hub = with_faults(&site);
    fs::write(site.file("faults"), "hang store-writer\n").unwrap();
    sensor(&hub).publish(&weather_topic(1), &weather(1, 0), 1, 1, false);
    wait_told(&site, &hub, 0, "store.write", &["has not been written", "0 failures in a row"], PATIENTLY);
    wait_for("it to be failing", PATIENTLY, || healthz(&hub, "store.write").0 == 503);
    let mark = hub.log_end();
    fs::remove_file(site.file("faults")).unwrap();
    wait_over(&hub, mark, "store.write", PATIENTLY);
}

#[test]
fn a_heartbeat_that_is_not_written_is_told() {
    let site = often("write_silence_s = 1\n");
    let hub = with_faults(&site);
    wait_for("a heartbeat", SOON, || site.number("SELECT count(*) FROM run") == 1);
    fs::write(site.file("faults"), "panic heartbeat\n").unwrap();
    wait_told(&site, &hub, 0, "store.heartbeat", &["heartbeat"], PATIENTLY);
    assert_eq!(healthz(&hub, "store.heartbeat").0, 503);
    let mark = hub.log_end();
    fs::remove_file(site.file("faults")).unwrap();
    wait_over(&hub, mark, "store.heartbeat", PATIENTLY);
}

#[test]
fn a_queue_that_fills_up_is_told_before_it_is_full() {
    let site = often("[ingest]\nqueue_bytes = 65536\npayload_bytes_max = 1024\n");
    let hub = site.start();
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos0(2));
    let text = wait_told(&site, &hub, 0, "store.queue", &["the queue to the database is"], PATIENTLY);
    assert!(text.contains("readings without QoS are lost so far"), "{text}");
    fleet.halt();
    let mark = hub.log_end();
    other.execute_batch("COMMIT").unwrap();
    wait_over(&hub, mark, "store.queue", PATIENTLY);
}

#[test]
fn a_directory_that_cannot_be_written_is_told() {
    let site = often("");
    let site = if is_root() { site.owned_by(NOBODY) } else { site };
    let hub = site.start();
    set_mode(site.dir(), 0o555);
    wait_told(&site, &hub, 0, "store.directory", &["directory cannot be written"], PATIENTLY);
    let mark = hub.log_end();
    set_mode(site.dir(), 0o755);
    wait_over(&hub, mark, "store.directory", PATIENTLY);
}
