//! Wills: when one is published, how, and when never.
//!
//! Owns the will of a connection; its malformed forms are in `connect.rs`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::VERSIONS;
use super::raw::{Connect, Raw, publish, user_property};
use crate::support::packet::text;
use crate::support::{Hub, SOON, Signal, Site, wait_for};

fn watcher(hub: &Hub) -> Raw {
    let mut watcher = Raw::connected(hub, 5, "watcher");
    // At QoS 2, the retain flag as published, no retained messages of earlier rounds.
    watcher.subscribe("will/#", 0x28 | 2);
    watcher
}

#[test]
fn a_will_is_published_with_its_qos_and_its_retain_flag() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for qos in 0..=2 {
            for retain in [false, true] {
                let mut watcher = watcher(&hub);
                let topic = format!("will/{version}/{qos}/{retain}");
                let flags = qos << 3 | u8::from(retain) << 5;
                drop(Connect::new(version, "dying").will(flags, &[], &topic, "gone").open(&hub));
                let delivery = watcher.delivery();
                assert_eq!((delivery.topic.as_str(), delivery.text()), (topic.as_str(), "gone"));
                assert_eq!((delivery.qos, delivery.retain, delivery.dup), (qos, retain, false));
                let mut late = Raw::connected(&hub, version, "late");
                late.subscribe(&topic, 2);
                assert_eq!(late.ping_with_deliveries().len(), usize::from(retain));
            }
        }
    }
}

#[test]
fn a_will_is_dropped_by_an_ordinary_goodbye_and_by_that_alone() {
    let site = Site::new();
    let hub = site.start();
    let goodbyes: &[(u8, &[u8], bool)] = &[
        (4, &[0xE0, 0], false),
        (5, &[0xE0, 0], false),
        (5, &[0xE0, 1, 0x00], false),
        (5, &[0xE0, 2, 0x00, 0], false),
        (5, &[0xE0, 1, 0x04], true),
        (5, &[0xE0, 1, 0x80], true),
        (5, &[0xE0, 2, 0x81, 0], true),
        (5, &[0xE0, 1, 0x93], true),
        // Not a goodbye: the flags are wrong.
        (4, &[0xE1, 0], true),
        (5, &[0xE1, 0], true),
    ];
    for (version, goodbye, published) in goodbyes {
        let mut watcher = watcher(&hub);
        let (mut dying, _) = Connect::new(*version, "dying").will(0, &[], "will/a", "gone").open(&hub);
        dying.send(goodbye);
        dying.closed();
        if *published {
            assert_eq!(watcher.delivery().text(), "gone", "{goodbye:02X?}");
        }
        // Whatever became of it, it is not there any more.
        let (mut again, _) = Connect::new(*version, "dying").open(&hub);
        again.send(&[0xE0, 0]);
        again.closed();
        drop(Connect::new(*version, "dying").open(&hub));
        watcher.silent();
    }
}

#[test]
fn without_the_will_flag_there_is_no_will() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut watcher = Raw::connected(&hub, 5, "watcher");
        watcher.subscribe("#", 0);
        drop(Connect::kept(version, "dying").will(0, &[], "will/a", "earlier").open(&hub));
        assert_eq!(watcher.delivery().text(), "earlier");
        drop(Connect::kept(version, "dying").open(&hub));
        watcher.silent();
        Connect::new(version, "dying").open(&hub);
    }
}

#[test]
fn a_wills_properties_travel_with_it_in_their_order() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    let own = [vec![0x01, 1], [&[0x03][..], &text("text/plain")].concat(), vec![0x09, 0, 2, 9, 9]];
    let pairs = [user_property("b", "1"), user_property("a", "2"), user_property("b", "1")];
    let properties = [own.concat(), pairs.concat()].concat();
    drop(Connect::new(5, "dying").will(0, &properties, "will/a", "gone").open(&hub));
    let got: Vec<Vec<u8>> =
        watcher.delivery().properties.iter().map(|(id, value)| [&[*id][..], value].concat()).collect();
    assert_eq!(got[3..], pairs);
    for property in own {
        assert!(got[..3].contains(&property), "{property:02X?}");
    }
}

#[test]
fn a_delayed_will_waits_for_its_time_and_is_dropped_when_the_client_is_back() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    let delay = |seconds: u8| [0x18, 0, 0, 0, seconds];
    let connect = Connect::kept(5, "dying").will(0, &delay(1), "will/a", "gone");
    drop(connect.open(&hub));
    let cut = Instant::now();
    assert_eq!(watcher.delivery().text(), "gone");
    assert!(cut.elapsed() >= Duration::from_millis(900), "published after {:?}", cut.elapsed());

    drop(connect.open(&hub));
    let (mut back, _) = Connect::kept(5, "dying").open(&hub);
    back.ping();
    // The second will's time is over when a third, as long, has come.
    drop(Connect::kept(5, "other").will(0, &delay(2), "will/b", "end").open(&hub));
    assert_eq!(watcher.delivery().text(), "end");

    // A session that ends before the delay takes its will with it, at once.
    let ends = Connect::new(5, "brief").properties(&[]).will(0, &delay(60), "will/c", "ended");
    drop(ends.open(&hub));
    assert_eq!(watcher.delivery().text(), "ended");
}

#[test]
fn a_takeover_publishes_the_will_of_the_older_connection() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut watcher = watcher(&hub);
        let (mut old, _) = Connect::new(version, "twin").will(0, &[], "will/a", "old").open(&hub);
        let (mut new, _) = Connect::new(version, "twin").open(&hub);
        assert_eq!(old.ended_with(), (version == 5).then_some(0x8E));
        assert_eq!(watcher.delivery().text(), "old");
        new.ping();
    }
}

#[test]
fn wills_are_published_when_the_hub_stops() {
    let site = Site::new();
    let hub = site.start();
    let mut clients = Vec::new();
    for number in 0..100 {
        let topic = format!("will/{number:02}");
        let connect = Connect::new(VERSIONS[number % 2], &topic).will(0x28, &[], &topic, "offline");
        let (mut client, _) = connect.open(&hub);
        client.publish(0x33, &topic, 1, "online");
        clients.push(client);
    }
    let reading = "{\"utc\":1759479845}";
    clients.push(Connect::new(4, "sensor").will(0, &[], "a/weathermeters", reading).open(&hub).0);
    // One that waits for its time, and one that was dropped.
    let delayed = Connect::kept(5, "delayed").will(0x28, &[0x18, 0, 0, 0, 100], "will/delayed", "offline");
    drop(delayed.open(&hub));
    let (mut polite, _) = Connect::new(4, "polite").will(0x20, &[], "will/polite", "offline").open(&hub);
    polite.send(&[0xE0, 0]);
    polite.closed();
    assert!(hub.stop().success());

    let hub = site.start();
    let mut watcher = Raw::connected(&hub, 4, "watcher");
    watcher.subscribe("will/#", 1);
    let mut topics = BTreeSet::new();
    for _ in 0..101 {
        let delivery = watcher.delivery();
        watcher.ack(&delivery);
        assert_eq!(delivery.text(), "offline", "{}", delivery.topic);
        topics.insert(delivery.topic);
    }
    assert!(topics.len() == 101 && topics.contains("will/delayed") && !topics.contains("will/polite"));
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn a_will_does_not_wait_for_the_acks_of_a_hub_that_stops() {
    let site = Site::new();
    let mut hub = site.start();
    let (mut client, _) = Connect::new(4, "client").will(0x28, &[], "will/a", "offline").open(&hub);
    client.publish(0x33, "will/a", 1, "online");
    let kept = "SELECT count(*) FROM retained";
    wait_for("the retained message in the database", SOON, || site.number(kept) == 1);
    let other = rusqlite::Connection::open(site.db()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    client.send(&publish(4, 0x32, "a/weathermeters", 2, &[], b"{}"));
    client.ping();
    hub.signal(Signal::TERM);
    let stopping = Instant::now();
    // Longer than the hub waits for wills, shorter than for its storage.
    wait_for("the end of the lock", SOON, || stopping.elapsed() > Duration::from_millis(2_500));
    other.execute_batch("COMMIT").unwrap();
    client.expect(&[0x40, 2, 0, 2]);
    assert_eq!(hub.wait_exit(SOON).code(), Some(0));
    let hub = site.start();
    let mut watcher = Raw::connected(&hub, 4, "watcher");
    watcher.subscribe("will/#", 1);
    assert_eq!(watcher.delivery().text(), "offline");
}
