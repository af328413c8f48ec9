//! Flow control and redelivery: windows in both directions, the order after a reconnect, and acks that fit nothing.
//!
//! Owns what happens to QoS 1 and 2 messages between their first sending and their last ack, in 3.1.1 and 5.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use support::mqtt::{Client, Connect, packet};
use support::v5::*;
use support::watch::figure;
use support::{Hub, SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];

fn publish(hub: &Hub, topic: &str, numbers: std::ops::Range<u8>, qos: u8) {
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in numbers {
        publisher.publish_through(topic, &[number], qos);
    }
    publisher.disconnect();
}

fn narrow(id: &str, window: u32) -> Hello {
    Hello::new(5, id).kept().with(RECEIVE_MAXIMUM, window)
}

fn kept(version: u8, id: &str) -> Hello {
    Hello::new(version, id).kept()
}

#[test]
fn no_more_is_in_flight_to_a_client_than_it_takes() {
    let site = Site::new();
    let hub = site.start();
    let (mut client, _) = narrow("narrow", 3).open(hub.mqtt);
    client.subscribe_with(&[("t", 2), ("zero", 0)], &Properties::default());
    publish(&hub, "t", 0..8, 1);
    let first: Vec<Sent> = (0..3).map(|_| client.delivery()).collect();
    client.assert_nothing_waits();
    publish(&hub, "zero", 0..1, 0);
    assert_eq!(client.delivery().topic, "zero", "QoS 0 is not counted");
    client.ack(0x40, first[1].id);
    assert_eq!(client.delivery().payload, [3], "an ack lets one more in, whichever it is for");
    client.assert_nothing_waits();
}

#[test]
fn a_qos2_delivery_counts_until_its_pubcomp() {
    let site = Site::new();
    let hub = site.start();
    let (mut client, _) = narrow("narrow", 1).open(hub.mqtt);
    client.subscribe("t", 2);
    publish(&hub, "t", 0..3, 2);
    let first = client.delivery();
    client.ack(0x50, first.id);
    client.expect_ack(0x62, first.id);
    client.assert_nothing_waits();
    client.ack(0x70, first.id);
    // A PUBREC that refuses the message ends it at once.
    let second = client.delivery();
    client.send(&packet(0x50, &[&second.id.to_be_bytes()[..], &[0x80]].concat())).unwrap();
    assert_eq!(client.delivery_acked().payload, [2]);
    client.assert_nothing_waits();
}

#[test]
fn a_resumed_session_sends_again_no_more_than_the_client_takes_now() {
    let site = Site::new();
    let hub = site.start();
    let (mut client, _) = narrow("shrinks", 10).open(hub.mqtt);
    client.subscribe("t", 1);
    publish(&hub, "t", 0..14, 1);
    let sent: Vec<Sent> = (0..10).map(|_| client.delivery()).collect();
    client.ack(0x40, sent[4].id);
    assert_eq!(client.delivery().payload, [10]);
    client.cut();
    let (mut client, _) = narrow("shrinks", 2).open(hub.mqtt);
    assert!(client.session_present);
    let mut expected: Vec<(u8, Option<u16>)> = sent.iter().map(|sent| (sent.payload[0], Some(sent.id))).collect();
    expected.remove(4);
    expected.extend([(10, None), (11, None), (12, None), (13, None)]);
    let mut waiting: Vec<Sent> = Vec::new();
    for (number, id) in expected {
        if waiting.len() == 2 {
            client.assert_nothing_waits();
            let acked = waiting.remove(0);
            client.ack(0x40, acked.id);
        }
        let message = client.delivery();
        assert_eq!(message.payload, [number], "in the order of the first sending");
        assert_eq!(message.dup, number <= 10, "{message:?}");
        assert!(id.is_none_or(|id| id == message.id), "{message:?} was {id:?}");
        waiting.push(message);
    }
    waiting.iter().for_each(|message| client.ack(0x40, message.id));
    client.assert_nothing_waits();
    client.cut();
    narrow("shrinks", 2).open(hub.mqtt).0.assert_nothing_waits();
}

#[test]
fn a_resumed_session_sends_pubrels_in_the_order_of_their_pubrecs_and_no_message_twice() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let hello = kept(version, &format!("order-{version}"));
        let (mut client, _) = hello.open(hub.mqtt);
        client.subscribe("t", 2);
        publish(&hub, "t", 0..5, 2);
        let sent: Vec<Sent> = (0..5).map(|_| client.delivery()).collect();
        for place in [3, 0, 1] {
            client.ack(0x50, sent[place].id);
            client.expect_ack(0x62, sent[place].id);
        }
        // A PUBREC that comes again is answered again.
        client.ack(0x50, sent[0].id);
        client.expect_ack(0x62, sent[0].id);
        client.ack(0x70, sent[0].id);
        client.ping();
        client.cut();
        let (mut client, _) = hello.open(hub.mqtt);
        client.expect_ack(0x62, sent[3].id);
        client.expect_ack(0x62, sent[1].id);
        for place in [2, 4] {
            let again = client.delivery();
            assert_eq!((again.id, again.dup, &again.payload), (sent[place].id, true, &sent[place].payload));
        }
        client.assert_nothing_waits();
        for place in [3, 1] {
            client.ack(0x70, sent[place].id);
        }
        // An id whose exchange is not over is not used for another message.
        publish(&hub, "t", 9..10, 2);
        let fresh = client.delivery();
        assert!(![sent[2].id, sent[4].id].contains(&fresh.id) && !fresh.dup);
    }
}

#[test]
fn messages_that_waited_follow_those_in_flight() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let hello = kept(version, &format!("waits-{version}"));
        let (mut client, _) = hello.open(hub.mqtt);
        client.subscribe("t", 1);
        publish(&hub, "t", 0..2, 1);
        client.delivery();
        client.delivery();
        client.cut();
        publish(&hub, "t", 2..4, 1);
        let (mut client, _) = hello.open(hub.mqtt);
        for number in 0..4 {
            let message = client.delivery_acked();
            assert_eq!((message.payload[0], message.dup), (number, number < 2));
        }
        client.assert_nothing_waits();
    }
}

#[test]
fn acks_that_fit_nothing_are_answered_as_the_standard_says_or_ignored() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Hello::new(version, "confused").open(hub.mqtt).0;
        let not_found = |first: u8| if version == 5 { (first, vec![0, 77, 0x92]) } else { (first, vec![0, 77]) };
        client.ack(0x62, 77);
        assert_eq!(client.read_raw(SOON).unwrap(), not_found(0x70), "PUBREL of nothing");
        client.ack(0x50, 77);
        assert_eq!(client.read_raw(SOON).unwrap(), not_found(0x62), "PUBREC of nothing");
        client.ack(0x40, 77);
        client.ack(0x70, 77);
        client.assert_nothing_waits();
        // An ack of the wrong kind does not end a delivery.
        client.subscribe("t", 2);
        publish(&hub, "t", 0..1, 2);
        let message = client.delivery();
        client.ack(0x40, message.id);
        client.ack(0x70, message.id);
        client.ping();
        client.ack(0x50, message.id);
        client.expect_ack(0x62, message.id);
    }
}

#[test]
fn a_client_that_sends_more_than_the_receive_maximum_is_told_so() {
    let site = Site::with_config("[broker.limits]\ninflight = 4\n");
    let hub = site.start();
    let qos2 = |id: u16| Sent::new("t", b"x", 2).id(id).bytes(5);
    let (mut client, terms) = Hello::new(5, "greedy").open(hub.mqtt);
    assert_eq!(terms.numbers(RECEIVE_MAXIMUM), [4]);
    for id in 1..=4 {
        client.send(&qos2(id)).unwrap();
        client.expect_ack(0x50, id);
    }
    // The PUBREC does not give the place back, the PUBCOMP does.
    client.ack(0x62, 2);
    client.expect_ack(0x70, 2);
    client.deliver(&Sent::new("t", b"x", 1).id(9));
    client.send(&qos2(5)).unwrap();
    client.expect_ack(0x50, 5);
    client.send(&qos2(6)).unwrap();
    client.expect_disconnect(0x93);
}

#[test]
fn messages_sent_again_after_a_reconnect_count_as_any() {
    let site = Site::with_config("[broker.limits]\ninflight = 2\n");
    let hub = site.start();
    let mut watcher = Connect::new(4, "watcher").open(hub.mqtt);
    watcher.subscribe("t", 2);
    let hello = kept(5, "again");
    let message = |id: u16, dup: bool| Sent { dup, ..Sent::new("t", &[id as u8], 2).id(id) }.bytes(5);
    let (mut client, _) = hello.open(hub.mqtt);
    for id in 1..=2 {
        client.send(&message(id, false)).unwrap();
        client.expect_ack(0x50, id);
    }
    client.cut();
    let (mut client, _) = hello.open(hub.mqtt);
    for id in 1..=2 {
        client.send(&message(id, true)).unwrap();
        client.expect_ack(0x50, id);
    }
    for id in 1..=2 {
        client.pubrel(id);
    }
    client.send(&message(3, false)).unwrap();
    client.expect_ack(0x50, 3);
    client.pubrel(3);
    for number in 1..=3 {
        assert_eq!(watcher.receive().payload, [number], "each once");
    }
    watcher.assert_silent_for(Duration::from_millis(100));
    for id in [1, 2, 3] {
        client.send(&message(id, true)).unwrap();
    }
    client.expect_disconnect(0x93);
}

#[test]
fn qos0_never_waits_for_a_client_that_is_away() {
    let site = Site::new();
    let hub = site.start();
    let mut witness = Hello::new(5, "witness").open(hub.mqtt).0;
    for version in VERSIONS {
        let hello = kept(version, &format!("away-{version}"));
        let (mut client, _) = hello.open(hub.mqtt);
        client.subscribe("t", 2);
        client.disconnect();
        publish(&hub, "t", 0..3, 0);
        publish(&hub, "t", 3..4, 1);
        publish(&hub, "t", 4..6, 0);
        // Time for the last of them to have come to the session.
        witness.assert_nothing_waits();
        let (mut client, _) = hello.open(hub.mqtt);
        assert_eq!(client.delivery_acked().payload, [3]);
        client.assert_nothing_waits();
    }
}

#[test]
fn a_queue_that_is_full_drops_the_newest_and_says_so() {
    let site = Site::with_config("[broker.limits]\nsession_queue_messages = 5\n");
    let hub = site.start();
    let mut dropped = 0;
    for version in VERSIONS {
        let hello = kept(version, &format!("slow-{version}"));
        let (mut client, _) = hello.open(hub.mqtt);
        // Each its own topic: the session of the one before is still there.
        let topic = format!("t{version}");
        client.subscribe(&topic, 1);
        client.disconnect();
        let mark = hub.log_end();
        publish(&hub, &topic, 0..9, 1);
        hub.wait_said(mark, &["cannot keep up", "dropped="], SOON);
        // The first of them is told; a client that comes back before the last makes room for it.
        dropped += 4;
        wait_for("all that is too much to be dropped", SOON, || figure(&site, "dropped") == dropped);
        let (mut client, _) = hello.open(hub.mqtt);
        for number in 0..5 {
            assert_eq!(client.delivery_acked().payload, [number]);
        }
        client.assert_nothing_waits();
    }
}

#[test]
fn expired_messages_make_room_in_a_full_queue() {
    let site = Site::with_config("[broker.limits]\nsession_queue_messages = 3\n");
    let hub = site.start();
    let (mut client, _) = kept(5, "away").open(hub.mqtt);
    client.subscribe("t", 1);
    client.disconnect();
    let mut publisher = Hello::new(5, "publisher").open(hub.mqtt).0;
    for _ in 0..3 {
        publisher.deliver(&Sent::new("t", b"short", 1).with(MESSAGE_EXPIRY, 1));
    }
    publisher.assert_silent_for(Duration::from_millis(1100));
    publisher.deliver(&Sent::new("t", b"long", 1));
    let mut client: Client = kept(5, "away").open(hub.mqtt).0;
    assert_eq!(client.delivery_acked().payload, b"long");
    client.assert_nothing_waits();
}

#[test]
fn a_message_that_expires_in_flight_is_delivered_to_its_end() {
    let site = Site::new();
    let hub = site.start();
    let (mut client, _) = kept(5, "slow").open(hub.mqtt);
    client.subscribe("t", 2);
    let mut publisher = Hello::new(5, "publisher").open(hub.mqtt).0;
    publisher.deliver(&Sent::new("t", b"short", 2).with(MESSAGE_EXPIRY, 1));
    let first = client.delivery();
    client.cut();
    publisher.assert_silent_for(Duration::from_millis(1100));
    let (mut client, _) = kept(5, "slow").open(hub.mqtt);
    let again = client.delivery_acked();
    assert_eq!((again.id, again.dup, again.payload), (first.id, true, first.payload));
    assert_eq!(again.properties.numbers(MESSAGE_EXPIRY), [0], "no time is left");
    client.assert_nothing_waits();
}
