//! Sources that are silent for longer than their rhythm, or the configuration, lets them.
//!
//! Owns this check's words, and which limit holds for a source. Pure.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::bridge::span;
use super::checks::{Issue, Severity};
use crate::config::SourceSilence;
use crate::ingest::sources::Heard;
use crate::topic;

const ID: &str = "ingest.silence";
/// Sources that one issue names.
const NAMED_MAX: usize = 5;
/// Sources that a report lists, those heard last first.
const LISTED_MAX: usize = 200;

/// A source in a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SourceReport {
    /// The topic, without a slash at its end.
    pub source: String,
    /// When its last reading came, Unix milliseconds; `None` where none came since the start.
    pub last_ms: Option<i64>,
    /// Since how long nothing came, or since when the hub runs, seconds.
    pub silent_s: u64,
    /// The usual time between its readings, seconds; `None` where it has no rhythm.
    pub usual_s: Option<f64>,
    /// How long it may be silent, seconds; `None` for ever.
    pub silence_s_max: Option<u64>,
}

/// One source that is silent for too long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silent {
    name: String,
    silent: Duration,
    usual: Option<Duration>,
}

/// What the sources are like at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Those that are silent for too long, the longest first.
    pub silent: Vec<Silent>,
    /// Those to list, which may not be all.
    pub listed: Vec<SourceReport>,
    /// How many there are.
    pub count: usize,
    /// When the next one will have been silent for too long, if it stays so.
    pub next_in: Option<Duration>,
    /// Those that have not been heard since the start, and may be silent for a while yet.
    pub awaited: Vec<String>,
}

/// Judges all sources; `ran` is how long the hub has run.
pub(super) fn look(heard: Vec<Heard>, configured: &[SourceSilence], ran: Duration) -> Sources {
    let mut sources = Sources { count: heard.len(), ..Sources::default() };
    let mut note = |name: &str, silent: Duration, usual: Option<Duration>, max: Option<Duration>, is_heard: bool| {
        let Some(max) = max else { return };
        match max.checked_sub(silent).filter(|left| !left.is_zero()) {
            Some(left) => {
                sources.next_in = Some(sources.next_in.map_or(left, |next| next.min(left)));
                if !is_heard {
                    sources.awaited.push(name.to_owned());
                }
            }
            None => sources.silent.push(Silent { name: name.to_owned(), silent, usual }),
        }
    };
    // A source that is configured and never came is as silent as one that came and went.
    for SourceSilence { filter, silence_max } in configured {
        if !heard.iter().any(|heard| topic::matches(filter, &heard.source)) {
            note(filter, ran, None, *silence_max, false);
        }
    }
    for heard in &heard {
        let max = silence_max(heard, configured);
        note(&heard.source, heard.silent, heard.usual, max, heard.last_ms.is_some());
    }
    sources.silent.sort_by_key(|silent| std::cmp::Reverse(silent.silent));
    sources.listed = list(heard, configured);
    sources
}

fn list(mut heard: Vec<Heard>, configured: &[SourceSilence]) -> Vec<SourceReport> {
    heard.sort_by(|one, other| one.silent.cmp(&other.silent).then_with(|| one.source.cmp(&other.source)));
    heard.truncate(LISTED_MAX);
    let report = |heard: &Heard| SourceReport {
        source: heard.source.to_string(),
        last_ms: heard.last_ms,
        silent_s: heard.silent.as_secs(),
        usual_s: heard.usual.map(|usual| usual.as_secs_f64()),
        silence_s_max: silence_max(heard, configured).map(|max| max.as_secs()),
    };
    heard.iter().map(report).collect()
}

fn silence_max(heard: &Heard, configured: &[SourceSilence]) -> Option<Duration> {
    match configured.iter().find(|source| topic::matches(&source.filter, &heard.source)) {
        Some(source) => source.silence_max,
        None => heard.silence_max,
    }
}

/// Returns what is wrong with the sources.
pub(super) fn verdict(silent: &[Silent]) -> Option<Issue> {
    if silent.is_empty() {
        return None;
    }
    let mut words: Vec<String> = silent.iter().take(NAMED_MAX).map(Silent::in_words).collect();
    if silent.len() > NAMED_MAX {
        words.push(format!("and {} more", silent.len() - NAMED_MAX));
    }
    Some(Issue { id: ID, severity: Severity::Degraded, text: text(&words.join(", ")) })
}

/// Returns each silent source for itself: what it is about, and in words.
pub(super) fn each(silent: &[Silent]) -> impl Iterator<Item = (Arc<str>, String)> {
    silent.iter().map(|silent| (subject(&silent.name), text(&silent.in_words())))
}

/// Returns what a source's silence is known by.
pub(super) fn subject(source: &str) -> Arc<str> {
    format!("{ID}/{source}").into()
}

fn text(who: &str) -> String {
    format!(
        "no reading comes from {who}; check the sensor, its power and its network; a source that is gone for good, or sends as it \
         likes, gets a [[health.source]] with silence_s = 0"
    )
}

impl Silent {
    /// Returns the source's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    fn in_words(&self) -> String {
        let usual = match self.usual {
            Some(usual) if usual < Duration::from_secs(10) => format!(" (usually every {:.1} s)", usual.as_secs_f64()),
            Some(usual) => format!(" (usually every {})", span(usual.as_secs())),
            None => String::new(),
        };
        format!("{} for {}{usual}", self.name.escape_debug(), span(self.silent.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn heard(source: &str, silent_s: u64, silence_s_max: Option<u64>) -> Heard {
        Heard {
            source: source.into(),
            last_ms: Some(7),
            silent: seconds(silent_s),
            usual: silence_s_max.map(|_| seconds(5)),
            silence_max: silence_s_max.map(seconds),
        }
    }

    fn configured(filter: &str, silence_s: u64) -> SourceSilence {
        SourceSilence { filter: filter.to_owned(), silence_max: (silence_s > 0).then(|| seconds(silence_s)) }
    }

    fn told(sources: &Sources) -> Option<String> {
        verdict(&sources.silent).map(|issue| issue.text)
    }

    #[test]
    fn a_source_is_told_by_its_rhythm_and_one_without_is_not() {
        let sources = look(vec![heard("a", 24, Some(25)), heard("b", 1_000_000, None)], &[], seconds(9));
        assert_eq!((told(&sources), sources.next_in), (None, Some(seconds(1))));
        let sources = look(vec![heard("a", 25, Some(25)), heard("c", 10, Some(25))], &[], seconds(9));
        let text = told(&sources).unwrap();
        assert!(text.starts_with("no reading comes from a for 25 s (usually every 5.0 s); check"), "{text}");
        assert_eq!(sources.next_in, Some(seconds(15)));
    }

    #[test]
    fn what_is_configured_takes_the_place_of_the_rhythm() {
        let rules = [configured("garden/#", 0), configured("+/slow", 100), configured("never/seen", 50)];
        let all = || vec![heard("garden/x", 1_000, Some(25)), heard("a/slow", 99, Some(25))];
        let sources = look(all(), &rules, seconds(49));
        assert_eq!((told(&sources), sources.next_in), (None, Some(seconds(1))));
        let text = told(&look(all(), &rules, seconds(50))).unwrap();
        assert!(text.starts_with("no reading comes from never/seen for 50 s; check"), "{text}");
        assert!(told(&look(vec![heard("a/slow", 100, None)], &rules[1..2], seconds(5))).unwrap().contains("a/slow"));
        assert_eq!(sources.listed[0].silence_s_max, Some(100));
        assert_eq!(sources.listed[1].silence_s_max, None);
    }

    #[test]
    fn many_silent_sources_are_one_line_and_the_list_is_bounded() {
        let all = (0..300).map(|number| heard(&format!("s{number}"), 100 + number, Some(25))).collect();
        let sources = look(all, &[], seconds(9));
        let text = told(&sources).unwrap();
        assert!(text.starts_with("no reading comes from s299 for ") && text.contains("and 295 more;"), "{text}");
        assert_eq!((sources.listed.len(), sources.count), (LISTED_MAX, 300));
        assert_eq!(sources.listed[0].source, "s0", "the last that was heard");
    }
}
