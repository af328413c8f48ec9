//! WebSocket listeners: the upgrade, frames right and wrong, and the clients that browsers and Node-RED use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustls::ALL_VERSIONS;
use support::mqtt::{Connect, publish};
use support::packet::packet;
use support::sensor::weather;
use support::tls::{Authority, address, open, site};
use support::websocket::{BINARY, CLOSE, PING, PONG, TEXT, WebSocket, frame_head, request, tcp, upgrade};
use support::{SOON, paho, program, skip};

const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];
const PROTOCOL: &str = "Sec-WebSocket-Protocol: mqtt";

/// Upgrades and connects as MQTT client `id`.
fn connect<S: Read + Write>(stream: S, id: &str) -> WebSocket<S> {
    let mut client = WebSocket::open(stream);
    client.send(BINARY, &Connect::new(4, id).bytes());
    assert_eq!(client.read_bytes(4), CONNACK);
    client
}

#[test]
fn an_upgrade_without_our_sub_protocol_is_refused_with_400() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    let answer = |path: &str, headers: &[&str]| {
        let mut stream = tcp(place);
        let head = upgrade(&mut stream, &request(path, headers)).unwrap();
        let status = head.split(' ').nth(1).unwrap().to_owned();
        let chosen = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("sec-websocket-protocol: ").map(str::to_owned));
        (status, chosen)
    };
    let taken = |protocol: &str| ("101".to_owned(), Some(protocol.to_owned()));
    let refused = ("400".to_owned(), None);
    assert_eq!(answer("/", &[]), refused);
    assert_eq!(answer("/mqtt", &["Sec-WebSocket-Protocol: chat"]), refused);
    assert_eq!(answer("/mqtt", &["Sec-WebSocket-Protocol: mqttx, MQ"]), refused);
    assert_eq!(answer("/any/path?a=b", &[PROTOCOL]), taken("mqtt"));
    assert_eq!(answer("/", &["Sec-WebSocket-Protocol: chat,mqttv3.1 , mqtt"]), taken("mqtt"));
    assert_eq!(answer("/", &["Sec-WebSocket-Protocol: chat", PROTOCOL]), taken("mqtt"));
    assert_eq!(answer("/", &["Sec-WebSocket-Protocol: mqttv3.1"]), taken("mqttv3.1"));
    hub.wait_said(0, &["ws (WebSocket)", "sub-protocol"], SOON);
}

#[test]
fn packets_may_span_messages_and_share_one() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    let mut plain = WebSocket::open(tcp(address(&hub, "ws")));
    // One byte to a message, and empty ones between.
    for byte in Connect::new(4, "spanning").bytes() {
        plain.send(BINARY, &[byte]);
        plain.send(BINARY, &[]);
    }
    assert_eq!(plain.read_bytes(4), CONNACK);
    // Three packets in one message, the last of them cut; a message in two frames, with a ping between them.
    let reading = publish(4, TOPIC.as_bytes(), &weather(1, 1), 1, 9, false);
    let (first, second) = reading.split_at(reading.len() / 2);
    plain.send(BINARY, &[&PINGREQ[..], &PINGREQ, first].concat());
    assert_eq!(plain.read_bytes(4), [PINGRESP, PINGRESP].concat());
    plain.send_part(BINARY, &second[..1]);
    plain.send(PING, b"between");
    plain.send(0, &second[1..]);
    assert_eq!(plain.read().unwrap(), (PONG, b"between".to_vec()));
    assert_eq!(plain.read_bytes(4), [0x40, 2, 0, 9]);
    assert_eq!(site.weather_count(), 1);
    connect(open(address(&hub, "wss"), &authority.client(None, ALL_VERSIONS)), "encrypted");
}

#[test]
fn a_ping_is_answered_at_once_before_and_after_the_connect() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let mut client = WebSocket::open(tcp(address(&hub, "ws")));
    client.send(PING, b"early");
    assert_eq!(client.read().unwrap(), (PONG, b"early".to_vec()));
    client.send(BINARY, &Connect::new(4, "pinging").bytes());
    assert_eq!(client.read_bytes(4), CONNACK);
    for number in 0..50u8 {
        client.send(PING, &[number; 125]);
        assert_eq!(client.read().unwrap(), (PONG, vec![number; 125]));
    }
    client.send(PONG, b"unasked");
    client.send(BINARY, &PINGREQ);
    assert_eq!(client.read_bytes(2), PINGRESP);
}

#[test]
fn a_text_message_closes_the_connection() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    let mut bystander = connect(tcp(place), "bystander");
    let mut early = WebSocket::open(tcp(place));
    early.send(TEXT, &Connect::new(4, "text").bytes());
    assert_eq!(early.expect_closed(), Some(1003));
    let mut late = connect(tcp(place), "writer");
    late.send(TEXT, b"hello");
    assert_eq!(late.expect_closed(), Some(1003));
    hub.wait_said(0, &["writer", "a client was disconnected", "text message"], SOON);
    bystander.send(BINARY, &PINGREQ);
    assert_eq!(bystander.read_bytes(2), PINGRESP);
}

#[test]
fn a_message_above_the_packet_limit_closes_the_connection_and_is_not_gathered() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    let limit = 100_000 + 65_536 + 4_096;
    // A frame that says that it is too large is not waited for.
    for length in [limit + 1, 1 << 40, u64::MAX >> 1] {
        for id in ["", "large"] {
            let mut client = if id.is_empty() { WebSocket::open(tcp(place)) } else { connect(tcp(place), id) };
            client.stream.write_all(&frame_head(BINARY, length)).unwrap();
            assert_eq!(client.expect_closed(), Some(1009), "{length}, {id:?}");
        }
    }
    // Nor is a message of many frames that never ends.
    let mut endless = connect(tcp(place), "endless");
    endless.send_part(BINARY, &[0; 60_000]);
    endless.send_part(0, &[0; 60_000]);
    endless.send_part(0, &[0; 60_000]);
    assert_eq!(endless.expect_closed(), Some(1009));
    // A message of the largest packet passes.
    let mut honest = connect(tcp(place), "honest");
    honest.send(BINARY, &publish(4, b"large", &[7; 100_000], 1, 3, false));
    assert_eq!(honest.read_bytes(4), [0x40, 2, 0, 3]);
}

#[test]
fn frames_that_break_the_protocol_end_their_own_connection_alone() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    let mut bystander = connect(tcp(place), "bystander");
    let wrong: [&[u8]; 5] = [
        &[0x82, 2, 0xC0, 0],       // not masked
        &[0xF2, 0x80, 0, 0, 0, 0], // reserved bits
        &[0x83, 0x80, 0, 0, 0, 0], // reserved opcode
        &[0x80, 0x80, 0, 0, 0, 0], // continues nothing
        &[0x09, 0x80, 0, 0, 0, 0], // a control frame in parts
    ];
    for bytes in wrong {
        let mut client = connect(tcp(place), "wrong");
        client.stream.write_all(bytes).unwrap();
        assert_eq!(client.expect_closed(), Some(1002), "{bytes:?}");
        bystander.send(BINARY, &PINGREQ);
        assert_eq!(bystander.read_bytes(2), PINGRESP);
    }
    for garbage in [Connect::new(4, "plain").bytes(), vec![b'a'; 100_000], b"GET / HTTP/1.0\r\n\r\n".to_vec()] {
        let mut stream = tcp(place);
        // It may be closed before all is sent.
        stream.write_all(&garbage).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        support::tls::expect_closed(&mut stream);
    }
    bystander.send(BINARY, &PINGREQ);
    assert_eq!(bystander.read_bytes(2), PINGRESP);
}

#[test]
fn a_websocket_ends_as_it_should_from_both_sides() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    // The client's CLOSE is answered, and its will is published, as it has not said goodbye.
    let mut watcher = connect(tcp(place), "watcher");
    watcher.send(BINARY, &packet(0x82, b"\x00\x01\x00\x04will\x00"));
    assert_eq!(watcher.read_bytes(5), [0x90, 3, 0, 1, 0]);
    let mut leaving = WebSocket::open(tcp(place));
    leaving.send(BINARY, &Connect::new(4, "leaving").will("will", b"gone", 0).bytes());
    assert_eq!(leaving.read_bytes(4), CONNACK);
    leaving.send(CLOSE, &1000u16.to_be_bytes());
    assert_eq!(leaving.expect_closed(), Some(1000));
    let expected = publish(4, b"will", b"gone", 0, 0, false);
    assert_eq!(watcher.read_bytes(expected.len()), expected);
    // A DISCONNECT, or the hub's stop, ends with the hub's CLOSE.
    let mut polite = connect(tcp(place), "polite");
    polite.send(BINARY, &[0xE0, 0]);
    polite.send(CLOSE, &1000u16.to_be_bytes());
    polite.expect_closed();
    assert!(hub.stop().success());
    assert!(watcher.expect_closed().is_none_or(|code| code == 1000));
}

#[test]
fn half_open_upgrades_end_at_the_deadline_and_delay_nobody() {
    let authority = Authority::new("authority");
    let site = site(&authority, 2_000);
    let hub = site.start();
    let place = address(&hub, "ws");
    let begun = Instant::now();
    let whole = request("/", &[PROTOCOL]);
    let mut stalled: Vec<_> = (0..600)
        .map(|number| {
            let mut stream = tcp(place);
            let said: &[u8] = [&b""[..], &whole.as_bytes()[..60], whole.as_bytes()][number % 3];
            // One may have had to make room for another.
            stream.write_all(said).ok();
            stream
        })
        .collect();
    let asked = Instant::now();
    connect(tcp(place), "good");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    for stream in &mut stalled {
        support::tls::expect_closed(stream);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    hub.wait_said(0, &["ws (WebSocket)", "a connection was closed before it began"], SOON);
}

#[test]
fn paho_for_python_speaks_over_websocket_plain_and_encrypted() {
    if paho::is_there() {
        let site = site(&Authority::new("authority"), 10_000);
        let hub = site.start();
        for (listener, authority) in [("ws", ""), ("wss", "ca.pem")] {
            let address = address(&hub, listener);
            paho::run(&site, &paho::Way { address, transport: "websockets", authority, size: 40_000 });
        }
    }
}

/// Runs a client to its end, which must be a good one.
fn finish(mut command: Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success() && output.stdout == b"done\n", "{command:?}: {output:?}");
}

/// Subscribes, publishes at each QoS in each version, and sends readings: resolves when each is acked.
const NODE: &str = r#"
const fs = require("fs");
const mqtt = require("mqtt");
const [url, version, reading] = process.argv.slice(2);
const ca = url.startsWith("wss:") ? fs.readFileSync("ca.pem") : undefined;
setTimeout(() => { console.error("too slow"); process.exit(1); }, 50000).unref();
async function main() {
    const options = { protocolVersion: Number(version), clientId: "node" + version, ca, reconnectPeriod: 0 };
    if (version === "3") options.protocolId = "MQIsdp";
    const client = await mqtt.connectAsync(url, options);
    const got = [];
    const all = new Promise((resolve) => client.on("message", (topic, payload, packet) => {
        got.push([topic, payload.length, payload.toString().slice(0, 2), packet.qos].join(" "));
        if (got.length === 3) resolve();
    }));
    await client.subscribeAsync("echo/#", { qos: 2 });
    for (const qos of [0, 1, 2]) await client.publishAsync("echo/" + qos, String(qos).repeat(50000), { qos });
    await all;
    const expected = [0, 1, 2].map((qos) => ["echo/" + qos, 50000, "" + qos + qos, qos].join(" "));
    if (got.sort().join() !== expected.join()) throw new Error(got.join());
    // The package does not hold back what is above the receive maximum; fewer at a time are its user's business.
    for (let round = 0; round < 2; round++) {
        const sends = [];
        for (let number = 0; number < 50; number++) {
            // The same sample sent again would be stored once.
            const sample = JSON.stringify({ ...JSON.parse(reading), raingaugecount: 50 * round + number });
            sends.push(client.publishAsync("node/weathermeters/", sample, { qos: 1 + number % 2 }));
        }
        await Promise.all(sends);
    }
    await client.endAsync();
    console.log("done");
}
main().catch((error) => { console.error(error); process.exit(1); });
"#;

#[test]
fn the_mqtt_package_of_npm_speaks_over_websocket_plain_and_encrypted() {
    let Some(modules) = std::env::var_os("STATIONHUB_NODE_MODULES").map(PathBuf::from) else {
        return skip("STATIONHUB_NODE_MODULES names no directory with npm's package mqtt", true);
    };
    if program("node").is_none() {
        return;
    }
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    fs::write(site.file("client.js"), NODE).unwrap();
    let mut rows = 0;
    for (listener, scheme) in [("ws", "ws"), ("wss", "wss")] {
        let url = format!("{scheme}://localhost:{}/mqtt", address(&hub, listener).port());
        for version in ["3", "4", "5"] {
            let mut node = program("node").unwrap();
            node.current_dir(site.dir()).env("NODE_PATH", &modules);
            node.args(["client.js", &url, version]).arg(String::from_utf8(weather(1, rows)).unwrap());
            finish(node);
            rows += 100;
            assert_eq!(site.weather_count(), rows as i64, "{url}, version {version}");
        }
    }
}
