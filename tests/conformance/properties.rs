//! MQTT 5's properties of a running connection: sizes, expiry, problem and response information.
//!
//! Owns what a property obliges the hub to do. Their layout is the decoder's, their faults are in `malformed.rs`.

use std::time::{Duration, Instant};

use super::raw::{Connect, Raw, connack_property, publish};
use crate::support::packet::text;
use crate::support::{SOON, Site, wait_for};

fn expiry_of(properties: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, value) = properties.iter().find(|(id, _)| *id == 0x02)?;
    Some(u32::from_be_bytes(value.as_slice().try_into().unwrap()))
}

fn wait_a(seconds: u64) {
    let begun = Instant::now();
    wait_for("time to pass", SOON, || begun.elapsed() > Duration::from_secs(seconds));
}

#[test]
fn a_client_gets_no_packet_larger_than_it_takes() {
    let site = Site::new();
    let hub = site.start();
    let most = 64;
    let connect = Connect::kept(5, "small").properties(&[0x11, 0, 0, 1, 0, 0x27, 0, 0, 0, most, 0x21, 0, 2]);
    let (mut small, _) = connect.open(&hub);
    small.subscribe("a", 2);
    let mut large = Raw::connected(&hub, 5, "large");
    large.subscribe("a", 2);
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    // Two bytes of header, three of topic, two of id, one of properties.
    let fits = "x".repeat(usize::from(most) - 8);
    let too_large = "y".repeat(usize::from(most) - 7);
    for payload in [&too_large, &fits, &too_large, &too_large, &too_large, &fits] {
        publisher.publish(0x32, "a", 1, payload);
        let delivery = large.delivery();
        large.ack(&delivery);
    }
    for _ in 0..2 {
        // What was left out takes no place in the window of two.
        assert_eq!(small.delivery().text(), fits);
    }
    small.silent();
}

#[test]
fn what_is_in_flight_is_not_sent_again_to_a_client_that_now_takes_less() {
    let site = Site::new();
    let hub = site.start();
    let taking = |most: u8| Connect::kept(5, "shrinking").properties(&[0x11, 0, 0, 1, 0, 0x27, 0, 0, 0, most]);
    let (mut client, _) = taking(200).open(&hub);
    client.subscribe("a", 1);
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    publisher.publish(0x32, "a", 1, &"x".repeat(100));
    publisher.publish(0x32, "a", 1, "short");
    client.delivery();
    client.delivery();
    drop(client);
    let (mut client, _) = taking(64).open(&hub);
    let again = client.delivery();
    assert_eq!((again.text(), again.dup), ("short", true));
    client.silent();
}

#[test]
fn a_client_gets_no_connack_larger_than_it_takes() {
    let site = Site::new();
    let hub = site.start();
    for most in 1..=64 {
        let mut raw = Raw::new(&hub, 5);
        raw.send(&Connect::new(5, "").properties(&[0x27, 0, 0, 0, most]).bytes());
        let first = raw.try_next();
        if let Some(connack) = &first {
            assert!(connack.len() <= usize::from(most), "{most}: {connack:02X?}");
            assert_eq!(connack[3], 0, "{connack:02X?}");
        }
        // A refusal with its words is no larger either.
        let method = [&[0x15][..], &text("METHOD"), &[0x27, 0, 0, 0, most]].concat();
        let mut raw = Raw::new(&hub, 5);
        raw.send(&Connect::new(5, "").properties(&method).bytes());
        for connack in raw.closed() {
            assert!(connack.len() <= usize::from(most), "{most}: {connack:02X?}");
            assert_eq!(connack[3], 0x8C);
        }
    }
}

#[test]
fn a_message_comes_with_the_life_that_it_has_left() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Raw::connected(&hub, 5, "publisher");
    let life = |seconds: u8| [0x02, 0, 0, 0, seconds];
    let connect = Connect::kept(5, "client");
    let (mut client, _) = connect.open(&hub);
    client.subscribe("a", 1);
    publisher.send(&publish(5, 0x33, "a", 1, &life(60), b"long"));
    publisher.expect(&[0x40, 2, 0, 1]);
    let unacked = client.delivery();
    assert!(matches!(expiry_of(&unacked.properties), Some(59..=60)), "{unacked:?}");
    drop(client);
    wait_for("the client to be away", SOON, || site.status()["figures"]["clients"] == 1);
    for (payload, seconds) in [("brief", 1), ("longer", 60)] {
        publisher.send(&publish(5, 0x32, "a", 1, &life(seconds), payload.as_bytes()));
        publisher.expect(&[0x40, 2, 0, 1]);
    }
    publisher.send(&publish(5, 0x33, "b", 1, &life(1), b"brief and kept"));
    publisher.expect(&[0x40, 2, 0, 1]);
    wait_a(2);
    let (mut client, _) = connect.open(&hub);
    let again = client.delivery();
    assert!(again.dup && matches!(expiry_of(&again.properties), Some(1..=58)), "{again:?}");
    let queued = client.delivery();
    assert_eq!(queued.text(), "longer", "what expired in the queue is gone");
    assert!(matches!(expiry_of(&queued.properties), Some(1..=58)), "{queued:?}");
    let mut late = Raw::connected(&hub, 5, "late");
    late.subscribe("#", 0);
    let kept = late.ping_with_deliveries();
    assert_eq!(kept.iter().map(|delivery| delivery.text()).collect::<Vec<_>>(), ["long"]);
    assert!(matches!(expiry_of(&kept[0].properties), Some(1..=58)), "{kept:?}");
}

#[test]
fn a_delivery_that_has_begun_does_not_expire() {
    let site = Site::new();
    let hub = site.start();
    let connect = Connect::kept(5, "client");
    let (mut client, _) = connect.open(&hub);
    client.subscribe("a", 2);
    let mut publisher = Raw::connected(&hub, 5, "publisher");
    for (first, id) in [(0x32, 1), (0x34, 2)] {
        publisher.send(&publish(5, first, "a", id, &[0x02, 0, 0, 0, 1], b"x"));
        publisher.next();
    }
    let sent = [client.delivery(), client.delivery()];
    drop(client);
    wait_a(2);
    let (mut client, _) = connect.open(&hub);
    for sent in sent {
        let again = client.delivery();
        assert_eq!((again.id, again.dup), (sent.id, true));
        assert_eq!(expiry_of(&again.properties), Some(0), "nothing is left of its life");
        if again.qos == 2 {
            let [high, low] = again.id.to_be_bytes();
            client.send(&[0x50, 2, high, low]);
            client.expect(&[0x62, 2, high, low]);
            client.send(&[0x70, 2, high, low]);
        }
    }
    client.ping();
}

#[test]
fn a_client_is_told_of_problems_no_more_than_it_asked_for() {
    let site = Site::new();
    let hub = site.start();
    let (mut quiet, connack) = Connect::new(5, "quiet").properties(&[0x17, 0, 0x19, 0]).open(&hub);
    assert_eq!(connack_property(&connack, 0x1A), None, "no response information");
    // Refused filters, unknown filters and unknown ids are where a reason string could be.
    for (sent, answer) in [
        (super::raw::subscribe(5, 1, "a+", 0), vec![0x90, 4, 0, 1, 0, 0x8F]),
        (super::raw::unsubscribe(5, 1, &["never"]), vec![0xB0, 4, 0, 1, 0, 0x11]),
        (vec![0x62, 2, 0, 9], vec![0x70, 3, 0, 9, 0x92]),
        (vec![0x50, 2, 0, 9], vec![0x62, 3, 0, 9, 0x92]),
    ] {
        quiet.send(&sent);
        quiet.expect(&answer);
    }
}

#[test]
fn connack_offers_what_the_hub_does() {
    let site = Site::new();
    let hub = site.start();
    let (_, connack) = Connect::new(5, "client").open(&hub);
    // QoS 2, retained messages and wildcards are the defaults; a server without them would have to say so.
    for absent in [0x24, 0x25, 0x28] {
        assert!(!matches!(connack_property(&connack, absent).as_deref(), Some([0])), "{absent:#x}");
    }
    let receive_maximum = connack_property(&connack, 0x21).expect("a receive maximum");
    assert_ne!(receive_maximum, [0, 0]);
    assert!(connack_property(&connack, 0x27).is_some(), "a maximum packet size");
    assert_eq!(connack_property(&connack, 0x13), None, "the client's keep alive stands");
}
