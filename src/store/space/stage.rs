//! How much room there is, as health and the commands see it.
//!
//! Owns the stages' names and what was dropped for want of room. It never measures and never drops anything.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use serde::Serialize;

/// How far the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// There is room.
    #[default]
    Ample,
    /// The database grows no more: what can be spared is dropped, and readings take its place.
    Tight,
    /// Nothing can be spared any more: readings wait unacked.
    Out,
}

/// What was dropped to make room, in the order in which it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spared {
    Rollups,
    Outbox,
    Quarantine,
}

impl Spared {
    pub(super) const ORDER: [Spared; 3] = [Spared::Rollups, Spared::Outbox, Spared::Quarantine];

    pub(super) fn words(self) -> &'static str {
        match self {
            Spared::Rollups => "rows of hourly and daily figures, which are made again once there is room",
            Spared::Outbox => "messages beyond the limits of the outbox",
            Spared::Quarantine => "oldest messages of the quarantine",
        }
    }
}

/// The stage as it is, read while the writer works.
#[derive(Debug, Default)]
pub struct Room {
    stage: AtomicU8,
    reserve: AtomicU64,
    dropped: AtomicU64,
}

/// What is told of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RoomReport {
    /// How far the disk is full.
    pub stage: Stage,
    /// What the reserve holds, bytes.
    pub reserve_bytes: u64,
    /// Rows dropped for want of room since the start.
    pub dropped: u64,
}

impl Room {
    /// Tells whether there is room for what can also be made later.
    pub fn is_ample(&self) -> bool {
        self.stage() == Stage::Ample
    }

    /// Returns how it stands.
    pub fn report(&self) -> RoomReport {
        RoomReport {
            stage: self.stage(),
            reserve_bytes: self.reserve.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Relaxed) {
            0 => Stage::Ample,
            1 => Stage::Tight,
            _ => Stage::Out,
        }
    }

    pub(super) fn set(&self, stage: Stage, reserve: u64) {
        self.stage.store(stage as u8, Ordering::Relaxed);
        self.reserve.store(reserve, Ordering::Relaxed);
    }

    pub(super) fn count(&self, dropped: u64) {
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
    }
}
