//! The health of the uploads: networks that take nothing.
//!
//! Owns this check's words. Pure: the reports are given.

use super::checks::{Issue, Severity};
use crate::upload::report::UploadReport;

/// Returns what is wrong with the uploads: a network that lets the station in and takes nothing is waited for, one that does
/// not let it in is told at once.
pub(super) fn verdict(reports: &[UploadReport]) -> Option<Issue> {
    let words = |report: &UploadReport| {
        let error = report.error.as_ref()?;
        let is_late = report.is_refused || report.untaken >= report.untaken_max;
        let minutes = report.untaken.as_secs() / 60;
        is_late.then(|| format!("{} has taken no weather for {minutes} min: {error}", report.name))
    };
    let late: Vec<String> = reports.iter().filter_map(words).collect();
    (!late.is_empty()).then(|| Issue {
        id: "upload",
        severity: Severity::Degraded,
        text: format!("{}; see the network's own page, the link, and [[upload]] in hub.toml", late.join("; ")),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use super::*;

    pub(crate) fn report() -> UploadReport {
        UploadReport {
            name: "windy".to_owned(),
            network: "windy",
            sent: 3,
            failures: 2,
            missed: 0,
            waiting: 1,
            last_slot_s: Some(1_000),
            last_sent_ms: Some(1_002_500),
            error: None,
            is_refused: false,
            untaken: Duration::from_secs(9_000),
            untaken_max: Duration::from_secs(1_800),
        }
    }

    #[test]
    fn a_network_that_fails_for_long_is_told_and_one_that_has_nothing_to_take_is_not() {
        assert_eq!(verdict(&[report()]), None, "its sensor is silent");
        let error = Some("no answer".to_owned());
        let failing = UploadReport { error: error.clone(), ..report() };
        let told = verdict(&[report(), failing.clone()]);
        assert!(told.is_some_and(|issue| issue.text.starts_with("windy has taken no weather for 150 min: no answer;")));
        let soon = UploadReport { untaken: Duration::from_secs(1_799), ..failing };
        assert_eq!(verdict(std::slice::from_ref(&soon)), None);
        assert!(verdict(&[UploadReport { is_refused: true, ..soon }]).is_some(), "waiting would not help");
    }
}
