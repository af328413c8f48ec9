//! Retained messages while the hub runs: what sets and deletes one, and which subscriptions it is sent to.
//!
//! Owns retain handling and retain-as-published too. Whether retained messages outlive the hub is not its business.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::mqtt::{Client, Connect, packet, text};
use support::v5::*;
use support::{Hub, SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];

fn open(hub: &Hub, version: u8, id: &str) -> Client {
    Hello::new(version, id).open(hub.mqtt).0
}

fn none() -> Properties {
    Properties::default()
}

#[test]
fn a_retained_message_waits_for_subscribers_and_the_newest_counts() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = open(&hub, version, "publisher");
        let topic = format!("state/{version}");
        for qos in 0..=2 {
            publisher.deliver(&Sent::new(&topic, b"old", qos).retained());
            publisher.deliver(&Sent::new(&topic, &[qos], qos).retained());
            publisher.deliver(&Sent::new(&topic, b"passing", 1));
            for granted in 0..=2 {
                let mut client = open(&hub, version, "client");
                client.subscribe(&topic, granted);
                let message = client.delivery_acked();
                assert_eq!((message.payload, message.retain), (vec![qos], true));
                assert_eq!(message.qos, qos.min(granted), "{qos} to {granted}");
                assert!(!message.dup);
                client.assert_nothing_waits();
            }
        }
    }
}

#[test]
fn only_an_empty_retained_message_deletes_one() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = open(&hub, version, "publisher");
        let mut live = open(&hub, version, "live");
        live.subscribe("state", 1);
        publisher.deliver(&Sent::new("state", b"on", 1).retained());
        assert!(!live.delivery_acked().retain, "who subscribed before sees it as any other");
        publisher.deliver(&Sent::new("state", b"", 1));
        assert!(live.delivery_acked().payload.is_empty());
        let mut late = open(&hub, version, "late");
        late.subscribe("state", 1);
        assert_eq!(late.delivery_acked().payload, b"on");
        publisher.deliver(&Sent::new("state", b"", 1).retained());
        assert!(live.delivery_acked().payload.is_empty(), "the deletion is delivered too");
        assert!(late.delivery_acked().payload.is_empty());
        late.subscribe("state", 1);
        late.assert_nothing_waits();
    }
}

#[test]
fn retained_messages_are_sent_on_each_subscribe_as_asked() {
    let site = Site::new();
    let hub = site.start();
    open(&hub, 4, "publisher").deliver(&Sent::new("state", b"on", 1).retained());
    let mut client = open(&hub, 5, "client");
    let mut arrives = |options: u8| {
        client.subscribe_with(&[("state", 1 | options)], &none());
        client.send(&[0xC0, 0]).unwrap();
        let (first, body) = client.read_raw(SOON).unwrap();
        if first == 0xD0 {
            return false;
        }
        assert_eq!(first & 0xF1, 0x31, "a retained message: {first:#x} {body:?}");
        // Its packet id stands behind the topic.
        client.send(&[0x40, 2, body[7], body[8]]).unwrap();
        client.expect_raw(0xD0, &[]);
        true
    };
    assert!(!arrives(RETAIN_NEVER), "2: never");
    assert!(!arrives(RETAIN_IF_NEW), "1: not to a subscription that exists");
    assert!(arrives(0), "0: every time");
    assert!(arrives(0));
    assert!(!arrives(RETAIN_NEVER));
    client.unsubscribe(&["state"]);
    let (codes, _) = client.subscribe_with(&[("state", 1 | RETAIN_IF_NEW)], &none());
    assert_eq!(codes, [1]);
    assert_eq!(client.delivery_acked().payload, b"on", "1: to a new one");
    // Before MQTT 5, every SUBSCRIBE.
    let mut old = open(&hub, 4, "old");
    for _ in 0..3 {
        old.subscribe("state", 1);
        assert_eq!(old.delivery_acked().payload, b"on");
    }
    old.assert_nothing_waits();
}

#[test]
fn a_live_message_keeps_its_retain_flag_where_it_is_asked_for() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(&hub, 5, "publisher");
    let mut client = open(&hub, 5, "client");
    client.subscribe_with(&[("kept", RETAIN_AS_PUBLISHED), ("dropped", 0)], &none());
    for (topic, retained, seen) in
        [("kept", true, true), ("kept", false, false), ("dropped", true, false), ("dropped", false, false)]
    {
        let message = Sent::new(topic, b"x", 1);
        publisher.deliver(&if retained { message.retained() } else { message });
        let message = client.delivery_acked();
        assert_eq!((message.topic.as_str(), message.retain), (topic, seen));
    }
    // As a retained message it is one in any case.
    client.subscribe_with(&[("kept", 0), ("dropped", 0)], &none());
    assert!(client.delivery_acked().retain && client.delivery_acked().retain);
}

#[test]
fn retained_messages_come_before_live_ones_and_all_of_them_come() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = open(&hub, version, "publisher");
        for number in 0..150u8 {
            publisher.deliver(&Sent::new(&format!("many/{number}"), &[number], 1).retained());
        }
        let mut client = open(&hub, version, "client");
        client.subscribe("many/#", 1);
        for number in 0..150u8 {
            publisher.deliver(&Sent::new(&format!("many/{number}"), b"live", 1));
        }
        let retained: BTreeSet<u8> = (0..150)
            .map(|_| {
                let message = client.delivery_acked();
                assert!(message.retain, "{message:?} came too early");
                message.payload[0]
            })
            .collect();
        assert_eq!(retained.len(), 150);
        for number in 0..150 {
            let message = client.delivery_acked();
            assert_eq!((message.topic, message.retain), (format!("many/{number}"), false));
        }
        client.assert_nothing_waits();
    }
}

#[test]
fn retained_messages_that_a_lost_client_had_yet_to_get_wait_for_it() {
    let site = Site::with_config("[broker.limits]\ninflight = 2\n");
    let hub = site.start();
    let mut publisher = open(&hub, 5, "publisher");
    for number in 0..5u8 {
        publisher.deliver(&Sent::new(&format!("many/{number}"), &[number], 1).retained());
        publisher.deliver(&Sent::new(&format!("zero/{number}"), &[100 + number], 0).retained());
    }
    for version in VERSIONS {
        let hello = Hello::new(version, &format!("lost-{version}")).kept();
        let (mut client, _) = hello.open(hub.mqtt);
        client.subscribe("many/#", 1);
        client.delivery();
        client.delivery();
        client.cut();
        let (mut client, _) = hello.open(hub.mqtt);
        let numbers: BTreeSet<u8> = (0..5)
            .map(|_| {
                let message = client.delivery_acked();
                assert!(message.retain);
                message.payload[0]
            })
            .collect();
        assert_eq!(numbers, (0..5).collect());
        client.assert_nothing_waits();
    }
}

#[test]
fn an_expired_retained_message_is_none() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(&hub, 5, "publisher");
    publisher.deliver(&Sent::new("state/short", b"x", 1).retained().with(MESSAGE_EXPIRY, 1));
    publisher.deliver(&Sent::new("state/long", b"x", 1).retained().with(MESSAGE_EXPIRY, 100));
    let published = Instant::now();
    let mut client = open(&hub, 5, "client");
    wait_for("the short one's end", SOON, || published.elapsed() > Duration::from_millis(1500));
    client.subscribe("state/#", 1);
    let message = client.delivery_acked();
    assert_eq!(message.topic, "state/long");
    let left = message.properties.numbers(MESSAGE_EXPIRY)[0];
    assert!((80..=99).contains(&left), "{left} s");
    client.assert_nothing_waits();
}

#[test]
fn a_retained_message_carries_the_identifier_of_the_subscription_that_found_it() {
    let site = Site::new();
    let hub = site.start();
    open(&hub, 4, "publisher").deliver(&Sent::new("state", b"on", 1).retained());
    let mut client = open(&hub, 5, "client");
    let number = |number| none().number(SUBSCRIPTION_IDENTIFIER, number);
    client.subscribe_with(&[("state", 1)], &number(1));
    assert_eq!(client.delivery_acked().properties.numbers(SUBSCRIPTION_IDENTIFIER), [1]);
    client.subscribe_with(&[("#", 1)], &number(2));
    assert_eq!(client.delivery_acked().properties.numbers(SUBSCRIPTION_IDENTIFIER), [2]);
    client.assert_nothing_waits();
}

#[test]
fn shared_subscriptions_and_leading_wildcards_find_no_retained_messages_they_should_not() {
    for version in VERSIONS {
        // A hub of its own, so that no earlier member of the group brings its live messages along.
        let site = Site::new();
        let hub = site.start();
        let mut publisher = open(&hub, version, "publisher");
        publisher.deliver(&Sent::new("state", b"on", 1).retained());
        publisher.deliver(&Sent::new("$hidden/state", b"on", 1).retained());
        let mut client = open(&hub, version, "client");
        client.subscribe("$share/pool/#", 1);
        client.subscribe("+/state", 1);
        client.assert_nothing_waits();
        client.subscribe("$hidden/#", 1);
        assert_eq!(client.delivery_acked().topic, "$hidden/state");
        client.assert_nothing_waits();
    }
}

#[test]
fn a_client_with_no_local_hears_everybody_but_itself() {
    let site = Site::new();
    let hub = site.start();
    let mut client = open(&hub, 5, "self");
    client.subscribe_with(&[("t", 1 | NO_LOCAL), ("t/echo", 1)], &none());
    client.deliver(&Sent::new("t", b"mine", 1));
    client.assert_nothing_waits();
    client.deliver(&Sent::new("t/echo", b"mine", 1));
    assert_eq!(client.delivery_acked().payload, b"mine");
    open(&hub, 4, "other").deliver(&Sent::new("t", b"theirs", 1));
    assert_eq!(client.delivery_acked().payload, b"theirs");
    // Subscribed again without it, the client hears itself.
    client.subscribe("t", 1);
    client.deliver(&Sent::new("t", b"mine", 1));
    assert_eq!(client.delivery_acked().payload, b"mine");
}

#[test]
fn a_message_that_several_filters_match_comes_once_at_the_highest_qos() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = open(&hub, version, "overlap");
        client.subscribe_with(&[("a/#", 0), ("a/+", 2), ("a/b", 1), ("#", 0)], &none());
        let mut publisher = open(&hub, version, "publisher");
        for number in 0..100u8 {
            let sent = number % 3;
            publisher.deliver(&Sent::new("a/b", &[number], sent));
            let message = client.delivery_acked();
            assert_eq!((message.payload[0], message.qos), (number, sent));
        }
        client.assert_nothing_waits();
    }
}

#[test]
fn a_repeated_subscribe_replaces_the_options_and_is_one_subscription() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let hello = Hello::new(version, &format!("repeats-{version}")).kept();
        let (mut client, _) = hello.open(hub.mqtt);
        let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
        for qos in [2, 0, 1] {
            assert_eq!(client.subscribe("t", qos), qos);
            publisher.publish_through("t", b"x", 2);
            assert_eq!(client.delivery_acked().qos, qos);
            client.assert_nothing_waits();
        }
        client.cut();
        let (mut client, _) = hello.open(hub.mqtt);
        assert!(client.session_present);
        assert_eq!(client.subscribe("t", 2), 2);
        publisher.publish_through("t", b"x", 2);
        assert_eq!(client.delivery_acked().qos, 2);
        // One UNSUBSCRIBE ends it, also in a resumed session, with one code for each filter.
        let codes = client.unsubscribe_with(&["t", "never", "t"]);
        assert_eq!(codes, if version == 5 { vec![0, 0x11, 0x11] } else { vec![] });
        publisher.publish_through("t", b"x", 2);
        client.assert_nothing_waits();
    }
}

#[test]
fn without_room_for_retained_messages_mqtt_5_clients_are_told_so() {
    let site = Site::with_config("[broker.limits]\nretained_messages = 0\n");
    let hub = site.start();
    let (mut client, terms) = Hello::new(5, "told").open(hub.mqtt);
    assert_eq!(terms.numbers(RETAIN_AVAILABLE), [0]);
    client.send(&Sent::new("state", b"on", 1).retained().bytes(5)).unwrap();
    client.expect_disconnect(0x9A);
    let mut with_will = Hello::new(5, "will");
    with_will.will = Some(Sent::new("state", b"off", 0).retained());
    assert_eq!(with_will.knock(hub.mqtt).1, 0x9A);
    let mut old = open(&hub, 4, "old");
    old.deliver(&Sent::new("state", b"on", 1).retained());
    old.subscribe("state", 1);
    old.assert_nothing_waits();
}

#[test]
fn a_client_that_subscribes_again_and_again_without_reading_costs_no_more_than_the_bound() {
    let site = Site::with_config("[broker.limits]\nretained_bytes = 200000\n");
    let hub = site.start();
    let mut publisher = open(&hub, 4, "publisher");
    let mut client = open(&hub, 5, "deaf");
    let mut narrow = Hello::new(5, "narrow").with(RECEIVE_MAXIMUM, 1).open(hub.mqtt).0;
    let mark = hub.log_end();
    for number in 0..10u8 {
        publisher.deliver(&Sent::new("big", &[number; 50_000], 1).retained());
        narrow.send(&packet(0x82, &[&[0, 1 + number, 0][..], &text("big"), &[1]].concat())).unwrap();
    }
    hub.wait_said(mark, &["cannot keep up", "dropped="], SOON);
    client.subscribe("big", 1);
    assert_eq!(client.delivery_acked().payload[0], 9, "others are served");
}
