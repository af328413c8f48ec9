//! A queue that is full to its bound: what asked for an ack waits, what did not is counted and told, to the last one.
//!
//! Owns promise 3 where nothing else can be done any more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::time::Duration;

use rusqlite::Connection;
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::watch::figure;
use support::{PATIENTLY, SOON, Site, wait_for};

#[test]
fn a_full_queue_loses_qos0_alone_and_counts_every_one() {
    let site = Site::with_config("[ingest]\nqueue_bytes = 131072\npayload_bytes_max = 65536\n");
    let hub = site.start();
    let lock = Connection::open(site.db()).unwrap();
    lock.busy_timeout(SOON).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();

    let mark = hub.log_end();
    let sent = 2_000;
    let mut telling = Connect::new(4, "telling").open(hub.mqtt);
    for number in 0..sent {
        telling.publish(&weather_topic(1), &weather(1, number), 0, 0, false);
    }
    telling.ping();
    let lost = figure(&site, "lost");
    assert!(lost > 0 && lost < sent, "{lost} of {sent} lost");
    hub.wait_said(mark, &[" warn ", "lost"], SOON);
    let lines = hub.said_since(mark, &[" warn ", "is lost"]).len();
    assert!(lines <= 20, "{lines} lines: the log is not flooded");

    let mut asking = Connect::new(4, "asking").open(hub.mqtt);
    for number in 0..50 {
        asking.publish(&weather_topic(2), &weather(2, number), 1, number as u16 + 1, false);
    }
    asking.assert_silent_for(Duration::from_millis(300));
    lock.execute_batch("ROLLBACK").unwrap();
    for id in 1..=50 {
        asking.expect_puback(id);
    }
    wait_for("all that was not lost", PATIENTLY, || {
        let stored = site.number("SELECT count(*) FROM weather_data") as u64;
        stored == sent - figure(&site, "lost") + 50
    });
    assert_eq!(figure(&site, "lost"), lost, "nothing more was lost");
    assert!(hub.stop().success());
}
