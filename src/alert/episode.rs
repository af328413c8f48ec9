//! Episodes: from observations of a rule's subject to what is told of it, once.
//!
//! Owns pending → firing → resolved, repeats and acknowledgement. An episode is told to begin once and to end once,
//! whatever is observed in between. Pure: time is an argument. What is told goes on only by what is observed: a sensor
//! that falls silent neither begins nor ends an episode.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::rules::{Found, lasted};
use crate::config::alerts::Rule;
use crate::store::alerts::Episode;

/// Subjects that are pending or firing, at most, of all rules together: topics are what clients make them.
const SUBJECTS_MAX: usize = 1_000;
/// Ended episodes that are remembered, to be listed.
const ENDED_MAX: usize = 50;

/// A moment: the wall clock may be set, the run time never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Unix milliseconds.
    pub wall_ms: i64,
    /// Milliseconds since some moment in the past.
    pub run_ms: i64,
}

/// What of an episode is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It has begun.
    Firing,
    /// It lasts, told for the nth time beyond the first.
    Repeat(u32),
    /// It is over.
    Resolved,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::Firing => f.write_str("firing"),
            What::Repeat(number) => write!(f, "repeat {number}"),
            What::Resolved => f.write_str("resolved"),
        }
    }
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub what: What,
    /// The episode as it is now.
    pub episode: Episode,
    /// In words.
    pub text: String,
}

/// How a rule stands with a subject on which its condition holds.
#[derive(Debug)]
enum Standing {
    /// Not for long enough, since then (run time).
    Pending { since_ms: i64 },
    /// It is told, last then (run time).
    Firing { episode: Episode, told_ms: i64 },
}

/// All episodes.
#[derive(Debug, Default)]
pub struct Book {
    /// By rule and subject.
    standing: HashMap<Arc<str>, HashMap<Arc<str>, Standing>>,
    ended: VecDeque<Episode>,
    last_id: i64,
    /// Subjects that found no room.
    left_out: u64,
}

impl Book {
    /// Opens the book where an earlier run left it.
    pub fn restored(episodes: Vec<Episode>, now: Moment) -> Book {
        let mut book = Book::default();
        for episode in episodes {
            book.last_id = book.last_id.max(episode.id);
            if episode.resolved_ms.is_some() {
                book.end(episode);
                continue;
            }
            // A clock that was set back must not keep a repeat waiting for long.
            let told_ms = now.run_ms - (now.wall_ms - episode.told_ms).max(0);
            let of_rule = book.standing.entry(episode.rule.clone()).or_default();
            of_rule.insert(episode.subject.clone(), Standing::Firing { episode, told_ms });
        }
        book
    }

    /// Ends the episodes of rules that are no more.
    pub fn end_others(&mut self, rules: &[Rule], now: Moment) -> Vec<Event> {
        let is_gone = |name: &Arc<str>| !rules.iter().any(|rule| *rule.name == **name);
        let gone: Vec<Arc<str>> = self.standing.keys().filter(|name| is_gone(name)).cloned().collect();
        let gone: Vec<Standing> =
            gone.iter().filter_map(|name| self.standing.remove(name)).flat_map(HashMap::into_values).collect();
        let firing = gone.into_iter().filter_map(|standing| match standing {
            Standing::Firing { episode, .. } => Some(episode),
            Standing::Pending { .. } => None,
        });
        firing
            .map(|episode| {
                let event = self.resolve(episode, now);
                let text = format!("its rule is no more; it was: {}", event.episode.text);
                Event { text, ..event }
            })
            .collect()
    }

    /// Tells whether a rule is telling of a subject.
    pub fn is_firing(&self, rule: &str, subject: &str) -> bool {
        matches!(self.get(rule, subject), Some(Standing::Firing { .. }))
    }

    /// Tells whether a rule's condition held on a subject when it was last looked at.
    pub fn knows(&self, rule: &str, subject: &str) -> bool {
        self.get(rule, subject).is_some()
    }

    /// Returns the subjects on which a rule's condition held when it was last looked at.
    pub fn subjects(&self, rule: &str) -> Vec<Arc<str>> {
        self.standing.get(rule).map(|subjects| subjects.keys().cloned().collect()).unwrap_or_default()
    }

    /// Takes one observation.
    pub fn observe(&mut self, rule: &Rule, subject: &Arc<str>, found: Found, now: Moment) -> Option<Event> {
        let before = self.standing.get_mut(rule.name.as_str()).and_then(|subjects| subjects.remove(subject));
        let (standing, event) = match (before, found.holds) {
            (None | Some(Standing::Pending { .. }), false) => (None, None),
            (Some(Standing::Firing { episode, .. }), false) => (None, Some(self.resolve(episode, now))),
            (Some(Standing::Firing { mut episode, mut told_ms }), true) => {
                let worse = found.severity > episode.severity;
                episode.text = found.text;
                let event = worse.then(|| {
                    episode.severity = found.severity;
                    episode.acknowledged_ms = None;
                    told_ms = now.run_ms;
                    repeat(&mut episode, now)
                });
                (Some(Standing::Firing { episode, told_ms }), event)
            }
            (None, true) if !self.has_room() => {
                self.left_out += 1;
                (None, None)
            }
            (pending, true) => {
                let since_ms = match pending {
                    Some(Standing::Pending { since_ms }) => since_ms,
                    _ => now.run_ms,
                };
                let hold_ms = i64::try_from(rule.hold.as_millis()).unwrap_or(i64::MAX);
                if now.run_ms.saturating_sub(since_ms) < hold_ms {
                    (Some(Standing::Pending { since_ms }), None)
                } else {
                    let event = self.fire(rule, subject, found, now);
                    (Some(Standing::Firing { episode: event.episode.clone(), told_ms: now.run_ms }), Some(event))
                }
            }
        };
        if let Some(standing) = standing {
            self.standing.entry(rule.name.as_str().into()).or_default().insert(subject.clone(), standing);
        }
        event
    }

    /// Returns what is to be told again.
    pub fn repeats(&mut self, rules: &[Rule], now: Moment) -> Vec<Event> {
        let mut events = Vec::new();
        for standing in self.standing.values_mut().flat_map(HashMap::values_mut) {
            let Standing::Firing { episode, told_ms } = standing else { continue };
            let repeat_after = rules.iter().find(|rule| *rule.name == *episode.rule).and_then(|rule| rule.repeat);
            let Some(repeat_after) = repeat_after.filter(|_| episode.acknowledged_ms.is_none()) else { continue };
            let after_ms = i64::try_from(repeat_after.as_millis()).unwrap_or(i64::MAX);
            if now.run_ms.saturating_sub(*told_ms) >= after_ms {
                *told_ms = now.run_ms;
                events.push(repeat(episode, now));
            }
        }
        events.sort_by_key(|event| event.episode.id);
        events
    }

    /// Notes that somebody knows of a rule's episodes, which are not repeated then; returns those.
    pub fn acknowledge(&mut self, rule: &str, now: Moment) -> Vec<Episode> {
        let mut acknowledged = Vec::new();
        for standing in self.standing.get_mut(rule).into_iter().flat_map(HashMap::values_mut) {
            if let Standing::Firing { episode, .. } = standing {
                episode.acknowledged_ms = episode.acknowledged_ms.or(Some(now.wall_ms));
                acknowledged.push(episode.clone());
            }
        }
        acknowledged
    }

    /// Returns the episodes that have not ended, oldest first.
    pub fn firing(&self) -> Vec<Episode> {
        let firing = self.standing.values().flat_map(HashMap::values).filter_map(|standing| match standing {
            Standing::Firing { episode, .. } => Some(episode.clone()),
            Standing::Pending { .. } => None,
        });
        let mut firing: Vec<Episode> = firing.collect();
        firing.sort_by_key(|episode| episode.id);
        firing
    }

    /// Returns the last episodes that have ended, newest first.
    pub fn ended(&self) -> Vec<Episode> {
        self.ended.iter().cloned().collect()
    }

    /// Returns how many observations found no room among the subjects.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    fn fire(&mut self, rule: &Rule, subject: &Arc<str>, found: Found, now: Moment) -> Event {
        // By the clock, so that a number is new even where the numbers of earlier runs could not be read.
        self.last_id = now.wall_ms.max(self.last_id + 1);
        let episode = Episode {
            id: self.last_id,
            rule: rule.name.as_str().into(),
            subject: subject.clone(),
            severity: found.severity,
            text: found.text.clone(),
            fired_ms: now.wall_ms,
            resolved_ms: None,
            acknowledged_ms: None,
            repeats: 0,
            told_ms: now.wall_ms,
        };
        Event { what: What::Firing, episode, text: found.text }
    }

    fn resolve(&mut self, mut episode: Episode, now: Moment) -> Event {
        episode.resolved_ms = Some(now.wall_ms);
        episode.told_ms = now.wall_ms;
        self.end(episode.clone());
        let text = format!("over after {}; it was: {}", lasted(now.wall_ms - episode.fired_ms), episode.text);
        Event { what: What::Resolved, episode, text }
    }

    fn end(&mut self, episode: Episode) {
        self.ended.push_front(episode);
        self.ended.truncate(ENDED_MAX);
    }

    /// Makes room for one more subject, if need be of the one that has been pending for longest.
    fn has_room(&mut self) -> bool {
        if self.subject_count() < SUBJECTS_MAX {
            return true;
        }
        let all = self.standing.iter().flat_map(|(rule, subjects)| subjects.iter().map(move |entry| (rule, entry)));
        let pending = all.filter_map(|(rule, (subject, standing))| match standing {
            Standing::Pending { since_ms } => Some((*since_ms, rule.clone(), subject.clone())),
            Standing::Firing { .. } => None,
        });
        let Some((_, rule, subject)) = pending.min() else { return false };
        self.standing.get_mut(&rule).is_some_and(|subjects| subjects.remove(&subject).is_some())
    }

    fn subject_count(&self) -> usize {
        self.standing.values().map(HashMap::len).sum()
    }

    fn get(&self, rule: &str, subject: &str) -> Option<&Standing> {
        self.standing.get(rule)?.get(subject)
    }
}

fn repeat(episode: &mut Episode, now: Moment) -> Event {
    episode.repeats = episode.repeats.saturating_add(1);
    episode.told_ms = now.wall_ms;
    let text = format!("for {}: {}", lasted(now.wall_ms - episode.fired_ms), episode.text);
    Event { what: What::Repeat(episode.repeats), episode: episode.clone(), text }
}

#[cfg(test)]
#[path = "episode_tests.rs"]
mod tests;
