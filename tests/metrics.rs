//! `GET /metrics`: what Prometheus reads, over TCP and over the owner's socket.
//!
//! Owns the form of the answer; which figure has which name is tested beside the code.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{Hub, SOON, Site, now_s, program};

/// What Prometheus asks for.
const OPEN_METRICS: &str = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n";

/// Asks for the metrics; returns the head of the answer, and its body.
fn ask(stream: &mut (impl Read + Write), accept: &str) -> (String, String) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{accept}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn over_tcp(hub: &Hub, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(hub.ready["http"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    ask(&mut stream, accept)
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
                let suffixes: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    _ => &[""],
                };
                let base = name.split('{').next().unwrap();
                assert!(suffixes.iter().any(|suffix| base == format!("{family}{suffix}")), "{line}");
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
    for (head, body) in [over_tcp(&hub, OPEN_METRICS), ask(&mut socket, OPEN_METRICS)] {
        assert!(head.starts_with("http/1.1 200 "), "{head}");
        assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{head}");
        let samples = samples(&body);
        assert_eq!(samples["stationhub_readings_total"], 3.0);
        assert_eq!(samples["stationhub_clients"], 1.0);
        assert_eq!(samples["stationhub_healthy"], 1.0);
        assert_eq!(samples["stationhub_check_failing{check=\"store.write\"}"], 0.0);
        assert!(samples["stationhub_last_commit_timestamp_seconds"] > 1_577_836_800.0, "{body}");
        assert!(samples["stationhub_disk_free_bytes"] > 0.0, "{body}");
        assert!(
            samples["stationhub_database_bytes"] > 0.0 && samples["stationhub_memory_resident_bytes"] > 1e6,
            "{body}"
        );
        assert_eq!(samples["stationhub_ack_latency_seconds_count"], 3.0);
        assert_eq!(samples["stationhub_ack_latency_seconds_bucket{le=\"+Inf\"}"], 3.0);
        assert!(samples["stationhub_ack_latency_seconds_sum"] > 0.0, "{body}");
        assert!(samples["stationhub_commit_seconds_count"] >= 3.0, "{body}");
        let name = "stationhub_source_last_arrival_timestamp_seconds{source=\"test/station1/weathermeters\"}";
        assert!((samples[name] - now_s() as f64).abs() < 60.0, "{body}");
        assert!(!body.contains("bridge"), "there is none: {body}");
    }
}

/// Has Prometheus' own tool read the answer, with and without sources.
#[test]
fn promtool_finds_nothing_to_complain_of() {
    let Some(mut promtool) = program("promtool") else {
        return;
    };
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    for topic in ["a/weathermeters", "a \"quoted\" \\ one/weathermeters/"] {
        client.publish_through(topic, &weather(1, 1), 1);
    }
    let (head, body) = over_tcp(&hub, "Accept: */*\r\n");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    let mut check = promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    check = check.stdout(Stdio::piped());
    let mut child = check.spawn().unwrap();
    child.stdin.take().unwrap().write_all(body.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{body}");
}
