//! Clients that are not ours: mosquitto's, paho for Python, rumqttc; each in 3.1.1 and 5 where it can.
//!
//! Owns the proof that an ordinary client finds an ordinary broker. Exact packets are in `broker.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rumqttc::{Client, Event, Incoming, MqttOptions, Outgoing, QoS};
use support::sensor::weather;
use support::{Hub, PATIENTLY, SOON, Site, paho, program, wait_for};

const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";
const VERSIONS: [&str; 2] = ["311", "5"];

/// Returns a mosquitto client with the hub's address and the protocol's version.
fn mosquitto(name: &str, hub: &Hub, version: &str) -> Option<Command> {
    let mut command = program(name)?;
    command.args(["-h", "127.0.0.1", "-p", &hub.mqtt.port().to_string(), "-V", version]);
    Some(command)
}

fn run(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

#[test]
fn mosquitto_pub_returns_when_its_reading_is_stored() {
    let site = Site::new();
    let hub = site.start();
    let mut number = 0;
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let Some(mut publish) = mosquitto("mosquitto_pub", &hub, version) else {
                return;
            };
            let reading = String::from_utf8(weather(1, number)).unwrap();
            publish.args(["-t", TOPIC, "-q", qos, "-m", &reading]);
            run(publish);
            number += 1;
            if qos == "0" {
                wait_for("the row", SOON, || site.weather_count() == number as i64);
            }
            assert_eq!(site.weather_count(), number as i64);
        }
    }
    let Some(mut lines) = mosquitto("mosquitto_pub", &hub, "311") else {
        return;
    };
    let text: Vec<u8> = (0..200).flat_map(|line| [weather(2, line), b"\n".to_vec()].concat()).collect();
    fs::write(site.file("lines"), text).unwrap();
    lines.args(["-t", TOPIC, "-q", "1", "-l"]).stdin(fs::File::open(site.file("lines")).unwrap());
    assert!(lines.status().unwrap().success());
    assert_eq!(site.weather_count(), number as i64 + 200);
}

#[test]
fn mosquitto_sub_gets_what_waited_for_it() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let session = || {
            let mut command = mosquitto("mosquitto_sub", &hub, version)?;
            let id = format!("display-{version}");
            command.args(["-i", &id, "-c", "-q", "1", "-t", "house/+/lamp", "-W", "30"]);
            if version == "5" {
                command.args(["-x", "3600"]);
            }
            Some(command)
        };
        let Some(mut subscribe) = session() else {
            return;
        };
        subscribe.arg("-E");
        run(subscribe);
        for number in ["1", "2", "3"] {
            let mut publish = mosquitto("mosquitto_pub", &hub, version).unwrap();
            publish.args(["-t", "house/hall/lamp", "-q", "1", "-m", number]);
            run(publish);
        }
        let mut receive = session().unwrap();
        receive.args(["-C", "3", "-v"]);
        let text = String::from_utf8(run(receive).stdout).unwrap();
        assert_eq!(text, "house/hall/lamp 1\nhouse/hall/lamp 2\nhouse/hall/lamp 3\n");
    }
}

/// A child that does not outlive its test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn mosquitto_sub_gets_live_messages_at_each_qos() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let Some(mut subscribe) = mosquitto("mosquitto_sub", &hub, version) else {
                return;
            };
            subscribe.args(["-t", "live/#", "-q", qos, "-C", "1", "-W", "30"]);
            let mut child = Guarded(subscribe.stdout(Stdio::piped()).spawn().unwrap());
            // Nothing tells when the subscription stands: publish until the subscriber has had its message.
            wait_for("the subscriber's end", PATIENTLY, || {
                let mut publish = mosquitto("mosquitto_pub", &hub, version).unwrap();
                publish.args(["-t", "live/a", "-q", qos, "-m", "hello"]);
                run(publish);
                child.0.try_wait().unwrap().is_some()
            });
            let mut text = String::new();
            std::io::Read::read_to_string(child.0.stdout.as_mut().unwrap(), &mut text).unwrap();
            assert_eq!(text, "hello\n", "MQTT {version}, QoS {qos}");
        }
    }
}

#[test]
fn paho_for_python_finds_an_ordinary_broker() {
    if paho::is_there() {
        let site = Site::new();
        let hub = site.start();
        paho::run(&site, &paho::Way { address: hub.mqtt, transport: "tcp", authority: "", size: 1 });
    }
}

#[test]
fn rumqttc_is_acked_for_every_reading() {
    let site = Site::new();
    let hub = site.start();
    let mut options = MqttOptions::new("rumqttc", "127.0.0.1", hub.mqtt.port());
    options.set_keep_alive(Duration::from_secs(5));
    let (client, mut connection) = Client::new(options, 300);
    for number in 0..200 {
        client.publish(TOPIC, QoS::AtLeastOnce, false, weather(1, number)).unwrap();
    }
    let mut acked = 0;
    for event in connection.iter() {
        match event.unwrap() {
            Event::Incoming(Incoming::PubAck(_)) => acked += 1,
            Event::Outgoing(Outgoing::Disconnect) => break,
            _ => {}
        }
        if acked == 200 {
            client.disconnect().unwrap();
            acked += 1;
        }
    }
    assert_eq!(site.weather_count(), 200);
}

#[test]
fn mosquitto_subs_share_the_work_within_their_windows() {
    let site = Site::new();
    let hub = site.start();
    let worker = |version: &str, extra: &[&str]| {
        let mut command = mosquitto("mosquitto_sub", &hub, version)?;
        command.args(["-i", &format!("worker-{version}"), "-c", "-q", "1", "-t", "$share/pool/work/#", "-W", "30"]);
        if version == "5" {
            command.args(["-x", "3600", "-D", "connect", "receive-maximum", "1"]);
            command.args(["-D", "subscribe", "subscription-identifier", "7"]);
        }
        command.args(extra);
        Some(command)
    };
    for version in VERSIONS {
        let Some(subscribe) = worker(version, &["-E"]) else { return };
        run(subscribe);
    }
    let Some(mut publish) = mosquitto("mosquitto_pub", &hub, "5") else { return };
    publish.args(["-t", "work/piece", "-m", "piece", "-q", "1", "--repeat", "6", "-D", "publish", "topic-alias", "3"]);
    run(publish);
    for version in VERSIONS {
        let Some(work) = worker(version, &["-C", "3", "-F", "%t %p"]) else { return };
        assert_eq!(String::from_utf8_lossy(&run(work).stdout), "work/piece piece\n".repeat(3), "{version}");
    }
}
