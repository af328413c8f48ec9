//! From a client's publish to the outbox, and from inside the hub to its clients.
//!
//! Owns what must hold on this side of the bridge, with the hub's own broker and store in this process, real sockets and a
//! real file. What the upstream gets of it is the bridge's to show.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use stationhub::broker::Running;
use stationhub::broker::inside::{Given, Inside, Refused};
use stationhub::config::{Config, Flags};
use stationhub::ingest::{Forwarding, Ingest, Limits};
use stationhub::store::{self, Lane, Outbox, OutboxSettings, Queue, Reader, Settings, Waiting, Writer};
use support::mqtt::Connect;
use support::v5::{Hello, MESSAGE_EXPIRY, Properties, RETAIN_AS_PUBLISHED, Sent};
use support::{SOON, wait_for};
use tokio::runtime::Runtime;

const FLUX: &str = r#"{"x":1,"y":2,"z":3}"#;
const TOPICS: [&str; 3] = ["up/#", "+/magneticfluxsensor", "down/#"];
const ACL: &str = "topic readwrite #\nuser upstream\ntopic write down/#\n";

/// A broker and a store, wired as the hub wires them.
struct Hub {
    broker: Option<Running>,
    writer: Option<Writer>,
    ingest: Arc<Ingest>,
    progress: Arc<store::Progress>,
    outbox: Arc<Outbox>,
    runtime: Runtime,
    dir: tempfile::TempDir,
}

impl Hub {
    fn start() -> Hub {
        Hub::start_with("[broker]\nallow_anonymous = true\nacl_file = \"acl\"\n")
    }

    fn start_with(hub_toml: &str) -> Hub {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("acl"), ACL).unwrap();
        fs::write(dir.path().join("hub.toml"), hub_toml).unwrap();
        let flags = Flags {
            config: Some(dir.path().join("hub.toml")),
            listen: Some("127.0.0.1:0".to_owned()),
            ..Flags::default()
        };
        let config = Config::load(&flags, Vec::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let queue = Arc::new(Queue::new(config.ingest.queue_bytes));
        let settings = OutboxSettings { bytes_max: 1 << 30, age_max: None, maybe_sent: 0 };
        let outbox = Arc::new(Outbox::new(settings));
        let settings = Settings {
            path: config.store.path.clone(),
            synchronous: config.store.synchronous,
            batch_max: config.store.batch_max,
            quarantine_bytes_max: config.store.quarantine_bytes_max,
            reserve_bytes: config.store.reserve_bytes,
            write_failures_max: 10,
            tap: None,
        };
        let writer = Writer::start(settings, queue.clone(), Some(outbox.clone())).unwrap();
        let forwarding = Forwarding::new(TOPICS.map(str::to_owned).into(), 100, "a", "stations/a/{topic}");
        let limits = Limits { payload_bytes_max: 1000, clock_skew_ms_max: 1000 };
        let ingest = Arc::new(Ingest::new(config.ingest.routes.clone(), limits, Some(forwarding)));
        let broker =
            runtime.block_on(Running::start(config.broker, ingest.clone(), queue, None, &Arc::default())).unwrap();
        let progress = writer.progress();
        Hub { broker: Some(broker), writer: Some(writer), ingest, progress, outbox, runtime, dir }
    }

    fn mqtt(&self) -> SocketAddr {
        self.broker.as_ref().unwrap().places()[0].address
    }

    fn inside(&self) -> Inside {
        self.broker.as_ref().unwrap().inside("(upstream)", "upstream")
    }

    fn publish(&self, given: Given) -> Result<(), Refused> {
        self.runtime.block_on(async { tokio::time::timeout(SOON, self.inside().publish(given)).await }).unwrap()
    }

    fn outbox(&self) -> Vec<Waiting> {
        let reader = Reader::open(&self.dir.path().join("weather_data.db")).unwrap();
        reader.outbox(&self.outbox, Lane::Backlog, 0, 1000, 1 << 20).unwrap()
    }

    /// Keeps the store from writing for as long as the connection lives.
    fn lock(&self) -> rusqlite::Connection {
        let locker = rusqlite::Connection::open(self.dir.path().join("weather_data.db")).unwrap();
        locker.execute_batch("BEGIN IMMEDIATE").unwrap();
        locker
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let (Some(broker), Some(writer)) = (self.broker.take(), self.writer.take()) else { return };
        self.runtime.block_on(async {
            broker.stop_reading().await;
            writer.stop(Duration::from_secs(3)).await;
            broker.end_sessions(Duration::from_secs(1)).await;
        });
    }
}

fn given(topic: &str, payload: &'static str) -> Given {
    Given {
        topic: topic.to_owned(),
        payload: payload.into(),
        qos: 1,
        retain: false,
        delivery: Some((1, false)),
        properties: None,
        forwards: false,
    }
}

fn topics(rows: &[Waiting]) -> Vec<&str> {
    rows.iter().map(|row| row.topic.as_str()).collect()
}

#[test]
fn an_ack_of_what_is_only_forwarded_means_that_it_is_on_disk() {
    let hub = Hub::start();
    for (version, qos) in [(4, 1), (5, 2)] {
        let mut client = Connect::new(version, &format!("c{version}")).open(hub.mqtt());
        let locker = hub.lock();
        client.publish("up/x", b"1", qos, 7, false);
        client.publish("here/x", b"2", 0, 0, false);
        client.assert_silent_for(Duration::from_millis(300));
        drop(locker);
        if qos == 1 {
            client.expect_puback(7)
        } else {
            client.expect_pubrec(7)
        }
        assert_eq!(hub.outbox().last().unwrap().topic, "up/x");
    }
    assert_eq!(topics(&hub.outbox()), ["up/x", "up/x"]);
    assert_eq!(hub.outbox.messages(), 2);
}

#[test]
fn what_is_forwarded_keeps_its_topic_its_flag_and_its_properties() {
    let hub = Hub::start();
    let properties = Properties::default().number(0x01, 1).number(MESSAGE_EXPIRY, 60).text(0x03, "t").pair("a", "1");
    let mut client = Hello::new(5, "c").open(hub.mqtt()).0;
    let message = Sent { properties, ..Sent::new("up/x/", b"1", 1) };
    client.deliver(&message.retained().id(1));
    client.deliver(&Sent::new("b/magneticfluxsensor/", FLUX.as_bytes(), 1).id(2));
    let rows = hub.outbox();
    let found = rows[0].properties.as_ref().unwrap();
    assert_eq!((rows[0].topic.as_str(), rows[0].retain), ("up/x/", true));
    assert_eq!((found.payload_format, found.content_type.as_deref()), (Some(1), Some("t")));
    assert_eq!((found.user.len(), found.expires_ms), (1, Some(rows[0].received_ms + 60_000)));
    assert_eq!((rows[1].topic.as_str(), rows[1].payload.as_slice()), ("b/magneticfluxsensor/", FLUX.as_bytes()));
    assert_eq!(
        (rows[1].properties.as_ref(), hub.progress.readings.load(std::sync::atomic::Ordering::Relaxed)),
        (None, 1)
    );
}

#[test]
fn what_this_hub_sent_upstream_is_not_sent_again_when_it_comes_round() {
    let hub = Hub::start();
    let mut client = Hello::new(5, "c").open(hub.mqtt()).0;
    let back = Sent { properties: Properties::default().pair("stationhub-id", "a:5"), ..Sent::new("up/x", b"1", 1) };
    client.deliver(&back.id(1));
    client.deliver(&Sent::new("up/stations/a/x", b"2", 1).id(2));
    client.deliver(&Sent::new("up/x", b"3", 1).id(3));
    assert_eq!(hub.outbox().iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>(), [b"3"]);
    assert_eq!(hub.ingest.came_round(), 2);
}

#[test]
fn a_will_on_a_forwarded_topic_is_forwarded() {
    let hub = Hub::start();
    Connect::new(4, "mortal").will("up/gone", b"1", 1).open(hub.mqtt()).cut();
    wait_for("the will waits for the upstream", SOON, || topics(&hub.outbox()) == ["up/gone"]);
}

#[test]
fn what_comes_down_reaches_subscribers_and_the_store_and_does_not_go_up_again() {
    let hub = Hub::start();
    let mut client = Hello::new(5, "c").open(hub.mqtt()).0;
    client.subscribe_with(&[("down/#", 2 | RETAIN_AS_PUBLISHED)], &Properties::default());
    let properties = store::Properties { user: vec![("a".to_owned(), "1".to_owned())], ..Default::default() };
    let command = Given { retain: true, properties: Some(properties), ..given("down/valve", "open") };
    assert_eq!(hub.publish(command.clone()), Ok(()));
    let found = client.delivery_acked();
    assert_eq!((found.topic.as_str(), found.qos, found.retain), ("down/valve", 1, true));
    assert_eq!(found.properties, Properties::default().pair("a", "1"));
    let mut late = Hello::new(5, "late").open(hub.mqtt()).0;
    late.subscribe("down/#", 1);
    assert_eq!(late.delivery().payload, b"open");

    assert_eq!(hub.publish(given("down/magneticfluxsensor", FLUX)), Ok(()));
    assert_eq!(hub.publish(Given { delivery: Some((1, true)), ..given("down/magneticfluxsensor", FLUX) }), Ok(()));
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&hub.progress.readings), count(&hub.progress.duplicates)), (1, 1));
    assert!(hub.outbox().is_empty());
    assert_eq!(hub.publish(Given { forwards: true, ..command }), Ok(()));
    assert_eq!(topics(&hub.outbox()), ["down/valve"]);
}

#[test]
fn what_comes_down_has_no_more_rights_than_its_user() {
    let hub = Hub::start();
    assert_eq!(hub.publish(given("here/valve", "open")), Err(Refused::NotAllowed));
    assert_eq!(hub.publish(given("$SYS/x", "1")), Err(Refused::NotAllowed));
    for topic in ["down/#", "", "down/\0"] {
        assert_eq!(hub.publish(given(topic, "1")), Err(Refused::InvalidTopic));
    }
    let broker = hub.broker.as_ref().unwrap();
    assert_eq!(broker.counters().denied.load(std::sync::atomic::Ordering::Relaxed), 1);
    let without_rules = Hub::start_with("");
    assert_eq!(without_rules.publish(given("here/valve", "open")), Ok(()));
}

#[test]
fn what_comes_down_is_on_disk_when_it_is_done_and_a_stop_does_not_wait_for_it() {
    let mut hub = Hub::start();
    let locker = hub.lock();
    let inside = hub.inside();
    let published = hub.runtime.spawn(async move { inside.publish(given("down/magneticfluxsensor", FLUX)).await });
    wait_for("the message is queued", SOON, || {
        hub.progress.writing_since_ms.load(std::sync::atomic::Ordering::Relaxed) > 0
    });
    assert!(!published.is_finished());
    let (broker, writer) = (hub.broker.take().unwrap(), hub.writer.take().unwrap());
    let inside = broker.inside("(upstream)", "upstream");
    let ended = hub.runtime.block_on(async {
        broker.stop_reading().await;
        assert_eq!(inside.publish(given("down/x", "1")).await, Err(Refused::TheHubStops));
        writer.stop(Duration::from_millis(100)).await.unwrap().unwrap_err();
        broker.end_sessions(Duration::from_secs(1)).await;
        tokio::time::timeout(SOON, published).await.unwrap().unwrap()
    });
    assert_eq!(ended, Err(Refused::TheHubStops));
    drop(locker);
}
