//! SUBSCRIBE, UNSUBSCRIBE and their answers.
//!
//! Owns what each filter of a packet is answered with, and what a subscription changes. Filters themselves are in
//! `topics.rs`.

use super::VERSIONS;
use super::raw::{Connect, Raw, section, subscribe, unsubscribe};
use crate::support::Site;
use crate::support::packet::{packet, text};

/// Returns a SUBSCRIBE of several filters.
fn subscribe_all(version: u8, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|(filter, qos)| [&text(filter)[..], &[*qos]].concat()).collect();
    packet(0x82, &[&id.to_be_bytes()[..], &section(version, &[]), &filters].concat())
}

#[test]
fn a_subscribe_is_answered_with_a_code_for_each_filter_in_their_order() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        // Without problem information, so that MQTT 5 adds no reason string.
        let properties: &[u8] = if version == 5 { &[0x17, 0] } else { &[] };
        let (mut raw, _) = Connect::new(version, "client").properties(properties).open(&hub);
        raw.send(&subscribe_all(version, 0xABCD, &[("a", 2), ("b/#/c", 1), ("c", 0), ("d+", 0), ("e", 1), ("a", 1)]));
        let codes = if version == 5 { [2, 0x8F, 0, 0x8F, 1, 1] } else { [2, 0x80, 0, 0x80, 1, 1] };
        raw.expect(&packet(0x90, &[&[0xAB, 0xCD][..], &section(version, &[]), &codes].concat()));
        raw.ping();
        // The failures did not keep the rest from being subscribed to; the later of two equal filters holds.
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        for (topic, qos) in [("a", 1), ("c", 0), ("e", 1)] {
            publisher.send(&super::raw::publish(4, 0x34, topic, 1, &[], topic.as_bytes()));
            publisher.next();
            publisher.send(&[0x62, 2, 0, 1]);
            publisher.next();
            let delivery = raw.delivery();
            assert_eq!((delivery.text(), delivery.qos), (topic, qos));
        }
        raw.silent();
    }
}

#[test]
fn an_equal_filter_replaces_its_subscription() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.publish(0x33, "a", 1, "kept");
        let mut raw = Raw::connected(&hub, version, "client");
        assert_eq!(raw.subscribe("a", 1), 1);
        assert_eq!(raw.delivery().qos, 1);
        assert_eq!(raw.subscribe("a", 0), 0);
        let again = raw.delivery();
        assert_eq!((again.text(), again.qos, again.retain), ("kept", 0, true), "retained messages come again");
        publisher.publish(0x32, "a", 1, "live");
        let live = raw.delivery();
        assert_eq!((live.text(), live.qos, live.retain), ("live", 0, false), "and each live one once, at the new QoS");
        raw.silent();
    }
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_qos_that_matches() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let mut raw = Raw::connected(&hub, version, "client");
            for (filter, qos) in ["a/#", "a/+", "a/b"].into_iter().zip(order) {
                raw.subscribe(filter, qos);
            }
            let mut publisher = Raw::connected(&hub, 4, "publisher");
            publisher.send(&super::raw::publish(4, 0x34, "a/b", 1, &[], b"x"));
            publisher.next();
            assert_eq!(raw.delivery().qos, 2, "MQTT level {version}, {order:?}");
            raw.silent();
        }
    }
}

#[test]
fn an_unsubscribe_is_answered_once_with_its_id_whatever_it_finds() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "client");
        for filter in ["a", "b/+", "c/#"] {
            raw.subscribe(filter, 1);
        }
        raw.send(&unsubscribe(version, 0x0102, &["c/#", "never", "a", "a", "b/c"]));
        match version {
            4 => raw.expect(&[0xB0, 2, 1, 2]),
            _ => raw.expect(&[0xB0, 8, 1, 2, 0, 0x00, 0x11, 0x00, 0x11, 0x11]),
        }
        raw.ping();
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        for topic in ["a", "c", "c/d", "b/c"] {
            publisher.publish(0x32, topic, 1, topic);
        }
        assert_eq!(raw.delivery().topic, "b/c", "what was not named stays");
        raw.silent();
    }
}

#[test]
fn filters_are_compared_letter_by_letter_when_they_are_left() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "client");
        raw.subscribe("News/é/+", 0);
        let others = ["news/é/+", "News/e\u{301}/+", "News/é/a", "News/é/+/", "/News/é/+", "News/é/#", "#", "+/é/+"];
        raw.send(&unsubscribe(version, 1, &others));
        raw.next();
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.tell(0x30, "News/é/a", "1");
        assert_eq!(raw.delivery().text(), "1");
        raw.send(&unsubscribe(version, 1, &["News/é/+"]));
        raw.next();
        publisher.tell(0x30, "News/é/a", "2");
        raw.silent();
    }
}

#[test]
fn a_delivery_that_has_begun_is_completed_after_unsubscribe() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::kept(version, "client");
        let (mut raw, _) = connect.open(&hub);
        raw.subscribe("a", 2);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.publish(0x32, "a", 1, "one");
        publisher.send(&super::raw::publish(4, 0x34, "a", 2, &[], b"two"));
        publisher.next();
        let (one, two) = (raw.delivery(), raw.delivery());
        raw.send(&unsubscribe(version, 1, &["a"]));
        raw.next();
        publisher.publish(0x32, "a", 1, "three");
        raw.silent();
        drop(raw);
        let (mut raw, _) = connect.open(&hub);
        let (one_again, two_again) = (raw.delivery(), raw.delivery());
        assert_eq!((one_again.id, one_again.text()), (one.id, "one"));
        assert_eq!((two_again.id, two_again.text()), (two.id, "two"));
        raw.ack(&one);
        let [high, low] = two.id.to_be_bytes();
        raw.send(&[0x50, 2, high, low]);
        raw.expect(&[0x62, 2, high, low]);
        raw.send(&[0x70, 2, high, low]);
        raw.ping();
        raw.silent();
        Connect::new(version, "client").open(&hub);
    }
}

#[test]
fn a_suback_has_the_id_of_its_subscribe() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "client");
        for id in [1, 0x00FF, 0x0100, 0xFFFF] {
            raw.send(&subscribe(version, id, "a", 2));
            let [high, low] = id.to_be_bytes();
            raw.expect(&packet(0x90, &[&[high, low][..], &section(version, &[]), &[2]].concat()));
        }
    }
}
