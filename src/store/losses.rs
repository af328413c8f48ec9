//! Readings that came and found no room in the queue: whose, when, how many.
//!
//! Owns what is remembered of them until it is on disk. What is lost while the database cannot be written waits here, a
//! few numbers for each source and minute, and is bounded. It never decides what is lost: the queue does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::job::{Entry, Job};
use crate::clock;
use crate::reading::SourceId;

/// Sources and minutes that are remembered; what is lost beyond is not told apart.
const PLACES_MAX: usize = 4_096;
/// Losses are written once none came for this long, or at the latest after the longer time: a flood is not to make a row for
/// each transaction.
const QUIET_TIME: Duration = Duration::from_secs(1);
const WAIT_TIME_MAX: Duration = Duration::from_secs(10);

/// Some readings, between two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) first_ms: i64,
    pub(super) last_ms: i64,
    pub(super) count: u64,
}

/// What was lost, by source and minute.
pub(super) type Places = HashMap<(SourceId, i64), Count>;

/// What was lost and is not on disk yet.
#[derive(Debug, Default)]
pub struct Losses {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Places,
    /// When the first and the last of them came.
    times: Option<(Instant, Instant)>,
    /// Being written.
    in_hand: Places,
}

/// Adds to what is known of a place.
pub(super) fn add(places: &mut Places, place: (SourceId, i64), more: Count) {
    let is_full = places.len() >= PLACES_MAX && !places.contains_key(&place);
    let place = if is_full { (SourceId::from(""), 0) } else { place };
    let known = places.entry(place).or_insert(Count { count: 0, ..more });
    known.first_ms = known.first_ms.min(more.first_ms);
    known.last_ms = known.last_ms.max(more.last_ms);
    known.count += more.count;
}

/// Says what was lost.
pub(super) fn in_words(places: &Places) -> String {
    let count: u64 = places.values().map(|lost| lost.count).sum();
    let first_ms = places.values().map(|lost| lost.first_ms).min().unwrap_or_default();
    let last_ms = places.values().map(|lost| lost.last_ms).max().unwrap_or_default();
    format!(
        "{count} readings with QoS 0 were lost between {} and {}: the queue to the database was full",
        clock::in_words(first_ms),
        clock::in_words(last_ms)
    )
}

impl Losses {
    /// Notes a job that is lost, where it is a reading.
    pub(super) fn note(&self, job: &Job) {
        let Some(message) = job.message().filter(|message| matches!(message.entry, Entry::Reading(_))) else { return };
        let ms = message.origin.received_ms;
        let mut inner = self.lock();
        let now = Instant::now();
        let first = inner.times.map_or(now, |(first, _)| first);
        inner.times = Some((first, now));
        let place = (message.origin.source.clone(), ms.div_euclid(60_000));
        add(&mut inner.waiting, place, Count { first_ms: ms, last_ms: ms, count: 1 });
    }

    /// Returns what is to be written now, and whether some of it is so for the first time.
    pub(super) fn due(&self, at_once: bool) -> Option<(Places, bool)> {
        let mut inner = self.lock();
        let is_due = inner
            .times
            .is_some_and(|(first, last)| at_once || last.elapsed() >= QUIET_TIME || first.elapsed() >= WAIT_TIME_MAX);
        if is_due {
            inner.times = None;
            for (place, lost) in std::mem::take(&mut inner.waiting) {
                add(&mut inner.in_hand, place, lost);
            }
        }
        if inner.in_hand.is_empty() { None } else { Some((inner.in_hand.clone(), is_due)) }
    }

    /// Notes that what was due is on disk.
    pub(super) fn written(&self) {
        self.lock().in_hand.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
