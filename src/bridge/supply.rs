//! What is to be sent next, read from the outbox.
//!
//! Owns the reading: a few hundred rows at a time, in the order of their numbers, each lane by itself. It never deletes
//! and never goes back: what was read stays with the bridge until the upstream has it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use crate::store::{Lane, Outbox, Reader, StoreError, Waiting};
use crate::tasks::{self, Name};

/// Rows read at a time.
const ROWS: usize = 256;

/// The rows to send, in their order.
pub(super) struct Supply {
    database: PathBuf,
    outbox: Arc<Outbox>,
    reader: Option<Reader>,
    bytes_max: usize,
    backlog: Shelf,
    /// The backlog ends there.
    boundary: i64,
    /// Only where what comes in now goes first.
    live: Option<Shelf>,
}

/// The rows of one lane that were read and not taken.
#[derive(Default)]
struct Shelf {
    rows: VecDeque<Waiting>,
    /// The last row that was read.
    cursor: i64,
    /// Whether there was no more when the lane was last looked at.
    is_dry: bool,
}

impl Supply {
    /// Makes a supply that begins with the oldest row and reads up to about `bytes_max` bytes at a time.
    pub(super) fn new(database: PathBuf, outbox: Arc<Outbox>, bytes_max: usize) -> Supply {
        Supply { database, outbox, reader: None, bytes_max, backlog: Shelf::default(), boundary: i64::MAX, live: None }
    }

    /// Says that there may be more.
    pub(super) fn look_again(&mut self) {
        self.backlog.is_dry = false;
        if let Some(live) = &mut self.live {
            live.is_dry = false;
        }
    }

    /// Puts all that comes in from now on into the live lane, what is there now into the backlog.
    pub(super) fn begin_live(&mut self) -> i64 {
        let boundary = self.outbox.newest();
        if let Some(live) = &self.live {
            // What was read and not sent waits with the backlog.
            let through = live.rows.front().map_or(live.cursor, |row| row.id - 1);
            self.outbox.release(Lane::Live, through);
        }
        self.outbox.set_boundary(boundary);
        self.boundary = boundary;
        self.live = Some(Shelf { cursor: boundary, ..Shelf::default() });
        self.backlog.is_dry = false;
        boundary
    }

    /// Tells whether there is a row to take, having read where that needs it.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn has_row(&mut self) -> Result<bool, StoreError> {
        for lane in [Lane::Live, Lane::Backlog] {
            let Some(shelf) = self.shelf(lane) else { continue };
            if shelf.rows.is_empty() && !shelf.is_dry {
                self.read(lane).await?;
            }
            if self.shelf(lane).is_some_and(|shelf| !shelf.rows.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes the next row.
    pub(super) fn take(&mut self) -> Option<(Lane, Waiting)> {
        let live = self.live.as_mut().and_then(|shelf| shelf.rows.pop_front()).map(|row| (Lane::Live, row));
        live.or_else(|| self.backlog.rows.pop_front().map(|row| (Lane::Backlog, row)))
    }

    async fn read(&mut self, lane: Lane) -> Result<(), StoreError> {
        let after = self.shelf(lane).map_or(0, |shelf| shelf.cursor);
        let open = self.reader.take();
        let (mut rows, mut reader) = self.rows(open, lane, after).await?;
        if rows.is_empty() && self.has_more(lane, after) {
            // The database may be another file than the one that was opened.
            (rows, reader) = self.rows(None, lane, after).await?;
        }
        self.reader = Some(reader);
        if let Some(shelf) = self.shelf(lane) {
            shelf.is_dry = rows.is_empty();
            shelf.cursor = rows.last().map_or(after, |row| row.id);
            shelf.rows = rows.into();
        }
        Ok(())
    }

    async fn rows(
        &mut self,
        open: Option<Reader>,
        lane: Lane,
        after: i64,
    ) -> Result<(Vec<Waiting>, Reader), StoreError> {
        let (database, outbox, bytes_max) = (self.database.clone(), self.outbox.clone(), self.bytes_max);
        let reading = tasks::blocking(Name::Part("bridge, outbox"), move || {
            let reader = match open {
                Some(reader) => reader,
                None => Reader::open(&database)?,
            };
            let rows = reader.outbox(&outbox, lane, after, ROWS, bytes_max)?;
            Ok((rows, reader))
        });
        reading.await.unwrap_or(Err(StoreError::Stuck))
    }

    /// Tells whether a lane should have rows after this one.
    fn has_more(&self, lane: Lane, after: i64) -> bool {
        let newest = self.outbox.newest();
        let end = if lane == Lane::Backlog { newest.min(self.boundary) } else { newest };
        self.outbox.messages() > 0 && end > after
    }

    fn shelf(&mut self, lane: Lane) -> Option<&mut Shelf> {
        match lane {
            Lane::Backlog => Some(&mut self.backlog),
            Lane::Live => self.live.as_mut(),
        }
    }
}
