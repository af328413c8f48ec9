//! The checks of the bridge, broken for real and mended again: told everywhere, and so is the end.
//!
//! Owns what an owner is to learn of the upstream. That all arrives is tested in `bridge_faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use rusqlite::Connection;
use support::health::{often, wait_over, wait_told};
use support::mqtt::{Client, Connect};
use support::sensor::{weather, weather_topic};
use support::upstream::free_port;
use support::{Hub, PATIENTLY, Site, wait_for};

/// Makes the site of a hub whose upstream has this port.
fn bridged(port: u16, more: &str) -> Site {
    often(&format!("[bridge]\nurl = \"mqtt://127.0.0.1:{port}\"\nreconnect_s_max = 1\n{more}"))
}

/// Starts another hub as the upstream.
fn upstream(site: &Site, port: u16) -> Hub {
    let mut command = site.command("run");
    for (flag, file) in [("--pid", "hub.pid"), ("--ready-file", "ready.json"), ("--log", "hub.log")] {
        command.arg(flag).arg(site.file(file));
    }
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--http", "127.0.0.1:0"]);
    site.start_with(command)
}

fn sensor(hub: &Hub) -> Client {
    Connect::new(4, "sensor").open(hub.mqtt)
}

#[test]
fn an_upstream_that_is_away_is_told_within_a_minute_and_so_is_its_return() {
    let port = free_port();
    let site = bridged(port, "");
    let hub = site.start();
    sensor(&hub).publish_through(&weather_topic(1), &weather(1, 0), 1);
    let words = ["has not been connected for", "1 messages"];
    wait_told(&site, &hub, 0, "bridge.connection", &words, Duration::from_secs(50));
    let mark = hub.log_end();
    let elsewhere = Site::new();
    let upstream = upstream(&elsewhere, port);
    wait_over(&hub, mark, "bridge.connection", PATIENTLY);
    assert!(upstream.stop().success());
}

#[test]
fn what_waits_for_too_long_behind_a_slow_bridge_is_told_until_it_is_sent() {
    let port = free_port();
    let site = bridged(port, "rate_max = 4\n");
    let hub = site.start();
    let mut client = sensor(&hub);
    for number in 0..40 {
        client.publish_through(&weather_topic(1), &weather(1, number), 1);
    }
    assert!(hub.stop().success());
    // As after an outage: they have waited for longer than the limit of ten minutes.
    let database = Connection::open(site.db()).unwrap();
    database.execute_batch("UPDATE outbox SET received_ms = received_ms - 700000").unwrap();
    drop(database);
    let elsewhere = Site::new();
    let upstream = upstream(&elsewhere, port);
    let hub = site.start();
    wait_told(&site, &hub, hub.log_end(), "bridge.lag", &["lags behind", "all are sent in"], PATIENTLY);
    let mark = hub.log_end();
    wait_over(&hub, mark, "bridge.lag", PATIENTLY);
    wait_for("all readings upstream", PATIENTLY, || elsewhere.weather_count() == 40);
    assert!(upstream.stop().success());
}

#[test]
fn an_outbox_that_is_nearly_full_is_told_until_it_is_empty() {
    let port = free_port();
    let site = bridged(port, "outbox_bytes_max = 1048576\npayload_bytes_max = 100000\n");
    let hub = site.start();
    let mut client = sensor(&hub);
    for _ in 0..18 {
        client.publish_through("farm/notes", &[b'.'; 50_000], 1);
    }
    wait_told(&site, &hub, 0, "bridge.outbox", &["outbox", "full"], PATIENTLY);
    let mark = hub.log_end();
    let elsewhere = Site::new();
    let upstream = upstream(&elsewhere, port);
    wait_over(&hub, mark, "bridge.outbox", PATIENTLY);
    assert!(upstream.stop().success());
}
