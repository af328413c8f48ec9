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

/// Subjects that are pending or firing, at most, of one rule: topics are what clients make them.
const SUBJECTS_MAX: usize = 1_000;
/// How long a pending subject keeps its room without being observed, where others want it, milliseconds.
const UNSEEN_MS_MAX: i64 = 60_000;
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
    /// Not for long enough, since then and observed last then (run time).
    Pending { since_ms: i64, seen_ms: i64 },
    /// It is told.
    Firing(Firing),
}

/// An episode that lasts.
#[derive(Debug)]
struct Firing {
    episode: Episode,
    /// When it began to be told (run time).
    fired_ms: i64,
    /// When it was told last (run time).
    told_ms: i64,
    /// Whether it was observed in this run.
    is_seen: bool,
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
            let run_ms = |wall_ms: i64| now.run_ms - (now.wall_ms - wall_ms).max(0);
            let (fired_ms, told_ms) = (run_ms(episode.fired_ms), run_ms(episode.told_ms));
            let (rule, subject) = (episode.rule.clone(), episode.subject.clone());
            let firing = Firing { episode, fired_ms, told_ms, is_seen: false };
            book.standing.entry(rule).or_default().insert(subject, Standing::Firing(firing));
        }
        book
    }

    /// Ends the episodes that no rule tells of any more.
    pub fn end_others(&mut self, is_told: impl Fn(&Episode) -> bool, now: Moment) -> Vec<Event> {
        let mut gone = Vec::new();
        for subjects in self.standing.values_mut() {
            subjects.retain(|_, standing| match standing {
                Standing::Firing(firing) if !is_told(&firing.episode) => {
                    gone.push((firing.episode.clone(), firing.fired_ms));
                    false
                }
                Standing::Firing(_) => true,
                // It begins anew under the rules as they are now.
                Standing::Pending { .. } => false,
            });
        }
        self.standing.retain(|_, subjects| !subjects.is_empty());
        gone.sort_by_key(|(episode, _)| episode.id);
        let ended = gone.into_iter().map(|(episode, fired_ms)| {
            let event = self.resolve(episode, fired_ms, now);
            let text = format!("no rule tells of it any more; it was: {}", event.episode.text);
            Event { text, ..event }
        });
        ended.collect()
    }

    /// Tells whether an earlier run told of a subject, and this one has not observed it yet.
    pub fn is_of_an_earlier_run(&self, rule: &str, subject: &str) -> bool {
        matches!(self.get(rule, subject), Some(Standing::Firing(Firing { is_seen: false, .. })))
    }

    /// Tells whether a rule is telling of a subject.
    pub fn is_firing(&self, rule: &str, subject: &str) -> bool {
        matches!(self.get(rule, subject), Some(Standing::Firing(_)))
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
            (Some(Standing::Firing(firing)), false) => (None, Some(self.resolve(firing.episode, firing.fired_ms, now))),
            (Some(Standing::Firing(mut firing)), true) => {
                firing.is_seen = true;
                let worse = found.severity > firing.episode.severity;
                firing.episode.text = found.text;
                let event = worse.then(|| {
                    firing.episode.severity = found.severity;
                    firing.episode.acknowledged_ms = None;
                    firing.repeat(now)
                });
                (Some(Standing::Firing(firing)), event)
            }
            (None, true) if !self.has_room(rule, now) => {
                self.left_out += 1;
                (None, None)
            }
            (pending, true) => {
                let since_ms = match pending {
                    Some(Standing::Pending { since_ms, .. }) => since_ms,
                    _ => now.run_ms,
                };
                let hold_ms = i64::try_from(rule.hold.as_millis()).unwrap_or(i64::MAX);
                if now.run_ms.saturating_sub(since_ms) < hold_ms {
                    (Some(Standing::Pending { since_ms, seen_ms: now.run_ms }), None)
                } else {
                    let event = self.fire(rule, subject, found, now);
                    let (episode, run_ms) = (event.episode.clone(), now.run_ms);
                    let firing = Firing { episode, fired_ms: run_ms, told_ms: run_ms, is_seen: true };
                    (Some(Standing::Firing(firing)), Some(event))
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
            let Standing::Firing(firing) = standing else { continue };
            let repeat_after =
                rules.iter().find(|rule| *rule.name == *firing.episode.rule).and_then(|rule| rule.repeat);
            let is_known = firing.episode.acknowledged_ms.is_some();
            let Some(repeat_after) = repeat_after.filter(|_| !is_known) else { continue };
            let after_ms = i64::try_from(repeat_after.as_millis()).unwrap_or(i64::MAX);
            if now.run_ms.saturating_sub(firing.told_ms) >= after_ms {
                events.push(firing.repeat(now));
            }
        }
        events.sort_by_key(|event| event.episode.id);
        events
    }

    /// Notes that somebody knows of a rule's episodes, which are not repeated then; returns those.
    pub fn acknowledge(&mut self, rule: &str, now: Moment) -> Vec<Episode> {
        let mut acknowledged = Vec::new();
        for standing in self.standing.get_mut(rule).into_iter().flat_map(HashMap::values_mut) {
            if let Standing::Firing(Firing { episode, .. }) = standing {
                episode.acknowledged_ms = episode.acknowledged_ms.or(Some(now.wall_ms));
                acknowledged.push(episode.clone());
            }
        }
        acknowledged
    }

    /// Returns the episodes that have not ended, oldest first.
    pub fn firing(&self) -> Vec<Episode> {
        let firing = self.standing.values().flat_map(HashMap::values).filter_map(|standing| match standing {
            Standing::Firing(firing) => Some(firing.episode.clone()),
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

    /// Ends an episode that began to be told then (run time).
    fn resolve(&mut self, mut episode: Episode, fired_ms: i64, now: Moment) -> Event {
        episode.resolved_ms = Some(now.wall_ms);
        episode.told_ms = now.wall_ms;
        self.end(episode.clone());
        let text = format!("over after {}; it was: {}", lasted(now.run_ms - fired_ms), episode.text);
        Event { what: What::Resolved, episode, text }
    }

    fn end(&mut self, episode: Episode) {
        self.ended.push_front(episode);
        self.ended.truncate(ENDED_MAX);
    }

    /// Makes room for one more subject of a rule, if need be of a pending one that has not been observed for a while.
    fn has_room(&mut self, rule: &Rule, now: Moment) -> bool {
        let Some(subjects) = self.standing.get_mut(rule.name.as_str()).filter(|all| all.len() >= SUBJECTS_MAX) else {
            return true;
        };
        let pending = subjects.iter().filter_map(|(subject, standing)| match standing {
            Standing::Pending { seen_ms, .. } => Some((*seen_ms, subject.clone())),
            Standing::Firing(_) => None,
        });
        let Some((seen_ms, subject)) = pending.min() else { return false };
        now.run_ms.saturating_sub(seen_ms) >= UNSEEN_MS_MAX && subjects.remove(&subject).is_some()
    }

    fn get(&self, rule: &str, subject: &str) -> Option<&Standing> {
        self.standing.get(rule)?.get(subject)
    }
}

impl Firing {
    /// Notes that it is told once more.
    fn repeat(&mut self, now: Moment) -> Event {
        self.told_ms = now.run_ms;
        self.episode.repeats = self.episode.repeats.saturating_add(1);
        self.episode.told_ms = now.wall_ms;
        let text = format!("for {}: {}", lasted(now.run_ms - self.fired_ms), self.episode.text);
        Event { what: What::Repeat(self.episode.repeats), episode: self.episode.clone(), text }
    }
}

#[cfg(test)]
#[path = "episode_tests.rs"]
mod tests;
