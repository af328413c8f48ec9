//! Hubs with a bridge, and how their bridge stands as they tell it themselves.
//!
//! Owns the configuration that the bridge's tests share: short waits, a station's name. It never looks upstream.

use std::time::Duration;

use serde_json::Value;

use super::collector::assert_in_order_by_id;
use super::feeder::number_of;
use super::v5::Sent;
use super::{Hub, PATIENTLY, SOON, Site, wait_for};

/// The station's name in all of the bridge's tests.
pub const STATION: &str = "hill";
/// What all upstream topics of the station match, by the default prefix.
pub const ALL: &str = "stations/hill/#";

/// Returns the configuration of a hub with a bridge: `settings` are further lines, of `[bridge]` first.
pub fn config(url: &str, settings: &str) -> String {
    format!(
        "[station]\nname = \"{STATION}\"\n[log]\nlevel = \"debug\"\n\
         [bridge]\nurl = \"{url}\"\nack_wait_s_max = 2\nreconnect_s_max = 1\n{settings}\n"
    )
}

pub fn site(url: &str, settings: &str) -> Site {
    Site::with_config(&config(url, settings))
}

/// Returns what `stationhub status` tells of the bridge.
pub fn status(site: &Site) -> Value {
    let mut status = site.command("status");
    status.arg("--json");
    let output = site.refused(status, PATIENTLY);
    let report: Value = serde_json::from_slice(&output.stdout).expect("status prints JSON");
    assert!(report["bridge"].is_object(), "status tells of the bridge: {report}");
    report["bridge"].clone()
}

/// Returns one of the bridge's counters.
pub fn counter(site: &Site, name: &str) -> u64 {
    let status = status(site);
    status[name].as_u64().unwrap_or_else(|| panic!("{name} is a counter: {status}"))
}

/// Returns how many messages wait for the upstream.
pub fn waiting(site: &Site) -> u64 {
    status(site)["backlog"]["messages"].as_u64().expect("the backlog is told")
}

pub fn wait_connected(site: &Site) {
    wait_for("the bridge to be connected", PATIENTLY, || status(site)["connected"] == true);
}

/// Waits until nothing waits for the upstream any more, and looks at the table, too.
pub fn wait_drained(site: &Site, within: Duration) {
    wait_for("the outbox to be empty", within, || waiting(site) == 0);
    // What the upstream has acked is deleted in batches, a little later.
    wait_for("an empty table", SOON, || site.number("SELECT count(*) FROM outbox") == 0);
}

/// Waits for a line that tells of a trouble with the upstream, and for the status to have an error.
pub fn wait_told(site: &Site, hub: &Hub, mark: usize, words: &[&str]) {
    let mut all = vec!["WARN", "upstream"];
    all.extend(words);
    hub.wait_said(mark, &all, PATIENTLY);
    wait_for("the status to tell the error", PATIENTLY, || status(site)["last_error"].is_string());
}

/// Waits for the line that tells that all is well again.
pub fn wait_recovered(site: &Site, hub: &Hub, mark: usize) {
    hub.wait_said(mark, &["INFO", "reach the upstream", "again"], PATIENTLY);
    wait_for("no error in the status", PATIENTLY, || status(site)["last_error"].is_null());
    assert_eq!(status(site)["connected"], true);
}

/// Asserts that these are the numbers from 0 on, each once and in order, and so are the ids where there are any.
pub fn assert_complete(messages: &[Sent], count: u64) {
    let numbers: Vec<u64> = messages.iter().filter_map(|message| number_of(&message.payload)).collect();
    if let Some(place) = (0..count).find(|place| numbers.get(*place as usize) != Some(place)) {
        let place = place as usize;
        let around = &numbers[place.saturating_sub(3).min(numbers.len())..numbers.len().min(place + 5)];
        panic!("{} of {count} came; around number {place}: {around:?}", numbers.len());
    }
    assert_eq!(numbers.len() as u64, count, "more than was published");
    if messages.iter().all(|message| message.number().is_some()) {
        assert_in_order_by_id(messages);
    }
}
