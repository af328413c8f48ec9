//! The hub as an MQTT broker: what any client may expect while it is connected, in 3.1.1 and 5 on one port.
//!
//! Owns delivery, filters and keep-alive. Sessions are in `sessions.rs`, wrong packets in `bad_input.rs`, what the stock
//! server gets wrong in `stock_faults.rs` and `stock_answers.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::time::Duration;

use support::mqtt::{Connect, packet, text};
use support::{SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];

#[test]
fn messages_cross_between_versions_at_the_lower_qos() {
    let site = Site::new();
    let hub = site.start();
    for from in VERSIONS {
        for to in VERSIONS {
            for granted in 0..=2 {
                let mut subscriber = Connect::new(to, "subscriber").open(hub.mqtt);
                assert_eq!(subscriber.subscribe("house/+/light", granted), granted);
                let mut publisher = Connect::new(from, "publisher").open(hub.mqtt);
                for sent in 0..=2 {
                    publisher.publish_through("house/hall/light", &[from, to, sent], sent);
                    let message = subscriber.receive();
                    assert_eq!(message.topic, "house/hall/light");
                    assert_eq!(message.payload, [from, to, sent]);
                    assert_eq!(message.qos, sent.min(granted), "{sent} to {granted}");
                    assert!(!message.dup);
                }
            }
        }
    }
}

#[test]
fn a_station_topic_is_delivered_as_well_as_stored() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Connect::new(4, "display").open(hub.mqtt);
    subscriber.subscribe("#", 1);
    let mut sensor = Connect::new(5, "sensor").open(hub.mqtt);
    for (qos, reading) in [(0, "{\"utc\":1}"), (1, "{\"utc\":2}"), (2, "not a reading")] {
        sensor.publish_through("a/weathermeters/", reading.as_bytes(), qos);
        let message = subscriber.receive();
        assert_eq!(message.topic, "a/weathermeters/", "the topic is not touched");
        assert_eq!(message.payload, reading.as_bytes());
    }
    wait_for("the rows", SOON, || site.weather_count() == 2);
}

#[test]
fn filters_match_what_the_standard_says() {
    let cases = [
        ("a/b/c", "a/b/c", true),
        ("a/b/c", "a/b", false),
        ("a/b/c", "a/b/c/", false),
        ("a/b/c/", "a/b/c/", true),
        ("a/+/c", "a/b/c", true),
        ("a/+/c", "a//c", true),
        ("a/+/c", "a/b/b/c", false),
        ("a/+", "a/", true),
        ("a/+", "a", false),
        ("+", "a", true),
        ("+", "/a", false),
        ("+/+", "/a", true),
        ("/+", "/a", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "ab", false),
        ("#", "a/b", true),
        ("#", "é/x", true),
        ("+/x", "é/x", true),
        ("é/#", "é/x", true),
        ("#", "$test/a", false),
        ("+/a", "$test/a", false),
        ("A", "a", false),
    ];
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for (filter, topic, matches) in cases {
        let mut subscriber = Connect::new(5, "subscriber").open(hub.mqtt);
        assert!(subscriber.subscribe(filter, 0) < 0x80, "{filter}");
        subscriber.subscribe("the/end", 0);
        publisher.publish_through(topic, b"x", 0);
        publisher.publish_through("the/end", b"x", 0);
        let first = subscriber.receive().topic;
        let caught_all = matches!(filter, "#");
        assert_eq!(first == topic, matches, "{filter} and {topic}");
        assert!(caught_all || first == topic || first == "the/end", "{filter}: {first}");
    }
}

#[test]
fn a_wrong_filter_is_refused_and_a_subscription_to_sys_is_not() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for filter in ["a/#/b", "s+", "a#", ""] {
            let mut client = Connect::new(version, "wrong-filter").open(hub.mqtt);
            let id = [0, 1].as_slice();
            let properties = if version == 5 { [0].as_slice() } else { &[] };
            let body = [id, properties, &text(filter), &[1]].concat();
            client.send(&packet(0x82, &body)).unwrap();
            // Both answers are the standard's: a refusal in the SUBACK, or the end of the connection.
            match client.read(SOON) {
                Ok(support::mqtt::Packet::SubAck { codes, .. }) => {
                    assert!(codes[0] >= 0x80, "{filter:?} was granted");
                }
                Ok(support::mqtt::Packet::Disconnect { .. }) | Err(_) => {}
                other => panic!("{filter:?}: {other:?}"),
            }
        }
        let mut client = Connect::new(version, "sys").open(hub.mqtt);
        client.subscribe("$SYS/#", 0);
        client.ping();
    }
}

#[test]
fn unsubscribe_ends_delivery_and_is_always_answered_once() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "client").open(hub.mqtt);
        for filter in ["a", "b", "c"] {
            client.subscribe(filter, 1);
        }
        client.unsubscribe(&["never/subscribed"]);
        client.unsubscribe(&["a", "b"]);
        for topic in ["a", "b", "c"] {
            client.publish_through(topic, b"x", 1);
        }
        assert_eq!(client.receive().topic, "c");
        client.ping();
    }
}

#[test]
fn deliveries_keep_the_order_of_publishes() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Connect::new(5, "subscriber").open(hub.mqtt);
    subscriber.subscribe("n/#", 1);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..500u32 {
        publisher.publish_through(&format!("n/{}", number % 3), &number.to_be_bytes(), 1);
        assert_eq!(subscriber.receive().payload, number.to_be_bytes());
    }
    for number in 0..50u32 {
        publisher.publish_through("n/burst", &number.to_be_bytes(), 1);
    }
    for number in 0..50u32 {
        assert_eq!(subscriber.receive().payload, number.to_be_bytes());
    }
}

#[test]
fn every_one_of_many_subscribers_gets_its_copy() {
    let site = Site::new();
    let hub = site.start();
    let mut subscribers: Vec<_> = (0..50)
        .map(|number| {
            let version = VERSIONS[number % 2];
            let mut client = Connect::new(version, &format!("display-{number}")).open(hub.mqtt);
            client.subscribe(["news/#", "news/today", "+/today"][number % 3], (number % 3) as u8);
            client
        })
        .collect();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..20u8 {
        publisher.publish_through("news/today", &[number], 2);
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.receive().payload, [number]);
        }
    }
}

#[test]
fn overlapping_filters_of_one_client_lose_nothing() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "overlap").open(hub.mqtt);
    for filter in ["a/#", "a/+", "a/b"] {
        client.subscribe(filter, 1);
    }
    for number in 0..20u8 {
        client.publish_through("a/b", &[number], 1);
    }
    client.publish_through("a/end", b"end", 1);
    let mut seen = HashSet::new();
    loop {
        let message = client.receive();
        if message.topic == "a/end" {
            break;
        }
        seen.insert(message.payload[0]);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn large_messages_pass_whole() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "camera").open(hub.mqtt);
    client.subscribe("camera", 1);
    let picture: Vec<u8> = (0..200 * 1024u32).map(|place| (place % 251) as u8).collect();
    client.publish_through("camera", &picture, 1);
    assert!(client.receive().payload == picture);
    client.publish_through("camera", b"", 1);
    assert!(client.receive().payload.is_empty());
}

#[test]
fn keep_alive_closes_the_silent_and_spares_the_rest() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = Connect::new(4, "watcher").open(hub.mqtt);
    watcher.subscribe("gone/#", 1);
    let mut never = Connect::new(4, "no-keep-alive").keep_alive_s(0).open(hub.mqtt);
    for version in VERSIONS {
        let will = format!("gone/{version}");
        let silent = Connect::new(version, "silent").keep_alive_s(1).will(&will, b"gone", 1);
        let mut silent = silent.open(hub.mqtt);
        let opened = std::time::Instant::now();
        let mut alive = Connect::new(version, "alive").keep_alive_s(1).open(hub.mqtt);
        let mut pings = 0;
        let gone = loop {
            alive.ping();
            pings += 1;
            match watcher.read(Duration::from_millis(300)) {
                Ok(support::mqtt::Packet::Publish(message)) => break message,
                _ => assert!(pings < 50, "the silent client lives on"),
            }
        };
        let after = opened.elapsed();
        assert_eq!(gone.topic, will);
        watcher.send(&[0x40, 2, (gone.id >> 8) as u8, gone.id as u8]).unwrap();
        assert!(after >= Duration::from_secs(1), "closed after {after:?}");
        assert!(after <= Duration::from_secs(6), "closed after {after:?}");
        let reason = silent.expect_closed();
        assert!(reason.is_none() || (version == 5 && reason == Some(0x8D)), "{reason:?}");
        alive.ping();
    }
    never.ping();
}

#[test]
fn two_clients_without_an_id_are_not_one() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut first = Connect::new(version, "").open(hub.mqtt);
        let mut second = Connect::new(version, "").open(hub.mqtt);
        first.ping();
        second.ping();
    }
}

#[test]
fn what_a_client_published_before_it_subscribed_does_not_come_back_though_others_had_subscribed() {
    let site = Site::new();
    let hub = site.start();
    let mut others: Vec<_> = (0..4).map(|number| Connect::new(4, &format!("other{number}")).open(hub.mqtt)).collect();
    for other in &mut others {
        other.subscribe("a", 0);
    }
    for round in 0..20 {
        let mut client = Connect::new(4, &format!("client{round}")).open(hub.mqtt);
        let before: Vec<u8> = (0..300).flat_map(|_| support::mqtt::publish(4, b"a", b"before", 0, 0, false)).collect();
        client.send(&before).unwrap();
        client.subscribe("a", 0);
        client.publish("a", b"after", 0, 0, false);
        assert_eq!(client.receive().payload, b"after", "round {round}");
    }
}
