//! A disk that is full to the last byte, in stages: told, survived, and left again without a lost reading.
//!
//! Owns what the hub gives up for its readings, and that a disk filled by the outbox is freed by draining it. A small file
//! system is mounted where that is allowed; where not, a bound of SQLite's pages stands in for it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use support::bridged;
use support::collector::Collector;
use support::disk::SmallDisk;
use support::feeder::{feed, number_of};
use support::health::{ALERTS, healthz};
use support::mqtt::Connect;
use support::proxy::{Link, Proxy};
use support::sensor::{Fleet, Load, assert_all_sent_are_stored_once, stored, weather, weather_topic};
use support::upstream::{UNLIMITED, mosquitto};
use support::{Hub, PATIENTLY, SOON, Site, holds_within, wait_for};

const OFTEN: &str = "[health]\ninterval_s = 1\ndisk_free_bytes_min = 2097152\n";
const TIGHT: &[&str] = &[" warn ", "the disk is full (", "does not grow any more"];
const OUT: &[&str] = &[" warn ", "nothing can be spared any more"];
const AMPLE: &[&str] = &[" info ", "the disk has room again"];

/// Makes the site of a hub whose database has a disk of 8 MiB of its own; `None` where it cannot be mounted.
fn small(hub_toml: &str) -> Option<(SmallDisk, Site)> {
    let site = Site::with_config(hub_toml).with_db("disk/weather_data.db");
    let disk = SmallDisk::mount(site.file("disk"), "8m")?;
    Some((disk, site))
}

fn stage(site: &Site) -> String {
    site.status()["room"]["stage"].as_str().unwrap().to_owned()
}

fn events(site: &Site) -> Vec<String> {
    let rows = site.rows("SELECT text FROM event WHERE kind = 'store.disk' ORDER BY id");
    rows.into_iter().map(|row| format!("{:?}", row[0])).collect()
}

/// Waits until nothing has been acked for a second.
fn wait_standstill(fleet: &Fleet) {
    wait_for("a second without acks", PATIENTLY, || {
        let acked = fleet.acked();
        !holds_within(Duration::from_secs(1), || fleet.acked() != acked)
    });
}

/// Waits until the outermost stage is reached and nothing is acked, and sees that all that was acked is stored.
fn wait_out(site: &Site, hub: &Hub, fleet: &Fleet, mark: usize) {
    hub.wait_said(mark, TIGHT, PATIENTLY);
    hub.wait_said(mark, OUT, PATIENTLY);
    wait_standstill(fleet);
    assert_eq!(stage(site), "out");
    assert!(fleet.acked() <= stored(site.db()).len() as u64, "acked, not stored");
}

#[test]
fn eight_mib_filled_to_the_last_byte_under_load_lose_nothing_and_heal() {
    let Some((disk, site)) = small(&format!("{OFTEN}{ALERTS}")) else { return };
    let mut hub = site.start();
    let reserve = site.beside_db(".reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20, "an eighth of the disk");
    let garbage = (0..60).map(|number: u32| vec![b'a' + (number % 26) as u8; 10_000]);
    feed(hub.mqtt, &weather_topic(9), 10, garbage);
    let quarantined = site.number("SELECT count(*) FROM quarantine");
    assert_eq!(quarantined, 60);
    let fleet = Fleet::start(hub.mqtt, 0, Load { pause: Duration::from_millis(20), ..Load::qos1(4) });
    wait_for("acks before", SOON, || fleet.acked() > 200);

    let mark = hub.log_end();
    let ballast = disk.fill();
    hub.wait_said(mark, &[" warn ", "oldest messages of the quarantine were dropped"], PATIENTLY);
    let acked = fleet.acked();
    wait_for("acks in the quarantine's place", PATIENTLY, || fleet.acked() > acked);
    wait_out(&site, &hub, &fleet, mark);
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
    wait_for("it in /healthz", PATIENTLY, || {
        let (_, status, text) = healthz(&hub, "store.disk");
        status == "failing" && text.is_some_and(|text| text.contains("wait unacked") && text.contains("make room"))
    });
    assert!(hub.is_running());

    let mark = hub.log_end();
    fs::remove_file(ballast).unwrap();
    hub.wait_said(mark, AMPLE, PATIENTLY);
    let acked = fleet.acked();
    wait_for("acks once there is room", PATIENTLY, || fleet.acked() > acked + 100);
    let sensors = fleet.finish(PATIENTLY);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20, "made again");
    wait_for("the end in /healthz", PATIENTLY, || healthz(&hub, "store.disk").2.is_none());
    let is_over = |event: &String| event.contains("enough room again");
    wait_for("all of it as events", PATIENTLY, || events(&site).iter().any(is_over));
    let events = events(&site).join("\n");
    for words in ["does not grow", "nothing can be spared", "60 oldest messages of the quarantine"] {
        assert!(events.contains(words), "{words:?} is not in\n{events}");
    }
    assert!(hub.stop().success());
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
}

#[test]
fn a_disk_that_the_outbox_has_filled_is_freed_by_draining_it() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, bridged::ALL);
    let proxy = Proxy::start(upstream.address, Link::Cut);
    let config = bridged::config(&format!("mqtt://{}", proxy.address), OFTEN);
    let Some((disk, site)) = small(&config) else { return };
    let hub = site.start();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(4));
    wait_out(&site, &hub, &fleet, 0);
    let ballast = disk.fill();
    wait_standstill(&fleet);
    let full = fleet.acked();
    assert!(full > 1_000, "{full} readings fill the disk");

    proxy.set(Link::Open);
    wait_for("acks while it drains", PATIENTLY, || fleet.acked() > full + 100);
    let sensors = fleet.finish(PATIENTLY);
    bridged::wait_drained(&site, PATIENTLY);
    assert_all_sent_are_stored_once(site.db(), &sensors);
    let sent: HashSet<(u64, u64)> =
        sensors.iter().flat_map(|sensor| (0..sensor.sent).map(|number| (sensor.number, number))).collect();
    wait_for("all of it upstream", PATIENTLY, || collector.count() == sent.len());
    assert!(collector.seen_once().iter().all(|message| number_of(&message.payload).is_some()));
    fs::remove_file(ballast).unwrap();
    assert_eq!(site.rows("PRAGMA integrity_check"), [["ok".to_owned().into()]]);
    assert!(hub.stop().success());
}

#[test]
fn a_database_that_may_not_grow_loses_nothing_and_heals_wherever_the_test_runs() {
    let site = Site::with_config(OFTEN);
    let (faults, mut command) = (site.file("faults"), site.run_command());
    command.env("HUB_TEST_FAULTS", &faults);
    let hub = site.start_with(command);
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(3));
    wait_for("acks before", SOON, || fleet.acked() > 200);
    let mark = hub.log_end();
    // Less than there are: as many as there are.
    fs::write(&faults, "pages 1\n").unwrap();
    wait_out(&site, &hub, &fleet, mark);
    let acked = fleet.acked();
    fs::remove_file(&faults).unwrap();
    hub.wait_said(mark, AMPLE, PATIENTLY);
    wait_for("acks once it may grow", PATIENTLY, || fleet.acked() > acked + 100);
    assert_all_sent_are_stored_once(site.db(), &fleet.finish(PATIENTLY));
    assert!(hub.stop().success());
}

#[test]
fn a_hub_that_starts_on_a_full_disk_takes_readings_once_there_is_room() {
    let Some((disk, site)) = small(OFTEN) else { return };
    let hub = site.start();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(&weather_topic(1), &weather(1, 0), 1);
    let ballast = disk.fill();
    hub.kill_9();
    let hub = site.start();
    hub.wait_said(0, TIGHT, PATIENTLY);
    fs::remove_file(ballast).unwrap();
    let mut sensor = Connect::new(4, "sensor").open(hub.mqtt);
    sensor.publish_through(&weather_topic(1), &weather(1, 1), 1);
    hub.wait_said(0, AMPLE, PATIENTLY);
    assert_eq!(site.weather_count(), 2);
}
