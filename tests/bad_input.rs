//! Bad readings, bad packets and bad peers: each gets its answer, and nobody else notices.
//!
//! Owns the issue's list "Bad input, and what it gets", except the configuration (`operations.rs`). What a well-behaved
//! client gets is in `broker.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::types::Value;
use support::mqtt::{Client, Connect, packet, publish, text};
use support::sensor::{weather, weather_topic};
use support::{Dice, Hub, PATIENTLY, SOON, Site, now_s, wait_for};

const WEATHER: &str = "backacres/house/weatherstation/weathermeters/";
const FLUX: &str = "backacres/house/weatherstation/magneticfluxsensor/";

#[test]
fn every_bad_reading_is_acked_and_quarantined_with_its_bytes() {
    let too_long = format!(r#"{{"utc":{},"note":"{}"}}"#, now_s(), "x".repeat(300 * 1024));
    let bad: Vec<(&str, &str, &[u8])> = vec![
        ("not JSON", WEATHER, b"hello"),
        ("empty", WEATHER, b""),
        ("truncated", WEATHER, br#"{"utc":1759479845,"temperature":5."#),
        ("more after the end", WEATHER, br#"{"utc":1759479845} {"utc":1759479846}"#),
        ("an array", WEATHER, br#"[{"utc":1759479845}]"#),
        ("a number alone", WEATHER, b"5.22"),
        ("a word for a number", WEATHER, br#"{"utc":1759479845,"temperature":"warm"}"#),
        ("an empty string for a number", WEATHER, br#"{"utc":1759479845,"humidity":""}"#),
        ("an object for a number", WEATHER, br#"{"utc":1759479845,"humidity":{"v":1}}"#),
        ("a truth for a number", WEATHER, br#"{"utc":1759479845,"pressure":true}"#),
        ("a word for the time", WEATHER, br#"{"utc":"now","temperature":5.22}"#),
        ("NaN", WEATHER, br#"{"utc":1759479845,"temperature":NaN}"#),
        ("NaN as a string", WEATHER, br#"{"utc":1759479845,"temperature":"NaN"}"#),
        ("infinity as a string", WEATHER, br#"{"utc":1759479845,"temperature":"inf"}"#),
        ("beyond a double", WEATHER, br#"{"utc":1759479845,"temperature":1e999}"#),
        ("not UTF-8", WEATHER, b"{\"utc\":1759479845,\"note\":\"\xff\xfe\"}"),
        ("300 KiB", WEATHER, too_long.as_bytes()),
        ("deep nesting", WEATHER, &[b'['; 5_000]),
        ("x missing", FLUX, br#"{"y":-558,"z":-305}"#),
        ("z missing", FLUX, br#"{"x":1115,"y":-558}"#),
        ("x null", FLUX, br#"{"x":null,"y":-558,"z":-305}"#),
    ];
    let site = Site::new();
    let hub = site.start();
    for version in [4, 5] {
        let mut client = Connect::new(version, "broken-sensor").open(hub.mqtt);
        for (name, topic, payload) in &bad {
            println!("{name}, MQTT level {version}");
            let qos = 1 + u8::from(*name == "an array");
            let before = site.number("SELECT count(*) FROM quarantine");
            client.publish_through(topic, payload, qos);
            let rows = site.rows("SELECT topic, payload, reason FROM quarantine ORDER BY id");
            assert_eq!(rows.len() as i64, before + 1, "{name}: one row when the ack is here");
            let [Value::Text(kept_topic), Value::Blob(kept), Value::Text(reason)] = rows.last().unwrap().as_slice()
            else {
                panic!("{name}: {:?}", rows.last());
            };
            assert_eq!(kept_topic.trim_end_matches('/'), topic.trim_end_matches('/'), "{name}");
            assert!(kept == payload, "{name}: the bytes are not what was sent");
            assert!(!reason.is_empty(), "{name}");
        }
        client.publish_through(WEATHER, &weather(1, version.into()), 1);
    }
    assert_eq!(site.weather_count(), 2);
    assert_eq!(site.number("SELECT count(*) FROM magnetic_flux_data"), 0);
    let lines = hub.said_since(0, &["weathermeters"]);
    assert!(!lines.is_empty(), "a rejected reading is a log line with its topic");
}

#[test]
fn bad_readings_at_qos0_and_in_wills_are_quarantined_too() {
    let site = Site::new();
    let hub = site.start();
    Connect::new(4, "sensor").open(hub.mqtt).publish_through(WEATHER, b"hello", 0);
    Connect::new(4, "dying").will(WEATHER, b"goodbye", 0).open(hub.mqtt).cut();
    let quarantined = || site.rows("SELECT payload FROM quarantine ORDER BY payload");
    wait_for("both rows", SOON, || quarantined().len() == 2);
    let expected = [b"goodbye".as_slice(), b"hello"].map(|bytes| vec![Value::Blob(bytes.into())]);
    assert_eq!(quarantined(), expected);
}

#[test]
fn an_odd_time_is_kept_as_sent() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "odd-clock").open(hub.mqtt);
    let last =
        |column: &str| site.rows(&format!("SELECT {column} FROM weather_data ORDER BY id DESC LIMIT 1"))[0][0].clone();
    // 1970, before it, and the last second of the year 9999.
    for utc in [0, -1, 253_402_300_799] {
        client.publish_through(WEATHER, format!(r#"{{"utc":{utc}}}"#).as_bytes(), 1);
        assert_eq!(last("timestamp"), Value::Integer(utc));
    }
    client.publish_through(WEATHER, br#"{"temperature":7.5}"#, 1);
    let Value::Integer(stamped) = last("timestamp") else { panic!("no time") };
    assert!((now_s() - stamped).abs() < 60, "a missing time is the receive time: {stamped}");
    assert_eq!(last("temperature"), Value::Real(7.5));
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
}

#[test]
fn what_is_merely_unusual_is_taken() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "unusual").open(hub.mqtt);
    let stored = |topic: &str, payload: &str, client: &mut Client| {
        client.publish_through(topic, payload.as_bytes(), 1);
        site.rows(
            "SELECT timestamp, temperature, humidity, wind_direction, anemometer_count \
             FROM weather_data ORDER BY id DESC LIMIT 1",
        )
        .remove(0)
    };
    use Value::{Integer, Null, Real};
    let strings = r#"{"utc":"1759479845","temperature":"-5.5","winddirectionsensor":"96"}"#;
    let expected = vec![Integer(1_759_479_845), Real(-5.5), Null, Integer(96), Null];
    assert_eq!(stored(WEATHER, strings, &mut client), expected, "numeric strings");
    let unknown = r#"{"utc":1759479846,"battery":[3.7],"temperature":1,"id":99,"a":{"b":null}}"#;
    let expected = vec![Integer(1_759_479_846), Real(1.0), Null, Null, Null];
    assert_eq!(stored(WEATHER, unknown, &mut client), expected, "unknown fields");
    for (utc, topic) in
        (1_759_479_847..).zip(["weathermeters", "weathermeters/", "a/weathermeters", "a/weathermeters/b/c"])
    {
        let before = site.weather_count();
        client.publish_through(topic, format!(r#"{{"utc":{utc}}}"#).as_bytes(), 1);
        assert_eq!(site.weather_count(), before + 1, "{topic}");
    }
    let before = site.weather_count();
    for topic in ["a/weathermeters2", "a/myweathermeters/", "weather/meters", "WEATHERMETERS"] {
        client.publish_through(topic, b"hello", 1);
    }
    client.publish_through("magneticfluxsensor", br#"{"x":"1115","y":-558.5,"z":0}"#, 1);
    assert_eq!(site.weather_count(), before);
    let flux = site.rows("SELECT x, y, z FROM magnetic_flux_data");
    assert_eq!(flux, [[Real(1115.0), Real(-558.5), Real(0.0)]]);
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
}

/// A client beside the bad ones, that must get every ack.
struct Bystander {
    acked: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Bystander {
    fn start(hub: &Hub) -> Bystander {
        let mut client = Connect::new(4, "bystander").open(hub.mqtt);
        let (acked, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&acked), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !end.load(SeqCst) {
                let number = count.load(SeqCst);
                client.publish_through(&weather_topic(0), &weather(0, number), 1);
                count.fetch_add(1, SeqCst);
            }
            client.disconnect();
            count.load(SeqCst)
        });
        Bystander { acked, done, thread }
    }

    fn assert_served(&self) {
        let before = self.acked.load(SeqCst);
        wait_for("the bystander's acks", SOON, || self.acked.load(SeqCst) >= before + 20);
    }

    /// Asserts that each of its readings was acked and stored.
    fn end(self, site: &Site) {
        self.done.store(true, SeqCst);
        let acked = self.thread.join().expect("the bystander was never disturbed");
        assert_eq!(site.weather_count(), acked as i64);
    }
}

#[test]
fn a_bad_packet_closes_its_own_connection_only() {
    let long = [0x30, 0xFF, 0xFF, 0xFF, 0x7F, 0, 1, b'a'].as_slice();
    let odd_subscribe = packet(0x82, &[0, 1]);
    let wrong_flags = packet(0x80, &[&[0, 1][..], &text("a"), &[0]].concat());
    // MQTT 5 has a property length of 0 where 3.1.1 has nothing.
    let bad = |version: u8| -> Vec<(&str, Vec<u8>, &[u8])> {
        let publish = |topic: &[u8], qos, id| publish(version, topic, b"x", qos, id, false);
        vec![
            ("a + in the topic", publish(b"a/+/weathermeters", 1, 1), &[0x90, 0x81, 0x82]),
            ("a # in the topic", publish(b"weathermeters/#", 0, 0), &[0x90, 0x81, 0x82]),
            ("a topic that is not UTF-8", publish(b"a/\xff\xfe/b", 1, 1), &[0x81, 0x90, 0x82]),
            ("a zero in the topic", publish(b"a\0b", 1, 1), &[0x81, 0x90, 0x82]),
            ("no topic", publish(b"", 1, 1), &[0x90, 0x81, 0x82]),
            ("packet id 0", publish(b"a", 1, 0), &[0x81, 0x82]),
            ("QoS 3", publish(b"a", 3, 1), &[0x81, 0x82, 0x9B]),
            ("a length over the limit", long.to_vec(), &[0x95, 0x81]),
            ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], &[0x81]),
            ("a second CONNECT", Connect::new(version, "twice").bytes(), &[0x82]),
            ("a CONNACK", vec![0x20, 2, 0, 0], &[0x82, 0x81]),
            ("a packet of type 0", vec![0, 0], &[0x81, 0x82]),
            ("a SUBSCRIBE without filters", odd_subscribe.clone(), &[0x81, 0x82]),
            ("a SUBSCRIBE with wrong flags", wrong_flags.clone(), &[0x81, 0x82]),
        ]
    };
    let site = Site::new();
    let hub = site.start();
    let bystander = Bystander::start(&hub);
    for version in [4, 5] {
        for (name, bytes, reasons) in bad(version) {
            println!("{name}, MQTT level {version}");
            let mut client = Connect::new(version, "bad").open(hub.mqtt);
            client.send(&bytes).unwrap();
            match client.expect_closed() {
                Some(reason) if version == 5 => {
                    assert!(reasons.contains(&reason), "{name}: reason {reason:#x}");
                }
                reason => assert!(version == 4 && reason.is_none(), "{name}: {reason:?}"),
            }
        }
    }
    assert!(!hub.said_since(0, &["bad"]).is_empty(), "the log names the client");
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
    bystander.assert_served();
    bystander.end(&site);
}

#[test]
fn a_bad_beginning_is_closed_without_a_mark_on_others() {
    let connect = Connect::new(4, "beginner").bytes();
    let mut wrong_name = connect.clone();
    wrong_name[4] = b'X';
    let mut level_9 = connect.clone();
    level_9[8] = 9;
    let mut reserved_flag = connect.clone();
    reserved_flag[9] |= 1;
    let beginnings: Vec<(&str, Vec<u8>)> = vec![
        ("a PUBLISH first", publish(4, WEATHER.as_bytes(), &weather(1, 1), 0, 0, false)),
        ("a PINGREQ first", vec![0xC0, 0]),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n".to_vec()),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("another protocol's name", wrong_name),
        ("a level that does not exist", level_9),
        ("a reserved flag", reserved_flag),
        ("a CONNECT cut short", connect[..connect.len() - 3].to_vec()),
        ("a CONNECT cut after one byte", connect[..1].to_vec()),
        ("a CONNECT of 256 MB", vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0, 4]),
        ("a length without end", vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
    ];
    let site = Site::new();
    let hub = site.start();
    let bystander = Bystander::start(&hub);
    for (name, bytes) in beginnings {
        println!("{name}");
        let mut client = Client::raw(hub.mqtt, 4).unwrap();
        client.send(&bytes).unwrap();
        if name.contains("cut") {
            client.end_sending();
        }
        client.expect_closed();
    }
    bystander.assert_served();
    bystander.end(&site);
}

#[test]
fn a_thousand_silent_peers_disturb_nobody() {
    let site = Site::new();
    let hub = site.start();
    let bystander = Bystander::start(&hub);
    let silent: Vec<TcpStream> = (0..1_000).map(|_| TcpStream::connect(hub.mqtt).unwrap()).collect();
    bystander.assert_served();
    wait_for("room for a newcomer", SOON, || {
        let newcomer = Connect::new(5, "newcomer").try_open(hub.mqtt);
        newcomer.map(|mut newcomer| newcomer.publish_through("a", b"b", 1)).is_ok()
    });
    drop(silent);
    bystander.assert_served();
    Connect::new(4, "newcomer").open(hub.mqtt).publish_through("a", b"b", 1);
    bystander.end(&site);
}

#[test]
fn a_thousand_garbage_peers_disturb_nobody() {
    let site = Site::new();
    let hub = site.start();
    let bystander = Bystander::start(&hub);
    let mut dice = Dice::new();
    let garbage: Vec<TcpStream> = (0..1_000)
        .map(|_| {
            let mut peer = TcpStream::connect(hub.mqtt).unwrap();
            let bytes: Vec<u8> = (0..1 + dice.below(200)).map(|_| dice.below(256) as u8).collect();
            // The hub may have hung up on the first byte.
            peer.write_all(&bytes).and_then(|()| peer.shutdown(std::net::Shutdown::Write)).ok();
            peer
        })
        .collect();
    bystander.assert_served();
    for mut peer in garbage {
        peer.set_read_timeout(Some(SOON)).unwrap();
        let closed = match peer.read_to_end(&mut Vec::new()) {
            Ok(_) => true,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        assert!(closed, "a garbage peer is still connected");
    }
    bystander.assert_served();
    bystander.end(&site);
    let lines = hub.log().lines().count();
    assert!((1..500).contains(&lines), "{lines} log lines: told, at a bounded rate");
}

#[test]
fn a_silent_peer_is_closed_after_the_listeners_timeout() {
    let site = Site::with_config("[broker]\nconfig = \"rumqttd.toml\"\n");
    let listener = r#"
        id = 0
        [router]
        id = 0
        max_connections = 512
        max_outgoing_packet_count = 100
        max_segment_size = 262144
        max_segment_count = 4
        [v4.1]
        name = "v4-1"
        listen = "127.0.0.1:1883"
        next_connection_delay_ms = 1
        [v4.1.connections]
        connection_timeout_ms = 1000
        max_payload_size = 1048576
        max_inflight_count = 100
        dynamic_filters = true
    "#;
    std::fs::write(site.file("rumqttd.toml"), listener).unwrap();
    let hub = site.start();
    let mut half = Client::raw(hub.mqtt, 4).unwrap();
    half.send(&Connect::new(4, "half").bytes()[..5]).unwrap();
    let mut silent = Client::raw(hub.mqtt, 4).unwrap();
    silent.expect_closed();
    half.expect_closed();
    Connect::new(4, "whole").open(hub.mqtt).ping();
}

#[test]
fn a_packet_that_arrives_byte_by_byte_is_a_packet() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Client::raw(hub.mqtt, 4).unwrap();
    let reading = weather(1, 1);
    let bytes = [Connect::new(4, "slow").bytes(), publish(4, WEATHER.as_bytes(), &reading, 1, 1, false), vec![0xC0, 0]]
        .concat();
    bytes.iter().for_each(|byte| client.send(&[*byte]).unwrap());
    let mut answers = 0;
    wait_for("CONNACK, PUBACK, PINGRESP", PATIENTLY, || {
        answers += usize::from(client.read(Duration::from_millis(50)).is_ok());
        answers == 3
    });
    assert_eq!(site.weather_count(), 1);
}
