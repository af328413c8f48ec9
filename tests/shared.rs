//! Shared subscriptions: each message to one of the subscribers, and none lost with one of them.
//!
//! Owns `$share/NAME/FILTER` in 3.1.1 and 5.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use support::mqtt::{Client, Connect, Packet};
use support::v5::*;
use support::{Hub, SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];
const SHARE: &str = "$share/pool/work/#";

fn member(address: SocketAddr, version: u8, id: &str, qos: u8) -> Client {
    let mut client = Hello::new(version, id).kept().open(address).0;
    assert_eq!(client.subscribe(SHARE, qos), qos);
    client
}

fn publish(hub: &Hub, numbers: std::ops::Range<u8>, qos: u8) {
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in numbers {
        publisher.publish_through("work/piece", &[number], qos);
    }
    publisher.disconnect();
}

/// Returns the first bytes of what is delivered until `count` messages came; all acknowledged.
fn take(client: &mut Client, count: usize) -> Vec<u8> {
    (0..count).map(|_| client.receive().payload[0]).collect()
}

#[test]
fn each_message_goes_to_one_member_in_turn() {
    let site = Site::new();
    let hub = site.start();
    for qos in 0..=2 {
        let mut members: Vec<Client> = (0..3)
            .map(|number| member(hub.mqtt, VERSIONS[number % 2], &format!("member-{qos}-{number}"), qos))
            .collect();
        let mut outsider = Connect::new(4, "outsider").open(hub.mqtt);
        outsider.subscribe("work/#", qos);
        let mut other = Connect::new(5, "other-pool").open(hub.mqtt);
        other.subscribe("$share/other/work/+", qos);
        publish(&hub, 0..30, 2);
        let mut seen = BTreeSet::new();
        for member in &mut members {
            seen.extend(take(member, 10));
        }
        assert_eq!(seen.len(), 30, "each once");
        assert_eq!(take(&mut outsider, 30), (0..30).collect::<Vec<u8>>(), "who does not share gets all");
        assert_eq!(take(&mut other, 30), (0..30).collect::<Vec<u8>>(), "another group gets its own");
        for member in &mut members {
            member.ping();
            member.assert_silent_for(Duration::from_millis(50));
            member.unsubscribe(&[SHARE]);
        }
    }
}

#[test]
fn a_member_gets_what_its_own_subscription_says() {
    let site = Site::new();
    let hub = site.start();
    let mut exact = Hello::new(5, "exact").open(hub.mqtt).0;
    let mut loose = Hello::new(5, "loose").open(hub.mqtt).0;
    let number = |number| Properties::default().number(SUBSCRIPTION_IDENTIFIER, number);
    exact.subscribe_with(&[(SHARE, 2 | RETAIN_AS_PUBLISHED)], &number(7));
    loose.subscribe_with(&[(SHARE, 0)], &number(300));
    let mut publisher = Hello::new(5, "publisher").open(hub.mqtt).0;
    for _ in 0..2 {
        publisher.deliver(&Sent::new("work/piece", b"x", 2).retained());
    }
    let message = exact.delivery_acked();
    assert_eq!((message.qos, message.retain), (2, true));
    assert_eq!(message.properties.numbers(SUBSCRIPTION_IDENTIFIER), [7]);
    let message = loose.delivery_acked();
    assert_eq!((message.qos, message.retain), (0, false));
    assert_eq!(message.properties.numbers(SUBSCRIPTION_IDENTIFIER), [300]);
    // Subscribed again with other options, it is one member still, and no retained message comes.
    exact.subscribe_with(&[(SHARE, 1)], &number(8));
    publisher.deliver(&Sent::new("work/piece", b"y", 2));
    publisher.deliver(&Sent::new("work/piece", b"y", 2));
    let message = exact.delivery_acked();
    assert_eq!((message.qos, message.retain, message.payload.as_slice()), (1, false, &b"y"[..]));
    assert_eq!(message.properties.numbers(SUBSCRIPTION_IDENTIFIER), [8]);
    assert_eq!(loose.delivery_acked().payload, b"y");
    exact.assert_nothing_waits();
    // Its ordinary subscription is one of its own.
    exact.subscribe_with(&[("work/piece", RETAIN_NEVER)], &Properties::default());
    loose.unsubscribe(&[SHARE]);
    publisher.deliver(&Sent::new("work/piece", b"z", 1));
    let both: BTreeSet<u8> = (0..2).map(|_| exact.delivery_acked().qos).collect();
    assert_eq!(both, BTreeSet::from([0, 1]));
}

#[test]
fn malformed_shares_are_refused_and_no_local_is_an_error() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Hello::new(version, "wrong").open(hub.mqtt).0;
        for wrong in
            ["$share/pool", "$share/pool/", "$share//a", "$share/p+l/a", "$share/#/a", "$share/p/a#", "$share/"]
        {
            let refused = if version == 5 { 0x8F } else { 0x80 };
            assert_eq!(client.subscribe(wrong, 1), refused, "{wrong}");
        }
        assert_eq!(client.subscribe("$share/p//", 1), 1, "an empty level is a level");
        assert_eq!(client.unsubscribe_with(&["$share/p/never"]), if version == 5 { vec![0x11] } else { vec![] });
    }
    let mut client = Hello::new(5, "selfish").open(hub.mqtt).0;
    client
        .send(&support::packet::packet(0x82, &[&[0, 1, 0][..], &support::packet::text(SHARE), &[NO_LOCAL]].concat()))
        .unwrap();
    client.expect_disconnect(0x82);
}

#[test]
fn a_member_that_is_away_gets_only_what_no_connected_one_takes() {
    let site = Site::with_config("[broker.limits]\nsession_queue_messages = 10\ninflight = 1\n");
    let hub = site.start();
    let away = Hello::new(5, "away").kept();
    member(hub.mqtt, 5, "away", 1).disconnect();
    let mut present = member(hub.mqtt, 4, "present", 1);
    publish(&hub, 0..5, 1);
    assert_eq!(take(&mut present, 5), [0, 1, 2, 3, 4]);
    // Its last ack has come in, too.
    present.ping();
    // One in flight and ten waiting: the rest has to wait for the other.
    publish(&hub, 0..15, 1);
    let first = present.receive_unacked();
    let (mut client, _) = away.open(hub.mqtt);
    assert!(client.session_present);
    assert_eq!(take(&mut client, 4), [11, 12, 13, 14]);
    present.send(&[0x40, 2, (first.id >> 8) as u8, first.id as u8]).unwrap();
    assert_eq!(take(&mut present, 10), (1..11).collect::<Vec<u8>>());
    client.disconnect();
    // QoS 0 waits for nobody; with nobody there, QoS 1 does.
    present.disconnect();
    wait_for("nobody to be there", SOON, || site.status()["figures"]["clients"] == 0);
    publish(&hub, 100..105, 0);
    publish(&hub, 50..56, 1);
    let mut both: Vec<u8> = take(&mut away.open(hub.mqtt).0, 3);
    both.extend(take(&mut Hello::new(4, "present").kept().open(hub.mqtt).0, 3));
    both.sort_unstable();
    assert_eq!(both, [50, 51, 52, 53, 54, 55]);
}

#[test]
fn what_a_lost_member_did_not_acknowledge_goes_to_the_others() {
    let site = Site::with_config("[broker.limits]\ninflight = 4\n");
    let hub = site.start();
    for how in ["cut", "disconnect", "clean start", "session's end"] {
        let expiry = if how == "session's end" { 0 } else { 3600 };
        let leaver = Hello::new(5, how).with(SESSION_EXPIRY, expiry);
        let mut lost = leaver.open(hub.mqtt).0;
        lost.subscribe(SHARE, 1);
        publish(&hub, 0..10, 1);
        // The window's worth arrives; one is acknowledged, which lets another in.
        let acked = lost.receive();
        (0..4).for_each(|_| drop(lost.receive_unacked()));
        lost.ping();
        let mut heir = member(hub.mqtt, 4, "heir", 1);
        match how {
            "cut" | "session's end" => lost.cut(),
            "disconnect" => lost.disconnect(),
            _ => drop(leaver.open(hub.mqtt)),
        }
        let mut inherited = take(&mut heir, 9);
        inherited.push(acked.payload[0]);
        inherited.sort_unstable();
        assert_eq!(inherited, (0..10).collect::<Vec<u8>>(), "{how}");
        let (mut back, _) = { Hello { clean: false, ..leaver.clone() } }.open(hub.mqtt);
        back.assert_nothing_waits();
        Hello::new(5, how).open(hub.mqtt).0.disconnect();
        heir.unsubscribe(&[SHARE]);
        heir.disconnect();
    }
}

#[test]
fn a_qos2_message_in_flight_stays_with_its_session() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let id = format!("exact-{version}");
        let mut lost = member(hub.mqtt, version, &id, 2);
        publish(&hub, 0..2, 2);
        let (begun, released) = (lost.receive_unacked(), lost.receive_unacked());
        lost.send(&[0x50, 2, (released.id >> 8) as u8, released.id as u8]).unwrap();
        assert_eq!(lost.read(SOON).unwrap(), Packet::PubRel { id: released.id });
        let mut heir = member(hub.mqtt, 4, "heir", 2);
        lost.cut();
        heir.ping();
        heir.assert_silent_for(Duration::from_millis(300));
        let mut back = Hello::new(version, &id).kept().open(hub.mqtt).0;
        assert_eq!(back.read(SOON).unwrap(), Packet::PubRel { id: released.id });
        let again = back.receive_unacked();
        assert!(again.dup && again.payload == begun.payload && again.id == begun.id);
        // And where the session ends, nobody else gets it.
        back.cut();
        Connect::new(version, &id).open(hub.mqtt).disconnect();
        heir.ping();
        heir.assert_silent_for(Duration::from_millis(300));
        heir.unsubscribe(&[SHARE]);
        heir.disconnect();
    }
}

#[test]
fn who_unsubscribes_keeps_what_it_has_begun_to_receive() {
    let site = Site::with_config("[broker.limits]\ninflight = 2\n");
    let hub = site.start();
    let mut leaver = member(hub.mqtt, 5, "leaver", 1);
    publish(&hub, 0..6, 1);
    let begun = [leaver.receive_unacked(), leaver.receive_unacked()];
    let mut heir = member(hub.mqtt, 5, "heir", 1);
    leaver.unsubscribe(&[SHARE]);
    assert_eq!(take(&mut heir, 4), [2, 3, 4, 5]);
    for message in begun {
        leaver.ack(0x40, message.id);
    }
    leaver.assert_nothing_waits();
    heir.assert_nothing_waits();
}

#[test]
fn a_refused_message_is_not_offered_to_another() {
    let site = Site::new();
    let hub = site.start();
    let mut choosy = member(hub.mqtt, 5, "choosy", 2);
    for (qos, ack) in [(1, 0x40), (2, 0x50)] {
        publish(&hub, 0..1, qos);
        let message = choosy.delivery();
        let mut heir = member(hub.mqtt, 5, "heir", 2);
        choosy.send(&[ack, 3, (message.id >> 8) as u8, message.id as u8, 0x97]).unwrap();
        choosy.ping();
        choosy.cut();
        heir.assert_nothing_waits();
        heir.unsubscribe(&[SHARE]);
        heir.disconnect();
        choosy = Hello::new(5, "choosy").kept().open(hub.mqtt).0;
        choosy.assert_nothing_waits();
    }
}

#[test]
fn members_come_and_go_under_load_and_nothing_is_lost() {
    let site = Site::new();
    let hub = site.start();
    let mut steady = member(hub.mqtt, 5, "steady", 1);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    let mut seen: BTreeMap<u16, usize> = BTreeMap::new();
    let mut count = |message: support::mqtt::Message| {
        let number = u16::from_be_bytes([message.payload[0], message.payload[1]]);
        *seen.entry(number).or_default() += 1;
        seen.len()
    };
    for round in 0..40u16 {
        let mut passing = member(hub.mqtt, VERSIONS[usize::from(round) % 2], &format!("passing-{}", round % 3), 1);
        for number in 0..10 {
            publisher.publish_through("work/piece", &(round * 10 + number).to_be_bytes(), 1);
        }
        for _ in 0..round % 4 {
            count(passing.receive());
        }
        // The last ack is read before the connection is cut, so that what is told here is all that was received.
        passing.ping();
        passing.cut();
    }
    while count(steady.receive()) < 400 {}
    steady.ping();
    steady.assert_silent_for(Duration::from_millis(200));
    assert!(seen.values().all(|times| *times == 1), "each once, as every ack was read: {seen:?}");
}

#[test]
fn a_group_ends_with_its_last_member_and_leaves_room_for_others() {
    let site = Site::with_config("[broker.limits]\nfilters = 3\nsubscriptions = 10\n");
    let hub = site.start();
    let mut client = Connect::new(5, "client").open(hub.mqtt);
    for name in ["a", "b", "c"] {
        assert_eq!(client.subscribe(&format!("$share/{name}/work"), 1), 1);
    }
    assert_eq!(client.subscribe("$share/d/work", 1), 0x97, "as many groups as broker.limits.filters");
    client.unsubscribe(&["$share/a/work"]);
    assert_eq!(client.subscribe("$share/d/work", 1), 1);
    client.cut();
    let mut other = Connect::new(4, "other").open(hub.mqtt);
    // The session ends a moment after its socket.
    wait_for("the groups' end", SOON, || other.subscribe("$share/e/work", 1) == 1);
    publish_one(&hub, "work");
    assert_eq!(other.receive().payload, b"x");
    other.unsubscribe(&["$share/e/work"]);
    publish_one(&hub, "work");
    other.ping();
    other.assert_silent_for(Duration::from_millis(100));
}

fn publish_one(hub: &Hub, topic: &str) {
    Connect::new(4, "publisher").open(hub.mqtt).publish_through(topic, b"x", 1);
}

#[test]
fn what_waits_for_a_member_whose_session_ends_waits_for_another() {
    let site = Site::new();
    let hub = site.start();
    for how in ["clean start", "expiry"] {
        let expiry = if how == "expiry" { 1 } else { 3600 };
        let mut ends = Hello::new(5, how).with(SESSION_EXPIRY, expiry).open(hub.mqtt).0;
        ends.subscribe(SHARE, 1);
        member(hub.mqtt, 4, "stays", 1).disconnect();
        ends.disconnect();
        publish(&hub, 0..10, 1);
        let mut anew = (how == "clean start").then(|| Hello::new(5, how).open(hub.mqtt).0);
        let mut stays = Hello::new(4, "stays").kept().open(hub.mqtt).0;
        let mut numbers = take(&mut stays, 10);
        publish(&hub, 10..20, 1);
        numbers.extend(take(&mut stays, 10));
        numbers.sort_unstable();
        assert_eq!(numbers, (0..20).collect::<Vec<u8>>(), "{how}: none for a session that is no more");
        anew.iter_mut().for_each(Client::assert_nothing_waits);
        stays.unsubscribe(&[SHARE]);
        stays.disconnect();
    }
}
