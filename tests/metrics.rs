//! `GET /metrics`: what Prometheus reads, over TCP and over the owner's socket.
//!
//! Owns the form of the answer; which figure has which name is tested beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{Hub, SOON, Site};

/// Asks for the metrics; returns the head of the answer, and its body.
fn ask(stream: &mut (impl Read + Write)) -> (String, String) {
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn over_tcp(hub: &Hub) -> (String, String) {
    let mut stream = TcpStream::connect(hub.ready["http"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    ask(&mut stream)
}

/// Reads the samples, each of which needs a help text and a type before it.
fn samples(body: &str) -> BTreeMap<String, f64> {
    assert!(body.ends_with("# EOF\n"), "{body}");
    let (mut helped, mut family) = (String::new(), (String::new(), String::new()));
    let mut samples = BTreeMap::new();
    for line in body.lines().take_while(|line| *line != "# EOF") {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["#", "HELP", name, _, ..] => helped = name.to_owned(),
            ["#", "TYPE", name, kind] => family = (name.to_owned(), kind.to_owned()),
            ["#", "UNIT", name, unit] => assert!(name.ends_with(unit), "{line}"),
            [name, value] => {
                let (family, kind) = &family;
                let suffix = match kind.as_str() {
                    "counter" => "_total",
                    "info" => "_info",
                    _ => "",
                };
                assert_eq!(name.split('{').next(), Some(format!("{family}{suffix}").as_str()), "{line}");
                assert!(helped == *family && name.starts_with("stationhub_"), "{line}");
                assert!(samples.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
            }
            _ => panic!("{line}"),
        }
    }
    samples
}

#[test]
fn metrics_tell_what_was_stored_over_tcp_and_over_the_owners_socket() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    for number in 0..3 {
        client.publish_through(&weather_topic(1), &weather(1, number), 1);
    }
    let mut socket = UnixStream::connect(site.beside_db(".sock")).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    for (head, body) in [over_tcp(&hub), ask(&mut socket)] {
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        let samples = samples(&body);
        assert_eq!(samples["stationhub_readings_total"], 3.0);
        assert_eq!(samples["stationhub_clients"], 1.0);
        assert_eq!(samples["stationhub_healthy"], 1.0);
        assert_eq!(samples["stationhub_check_failing{check=\"store.write\"}"], 0.0);
        assert!(samples["stationhub_last_commit_timestamp_seconds"] > 1_577_836_800.0, "{body}");
        assert!(samples["stationhub_disk_free_bytes"] > 0.0, "{body}");
        assert!(!body.contains("bridge"), "there is none: {body}");
    }
}
