//! What the system and the hub's own status say of a running hub: memory, open files, counters.
//!
//! Owns the figures of the tests about bounds, and what must hold after every fault. It never changes what it looks at.

use std::fs;

use super::mqtt::Connect;
use super::{Hub, PATIENTLY, Site};

/// Returns the hub's resident memory, KiB.
pub fn rss_kib(hub: &Hub) -> u64 {
    memory_kib(hub, "VmRSS:")
}

/// Returns the most memory that the hub ever had resident, KiB.
pub fn peak_kib(hub: &Hub) -> u64 {
    memory_kib(hub, "VmHWM:")
}

fn memory_kib(hub: &Hub, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", hub.pid())).expect("the hub runs");
    let line = status.lines().find_map(|line| line.strip_prefix(key)).expect("Linux tells of memory");
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Returns how many files and sockets the hub has open.
pub fn open_files(hub: &Hub) -> usize {
    fs::read_dir(format!("/proc/{}/fd", hub.pid())).expect("the hub runs").count()
}

/// Returns one of the figures that the hub counts, asked over the owner's socket.
pub fn figure(site: &Site, name: &str) -> u64 {
    let mut status = site.command("status");
    status.arg("--json");
    let output = site.refused(status, PATIENTLY);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("status prints JSON");
    report["figures"][name].as_u64().expect("the figure is there")
}

/// Asserts that nothing in the hub panicked, as its log and its output tell.
pub fn assert_no_panic(site: &Site, hub: &Hub) {
    let output = fs::read(site.file("output")).unwrap_or_default();
    for text in [hub.log(), String::from_utf8_lossy(&output).into_owned()] {
        let line = text.lines().find(|line| line.contains("panicked"));
        assert_eq!(line, None, "a task or thread of the hub panicked");
    }
}

/// Asserts that the hub still lets a newcomer in and carries its message.
pub fn assert_serves(site: &Site, hub: &Hub) {
    for version in [4, 5] {
        let mut newcomer = Connect::new(version, "newcomer").open(hub.mqtt);
        assert_eq!(newcomer.subscribe("newcomer", 1), 1);
        newcomer.publish_through("newcomer", b"hello", 1);
        assert_eq!(newcomer.receive().payload, b"hello");
    }
    assert_no_panic(site, hub);
}
