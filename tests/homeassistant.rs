//! Home Assistant's view of the hub: what announces itself, which values follow, and what is gone when the hub is.
//!
//! Owns the promises of `docs/homeassistant.md`. Which unit goes with which device class is tested beside `entity.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::time::Duration;

use serde_json::Value;
use support::mqtt::{Client, Connect, Packet};
use support::users::add;
use support::v5::Sent;
use support::{Hub, SOON, Signal, Site, now_s, wait_for};

const ON: &str = "[station]\nname = \"farm\"\n[homeassistant]\nenabled = true\ninterval_s = 1\n";
const TOPIC: &str = "garden/weathermeters";
const STATE: &str = "stationhub/farm/garden--weathermeters/state";
const STATUS: &str = "stationhub/farm/status";
const CONFIGS: &str = "homeassistant/#";

fn reading(temperature: f64) -> Vec<u8> {
    let time = now_s();
    format!(
        "{{\"utc\":{time},\"sampleinterval\":5000,\"temperature\":{temperature},\"humidity\":61.5,\"pressure\":1004.94,\
         \"irradiance\":0.83,\"winddirectionsensor\":96,\"raingaugecount\":7,\"anemometercount\":9}}"
    )
    .into_bytes()
}

fn says(hub: &Hub, topic: &str, temperature: f64) {
    Connect::new(4, "sensor").open(hub.mqtt).publish_through(topic, &reading(temperature), 1);
}

/// Returns what is retained under a filter, by its topic.
fn retained(client: &Connect, hub: &Hub, filter: &str) -> BTreeMap<String, Vec<u8>> {
    let mut client = client.open(hub.mqtt);
    client.subscribe(filter, 0);
    let mut found = BTreeMap::new();
    while let Ok(Packet::Publish(message)) = client.read(Duration::from_millis(200)) {
        found.insert(message.topic, message.payload);
    }
    found
}

type Entities = BTreeMap<String, Value>;

/// Returns the announcements, once they are `enough`.
fn announced(hub: &Hub, enough: impl Fn(&Entities) -> bool) -> Entities {
    let mut found = Entities::new();
    wait_for("announcements", SOON, || {
        let messages = retained(&Connect::new(4, "homeassistant"), hub, CONFIGS);
        let parsed = |(topic, payload): (String, Vec<u8>)| (topic, serde_json::from_slice(&payload).unwrap());
        found = messages.into_iter().map(parsed).collect();
        enough(&found)
    });
    found
}

fn many(entities: &Entities) -> bool {
    entities.len() > 5
}

fn watcher(hub: &Hub, filter: &str) -> Client {
    let mut client = Connect::new(4, "watcher").open(hub.mqtt);
    client.subscribe(filter, 1);
    client
}

#[test]
fn quantities_announce_themselves_and_values_follow_each_reading() {
    let site = Site::with_config(ON);
    let hub = site.start();
    let mut states = watcher(&hub, STATE);
    says(&hub, TOPIC, 21.5);
    let state = states.receive();
    let values: Value = serde_json::from_slice(&state.payload).unwrap();
    assert_eq!(values["temperature"], 21.5);
    assert!(values["heat_index"].is_null(), "{values}");
    assert_eq!(state.qos, 0);

    let entities = announced(&hub, many);
    assert!(entities.keys().all(|topic| topic.starts_with("homeassistant/sensor/farm/garden--weathermeters--")));
    assert!(entities.keys().all(|topic| !topic.contains("heat_index") && !topic.contains("flux")));
    let temperature = &entities["homeassistant/sensor/farm/garden--weathermeters--temperature/config"];
    assert_eq!(temperature["unique_id"], "stationhub--farm--garden--weathermeters--temperature");
    assert_eq!(temperature["device"]["name"], "farm");
    for entity in entities.values() {
        assert_eq!(entity["state_topic"], STATE);
        assert_eq!(entity["availability_topic"], STATUS);
        assert!(entity["expire_after"].as_u64().unwrap() >= 60);
        for key in ["name", "unit_of_measurement", "state_class", "suggested_display_precision", "origin"] {
            assert!(entity.get(key).is_some(), "{key}: {entity}");
        }
        // What the template names stands in the message.
        let template = entity["value_template"].as_str().unwrap();
        let key = template.strip_prefix("{{ value_json.").unwrap().strip_suffix(" }}").unwrap();
        assert!(values[key].is_number(), "{key}: {values}");
    }

    says(&hub, TOPIC, 22.5);
    let next: Value = serde_json::from_slice(&states.receive().payload).unwrap();
    assert_eq!(next["temperature"], 22.5);
    states.assert_silent_for(Duration::from_millis(2_500));
    assert_eq!((site.weather_count(), site.number("SELECT count(*) FROM quarantine")), (2, 0));
    // Whoever comes later finds what is announced, and no value that may be old.
    let later = announced(&hub, many);
    assert!(entities.iter().all(|(topic, entity)| later.get(topic) == Some(entity)));
    assert!(retained(&Connect::new(4, "late"), &hub, STATE).is_empty());
    assert!(hub.stop().success());
}

#[test]
fn the_station_is_online_while_the_hub_runs_and_offline_after_an_orderly_stop() {
    let site = Site::with_config(ON);
    for _ in 0..2 {
        let hub = site.start();
        wait_for("online", SOON, || {
            let found = retained(&Connect::new(4, "homeassistant"), &hub, STATUS);
            found.get(STATUS).is_some_and(|payload| payload == b"online")
        });
        assert!(hub.stop().success());
        // Whether a client gets to know at once, or with its next connection, is not promised.
        let packet = format!(
            "SELECT count(*) FROM retained WHERE topic = '{STATUS}' AND instr(packet, CAST('offline' AS BLOB)) > 0"
        );
        assert_eq!(site.number(&packet), 1);
    }
}

#[test]
fn topics_that_differ_in_odd_letters_only_are_different_entities_and_none_becomes_a_reading() {
    let site = Site::with_config(ON);
    let hub = site.start();
    let topics = [
        "weathermeters",
        "a/weathermeters",
        "a--weathermeters/weathermeters",
        "a b/weathermeters",
        "a.b/weathermeters",
        "a_b/weathermeters",
        "é/weathermeters",
        "\"}}{{/weathermeters",
        "weathermeters/weathermeters",
    ];
    for topic in topics {
        says(&hub, topic, 20.0);
    }
    let entities = announced(&hub, |entities| {
        let names: HashSet<&Value> = entities.values().map(|entity| &entity["name"]).collect();
        let sources = entities.keys().filter(|topic| topic.ends_with("--temperature/config"));
        sources.count() == topics.len() && names.len() == entities.len()
    });
    let ids: HashSet<&str> = entities.values().map(|entity| entity["unique_id"].as_str().unwrap()).collect();
    let states: HashSet<&str> = entities.values().map(|entity| entity["state_topic"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), states.len()), (entities.len(), topics.len()));
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    for (topic, id) in entities.keys().zip(&ids) {
        assert!(id.bytes().all(allowed), "{id}");
        assert!(topic.split('/').all(|level| !level.is_empty() && level.bytes().all(allowed)), "{topic}");
    }
    let mut states = watcher(&hub, "stationhub/farm/+/state");
    for topic in topics {
        says(&hub, topic, 21.0);
        states.receive();
    }
    assert_eq!(site.weather_count(), 2 * i64::try_from(topics.len()).unwrap());
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
}

#[test]
fn nothing_is_published_where_it_is_off_and_what_an_earlier_run_announced_is_taken_back() {
    let site = Site::with_config(ON);
    let everything = |hub: &Hub| retained(&Connect::new(4, "homeassistant"), hub, "#");
    let hub = site.start();
    // Another program's entity is nobody's business.
    let other = "homeassistant/sensor/other/config";
    Connect::new(4, "other").open(hub.mqtt).deliver(&Sent::new(other, b"{}", 1).retained());
    says(&hub, TOPIC, 20.0);
    announced(&hub, many);
    assert!(hub.stop().success());

    // Under another name, it is another station.
    fs::write(site.file("hub.toml"), ON.replace("farm", "barn")).unwrap();
    let hub = site.start();
    wait_for("the old name to go", SOON, || {
        let found = everything(&hub);
        found.contains_key("stationhub/barn/status") && !found.keys().any(|topic| topic.contains("farm"))
    });
    says(&hub, TOPIC, 20.0);
    announced(&hub, many);
    assert!(hub.stop().success());

    fs::write(site.file("hub.toml"), ON.replace("enabled = true", "enabled = false")).unwrap();
    let hub = site.start();
    wait_for("all to go", SOON, || everything(&hub).keys().eq([other]));
    let mut all = watcher(&hub, "#");
    all.receive();
    says(&hub, TOPIC, 20.0);
    assert_eq!(all.receive().topic, TOPIC);
    all.assert_silent_for(Duration::from_secs(2));
}

#[test]
fn it_publishes_with_the_rights_of_the_user_stationhub() {
    let site = Site::with_config(&format!("{ON}[broker]\nusers = \"users\"\nacl_file = \"acl\"\n"));
    add(&site, "owner", "secret");
    fs::write(site.file("acl"), "user owner\ntopic readwrite #\n").unwrap();
    let owner = Connect::new(4, "owner").login("owner", "secret");
    let hub = site.start();
    let mark = hub.log_end();
    owner.open(hub.mqtt).publish_through(TOPIC, &reading(20.0), 1);
    hub.wait_said(mark, &["Home Assistant is not told", "access rules", "docs/homeassistant.md"], SOON);
    assert!(retained(&owner, &hub, "#").is_empty());

    // As soon as the rules allow it, it is made up for.
    let rules = "user owner\ntopic readwrite #\nuser stationhub\ntopic write homeassistant/sensor/farm/#\ntopic write stationhub/#\n";
    fs::write(site.file("acl"), rules).unwrap();
    hub.signal(Signal::HUP);
    wait_for("announcements", SOON, || retained(&owner, &hub, CONFIGS).len() > 5);
    wait_for("the status", SOON, || retained(&owner, &hub, STATUS).len() == 1);
}

#[test]
fn nothing_of_it_goes_upstream() {
    let site = Site::with_config(&format!("{ON}[bridge]\nurl = \"mqtt://127.0.0.1:9\"\n"));
    let hub = site.start();
    let mut states = watcher(&hub, STATE);
    says(&hub, TOPIC, 20.0);
    states.receive();
    announced(&hub, many);
    assert_eq!(site.number("SELECT count(*) FROM outbox"), 1);
}
