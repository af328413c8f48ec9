//! What ended or locked up rumqttd's own server, one test for each fault: the hub uses its router, and must not inherit
//! them.
//!
//! Owns the faults after which nobody was served any more. What the stock server answered wrongly is in
//! `stock_answers.rs`, the subscriber that cannot keep up in `slow_subscriber.rs`, memory that is never given back in
//! `bounds.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::net;
use support::mqtt::{Client, Connect, Packet, packet, text};
use support::watch::{assert_serves, open_files};
use support::{SOON, Site, wait_for};

const VERSIONS: [u8; 2] = [4, 5];

#[test]
fn a_client_id_with_a_plus_sign_connects_three_times() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for id in ["x+y", "a/#", "$SYS", "ü", "two words", "quote'\"; DROP TABLE source"] {
            for _ in 0..3 {
                let mut client = Connect::new(version, id).open(hub.mqtt);
                client.subscribe("a", 1);
                client.publish_through("a", id.as_bytes(), 1);
                assert_eq!(client.receive().payload, id.as_bytes());
            }
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_topic_that_begins_beyond_ascii_does_not_kill_the_router() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "francophone").open(hub.mqtt);
    for filter in ["x", "+/x", "été/#", "#"] {
        client.subscribe(filter, 1);
    }
    for topic in ["été/x", "é", "日本/x", "🌦/x"] {
        client.publish_through(topic, topic.as_bytes(), 1);
        assert_eq!(client.receive().topic, topic);
    }
    assert_serves(&site, &hub);
}

/// Where shared subscriptions are refused, nothing is left to go wrong; where they are granted, the message that was not
/// acked has to come to somebody.
#[test]
fn a_shared_subscriber_that_drops_with_unacked_messages_does_not_kill_the_router() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let topic = format!("jobs/{version}");
        let member = Connect::new(version, &format!("member-{version}")).persistent();
        let mut leaving = member.open(hub.mqtt);
        let code = leaving.subscribe(&format!("$share/group/{topic}"), 1);
        assert!(code <= 1 || code >= 0x80, "{code}");
        let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
        publisher.publish_through(&topic, b"first", 1);
        if code == 1 {
            assert_eq!(leaving.receive_unacked().payload, b"first");
        }
        leaving.cut();
        publisher.publish_through(&topic, b"second", 1);
        if code == 1 {
            let mut back = member.open(hub.mqtt);
            assert_eq!(back.receive().payload, b"first");
            assert_eq!(back.receive().payload, b"second");
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn an_old_socket_that_drains_after_its_taker_left_does_not_kill_the_router() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for round in 0..10 {
            let slow = Connect::new(version, "slow");
            let mut old = slow.open(hub.mqtt);
            old.subscribe("flood", 1);
            let mut publisher = Connect::new(4, "publisher").open(hub.mqtt);
            for _ in 0..200 {
                publisher.publish("flood", &[7; 4096], 0, 0, false);
            }
            publisher.ping();
            let mut taker = slow.open(hub.mqtt);
            taker.subscribe("flood", 1);
            if round % 2 == 0 {
                taker.disconnect()
            } else {
                taker.cut()
            }
            // Only now the old socket is read to its end.
            let reason = old.expect_closed();
            assert!(reason.is_none() || reason == Some(0x8E), "{reason:?}");
            publisher.publish_through("flood", b"x", 1);
        }
    }
    assert_serves(&site, &hub);
}

#[test]
fn more_connections_than_the_maximum_are_refused_and_others_served_on() {
    let site = Site::with_config("[broker.limits]\nconnections = 20\nconnections_pending = 50\n");
    let hub = site.start();
    let mut inside: Vec<Client> =
        (0..20).map(|number| Connect::new(4, &format!("inside-{number}")).open(hub.mqtt)).collect();
    for number in 0..60 {
        for (version, code) in [(4, 3), (5, 0x97)] {
            let mut outside = Client::raw(hub.mqtt, version).unwrap();
            outside.send(&Connect::new(version, &format!("outside-{number}")).bytes()).unwrap();
            assert_eq!(outside.read(SOON).unwrap(), Packet::ConnAck { session_present: false, code });
        }
    }
    // A client that is known takes its own place over.
    inside[0] = Connect::new(5, "inside-0").open(hub.mqtt);
    inside.iter_mut().for_each(Client::ping);
    inside.drain(..10).for_each(Client::disconnect);
    wait_for("room for a newcomer", SOON, || Connect::new(4, "late").try_open(hub.mqtt).is_ok());
    assert_serves(&site, &hub);
}

#[test]
fn one_address_does_not_take_the_places_of_all_others() {
    let site = Site::with_config("[broker.limits]\nconnections_per_address = 5\n");
    let hub = site.start();
    let mut inside: Vec<Client> =
        (0..5).map(|number| Connect::new(4, &format!("inside-{number}")).open(hub.mqtt)).collect();
    for (version, code) in [(4, 3), (5, 0x97)] {
        let mut outside = Client::raw(hub.mqtt, version).unwrap();
        outside.send(&Connect::new(version, "outside").bytes()).unwrap();
        assert_eq!(outside.read(SOON).unwrap(), Packet::ConnAck { session_present: false, code });
    }
    // Every address of 127.0.0.0/8 is this machine's.
    let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
    net::bind(&socket, &SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    net::connect(&socket, &hub.mqtt).unwrap();
    let mut elsewhere = TcpStream::from(socket);
    elsewhere.write_all(&Connect::new(4, "elsewhere").bytes()).unwrap();
    let mut connack = [0; 4];
    elsewhere.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x20, 2, 0, 0]);
    inside.iter_mut().for_each(Client::ping);
    inside.pop().unwrap().disconnect();
    wait_for("room for a newcomer", SOON, || Connect::new(5, "late").try_open(hub.mqtt).is_ok());
    assert!(!hub.said_since(0, &[" warn ", "connections_per_address"]).is_empty(), "it is told");
}

#[test]
fn a_client_that_sends_connack_520_times_leaks_no_slot() {
    let site = Site::new();
    let hub = site.start();
    let files = open_files(&hub);
    for version in VERSIONS {
        for _ in 0..520 {
            let mut client = Connect::new(version, "broker-at-heart").open(hub.mqtt);
            client.subscribe("a", 0);
            client.send(&[0x20, 3, 0, 0, 0]).unwrap();
            client.expect_closed();
        }
    }
    assert_serves(&site, &hub);
    wait_for("its sockets to be closed", SOON, || open_files(&hub) <= files + 2);
}

#[test]
fn properties_of_mqtt_5_do_not_break_a_subscriber_of_3_1_1() {
    let site = Site::new();
    let hub = site.start();
    let mut old = Connect::new(4, "old").open(hub.mqtt);
    let mut new = Connect::new(5, "new").open(hub.mqtt);
    // Payload format, content type, response topic, correlation data, a user property.
    let properties = [
        &[1, 1, 3][..],
        &text("text/plain"),
        &[8],
        &text("answer"),
        &[9],
        &text("42"),
        &[38],
        &text("unit"),
        &text("hPa"),
    ]
    .concat();
    for qos in 0..=2u8 {
        old.subscribe("a", qos);
        new.subscribe("a", qos);
        let id: &[u8] = if qos == 0 { &[] } else { &[0, 9] };
        let body = [&text("a")[..], id, &[properties.len() as u8], &properties, b"1004"].concat();
        let mut publisher = Connect::new(5, "publisher").open(hub.mqtt);
        publisher.send(&packet(0x30 | qos << 1, &body)).unwrap();
        assert_eq!(old.receive().payload, b"1004");
        assert_eq!(new.receive().payload, b"1004");
        old.ping();
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_client_that_comes_as_another_leaves_is_let_in_2000_times() {
    let site = Site::new();
    let hub = site.start();
    let mut leaving: Option<Client> = None;
    for number in 0..2_000 {
        let version = VERSIONS[number % 2];
        if let Some(mut leaving) = leaving.take() {
            if number % 3 == 0 { leaving.cut() } else { leaving.send(&[0xE0, 0]).unwrap() }
        }
        let mut client = Connect::new(version, &format!("client-{}", number % 2)).open(hub.mqtt);
        if number % 8 == 0 {
            client.subscribe("hello", 0);
            client.publish_through("hello", &[version], 0);
            assert_eq!(client.receive().payload, [version]);
        } else {
            client.ping();
        }
        leaving = Some(client);
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_port_in_use_ends_the_start_with_its_reason() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = site.command("run");
    command.args(["--listen", &address, "--http", "", "--pid"]).arg(site.file("hub.pid"));
    let output = site.refused(command, SOON);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&address) && said.contains("cannot listen"), "{said}");
}

/// The stock server awaited a handshake in its accept loop. Here the same with what every listener has: peers that begin
/// and do not go on.
#[test]
fn peers_that_never_finish_their_beginning_do_not_delay_a_connect() {
    let site = Site::new();
    let hub = site.start();
    let connect = Connect::new(4, "half").bytes();
    let half: Vec<TcpStream> = (0..1_000)
        .map(|number| {
            let mut peer = TcpStream::connect(hub.mqtt).unwrap();
            // Nothing, half a CONNECT, or the beginning of a TLS handshake; an older one may be closed by now.
            let bytes: &[u8] = [&[], &connect[..5], &[0x16, 3, 1, 2, 0, 1][..]][number % 3];
            peer.write_all(bytes).ok();
            peer
        })
        .collect();
    let started = Instant::now();
    wait_for("a good client's place", SOON, || Connect::new(5, "good").try_open(hub.mqtt).is_ok());
    let waited = started.elapsed();
    println!("a good client was let in after {waited:?}");
    assert!(waited < Duration::from_secs(5), "it waited {waited:?}");
    drop(half);
    assert_serves(&site, &hub);
}
