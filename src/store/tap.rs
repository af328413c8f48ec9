//! A tap behind the writer: readings that are on disk, for whoever watches them.
//!
//! Owns its bound. It never makes the writer wait: where the watcher is too slow, readings pass it by, counted.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::mpsc;

use super::job::{Entry, Job};
use crate::reading::{Sample, SourceId};

/// Readings that wait for the watcher, at most.
const WAITING_MAX: usize = 1_024;

/// A reading that was stored.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Where it came from.
    pub source: SourceId,
    /// What was measured.
    pub sample: Sample,
}

/// The tap.
#[derive(Debug)]
pub struct Tap {
    watcher: mpsc::Sender<Measured>,
    is_open: AtomicBool,
    passed_by: AtomicU64,
}

impl Tap {
    /// Makes a tap that is closed; what comes out of it is to be received at the other end.
    pub fn new() -> (Tap, mpsc::Receiver<Measured>) {
        let (watcher, measured) = mpsc::channel(WAITING_MAX);
        (Tap { watcher, is_open: AtomicBool::new(false), passed_by: AtomicU64::new(0) }, measured)
    }

    /// Opens or closes the tap.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Returns how many readings the watcher was too slow for.
    pub fn passed_by(&self) -> u64 {
        self.passed_by.load(Ordering::Relaxed)
    }

    /// Passes on the readings of a batch that was stored.
    pub(super) fn pass(&self, batch: &[Job]) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        for message in batch.iter().filter_map(Job::message) {
            let Entry::Reading(reading) = &message.entry else { continue };
            let measured = Measured { source: message.origin.source.clone(), sample: reading.sample.clone() };
            if self.watcher.try_send(measured).is_err() {
                self.passed_by.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::reading::{Magnetic, Marks, Number, Reading};
    use crate::store::{Content, Incoming, Origin};

    fn batch(readings: usize) -> Vec<Job> {
        let job = |number: usize| {
            let axis = Number::Int(number as i64);
            let reading =
                Reading { sample: Sample::Magnetic(Magnetic { x: axis, y: axis, z: axis }), marks: Marks::default() };
            let origin = Origin { source: "garden".into(), client: "c".into(), qos: 0, received_ms: 0 };
            let entry = Entry::Reading(Box::new(reading));
            let message = Incoming { origin, entry, payload: Box::default(), forward: None, delivery: None };
            Job { content: Content::Message(message), ticket: None }
        };
        (0..readings).map(job).collect()
    }

    #[test]
    fn a_watcher_that_is_too_slow_is_passed_by_and_nobody_waits_for_it() {
        let (tap, mut measured) = Tap::new();
        tap.pass(&batch(3));
        assert!(measured.try_recv().is_err(), "nobody asked for it");
        tap.set_open(true);
        tap.pass(&batch(WAITING_MAX + 7));
        assert_eq!(tap.passed_by(), 7);
        assert_eq!(&*measured.try_recv().unwrap().source, "garden");
        drop(measured);
        tap.pass(&batch(1));
    }
}
