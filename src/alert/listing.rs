//! The list of alerts, as commands and programs read it.
//!
//! Owns its form, which others rely on. It never changes anything.

use serde::Serialize;

use super::delivery::Standing;
use crate::config::alerts::Severity;
use crate::store::alerts::Episode;

/// What is told now, what was, and how the channels stand.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// What is firing, oldest first.
    pub firing: Vec<Listed>,
    /// What is over, newest first.
    pub ended: Vec<Listed>,
    /// The channels.
    pub channels: Vec<Standing>,
    /// Readings since the start that no rule looked at: they came too quickly.
    pub readings_passed_by: u64,
}

/// One episode.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// Its number.
    pub id: i64,
    /// The rule.
    pub rule: String,
    /// The check or the source that it is about.
    pub subject: String,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// When it began to be told, Unix milliseconds.
    pub fired_ms: i64,
    /// When it ended, Unix milliseconds.
    pub resolved_ms: Option<i64>,
    /// When somebody acknowledged it, Unix milliseconds.
    pub acknowledged_ms: Option<i64>,
    /// How often it was repeated.
    pub repeats: u32,
}

impl From<Episode> for Listed {
    fn from(episode: Episode) -> Listed {
        let Episode { id, severity, text, fired_ms, resolved_ms, acknowledged_ms, repeats, .. } = episode;
        let (rule, subject) = (episode.rule.to_string(), episode.subject.to_string());
        Listed { id, rule, subject, severity, text, fired_ms, resolved_ms, acknowledged_ms, repeats }
    }
}
