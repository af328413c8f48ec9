//! Everything that clients can make the hub keep has a bound: many ids, topics, filters, half packets, messages kept.
//!
//! Owns the bounds on resident memory, each stated as how much more than an idle hub's a crowd may cost. They hold for
//! builds with and without optimisation; a release build's own memory is in `docs/performance.md`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::TcpStream;

use support::mqtt::{Client, Connect, Packet, packet, publish, text};
use support::watch::{assert_no_panic, figure, open_files, peak_kib, rss_kib};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

const MIB: u64 = 1024;

/// Memory that a crowd may cost beside what was there before it.
struct Allowance<'h> {
    hub: &'h Hub,
    before_kib: u64,
}

impl Allowance<'_> {
    /// Begins to measure, with all that a first client wakes up already awake.
    fn begin(hub: &Hub) -> Allowance<'_> {
        for version in [4, 5] {
            let mut first = Connect::new(version, "first").open(hub.mqtt);
            first.subscribe("first", 2);
            (0..200).for_each(|_| first.publish_through("first", b"x", 1));
            (0..200).for_each(|_| _ = first.receive());
            first.publish_through("a/weathermeters", b"{}", 1);
            first.disconnect();
        }
        Allowance { hub, before_kib: rss_kib(hub) }
    }

    /// Prints what it came to, and asserts that it never was more than `kib`.
    fn end(self, what: &str, kib: u64) {
        let now = rss_kib(self.hub).saturating_sub(self.before_kib);
        let most = peak_kib(self.hub).saturating_sub(self.before_kib);
        println!("{what}: {now} KiB more than the {} KiB before, {most} KiB at most; allowed {kib}", self.before_kib);
        assert!(most <= kib, "{what}: {most} KiB, more than {kib}");
    }
}

#[test]
fn five_thousand_client_ids_one_after_another_leave_nothing_behind() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let files = open_files(&hub);
    for number in 0..5_000u32 {
        let version = 4 + (number % 2) as u8;
        let mut client = Connect::new(version, &format!("passing-by-{number}")).open(hub.mqtt);
        client.subscribe(["news", "news/#"][number as usize % 2], 1);
        client.publish_through(if number % 3 == 0 { "a/weathermeters" } else { "b" }, b"{}", 1);
        if number % 2 == 0 { client.disconnect() } else { client.cut() }
    }
    wait_for("all to be gone", SOON, || figure(&site, "sessions") == 0 && open_files(&hub) <= files + 2);
    allowance.end("5,000 client ids", 8 * MIB);
}

#[test]
fn fifty_thousand_topics_leave_nothing_behind() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Connect::new(4, "subscriber").open(hub.mqtt);
    subscriber.subscribe("topics/#", 0);
    subscriber.subscribe("topics/+/7", 0);
    let allowance = Allowance::begin(&hub);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..50_000u32 {
        publisher.publish(&format!("topics/some/level/{number}"), &number.to_be_bytes(), 0, 0, false);
        if number % 100 == 99 {
            for expected in number - 99..=number {
                assert_eq!(subscriber.receive().payload, expected.to_be_bytes());
            }
        }
    }
    allowance.end("50,000 topics", 8 * MIB);
}

/// Subscribes to many filters in one packet, and returns their codes.
fn subscribe_all(client: &mut Client, filters: &[String]) -> Vec<u8> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| [text(filter), vec![1]].concat()).collect();
    client.send(&packet(0x82, &[&[0, 1][..], &filters].concat())).unwrap();
    match client.read(PATIENTLY) {
        Ok(Packet::SubAck { codes, .. }) => codes,
        other => panic!("a SUBACK was expected, not {other:?}"),
    }
}

#[test]
fn ten_thousand_filters_at_a_time_all_work() {
    let site = Site::with_config("[broker.limits]\nfilters = 10000\n");
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    let mut clients = Vec::new();
    let filter = |number: u32| match number % 3 {
        0 => format!("filters/{number}"),
        1 => format!("filters/{number}/+"),
        _ => format!("filters/{number}/#"),
    };
    for client in 0..10u32 {
        let mut subscriber = Connect::new(4, &format!("subscriber-{client}")).open(hub.mqtt);
        let filters: Vec<String> = (0..1_000).map(|number| filter(client * 1_000 + number)).collect();
        for some in filters.chunks(100) {
            let codes = subscribe_all(&mut subscriber, some);
            assert!(codes.iter().all(|code| *code == 1), "all are granted: {codes:?}");
        }
        clients.push(subscriber);
    }
    for number in (0..10_000u32).step_by(7) {
        let topic = format!("filters/{number}{}", if number % 3 == 0 { "" } else { "/x" });
        publisher.publish_through(&topic, &number.to_be_bytes(), 1);
        let message = clients[(number / 1_000) as usize].receive();
        assert_eq!((message.topic, message.payload), (topic, number.to_be_bytes().to_vec()));
    }
    allowance.end("10,000 filters at a time", 16 * MIB);
}

/// The limit is on what is subscribed, not on what ever was.
#[test]
fn ten_thousand_filters_one_after_another_all_work() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let mut client = Connect::new(4, "changing").open(hub.mqtt);
    for number in 0..10_000u32 {
        let filter = format!("filters/{number}/#");
        assert_eq!(client.subscribe(&filter, 1), 1, "{filter} is granted");
        client.publish_through(&format!("filters/{number}/x"), &number.to_be_bytes(), 1);
        assert_eq!(client.receive().payload, number.to_be_bytes());
        client.unsubscribe(&[&filter]);
    }
    allowance.end("10,000 filters one after another", 12 * MIB);
}

#[test]
fn filters_beyond_the_limit_are_refused_with_the_quota() {
    let site = Site::with_config("[broker.limits]\nfilters = 50\n");
    let hub = site.start();
    let mut client = Connect::new(5, "many").open(hub.mqtt);
    for number in 0..200 {
        let code = client.subscribe(&format!("filters/{number}"), 1);
        assert_eq!(code, if number < 50 { 1 } else { 0x97 }, "filter {number}");
    }
    assert_eq!(client.subscribe("filters/7", 1), 1, "one that is there is granted again");
    client.publish_through("filters/49", b"x", 1);
    assert_eq!(client.receive().topic, "filters/49");
    let lines = hub.said_since(0, &[" warn ", "subscription"]).len();
    assert!((1..=20).contains(&lines), "{lines} lines: told, at a bounded rate");
}

#[test]
fn a_thousand_silent_sockets_cost_no_more_than_those_that_may_wait() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let files = open_files(&hub);
    let silent: Vec<TcpStream> = (0..1_000).map(|_| TcpStream::connect(hub.mqtt).unwrap()).collect();
    wait_for("all to be accepted", PATIENTLY, || figure(&site, "connections") >= 1_000);
    wait_for("the oldest to be closed", PATIENTLY, || open_files(&hub) <= files + 256 + 2);
    drop(silent);
    wait_for("all to be closed", PATIENTLY, || open_files(&hub) <= files + 2);
    allowance.end("1,000 silent sockets", 8 * MIB);
}

#[test]
fn two_hundred_half_sent_megabytes_stay_within_their_bound() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let big = publish(4, b"big", &vec![7; 1_000_000], 1, 1, false);
    let mut half: Vec<Client> = Vec::new();
    let mut good = Connect::new(5, "good").open(hub.mqtt);
    for number in 0..200 {
        let mut client = Connect::new(4, &format!("half-{number}")).open(hub.mqtt);
        // One that makes room for others may be closed while it sends.
        client.send(&big[..990_000]).ok();
        half.push(client);
        if number % 20 == 0 {
            good.publish_through("big", &vec![8; 1_000_000], 1);
            good.publish_through("a/weathermeters", b"{}", 1);
        }
    }
    // Before the CONNECT, not even so much.
    let connect = packet(0x10, &[&text("MQTT")[..], &[4, 2, 0, 60], &vec![7; 900_000]].concat());
    for _ in 0..100 {
        let mut stranger = Client::raw(hub.mqtt, 4).unwrap();
        stranger.send(&connect[..890_000]).ok();
        half.push(stranger);
    }
    good.publish_through("big", &vec![8; 1_000_000], 1);
    wait_for("those that waited longest to be closed", SOON, || figure(&site, "clients") < 60);
    assert!(!hub.said_since(0, &[" warn ", "partial_bytes"]).is_empty(), "it is told");
    drop(half);
    wait_for("all to be gone", PATIENTLY, || figure(&site, "clients") == 1);
    good.ping();
    allowance.end("200 half-sent packets of 1 MB", 64 * MIB);
}

/// Publishes a retained message at QoS 1.
fn retain(client: &mut Client, topic: &str, payload: &[u8]) {
    let mut bytes = publish(4, topic.as_bytes(), payload, 1, 1, false);
    bytes[0] |= 1;
    client.send(&bytes).unwrap();
    client.expect_puback(1);
}

#[test]
fn ten_thousand_retained_messages_all_come_and_the_next_is_refused() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..10_100u32 {
        retain(&mut publisher, &format!("retained/{number}"), &[7; 100]);
    }
    let mut subscriber = Connect::new(4, "subscriber").open(hub.mqtt);
    subscriber.subscribe("retained/#", 1);
    let mut topics: Vec<String> = (0..10_000).map(|_| subscriber.receive().topic).collect();
    topics.sort_unstable();
    topics.dedup();
    assert_eq!(topics.len(), 10_000, "each once");
    subscriber.ping();
    let lines = hub.said_since(0, &[" warn ", "retained"]).len();
    assert!((1..=20).contains(&lines), "{lines} lines: told, at a bounded rate");
    // By bytes, as well.
    for number in 0..200u32 {
        retain(&mut publisher, &format!("retained/{number}"), &vec![7; 500_000]);
    }
    allowance.end("10,000 retained messages", 32 * MIB);
}

/// A subscriber that asks again and again, and takes nothing.
#[test]
fn retained_messages_that_nobody_takes_do_not_pile_up() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    for number in 0..2_000u32 {
        retain(&mut publisher, &format!("retained/{number}"), &[7; 1_000]);
    }
    let allowance = Allowance::begin(&hub);
    let subscribe = packet(0x82, &[&[0, 1][..], &text("retained/#"), &[1]].concat());
    let deaf: Vec<Client> = (0..20)
        .map(|number| {
            let mut client = Connect::new(4, &format!("deaf-{number}")).open(hub.mqtt);
            client.send(&subscribe.repeat(50)).unwrap();
            client
        })
        .collect();
    Connect::new(4, "good").open(hub.mqtt).publish_through("a/weathermeters", b"{}", 1);
    wait_for("the last one's messages", PATIENTLY, || figure(&site, "dropped") > 0);
    drop(deaf);
    allowance.end("20 subscribers that take no retained message", 16 * MIB);
}

#[test]
fn sessions_beyond_the_limit_make_room_at_once() {
    let site = Site::with_config("[broker.limits]\nsessions = 100\n");
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    for number in 0..3_000 {
        let version = 4 + (number % 2) as u8;
        let mut client = Connect::new(version, &format!("away-{number}")).persistent().open(hub.mqtt);
        assert!(client.subscribe("news", 1) < 0x80, "client {number} may subscribe");
        client.disconnect();
        if number % 100 == 0 {
            let kept = figure(&site, "sessions");
            assert!(kept <= 100 + 100 / 8 + 2, "{kept} sessions are kept");
        }
    }
    wait_for("the surplus to be forgotten", SOON, || figure(&site, "sessions") <= 100);
    allowance.end("3,000 sessions, of which 100 are kept", 32 * MIB);
    assert_no_panic(&site, &hub);
}

/// A will with a delay of days, of a client that comes back at once, and again.
#[test]
fn wills_that_wait_do_not_pile_up() {
    let site = Site::new();
    let hub = site.start();
    let allowance = Allowance::begin(&hub);
    let will = vec![7; 60_000];
    let connect = [
        &text("MQTT")[..],
        &[5, 0x06, 0, 60, 5, 0x11, 0, 9, 0x3A, 0x80],
        &text("dying"),
        &[5, 0x18, 0, 9, 0x27, 0xC0],
        &text("will"),
        &(will.len() as u16).to_be_bytes(),
        &will,
    ]
    .concat();
    for _ in 0..1_000 {
        let mut client = Client::raw(hub.mqtt, 5).unwrap();
        client.send(&packet(0x10, &connect)).unwrap();
        assert!(matches!(client.read(SOON), Ok(Packet::ConnAck { code: 0, .. })));
        client.cut();
    }
    wait_for("the last to be gone", SOON, || figure(&site, "clients") == 0);
    allowance.end("1,000 wills that wait", 16 * MIB);
}
