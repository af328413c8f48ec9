//! Section `[store.backup]`: the backups that the hub makes by itself.
//!
//! Owns its keys, their defaults and ranges. It never looks whether the directory is there: the hub tells when it is not.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;

const HOUR_S: u64 = 3_600;

/// Section `[store.backup]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Where they are put.
    pub directory: Option<PathBuf>,
    /// The time between two; `None` for no backups.
    pub every: Option<Duration>,
    /// How many are kept.
    pub keep: usize,
}

impl Backup {
    /// Returns where backups are put, and how often; `None` where none are made.
    pub fn schedule(&self) -> Option<(&Path, Duration)> {
        self.directory.as_deref().zip(self.every)
    }
}

/// Reads the section.
pub(super) fn backup(reader: &mut Reader, base: &Path) -> Backup {
    let directory = reader.path("store.backup.directory", base, "a directory", |text| !text.is_empty());
    let every_hours = reader.whole("store.backup.every_hours", 0..=8_760).unwrap_or(0);
    let keep = reader.size("store.backup.keep", 1..=1_000).unwrap_or(7);
    if every_hours > 0 && directory.is_none() {
        let text = "needs store.backup.directory, best on another disk than the database's";
        reader.complain("store.backup.every_hours", text);
    }
    let every = (every_hours > 0).then(|| Duration::from_secs(every_hours * HOUR_S));
    Backup { directory, every, keep }
}
