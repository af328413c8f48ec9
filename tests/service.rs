//! The hub under a service manager: what it tells, and when it is no longer given a sign of life.
//!
//! A stand-in for systemd listens on a real NOTIFY_SOCKET. Faults come on command, through the file that HUB_TEST_FAULTS
//! names; only debug builds obey it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::{Pid, kill_process};
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::systemd::ServiceManager;
use support::{Hub, PATIENTLY, SOON, Signal, Site, holds_within, program, wait_for};

/// What the stand-in has as WatchdogSec.
const WATCHDOG: Duration = Duration::from_secs(2);

/// Starts a hub under a service manager, with faults on command.
fn start(site: &Site, manager: &ServiceManager) -> Hub {
    let mut command = manager.of(site.run_command());
    command.env("HUB_TEST_FAULTS", site.file("faults"));
    site.start_with(command)
}

fn command(site: &Site, fault: &str) {
    // As a whole: the hub never reads half a line.
    fs::write(site.file("faults.new"), format!("{fault}\n")).unwrap();
    fs::rename(site.file("faults.new"), site.file("faults")).unwrap();
}

fn publish_unacked(hub: &Hub, number: u64) -> support::mqtt::Client {
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish(&weather_topic(1), &weather(1, number), 1, 1, false);
    client
}

/// Waits until there was no sign of life for a whole WatchdogSec: then systemd ends the hub.
fn wait_unfed(manager: &mut ServiceManager) {
    wait_for("the watchdog to starve", PATIENTLY, || manager.unfed() > WATCHDOG);
}

#[test]
fn a_service_manager_hears_ready_figures_signs_of_life_and_the_stop() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, Some(WATCHDOG));
    let hub = start(&site, &manager);
    manager.wait_for("READY=1", SOON);
    Connect::new(4, "sensor").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 0), 1);
    manager.wait_for("WATCHDOG=1", SOON);
    let status = manager.wait_for("STATUS=0.", SOON);
    assert!(status.contains("readings/s") && status.contains("clients") && status.contains("waiting"), "{status}");
    assert!(!manager.lines().contains(&"STOPPING=1".to_owned()));
    assert!(hub.stop().success());
    manager.wait_for("STOPPING=1", SOON);
}

#[test]
fn a_hung_writer_starves_the_watchdog_and_is_named() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, Some(WATCHDOG));
    let hub = start(&site, &manager);
    manager.wait_for("WATCHDOG=1", SOON);
    command(&site, "hang store-writer");
    let mark = hub.log_end();
    let _client = publish_unacked(&hub, 0);
    wait_unfed(&mut manager);
    assert_eq!(hub.said_since(mark, &["error", "watchdog is not fed", "writes to the database"]).len(), 1);
    manager.wait_for("STATUS=stuck", SOON);
    Connect::new(4, "other").open(hub.mqtt).ping();
    command(&site, "nothing");
    manager.forget();
    manager.wait_for("WATCHDOG=1", SOON);
    hub.wait_said(mark, &["the watchdog is fed again"], SOON);
}

#[test]
fn a_database_that_another_program_has_locked_does_not_starve_the_watchdog() {
    let site = Site::new();
    // Longer than the others' time, for a machine that is busy with other tests.
    let watchdog = 3 * WATCHDOG;
    let mut manager = ServiceManager::listen(&site, Some(watchdog));
    let hub = start(&site, &manager);
    let other = Connection::open(site.db()).unwrap();
    other.busy_timeout(SOON).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let mark = hub.log_end();
    let mut client = publish_unacked(&hub, 0);
    manager.wait_for("WATCHDOG=1", SOON);
    let starved = holds_within(Duration::from_secs(16), || manager.unfed() > watchdog);
    assert!(!starved, "{:?}", manager.lines());
    manager.wait_for("STATUS=0.0 readings/s, 1 clients, 1 waiting to be stored, the database CANNOT BE WRITTEN", SOON);
    assert!(!hub.said_since(mark, &["cannot write to the database"]).is_empty());
    assert!(hub.said_since(mark, &["watchdog is not fed"]).is_empty());
    other.execute_batch("COMMIT").unwrap();
    client.expect_puback(1);
    drop(hub);
}

/// Locks a database that is no hub's yet, so that the hub cannot open it.
fn locked_at_the_start(site: &Site) -> Connection {
    let other = Connection::open(site.db()).unwrap();
    other.execute_batch("CREATE TABLE t(a); BEGIN EXCLUSIVE; INSERT INTO t VALUES (1)").unwrap();
    other
}

#[test]
fn a_hub_is_ready_once_its_store_is_open_and_says_what_it_waits_for() {
    let site = Site::new();
    let other = locked_at_the_start(&site);
    let mut manager = ServiceManager::listen(&site, None);
    let _hub = site.start_as_it_is(manager.of(site.run_command()));
    manager.wait_for("STATUS=waits for the database", PATIENTLY);
    assert!(!manager.lines().contains(&"READY=1".to_owned()), "{:?}", manager.lines());
    other.execute_batch("COMMIT").unwrap();
    manager.wait_for("READY=1", PATIENTLY);
}

#[test]
fn a_start_that_waits_for_a_lock_ends_at_once_by_a_signal() {
    let site = Site::new();
    let _other = locked_at_the_start(&site);
    let mut hub = site.run_command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let log = || fs::read_to_string(site.file("hub.log")).unwrap_or_default();
    wait_for("the start", SOON, || log().contains("stationhub starts"));
    kill_process(Pid::from_child(&hub), Signal::TERM).unwrap();
    let mut ended = None;
    wait_for("the end", Duration::from_secs(4), || {
        ended = hub.try_wait().unwrap();
        ended.is_some()
    });
    assert!(ended.unwrap().success() && log().contains("before it served"), "{}", log());
}

#[test]
fn a_sync_that_does_not_return_starves_the_watchdog() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, Some(WATCHDOG));
    let hangs = site.file("hangs");
    let mut command = manager.of(site.run_command_on_a_bad_disk());
    command.env("HANGSYNC", &hangs);
    let hub = site.start_with(command);
    manager.wait_for("WATCHDOG=1", SOON);
    fs::write(&hangs, "").unwrap();
    let mark = hub.log_end();
    let mut client = publish_unacked(&hub, 0);
    wait_unfed(&mut manager);
    assert_eq!(hub.said_since(mark, &["error", "watchdog is not fed", "writes to the database"]).len(), 1);
    fs::remove_file(&hangs).unwrap();
    client.expect_puback(1);
}

#[test]
fn a_silent_router_starves_the_watchdog_and_is_named() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, Some(WATCHDOG));
    let hub = start(&site, &manager);
    manager.wait_for("WATCHDOG=1", SOON);
    let mark = hub.log_end();
    command(&site, "hang trunk");
    wait_unfed(&mut manager);
    assert_eq!(hub.said_since(mark, &["error", "watchdog is not fed", "router"]).len(), 1);
    command(&site, "nothing");
    manager.forget();
    manager.wait_for("WATCHDOG=1", SOON);
}

#[test]
fn a_main_loop_that_stands_still_starves_the_watchdog_and_is_named() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, Some(WATCHDOG));
    let hub = start(&site, &manager);
    manager.wait_for("WATCHDOG=1", SOON);
    let mark = hub.log_end();
    command(&site, "hang main-loop");
    wait_unfed(&mut manager);
    assert_eq!(hub.said_since(mark, &["error", "watchdog is not fed", "main loop"]).len(), 1);
    command(&site, "nothing");
    manager.forget();
    manager.wait_for("WATCHDOG=1", SOON);
}

#[test]
fn sighup_is_told_as_a_reload_from_its_begin_to_its_end() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, None);
    let hub = start(&site, &manager);
    manager.wait_for("READY=1", SOON);
    manager.forget();
    hub.signal(Signal::HUP);
    manager.wait_for("READY=1", SOON);
    let lines = manager.lines();
    assert_eq!(lines[0], "RELOADING=1");
    let micros: u64 = lines[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
    assert!(micros > 0);
    assert_eq!(lines[2], "READY=1");
}

#[test]
fn a_panic_over_one_client_ends_that_client_alone_and_is_one_line_with_its_place() {
    let site = Site::new();
    let manager = ServiceManager::listen(&site, None);
    let mut hub = start(&site, &manager);
    let mut bystander = Connect::new(4, "bystander").open(hub.mqtt);
    bystander.subscribe("last/words", 1);
    let mut poisoned = Connect::new(5, "poisoned").will("last/words", b"gone", 1).persistent().open(hub.mqtt);
    command(&site, "panic poison");
    poisoned.publish("poison", b"x", 1, 1, false);
    assert_eq!(poisoned.expect_closed(), Some(0x83));
    assert_eq!(bystander.receive().payload, b"gone", "its will is published, as after any broken connection");
    command(&site, "nothing");
    hub.wait_said(0, &["panic"], SOON);
    let lines = hub.said_since(0, &["panic"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in ["ERROR", "src/fault.rs:", "hub-worker", "connection of 127.0.0.1:", "a fault on command"] {
        assert!(lines[0].contains(word), "{word} in {lines:?}");
    }
    let mut again = Connect::new(5, "poisoned").persistent().open(hub.mqtt);
    again.publish_through(&weather_topic(1), &weather(1, 0), 1);
    bystander.ping();
    assert!(hub.is_running());
    assert!(hub.stop().success());
    let output = fs::read_to_string(site.file("output")).unwrap();
    assert_eq!(output.matches("a fault on command").count(), 1, "told once on stderr too: {output}");
}

#[test]
fn a_panic_in_a_task_that_the_hub_needs_ends_it_with_the_reason() {
    let site = Site::new();
    let mut manager = ServiceManager::listen(&site, None);
    let mut hub = start(&site, &manager);
    manager.wait_for("READY=1", SOON);
    command(&site, "panic keeper");
    assert_eq!(hub.wait_exit(SOON).code(), Some(1));
    let lines = hub.said_since(0, &["error", "panic at src/fault.rs:", "keeper"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let output = fs::read_to_string(site.file("output")).unwrap();
    let last = output.lines().last().unwrap();
    assert!(last.contains("keeper") && last.contains("a fault on command"), "{output}");
    manager.wait_for("STOPPING=1", SOON);
    let status = manager.wait_for("STATUS=the task", SOON);
    assert!(status.contains("keeper"), "{status}");
}

#[test]
fn a_panic_in_the_bridge_ends_the_hub_with_the_reason() {
    let site = Site::with_config("[bridge]\nurl = \"mqtt://127.0.0.1:1\"\n");
    let manager = ServiceManager::listen(&site, None);
    let mut hub = start(&site, &manager);
    command(&site, "panic bridge");
    assert_eq!(hub.wait_exit(SOON).code(), Some(1));
    let lines = hub.said_since(0, &["error", "panic at"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("bridge") && lines[0].contains("src/fault.rs"), "{lines:?}");
    assert_eq!(hub.said_since(0, &["error", "the bridge ended unexpectedly"]).len(), 1);
}

#[test]
fn a_panic_in_the_writer_ends_the_hub_at_once_with_its_place_in_the_log() {
    let site = Site::new();
    let manager = ServiceManager::listen(&site, None);
    let mut hub = start(&site, &manager);
    command(&site, "panic store-writer");
    let _client = publish_unacked(&hub, 0);
    assert_eq!(hub.wait_exit(SOON).code(), Some(1));
    let lines = hub.said_since(0, &["error", "panic at src/fault.rs:", "store-writer"]);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(hub.said_since(0, &["error", "thread that writes to the database ended"]).len() == 1);
}

#[test]
fn a_task_that_can_be_made_again_is_started_again() {
    let site = Site::new();
    let manager = ServiceManager::listen(&site, None);
    let hub = start(&site, &manager);
    for part in ["listener", "http", "owner's socket", "health", "sweep", "reload"] {
        let mark = hub.log_end();
        command(&site, &format!("panic {part}"));
        hub.wait_said(mark, &["error", "panic at"], SOON);
        hub.wait_said(mark, &["error", "started again", part], SOON);
        command(&site, "nothing");
    }
    wait_for("the listener to listen again", SOON, || Connect::new(4, "sensor").try_open(hub.mqtt).is_ok());
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    client.publish_through(&weather_topic(1), &weather(1, 0), 1);
    wait_for("the owner's socket to answer again", SOON, || {
        let mut status = site.command("status");
        status.arg("--json");
        site.refused(status, SOON).status.success()
    });
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["SIGHUP"], SOON);
    assert!(hub.stop().success());
}

#[test]
fn the_unit_file_is_one_that_systemd_takes_without_a_word() {
    let Some(mut analyze) = program("systemd-analyze") else { return };
    let site = Site::new();
    let unit = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/stationhub.service")).unwrap();
    assert!(
        unit.contains("\nType=notify\n") && unit.contains("\nWatchdogSec=60\n") && unit.contains("\nRestart=always\n")
    );
    let here = site.file("stationhub.service");
    fs::write(&here, unit.replace("/usr/local/bin/stationhub", env!("CARGO_BIN_EXE_stationhub"))).unwrap();
    let output = analyze.arg("verify").arg(&here).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
