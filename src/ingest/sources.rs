//! The sources of readings: when each was last heard, and how often it usually is.
//!
//! Owns their number's bound. It never decides whether a silence is too long for the owner: health does, and knows what is
//! configured. Noting a reading is two additions; once a second and source, the rhythm is looked at as well.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::rhythm::Rhythm;
use crate::clock::Moment;
use crate::reading::SourceId;

/// Sources that are known at a time; the store gives a number to as many.
const SOURCES_MAX: usize = 4_096;
/// Readings within this time of each other are one beat, milliseconds.
const BEAT_MS: u64 = 1_000;

/// All sources that were heard, or known from an earlier run.
#[derive(Debug)]
pub struct Sources {
    started: Instant,
    known: Mutex<HashMap<SourceId, Arc<Source>>>,
}

/// One source, as those see it who receive its readings.
#[derive(Debug)]
pub(super) struct Source {
    started: Instant,
    /// When the last reading came, Unix milliseconds; 0 before the first.
    last_ms: AtomicI64,
    /// The same, milliseconds since the start, and 1; 0 before the first.
    last: AtomicU64,
    /// When the last beat began, as `last`.
    beat: AtomicU64,
    rhythm: Mutex<Rhythm>,
}

/// What is known of a source at one moment.
#[derive(Clone, Debug)]
pub struct Heard {
    /// Its name.
    pub source: SourceId,
    /// When its last reading came, Unix milliseconds; `None` where none came since the start.
    pub last_ms: Option<i64>,
    /// Since how long nothing came, or since when the hub runs.
    pub silent: Duration,
    /// The usual time between its readings; `None` where there is none.
    pub usual: Option<Duration>,
    /// How long it may be silent by its rhythm; `None` where nothing is expected of it.
    pub silence_max: Option<Duration>,
}

impl Sources {
    /// Begins without any.
    pub(super) fn new() -> Sources {
        Sources { started: Instant::now(), known: Mutex::default() }
    }

    /// Takes over what an earlier run learnt: sources, and the usual time between their readings.
    pub fn remember(&self, learnt: impl IntoIterator<Item = (SourceId, Duration)>) {
        let mut known = lock(&self.known);
        for (name, usual) in learnt.into_iter().take(SOURCES_MAX) {
            known.entry(name).or_insert_with(|| Arc::new(Source::new(self.started, Rhythm::remembered(usual))));
        }
    }

    /// Returns a source, and makes it known; `None` where too many are.
    pub(super) fn source(&self, name: &SourceId) -> Option<Arc<Source>> {
        let mut known = lock(&self.known);
        if let Some(source) = known.get(name) {
            return Some(source.clone());
        }
        if known.len() >= SOURCES_MAX {
            let unlearnt = known.iter().filter(|(_, source)| !lock(&source.rhythm).is_learnt());
            let oldest = unlearnt.min_by_key(|(_, source)| source.last.load(Ordering::Relaxed))?.0.clone();
            known.remove(&oldest);
        }
        let source = Arc::new(Source::new(self.started, Rhythm::default()));
        known.insert(name.clone(), source.clone());
        Some(source)
    }

    /// Returns what is known of all sources, in no order.
    pub fn heard(&self, now: Instant) -> Vec<Heard> {
        let known: Vec<(SourceId, Arc<Source>)> =
            lock(&self.known).iter().map(|(name, source)| (name.clone(), source.clone())).collect();
        known.into_iter().map(|(name, source)| source.heard(name, now)).collect()
    }
}

impl Source {
    fn new(started: Instant, rhythm: Rhythm) -> Source {
        Source {
            started,
            last_ms: AtomicI64::new(0),
            last: AtomicU64::new(0),
            beat: AtomicU64::new(0),
            rhythm: Mutex::new(rhythm),
        }
    }

    /// Notes a reading.
    pub(super) fn note(&self, received: Moment) {
        let now = self.millis(received.at) + 1;
        self.last_ms.store(received.ms, Ordering::Relaxed);
        self.last.store(now, Ordering::Relaxed);
        let before = self.beat.load(Ordering::Relaxed);
        if before > 0 && now.saturating_sub(before) < BEAT_MS {
            return;
        }
        let mut rhythm = lock(&self.rhythm);
        // Another connection may have noted this beat meanwhile.
        if self.beat.compare_exchange(before, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() && before > 0 {
            rhythm.beat(Duration::from_millis(now.saturating_sub(before)));
        }
    }

    fn heard(&self, source: SourceId, now: Instant) -> Heard {
        let last = self.last.load(Ordering::Relaxed);
        let rhythm = lock(&self.rhythm);
        Heard {
            source,
            last_ms: Some(self.last_ms.load(Ordering::Relaxed)).filter(|_| last > 0),
            silent: Duration::from_millis((self.millis(now) + 1).saturating_sub(last)),
            usual: rhythm.usual(),
            silence_max: rhythm.silence_max(),
        }
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.started).as_millis()).unwrap_or(u64::MAX - 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(sources: &Sources, ms: u64) -> Moment {
        Moment { ms: i64::try_from(ms).unwrap(), at: sources.started + Duration::from_millis(ms) }
    }

    fn only(sources: &Sources, ms: u64) -> Heard {
        let mut heard = sources.heard(at(sources, ms).at);
        assert_eq!(heard.len(), 1);
        heard.remove(0)
    }

    #[test]
    fn readings_that_come_together_are_one_beat_and_a_fast_source_has_a_rhythm_all_the_same() {
        let sources = Sources::new();
        let source = sources.source(&"a".into()).unwrap();
        // Two readings at once, every 5 s.
        for ms in (0..60_000).step_by(5_000) {
            source.note(at(&sources, ms));
            source.note(at(&sources, ms + 20));
        }
        let heard = only(&sources, 61_020);
        assert_eq!((heard.usual, heard.silent.as_millis()), (Some(Duration::from_secs(5)), 6_000));
        assert_eq!(heard.last_ms, Some(55_020));

        let sources = Sources::new();
        let source = sources.source(&"a".into()).unwrap();
        (0..60_000).step_by(300).for_each(|ms| source.note(at(&sources, ms)));
        assert_eq!(only(&sources, 60_000).usual, Some(Duration::from_millis(1_200)));

        // A hundred readings within a second are no rhythm.
        let sources = Sources::new();
        let source = sources.source(&"a".into()).unwrap();
        (0..100).for_each(|ms| source.note(at(&sources, ms * 9)));
        assert_eq!(only(&sources, 60_000).silence_max, None);
    }

    #[test]
    fn a_source_of_an_earlier_run_is_silent_since_the_start() {
        let sources = Sources::new();
        sources.remember([("a".into(), Duration::from_secs(5))]);
        let heard = only(&sources, 30_000);
        assert!(heard.silent > heard.silence_max.unwrap() && heard.last_ms.is_none(), "{heard:?}");
    }

    #[test]
    fn their_number_is_bounded_and_one_with_a_rhythm_keeps_its_place() {
        let sources = Sources::new();
        sources.remember([("regular".into(), Duration::from_secs(5))]);
        for number in 0..2 * SOURCES_MAX as u64 {
            let source = sources.source(&format!("noise/{number}").into()).unwrap();
            source.note(at(&sources, number));
        }
        let heard = sources.heard(Instant::now());
        assert_eq!(heard.len(), SOURCES_MAX);
        assert!(heard.iter().any(|heard| &*heard.source == "regular"));
        assert!(heard.iter().any(|heard| &*heard.source == "noise/8191"), "the newest");
    }
}
