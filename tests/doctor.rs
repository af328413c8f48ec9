//! The doctor: a line for each thing, and an exit code that says whether something is to be done.
//!
//! Owns what `stationhub doctor` promises.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt;

use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{PATIENTLY, Site};

/// Returns what the doctor says of each thing, and its exit code.
fn doctor(site: &Site) -> (Vec<String>, i32) {
    let output = site.refused(site.command("doctor"), PATIENTLY);
    let lines = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    (lines, output.status.code().unwrap())
}

fn line<'l>(lines: &'l [String], what: &str) -> &'l str {
    lines.iter().find(|line| line.get(8..).is_some_and(|words| words.starts_with(what))).expect("the line")
}

#[test]
fn a_hub_that_is_well_is_told_so_and_nothing_is_left_behind() {
    let site = Site::new();
    let hub = site.start();
    Connect::new(4, "a").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 1), 1);
    let (lines, code) = doctor(&site);
    for (what, words) in [
        ("configuration", "valid"),
        ("hub", "runs"),
        ("broker", "went round"),
        ("disk", "free"),
        ("database", "1 rows of weather_data"),
        ("restore drill", "1 rows of weather_data"),
    ] {
        let line = line(&lines, what);
        assert!(line.starts_with("ok") && line.contains(words), "{line}");
    }
    // A machine without a time service is not unwell for it.
    let is_well = !line(&lines, "clock").starts_with("failing");
    assert_eq!(code, i32::from(!is_well), "{lines:?}");
    let left =
        fs::read_dir(site.dir()).unwrap().flatten().any(|entry| entry.path().to_string_lossy().contains("drill"));
    assert!(!left);
}

#[test]
fn a_damaged_database_is_told_with_no_hub_running() {
    let site = Site::new();
    let hub = site.start();
    Connect::new(4, "a").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 1), 1);
    hub.stop();
    let (lines, _) = doctor(&site);
    assert!(line(&lines, "hub").starts_with("unknown"), "{lines:?}");
    assert!(line(&lines, "broker").starts_with("unknown"), "{lines:?}");
    assert!(line(&lines, "restore drill").starts_with("ok"), "{lines:?}");
    let root: i64 = site.number("SELECT rootpage FROM sqlite_schema WHERE name = 'weather_data'");
    let database = fs::OpenOptions::new().write(true).open(site.db()).unwrap();
    database.write_all_at(&[0xA5; 4096], 4096 * (root as u64 - 1)).unwrap();
    let (lines, code) = doctor(&site);
    assert_eq!(code, 1);
    assert!(line(&lines, "database").starts_with("failing"), "{lines:?}");
}
