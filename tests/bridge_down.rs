//! What the upstream sends down: published locally under rights of its own, once, and never up again.
//!
//! Owns the way down and loops. The way up is in `bridge_topics.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;

use support::bridged::{config, counter, site, wait_connected, wait_drained};
use support::collector::Collector;
use support::mqtt::Connect;
use support::proxy::{Link, Proxy};
use support::sensor::{weather, weather_topic};
use support::upstream::{UNLIMITED, Upstream, mosquitto, nats};
use support::v5::{Hello, Properties, Sent};
use support::{Hub, PATIENTLY, SOON, Site, wait_for};

const COMMANDS: &str = "subscribe = [\"commands/{station}/#\"]";

/// Waits until the bridge's subscriptions hold: what is published upstream comes down.
fn wait_subscribed(upstream: &Upstream, site: &Site, topic: &str) {
    let before = counter(site, "received");
    let mut client = Connect::new(4, "probe").open(upstream.address);
    wait_for("the bridge's subscription", PATIENTLY, || {
        client.publish_through(topic, b"probe", 1);
        counter(site, "received") > before
    });
    client.disconnect();
}

#[test]
fn commands_come_down_with_their_qos_and_properties() {
    for version in [4, 5] {
        let Some(upstream) = mosquitto(UNLIMITED) else { return };
        let mut sender = Hello::new(version, "sender").open(upstream.address).0;
        sender.deliver(&Sent::new("commands/hill/mode", b"winter", 1).retained());
        let site = site(&upstream.url(), &format!("protocol = {version}\n{COMMANDS}"));
        let hub = site.start();
        let local = Collector::start(hub.mqtt, 5, "commands/#");
        local.wait_payload(b"winter", PATIENTLY);
        let mut late = Hello::new(5, "late").open(hub.mqtt).0;
        late.subscribe_with(&[("commands/#", 1)], &Properties::default());
        let kept = late.delivery_acked();
        assert!(kept.retain && kept.payload == b"winter", "retained here, too: {kept:?}");
        for qos in [0, 1, 2] {
            let properties = Properties::default().pair("who", "the fleet");
            let properties = if version == 5 { properties } else { Properties::default() };
            let payload = format!("at QoS {qos}");
            sender.deliver(&Sent { properties, ..Sent::new("commands/hill/led", payload.as_bytes(), qos) });
            let message = local.wait_payload(payload.as_bytes(), PATIENTLY);
            assert_eq!((message.topic.as_str(), message.qos), ("commands/hill/led", qos.min(1)));
            assert_eq!(message.user_property("who"), (version == 5).then_some("the fleet"));
        }
        sender.deliver(&Sent::new("commands/valley/led", b"for another", 1));
        sender.deliver(&Sent::new("commands/hill/led", b"last", 1));
        local.wait_payload(b"last", PATIENTLY);
        assert!(local.arrived().iter().all(|message| message.payload != b"for another"));
        wait_for("the count", SOON, || counter(&site, "received") == 5);
        assert_eq!(site.number("SELECT count(*) FROM outbox"), 0, "nothing goes up again");
    }
}

#[test]
fn a_reading_that_comes_down_is_stored_once() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let site = site(&upstream.url(), "subscribe = [\"test/#\"]");
    let hub = site.start();
    wait_connected(&site);
    wait_subscribed(&upstream, &site, "test/probe");
    Connect::new(4, "sensor").open(upstream.address).publish_through(&weather_topic(1), &weather(1, 0), 1);
    wait_for("the row", PATIENTLY, || site.weather_count() == 1);
    drop(hub);
}

#[test]
fn commands_given_while_the_hub_is_down_come_when_it_is_back() {
    for version in [4, 5] {
        for upstream in [mosquitto(UNLIMITED), nats()] {
            let Some(upstream) = upstream else { continue };
            if version == 5 && upstream.file("nats.conf").exists() {
                continue;
            }
            let site = site(&upstream.url(), &format!("protocol = {version}\n{COMMANDS}"));
            let hub = site.start();
            wait_connected(&site);
            wait_subscribed(&upstream, &site, "commands/hill/probe");
            assert_eq!(Connect::new(4, "pump").persistent().open(hub.mqtt).subscribe("commands/#", 1), 1);
            assert!(hub.stop().success());
            let mut sender = Connect::new(4, "sender").open(upstream.address);
            sender.publish_through("commands/hill/pump", b"while away", 1);
            let hub = site.start();
            let mut pump = Connect::new(4, "pump").persistent().open(hub.mqtt);
            while pump.receive().payload != b"while away" {}
        }
    }
}

#[test]
fn what_the_local_user_may_not_publish_is_not_published_and_counted() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let text = config(&upstream.url(), "subscribe = [\"#\"]\nprefix = \"up/{topic}\"\nlocal_user = \"fleet\"");
    let site = Site::with_config(&format!("{text}\n[broker]\nacl_file = \"acl\"\nallow_anonymous = true\n"));
    fs::write(site.file("acl"), "topic readwrite #\nuser fleet\ntopic write commands/#\n").unwrap();
    let hub = site.start();
    let local = Collector::start(hub.mqtt, 5, "#");
    wait_connected(&site);
    wait_subscribed(&upstream, &site, "commands/probe");
    let denied = counter(&site, "denied");
    let mark = hub.log_end();
    let mut sender = Connect::new(4, "sender").open(upstream.address);
    sender.publish_through("house/door", b"forbidden", 1);
    sender.publish_through("commands/door", b"allowed", 1);
    local.wait_payload(b"allowed", PATIENTLY);
    assert!(local.arrived().iter().all(|message| message.payload != b"forbidden"));
    wait_for("the count", SOON, || counter(&site, "denied") == denied + 1);
    hub.wait_said(mark, &["WARN", "house/door"], SOON);
}

#[test]
fn a_message_does_not_come_back_to_a_hub_that_subscribes_to_everything() {
    for version in [5, 4] {
        let Some(upstream) = mosquitto(UNLIMITED) else { return };
        let collector = Collector::start(upstream.address, 5, "#");
        let settings = format!("protocol = {version}\nsubscribe = [\"#\"]\nprefix = \"{{topic}}\"");
        let site = site(&upstream.url(), &settings);
        let hub = site.start();
        let local = Collector::start(hub.mqtt, 5, "#");
        wait_connected(&site);
        wait_subscribed(&upstream, &site, "probe");
        let mut client = Hello::new(4, "client").open(hub.mqtt).0;
        for number in 0..20 {
            client.deliver(&Sent::new("farm/note", format!("note {number}").as_bytes(), 1));
            client.deliver(&Sent::new("farm/note", format!("at QoS 0 {number}").as_bytes(), 0));
            client.deliver(&Sent::new(&weather_topic(1), &weather(1, number), 1));
        }
        client.deliver(&Sent::new("farm/state", b"kept", 1).retained());
        collector.wait_payload(b"kept", PATIENTLY);
        wait_drained(&site, SOON);
        // What comes down keeps its order: an echo would be here before this.
        Connect::new(4, "sender").open(upstream.address).publish_through("from/above", b"end", 1);
        local.wait_payload(b"end", PATIENTLY);
        Connect::new(4, "last").open(hub.mqtt).publish_through("farm/note", b"end of all", 1);
        collector.wait_payload(b"end of all", PATIENTLY);
        for (place, collector) in [("here", &local), ("upstream", &collector)] {
            let arrived = collector.arrived();
            let of_client = arrived
                .iter()
                .filter(|message| message.topic.starts_with("farm/") || message.topic.starts_with("test/"));
            assert_eq!(of_client.count(), 62, "MQTT {version}, {place}: each message once");
        }
        assert_eq!(site.weather_count(), 20, "MQTT {version}: each reading stored once");
    }
}

/// Two hubs that are each other's upstream, with the same settings but for their names.
struct Pair {
    sites: Vec<Site>,
    hubs: Vec<Hub>,
    locals: Vec<Collector>,
    _proxies: [Proxy; 2],
}

impl Pair {
    fn start(settings: &str) -> Pair {
        // Each is known to the other by a proxy, since neither has a port before it has started.
        let nowhere = ([127, 0, 0, 1], 9).into();
        let proxies = [Proxy::start(nowhere, Link::Cut), Proxy::start(nowhere, Link::Cut)];
        let names = ["hill", "valley"].iter().zip(&proxies);
        let sites = names.map(|(name, proxy)| {
            let text = config(&proxy.url(), settings);
            Site::with_config(&text.replace("name = \"hill\"", &format!("name = \"{name}\"")))
        });
        let sites: Vec<Site> = sites.collect();
        let hubs: Vec<Hub> = sites.iter().map(Site::start).collect();
        for (proxy, other) in proxies.iter().zip([&hubs[1], &hubs[0]]) {
            proxy.aim(other.mqtt);
            proxy.set(Link::Open);
        }
        let locals = hubs.iter().map(|hub| Collector::start(hub.mqtt, 5, "#")).collect();
        sites.iter().for_each(wait_connected);
        Pair { sites, hubs, locals, _proxies: proxies }
    }

    /// Publishes 20 notes on `farm/N` and 20 readings of station N at hub N, and waits until they are at the other.
    fn publish(&self) {
        for (number, hub) in self.hubs.iter().enumerate() {
            let mut client = Connect::new(4, "client").open(hub.mqtt);
            for note in 0..20 {
                client.publish_through(&format!("farm/{number}"), format!("{note} of {number}").as_bytes(), 1);
                client.publish_through(&weather_topic(number as u64), &weather(number as u64, note), 1);
            }
        }
        for (local, other) in self.locals.iter().zip([1, 0]) {
            let (farm, station) = (format!("farm/{other}"), weather_topic(other));
            wait_for("what the other has", PATIENTLY, || {
                of_topic(local, &farm) >= 20 && of_topic(local, &station) >= 20
            });
        }
        self.sites.iter().for_each(|site| wait_drained(site, PATIENTLY));
    }
}

fn of_topic(collector: &Collector, topic: &str) -> usize {
    collector.arrived().iter().filter(|message| message.topic == topic).count()
}

#[test]
fn hubs_that_forward_to_each_other_carry_each_message_once_and_take_back_their_own_once_at_most() {
    let pair = Pair::start("prefix = \"{topic}\"");
    pair.publish();
    for (number, local) in pair.locals.iter().enumerate() {
        let (own, other) = (number as u64, 1 - number as u64);
        for topic in [format!("farm/{other}"), weather_topic(other)] {
            assert_eq!(of_topic(local, &topic), 20, "{topic} at hub {number}");
        }
        for topic in [format!("farm/{own}"), weather_topic(own)] {
            assert!((20..=40).contains(&of_topic(local, &topic)), "{topic} at hub {number}");
        }
    }
}

#[test]
fn hubs_that_forward_to_each_other_and_subscribe_to_each_other_come_to_rest() {
    let pair = Pair::start("prefix = \"{topic}\"\nsubscribe = [\"#\"]");
    pair.publish();
    let arrived = |local: &Collector| local.arrived().iter().filter(|message| message.topic != "end").count();
    let counts = || -> Vec<usize> { pair.locals.iter().map(arrived).collect() };
    let mut client = Connect::new(4, "last").open(pair.hubs[0].mqtt);
    // A message that goes round is overtaken by none of these: what still does comes in between them.
    let (mut rounds, mut calm, mut before) = (0, 0, counts());
    wait_for("rest", PATIENTLY, || {
        let end = format!("end {rounds}");
        client.publish_through("end", end.as_bytes(), 1);
        pair.locals[1].wait_payload(end.as_bytes(), PATIENTLY);
        let now = counts();
        calm = if now == before { calm + 1 } else { 0 };
        (rounds, before) = (rounds + 1, now);
        calm == 20
    });
    assert!(before.iter().all(|count| *count < 80 * 4), "{before:?} messages out of 80");
}

#[test]
fn hubs_that_subscribe_to_each_other_come_to_rest_though_nothing_marks_what_goes_round() {
    let pair = Pair::start("protocol = 4\nsubscribe = [\"#\"]");
    let mut client = Connect::new(4, "client").open(pair.hubs[0].mqtt);
    for note in 0..10 {
        client.publish_through("farm/gate", format!("note {note}").as_bytes(), 1);
    }
    let count = || pair.locals.iter().map(|local| local.arrived().len()).sum::<usize>();
    let mut before = 0;
    wait_for("rest", PATIENTLY, || {
        let (earlier, now) = (before, count());
        before = now;
        // As long as two messages of a loop are apart, many times over.
        std::thread::sleep(std::time::Duration::from_secs(2));
        now > 0 && earlier == now && count() == now
    });
    assert!(count() <= 10 * 50, "{} messages out of 10", count());
}
