//! Alerts over HTTP: one message when it begins and one when it is over, whatever the server and the sensor do.
//!
//! Owns what is told while the hub runs. Crashes are `alerts_restart.rs`'s, other channels `alerts_channels.rs`'s.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use support::alerts::{Sensor, TOPIC, done, expect, site};
use support::mqtt::Connect;
use support::webhook::{Mood, Webhook};
use support::{PATIENTLY, SOON, holds_within, wait_for};

#[test]
fn a_frost_is_told_once_when_it_begins_and_once_when_it_is_over() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "clear = 2\nseverity = \"critical\"\n");
    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    for temperature in [3.0, -0.5, -7.25, 1.5, -1.0, 1.9] {
        sensor.says(temperature);
    }
    let ids = expect(&hook, &[":firing"]);
    assert!(ids[0].starts_with("farm:frost:"), "{ids:?}");
    sensor.says(2.0);
    sensor.says(2.5);
    let ids = expect(&hook, &[":firing", ":resolved"]);
    let episode = |id: &str| id.split(':').nth(2).unwrap().to_owned();
    assert_eq!(episode(&ids[0]), episode(&ids[1]));

    let request = &hook.taken()[0];
    let json: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(request.line, "POST /hook HTTP/1.1");
    assert_eq!((&json["state"], &json["severity"]), (&"firing".into(), &"critical".into()));
    assert_eq!((&json["rule"], &json["subject"]), (&"frost".into(), &TOPIC.into()));
    assert!(json["text"].as_str().unwrap().contains("temperature is -0.5"), "{json}");
    assert!(hub.stop().success());
}

#[test]
fn a_condition_that_does_not_last_is_not_told() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "for_s = 2\n");
    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    sensor.says(-1.0);
    sensor.says(1.0);
    let lasted = std::time::Instant::now();
    sensor.says(-1.0);
    wait_for("the frost to be told", SOON, || {
        sensor.says(-1.0);
        !hook.taken().is_empty()
    });
    assert!(lasted.elapsed() >= Duration::from_secs(2), "after {:?}", lasted.elapsed());
    sensor.says(1.0);
    expect(&hook, &[":firing", ":resolved"]);
}

#[test]
fn a_server_that_fails_and_hangs_gets_each_message_once_when_it_recovers() {
    let hook = Webhook::start(Mood::Fails);
    let site = site(&hook, "");
    let hub = site.start();
    let mark = hub.log_end();
    let mut sensor = Sensor::new(&hub);
    sensor.says(-1.0);
    hook.wait_tried(1, SOON);
    hub.wait_said(mark, &[" warn ", "not delivered", "500", "busy"], SOON);
    hook.is_now(Mood::Hangs);
    let tried = hook.tried();
    hook.wait_tried(tried + 1, PATIENTLY);
    sensor.says(1.0);
    assert_eq!(hook.taken().len(), 0);
    hook.is_now(Mood::Takes);
    expect(&hook, &[":firing", ":resolved"]);
    hub.wait_said(mark, &["delivered again"], SOON);
    wait_for("the marks", SOON, || done(&site) == 2);
    assert!(!hub.log().contains("/hook"), "the path of a webhook is a secret");
    assert_eq!(hub.said_since(mark, &["not delivered"]).len(), 1, "the log is not flooded");
}

#[test]
fn a_database_that_cannot_be_written_is_told_although_the_message_cannot_be_kept() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    let rule = "[health]\ninterval_s = 1\n[[alerts.rule]]\nname = \"disk\"\ncheck = \"store.write\"\n";
    fs::write(site.file("hub.toml"), config + rule).unwrap();
    let hub = site.start();
    let other = rusqlite::Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    // At QoS 0, as the ack of another would not come.
    Connect::new(4, "quick").open(hub.mqtt).publish(TOPIC, b"{\"temperature\":1}", 0, 0, false);
    expect(&hook, &[":firing"]);
    let text = hook.taken()[0].body.clone();
    assert!(text.contains("locked") && text.contains("store.write"), "{text}");
    other.execute_batch("COMMIT").unwrap();
    let ids = expect(&hook, &[":firing", ":resolved"]);
    assert!(ids.iter().all(|id| id.starts_with("farm:disk:")), "{ids:?}");
    wait_for("the marks", SOON, || done(&site) == 2);
}

#[test]
fn what_fires_together_is_one_message() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "[[alerts.rule]]\nname = \"dry\"\nwhen = \"humidity < 10\"\nseverity = \"info\"\n");
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    fs::write(site.file("hub.toml"), config.replace("group_s = 0", "group_s = 2")).unwrap();
    let hub = site.start();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(TOPIC, b"{\"temperature\":-4,\"humidity\":5}", 1);
    expect(&hook, &[":firing", ":firing"]);
    let [request] = &hook.taken()[..] else { panic!("{:?}", hook.taken()) };
    let json: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(json["title"], "[farm] 2 alerts: 2 firing, 0 resolved");
    assert_eq!(json["severity"], "warning", "the worst of them");
}

#[test]
fn an_acknowledged_alert_is_listed_as_such_and_its_end_is_told() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let hub = site.start();
    let said = |arguments: &[&str]| {
        let output = site.command("alert").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    let mut sensor = Sensor::new(&hub);
    assert_eq!(said(&["ack", "frost"]).0, Some(0));
    sensor.says(-1.0);
    expect(&hook, &[":firing"]);
    let (code, text) = said(&["ack", "frost"]);
    assert!(code == Some(0) && text.contains("acknowledged"), "{text}");
    let (code, text) = said(&["list"]);
    assert!(code == Some(0) && text.contains("FIRING frost (warning, acknowledged)"), "{text}");
    let listing: serde_json::Value = serde_json::from_str(&said(&["list", "--json"]).1).unwrap();
    assert_eq!(listing["firing"][0]["subject"], TOPIC);
    sensor.says(1.0);
    expect(&hook, &[":firing", ":resolved"]);
    let (code, text) = said(&["ack", "frots"]);
    assert!(code == Some(1) && text.contains("there is no rule \"frots\"; there are: frost"), "{text}");
    assert!(said(&["list"]).1.contains("over frost"), "{text}");
}

#[test]
fn a_test_is_sent_over_a_channel_and_its_failure_is_told() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let hub = site.start();
    let said = |channel: &str| {
        let output = site.command("alert").args(["test", channel]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(said("hook"), (Some(0), "hook took the test\n".to_owned()));
    assert!(hook.taken()[0].body.contains("[farm] test"));
    hook.is_now(Mood::Fails);
    let (code, text) = said("hook");
    assert!(code == Some(1) && text.contains("500 Internal Server Error busy"), "{text}");
    hook.is_now(Mood::Hangs);
    let (code, text) = said("hook");
    assert!(code == Some(1) && text.contains("no answer within 1 s"), "{text}");
    assert!(said("nobody").1.contains("there is no channel \"nobody\""));

    // What only the owner may do is not there for whoever reaches the port.
    let http = hub.ready["http"].as_str().unwrap();
    let answer = request(http, "POST /api/v1/alerts/rules/frost/ack HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
    assert!(request(http, "GET /api/v1/alerts HTTP/1.1").contains("\"firing\":[]"));
}

fn request(address: &str, line: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    write!(stream, "{line}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_that_hangs_keeps_no_reading_and_no_other_channel_waiting() {
    let (dead, alive) = (Webhook::start(Mood::Hangs), Webhook::start(Mood::Takes));
    let site = site(&dead, "");
    let channel = format!("[[alerts.channel]]\nname = \"alive\"\nkind = \"webhook\"\nurl = \"{}\"\n", alive.url());
    let config = fs::read_to_string(site.file("hub.toml")).unwrap().replace("timeout_s = 1", "timeout_s = 300");
    fs::write(site.file("hub.toml"), config + &channel).unwrap();
    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    for number in 0..20 {
        sensor.says(if number % 2 == 0 { -1.0 } else { 1.0 });
    }
    wait_for("all messages", SOON, || alive.ids().len() == 20);
    assert_eq!((dead.taken().len(), site.weather_count()), (0, 20));
    let before = std::time::Instant::now();
    assert!(hub.stop().success());
    assert!(before.elapsed() < Duration::from_secs(8), "the end took {:?}", before.elapsed());
}

#[test]
fn quiet_hours_let_only_what_is_critical_through() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "[[alerts.rule]]\nname = \"storm\"\nwhen = \"pressure < 960\"\nseverity = \"critical\"\n");
    // From now on, for hours.
    let hour = support::now_s() / 3600 % 24;
    let quiet = format!("group_s = 0\nquiet = \"{:02}:00-{:02}:00\"", hour, (hour + 3) % 24);
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    let config = config.replace("group_s = 0", &quiet).replace("\"farm\"", "\"farm\"\ntimezone = \"UTC\"");
    fs::write(site.file("hub.toml"), config).unwrap();
    if !Command::new("test").args(["-e", "/usr/share/zoneinfo/UTC"]).status().unwrap().success() {
        return support::skip("no time zones are installed", true);
    }
    let hub = site.start();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(TOPIC, b"{\"temperature\":-4}", 1);
    sensor.publish_through(TOPIC, b"{\"temperature\":-4,\"pressure\":950}", 1);
    let ids = expect(&hook, &[":firing"]);
    assert!(ids[0].contains(":storm:"), "{ids:?}");
    assert!(!holds_within(Duration::from_secs(1), || hook.ids().len() > 1), "{:?}", hook.ids());
}
