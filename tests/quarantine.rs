//! The quarantine in its owner's hands: shown, decoded once more, dropped, with a hub and without.
//!
//! Owns what `stationhub quarantine` promises beside its list.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Output;

use rusqlite::types::Value;
use support::mqtt::Connect;
use support::{Hub, PATIENTLY, Site};

/// Carries readings only by the second configuration.
const FIRST: &str = "[[ingest.route]]\nkind = \"magnetic\"\nfilter = \"farm/#\"\n";
const SECOND: &str = "[[ingest.route]]\nkind = \"weather\"\nfilter = \"farm/#\"\n";
const TOPIC: &str = "farm/1/meteo";
const GOOD: &[u8] = br#"{"utc":1759479845,"temperature":5.22}"#;
const BAD: &[u8] = b"\x00\xffno reading\x1b[31m";

fn quarantine(site: &Site, args: &[&str]) -> Output {
    let mut command = site.command("quarantine");
    command.args(args);
    site.refused(command, PATIENTLY)
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned()
}

/// Rejects a good reading and a bad one, under a wrong route, and mends the route.
fn rejected() -> Site {
    let site = Site::with_config(FIRST);
    let hub = site.start();
    let mut client = Connect::new(4, "esp32").open(hub.mqtt);
    client.publish_through(TOPIC, GOOD, 1);
    client.publish_through(TOPIC, BAD, 1);
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 2);
    hub.stop();
    fs::write(site.file("hub.toml"), SECOND).unwrap();
    site
}

fn what_is_a_reading_now_becomes_one(site: &Site, hub: Option<Hub>) {
    let received = site.rows("SELECT received_ms FROM quarantine WHERE id = 1");
    let output = quarantine(site, &["replay", "--all"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("1 became readings, 1 stay"), "{}", said(&output));
    let readings = "SELECT timestamp, temperature, source.topic FROM weather_data JOIN source ON source.id = source_id";
    assert_eq!(
        site.rows(readings),
        [[Value::Integer(1_759_479_845), Value::Real(5.22), Value::Text(TOPIC.to_owned())]]
    );
    assert_eq!(site.rows("SELECT received_ms FROM weather_data"), received, "as if it came then");
    let left = site.rows("SELECT id, reason FROM quarantine");
    assert_eq!(left, [[Value::Integer(2), Value::Text("not JSON".to_owned())]]);
    let again = quarantine(site, &["replay", "1", "2"]);
    assert!(said(&again).contains("0 became readings, 1 stay"), "{}", said(&again));
    assert!(said(&again).contains("1 not in the quarantine"), "{}", said(&again));
    assert_eq!(site.weather_count(), 1);
    let output = quarantine(site, &["drop", "--all"]);
    assert!(said(&output).contains("1 dropped"), "{}", said(&output));
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
    if let Some(hub) = hub {
        // What was told of its size is right still: it takes the next one.
        Connect::new(4, "esp32").open(hub.mqtt).publish_through(TOPIC, BAD, 1);
        assert_eq!(site.number("SELECT count(*) FROM quarantine"), 1);
        assert!(hub.stop().success());
    }
}

#[test]
fn a_replay_through_the_hub_makes_readings_of_what_is_one_now_and_keeps_the_rest() {
    let site = rejected();
    let hub = site.start();
    what_is_a_reading_now_becomes_one(&site, Some(hub));
}

#[test]
fn a_replay_without_a_hub_does_the_same() {
    let site = rejected();
    what_is_a_reading_now_becomes_one(&site, None);
    let log = fs::metadata(site.beside_db("-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the database is closed in order");
}

#[test]
fn a_message_is_shown_with_its_bytes_and_nothing_that_a_terminal_obeys() {
    let site = rejected();
    let output = quarantine(&site, &["show", "2"]);
    assert!(output.status.success(), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("client    esp32") && text.contains("no reading") && !text.contains('\x1b'), "{text}");
    let raw = quarantine(&site, &["show", "2", "--raw"]);
    assert_eq!(raw.stdout, BAD);
    assert_eq!(quarantine(&site, &["show", "77"]).status.code(), Some(1));
    assert_eq!(quarantine(&site, &["drop"]).status.code(), Some(2));
    assert_eq!(quarantine(&site, &["drop", "1", "--all"]).status.code(), Some(2));
}
