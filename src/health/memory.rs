//! The hub's memory: how much it has, and how much it may have.
//!
//! Owns the reading of `/proc` and of the control group's bound, and this check's words.

use std::fs;
use std::path::Path;

use serde::Serialize;

use super::bridge::size;
use super::checks::{Issue, Severity};

/// How near to the system's own bound is too near, percent.
const BOUND_PERCENT_MAX: u64 = 90;

/// The hub's memory at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What it occupies, bytes; `None` where the system does not say.
    pub resident_bytes: Option<u64>,
    /// Beyond this the system ends it, bytes; `None` where there is no such bound.
    pub bound_bytes: Option<u64>,
}

/// Looks at the hub's memory.
pub(super) fn look() -> Memory {
    let resident = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status));
    let group = fs::read_to_string("/proc/self/cgroup").ok();
    let bound = group.as_deref().and_then(group_path).and_then(|group| {
        let file = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/')).join("memory.max");
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    Memory { resident_bytes: resident, bound_bytes: bound }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Returns the process's group in the one tree that today's systems have.
fn group_path(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// Returns what is wrong with the memory; `bytes_max` is what the configuration allows.
pub(super) fn verdict(memory: Memory, bytes_max: Option<u64>) -> Option<Issue> {
    let resident = memory.resident_bytes?;
    let bound = memory.bound_bytes.filter(|bound| resident >= bound / 100 * BOUND_PERCENT_MAX);
    let why = match (bytes_max.filter(|max| resident >= *max), bound) {
        (Some(max), _) => format!("health.memory_bytes_max is {}", size(max)),
        (None, Some(bound)) => format!("at {} the system ends it (MemoryMax)", size(bound)),
        (None, None) => return None,
    };
    let text = format!(
        "the hub occupies {} of memory, and {why}; lower broker.limits and ingest.queue_bytes, or allow it more",
        size(resident)
    );
    Some(Issue { id: "hub.memory", severity: Severity::Degraded, text })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_systems_files_are_understood() {
        assert_eq!(resident_bytes("Name:\tstationhub\nVmRSS:\t    9876 kB\nThreads:\t7\n"), Some(9_876 * 1_024));
        assert_eq!(resident_bytes("Name:\tstationhub\n"), None);
        assert_eq!(
            group_path("4:memory:/a\n0::/system.slice/stationhub.service\n"),
            Some("/system.slice/stationhub.service")
        );
        assert!(look().resident_bytes.unwrap() > 100_000, "of this very process");
    }

    #[test]
    fn memory_beyond_what_is_allowed_or_near_the_systems_bound_is_told() {
        let memory = |bound_bytes| Memory { resident_bytes: Some(90 << 20), bound_bytes };
        assert_eq!(verdict(memory(None), None), None);
        assert_eq!(verdict(memory(Some(200 << 20)), Some(91 << 20)), None);
        assert_eq!(verdict(Memory { resident_bytes: None, ..memory(Some(1)) }, Some(1)), None, "not known");
        let told = verdict(memory(None), Some(90 << 20)).unwrap().text;
        assert!(told.contains("occupies 90 MiB") && told.contains("health.memory_bytes_max is 90 MiB"), "{told}");
        assert!(verdict(memory(Some(100 << 20)), None).unwrap().text.contains("at 100 MiB the system ends it"));
    }
}
