//! What rumqttd's own server was seen to answer wrongly, or not at all, one test for each fault.
//!
//! Owns the faults that a client sees and others do not. Those that ended the server are in `stock_faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::ErrorKind;
use std::time::Duration;

use support::mqtt::{Client, Connect, Packet, packet, publish, text};
use support::watch::assert_serves;
use support::{SOON, Site};

const VERSIONS: [u8; 2] = [4, 5];

/// Returns a body that begins with packet id 1 and, in MQTT 5, no properties.
fn body(version: u8, rest: &[u8]) -> Vec<u8> {
    let properties: &[u8] = if version == 5 { &[0] } else { &[] };
    [&[0, 1], properties, rest].concat()
}

#[test]
fn every_unsubscribe_is_answered_exactly_once() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "client").open(hub.mqtt);
        ["a", "b", "c"].iter().for_each(|filter| _ = client.subscribe(filter, 1));
        for filters in [["never", "never/either"], ["a", "b"], ["a", "never"]] {
            // Its helper takes one answer; a second one would stand before the PINGRESP.
            client.unsubscribe(&filters);
            client.ping();
        }
        for topic in ["a", "b", "c"] {
            client.publish_through(topic, b"x", 1);
        }
        assert_eq!(client.receive().topic, "c");
        client.ping();
    }
    assert_serves(&site, &hub);
}

#[test]
fn unsubscribe_works_in_a_session_that_was_resumed() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::new(version, &format!("kept-{version}")).persistent();
        let mut client = connect.open(hub.mqtt);
        for filter in ["gone", "stays"] {
            client.subscribe(filter, 1);
        }
        client.cut();
        let mut client = connect.open(hub.mqtt);
        assert!(client.session_present);
        client.unsubscribe(&["gone"]);
        client.publish_through("gone", b"x", 1);
        client.publish_through("stays", b"x", 1);
        assert_eq!(client.receive().topic, "stays");
        client.cut();
        let mut client = connect.open(hub.mqtt);
        client.publish_through("gone", b"x", 1);
        client.publish_through("stays", b"y", 1);
        assert_eq!(client.receive().payload, b"y", "and after another reconnect");
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_pubrel_nobody_waits_for_and_an_unasked_puback_are_no_reason_to_leave() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::new(version, &format!("confused-{version}")).persistent();
        let mut client = connect.open(hub.mqtt);
        client.pubrel(77);
        for unasked in [0x40, 0x50, 0x70] {
            client.send(&[unasked, 2, 0, 77]).unwrap();
            // A PUBREC for nothing is answered with a PUBREL, so that the peer may forget it.
            if unasked == 0x50 {
                assert_eq!(client.read(SOON).unwrap(), Packet::PubRel { id: 77 });
            }
        }
        client.ping();
        let id = client.fresh_id();
        client.publish("a", b"x", 2, id, false);
        client.expect_pubrec(id);
        client.cut();
        let mut client = connect.open(hub.mqtt);
        client.pubrel(id);
        client.pubrel(id);
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_publish_on_a_wildcard_or_on_nothing_is_not_acked() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for topic in ["a/+", "a/#", "#", "+", "a/b+/c", ""] {
            for qos in 1..=2 {
                let mut client = Connect::new(version, "wild").open(hub.mqtt);
                client.send(&publish(version, topic.as_bytes(), b"x", qos, 9, false)).unwrap();
                match client.read(SOON) {
                    Ok(Packet::Disconnect { reason }) => assert!(version == 5 && reason >= 0x80, "{reason:#x}"),
                    Err(error) => assert_ne!(error.kind(), ErrorKind::TimedOut, "{topic:?} got no answer"),
                    Ok(other) => panic!("{topic:?} at QoS {qos}: {other:?}"),
                }
            }
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_filter_that_breaks_the_rules_is_not_granted() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for filter in ["a/#/b", "s+", "s+/a", "a#", "#/a", "a/+b", "a/b#", "++", ""] {
            let mut client = Connect::new(version, "wrong-filter").open(hub.mqtt);
            client.send(&packet(0x82, &body(version, &[&text(filter)[..], &[1]].concat()))).unwrap();
            // Both answers are the standard's: a refusal in the SUBACK, or the end of the connection.
            match client.read(SOON) {
                Ok(Packet::SubAck { codes, .. }) => assert!(codes[0] >= 0x80, "{filter:?} was granted"),
                Ok(Packet::Disconnect { .. }) => {}
                Err(error) => assert_ne!(error.kind(), ErrorKind::TimedOut, "{filter:?} got no answer"),
                Ok(other) => panic!("{filter:?}: {other:?}"),
            }
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_subscription_to_sys_leaves_the_client_connected() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "sys").open(hub.mqtt);
        for filter in ["$SYS/#", "$SYS/broker/uptime", "$other/+"] {
            client.subscribe(filter, 0);
        }
        client.ping();
        client.subscribe("#", 1);
        client.publish_through("a", b"x", 1);
        assert_eq!(client.receive().topic, "a");
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_second_connect_ends_the_connection() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::new(version, "twice");
        let mut client = connect.open(hub.mqtt);
        client.send(&connect.bytes()).unwrap();
        let reason = client.expect_closed();
        assert_eq!(reason, (version == 5).then_some(0x82));
    }
    assert_serves(&site, &hub);
}

#[test]
fn all_of_150_retained_messages_reach_one_subscriber() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..150 {
        let bytes = retained(4, &format!("r/{number}"), &[number]);
        publisher.send(&bytes).unwrap();
        publisher.expect_puback(1);
    }
    for version in VERSIONS {
        for qos in 0..=2 {
            let mut subscriber = Connect::new(version, "subscriber").open(hub.mqtt);
            subscriber.subscribe("r/+", qos);
            let mut numbers: Vec<u8> = (0..150).map(|_| subscriber.receive().payload[0]).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..150).collect::<Vec<u8>>());
            subscriber.ping();
        }
    }
    assert_serves(&site, &hub);
}

/// Returns a retained PUBLISH at QoS 1 with packet id 1.
fn retained(version: u8, topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = publish(version, topic.as_bytes(), payload, 1, 1, false);
    bytes[0] |= 1;
    bytes
}

#[test]
fn a_repeated_subscribe_sends_the_retained_message_again() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "again").open(hub.mqtt);
        client.send(&retained(version, "r", b"kept")).unwrap();
        client.expect_puback(1);
        for _ in 0..3 {
            client.subscribe("r", 1);
            assert_eq!(client.receive().payload, b"kept");
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn an_empty_payload_without_the_retain_flag_clears_nothing() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "cleaner").open(hub.mqtt);
        client.send(&retained(version, "r", b"kept")).unwrap();
        client.expect_puback(1);
        client.publish_through("r", b"", 1);
        client.subscribe("r", 1);
        assert_eq!(client.receive().payload, b"kept");
        client.send(&retained(version, "r", b"")).unwrap();
        client.expect_puback(1);
        assert_eq!(client.receive().payload, b"", "the empty one is delivered as any other");
        client.unsubscribe(&["r"]);
        client.subscribe("r", 1);
        client.ping();
        client.assert_silent_for(Duration::from_millis(100));
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_message_is_delivered_at_the_lower_of_both_qos() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for granted in 0..=2 {
            let mut client = Connect::new(version, "both").open(hub.mqtt);
            client.subscribe("a", granted);
            for sent in 0..=2 {
                client.publish_through("a", &[sent], sent);
                let message = client.receive();
                assert_eq!((message.payload[0], message.qos), (sent, sent.min(granted)));
            }
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn the_receive_maximum_of_a_client_is_kept() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for maximum in [1u16, 3, 10] {
        let id = format!("narrow-{maximum}");
        let properties = [&[3, 0x21][..], &maximum.to_be_bytes()].concat();
        let body = [&text("MQTT")[..], &[5, 2, 0, 60], &properties, &text(&id)].concat();
        let mut narrow = Client::raw(hub.mqtt, 5).unwrap();
        narrow.send(&packet(0x10, &body)).unwrap();
        assert!(matches!(narrow.read(SOON), Ok(Packet::ConnAck { code: 0, .. })));
        narrow.subscribe("many", 2);
        for number in 0..30 {
            publisher.publish_through("many", &[number], 1);
        }
        let mut ids: Vec<u16> = (0..maximum).map(|_| narrow.receive_unacked().id).collect();
        narrow.ping();
        narrow.assert_silent_for(Duration::from_millis(50));
        for number in maximum..30 {
            let id = ids.remove(0);
            narrow.send(&[0x40, 2, (id >> 8) as u8, id as u8]).unwrap();
            let message = narrow.receive_unacked();
            assert_eq!(u16::from(message.payload[0]), number, "in order, one for each ack");
            ids.push(message.id);
        }
    }
    assert_serves(&site, &hub);
}
