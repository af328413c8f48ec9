//! One hub: a second one on the same PID file, database or port ends at once and leaves the first one alone.
//!
//! Owns promise 4. It never looks at what a hub stores.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{Hub, Site};

/// A refusal must come this fast.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Returns a `run` on the given PID file and database, its other files its own.
fn second(site: &Site, pid: &str, db: &str) -> Command {
    let mut command = site.bare();
    command.arg("run");
    for (flag, file) in [("--pid", pid), ("--db", db), ("--ready-file", "second.ready"), ("--log", "second.log")] {
        command.arg(flag).arg(site.file(file));
    }
    command.args(["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command
}

fn assert_refused(output: &Output, cause: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(cause), "{cause:?} is not in {said:?}");
}

fn assert_pid_in(file: &Path, hub: &Hub) {
    let text = fs::read_to_string(file).unwrap();
    assert_eq!(text.trim(), hub.pid().to_string(), "{}", file.display());
}

fn assert_serves(site: &Site, hub: &Hub) {
    let mut client = Connect::new(4, "still-served").open(hub.mqtt);
    let before = site.weather_count();
    client.publish_through(&weather_topic(1), &weather(1, before as u64), 1);
    assert_eq!(site.weather_count(), before + 1);
}

#[test]
fn second_instance_on_same_pid_file_is_refused() {
    let site = Site::new();
    let hub = site.start();
    let output = site.refused(second(&site, "hub.pid", "other.db"), AT_ONCE);
    let cause = format!(
        "Cannot start - another instance is already running (PID file locked: {}, pid {})",
        site.file("hub.pid").display(),
        hub.pid()
    );
    assert_refused(&output, &cause);
    assert_pid_in(&site.file("hub.pid"), &hub);
    assert!(!site.file("other.db").exists(), "locks come before anything else is touched");
    assert!(!site.file("second.ready").exists());
    assert_serves(&site, &hub);
}

#[test]
fn second_instance_on_same_database_is_refused() {
    let site = Site::new();
    let hub = site.start();
    let output = site.refused(second(&site, "other.pid", "weather_data.db"), AT_ONCE);
    let cause = format!(
        "Cannot start - another instance is already running (database locked: {}, pid {})",
        site.db().display(),
        hub.pid()
    );
    assert_refused(&output, &cause);
    assert_pid_in(&site.beside_db(".lock"), &hub);
    assert_pid_in(&site.file("hub.pid"), &hub);
    assert_serves(&site, &hub);
}

#[test]
fn second_instance_by_another_name_of_the_same_database_is_refused() {
    let site = Site::new();
    let hub = site.start();
    fs::create_dir(site.file("elsewhere")).unwrap();
    let detour = "elsewhere/../weather_data.db";
    let output = site.refused(second(&site, "other.pid", detour), AT_ONCE);
    assert_refused(&output, &format!(", pid {})", hub.pid()));
    std::os::unix::fs::symlink(site.db(), site.file("alias.db")).unwrap();
    let output = site.refused(second(&site, "other.pid", "alias.db"), AT_ONCE);
    assert_refused(&output, &format!(", pid {})", hub.pid()));
    assert_serves(&site, &hub);
}

#[test]
fn ten_instances_at_once_are_one_instance() {
    let site = Site::new();
    let hub = site.start();
    let children: Vec<_> = (0..10)
        .map(|_| {
            let mut command = second(&site, "hub.pid", "weather_data.db");
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(1));
    }
    assert_pid_in(&site.file("hub.pid"), &hub);
    assert_serves(&site, &hub);
}

#[test]
fn a_new_instance_starts_at_once_after_kill_9() {
    let site = Site::new();
    let first = site.start();
    let (pid_file, lock_file) = (site.file("hub.pid"), site.beside_db(".lock"));
    let inodes = || [&pid_file, &lock_file].map(|file| fs::metadata(file).unwrap().ino());
    let before = inodes();
    first.kill_9();
    assert_eq!(inodes(), before, "a killed hub leaves its lock files");

    let second = site.start();
    assert_eq!(inodes(), before, "lock files are taken over, never unlinked");
    assert_pid_in(&pid_file, &second);
    assert_pid_in(&lock_file, &second);
    assert_serves(&site, &second);
}

#[test]
fn lock_files_stay_after_a_graceful_stop() {
    let site = Site::new();
    let hub = site.start();
    let (pid_file, lock_file) = (site.file("hub.pid"), site.beside_db(".lock"));
    let inodes = || [&pid_file, &lock_file].map(|file| fs::metadata(file).unwrap().ino());
    let before = inodes();
    assert!(hub.stop().success());
    assert_eq!(inodes(), before);
    assert_serves(&site, &site.start());
}

#[test]
fn a_longer_pid_left_in_the_file_is_replaced_whole() {
    let site = Site::new();
    fs::write(site.file("hub.pid"), "4194303000\nleft by something else\n").unwrap();
    let hub = site.start();
    assert_pid_in(&site.file("hub.pid"), &hub);
}

#[test]
fn a_taken_port_is_told_with_its_address() {
    let site = Site::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = site.command("run");
    command.arg("--pid").arg(site.file("hub.pid"));
    command.args(["--listen", &address, "--http", "127.0.0.1:0"]);
    let output = site.refused(command, Duration::from_secs(5));
    assert_refused(&output, &address);
    drop(taken);
    assert_serves(&site, &site.start());
}
