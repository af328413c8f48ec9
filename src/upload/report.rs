//! How a network stands, for health, metrics and whoever asks. It decides nothing.

use std::time::Duration;

use serde::Serialize;

/// How a network stands.
#[derive(Clone, Debug, Serialize)]
pub struct UploadReport {
    /// Its name.
    pub name: String,
    /// Which it is.
    pub network: &'static str,
    /// Observations that it took since the start.
    pub sent: u64,
    /// Attempts that failed since the start.
    pub failures: u64,
    /// Slots that were never sent since the start: too old, or refused again and again.
    pub missed: u64,
    /// Slots that wait.
    pub waiting: u64,
    /// The end of the last slot that it took since the start, Unix seconds.
    pub last_slot_s: Option<i64>,
    /// When it took that, Unix milliseconds.
    pub last_sent_ms: Option<i64>,
    /// Why the last attempt failed; `None` where it did not.
    pub error: Option<String>,
    /// Whether it does not let the station in.
    #[serde(skip)]
    pub is_refused: bool,
    /// For how long it has taken nothing.
    #[serde(skip)]
    pub untaken: Duration,
    /// For how long it may take nothing.
    #[serde(skip)]
    pub untaken_max: Duration,
}
