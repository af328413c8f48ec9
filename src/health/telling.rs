//! What of the issues goes into the log, and when: at once where there is a new one or one is over, else at intervals.
//!
//! Owns the memory of what the log was told. Pure: the time is an argument.

use std::time::{Duration, Instant};

use super::checks::{Issue, Severity};

/// What is to be said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Nothing.
    Nothing,
    /// All issues, as they are.
    Issues,
    /// These are over, and others are not.
    Over(Vec<&'static str>),
    /// All is well again, after this time.
    Well(Duration),
}

/// What the log was told.
#[derive(Debug)]
pub(super) struct Telling {
    interval: Duration,
    ill_since: Option<Instant>,
    last: Option<Instant>,
    told: Vec<(&'static str, Severity)>,
    silent: Vec<String>,
}

impl Telling {
    /// Begins with a hub that is well; what lasts is said every `interval`.
    pub(super) fn begin(interval: Duration) -> Telling {
        Telling { interval, ill_since: None, last: None, told: Vec::new(), silent: Vec::new() }
    }

    /// Takes what was found, and which sources are silent; returns what is to be said of it.
    pub(super) fn look(&mut self, now: Instant, issues: &[Issue], silent: Vec<String>) -> Said {
        let found: Vec<(&'static str, Severity)> = issues.iter().map(|issue| (issue.id, issue.severity)).collect();
        // The worse severity is the smaller one.
        let is_news =
            |(id, severity): &(&str, Severity)| !self.told.iter().any(|(told, how)| told == id && how <= severity);
        let falls_silent = silent.iter().any(|source| !self.silent.contains(source));
        let news = falls_silent || found.iter().any(is_news);
        let over: Vec<&'static str> =
            self.told.iter().map(|(id, _)| *id).filter(|id| !found.iter().any(|(found, _)| found == id)).collect();
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval);
        (self.told, self.silent) = (found, silent);
        if self.told.is_empty() {
            self.last = None;
            return match self.ill_since.take() {
                Some(since) => Said::Well(now.saturating_duration_since(since)),
                None => Said::Nothing,
            };
        }
        self.ill_since.get_or_insert(now);
        if news || is_due {
            self.last = Some(now);
            return Said::Issues;
        }
        if over.is_empty() { Said::Nothing } else { Said::Over(over) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn issue(id: &'static str, severity: Severity) -> Issue {
        Issue { id, severity, text: String::new() }
    }

    #[test]
    fn what_is_new_or_over_is_said_at_once_and_what_lasts_at_intervals() {
        use Severity::{Degraded, Failing};
        let start = Instant::now();
        let mut telling = Telling::begin(Duration::from_secs(60));
        let mut look =
            |seconds, issues: &[Issue]| telling.look(start + Duration::from_secs(seconds), issues, Vec::new());
        let (write, disk) = (issue("store.write", Degraded), issue("store.disk", Degraded));
        let worse = issue("store.write", Failing);
        assert_eq!(look(0, &[]), Said::Nothing);
        assert_eq!(look(10, std::slice::from_ref(&write)), Said::Issues);
        assert_eq!(look(20, std::slice::from_ref(&write)), Said::Nothing);
        assert_eq!(look(30, std::slice::from_ref(&worse)), Said::Issues);
        assert_eq!(look(40, std::slice::from_ref(&write)), Said::Nothing);
        assert_eq!(look(50, &[write.clone(), disk.clone()]), Said::Issues);
        assert_eq!(look(60, std::slice::from_ref(&disk)), Said::Over(vec!["store.write"]));
        assert_eq!(look(110, std::slice::from_ref(&disk)), Said::Issues);
        assert_eq!(look(120, &[]), Said::Well(Duration::from_secs(110)));
        assert_eq!(look(130, &[]), Said::Nothing);
    }

    #[test]
    fn each_source_that_falls_silent_is_news() {
        let start = Instant::now();
        let mut telling = Telling::begin(Duration::from_secs(60));
        let silence = [issue("ingest.silence", Severity::Degraded)];
        let said = ["a", "a", "ab", "b", "a"].map(|silent| {
            let silent = silent.chars().map(String::from).collect();
            telling.look(start, &silence, silent)
        });
        assert_eq!(said, [Said::Issues, Said::Nothing, Said::Issues, Said::Nothing, Said::Issues]);
    }
}
