//! An ack means stored, and stored once: what a sensor was told, and what is in the database at that moment.
//!
//! Owns promises 1, 2 and 5 while nothing fails; `crash.rs` and `storage_faults.rs` hold them under faults.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use support::mqtt::{Client, Connect, Packet, publish};
use support::sensor::{Fleet, Load, assert_all_sent_are_stored_once, weather, weather_topic};
use support::{SOON, Site, wait_for};

const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";
const FLUX_TOPIC: &str = "backacres/house/weatherstation/magneticfluxsensor/";

#[test]
fn every_reading_is_visible_when_its_puback_arrives() {
    let site = Site::new();
    let hub = site.start();
    for version in [4, 5] {
        let mut client = Connect::new(version, "sensor").open(hub.mqtt);
        let before = site.weather_count();
        for number in 0..50 {
            client.publish_through(TOPIC, &weather(version.into(), number), 1);
            assert_eq!(site.weather_count(), before + number as i64 + 1);
        }
    }
}

#[test]
fn every_field_of_a_reading_is_stored_as_sent() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "esp32").open(hub.mqtt);
    client.publish_through(
        TOPIC,
        br#"{"utc":1759479845,"sampleinterval":5000,"temperature":5.22,"humidity":61.5,"pressure":1004.94,"irradiance":0.83,"winddirectionsensor":96,"raingaugecount":170,"anemometercount":1047952}"#,
        1,
    );
    client.publish_through(FLUX_TOPIC, br#"{"x":1115,"y":-558,"z":-305}"#, 1);
    let weather = "SELECT count(*) FROM weather_data WHERE timestamp = 1759479845 \
        AND sample_interval = 5000 AND temperature = 5.22 AND humidity = 61.5 \
        AND pressure = 1004.94 AND irradiance = 0.83 AND wind_direction = 96 \
        AND rain_gauge_count = 170 AND anemometer_count = 1047952 \
        AND abs(strftime('%s', created_at) - strftime('%s', 'now')) < 60 \
        AND created_at GLOB '????-??-?? ??:??:??'";
    assert_eq!(site.number(weather), 1);
    let flux = "SELECT count(*) FROM magnetic_flux_data WHERE x = 1115 AND y = -558 AND z = -305 \
        AND typeof(x) = 'real' AND created_at GLOB '????-??-?? ??:??:??'";
    assert_eq!(site.number(flux), 1);
}

#[test]
fn redelivery_makes_no_second_row() {
    let site = Site::new();
    let hub = site.start();
    for version in [4, 5] {
        let start = site.weather_count();
        let connect = Connect::new(version, &format!("sensor-{version}")).persistent();
        let reading = weather(version.into(), 1);
        let mut client = connect.open(hub.mqtt);
        let again = |client: &mut Client| {
            client.publish(TOPIC, &reading, 1, 7, true);
            client.expect_puback(7);
            assert_eq!(site.weather_count(), start + 1, "MQTT level {version}");
        };
        client.publish(TOPIC, &reading, 1, 7, false);
        client.expect_puback(7);
        again(&mut client);
        again(&mut client);
        client.cut();
        again(&mut connect.open(hub.mqtt));
    }
}

#[test]
fn redelivery_before_the_first_ack_was_read_makes_no_second_row() {
    let site = Site::new();
    let hub = site.start();
    let connect = Connect::new(4, "hasty").persistent();
    for number in 0..50 {
        let reading = weather(1, number);
        let mut first = connect.open(hub.mqtt);
        first.publish(TOPIC, &reading, 1, 9, false);
        first.cut();
        let mut second = connect.open(hub.mqtt);
        second.publish(TOPIC, &reading, 1, 9, true);
        second.expect_puback(9);
        second.disconnect();
        assert_eq!(site.weather_count(), number as i64 + 1);
    }
}

#[test]
fn what_only_looks_like_a_redelivery_is_a_reading_of_its_own() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "sensor-a").persistent().open(hub.mqtt);
    let mut other = Connect::new(4, "sensor-b").persistent().open(hub.mqtt);
    // A magnetometer sends no time: only MQTT can tell a repeat of its readings.
    let reading = br#"{"x":1,"y":2,"z":3}"#;
    let mut rows = 0;
    let mut stored_anew = |client: &mut Client, what: &str, payload: &[u8], id, dup| {
        client.publish(FLUX_TOPIC, payload, 1, id, dup);
        client.expect_puback(id);
        rows += 1;
        assert_eq!(site.number("SELECT count(*) FROM magnetic_flux_data"), rows, "{what}");
    };
    stored_anew(&mut client, "the first", reading, 7, false);
    stored_anew(&mut client, "a repeat without DUP", reading, 7, false);
    stored_anew(&mut client, "DUP with another payload", br#"{"x":1,"y":2,"z":4}"#, 7, true);
    stored_anew(&mut client, "DUP with another packet id", reading, 8, true);
    stored_anew(&mut other, "DUP from another client", reading, 7, true);
}

#[test]
fn qos0_readings_are_stored() {
    let site = Site::new();
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos0(5));
    wait_for("1,000 readings", SOON, || fleet.sent() >= 1_000);
    let sensors = fleet.finish(SOON);
    let sent: u64 = sensors.iter().map(|sensor| sensor.sent).sum();
    wait_for("the rows", SOON, || site.weather_count() >= sent as i64);
    assert_all_sent_are_stored_once(site.db(), &sensors);
}

#[test]
fn qos2_reading_is_stored_once_before_its_pubrec() {
    let site = Site::new();
    let hub = site.start();
    for version in [4, 5] {
        let start = site.weather_count();
        let connect = Connect::new(version, &format!("sensor-{version}")).persistent();
        let mut client = connect.open(hub.mqtt);
        let reading = weather(version.into(), 1);
        client.publish(TOPIC, &reading, 2, 9, false);
        client.expect_pubrec(9);
        assert_eq!(site.weather_count(), start + 1, "PUBREC came before the commit");
        client.publish(TOPIC, &reading, 2, 9, true);
        client.expect_pubrec(9);
        client.cut();

        let mut client = connect.open(hub.mqtt);
        client.publish(TOPIC, &reading, 2, 9, true);
        client.expect_pubrec(9);
        client.pubrel(9);
        client.pubrel(9);
        assert_eq!(site.weather_count(), start + 1);
        client.publish_through(TOPIC, &weather(version.into(), 2), 2);
        assert_eq!(site.weather_count(), start + 2);
    }
}

#[test]
fn a_will_on_a_station_topic_is_a_reading() {
    let site = Site::new();
    let hub = site.start();
    for (version, qos) in [(4, 0), (4, 1), (5, 2)] {
        let start = site.weather_count();
        let will = weather(version.into(), qos.into());
        Connect::new(version, "dying").will(TOPIC, &will, qos).open(hub.mqtt).cut();
        wait_for("the will's row", SOON, || site.weather_count() == start + 1);
    }
}

#[test]
fn pubacks_leave_in_order_of_publishes() {
    let site = Site::new();
    let hub = site.start();
    // An MQTT 5 client may not have more in flight than the hub's receive maximum.
    for (version, in_flight) in [(4, 300), (5, 15)] {
        let mut client = Connect::new(version, "mixed").open(hub.mqtt);
        for first in (1..=300u16).step_by(in_flight) {
            let ids = first..first + in_flight as u16;
            let burst: Vec<u8> = ids.clone().flat_map(|id| mixed(version, id)).collect();
            client.send(&burst).unwrap();
            ids.for_each(|id| client.expect_puback(id));
        }
    }
    assert_eq!(site.weather_count(), 200);
}

#[test]
fn no_puback_overtakes_a_reading_that_waits_for_the_disk() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "mixed").open(hub.mqtt);
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let burst: Vec<u8> = (1..=30u16).flat_map(|id| mixed(4, id)).collect();
    client.send(&burst).unwrap();
    client.assert_silent_for(Duration::from_secs(1));
    other.execute_batch("COMMIT").unwrap();
    (1..=30).for_each(|id| client.expect_puback(id));
    assert_eq!(site.weather_count(), 10);
}

/// Returns a publish: of three, the first is a reading and the others are none of the store's business.
fn mixed(version: u8, id: u16) -> Vec<u8> {
    match id % 3 {
        1 => publish(version, TOPIC.as_bytes(), &weather(1, id.into()), 1, id, false),
        _ => publish(version, b"house/lamp", b"on", 1, id, false),
    }
}

#[test]
fn a_thousand_readings_sent_at_once_are_acked_in_order() {
    let site = Site::new();
    let hub = site.start();
    let mut client = Connect::new(4, "burst").open(hub.mqtt);
    let topic = weather_topic(1);
    let burst: Vec<u8> =
        (1..=1_000u16).flat_map(|id| publish(4, topic.as_bytes(), &weather(1, id.into()), 1, id, false)).collect();
    client.send(&burst).unwrap();
    for id in 1..=1_000 {
        match client.read(SOON).expect("an ack") {
            Packet::PubAck { id: acked, .. } => assert_eq!(acked, id),
            other => panic!("PUBACK {id} was expected, not {other:?}"),
        }
    }
    assert_eq!(site.weather_count(), 1_000);
}

#[test]
fn readers_never_see_locked() {
    let site = Site::new();
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(20));
    let (done, reads) = (AtomicBool::new(false), AtomicU64::new(0));
    let count = |connection: &Connection| {
        let count: i64 = connection.query_row("SELECT count(*) FROM weather_data", [], |row| row.get(0))?;
        reads.fetch_add(1, SeqCst);
        Ok::<i64, rusqlite::Error>(count)
    };
    let open = |flags| {
        let connection = Connection::open_with_flags(site.db(), flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok::<Connection, rusqlite::Error>(connection)
    };
    std::thread::scope(|scope| {
        let readers_end = SetAtEnd(&done);
        // As the station's Python programs do it: a fresh connection each time, able to write.
        scope.spawn(|| {
            while !done.load(SeqCst) {
                open(OpenFlags::SQLITE_OPEN_READ_WRITE)
                    .and_then(|fresh| count(&fresh))
                    .expect("a fresh connection reads");
            }
        });
        scope.spawn(|| {
            let permanent = open(OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
            let mut last = 0;
            while !done.load(SeqCst) {
                let now = count(&permanent).expect("a permanent connection reads");
                assert!(now >= last, "rows vanished: {last}, then {now}");
                last = now;
            }
        });
        wait_for("10,000 acks and 2,000 reads", 4 * SOON, || fleet.acked() >= 10_000 && reads.load(SeqCst) >= 2_000);
        drop(readers_end);
    });
    let sensors = fleet.finish(SOON);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert!(hub.stop().success());
}

/// Sets its flag when it goes, by a panic too, so that no thread of a scope runs for ever.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
