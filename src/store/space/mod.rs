//! What the writer does while its disk is full, stage by stage, and how it comes back.
//!
//! Owns the stages. A disk counts as full when SQLite says so, or when less is free than half of the reserve. Then the database is
//! not let grow any more, so that whatever its write-ahead log holds has its place in the file and can always be moved there; the
//! reserve is given up for as long as that takes. What can be spared is dropped, and readings take its pages. Where nothing can
//! be spared any more, readings wait unacked, and only what makes room, as the upstream's acks of what waits for it, is written.
//! Once there is room for the reserve and as much again, all is as before. It never deletes a reading.

mod reserve;
mod spare;
mod stage;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{debug, info, warn};

use self::reserve::Reserve;
use self::stage::Spared;
pub use self::stage::{Room, RoomReport, Stage};
use super::error::{Class, StoreError};
use super::journal::Journal;
use super::progress::Progress;
use super::transaction::Database;
use crate::fault;
use crate::log::Rate;

/// How often the free space is looked at while there is plenty of it.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Where less is free than so many reserves, it is looked at before every transaction.
const RESERVES_NEAR: u64 = 8;
/// With less than this, SQLite's files beside the database cannot be made.
const USED_UP_BYTES: u64 = 128 * 1024;
/// What has to be free, at the least, for a disk that was full to count as one that has room.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// What an event of a full disk, and of its end, is called.
const EVENT: &str = "store.disk";

/// The room on the database's disk.
#[derive(Debug)]
pub(super) struct Space {
    reserve: Reserve,
    room: Arc<Room>,
    journal: Arc<Journal>,
    stage: Stage,
    looked: Option<Instant>,
    free: u64,
    /// Whether SQLite found the disk full while no connection was open.
    found_full: bool,
    /// Whether the log was given more room since the last transaction that committed.
    widened: bool,
    since: Instant,
    /// What was dropped since the disk was full, in the order of [`Spared::ORDER`].
    dropped: [u64; 3],
    was_out: bool,
    lines: Rate,
}

impl Space {
    /// Looks at the reserve and makes it, where there is room for it.
    pub(super) fn new(database: &Path, reserve_bytes: u64, progress: &Progress) -> Space {
        let mut space = Space {
            reserve: Reserve::of(database, reserve_bytes),
            room: progress.room.clone(),
            journal: progress.journal.clone(),
            stage: Stage::Ample,
            looked: None,
            free: 0,
            found_full: false,
            widened: false,
            since: Instant::now(),
            dropped: [0; 3],
            was_out: false,
            lines: Rate::default(),
        };
        space.look();
        space.fill_reserve();
        space
    }

    /// Opens a database; where the disk has no room even for that, in that of the reserve.
    pub(super) fn opened(&mut self, open: impl Fn() -> Result<Database, StoreError>) -> Result<Database, StoreError> {
        match open() {
            Err(error) if error.class() == Class::Retry && self.is_used_up() => {
                debug!(%error, "the reserve gives way, so that the database can be opened");
                self.found_full = true;
                self.reserve.release();
                self.publish();
                open()
            }
            opened => opened,
        }
    }

    /// Looks at the disk before a transaction, and does what its stage asks for.
    pub(super) fn tend(&mut self, database: &mut Database) {
        if !database.is_bounded {
            database.is_bounded = true;
            let reserve = self.reserve.bytes_max();
            tell(database.keep_log_below(if reserve > 0 { reserve / 4 } else { u64::MAX }));
            if self.stage != Stage::Ample {
                tell(database.may_grow(false));
            }
        }
        if let Some(pages) = fault::pages_max() {
            tell(database.bound(pages));
        }
        let near = self.free < self.reserve.bytes_max().saturating_mul(RESERVES_NEAR) || self.stage != Stage::Ample;
        if near || self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_INTERVAL) {
            self.look();
        }
        match self.stage {
            Stage::Ample if self.found_full || self.free < self.floor() => self.becomes_tight(database),
            Stage::Ample => self.fill_reserve(),
            Stage::Tight | Stage::Out if self.has_room() => self.becomes_ample(database),
            Stage::Tight | Stage::Out => {}
        }
    }

    /// Makes room after SQLite found the disk full; tells whether it is worth to try again at once.
    pub(super) fn relieve(&mut self, database: &mut Database) -> bool {
        if self.stage == Stage::Ample {
            self.becomes_tight(database);
            return true;
        }
        for (what, sum) in Spared::ORDER.into_iter().zip(0..) {
            // What is made again meanwhile is not dropped over and over.
            if what == Spared::Rollups && self.dropped.first().is_some_and(|dropped| *dropped > 0) {
                continue;
            }
            match self.with_room(database, |database| database.spare(what)) {
                Ok(0) => {}
                Ok(dropped) => {
                    self.spared(what, sum, dropped);
                    return true;
                }
                Err(error) => {
                    debug!(%error, "cannot make room");
                    break;
                }
            }
        }
        if self.widen_log(database) {
            return true;
        }
        self.becomes_out();
        false
    }

    /// Writes what makes room: where the log finds none for it, in that of the reserve.
    pub(super) fn with_room<T>(
        &mut self,
        database: &mut Database,
        write: impl Fn(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match write(database) {
            Err(error) if error.is_full() => {
                self.reserve.release();
                let written = database.move_log().and_then(|()| write(database));
                tell(database.move_log());
                self.share_room(database);
                written
            }
            done => done,
        }
    }

    /// Gives the log the room that it needs where it has less, which the reserve pays for; tells whether it did.
    fn widen_log(&mut self, database: &Database) -> bool {
        self.look();
        if self.widened || self.reserve.held() == 0 || self.free >= self.for_log(database) {
            return false;
        }
        self.widened = true;
        self.reserve.release();
        tell(database.move_log());
        self.share_room(database);
        true
    }

    /// Notes that readings are written again.
    pub(super) fn written(&mut self) {
        self.widened = false;
        if self.stage == Stage::Out {
            self.set(Stage::Tight);
        }
    }

    /// What has to be free: half of the reserve.
    fn floor(&self) -> u64 {
        self.reserve.bytes_max() / 2
    }

    /// Tells whether there is room for the whole reserve and twice what a disk counts as full with.
    fn has_room(&self) -> bool {
        let over = (self.floor() * 2).max(ROOM_BYTES_MIN);
        fault::pages_max().is_none()
            && self.free.saturating_add(self.reserve.held()) >= self.reserve.bytes_max().saturating_add(over)
    }

    /// Tells whether nothing is free, but the reserve holds something.
    fn is_used_up(&mut self) -> bool {
        self.look();
        self.reserve.held() > 0 && self.free < USED_UP_BYTES
    }

    fn look(&mut self) {
        self.looked = Some(Instant::now());
        self.free = self.reserve.free().unwrap_or(u64::MAX);
    }

    fn fill_reserve(&mut self) {
        let held = self.reserve.held();
        if held != self.reserve.bytes_max() && self.has_room() {
            self.reserve.make(self.reserve.bytes_max());
            self.look();
        }
        self.publish();
    }

    fn becomes_tight(&mut self, database: &mut Database) {
        self.found_full = false;
        (self.since, self.dropped, self.was_out) = (Instant::now(), [0; 3], false);
        self.reserve.release();
        tell(database.move_log());
        tell(database.may_grow(false));
        self.share_room(database);
        self.set(Stage::Tight);
        let text = format!(
            "the disk is full ({} bytes are free): the database does not grow any more, and what can be spared is dropped; make \
             room",
            self.free
        );
        warn!("{text}");
        self.journal.note(EVENT, text);
    }

    fn becomes_out(&mut self) {
        if self.stage == Stage::Out {
            return;
        }
        self.set(Stage::Out);
        let text = "the disk is full and nothing can be spared any more: readings with QoS 1 and 2 wait unacked, those with QoS 0 \
                    are kept while the queue has room; make room";
        if self.lines.allows() {
            warn!("{text}");
        }
        if !std::mem::replace(&mut self.was_out, true) {
            self.journal.note(EVENT, text.to_owned());
        }
    }

    fn becomes_ample(&mut self, database: &mut Database) {
        if self.dropped.first().is_some_and(|dropped| *dropped > 0) {
            // What was on its way when they were dropped would look as if all before it were there.
            tell(database.spare(Spared::Rollups).map(drop));
        }
        self.reserve.make(self.reserve.bytes_max());
        tell(database.may_grow(true));
        self.set(Stage::Ample);
        self.look();
        let dropped: Vec<String> = Spared::ORDER
            .into_iter()
            .zip(self.dropped)
            .filter(|(_, dropped)| *dropped > 0)
            .map(|(what, dropped)| format!("{dropped} {}", what.words()))
            .collect();
        let dropped = if dropped.is_empty() { "nothing".to_owned() } else { dropped.join(", ") };
        let text = format!(
            "the disk has room again, after {} s: the database grows, and the reserve holds {} bytes; dropped meanwhile: {dropped}",
            self.since.elapsed().as_secs(),
            self.reserve.held()
        );
        info!("{text}");
        self.journal.note(EVENT, text);
    }

    fn spared(&mut self, what: Spared, sum: usize, dropped: u64) {
        self.room.count(dropped);
        let first = self.dropped.get_mut(sum).is_some_and(|sum| {
            *sum += dropped;
            *sum == dropped
        });
        if first || self.lines.allows() {
            warn!("to make room on the disk, {dropped} {} were dropped", what.words());
        }
        if first {
            self.journal.note(EVENT, format!("dropped to make room: {}", what.words()));
        }
    }

    /// Returns what the log has to find free: it is moved into the database at a quarter of the reserve, and the transaction
    /// that makes it so long may be as large again.
    fn for_log(&self, database: &Database) -> u64 {
        self.floor().saturating_sub(database.log_bytes())
    }

    /// Makes the reserve again of what its room has left over: the log needs some of it to write into.
    fn share_room(&mut self, database: &Database) {
        self.look();
        self.reserve.make(self.free.saturating_sub(self.for_log(database)));
        self.look();
        self.publish();
    }

    fn set(&mut self, stage: Stage) {
        self.stage = stage;
        self.publish();
    }

    fn publish(&self) {
        self.room.set(self.stage, self.reserve.held());
    }
}

/// What does not work while the disk is full is tried again, and told by the writer.
fn tell(result: Result<(), StoreError>) {
    if let Err(error) = result {
        debug!(%error, "a full disk");
    }
}
