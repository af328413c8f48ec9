//! The QoS 1 and 2 handshakes in both directions, packet ids, and the window.
//!
//! Owns what each side may conclude from an ack. What the acks promise about stored readings is in `promises.rs`.

use std::collections::HashSet;

use super::VERSIONS;
use super::raw::{Connect, Raw, publish};
use crate::support::Site;

fn ids(first: u8, id: u16) -> [u8; 4] {
    [first, 2, (id >> 8) as u8, id as u8]
}

#[test]
fn after_its_puback_an_id_means_a_new_message() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut subscriber = Raw::connected(&hub, 4, "subscriber");
        subscriber.subscribe("a", 0);
        let mut publisher = Raw::connected(&hub, version, "publisher");
        for (first, payload) in [(0x32, "1"), (0x32, "2"), (0x3A, "3"), (0x3A, "3")] {
            publisher.publish(first, "a", 7, payload);
            assert_eq!(subscriber.delivery().text(), payload, "MQTT level {version}");
        }
    }
}

#[test]
fn a_qos_2_message_is_delivered_once_however_often_it_is_sent_before_its_release() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut subscriber = Raw::connected(&hub, 4, "subscriber");
        subscriber.subscribe("a", 0);
        let connect = Connect::kept(version, "publisher");
        let (mut publisher, _) = connect.open(&hub);
        for first in [0x34, 0x3C, 0x34] {
            publisher.send(&publish(version, first, "a", 7, &[], b"once"));
            publisher.expect(&ids(0x50, 7));
        }
        drop(publisher);
        let (mut publisher, _) = connect.open(&hub);
        publisher.send(&publish(version, 0x3C, "a", 7, &[], b"once"));
        publisher.expect(&ids(0x50, 7));
        for _ in 0..2 {
            // A PUBREL that comes again is answered again; MQTT 5 says that the id is unknown by then.
            publisher.send(&ids(0x62, 7));
            assert_eq!(publisher.next()[2..4], [0, 7]);
        }
        publisher.send(&publish(version, 0x3C, "a", 7, &[], b"next"));
        publisher.expect(&ids(0x50, 7));
        publisher.send(&ids(0x62, 7));
        publisher.expect(&ids(0x70, 7));
        assert_eq!(subscriber.delivery().text(), "once", "MQTT level {version}");
        assert_eq!(subscriber.delivery().text(), "next", "after PUBCOMP the id is free, whatever DUP says");
        Connect::new(version, "publisher").open(&hub);
    }
}

#[test]
fn messages_in_flight_have_ids_of_their_own() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let (mut subscriber, _) = Connect::new(version, "subscriber").open(&hub);
        subscriber.subscribe("a", 2);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        let mut ids_seen = HashSet::new();
        for number in 0..40 {
            publisher.publish(0x32, "a", 1, "x");
            let delivery = subscriber.delivery();
            assert!(!delivery.dup && delivery.id != 0);
            assert!(ids_seen.insert(delivery.id), "id {} is in use", delivery.id);
            // Every second is never acked.
            if number % 2 == 0 {
                subscriber.ack(&delivery);
                ids_seen.remove(&delivery.id);
            }
        }
        subscriber.silent();
    }
}

#[test]
fn a_qos_2_delivery_takes_its_four_steps() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::kept(version, "subscriber");
        let (mut subscriber, _) = connect.open(&hub);
        subscriber.subscribe("a", 2);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.send(&publish(4, 0x34, "a", 1, &[], b"x"));
        publisher.expect(&ids(0x50, 1));
        let delivery = subscriber.delivery();
        assert_eq!((delivery.qos, delivery.dup), (2, false));
        subscriber.silent();
        drop(subscriber);

        let (mut subscriber, _) = connect.open(&hub);
        let again = subscriber.delivery();
        assert_eq!((again.qos, again.dup, again.id), (2, true, delivery.id), "unacked until PUBREC");
        for _ in 0..2 {
            subscriber.send(&ids(0x50, delivery.id));
            subscriber.expect(&ids(0x62, delivery.id));
        }
        drop(subscriber);

        let (mut subscriber, _) = connect.open(&hub);
        subscriber.expect(&ids(0x62, delivery.id));
        subscriber.silent();
        subscriber.send(&ids(0x70, delivery.id));
        subscriber.ping();
        drop(subscriber);

        let (mut subscriber, _) = connect.open(&hub);
        subscriber.ping();
        subscriber.silent();
        Connect::new(version, "subscriber").open(&hub);
    }
}

#[test]
fn a_delivery_that_the_client_refuses_is_over() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    // A window of one shows that the refused message has left it.
    let connect = Connect::kept(5, "subscriber").properties(&[0x11, 0, 0, 1, 0, 0x21, 0, 1]);
    for (first, ack) in [(0x32, 0x40), (0x34, 0x50)] {
        let (mut subscriber, _) = connect.open(&hub);
        subscriber.subscribe("a", 2);
        for payload in [b"1", b"2"] {
            publisher.send(&publish(4, first, "a", 1, &[], payload));
            publisher.expect(&ids(ack, 1));
            if ack == 0x50 {
                publisher.send(&ids(0x62, 1));
                publisher.expect(&ids(0x70, 1));
            }
        }
        for payload in ["1", "2"] {
            let delivery = subscriber.delivery();
            assert_eq!(delivery.text(), payload);
            subscriber.send(&[ack, 3, (delivery.id >> 8) as u8, delivery.id as u8, 0x97]);
        }
        subscriber.ping();
        drop(subscriber);
        let (mut subscriber, _) = connect.open(&hub);
        subscriber.ping();
        subscriber.silent();
    }
}

#[test]
fn nothing_is_sent_again_while_the_connection_stands() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let (mut subscriber, _) = Connect::kept(version, "subscriber").open(&hub);
        subscriber.subscribe("a", 1);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.publish(0x32, "a", 1, "1");
        publisher.publish(0x32, "a", 1, "2");
        assert_eq!((subscriber.delivery().text(), subscriber.delivery().text()), ("1", "2"));
        subscriber.subscribe("a", 1);
        subscriber.ping();
        subscriber.silent();
        Connect::new(version, "subscriber").open(&hub);
    }
}

#[test]
fn a_full_window_holds_back_messages_and_nothing_else() {
    let site = Site::new();
    let hub = site.start();
    let (mut subscriber, _) = Connect::new(5, "subscriber").properties(&[0x21, 0, 2]).open(&hub);
    subscriber.subscribe("a/#", 2);
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    for payload in ["1", "2", "3", "4"] {
        publisher.publish(0x32, "a/b", 1, payload);
    }
    let first = subscriber.delivery();
    let second = subscriber.delivery();
    assert_eq!((first.text(), second.text()), ("1", "2"));
    subscriber.silent();
    // Everything else goes on: QoS 0, pings, subscriptions, the client's own messages.
    publisher.tell(0x30, "a/c", "at QoS 0");
    assert_eq!(subscriber.delivery().text(), "at QoS 0");
    subscriber.ping();
    assert_eq!(subscriber.subscribe("b", 1), 1);
    subscriber.publish(0x32, "c", 9, "mine");
    subscriber.silent();
    subscriber.ack(&second);
    assert_eq!(subscriber.delivery().text(), "3");
    subscriber.ack(&first);
    assert_eq!(subscriber.delivery().text(), "4");
}

#[test]
fn acks_of_nothing_are_answered_or_passed_over() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "confused");
        raw.send(&ids(0x40, 77));
        raw.send(&ids(0x70, 77));
        raw.ping();
        for (sent, answered) in [(0x62, 0x70), (0x50, 0x62)] {
            raw.send(&ids(sent, 77));
            // MQTT 5 adds that the id is not known.
            let answer = if version == 5 { vec![answered, 3, 0, 77, 0x92] } else { vec![answered, 2, 0, 77] };
            raw.expect(&answer);
        }
    }
}

#[test]
fn acks_leave_in_the_order_of_the_publishes() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "publisher");
        let mut bytes = Vec::new();
        for id in 1..=50 {
            // Readings wait for the disk, other messages do not.
            let topic = if id % 3 == 0 { "a/weathermeters" } else { "a/b" };
            bytes.extend(publish(version, if id % 2 == 0 { 0x32 } else { 0x34 }, topic, id, &[], b"{}"));
        }
        raw.send(&bytes);
        for id in 1..=50 {
            raw.expect(&ids(if id % 2 == 0 { 0x40 } else { 0x50 }, id));
        }
        raw.send(&(1..=50).filter(|id| id % 2 == 1).flat_map(|id| ids(0x62, id)).collect::<Vec<u8>>());
        for id in (1..=50).filter(|id| id % 2 == 1) {
            raw.expect(&ids(0x70, id));
        }
    }
}

#[test]
fn after_a_refusal_an_id_means_a_new_message() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Raw::connected(&hub, 4, "subscriber");
    subscriber.subscribe("a", 0);
    let mut publisher = Raw::connected(&hub, 5, "publisher");
    // The hub's own topics are no client's to publish on.
    publisher.send(&publish(5, 0x34, "$SYS/uptime", 7, &[], b"x"));
    publisher.expect(&[0x50, 3, 0, 7, 0x87]);
    publisher.send(&publish(5, 0x34, "a", 7, &[], b"new"));
    publisher.expect(&ids(0x50, 7));
    assert_eq!(subscriber.delivery().text(), "new");
    publisher.send(&ids(0x62, 7));
    publisher.expect(&ids(0x70, 7));
}

#[test]
fn messages_of_each_qos_keep_their_order() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for qos in 0..=2u8 {
            let mut subscriber = Raw::connected(&hub, version, "subscriber");
            subscriber.subscribe("a", qos);
            let mut publisher = Raw::connected(&hub, version, "publisher");
            let bytes: Vec<u8> =
                (1..=60).flat_map(|id| publish(version, 0x30 | qos << 1, "a", id, &[], &[id as u8])).collect();
            publisher.send(&bytes);
            for id in 1..=60u16 {
                let delivery = subscriber.delivery();
                assert_eq!((delivery.qos, delivery.payload), (qos, vec![id as u8]), "MQTT level {version}");
            }
        }
    }
}

#[test]
fn when_all_ids_were_used_they_begin_anew_and_leave_out_those_in_use() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Raw::connected(&hub, 4, "subscriber");
    subscriber.subscribe("a", 1);
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    publisher.publish(0x32, "a", 1, "never acked");
    let held = subscriber.delivery().id;
    let batch: Vec<u8> = (1..=50).flat_map(|id| publish(4, 0x32, "a", id, &[], b"x")).collect();
    let (mut last, mut begun_anew) = (held, false);
    while !begun_anew || last <= held {
        publisher.send(&batch);
        for id in 1..=50 {
            publisher.expect(&ids(0x40, id));
        }
        let mut acks = Vec::new();
        for _ in 0..50 {
            let id = subscriber.delivery().id;
            assert!(id != 0 && id != held, "id {id}");
            begun_anew |= id < last;
            last = id;
            acks.extend(ids(0x40, id));
        }
        subscriber.send(&acks);
    }
}
