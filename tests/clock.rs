//! A clock that is wrong until it is synchronised: what comes meanwhile is marked, and its time set right, within the same
//! boot, over a restart of the hub, and never where a sensor sent its own.
//!
//! Owns trust in the clock. That an unsynchronised clock is told is tested in `health.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Command;

use support::health::often;
use support::mqtt::Connect;
use support::sensor::weather_topic;
use support::{Hub, PATIENTLY, SOON, Site, now_s, set_mode, skip, wait_for};

const HOUR_S: i64 = 3_600;

/// A machine whose time service answers what the file `answer` holds, and whose clock goes ahead an hour once `step` is there.
fn machine(site: &Site, answer: &str) -> Command {
    let (said, program) = (site.file("answer"), site.file("timedatectl"));
    fs::write(&said, answer).unwrap();
    fs::write(&program, format!("#!/bin/sh\ncat {}\n", said.display())).unwrap();
    set_mode(&program, 0o755);
    let mut command = site.run_command_with_shim("stepclock");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", site.dir().display())).env("STEPCLOCK", site.file("step"));
    command
}

fn synchronised(site: &Site) -> Option<bool> {
    site.status()["clock_synchronised"].as_bool()
}

/// Sends a reading without a time, one with, and one of a magnetometer.
fn send(hub: &Hub, number: u64) {
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish_through(&weather_topic(1), format!(r#"{{"raingaugecount":{number}}}"#).as_bytes(), 1);
    let own = format!(r#"{{"utc":{},"raingaugecount":{number},"anemometercount":1}}"#, now_s() + HOUR_S);
    client.publish_through(&weather_topic(1), own.as_bytes(), 1);
    client.publish_through("test/station1/magneticfluxsensor/", br#"{"x":1,"y":2,"z":3}"#, 1);
}

#[test]
fn readings_from_before_the_clock_was_synchronised_are_set_right_by_the_boots_clock() {
    if fs::metadata("/run/systemd/timesync").is_ok() {
        return skip("the machine's own time service answers", false);
    }
    let site = often("[ingest]\nclock_skew_max_s = 600\n");
    let begun = now_s();
    for number in 0..2 {
        let hub = site.start_with(machine(&site, "no\n"));
        wait_for("the hub to ask", SOON, || synchronised(&site) == Some(false));
        send(&hub, number);
        wait_for("this run in the database", SOON, || site.number("SELECT max(id) FROM run") == number as i64 + 1);
        hub.kill_9();
    }
    let marks = |table: &str| site.rows(&format!("SELECT DISTINCT marks FROM {table} ORDER BY 1"));
    assert_eq!(marks("weather_data"), [[5.into()], [6.into()]], "no time and not trusted; far off and not trusted");
    assert_eq!(marks("magnetic_flux_data"), [[4.into()]]);
    assert!(site.number("SELECT max(received_ms) FROM weather_data") / 1000 < begun + HOUR_S);

    let hub = site.start_with(machine(&site, "no\n"));
    wait_for("the hub to ask", SOON, || synchronised(&site) == Some(false));
    send(&hub, 2);
    // The first synchronisation.
    fs::write(site.file("step"), "").unwrap();
    fs::write(site.file("answer"), "yes\n").unwrap();
    wait_for("all to be set right", PATIENTLY, || site.number("SELECT count(*) FROM untimed") == 0);
    assert_eq!(marks("weather_data"), [[8.into()], [9.into()]], "a sensor's time is not far off any more");
    assert_eq!(marks("magnetic_flux_data"), [[8.into()]]);
    let now = now_s() + HOUR_S;
    for table in ["weather_data", "magnetic_flux_data"] {
        let within = format!(
            "received_ms BETWEEN {}000 AND {now}999 AND abs(unixepoch(created_at) - received_ms / 1000) = 0",
            begun + HOUR_S
        );
        let (right, all) =
            (format!("SELECT count(*) FROM {table} WHERE {within}"), format!("SELECT count(*) FROM {table}"));
        assert_eq!(
            site.number(&right),
            site.number(&all),
            "{table}: {:?}",
            site.rows(&format!("SELECT * FROM {table}"))
        );
    }
    assert_eq!(site.number("SELECT count(*) FROM weather_data WHERE marks = 9 AND timestamp = received_ms / 1000"), 3);
    assert_eq!(
        site.number("SELECT count(*) FROM weather_data WHERE marks = 8 AND abs(timestamp - received_ms / 1000) < 60"),
        3
    );
    let kinds = || site.rows("SELECT DISTINCT kind FROM event ORDER BY 1");
    let expected: Vec<Vec<rusqlite::types::Value>> =
        ["clock.set_right", "clock.step", "hub.unclean"].map(|kind| vec![kind.to_owned().into()]).into();
    wait_for("the events", SOON, || kinds() == expected);
    wait_for("the start of this run", SOON, || {
        site.number(&format!("SELECT started_ms / 1000 BETWEEN {} AND {now} FROM run WHERE id = 3", begun + HOUR_S))
            == 1
    });

    // What comes now needs no mark, and what is counted moved along.
    send(&hub, 3);
    assert_eq!(
        site.number(
            "SELECT count(*) FROM weather_data WHERE received_ms / 1000 >= 1 AND marks IN (1, 8, 9) OR marks IS NULL"
        ),
        8
    );
    let hours = "SELECT count(*) FROM hour_count WHERE stored > 0 AND hour * 3600 + 3600 <= ";
    assert_eq!(site.number(&format!("{hours}{}", begun + HOUR_S - HOUR_S)), 0);
    assert!(hub.stop().success());
}

#[test]
fn a_synchronised_clock_marks_nothing() {
    if fs::metadata("/run/systemd/timesync").is_ok() {
        return skip("the machine's own time service answers", false);
    }
    let site = often("");
    let hub = site.start_with(machine(&site, "yes\n"));
    wait_for("the hub to ask", SOON, || synchronised(&site) == Some(true));
    send(&hub, 0);
    assert_eq!(site.number("SELECT count(*) FROM magnetic_flux_data WHERE marks IS NULL"), 1);
    assert_eq!(site.number("SELECT count(*) FROM weather_data WHERE marks & 12"), 0);
    assert!(hub.stop().success());
}
