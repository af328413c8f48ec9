//! CONNECT and CONNACK: who is let in, and what those are told who are not.
//!
//! Owns the beginning of a connection. Wills are in `wills.rs`, properties of a running connection in `properties.rs`.

use std::time::{Duration, Instant};

use super::VERSIONS;
use super::raw::{Connect, Raw, connack_property, section, subscribe};
use crate::support::packet::{packet, text};
use crate::support::{Site, wait_for};

#[test]
fn only_a_connect_opens_a_connection() {
    let site = Site::new();
    let hub = site.start();
    for first in [0x30, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0, 0x00, 0x20] {
        let mut raw = Raw::new(&hub, 4);
        raw.send(&[first, 0]);
        assert!(raw.closed().is_empty(), "{first:#x} was answered");
    }
}

#[test]
fn a_second_connect_ends_the_connection() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "twice");
        raw.send(&Connect::new(version, "twice").bytes());
        assert_eq!(raw.ended_with(), (version == 5).then_some(0x82), "MQTT level {version}");
    }
}

#[test]
fn a_level_that_is_not_spoken_is_told_so() {
    let site = Site::new();
    let hub = site.start();
    for level in [0, 1, 3, 6, 0x84, 0xFF] {
        let mut raw = Raw::new(&hub, 4);
        raw.send(&packet(0x10, &[&text("MQTT")[..], &[level, 2, 0, 60], &text("c")].concat()));
        assert_eq!(raw.closed(), [[0x20, 2, 0, 1]], "level {level}");
    }
    for name in ["MQTS", "mqtt", "MQISDP", ""] {
        let mut raw = Raw::new(&hub, 4);
        raw.send(&packet(0x10, &[&text(name)[..], &[4, 2, 0, 60], &text("c")].concat()));
        assert!(raw.closed().is_empty(), "{name:?} was answered");
    }
}

/// A CONNECT that breaks a rule: its name, its flags, what follows its properties in MQTT 5, and the reason code there.
type Faulty = (&'static str, u8, Vec<Vec<u8>>, u8);

fn faulty() -> Vec<Faulty> {
    let t = text;
    let bytes = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    let none = || vec![0];
    vec![
        ("the reserved flag", 0x03, vec![t("c")], 0x81),
        ("a will QoS without a will", 0x0A, vec![t("c")], 0x81),
        ("a will retain without a will", 0x22, vec![t("c")], 0x81),
        ("will QoS 3", 0x1E, vec![t("c"), none(), t("w"), t("m")], 0x81),
        ("no client id", 0x02, vec![], 0x81),
        ("a client id cut short", 0x02, vec![vec![0, 9, b'c']], 0x81),
        ("a client id that is not UTF-8", 0x02, vec![bytes(&[0xC0, 0xAF])], 0x81),
        ("a surrogate in the client id", 0x02, vec![bytes(&[0xED, 0xA0, 0x80])], 0x81),
        ("a zero in the client id", 0x02, vec![t("a\0b")], 0x81),
        ("no will topic", 0x06, vec![t("c")], 0x81),
        ("no will message", 0x06, vec![t("c"), none(), t("w")], 0x81),
        ("a will topic that is not UTF-8", 0x06, vec![t("c"), none(), bytes(&[0xFF]), t("m")], 0x81),
        ("a wildcard in the will topic", 0x06, vec![t("c"), none(), t("w/#"), t("m")], 0x90),
        ("an empty will topic", 0x06, vec![t("c"), none(), t(""), t("m")], 0x90),
        ("a will that is not announced", 0x02, vec![t("c"), none(), t("w"), t("m")], 0x81),
        ("no user name", 0x82, vec![t("c")], 0x81),
        ("a user name that is not announced", 0x02, vec![t("c"), t("u")], 0x81),
        ("a user name that is not UTF-8", 0x82, vec![t("c"), bytes(&[0xFE])], 0x81),
        ("a zero in the user name", 0x82, vec![t("c"), t("u\0")], 0x81),
        ("no password", 0xC2, vec![t("c"), t("u")], 0x81),
        ("a password that is not announced", 0x82, vec![t("c"), t("u"), t("p")], 0x81),
    ]
}

#[test]
fn a_connect_that_breaks_a_rule_is_not_let_in() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for (name, flags, fields, code) in faulty() {
            println!("{name}, MQTT level {version}");
            // Before MQTT 5 a will has no properties.
            let fields: Vec<Vec<u8>> = fields.into_iter().filter(|field| version == 5 || *field != [0]).collect();
            let payload = fields.concat();
            let mut raw = Raw::new(&hub, version);
            raw.send(&Connect { payload, ..Connect::new(version, "").flags(flags) }.bytes());
            let told = raw.closed();
            match version {
                4 => assert!(told.is_empty(), "{name}: {told:02X?}"),
                _ => assert_eq!(told, [[0x20, 3, 0, code, 0]], "{name}"),
            }
        }
    }
    let mut raw = Raw::new(&hub, 4);
    let payload = [text("c"), text("p")].concat();
    raw.send(&Connect { payload, ..Connect::new(4, "").flags(0x42) }.bytes());
    assert!(raw.closed().is_empty(), "MQTT 3.1.1 has no password without a user name");
}

#[test]
fn every_client_id_that_the_standard_names_is_let_in() {
    let site = Site::new();
    let hub = site.start();
    let alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in VERSIONS {
        for id in [&alphabet[..1], &alphabet[..23], &alphabet[23..46], &alphabet[39..], alphabet] {
            Raw::connected(&hub, version, id).ping();
        }
    }
}

#[test]
fn a_client_without_an_id_is_given_one_or_refused_where_it_wants_a_session() {
    let site = Site::new();
    let hub = site.start();
    let mut raw = Raw::new(&hub, 4);
    raw.send(&Connect::new(4, "").flags(0).bytes());
    assert_eq!(raw.closed(), [[0x20, 2, 0, 2]]);
    let (mut raw, connack) = Connect::new(4, "").open(&hub);
    assert_eq!(connack, [0x20, 2, 0, 0]);
    raw.ping();

    let mut given = Vec::new();
    for flags in [0x00, 0x02, 0x00] {
        let (mut raw, connack) = Connect::kept(5, "").flags(flags).open(&hub);
        raw.ping();
        let id = connack_property(&connack, 0x12).expect("an assigned client id");
        given.push(String::from_utf8(id[2..].to_vec()).unwrap());
        assert_eq!(connack[2], 0, "the id is new, and so is the session");
    }
    given.dedup();
    assert_eq!(given.len(), 3, "each id is another: {given:?}");
    let number = given[2].rsplit('-').next().unwrap();
    let next = u64::from_str_radix(number, 16).unwrap() + 1;
    let guessed = format!("{}-{next:x}", given[2].rsplit_once('-').unwrap().0);
    drop(Connect::kept(5, &guessed).open(&hub));
    let (_, connack) = Connect::new(5, "").flags(0).open(&hub);
    assert_eq!(connack[2], 0, "an id that another client has is not given");
    let (_, connack) = Connect::kept(5, &given[0]).open(&hub);
    assert_eq!(connack[2], 1, "the session stands under the id that was given");
    assert_eq!(connack_property(&connack, 0x12), None, "an id that was brought is not given");
}

#[test]
fn session_present_tells_what_the_hub_has() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let clean = Connect::new(version, "present");
        let kept = Connect::kept(version, "present");
        for (connect, present) in [(&clean, 0), (&kept, 0), (&kept, 1), (&clean, 0), (&kept, 0)] {
            let (mut raw, connack) = connect.open(&hub);
            assert_eq!(connack[2], present, "MQTT level {version}");
            raw.ping();
            raw.send(&[0xE0, 0]);
            assert!(raw.closed().is_empty(), "one CONNACK, and no more");
        }
    }
}

#[test]
fn what_follows_a_refused_connect_is_not_looked_at() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = Raw::connected(&hub, 4, "watcher");
    watcher.subscribe("#", 0);
    for version in VERSIONS {
        let refused = match version {
            4 => Connect::new(4, "").flags(0),
            _ => Connect::new(5, "c").properties(&[&[0x15][..], &text("SCRAM-SHA-1")].concat()),
        };
        let publish = packet(0x30, &[&text("a")[..], &section(version, &[]), b"x"].concat());
        let mut raw = Raw::new(&hub, version);
        raw.send(&[refused.bytes(), publish].concat());
        let told = raw.closed();
        assert_eq!(told.len(), 1, "{told:02X?}");
        assert_eq!(told[0][2..4], [0, if version == 4 { 0x02 } else { 0x8C }]);
    }
    watcher.ping();
    watcher.silent();
}

#[test]
fn a_client_need_not_wait_for_its_connack() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::new(&hub, version);
        raw.send(&[Connect::new(version, "eager").bytes(), subscribe(version, 9, "a", 0), vec![0xC0, 0]].concat());
        assert_eq!(raw.next()[0], 0x20, "CONNACK comes first");
        assert_eq!(raw.next()[0], 0x90);
        raw.expect(&[0xD0, 0]);
    }
}

#[test]
fn an_authentication_method_is_refused_and_so_is_auth_without_one() {
    let site = Site::new();
    let hub = site.start();
    let mut raw = Raw::new(&hub, 5);
    raw.send(&Connect::new(5, "c").properties(&[&[0x15][..], &text("K1")].concat()).bytes());
    let told = raw.closed();
    assert_eq!((told.len(), &told[0][2..4]), (1, &[0, 0x8C][..]));
    for auth in [&[0xF0, 0][..], &[0xF0, 2, 0x19, 0], &[0xF0, 2, 0x18, 0]] {
        let mut raw = Raw::connected(&hub, 5, "c");
        raw.send(auth);
        assert_eq!(raw.ended_with(), Some(0x82));
    }
    // Without a method, CONNACK names none.
    let (_, connack) = Connect::new(5, "c").open(&hub);
    assert_eq!(connack_property(&connack, 0x15), None);
}

#[test]
fn a_byte_now_and_then_is_no_sign_of_life() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let (mut raw, _) = Connect { keep_alive_s: 1, ..Connect::new(version, "drip") }.open(&hub);
        let opened = Instant::now();
        // A PUBLISH of 200 bytes that never becomes whole.
        raw.send(&[0x30, 200, 1, 0, 1, b'a']);
        let (mut next, mut sent) = (opened, 0);
        wait_for("the end of the connection", Duration::from_secs(8), || {
            if Instant::now() >= next && sent < 100 {
                next += Duration::from_millis(200);
                sent += 1;
                return raw.try_send(b"x").is_err();
            }
            false
        });
        assert!(opened.elapsed() >= Duration::from_secs(1), "closed after {:?}", opened.elapsed());
    }
}
