//! Which messages go up, under which topics, and with what of their own.
//!
//! Owns the way up, message by message. The way down and loops are in `bridge_down.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::bridged::{ALL, counter, site, wait_drained};
use support::collector::Collector;
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::upstream::{UNLIMITED, Upstream, mosquitto, nats};
use support::v5::{Hello, MESSAGE_EXPIRY, Properties, Sent, Value};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

const PAYLOAD_FORMAT: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;

/// A hub, its upstream, and a collector of all that is published there.
fn bridged(settings: &str) -> Option<(Upstream, Collector, Site, Hub)> {
    let upstream = mosquitto(UNLIMITED)?;
    let collector = Collector::start(upstream.address, 5, "#");
    let site = site(&upstream.url(), settings);
    let hub = site.start();
    Some((upstream, collector, site, hub))
}

fn topics(collector: &Collector) -> Vec<String> {
    collector.arrived().into_iter().map(|message| message.topic).collect()
}

/// Publishes a last message, at QoS 1, and waits until it is upstream: so are those before it.
fn flush(hub: &Hub, collector: &Collector, topic: &str) {
    Connect::new(4, "last").open(hub.mqtt).publish_through(topic, b"last", 1);
    collector.wait_payload(b"last", PATIENTLY);
}

#[test]
fn messages_of_every_kind_go_up_under_the_stations_prefix() {
    let Some((_upstream, collector, site, hub)) = bridged("") else { return };
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    client.publish_through(&weather_topic(1), &weather(1, 0), 1);
    client.publish_through(&weather_topic(1), b"no reading", 1);
    client.publish_through("farm/note", b"at QoS 0", 0);
    client.publish_through("farm/note", b"at QoS 1", 1);
    client.publish_through("farm/note", b"at QoS 2", 2);
    client.publish_through("/leading//empty/", b"", 1);
    client.publish_through("h\u{f6}fe/\u{4e00}", b"not ASCII", 1);
    let connect = Connect::new(4, "frail").will("farm/will", b"gone", 1);
    connect.open(hub.mqtt).cut();
    collector.wait_payload(b"gone", PATIENTLY);
    let expected = [
        "stations/hill/test/station1/weathermeters/",
        "stations/hill/test/station1/weathermeters/",
        "stations/hill/farm/note",
        "stations/hill/farm/note",
        "stations/hill/farm/note",
        "stations/hill//leading//empty/",
        "stations/hill/h\u{f6}fe/\u{4e00}",
        "stations/hill/farm/will",
    ];
    assert_eq!(topics(&collector), expected);
    assert_eq!(collector.arrived()[1].payload, b"no reading");
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 1, "kept here, too");
    wait_drained(&site, SOON);
    assert_eq!(counter(&site, "sent"), 8);
}

#[test]
fn only_what_is_to_be_forwarded_goes_up() {
    let settings = "forward = [\"farm/#\", \"+/station1/weathermeters\"]\nprefix = \"fleet/{station}/up/{topic}\"";
    let Some((_upstream, collector, site, hub)) = bridged(settings) else { return };
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    client.publish_through(&weather_topic(2), &weather(2, 0), 1);
    client.publish_through("house/note", b"stays", 1);
    client.publish_through("test/station1/weathermeters", &weather(1, 0), 1);
    client.publish_through("farm", b"the level itself", 1);
    flush(&hub, &collector, "farm/a/b");
    let expected = ["fleet/hill/up/test/station1/weathermeters", "fleet/hill/up/farm", "fleet/hill/up/farm/a/b"];
    assert_eq!(topics(&collector), expected);
    assert_eq!(site.weather_count(), 2, "what is not forwarded is stored all the same");
}

#[test]
fn topics_of_the_brokers_own_do_not_go_up() {
    let Some((_upstream, collector, _site, hub)) = bridged("") else { return };
    Connect::new(4, "client").open(hub.mqtt).publish_through("$private/note", b"stays", 1);
    flush(&hub, &collector, "farm/note");
    assert_eq!(topics(&collector), ["stations/hill/farm/note"]);
}

/// Publishes a retained message, and returns it as it comes live and as a newcomer upstream gets it.
fn retained(settings: &str) -> Option<(Sent, Option<Sent>)> {
    let (upstream, collector, _site, hub) = bridged(settings)?;
    let mut client = Hello::new(4, "client").open(hub.mqtt).0;
    client.deliver(&Sent::new("farm/state", b"open", 1).retained());
    let live = collector.wait_payload(b"open", PATIENTLY);
    flush(&hub, &collector, "farm/note");
    let mut newcomer = Hello::new(5, "newcomer").open(upstream.address).0;
    newcomer.subscribe_with(&[("stations/#", 1)], &Properties::default());
    newcomer.deliver(&Sent::new("stations/end", b"end", 0));
    let first = newcomer.delivery();
    Some((live, (first.payload == b"open").then_some(first)))
}

#[test]
fn a_retained_message_is_retained_upstream() {
    let Some((live, kept)) = retained("") else { return };
    assert!(live.retain, "the flag goes up");
    assert!(kept.is_some_and(|message| message.retain && message.topic == "stations/hill/farm/state"));
}

#[test]
fn a_retained_message_is_not_retained_upstream_where_that_is_not_wanted() {
    let Some((live, kept)) = retained("keep_retained = false") else { return };
    assert!(!live.retain);
    assert_eq!(kept, None);
}

#[test]
fn properties_go_up_as_they_came() {
    let Some((_upstream, collector, site, hub)) = bridged("") else { return };
    let properties = Properties::default()
        .number(PAYLOAD_FORMAT, 1)
        .number(MESSAGE_EXPIRY, 3600)
        .text(CONTENT_TYPE, "text/plain")
        .text(RESPONSE_TOPIC, "farm/answers")
        .text(CORRELATION_DATA, "question 7")
        .pair("unit", "mm")
        .pair("unit", "twice");
    let mut client = Hello::new(5, "client").open(hub.mqtt).0;
    let topics = ["farm/note", "test/station1/weathermeters/"];
    for topic in topics {
        client.deliver(&Sent { properties: properties.clone(), ..Sent::new(topic, &weather(1, 0), 1) });
    }
    collector.wait_count(2, PATIENTLY);
    for (message, topic) in collector.arrived().iter().zip(topics) {
        assert_eq!(message.topic, format!("stations/hill/{topic}"));
        for (id, value) in &properties.0 {
            let found = message.properties.0.iter().any(|(found, it)| match (value, it) {
                // What has waited comes with as much less.
                (Value::Number(sent), Value::Number(left)) if *id == MESSAGE_EXPIRY => {
                    found == id && (3500..=*sent).contains(left)
                }
                _ => found == id && it == value,
            });
            assert!(found, "{id:#x} {value:?} of {topic}: {:?}", message.properties);
        }
        assert!(message.number().is_some(), "{:?}", message.properties);
    }
    wait_drained(&site, SOON);
}

#[test]
fn the_id_of_another_hub_goes_along_before_the_hubs_own() {
    let Some((_upstream, collector, _site, hub)) = bridged("") else { return };
    let mut client = Hello::new(5, "client").open(hub.mqtt).0;
    let properties = Properties::default().pair("stationhub-id", "elsewhere:1");
    client.deliver(&Sent { properties, ..Sent::new("farm/note", b"first", 1) });
    client.deliver(&Sent::new("farm/note", b"second", 1));
    let [first, second] = [b"first".as_slice(), b"second"].map(|payload| collector.wait_payload(payload, PATIENTLY));
    assert_eq!(first.user_property("stationhub-id"), Some("elsewhere:1"));
    assert_eq!(first.number().unwrap() + 1, second.number().unwrap(), "{first:?}");
}

#[test]
fn a_payload_that_is_too_large_goes_to_quarantine_and_holds_up_nobody() {
    let Some((_upstream, collector, site, hub)) = bridged("payload_bytes_max = 1000") else { return };
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    client.publish_through("farm/picture", &[b'x'; 1001], 1);
    flush(&hub, &collector, "farm/note");
    assert_eq!(topics(&collector), ["stations/hill/farm/note"]);
    wait_for("the row in quarantine", SOON, || site.number("SELECT count(*) FROM quarantine") == 1);
    wait_drained(&site, SOON);
}

#[test]
fn a_message_that_the_upstream_never_takes_holds_up_nobody() {
    let Some((_upstream, collector, site, hub)) = bridged_with_small_packets() else { return };
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    client.publish_through("farm/picture", &[b'x'; 5000], 1);
    flush(&hub, &collector, "farm/note");
    assert_eq!(topics(&collector), ["stations/hill/farm/note"]);
    assert_eq!(counter(&site, "refused"), 1);
    wait_drained(&site, SOON);
}

/// As [`bridged`], at an upstream that takes no packet of more than 2,000 bytes and says so.
fn bridged_with_small_packets() -> Option<(Upstream, Collector, Site, Hub)> {
    let upstream = mosquitto(&format!("{UNLIMITED}max_packet_size 2000"))?;
    let collector = Collector::start(upstream.address, 5, "#");
    let site = site(&upstream.url(), "");
    let hub = site.start();
    Some((upstream, collector, site, hub))
}

#[test]
fn messages_go_up_to_nats_with_their_topics_and_kept_by_it() {
    let Some(upstream) = nats() else { return };
    let collector = Collector::start(upstream.address, 4, ALL);
    let site = site(&upstream.url(), "protocol = 4");
    let hub = site.start();
    let mut client = Hello::new(5, "client").open(hub.mqtt).0;
    client.deliver(&Sent::new(&weather_topic(1), &weather(1, 0), 1));
    client.deliver(&Sent::new("farm/state", b"open", 1).retained());
    client.deliver(&Sent::new("farm/note", b"at QoS 0", 0));
    collector.wait_payload(b"at QoS 0", PATIENTLY);
    let expected =
        ["stations/hill/test/station1/weathermeters/", "stations/hill/farm/state", "stations/hill/farm/note"];
    assert_eq!(topics(&collector), expected);
    let mut newcomer = Connect::new(4, "newcomer").open(upstream.address);
    assert_eq!(newcomer.subscribe("stations/#", 1), 1);
    assert_eq!(newcomer.receive().payload, b"open");
    wait_drained(&site, SOON);
}
