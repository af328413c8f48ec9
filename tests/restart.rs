//! What the broker keeps over a restart, clean or not: retained messages and sessions.
//!
//! Owns the proof that a restart of the hub is no event for its clients. Readings over a restart are in `crash.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::mqtt::{Client, Connect, publish};
use support::sensor::{weather, weather_topic};
use support::{Hub, SOON, Signal, Site, wait_for};

/// Publishes with the retain flag at QoS 1 and waits for the ack.
fn retain(client: &mut Client, topic: &str, payload: &[u8]) {
    let id = client.fresh_id();
    let mut bytes = publish(4, topic.as_bytes(), payload, 1, id, false);
    bytes[0] |= 0x01;
    client.send(&bytes).unwrap();
    client.expect_puback(id);
}

fn retained(hub: &Hub, filter: &str, count: usize) -> Vec<(String, Vec<u8>)> {
    let mut client = Connect::new(5, "reader").open(hub.mqtt);
    client.subscribe(filter, 1);
    let mut found: Vec<_> = (0..count)
        .map(|_| {
            let message = client.receive();
            (message.topic, message.payload)
        })
        .collect();
    client.ping();
    found.sort();
    found
}

#[test]
fn retained_messages_survive_a_clean_stop() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "writer").open(hub.mqtt);
    for number in 0..50 {
        retain(&mut client, &format!("state/{number}"), b"first");
        retain(&mut client, &format!("state/{number}"), format!("{number}").as_bytes());
    }
    retain(&mut client, "state/7", b"");
    assert!(hub.stop().success());
    let hub = site.start();
    let found = retained(&hub, "state/+", 49);
    assert!(
        found.iter().all(|(topic, payload)| topic.as_bytes().ends_with(payload) && topic != "state/7"),
        "{found:?}"
    );
    assert!(hub.stop().success());
    assert_eq!(site.number("SELECT count(*) FROM retained"), 49);
}

#[test]
fn retained_messages_survive_kill_9_once_they_are_in_the_database() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "writer").open(hub.mqtt);
    retain(&mut client, "a/b", b"1");
    wait_for("the row", SOON, || site.number("SELECT count(*) FROM retained") == 1);
    retain(&mut client, "a/b", b"");
    retain(&mut client, "a/c", b"2");
    wait_for("the other row", SOON, || site.number("SELECT count(*) FROM retained WHERE topic = 'a/c'") == 1);
    hub.kill_9();
    let hub = site.start();
    assert_eq!(retained(&hub, "#", 1), [("a/c".to_owned(), b"2".to_vec())]);
}

/// Leaves a persistent session behind that subscribes to `jobs/#` at QoS 2.
fn leave_subscribed(hub: &Hub, version: u8, id: &str) {
    let mut client = Connect::new(version, id).persistent().open(hub.mqtt);
    client.subscribe("jobs/#", 2);
    client.disconnect();
}

fn publish_jobs(hub: &Hub, numbers: std::ops::Range<u32>) {
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in numbers {
        publisher.publish_through(&format!("jobs/{number}"), number.to_string().as_bytes(), 1 + (number % 2) as u8);
    }
}

fn receive_jobs(client: &mut Client, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let message = client.receive();
        assert_eq!((message.payload, message.qos), (number.to_string().into_bytes(), 1 + (number % 2) as u8));
    }
    client.ping();
}

#[test]
fn sessions_and_what_waits_for_them_survive_a_clean_stop() {
    let site = Site::new();
    let hub = site.start();
    for version in [4, 5] {
        leave_subscribed(&hub, version, &format!("worker{version}"));
    }
    publish_jobs(&hub, 0..100);
    assert!(hub.stop().success());
    let hub = site.start();
    publish_jobs(&hub, 100..120);
    assert!(hub.stop().success());
    let hub = site.start();
    for version in [4, 5] {
        let mut client = Connect::new(version, &format!("worker{version}")).persistent().open(hub.mqtt);
        assert!(client.session_present);
        receive_jobs(&mut client, 0..120);
        client.disconnect();
    }
    publish_jobs(&hub, 120..121);
    let mut client = Connect::new(4, "worker4").persistent().open(hub.mqtt);
    receive_jobs(&mut client, 120..121);
    assert!(hub.stop().success());
    assert_eq!(site.number("SELECT count(*) FROM session_message WHERE client_id = 'worker4'"), 0);
    assert_eq!(site.number("SELECT count(*) FROM session_message"), 1, "for worker5, who was away");
}

#[test]
fn what_waits_for_an_absent_client_survives_kill_9() {
    let site = Site::new();
    let hub = site.start();
    leave_subscribed(&hub, 5, "worker");
    publish_jobs(&hub, 0..50);
    wait_for("the rows", SOON, || site.number("SELECT count(*) FROM session_message") == 50);
    hub.kill_9();
    let hub = site.start();
    let mut client = Connect::new(5, "worker").persistent().open(hub.mqtt);
    assert!(client.session_present);
    receive_jobs(&mut client, 0..50);
}

#[test]
fn retained_messages_that_change_faster_than_the_disk_syncs_do_not_keep_sessions_from_it() {
    let site = Site::new();
    let mut command = site.run_command_on_a_bad_disk();
    command.env("SLOWSYNC_MS", "30");
    let hub = site.start_with(command);
    leave_subscribed(&hub, 5, "worker");
    let is_seen = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Connect::new(4, "state").open(hub.mqtt);
            let begin = Instant::now();
            while !is_seen.load(Ordering::Relaxed) && begin.elapsed() < 2 * SOON {
                retain(&mut client, "state/now", format!("{:?}", begin.elapsed()).as_bytes());
            }
        });
        wait_for("a retained row", SOON, || site.number("SELECT count(*) FROM retained") == 1);
        publish_jobs(&hub, 0..10);
        wait_for("the rows", SOON, || site.number("SELECT count(*) FROM session_message") == 10);
        is_seen.store(true, Ordering::Relaxed);
    });
    hub.kill_9();
    let hub = site.start();
    let mut client = Connect::new(5, "worker").persistent().open(hub.mqtt);
    receive_jobs(&mut client, 0..10);
}

#[test]
fn states_at_qos_0_that_change_all_the_time_do_not_wear_out_a_slow_disk() {
    let site = Site::new();
    let mut command = site.run_command_on_a_bad_disk();
    command.env("SLOWSYNC_MS", "30");
    let hub = site.start_with(command);
    let commits = || {
        let output = site.command("status").arg("--json").output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        report["figures"]["commits"].as_u64().unwrap()
    };
    let mut client = Connect::new(4, "state").open(hub.mqtt);
    let before = commits();
    let begin = Instant::now();
    for number in 0.. {
        let mut bytes = publish(4, b"state/now", format!("{number}").as_bytes(), 0, 0, false);
        bytes[0] |= 0x01;
        client.send(&bytes).unwrap();
        client.ping();
        if begin.elapsed().as_secs() >= 3 {
            break;
        }
    }
    let written = commits() - before;
    assert!(written <= 5, "{written} transactions in 3 s");
}

#[test]
fn what_was_in_flight_comes_again_with_its_packet_id() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    client.subscribe("jobs/#", 2);
    publish_jobs(&hub, 0..4);
    let first: Vec<_> = (0..4).map(|_| client.receive_unacked()).collect();
    assert!(hub.stop().success());
    let hub = site.start();
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    for before in first {
        let again = client.receive_unacked();
        assert_eq!((again.id, &again.payload, again.dup), (before.id, &before.payload, true));
    }
}

#[test]
fn a_packet_id_that_a_client_may_still_hold_is_not_given_to_another_message_after_kill_9() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    client.subscribe("jobs/#", 2);
    wait_for("the session", SOON, || site.number("SELECT count(*) FROM session WHERE state LIKE '%jobs/#%'") == 1);
    publish_jobs(&hub, 0..4);
    let held: Vec<_> = (0..4).map(|_| client.receive_unacked()).map(|message| message.id).collect();
    hub.kill_9();
    let hub = site.start();
    publish_jobs(&hub, 4..8);
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    let mut new = 0;
    while new < 4 {
        let message = client.receive_unacked();
        if !message.dup {
            new += 1;
            assert!(!held.contains(&message.id), "id {} is used again", message.id);
        }
    }
}

#[test]
fn a_qos_2_reading_that_is_sent_again_without_a_mark_after_a_restart_is_stored_once() {
    let site = Site::new();
    let hub = site.start();
    let (topic, payload) = (weather_topic(1), weather(1, 1));
    let mut sensor = Connect::new(4, "sensor").persistent().open(hub.mqtt);
    sensor.publish(&topic, &payload, 2, 7, false);
    sensor.expect_pubrec(7);
    assert!(hub.stop().success());
    let hub = site.start();
    let mut sensor = Connect::new(4, "sensor").persistent().open(hub.mqtt);
    sensor.publish(&topic, &payload, 2, 7, false);
    sensor.expect_pubrec(7);
    sensor.pubrel(7);
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn sessions_that_ended_leave_nothing_behind() {
    let site = Site::new();
    let hub = site.start();
    for id in ["forgetful", "brief"] {
        leave_subscribed(&hub, 4, id);
    }
    publish_jobs(&hub, 0..3);
    wait_for("the rows", SOON, || site.number("SELECT count(*) FROM session_message") == 6);
    Connect::new(4, "forgetful").open(hub.mqtt).disconnect();
    let mut brief = Connect::new(5, "brief").expiry_s(1);
    brief.clean = false;
    brief.open(hub.mqtt).disconnect();
    wait_for("the session without its owner to go", SOON, || {
        site.number("SELECT count(*) FROM session WHERE client_id = 'forgetful'") == 0
    });
    assert!(hub.stop().success());
    wait_for("the end of the brief session", SOON, || {
        let hub = site.start();
        let is_gone = !Connect::new(5, "brief").expiry_s(1).open(hub.mqtt).session_present;
        assert!(hub.stop().success());
        is_gone && site.number("SELECT count(*) FROM session_message") == 0
    });
}

#[test]
fn a_shared_subscription_is_shared_after_a_restart_too() {
    let site = Site::new();
    let hub = site.start();
    for id in ["one", "two"] {
        let mut client = Connect::new(5, id).persistent().open(hub.mqtt);
        assert_eq!(client.subscribe("$share/team/jobs/#", 1), 1);
        client.disconnect();
    }
    assert!(hub.stop().success());
    let hub = site.start();
    let mut one = Connect::new(5, "one").persistent().open(hub.mqtt);
    let mut publisher = Connect::new(5, "publisher").open(hub.mqtt);
    publisher.publish_through("jobs/1", b"1", 1);
    assert_eq!(one.receive().payload, b"1");
    let mut two = Connect::new(5, "two").persistent().open(hub.mqtt);
    two.ping();
    assert!(two.read(Duration::from_millis(200)).is_err(), "one member alone gets a message");
}

#[test]
fn a_packet_id_that_a_crash_left_behind_does_not_swallow_the_next_message() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "publisher").persistent().open(hub.mqtt);
    client.publish("a", b"1", 2, 7, false);
    client.expect_pubrec(7);
    wait_for("the id", SOON, || site.number("SELECT count(*) FROM session WHERE state LIKE '%\"received\":[7]%'") == 1);
    client.pubrel(7);
    hub.kill_9();
    let hub = site.start();
    let mut reader = Connect::new(4, "reader").open(hub.mqtt);
    reader.subscribe("a", 2);
    let mut client = Connect::new(4, "publisher").persistent().open(hub.mqtt);
    assert!(client.session_present);
    client.publish("a", b"2", 2, 7, false);
    client.expect_pubrec(7);
    client.pubrel(7);
    assert_eq!(reader.receive().payload, b"2");
}

#[test]
fn a_subscription_that_has_no_room_after_a_restart_is_not_taken_for_one_that_stands() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    for filter in ["a", "b", "c"] {
        client.subscribe(filter, 1);
    }
    client.disconnect();
    assert!(hub.stop().success());
    std::fs::write(site.file("hub.toml"), "[broker.limits]\nfilters = 2\nsubscriptions = 2\n").unwrap();
    let hub = site.start();
    let mut client = Connect::new(4, "worker").persistent().open(hub.mqtt);
    assert!(client.session_present);
    assert_eq!(client.subscribe("a", 1), 1);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    publisher.publish_through("a", b"1", 1);
    assert_eq!(client.receive().payload, b"1");
}

#[test]
fn a_lock_that_outlasts_the_stop_is_told_and_one_that_does_not_loses_nothing() {
    for (held, code) in [(Duration::from_secs(2), Some(0)), (Duration::from_secs(60), Some(1))] {
        let site = Site::new();
        let mut hub = site.start();
        leave_subscribed(&hub, 4, "worker");
        wait_for("the session", SOON, || site.number("SELECT count(*) FROM session") == 1);
        let other = rusqlite::Connection::open(site.db()).unwrap();
        other.busy_timeout(SOON).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        publish_jobs(&hub, 0..200);
        hub.signal(Signal::TERM);
        let told = Instant::now();
        let mut other = Some(other);
        wait_for("the end of the hub", SOON, || {
            if told.elapsed() >= held
                && let Some(other) = other.take()
            {
                other.execute_batch("COMMIT").unwrap();
            }
            !hub.is_running()
        });
        assert_eq!(hub.wait_exit(SOON).code(), code, "held for {held:?}: {}", hub.log());
        assert!(told.elapsed() < Duration::from_secs(10), "{:?}", told.elapsed());
        let kept = if code == Some(0) { 200 } else { 0 };
        drop(other);
        assert_eq!(site.number("SELECT count(*) FROM session_message"), kept);
        if kept == 0 {
            assert!(!hub.said_since(0, &[" error ", "retained messages and sessions"]).is_empty(), "{}", hub.log());
        }
    }
}
