//! What the broker keeps over a restart, clean or not: retained messages and sessions.
//!
//! Owns the proof that a restart of the hub is no event for its clients. Readings over a restart are in `crash.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::mqtt::{Client, Connect, publish};
use support::{Hub, SOON, Site, wait_for};

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
