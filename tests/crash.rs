//! Sudden and graceful ends under load: `kill -9`, SIGTERM, a second signal.
//!
//! Owns promises 1 and 2 across a restart. It never damages the storage; `storage_faults.rs` does.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpStream;
use std::time::Duration;

use rusqlite::Connection;
use support::mqtt::{Client, Connect};
use support::sensor::{Fleet, Load, assert_acked_are_stored_once, assert_all_sent_are_stored_once, weather};
use support::{Dice, Hub, PATIENTLY, SOON, Signal, Site, wait_for, wait_for_a_moment};

const ROUNDS: u32 = 20;
const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";

#[test]
fn acked_readings_survive_kill_9() {
    let site = Site::new();
    let mut dice = Dice::new();
    let mut hub = site.start();
    let load = Load { pause: Duration::from_millis(1), ..Load::qos1(4) };
    let fleet = Fleet::start(hub.mqtt, 0, load);
    for round in 1..=ROUNDS {
        let before = fleet.acked();
        wait_for("acks after the restart", SOON, || fleet.acked() > before + 100);
        // Not a wait: the moment of the blow is what varies.
        wait_for_a_moment(&mut dice, 250_000);
        hub.kill_9();
        println!("round {round}: killed after {} acks in all", fleet.acked());
        hub = site.start();
        fleet.move_to(hub.mqtt);
    }
    let sensors = fleet.finish(PATIENTLY);
    assert_acked_are_stored_once(site.db(), &sensors);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn sensors_that_never_come_back_lose_nothing_that_was_acked() {
    let site = Site::new();
    let mut dice = Dice::new();
    for first in [0, 10, 20] {
        let hub = site.start();
        let fleet = Fleet::start(hub.mqtt, first, Load::qos1(10));
        wait_for("acks", SOON, || fleet.acked() > 500);
        wait_for_a_moment(&mut dice, 100_000);
        hub.kill_9();
        let sensors = fleet.halt();
        assert_acked_are_stored_once(site.db(), &sensors);
    }
}

#[test]
fn sigterm_under_load_ends_within_10_s_with_every_acked_reading() {
    let site = Site::new();
    let mut hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(10));
    wait_for("2,000 acks", PATIENTLY, || fleet.acked() > 2_000);
    hub.signal(Signal::TERM);
    let status = hub.wait_exit(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{status}");
    for suffix in ["-wal", "-shm"] {
        assert!(!site.beside_db(suffix).exists(), "{suffix} is left behind");
    }
    let sensors = fleet.halt();
    assert_acked_are_stored_once(site.db(), &sensors);
}

#[test]
fn sigint_ends_gracefully_too() {
    let site = Site::new();
    let mut hub = site.start();
    Connect::new(4, "sensor").open(hub.mqtt).publish_through(TOPIC, &weather(1, 1), 1);
    hub.signal(Signal::INT);
    assert_eq!(hub.wait_exit(Duration::from_secs(10)).code(), Some(0));
    assert!(!site.beside_db("-wal").exists());
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn qos0_readings_received_before_sigterm_are_stored() {
    let site = Site::new();
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos0(3));
    wait_for("500 readings", SOON, || fleet.sent() > 500);
    let sensors = fleet.finish(SOON);
    assert!(hub.stop().success());
    assert_all_sent_are_stored_once(site.db(), &sensors);
}

#[test]
fn redelivery_after_a_restart_makes_no_second_row() {
    type End = fn(Hub);
    let ends: [(&str, End); 2] = [("kill -9", Hub::kill_9), ("SIGTERM", |hub| assert!(hub.stop().success()))];
    for (name, end) in ends {
        for version in [4, 5] {
            let site = Site::new();
            let connect = Connect::new(version, "sensor").persistent();
            let readings: Vec<Vec<u8>> = (0..=40).map(|number| weather(1, number)).collect();
            let hub = site.start();
            let mut client = connect.open(hub.mqtt);
            for (id, reading) in (1..=40).zip(&readings) {
                client.publish(TOPIC, reading, 1, id, false);
                client.expect_puback(id);
            }
            client.publish(TOPIC, &readings[40], 2, 41, false);
            client.expect_pubrec(41);
            assert_eq!(site.weather_count(), 41);
            client.cut();
            end(hub);

            let hub = site.start();
            let mut client = connect.open(hub.mqtt);
            for (id, reading) in (1..=40).zip(&readings) {
                client.publish(TOPIC, reading, 1, id, true);
                client.expect_puback(id);
            }
            client.publish(TOPIC, &readings[40], 2, 41, true);
            client.expect_pubrec(41);
            client.pubrel(41);
            assert_eq!(site.weather_count(), 41, "{name}, MQTT level {version}");
            client.publish(TOPIC, &readings[0], 1, 1, false);
            client.expect_puback(1);
            assert_eq!(site.weather_count(), 42, "a repeat without DUP is a reading");
        }
    }
}

/// A hub that has been told to end while another program holds its database, and one reading waits for it.
struct Ending {
    hub: Hub,
    client: Client,
    other: Connection,
}

fn ending_behind_a_lock(site: &Site) -> Ending {
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    client.publish(TOPIC, &weather(1, 1), 1, 1, false);
    client.ping();
    hub.signal(Signal::TERM);
    wait_for("the listener's end", SOON, || TcpStream::connect(hub.mqtt).is_err());
    Ending { hub, client, other }
}

#[test]
fn sigterm_while_the_database_is_locked_waits_for_it() {
    let site = Site::new();
    let Ending { mut hub, mut client, other } = ending_behind_a_lock(&site);
    other.execute_batch("COMMIT").unwrap();
    client.expect_puback(1);
    assert_eq!(hub.wait_exit(SOON).code(), Some(0));
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn a_second_signal_ends_a_hub_that_waits_for_its_storage() {
    let site = Site::new();
    let Ending { mut hub, .. } = ending_behind_a_lock(&site);
    hub.signal(Signal::INT);
    let status = hub.wait_exit(Duration::from_secs(3));
    assert_ne!(status.code(), Some(0), "an unstored reading is no clean end");
}
