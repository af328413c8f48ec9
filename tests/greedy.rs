//! Packets that are right, and ask for a great deal: filters by the hundred thousand, names of 60 KB, messages that nobody
//! takes.
//!
//! Owns the cost of one client to the others: they go on being served, and the memory stays within its bounds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use support::mqtt::{Client, Connect, Packet, packet, publish, text};
use support::watch::{assert_no_panic, figure, peak_kib, rss_kib};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

/// How long a good client's message may take at most, round through the hub, on a machine that is busy with other tests.
const ROUND_TIME_MAX: Duration = Duration::from_secs(3);
const MIB: u64 = 1024;

/// Lets a good client go on until `done`, and asserts that no round took too long.
fn serve_meanwhile(hub: &Hub, what: &str, mut done: impl FnMut() -> bool) {
    let mut good = Connect::new(4, "good").open(hub.mqtt);
    good.subscribe("good", 1);
    let (began, mut worst, mut rounds) = (Instant::now(), Duration::ZERO, 0);
    while rounds < 100 || !done() {
        let round = Instant::now();
        good.publish_through("good", b"x", 1);
        assert_eq!(good.receive().payload, b"x");
        worst = worst.max(round.elapsed());
        rounds += 1;
        assert!(began.elapsed() < PATIENTLY, "{what}: it does not end");
    }
    println!("{what}: over after {:.1?}; a good client's worst of {rounds} rounds took {worst:.1?}", began.elapsed());
    assert!(worst < ROUND_TIME_MAX, "{what}: a good client waited {worst:?}");
    good.disconnect();
}

/// Tells whether a client has got an answer of this packet type, and drops all else that it gets.
fn has_answer(client: &mut Client, is_it: impl Fn(&Packet) -> bool) -> bool {
    std::iter::from_fn(|| client.read(Duration::from_micros(1)).ok()).any(|packet| is_it(&packet))
}

fn retain(publisher: &mut Client, topic: &str) {
    let mut bytes = publish(4, topic.as_bytes(), b"x", 1, 1, false);
    bytes[0] |= 1;
    publisher.send(&bytes).unwrap();
    publisher.expect_puback(1);
}

#[test]
fn one_packet_with_a_hundred_thousand_filters_holds_up_nobody() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    (0..2_000).for_each(|number| retain(&mut publisher, &format!("retained/{number}")));
    let same = [text("+/x"), vec![0]].concat().repeat(100_000);
    let distinct: Vec<u8> = (0..100_000u32).flat_map(|number| [text(&format!("{number}")), vec![0]].concat()).collect();
    for (name, filters) in [("the same filter", same), ("distinct filters", distinct)] {
        let mut greedy = Connect::new(4, "greedy").open(hub.mqtt);
        greedy.send(&packet(0x82, &[&[0, 1][..], &filters].concat())).unwrap();
        serve_meanwhile(&hub, &format!("100,000 times {name}"), || {
            has_answer(&mut greedy, |packet| matches!(packet, Packet::SubAck { codes, .. } if codes.len() == 100_000))
        });
        greedy.ping();
    }
    assert_no_panic(&site, &hub);
}

#[test]
fn one_packet_that_leaves_a_hundred_thousand_filters_holds_up_nobody() {
    let site = Site::new();
    let hub = site.start();
    let mut greedy = Connect::new(4, "greedy").open(hub.mqtt);
    for first in (0..1_000).step_by(100) {
        let some: Vec<u8> = (first..first + 100).flat_map(|n| [text(&format!("f/{n}")), vec![0]].concat()).collect();
        greedy.send(&packet(0x82, &[&[0, 1][..], &some].concat())).unwrap();
        assert!(matches!(greedy.read(SOON), Ok(Packet::SubAck { .. })));
    }
    let never: Vec<u8> = (0..100_000u32).flat_map(|number| text(&format!("n/{number}"))).collect();
    greedy.send(&packet(0xA2, &[&[0, 1][..], &never].concat())).unwrap();
    serve_meanwhile(&hub, "100,000 filters left", || {
        has_answer(&mut greedy, |packet| matches!(packet, Packet::UnsubAck { .. }))
    });
    greedy.ping();
    assert_no_panic(&site, &hub);
}

#[test]
fn a_megabyte_of_user_properties_is_refused_and_a_thousand_are_passed_on() {
    let site = Site::new();
    let hub = site.start();
    let mut subscriber = Connect::new(5, "subscriber").open(hub.mqtt);
    subscriber.subscribe("props", 1);
    let before_kib = rss_kib(&hub);
    let with_properties = |count: usize| {
        let properties = [0x26, 0, 1, b'a', 0, 0].repeat(count);
        let length = properties.len();
        let digits = [(length % 128) | 0x80, (length / 128 % 128) | 0x80, length / 16_384].map(|digit| digit as u8);
        packet(0x32, &[&text("props")[..], &[0, 1], &digits, &properties, b"x"].concat())
    };
    let mut publisher = Connect::new(5, "publisher").open(hub.mqtt);
    publisher.send(&with_properties(1_000)).unwrap();
    publisher.expect_puback(1);
    assert_eq!(subscriber.receive().payload, b"x");
    for number in 0..20 {
        let mut greedy = Connect::new(5, &format!("greedy-{number}")).open(hub.mqtt);
        greedy.send(&with_properties(170_000)).unwrap();
        assert_eq!(greedy.expect_closed(), Some(0x97));
    }
    let growth = peak_kib(&hub) - before_kib;
    println!("20 times a megabyte of user properties: {growth} KiB more");
    assert!(growth < 24 * MIB, "{growth} KiB more");
    subscriber.ping();
}

#[test]
fn names_of_sixty_kilobytes_cost_what_they_weigh() {
    let site = Site::new();
    let hub = site.start();
    let before_kib = rss_kib(&hub);
    let long = "a".repeat(60_000);
    let deep = "a/".repeat(30_000);
    for client in 0..4 {
        let mut greedy = Connect::new(5, &format!("greedy-{client}")).persistent().open(hub.mqtt);
        let codes: Vec<u8> = (0..100)
            .map(|number| match number % 2 {
                0 => greedy.subscribe(&format!("{long}{client}/{number}"), 1),
                _ => greedy.subscribe(&format!("{}{client}{number}", "+/".repeat(30_000)), 1),
            })
            .collect();
        let granted = codes.iter().filter(|code| **code == 1).count();
        assert!((1..10).contains(&granted), "{granted} are granted");
        assert!(codes.iter().all(|code| [1, 0x97].contains(code)), "{codes:?}");
        greedy.publish_through(&format!("{long}{client}/0"), b"found", 1);
        assert_eq!(greedy.receive().payload, b"found", "what is granted works");
        greedy.disconnect();
    }
    // Topics, as many as the router would remember by name.
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    let mut sent = 0;
    serve_meanwhile(&hub, "1,000 topics of 60 KB", || {
        for number in sent..sent + 10 {
            let topic = if number % 2 == 0 { &long } else { &deep };
            publisher.publish_through(&format!("{topic}{number}"), b"x", 1);
        }
        sent += 10;
        sent >= 1_000
    });
    let growth = peak_kib(&hub) - before_kib;
    println!("names of 60 KB: {growth} KiB more");
    assert!(growth < 48 * MIB, "{growth} KiB more");
    assert_no_panic(&site, &hub);
}

#[test]
fn subscribers_that_do_not_take_large_messages_have_to_make_room() {
    let site = Site::new();
    let hub = site.start();
    let mut deaf: Vec<Client> = (0..200)
        .map(|number| {
            let mut client = Connect::new(4, &format!("deaf-{number}")).open(hub.mqtt);
            client.subscribe("big", 0);
            client
        })
        .collect();
    let mut quick = Connect::new(4, "quick").open(hub.mqtt);
    quick.subscribe("big", 1);
    let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
    let before_kib = rss_kib(&hub);
    for number in 0..20u8 {
        publisher.publish_through("big", &vec![number; 1_000_000], 1);
        assert_eq!(quick.receive().payload[0], number);
        // Its ack has to be there before the next message: its queue has room for one of them.
        quick.ping();
    }
    // Each may have a copy of one message for a moment; then those that do not take it have to go.
    let peak = peak_kib(&hub) - before_kib;
    println!("1 MB each for 200 subscribers that take nothing: {peak} KiB more for a moment");
    assert!(peak < (200 + 64) * MIB, "{peak} KiB more");
    wait_for("those that took nothing to be closed", SOON, || figure(&site, "clients") < 60);
    assert!(!hub.said_since(0, &[" warn ", "partial_bytes"]).is_empty(), "it is told");
    quick.ping();
    deaf.clear();
    assert_no_panic(&site, &hub);
}
