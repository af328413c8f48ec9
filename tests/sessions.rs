//! MQTT sessions: takeover, what waits for a client that is away, expiry, and wills.
//!
//! Owns what outlives a connection while the hub runs. Readings across a restart are in `crash.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use support::mqtt::{Client, Connect, Packet};
use support::{Hub, SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];

fn watcher(hub: &Hub, filter: &str) -> Client {
    let mut watcher = Connect::new(4, "watcher").open(hub.mqtt);
    watcher.subscribe(filter, 1);
    watcher
}

#[test]
fn a_second_connection_with_the_same_id_takes_over() {
    let site = Site::new();
    let hub = site.start();
    for old_version in VERSIONS {
        for new_version in VERSIONS {
            let mut watcher = watcher(&hub, "will/#");
            let mut old = Connect::new(old_version, "twin").will("will/twin", b"old", 1).open(hub.mqtt);
            let mut new = Connect::new(new_version, "twin").open(hub.mqtt);
            assert_eq!(old.expect_closed(), (old_version == 5).then_some(0x8E));
            assert_eq!(watcher.receive().payload, b"old", "the old connection's will");
            new.subscribe("hello", 1);
            new.publish_through("hello", b"x", 1);
            assert_eq!(new.receive().payload, b"x");
        }
    }
}

#[test]
fn takeovers_in_quick_succession_leave_one_connection() {
    let site = Site::new();
    let hub = site.start();
    let connect = Connect::new(4, "flapping").persistent();
    let mut clients: Vec<Client> = (0..50).map(|_| connect.open(hub.mqtt)).collect();
    let mut last = clients.pop().unwrap();
    clients.iter_mut().for_each(|client| {
        client.expect_closed();
    });
    last.publish_through("a/weathermeters", b"{}", 1);
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn a_persistent_session_keeps_messages_for_a_client_that_is_away() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for version in VERSIONS {
        for polite in [true, false] {
            let connect = Connect::new(version, "away").persistent();
            let mut client = connect.open(hub.mqtt);
            client.subscribe("news/#", 1);
            if polite {
                client.disconnect()
            } else {
                client.cut()
            }
            for number in 0..100u8 {
                publisher.publish_through("news/today", &[number], 1);
            }
            let mut client = connect.open(hub.mqtt);
            assert!(client.session_present, "MQTT level {version}");
            for number in 0..100u8 {
                let message = client.receive();
                assert_eq!((message.payload, message.qos), (vec![number], 1));
            }
            publisher.publish_through("news/today", b"live", 1);
            assert_eq!(client.receive().payload, b"live", "still subscribed");
            client.unsubscribe(&["news/#"]);
            publisher.publish_through("news/today", b"unseen", 1);
            client.disconnect();
            let mut client = connect.open(hub.mqtt);
            client.ping();
            client.assert_silent_for(Duration::from_millis(200));
            // Ends the session for the next round.
            client.disconnect();
            Connect::new(version, "away").open(hub.mqtt).disconnect();
        }
    }
}

#[test]
fn what_was_delivered_but_not_acked_comes_again_marked_dup() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for version in VERSIONS {
        let connect = Connect::new(version, &format!("forgetful-{version}")).persistent();
        let mut client = connect.open(hub.mqtt);
        client.subscribe("news", 1);
        publisher.publish_through("news", b"1", 1);
        publisher.publish_through("news", b"2", 1);
        let first = client.receive_unacked();
        let second = client.receive_unacked();
        assert_eq!((first.dup, second.dup), (false, false));
        client.cut();

        let mut client = connect.open(hub.mqtt);
        assert!(client.session_present);
        for sent in [first, second] {
            let again = client.receive();
            assert!(again.dup, "MQTT level {version}");
            assert_eq!((again.id, again.payload), (sent.id, sent.payload));
        }
        client.ping();
        client.cut();
        let mut client = connect.open(hub.mqtt);
        client.ping();
        client.assert_silent_for(Duration::from_millis(200));
    }
}

#[test]
fn a_qos2_delivery_is_completed_after_a_reconnect() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::new(version, &format!("half-way-{version}")).persistent();
        let mut client = connect.open(hub.mqtt);
        client.subscribe("exact", 2);
        let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
        publisher.publish_through("exact", b"once", 2);
        let message = client.receive_unacked();
        assert_eq!(message.qos, 2);
        let [high, low] = message.id.to_be_bytes();
        client.send(&[0x50, 2, high, low]).unwrap();
        assert_eq!(client.read(SOON).unwrap(), Packet::PubRel { id: message.id });
        client.cut();

        let mut client = connect.open(hub.mqtt);
        assert_eq!(client.read(SOON).unwrap(), Packet::PubRel { id: message.id });
        client.send(&[0x70, 2, high, low]).unwrap();
        client.ping();
        publisher.publish_through("exact", b"next", 2);
        assert_eq!(client.receive().payload, b"next");
    }
}

#[test]
fn a_clean_session_is_forgotten() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for version in VERSIONS {
        let id = format!("clean-{version}");
        let mut client = Connect::new(version, &id).open(hub.mqtt);
        assert!(!client.session_present);
        client.subscribe("news", 1);
        client.disconnect();
        publisher.publish_through("news", b"missed", 1);
        let mut client = Connect::new(version, &id).persistent().open(hub.mqtt);
        assert!(!client.session_present, "a clean session was kept");
        client.subscribe("news", 1);
        client.disconnect();
        publisher.publish_through("news", b"kept, then thrown away", 1);
        let mut client = Connect::new(version, &id).open(hub.mqtt);
        assert!(!client.session_present, "a clean start was ignored");
        publisher.publish_through("news", b"nobody listens", 1);
        client.ping();
        client.assert_silent_for(Duration::from_millis(200));
    }
}

#[test]
fn an_mqtt_5_session_lives_as_long_as_it_asked_for() {
    let site = Site::new();
    let hub = site.start();
    let connect = |id: &str, expiry_s: u32| {
        let mut connect = Connect::new(5, id).expiry_s(expiry_s);
        connect.clean = false;
        connect
    };
    connect("short", 1).open(hub.mqtt).cut();
    connect("long", 3600).open(hub.mqtt).cut();
    connect("none", 0).open(hub.mqtt).cut();
    let cut = Instant::now();
    wait_for("the end of the short session", SOON, || cut.elapsed() > Duration::from_secs(3));
    assert!(!connect("short", 1).open(hub.mqtt).session_present);
    assert!(connect("long", 3600).open(hub.mqtt).session_present);
    assert!(!connect("none", 0).open(hub.mqtt).session_present);
}

#[test]
fn a_will_is_published_when_the_socket_is_cut_and_not_after_disconnect() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut watcher = watcher(&hub, "will/#");
            let connect = |id: &str| Connect::new(version, id).will(&format!("will/{id}"), id.as_bytes(), qos);
            connect("polite").open(hub.mqtt).disconnect();
            connect("cut").open(hub.mqtt).cut();
            let message = watcher.receive();
            assert_eq!(message.topic, "will/cut", "MQTT level {version}, QoS {qos}");
            assert_eq!((message.payload.as_slice(), message.qos), (&b"cut"[..], qos.min(1)));
            watcher.disconnect();
        }
    }
}

#[test]
fn an_mqtt_5_client_can_leave_and_ask_for_its_will() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub, "will");
    let mut client = Connect::new(5, "with-will").will("will", b"asked", 1).open(hub.mqtt);
    client.send(&[0xE0, 1, 0x04]).unwrap();
    assert_eq!(watcher.receive().payload, b"asked");
}

#[test]
fn a_will_is_published_when_the_client_sends_garbage() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut watcher = watcher(&hub, "will");
        let mut client = Connect::new(version, "mad").will("will", b"mad", 1).open(hub.mqtt);
        client.send(&[0xFF; 64]).unwrap();
        client.expect_closed();
        assert_eq!(watcher.receive().payload, b"mad");
    }
}

#[test]
fn a_subscriber_that_reads_nothing_holds_up_nobody() {
    let site = Site::new();
    let hub = site.start();
    let mut stuck = Connect::new(4, "stuck").open(hub.mqtt);
    stuck.subscribe("load", 1);
    let mut quick = Connect::new(4, "quick").open(hub.mqtt);
    quick.subscribe("load", 1);
    let mut publisher = Connect::new(5, "publisher").open(hub.mqtt);
    let payload = vec![7; 10_000];
    for number in 0..2_000u32 {
        let payload = [&number.to_be_bytes()[..], &payload].concat();
        publisher.publish_through("load", &payload, 1);
        assert_eq!(quick.receive().payload[..4], number.to_be_bytes());
    }
    publisher.publish_through("a/weathermeters", b"{}", 1);
    assert_eq!(site.weather_count(), 1);
    stuck.cut();
}
