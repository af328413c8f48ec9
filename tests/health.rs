//! Checks of health, broken for real and mended again: told in the log, by `/healthz`, in the metrics, by `status` and as an
//! alert, and so is its end. Those of the hub's own parts are in `health_inside.rs`, those of the bridge in
//! `health_bridge.rs`.
//!
//! Owns what an owner is to learn without looking. That nothing is lost meanwhile is tested in `storage_faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use support::disk::SmallDisk;
use support::health::{get, healthz, often, telling, wait_over, wait_told};
use support::mqtt::{Client, Connect};
use support::sensor::{Fleet, Load, weather, weather_topic};
use support::{Hub, PATIENTLY, SOON, Site, holds_within, set_mode, skip, wait_for};

fn sensor(hub: &Hub) -> Client {
    Connect::new(4, "sensor").open(hub.mqtt)
}

/// Sends readings a second apart, as many as make a rhythm.
fn send_regularly(client: &mut Client) {
    for number in 0..7 {
        let sent = Instant::now();
        client.publish_through(&weather_topic(1), &weather(1, number), 1);
        wait_for("the next second", SOON, || sent.elapsed() >= Duration::from_millis(1_010));
    }
}

#[test]
fn a_sensor_that_stops_is_told_within_a_minute_however_seldom_the_hub_checks_itself() {
    let site = telling(3600, "");
    let hub = site.start();
    let mut client = sensor(&hub);
    send_regularly(&mut client);
    assert_eq!(healthz(&hub, "ingest.silence").2, None);
    let words = ["no reading comes from test/station1/weathermeters for", "usually every 1.0 s"];
    let text = wait_told(&site, &hub, 0, "ingest.silence", &words, Duration::from_secs(30));
    assert!(text.contains("check the sensor"), "{text}");
    client.publish_through(&weather_topic(1), &weather(1, 100), 1);
    wait_for("its return in /healthz", SOON, || healthz(&hub, "ingest.silence").2.is_none());
}

#[test]
fn a_sensor_that_died_while_the_hub_was_down_is_told_by_the_rhythm_it_had() {
    let site = often("");
    let hub = site.start();
    send_regularly(&mut sensor(&hub));
    wait_for("its rhythm in the database", SOON, || {
        site.number("SELECT count(*) FROM source WHERE rhythm_ms BETWEEN 1000 AND 2000") == 1
    });
    hub.kill_9();
    let hub = site.start();
    let mark = hub.log_end();
    wait_told(&site, &hub, mark, "ingest.silence", &["test/station1/weathermeters"], Duration::from_secs(30));
}

#[test]
fn a_configured_silence_holds_in_place_of_the_rhythm_and_a_source_that_never_came_is_silent_too() {
    let site = often("[[health.source]]\nfilter = \"test/station1/#\"\nsilence_s = 2\n");
    let hub = site.start();
    let words = ["no reading comes from test/station1/# for 2 s"];
    wait_told(&site, &hub, 0, "ingest.silence", &words, SOON);
    let mark = hub.log_end();
    let mut client = sensor(&hub);
    client.publish_through(&weather_topic(1), &weather(1, 0), 1);
    wait_over(&hub, mark, "ingest.silence", SOON);
    let mark = hub.log_end();
    wait_told(&site, &hub, mark, "ingest.silence", &["test/station1/weathermeters for"], SOON);
}

#[test]
fn a_database_that_somebody_locks_is_told_while_nobody_publishes() {
    let site = often("");
    let hub = site.start();
    wait_for("a heartbeat", SOON, || site.number("SELECT count(*) FROM run") == 1);
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    wait_told(&site, &hub, 0, "store.write", &["has not been written", "locked"], PATIENTLY);
    let mark = hub.log_end();
    other.execute_batch("COMMIT").unwrap();
    wait_over(&hub, mark, "store.write", PATIENTLY);
    let age_ms = "SELECT unixepoch('subsec') * 1000 - alive_ms FROM run";
    wait_for("another heartbeat", SOON, || site.number(&format!("SELECT ({age_ms}) < 3000")) == 1);
}

#[test]
fn the_heartbeat_rides_with_the_readings_and_costs_no_transaction_of_its_own() {
    let site = often("");
    let hub = site.start();
    let mut client = sensor(&hub);
    let beats = || site.rows("SELECT alive_ms FROM run");
    wait_for("a heartbeat", SOON, || !beats().is_empty());
    let commits = || support::watch::figure(&site, "commits");
    let (before, first, mut number) = (commits(), beats(), 0);
    let mut seen = vec![first];
    while seen.len() < 4 {
        let sent = Instant::now();
        client.publish_through(&weather_topic(1), &weather(1, number), 1);
        number += 1;
        // Well within the time that a heartbeat waits for company.
        wait_for("the next reading's time", SOON, || sent.elapsed() >= Duration::from_millis(50));
        let now = beats();
        if seen.last() != Some(&now) {
            seen.push(now);
        }
    }
    // One that had waited before the first reading may have gone alone.
    let alone = commits() - before - number;
    assert!(alone <= 1, "{alone} transactions without a reading, {number} readings");
}

#[test]
fn a_database_that_nobody_can_read_is_told() {
    let site = often("");
    let hub = site.start();
    let away = site.file("elsewhere.db");
    fs::rename(site.db(), &away).unwrap();
    wait_told(&site, &hub, 0, "store.read", &["cannot be read by another connection"], PATIENTLY);
    let mark = hub.log_end();
    fs::rename(&away, site.db()).unwrap();
    wait_over(&hub, mark, "store.read", PATIENTLY);
}

#[test]
fn a_disk_that_is_nearly_full_is_told_before_it_is() {
    let site = often("disk_free_bytes_min = 4194304\n").with_db("disk/weather_data.db");
    let Some(disk) = SmallDisk::mount(site.file("disk"), "16m") else {
        return;
    };
    let hub = site.start();
    assert_eq!(healthz(&hub, "store.disk").2, None);
    let ballast = disk.fill();
    let text = wait_told(&site, &hub, 0, "store.disk", &["are free on the database's disk", "make room"], PATIENTLY);
    assert!(text.starts_with("0 bytes are free") || text.contains("does not grow any more"), "{text}");
    let mark = hub.log_end();
    fs::remove_file(ballast).unwrap();
    wait_over(&hub, mark, "store.disk", PATIENTLY);
}

#[test]
fn a_reader_that_holds_the_log_back_is_told_by_its_name() {
    let site = often("wal_bytes_max = 16777216\n");
    let hub = site.start();
    let reader = support::reader(site.db());
    reader.execute_batch("BEGIN; SELECT count(*) FROM weather_data").unwrap();
    let fleet = Fleet::start(hub.mqtt, 0, Load::qos1(5));
    let text = wait_told(&site, &hub, 0, "store.wal", &["the write-ahead log has grown to"], PATIENTLY);
    assert!(text.contains(&format!("(pid {})", std::process::id())), "{text}");
    let mark = hub.log_end();
    reader.execute_batch("COMMIT").unwrap();
    // The next transactions move the log into the database, and the one after that begins it anew.
    wait_for("the log to shrink", PATIENTLY, || fs::metadata(site.beside_db("-wal")).unwrap().len() < 16_777_216);
    wait_over(&hub, mark, "store.wal", PATIENTLY);
    fleet.finish(PATIENTLY);
}

#[test]
fn a_sensor_that_sends_garbage_is_told_and_a_stray_message_is_not() {
    let site = often("");
    let hub = site.start();
    let mut client = sensor(&hub);
    for _ in 0..4 {
        client.publish_through(&weather_topic(1), b"?", 1);
    }
    assert!(!holds_within(Duration::from_millis(600), || healthz(&hub, "ingest.quarantine").2.is_some()));
    for _ in 0..6 {
        client.publish_through(&weather_topic(1), b"?", 1);
    }
    wait_told(&site, &hub, 0, "ingest.quarantine", &["went to quarantine"], SOON);
    let mark = hub.log_end();
    wait_over(&hub, mark, "ingest.quarantine", PATIENTLY);
}

#[test]
fn a_clock_that_is_set_while_the_hub_runs_is_told_and_no_source_falls_silent_by_it() {
    let site = often("[[health.source]]\nfilter = \"test/#\"\nsilence_s = 600\n");
    let ahead = site.file("ahead");
    let mut command = site.run_command_with_shim("stepclock");
    command.env("STEPCLOCK", &ahead);
    let hub = site.start_with(command);
    sensor(&hub).publish_through(&weather_topic(1), &weather(1, 0), 1);
    for way in ["forward", "back"] {
        let mark = hub.log_end();
        match way {
            "forward" => fs::write(&ahead, "").unwrap(),
            _ => fs::remove_file(&ahead).unwrap(),
        }
        wait_told(&site, &hub, mark, "clock.step", &[&format!("the clock was set {way} by ")], SOON);
        assert_eq!(healthz(&hub, "ingest.silence").2, None);
        let mark = hub.log_end();
        wait_over(&hub, mark, "clock.step", PATIENTLY);
    }
}

#[test]
fn a_clock_that_is_not_synchronised_is_told_after_a_while() {
    if fs::metadata("/run/systemd/timesync").is_ok() {
        return skip("the machine's own time service answers", false);
    }
    let site = often("");
    let answer = site.file("answer");
    fs::write(&answer, "no\n").unwrap();
    let program = site.file("timedatectl");
    fs::write(&program, format!("#!/bin/sh\ncat {}\n", answer.display())).unwrap();
    set_mode(&program, 0o755);
    let mut command = site.run_command();
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", site.dir().display()));
    let hub = site.start_with(command);
    wait_told(&site, &hub, 0, "clock.synchronised", &["has not been synchronised"], PATIENTLY);
    assert!(get(&hub, "/metrics").1.contains("\nstationhub_clock_synchronised 0\n"));
    let mark = hub.log_end();
    fs::write(&answer, "yes\n").unwrap();
    wait_over(&hub, mark, "clock.synchronised", PATIENTLY);
}

#[test]
fn too_much_memory_is_told_and_degraded_is_503_where_that_is_wanted() {
    for (more, code) in
        [("memory_bytes_max = 1048576\n", 200), ("memory_bytes_max = 1048576\ndegraded_is_503 = true\n", 503)]
    {
        let site = often(more);
        let hub = site.start();
        wait_told(&site, &hub, 0, "hub.memory", &["health.memory_bytes_max is 1024 KiB"], SOON);
        let (found, status, _) = healthz(&hub, "hub.memory");
        assert_eq!((found, status.as_str()), (code, "degraded"));
    }
}

#[test]
fn failing_is_503() {
    let site = often("write_failures_max = 1\n");
    let hub = site.start();
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    wait_for("/healthz to fail", PATIENTLY, || healthz(&hub, "store.write").0 == 503);
    other.execute_batch("COMMIT").unwrap();
    wait_for("/healthz to be well", PATIENTLY, || healthz(&hub, "store.write").0 == 200);
}

#[test]
fn a_storm_of_scrapers_is_answered_from_few_looks() {
    let site = Site::new();
    let hub = site.start();
    let start = Instant::now();
    // Each look measures the way through the router anew.
    let looks = Mutex::new(HashSet::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (code, body) = get(&hub, "/healthz");
                    let report: serde_json::Value = serde_json::from_str(&body).unwrap();
                    assert_eq!(code, 200, "{body}");
                    looks.lock().unwrap().insert(report["broker_round_trip_us"].as_u64());
                }
            });
        }
    });
    let (looks, most) = (looks.into_inner().unwrap().len(), start.elapsed().as_millis() / 500 + 2);
    assert!(looks as u128 <= most, "{looks} looks in {:?}", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?} for 800 answers", start.elapsed());
}
