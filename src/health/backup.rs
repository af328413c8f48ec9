//! The health of the backups: the last attempt, and the age of the newest.
//!
//! Owns this check's words. Pure: the report is given, and so is the time.

use super::checks::{Issue, Severity};
use crate::maintenance::schedule::BackupReport;

/// Returns what is wrong with the backups.
pub(super) fn verdict(report: Option<&BackupReport>) -> Option<Issue> {
    let report = report?;
    let error = report.error.as_ref()?;
    let last = report.last_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    let last = last.map_or_else(|| "there is none".to_owned(), |last| format!("the newest is of {last}"));
    let text = format!(
        "no backup was made in {}: {error}; {last}; see whether the directory is there, writable and has room",
        report.directory.display()
    );
    Some(Issue { id: "store.backup", severity: Severity::Degraded, text })
}
