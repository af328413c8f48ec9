//! Wills: when one is published, when not, and as what.
//!
//! Owns the will delay and takeover. Wills that are readings are in `promises.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::{Duration, Instant};

use support::mqtt::{Client, packet};
use support::v5::*;
use support::{Hub, SOON, Site};

const VERSIONS: [u8; 2] = [4, 5];

fn watcher(hub: &Hub) -> Client {
    let mut watcher = Hello::new(5, "watcher").open(hub.mqtt).0;
    watcher.subscribe_with(&[("will/#", 2 | RETAIN_AS_PUBLISHED)], &Properties::default());
    watcher
}

/// A client whose session is kept and whose will comes `delay_s` after its end.
fn delayed(id: &str, delay_s: u32) -> Hello {
    let will = Sent::new(&format!("will/{id}"), id.as_bytes(), 1).with(WILL_DELAY, delay_s);
    Hello { will: Some(will), ..Hello::new(5, id).kept() }
}

#[test]
fn a_will_is_published_as_it_was_given() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    let properties = Properties::default()
        .number(0x01, 1)
        .number(MESSAGE_EXPIRY, 100)
        .text(0x03, "text/plain")
        .text(0x08, "answer")
        .text(0x09, "42")
        .pair("why", "gone");
    for version in VERSIONS {
        for qos in 0..=2 {
            for retain in [false, true] {
                let topic = format!("will/{version}/{qos}/{retain}");
                let will = Sent { retain, properties: properties.clone(), ..Sent::new(&topic, b"gone", qos) };
                let hello = Hello { will: Some(will), ..Hello::new(version, "mortal") };
                hello.open(hub.mqtt).0.cut();
                let message = watcher.delivery_acked();
                assert_eq!((message.topic.as_str(), message.payload.as_slice()), (topic.as_str(), &b"gone"[..]));
                assert_eq!((message.qos, message.retain), (qos, retain));
                assert_eq!(message.properties, if version == 5 { properties.clone() } else { Properties::default() });
                let mut late = Hello::new(5, "late").open(hub.mqtt).0;
                late.subscribe(&topic, 0);
                if retain {
                    assert_eq!(late.delivery().payload, b"gone");
                }
                late.assert_nothing_waits();
            }
        }
    }
}

#[test]
fn only_a_plain_goodbye_discards_the_will() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    for (reason, is_published) in [(0x00, false), (0x04, true), (0x80, true), (0x99, true)] {
        let (mut client, _) = delayed("leaver", 0).open(hub.mqtt);
        client.send(&packet(0xE0, &[reason])).unwrap();
        client.expect_closed();
        if is_published {
            assert_eq!(watcher.delivery_acked().topic, "will/leaver", "{reason:#x}");
        }
        watcher.assert_nothing_waits();
    }
}

#[test]
fn a_delayed_will_waits_and_is_not_sent_to_a_client_that_comes_back() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    let (client, _) = delayed("slow", 2).open(hub.mqtt);
    let (back, _) = delayed("back", 2).open(hub.mqtt);
    client.cut();
    back.cut();
    let cut = Instant::now();
    let mut resumed = Hello::new(5, "back").kept();
    resumed.will = None;
    let (mut back, _) = resumed.open(hub.mqtt);
    assert!(back.session_present);
    assert_eq!(watcher.delivery_acked().topic, "will/slow");
    assert!(cut.elapsed() >= Duration::from_millis(1900), "{:?}", cut.elapsed());
    watcher.assert_silent_for(Duration::from_millis(500));
    back.ping();
    // Gone again after that, without a will: nothing is published.
    back.cut();
    watcher.assert_silent_for(Duration::from_millis(500));
}

#[test]
fn a_delayed_will_does_not_outwait_its_session() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    let expect_at_once = |watcher: &mut Client, what: &str, began: Instant| {
        assert_eq!(watcher.delivery_acked().topic, format!("will/{what}"));
        assert!(began.elapsed() < SOON, "{what}");
    };
    // The session ends with the connection, or a second later.
    for expiry_s in [0, 1] {
        let mut hello = delayed("short", 3600);
        hello.properties = Properties::default().number(SESSION_EXPIRY, expiry_s);
        hello.open(hub.mqtt).0.cut();
        expect_at_once(&mut watcher, "short", Instant::now());
    }
    // It ends by the client's DISCONNECT.
    let (mut client, _) = delayed("says-so", 3600).open(hub.mqtt);
    client.send(&packet(0xE0, &[4, 5, SESSION_EXPIRY, 0, 0, 0, 0])).unwrap();
    expect_at_once(&mut watcher, "says-so", Instant::now());
    // It ends because the client starts anew: while it is away, and while it is connected.
    for is_away in [true, false] {
        let (mut client, _) = delayed("anew", 3600).open(hub.mqtt);
        if is_away {
            client.cut();
            watcher.assert_silent_for(Duration::from_millis(200));
            Hello::new(5, "anew").open(hub.mqtt).0.disconnect();
        } else {
            let (new, _) = Hello::new(5, "anew").open(hub.mqtt);
            client.expect_disconnect(0x8E);
            new.disconnect();
        }
        expect_at_once(&mut watcher, "anew", Instant::now());
    }
    watcher.assert_nothing_waits();
}

#[test]
fn a_takeover_publishes_the_will_unless_it_is_delayed() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    for version in VERSIONS {
        let mut hello = delayed("twin", 0);
        hello.version = version;
        let (mut old, _) = hello.open(hub.mqtt);
        let mut successor = hello.clone();
        successor.will = None;
        let (new, _) = successor.open(hub.mqtt);
        assert_eq!(old.last_words(), (version == 5).then(|| (0xE0, vec![0x8E])));
        assert_eq!(watcher.delivery_acked().topic, "will/twin");
        new.disconnect();
    }
    let (mut old, _) = delayed("patient", 1).open(hub.mqtt);
    let mut successor = delayed("patient", 1);
    successor.will = None;
    let (mut new, _) = successor.open(hub.mqtt);
    old.expect_disconnect(0x8E);
    watcher.assert_silent_for(Duration::from_millis(1500));
    new.ping();
}

#[test]
fn a_delayed_will_of_a_client_that_comes_and_goes_is_published_once() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = watcher(&hub);
    for _ in 0..20 {
        delayed("flapping", 1).open(hub.mqtt).0.cut();
    }
    assert_eq!(watcher.delivery_acked().topic, "will/flapping");
    watcher.assert_silent_for(Duration::from_millis(1500));
}

#[test]
fn a_will_on_the_hubs_own_topics_goes_nowhere() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = Hello::new(5, "watcher").open(hub.mqtt).0;
    watcher.subscribe("$SYS/#", 1);
    for version in VERSIONS {
        let will = Some(Sent::new("$SYS/uptime", b"0", 1).retained());
        Hello { will, ..Hello::new(version, "impostor") }.open(hub.mqtt).0.cut();
    }
    watcher.subscribe("$SYS/#", 1);
    watcher.assert_nothing_waits();
}
