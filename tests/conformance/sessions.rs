//! Sessions: what is kept for a client that is away, for how long, and in which order it comes.
//!
//! Owns the session's rules packet by packet; the longer stories are in the suite of the same name beside this one.

use std::time::{Duration, Instant};

use super::VERSIONS;
use super::raw::{Connect, Raw, connack_property, publish};
use crate::support::{Hub, SOON, Site, wait_for};

#[test]
fn unacked_deliveries_come_again_in_their_order_under_their_ids() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let connect = Connect::kept(version, "client");
        let (mut raw, _) = connect.open(&hub);
        raw.subscribe("a", 2);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        for number in 0..6u16 {
            publisher.send(&publish(
                4,
                if number % 2 == 0 { 0x32 } else { 0x34 },
                "a",
                number + 1,
                &[],
                &[b'0' + number as u8],
            ));
            publisher.next();
        }
        let first: Vec<_> = (0..6).map(|_| raw.delivery()).collect();
        // The second is released, the third is done with.
        let [high, low] = first[1].id.to_be_bytes();
        raw.send(&[0x50, 2, high, low]);
        raw.expect(&[0x62, 2, high, low]);
        raw.ack(&first[2]);
        raw.ping();
        drop(raw);
        publisher.publish(0x32, "a", 9, "6");

        let (mut raw, connack) = connect.open(&hub);
        assert_eq!(connack[2], 1);
        raw.expect(&[0x62, 2, high, low]);
        for sent in [0, 3, 4, 5].map(|number| &first[number]) {
            let again = raw.delivery();
            assert_eq!((again.dup, again.id, again.qos, &again.payload), (true, sent.id, sent.qos, &sent.payload));
        }
        let waited = raw.delivery();
        assert_eq!((waited.dup, waited.text()), (false, "6"), "then what came meanwhile");
        raw.silent();
        Connect::new(version, "client").open(&hub);
    }
}

#[test]
fn a_clean_start_leaves_nothing_of_the_session_before_it() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let (mut raw, _) = Connect::kept(version, "client").open(&hub);
        raw.subscribe("a", 1);
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        publisher.publish(0x32, "a", 1, "unacked");
        raw.delivery();
        raw.send(&publish(version, 0x34, "b", 7, &[], b"unreleased"));
        raw.expect(&[0x50, 2, 0, 7]);
        drop(raw);
        publisher.publish(0x32, "a", 1, "queued");

        let (mut raw, connack) = Connect::new(version, "client").open(&hub);
        assert_eq!(connack[2], 0);
        publisher.publish(0x32, "a", 1, "unsubscribed");
        raw.ping();
        raw.silent();
        raw.subscribe("b", 0);
        raw.send(&publish(version, 0x34, "b", 7, &[], b"new"));
        let came = [raw.next(), raw.next()];
        assert!(came.contains(&vec![0x50, 2, 0, 7]), "{came:02X?}");
        assert!(came.iter().any(|packet| packet.ends_with(b"new")), "the id was under way in the session before");
    }
}

#[test]
fn client_ids_tell_sessions_apart() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let ids = ["a", "A", "á", "a ", "a\u{FEFF}"];
        for id in ids {
            let (mut raw, connack) = Connect::kept(version, id).open(&hub);
            assert_eq!(connack[2], 0, "{id:?}");
            raw.subscribe(&format!("for/{id}"), 1);
        }
        let mut publisher = Raw::connected(&hub, 4, "publisher");
        for id in ids {
            publisher.publish(0x32, &format!("for/{id}"), 1, id);
        }
        for id in ids {
            let (mut raw, connack) = Connect::kept(version, id).open(&hub);
            assert_eq!(connack[2], 1);
            assert_eq!(raw.delivery().text(), id);
            raw.silent();
            Connect::new(version, id).open(&hub);
        }
    }
}

/// Asks whether a client has a session, which ends with the question.
fn was_present(hub: &Hub, id: &str) -> bool {
    let (_, connack) = Connect::new(5, id).flags(0).open(hub);
    connack[2] == 1
}

#[test]
fn a_session_ends_when_its_expiry_has_passed_and_not_before() {
    let site = Site::new();
    let hub = site.start();
    let expiry = |seconds: u8| [0x11, 0, 0, 0, seconds];
    drop(Connect::new(5, "none").open(&hub));
    drop(Connect::new(5, "zero").properties(&expiry(0)).open(&hub));
    drop(Connect::new(5, "short").properties(&expiry(1)).open(&hub));
    drop(Connect::new(5, "long").properties(&expiry(200)).open(&hub));
    let (mut open, _) = Connect::new(5, "open").properties(&expiry(1)).open(&hub);
    open.subscribe("a", 1);
    let cut = Instant::now();
    wait_for("the end of the short session", SOON, || cut.elapsed() > Duration::from_secs(2));
    for (id, present) in [("none", false), ("zero", false), ("short", false), ("long", true)] {
        assert_eq!(was_present(&hub, id), present, "{id}");
    }
    // While a client is connected, its session's time does not run.
    Raw::connected(&hub, 4, "publisher").publish(0x32, "a", 1, "x");
    assert_eq!(open.delivery().text(), "x");
}

#[test]
fn a_goodbye_may_change_how_long_the_session_lasts() {
    let site = Site::new();
    let hub = site.start();
    let goodbye = |seconds: u8| [0xE0, 7, 0, 5, 0x11, 0, 0, 0, seconds];
    for (asked, changed, present) in [(200, 0, false), (1, 200, true)] {
        let (mut raw, _) = Connect::new(5, "client").properties(&[0x11, 0, 0, 0, asked]).open(&hub);
        raw.send(&goodbye(changed));
        assert!(raw.closed().is_empty());
        let left = Instant::now();
        wait_for("the first expiry", SOON, || left.elapsed() > Duration::from_millis(1500));
        assert_eq!(was_present(&hub, "client"), present, "{asked} changed to {changed}");
    }
    // Who asked for none cannot have one in the end.
    let (mut raw, _) = Connect::new(5, "client").open(&hub);
    raw.send(&goodbye(200));
    assert_eq!(raw.ended_with(), Some(0x82));
    assert!(!was_present(&hub, "client"));
}

#[test]
fn an_expiry_longer_than_the_hub_allows_is_told() {
    let site = Site::with_config("[broker.limits]\nsession_expiry_s_max = 3600\n");
    let hub = site.start();
    let (_, connack) = Connect::new(5, "client").properties(&[0x11, 0xFF, 0xFF, 0xFF, 0xFF]).open(&hub);
    assert_eq!(connack_property(&connack, 0x11), Some(3600u32.to_be_bytes().to_vec()));
    let (_, connack) = Connect::new(5, "client").properties(&[0x11, 0, 0, 0, 60]).open(&hub);
    assert_eq!(connack_property(&connack, 0x11), None, "what is granted as asked for is not told");
}

#[test]
fn no_message_follows_a_goodbye() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "client");
        raw.send(&[vec![0xE0, 0], publish(version, 0x33, "a", 1, &[], b"too late"), vec![0xC0, 0]].concat());
        assert!(raw.closed().is_empty(), "nothing is answered");
        let mut late = Raw::connected(&hub, version, "late");
        late.subscribe("a", 1);
        assert!(late.ping_with_deliveries().is_empty());
    }
}
