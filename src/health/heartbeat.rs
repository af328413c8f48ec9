//! The heartbeat's timer: asks the store to write its row, and judges whether it did.
//!
//! Owns the rhythm of it, and this check's words. The row itself is the store's. A heartbeat waits for company first: where
//! readings come, it rides with them and costs the disk no transaction of its own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Health;
use super::bridge::span;
use super::checks::{Issue, Severity};
use crate::ingest::sources::Heard;
use crate::reading::SourceId;
use crate::store::{AckGate, Content, Job, Learnt, Ticket};

/// How long a heartbeat waits for company, at most.
const COMPANY_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether company came.
const LOOKS: u32 = 5;
/// How much a rhythm has to change to be written again, percent of what was written.
const CHANGE_PERCENT_MIN: u128 = 25;

impl Health {
    /// Has the heartbeat written every `interval`, from the start on.
    pub async fn beat(&self, interval: Duration, stop: CancellationToken) {
        let mut written = HashMap::new();
        let company = (interval / 2).min(COMPANY_TIME_MAX);
        loop {
            let next = tokio::time::Instant::now() + interval;
            let heartbeat = &self.watched.progress.heartbeat;
            if !heartbeat.is_wanted() {
                heartbeat.ask(learnt(&mut written, &self.watched.ingest.sources().heard(Instant::now())));
            }
            for _ in 0..LOOKS {
                if heartbeat.is_wanted()
                    && stop.run_until_cancelled(tokio::time::sleep(company / LOOKS)).await.is_none()
                {
                    return;
                }
            }
            if heartbeat.is_wanted() && self.watched.queue.is_idle() {
                self.push_heartbeat();
            }
            if stop.run_until_cancelled(tokio::time::sleep_until(next)).await.is_none() {
                return;
            }
        }
    }

    /// Queues a job for the heartbeat. Where others wait already, it rides with them.
    fn push_heartbeat(&self) {
        // With a ticket it is not counted as a lost reading where it finds no room.
        let ticket = Ticket { gate: Arc::new(AckGate::new(Arc::default())), number: 1 };
        let mut jobs = VecDeque::from([Job { content: Content::Heartbeat, ticket: Some(ticket) }]);
        self.watched.progress.heartbeat.queued();
        self.watched.queue.push(&mut jobs);
    }
}

/// Returns the rhythms that are new, or others than those `written` before, and notes them there.
fn learnt(written: &mut HashMap<SourceId, Duration>, heard: &[Heard]) -> Vec<Learnt> {
    written.retain(|source, _| heard.iter().any(|heard| heard.source == *source));
    let changed = heard.iter().filter_map(|heard| {
        let usual = heard.usual.filter(|_| heard.last_ms.is_some())?;
        let before = written.get(&heard.source).copied().unwrap_or_default();
        let differs = usual.abs_diff(before).as_millis() * 100 > before.as_millis() * CHANGE_PERCENT_MIN;
        differs.then(|| (heard.source.clone(), usual))
    });
    let changed: Vec<Learnt> = changed.collect();
    written.extend(changed.iter().cloned());
    changed
}

/// Returns what is wrong with a heartbeat that is so old.
pub(super) fn verdict(age: Duration, age_max: Duration) -> Option<Issue> {
    if age < age_max {
        return None;
    }
    let text = format!(
        "nothing has been committed to the database for {}, not even the hub's own heartbeat; see the log, and whether the \
         disk answers; if it does, restart the hub",
        span(age.as_secs())
    );
    Some(Issue { id: "store.heartbeat", severity: Severity::Failing, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(source: &str, usual_s: u64) -> Heard {
        let usual = Some(Duration::from_secs(usual_s)).filter(|usual| !usual.is_zero());
        Heard { source: source.into(), last_ms: Some(1), silent: Duration::ZERO, usual, silence_max: usual }
    }

    #[test]
    fn a_rhythm_is_written_once_and_again_where_it_has_changed() {
        let mut written = HashMap::new();
        let mut now =
            |all: &[Heard]| learnt(&mut written, all).into_iter().map(|(source, _)| source).collect::<Vec<_>>();
        assert_eq!(now(&[heard("a", 5), heard("irregular", 0)]), ["a".into()]);
        assert_eq!(now(&[heard("a", 6), heard("b", 60)]), ["b".into()], "20 % are no change");
        assert_eq!(now(&[heard("a", 10), heard("b", 30)]), ["a".into(), "b".into()]);
        assert_eq!(now(&[Heard { last_ms: None, ..heard("c", 5) }]), [], "known from an earlier run");
    }
}
