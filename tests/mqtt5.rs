//! MQTT 5's own features on one connection: topic aliases, sizes, identifiers, expiry, keep alive, reasons.
//!
//! Owns what a CONNECT and its CONNACK agree on, and whether both sides keep to it. Flow control and redelivery are in
//! `flow.rs`, shared subscriptions in `shared.rs`, retained messages in `retained.rs`, wills in `wills.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::mqtt::{Client, packet};
use support::v5::*;
use support::{SOON, Site, wait_for};

fn open(address: SocketAddr, id: &str) -> Client {
    Hello::new(5, id).open(address).0
}

fn subscriber(address: SocketAddr, filter: &str, qos: u8) -> Client {
    let mut client = open(address, "subscriber");
    client.subscribe(filter, qos);
    client
}

#[test]
fn the_connack_says_what_the_hub_takes() {
    let site = Site::new();
    let hub = site.start();
    let (_, terms) = Hello::new(5, "asks").with(REQUEST_RESPONSE_INFORMATION, 1).open(hub.mqtt);
    assert_eq!(terms.numbers(RECEIVE_MAXIMUM), [64]);
    assert_eq!(terms.numbers(TOPIC_ALIAS_MAXIMUM), [16]);
    assert!(terms.numbers(MAXIMUM_PACKET_SIZE)[0] > 1 << 20);
    for default in [MAXIMUM_QOS, RETAIN_AVAILABLE, WILDCARD_AVAILABLE, SUBSCRIPTION_IDS_AVAILABLE, SHARED_AVAILABLE] {
        assert!(!terms.has(default), "{default:#x} has its default: all is available");
    }
    for absent in [SERVER_KEEP_ALIVE, SESSION_EXPIRY, ASSIGNED_CLIENT_ID, RESPONSE_INFORMATION, REASON_STRING] {
        assert!(!terms.has(absent), "{absent:#x}");
    }
}

#[test]
fn a_client_without_an_id_is_told_the_one_it_gets() {
    let site = Site::new();
    let hub = site.start();
    let (first, terms) = Hello::new(5, "").with(SESSION_EXPIRY, 60).open(hub.mqtt);
    let Some((_, Value::Text(id))) = terms.0.iter().find(|(id, _)| *id == ASSIGNED_CLIENT_ID) else {
        panic!("no id in {terms:?}");
    };
    first.disconnect();
    let mut again = Hello::new(5, id);
    again.clean = false;
    assert!(again.open(hub.mqtt).0.session_present, "the session goes by the id that was told");
    let mut nameless = Hello::new(4, "");
    nameless.clean = false;
    assert_eq!(nameless.knock(hub.mqtt).1, 2, "3.1.1: no id, no session to keep");
    assert_eq!(Hello::new(4, "").knock(hub.mqtt).1, 0);
}

#[test]
fn a_session_expiry_beyond_the_limit_is_cut_and_told() {
    let site = Site::new();
    let hub = site.start();
    let granted = |asked: u32| Hello::new(5, "s").with(SESSION_EXPIRY, asked).open(hub.mqtt).1.numbers(SESSION_EXPIRY);
    assert_eq!(granted(u32::MAX), [604_800], "for ever is longer than the limit");
    assert!(granted(3600).is_empty(), "what is granted as asked is not told");
}

#[test]
fn a_disconnect_cannot_keep_a_session_that_was_to_end() {
    let site = Site::new();
    let hub = site.start();
    let goodbye = |expiry: u32| packet(0xE0, &[&[0, 5, SESSION_EXPIRY][..], &expiry.to_be_bytes()].concat());
    let mut client = open(hub.mqtt, "ends");
    client.send(&goodbye(60)).unwrap();
    client.expect_disconnect(0x82);
    // The other way, and a change of a length, are allowed.
    for (asked, changed, is_kept) in [(60, 0, false), (1, 3600, true), (0, 0, false)] {
        let id = format!("{asked}-{changed}");
        let (mut client, _) = Hello::new(5, &id).with(SESSION_EXPIRY, asked).open(hub.mqtt);
        client.send(&goodbye(changed)).unwrap();
        assert_eq!(client.last_words(), None);
        let since = Instant::now();
        wait_for("the end of the first expiry", SOON, || asked != 1 || since.elapsed() > Duration::from_millis(1500));
        let mut again = Hello::new(5, &id);
        again.clean = false;
        assert_eq!(again.open(hub.mqtt).0.session_present, is_kept, "{id}");
    }
}

#[test]
fn topic_aliases_of_a_client_stand_for_what_it_said_last() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = subscriber(hub.mqtt, "#", 1);
    let mut client = open(hub.mqtt, "publisher");
    let steps = [("a/long/topic", 1, "a/long/topic"), ("", 1, "a/long/topic"), ("b", 16, "b"), ("", 16, "b")];
    for (topic, alias, expected) in steps.into_iter().chain([("c", 1, "c"), ("", 1, "c"), ("", 16, "b")]) {
        for qos in 0..=2 {
            client.deliver(&Sent::new(topic, b"x", qos).with(TOPIC_ALIAS, alias));
            let message = watcher.delivery_acked();
            assert_eq!(message.topic, expected);
            assert!(!message.properties.has(TOPIC_ALIAS), "an alias is its publisher's own");
        }
    }
    // A reading by its alias is a reading.
    client.deliver(&Sent::new("x/weathermeters", b"{\"utc\":1}", 1).with(TOPIC_ALIAS, 2));
    client.deliver(&Sent::new("", b"{\"utc\":2}", 1).with(TOPIC_ALIAS, 2));
    assert_eq!(site.weather_count(), 2);
}

#[test]
fn a_wrong_topic_alias_ends_the_connection_with_its_reason() {
    let site = Site::new();
    let hub = site.start();
    let mut first = open(hub.mqtt, "sets-one");
    first.deliver(&Sent::new("a", b"x", 1).with(TOPIC_ALIAS, 1));
    for (topic, alias, code) in [("a", 0, 0x94), ("a", 17, 0x94), ("a", 65_535, 0x94), ("", 1, 0x82), ("", 17, 0x94)] {
        let mut client = open(hub.mqtt, "wrong");
        client.send(&Sent::new(topic, b"x", 1).with(TOPIC_ALIAS, alias).bytes(5)).unwrap();
        client.expect_disconnect(code);
    }
    let mut client = open(hub.mqtt, "neither");
    client.send(&Sent::new("", b"x", 1).bytes(5)).unwrap();
    client.expect_disconnect(0x82);
    // Aliases end with their connection.
    let mut again = open(hub.mqtt, "sets-one");
    again.send(&Sent::new("", b"x", 1).with(TOPIC_ALIAS, 1).bytes(5)).unwrap();
    again.expect_disconnect(0x82);
}

#[test]
fn the_hub_uses_as_many_topic_aliases_as_a_client_takes() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(hub.mqtt, "publisher");
    let hello = Hello::new(5, "alias").kept().with(TOPIC_ALIAS_MAXIMUM, 2);
    let (mut client, _) = hello.open(hub.mqtt);
    client.subscribe("#", 1);
    for (topic, written, alias) in
        [("a", "a", vec![1]), ("a", "", vec![1]), ("b", "b", vec![2]), ("c", "c", vec![]), ("b", "", vec![2])]
    {
        publisher.deliver(&Sent::new(topic, b"x", 1));
        let message = client.delivery_acked();
        assert_eq!((message.topic.as_str(), message.properties.numbers(TOPIC_ALIAS)), (written, alias), "{topic}");
    }
    // What was sent by an alias is sent again by its name: the new connection knows no alias.
    publisher.deliver(&Sent::new("b", b"again", 1));
    assert_eq!(client.delivery().topic, "");
    client.cut();
    let (mut client, _) = hello.open(hub.mqtt);
    let again = client.delivery_acked();
    assert!(again.dup && again.payload == b"again");
    assert_eq!((again.topic.as_str(), again.properties.numbers(TOPIC_ALIAS)), ("b", vec![1]));
    let mut without = subscriber(hub.mqtt, "#", 0);
    publisher.deliver(&Sent::new("a", b"x", 1));
    publisher.deliver(&Sent::new("a", b"x", 1));
    for _ in 0..2 {
        assert!(!without.delivery().properties.has(TOPIC_ALIAS));
    }
}

#[test]
fn an_alias_is_not_taken_for_set_by_a_packet_that_was_too_large() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(hub.mqtt, "publisher");
    let hello = Hello::new(5, "small").with(TOPIC_ALIAS_MAXIMUM, 2).with(MAXIMUM_PACKET_SIZE, 64);
    let (mut client, _) = hello.open(hub.mqtt);
    client.subscribe("#", 0);
    publisher.deliver(&Sent::new("topic", &[0; 200], 1));
    publisher.deliver(&Sent::new("topic", b"fits", 1));
    let message = client.delivery();
    assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("topic", &b"fits"[..]));
    // A packet to which the alias would be too much goes without.
    let whole = Sent::new("other", &[], 0).bytes(5).len();
    publisher.deliver(&Sent::new("other", &vec![1; 64 - whole], 1));
    let message = client.delivery();
    assert_eq!((message.topic.as_str(), message.properties.has(TOPIC_ALIAS)), ("other", false));
    publisher.deliver(&Sent::new("other", b"1", 1));
    let message = client.delivery();
    assert_eq!((message.topic.as_str(), message.properties.numbers(TOPIC_ALIAS)), ("other", vec![2]));
}

#[test]
fn a_message_larger_than_its_subscriber_takes_is_as_good_as_delivered() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(hub.mqtt, "publisher");
    let hello = Hello::new(5, "small").kept().with(MAXIMUM_PACKET_SIZE, 100);
    let (mut client, _) = hello.open(hub.mqtt);
    client.subscribe("t", 2);
    let mark = hub.log_end();
    let fits = 100 - Sent::new("t", &[], 1).bytes(5).len();
    for qos in 0..=2 {
        publisher.deliver(&Sent::new("t", &vec![7; fits + 3], qos));
        publisher.deliver(&Sent::new("t", &vec![8; fits - 2], qos));
        assert_eq!(client.delivery_acked().payload, vec![8; fits - 2]);
    }
    hub.wait_said(mark, &["larger than the packets"], SOON);
    // Also what was in flight when the client came back with a smaller size.
    publisher.deliver(&Sent::new("t", &[1; 60], 1));
    publisher.deliver(&Sent::new("t", &[2; 10], 1));
    assert_eq!((client.delivery().payload.len(), client.delivery().payload.len()), (60, 10));
    client.cut();
    let (mut client, _) = Hello::new(5, "small").kept().with(MAXIMUM_PACKET_SIZE, 40).open(hub.mqtt);
    assert_eq!(client.delivery_acked().payload, [2; 10]);
    client.assert_nothing_waits();
}

#[test]
fn a_packet_larger_than_the_hub_takes_ends_the_connection() {
    let site = Site::new();
    let hub = site.start();
    let (mut client, terms) = Hello::new(5, "huge").open(hub.mqtt);
    let most = terms.numbers(MAXIMUM_PACKET_SIZE)[0];
    let length = |number: u32| (0..4).map(move |place| (number >> (7 * place) & 0x7F) as u8 | u8::from(place < 3) << 7);
    client.send(&[0x30].into_iter().chain(length(most)).collect::<Vec<u8>>()).unwrap();
    client.expect_disconnect(0x95);
}

#[test]
fn no_packet_is_larger_than_a_client_takes() {
    let site = Site::new();
    let hub = site.start();
    // Not even the answer to CONNECT.
    let mut client = Client::raw(hub.mqtt, 5).unwrap();
    client.send(&Hello::new(5, "tiny").with(MAXIMUM_PACKET_SIZE, 4).bytes()).unwrap();
    assert_eq!(client.last_words(), None);
    let (mut client, _) = Hello::new(5, "many").with(MAXIMUM_PACKET_SIZE, 25).open(hub.mqtt);
    let filters: Vec<String> = (0..40).map(|number| format!("f{number}")).collect();
    let filters: Vec<(&str, u8)> = filters.iter().map(|filter| (filter.as_str(), 0)).collect();
    assert_eq!(client.subscribe_with(&filters[..10], &Properties::default()).0.len(), 10);
    let (codes, told) = client.subscribe_with(&[("wrong#", 0)], &Properties::default());
    assert_eq!((codes, told), (vec![0x8F], Properties::default()), "words that would not fit are left out");
    let body: Vec<u8> =
        filters.iter().flat_map(|(name, _)| [&support::packet::text(name)[..], &[0]].concat()).collect();
    client.send(&packet(0x82, &[&[0, 9, 0][..], &body].concat())).unwrap();
    assert_eq!(client.last_words(), Some((0xE0, vec![0x95])), "without words, which do not fit either");
}

#[test]
fn words_come_with_a_failure_unless_the_client_asks_for_none() {
    let site = Site::new();
    let hub = site.start();
    for (hello, wants) in
        [(Hello::new(5, "curious"), true), (Hello::new(5, "terse").with(REQUEST_PROBLEM_INFORMATION, 0), false)]
    {
        let (mut client, _) = hello.open(hub.mqtt);
        let (codes, told) = client.subscribe_with(&[("a#", 0), ("ok", 1)], &Properties::default());
        assert_eq!(codes, [0x8F, 1]);
        assert_eq!(told.has(REASON_STRING), wants, "SUBACK");
        let (_, told) = client.subscribe_with(&[("ok", 1)], &Properties::default());
        assert!(!told.has(REASON_STRING), "there is nothing to say of a success");
        // A DISCONNECT may have words in any case.
        client.send(&packet(0xF0, &[])).unwrap();
        let (first, body) = client.last_words().unwrap();
        assert_eq!((first, body[0], body[2]), (0xE0, 0x82, REASON_STRING));
    }
    let mut hello = Hello::new(5, "method");
    hello.properties = Properties::default().text(0x15, "GS2-KRB5");
    let (_, code, told) = hello.knock(hub.mqtt);
    assert_eq!((code, told.has(REASON_STRING)), (0x8C, true));
    let (_, code, told) = hello.with(MAXIMUM_PACKET_SIZE, 40).knock(hub.mqtt);
    assert_eq!((code, told), (0x8C, Properties::default()), "words only where they fit");
}

#[test]
fn every_matching_subscription_sends_its_identifier_along() {
    let site = Site::new();
    let hub = site.start();
    let mut client = open(hub.mqtt, "numbers");
    let mut old = support::mqtt::Connect::new(4, "old").open(hub.mqtt);
    old.subscribe("a/#", 1);
    let mut subscribe = |filter: &str, number: u32| {
        let properties = Properties::default().number(SUBSCRIPTION_IDENTIFIER, number);
        assert_eq!(client.subscribe_with(&[(filter, 1)], &properties).0, [1]);
    };
    subscribe("a/#", 268_435_455);
    subscribe("a/+", 1);
    subscribe("b", 128);
    client.subscribe("a/b", 2);
    let mut publisher = open(hub.mqtt, "publisher");
    let mut identifiers = |client: &mut Client, topic: &str| {
        publisher.deliver(&Sent::new(topic, b"x", 2));
        let message = client.delivery_acked();
        let mut numbers = message.properties.numbers(SUBSCRIPTION_IDENTIFIER);
        numbers.sort_unstable();
        (message.qos, numbers)
    };
    assert_eq!(identifiers(&mut client, "a/b"), (2, vec![1, 268_435_455]), "once, at the highest QoS");
    assert_eq!(identifiers(&mut client, "a/b/c"), (1, vec![268_435_455]));
    assert_eq!(identifiers(&mut client, "b"), (1, vec![128]));
    assert_eq!(old.receive().payload, b"x");
    // A repeated SUBSCRIBE replaces the number, or takes it away.
    client.subscribe_with(&[("b", 1)], &Properties::default().number(SUBSCRIPTION_IDENTIFIER, 5));
    assert_eq!(identifiers(&mut client, "b"), (1, vec![5]));
    client.subscribe("b", 1);
    assert_eq!(identifiers(&mut client, "b"), (1, vec![]));
    client.assert_nothing_waits();
    // 0 is no identifier, and a client sends none with a message.
    client.send(&packet(0x82, &[0, 9, 2, SUBSCRIPTION_IDENTIFIER, 0, 0, 1, b'a', 0])).unwrap();
    client.expect_disconnect(0x82);
    publisher.send(&Sent::new("a", b"x", 0).with(SUBSCRIPTION_IDENTIFIER, 1).bytes(5)).unwrap();
    publisher.expect_disconnect(0x82);
}

#[test]
fn a_message_carries_the_time_that_it_has_left_and_none_comes_too_late() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = open(hub.mqtt, "publisher");
    let hello = Hello::new(5, "away").kept();
    let old = support::mqtt::Connect::new(4, "old").persistent();
    let (mut client, _) = hello.open(hub.mqtt);
    client.subscribe("t", 1);
    old.open(hub.mqtt).subscribe("t", 1);
    publisher.deliver(&Sent::new("t", b"live", 1).with(MESSAGE_EXPIRY, 100));
    let left = client.delivery_acked().properties.numbers(MESSAGE_EXPIRY)[0];
    assert!((90..=100).contains(&left), "{left} s");
    client.disconnect();
    publisher.deliver(&Sent::new("t", b"short", 1).with(MESSAGE_EXPIRY, 1));
    publisher.deliver(&Sent::new("t", b"long", 1).with(MESSAGE_EXPIRY, 100));
    publisher.deliver(&Sent::new("t", b"for ever", 1));
    let published = Instant::now();
    wait_for("the short one's end", SOON, || published.elapsed() > Duration::from_millis(2100));
    let (mut client, _) = hello.open(hub.mqtt);
    let long = client.delivery_acked();
    let left = long.properties.numbers(MESSAGE_EXPIRY)[0];
    assert!(long.payload == b"long" && (80..=98).contains(&left), "{left} s left of {long:?}");
    let for_ever = client.delivery_acked();
    assert!(for_ever.payload == b"for ever" && !for_ever.properties.has(MESSAGE_EXPIRY));
    let mut old = old.open(hub.mqtt);
    let payloads: Vec<Vec<u8>> = (0..3).map(|_| old.receive().payload).collect();
    assert_eq!(payloads, [&b"live"[..], b"long", b"for ever"]);
}

#[test]
fn properties_of_a_message_reach_its_subscriber_unchanged_and_in_order() {
    let site = Site::new();
    let hub = site.start();
    let mut client = subscriber(hub.mqtt, "t", 0);
    let properties = Properties::default()
        .number(0x01, 1)
        .text(0x03, "application/json")
        .text(0x08, "answers/here")
        .text(0x09, "correlation")
        .pair("b", "2")
        .pair("a", "1")
        .pair("b", "3");
    let mut message = Sent::new("t", "{}".as_bytes(), 1);
    message.properties = properties.clone();
    open(hub.mqtt, "publisher").deliver(&message);
    assert_eq!(client.delivery().properties, properties);
}

#[test]
fn a_keep_alive_beyond_the_limit_is_lowered_told_and_kept() {
    let site = Site::with_config("[broker.limits]\nkeep_alive_s_max = 1\n");
    let hub = site.start();
    let hello = |version: u8, keep_alive_s: u16| {
        let mut hello = Hello::new(version, &format!("{version}-{keep_alive_s}"));
        hello.keep_alive_s = keep_alive_s;
        hello
    };
    assert!(!hello(5, 1).open(hub.mqtt).1.has(SERVER_KEEP_ALIVE));
    for asked in [0, 60] {
        let (mut client, terms) = hello(5, asked).open(hub.mqtt);
        assert_eq!(terms.numbers(SERVER_KEEP_ALIVE), [1]);
        let opened = Instant::now();
        client.expect_disconnect(0x8D);
        assert!(opened.elapsed() >= Duration::from_millis(1400), "{:?}", opened.elapsed());
    }
    let mut old = hello(4, 60).open(hub.mqtt).0;
    old.assert_silent_for(Duration::from_secs(3));
    old.ping();
}

#[test]
fn the_hubs_own_topics_are_not_for_clients_to_publish_on() {
    let site = Site::new();
    let hub = site.start();
    let mut watcher = subscriber(hub.mqtt, "$SYS/#", 1);
    watcher.subscribe("$other/#", 1);
    let mut client = open(hub.mqtt, "impostor");
    client.send(&Sent::new("$SYS/uptime", b"0", 1).retained().id(1).bytes(5)).unwrap();
    client.expect_raw(0x40, &[0, 1, 0x87]);
    client.send(&Sent::new("$SYS", b"0", 2).id(2).bytes(5)).unwrap();
    client.expect_raw(0x50, &[0, 2, 0x87]);
    client.send(&Sent::new("$SYS/uptime", b"0", 0).bytes(5)).unwrap();
    let mut old = support::mqtt::Connect::new(4, "old").open(hub.mqtt);
    for qos in 0..=2 {
        old.publish_through("$SYS/uptime", b"0", qos);
    }
    client.deliver(&Sent::new("$other/topic", b"1", 1));
    assert_eq!(watcher.delivery_acked().topic, "$other/topic", "other $ topics are anybody's");
    watcher.subscribe("$SYS/#", 1);
    watcher.assert_nothing_waits();
}

#[test]
fn authentication_that_was_not_agreed_on_is_a_protocol_error() {
    let site = Site::new();
    let hub = site.start();
    let mut client = open(hub.mqtt, "auth");
    client.send(&packet(0xF0, &[])).unwrap();
    client.expect_disconnect(0x82);
    let mut client = open(hub.mqtt, "again");
    client.send(&Hello::new(5, "again").bytes()).unwrap();
    client.expect_disconnect(0x82);
    for version in [4, 5] {
        let mut client = Client::raw(hub.mqtt, version).unwrap();
        client.send(&Sent::new("a", b"x", 0).bytes(version)).unwrap();
        assert_eq!(client.last_words(), None, "nothing comes before CONNECT, not even an answer");
        let mut client = Hello::new(version, "second").open(hub.mqtt).0;
        client.send(&Hello::new(version, "second").bytes()).unwrap();
        let words = client.last_words();
        assert_eq!(words.is_some(), version == 5, "{words:?}");
    }
}
