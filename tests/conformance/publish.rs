//! PUBLISH: what its flags mean on the way in and on the way out, and what is kept of it.
//!
//! Owns DUP, QoS, RETAIN and the retained messages. The handshakes are in `acks.rs`.

use super::VERSIONS;
use super::raw::{Connect, Raw, publish, section, unsubscribe};
use crate::support::Site;
use crate::support::packet::{packet, text};

#[test]
fn dup_is_told_of_retransmissions_alone() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Raw::connected(&hub, 4, "subscriber");
    subscriber.subscribe("a", 1);
    for version in VERSIONS {
        let mut publisher = Raw::connected(&hub, version, "publisher");
        publisher.publish(0x3A, "a", 5, "marked");
        let first = subscriber.delivery();
        assert_eq!((first.dup, first.qos, first.text()), (false, 1, "marked"));
        subscriber.ack(&first);
        publisher.tell(0x30, "a", "unmarked");
        let second = subscriber.delivery();
        assert_eq!((second.dup, second.qos, second.id), (false, 0, 0), "at QoS 0 there is no id");
    }
}

#[test]
fn each_qos_is_answered_with_its_own_packet() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "publisher");
        raw.send(&publish(version, 0x30, "a", 0, &[], b"0"));
        raw.ping();
        raw.send(&publish(version, 0x32, "a", 0x1234, &[], b"1"));
        raw.expect(&[0x40, 2, 0x12, 0x34]);
        raw.send(&publish(version, 0x34, "a", 0xFFFF, &[], b"2"));
        raw.expect(&[0x50, 2, 0xFF, 0xFF]);
        raw.send(&[0x62, 2, 0xFF, 0xFF]);
        raw.expect(&[0x70, 2, 0xFF, 0xFF]);
        raw.ping();
    }
}

#[test]
fn the_last_retained_message_of_a_topic_is_found_by_new_subscribers() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let topic = format!("kept/{version}");
        let mut publisher = Raw::connected(&hub, version, "publisher");
        let found = |filter: &str, options: u8| {
            let mut late = Raw::connected(&hub, version, "late");
            late.subscribe(filter, options);
            late.ping_with_deliveries()
        };
        let kept = |filter: &str, options: u8| {
            let found = found(filter, options);
            found.iter().map(|d| (d.topic.clone(), d.text().to_owned(), d.qos, d.retain)).collect::<Vec<_>>()
        };
        publisher.publish(0x33, &topic, 1, "first");
        publisher.publish(0x33, &topic, 1, "second");
        assert_eq!(kept(&topic, 2), [(topic.clone(), "second".into(), 1, true)], "replaced, at its own QoS");
        assert_eq!(kept("kept/+", 0), [(topic.clone(), "second".into(), 0, true)], "at the subscription's QoS");
        publisher.publish(0x32, &topic, 1, "fleeting");
        publisher.publish(0x32, &topic, 1, "");
        assert_eq!(kept(&topic, 1).len(), 1, "without the flag nothing is kept, replaced or removed");
        publisher.tell(0x31, &topic, "at QoS 0");
        assert_eq!(kept(&topic, 2), [(topic.clone(), "at QoS 0".into(), 0, true)]);
        publisher.publish(0x33, &topic, 1, "");
        assert_eq!(kept(&topic, 1), [], "an empty one removes it, and is not kept itself");
        assert_eq!(kept("kept/#", 1), []);
    }
}

#[test]
fn an_empty_retained_message_is_still_a_message() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut subscriber = Raw::connected(&hub, version, "subscriber");
        subscriber.subscribe("a", 0);
        let mut publisher = Raw::connected(&hub, version, "publisher");
        publisher.publish(0x33, "a", 1, "");
        let delivery = subscriber.delivery();
        assert!(delivery.payload.is_empty() && !delivery.retain);
    }
}

#[test]
fn the_retain_flag_reaches_a_standing_subscription_only_where_it_asks_for_it() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = Raw::connected(&hub, version, "publisher");
        // Before MQTT 5 there is no choice; there, bit 3 is Retain As Published.
        let cases: &[(u8, bool)] = if version == 5 { &[(0x00, false), (0x08, true)] } else { &[(0x00, false)] };
        for (options, passed_on) in cases {
            let mut subscriber = Raw::connected(&hub, version, "subscriber");
            subscriber.subscribe("live", *options);
            publisher.publish(0x33, "live", 1, "flagged");
            assert_eq!(subscriber.delivery().retain, *passed_on, "MQTT level {version}, options {options:#x}");
            publisher.publish(0x32, "live", 1, "plain");
            assert!(!subscriber.delivery().retain);
            publisher.publish(0x33, "live", 1, "");
        }
    }
}

#[test]
fn retain_handling_is_done_as_asked_for() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Raw::connected(&hub, 5, "publisher");
    publisher.publish(0x33, "kept", 1, "x");
    // Retain handling, and how many retained messages come with a first and a second SUBSCRIBE.
    for (handling, first, second) in [(0x00, 1, 1), (0x10, 1, 0), (0x20, 0, 0)] {
        let mut subscriber = Raw::connected(&hub, 5, "subscriber");
        for expected in [first, second] {
            subscriber.subscribe("kept", handling);
            assert_eq!(subscriber.ping_with_deliveries().len(), expected, "handling {handling:#x}");
        }
        subscriber.send(&unsubscribe(5, 1, &["kept"]));
        subscriber.expect(&[0xB0, 4, 0, 1, 0, 0]);
        subscriber.subscribe("kept", handling);
        assert_eq!(subscriber.ping_with_deliveries().len(), first, "a new subscription is new again");
    }
    let mut old = Raw::connected(&hub, 4, "old");
    for _ in 0..2 {
        old.subscribe("kept", 0);
        assert_eq!(old.ping_with_deliveries().len(), 1, "MQTT 3.1.1 sends them each time");
    }
}

#[test]
fn no_local_keeps_a_clients_own_messages_away_even_retained_ones() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Raw::connected(&hub, 5, "client");
    let mut other = Raw::connected(&hub, 5, "other");
    client.publish(0x33, "own", 1, "kept by client");
    other.publish(0x33, "others", 1, "kept by other");
    client.subscribe("#", 0x04);
    let deliveries = client.ping_with_deliveries();
    assert_eq!(deliveries.iter().map(|d| d.text()).collect::<Vec<_>>(), ["kept by other"]);
    client.publish(0x32, "own", 1, "live of client");
    other.publish(0x32, "own", 1, "live of other");
    assert_eq!(client.delivery().text(), "live of other");
}

#[test]
fn retained_messages_outlive_the_session_that_sent_them() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = Raw::connected(&hub, version, "publisher");
        publisher.publish(0x33, "kept", 1, "x");
        publisher.send(&[0xE0, 0]);
        publisher.closed();
        Raw::connected(&hub, version, "publisher").ping();
        let mut late = Raw::connected(&hub, version, "late");
        late.subscribe("kept", 0);
        assert_eq!(late.delivery().text(), "x");
    }
}

#[test]
fn what_travels_with_a_message_arrives_as_it_was_sent() {
    let site = Site::new();
    let hub = site.start();
    let mut live = Raw::connected(&hub, 5, "live");
    live.subscribe("a", 0);
    let pair = |name: &str, value: &str| [&[0x26][..], &text(name), &text(value)].concat();
    let sent = [
        vec![0x01, 1],
        [&[0x03][..], &text("text/plain; charset=utf-8")].concat(),
        [&[0x08][..], &text("answers/\u{FEFF}1")].concat(),
        vec![0x09, 0, 3, 0, 0xFF, 7],
        pair("b", "2"),
        pair("a", "1"),
        pair("b", ""),
        pair("", "\u{FEFF}"),
    ];
    let mut publisher = Raw::connected(&hub, 5, "publisher");
    publisher.send(&publish(5, 0x31, "a", 0, &sent.concat(), "né".as_bytes()));
    let mut late = Raw::connected(&hub, 5, "late");
    let first = live.delivery();
    late.subscribe("a", 0);
    let second = late.delivery();
    for delivery in [first, second] {
        let flat = |(id, value): &(u8, Vec<u8>)| [&[*id][..], value].concat();
        let mut got: Vec<Vec<u8>> = delivery.properties.iter().map(flat).collect();
        assert_eq!(got.split_off(4), sent[4..], "user properties in their order");
        got.sort();
        assert_eq!(got, sent[..4]);
        assert_eq!(delivery.text(), "né");
    }
}

#[test]
fn a_message_without_properties_is_delivered_with_a_length_of_none() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Raw::connected(&hub, 5, "subscriber");
    subscriber.subscribe("a", 0);
    Raw::connected(&hub, 4, "publisher").tell(0x30, "a", "x");
    subscriber.expect(&packet(0x30, &[&text("a")[..], &section(5, &[]), b"x"].concat()));
    let mut old = Connect::new(4, "old").open(&hub).0;
    old.subscribe("a", 0);
    Raw::connected(&hub, 5, "publisher").tell(0x30, "a", "x");
    old.expect(&packet(0x30, &[&text("a")[..], b"x"].concat()));
}
