//! What the writer remembers of the database beside its connection, so that a message costs no look-up.
//!
//! Owns the numbers of the sources, the delivery marks, the newest samples, the size of the quarantine and the totals of the outbox, and keeps
//! them in step with the file: a transaction's changes are taken over when it has committed, and forgotten when it is
//! rolled back. It never begins or ends one.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::Connection;

use super::delivery::{Bounds, Marks};
use super::error::{Class, Doing, StoreError};
use super::job::{Entry, Incoming, Origin};
use super::ledger::Rejected;
use super::outbox::rows::Rows;
use super::outbox::{Outbox, OutboxChange};
use super::repeats::Repeats;
use super::tables::{CreatedAt, Inserted, Tables, quarantine_bytes};
use super::transaction::Outcome;
use super::untimed::Untimed;
use crate::reading::SourceId;

/// Sources that get a number of their own; readings of further ones are stored without.
const SOURCES_MAX: usize = 4096;

/// Ranges of messages sent that are remembered: one for each lane and connection.
const SENT_MAX: usize = 64;

/// What is remembered.
#[derive(Debug)]
pub(super) struct Cached {
    sources: HashMap<SourceId, i64>,
    sources_staged: Vec<SourceId>,
    marks: Marks,
    repeats: Repeats,
    rejected: Rejected,
    untimed: Untimed,
    pub(super) quarantine_bytes: i64,
    quarantine_bytes_committed: i64,
    quarantine_bytes_max: i64,
    created_at: CreatedAt,
    outbox: Option<Rows>,
    /// What the upstream was sent since the database was opened, lately: of a database that was put aside meanwhile, too.
    sent: VecDeque<(i64, i64)>,
}

/// Names a row beyond doubt: its number may be another's after a rollback, its time of receipt may be a neighbour's.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowName {
    pub(super) table: &'static str,
    pub(super) id: i64,
    pub(super) received_ms: i64,
}

impl Cached {
    /// Reads it.
    pub(super) fn load(
        connection: &Connection,
        quarantine_bytes_max: u64,
        outbox: Option<Arc<Outbox>>,
    ) -> Result<Cached, StoreError> {
        let quarantine_bytes = connection
            .query_row(concat!("SELECT coalesce(sum(", quarantine_bytes!(), "), 0) FROM quarantine"), [], |row| {
                row.get(0)
            })
            .doing("cannot read the quarantine")?;
        Ok(Cached {
            sources: load_sources(connection)?,
            sources_staged: Vec::new(),
            marks: Marks::load(connection, Bounds::default())?,
            repeats: Repeats::load(connection)?,
            rejected: Rejected::default(),
            untimed: Untimed::default(),
            quarantine_bytes,
            quarantine_bytes_committed: quarantine_bytes,
            quarantine_bytes_max: i64::try_from(quarantine_bytes_max).unwrap_or(i64::MAX),
            created_at: CreatedAt::default(),
            outbox: outbox.map(|outbox| Rows::load(connection, outbox)).transpose()?,
            sent: VecDeque::new(),
        })
    }

    /// Returns the rows of the outbox; `None` where nothing is forwarded.
    pub(super) fn outbox(&mut self) -> Option<&mut Rows> {
        self.outbox.as_mut()
    }

    /// Adds a message's rows; returns the name of one of them, `None` where it was stored before.
    pub(super) fn store(
        &mut self,
        connection: &Connection,
        tables: &mut Tables<'_>,
        message: &Incoming,
        outcome: &mut Outcome,
    ) -> Result<Option<RowName>, StoreError> {
        let Incoming { origin, delivery, entry, .. } = message;
        if let Some(delivery) = *delivery {
            if self.marks.knows(&origin.client, delivery) {
                outcome.duplicates += 1;
                return Ok(None);
            }
            self.marks.stage(&origin.client, delivery);
        }
        let source = match entry {
            Entry::Reading(_) | Entry::Rejected { .. } => self.source_number(tables, origin)?,
            Entry::Passing => None,
        };
        if let Entry::Reading(reading) = entry
            && self.repeats.knows(connection, source, reading)?
        {
            outcome.repeats += 1;
            return Ok(None);
        }
        let row = |table, id| Some(RowName { table, id, received_ms: origin.received_ms });
        let waiting = self.forward(connection, tables, message, outcome)?;
        if let (Entry::Passing, Some(id)) = (entry, waiting) {
            return Ok(row("outbox", id));
        }
        let table = match tables.insert(message, source, &mut self.created_at)? {
            Inserted::Reading { table } => {
                outcome.readings += 1;
                table
            }
            Inserted::Quarantined { bytes } => {
                outcome.quarantined += 1;
                self.quarantine_bytes += bytes;
                self.rejected.stage(source, origin.received_ms);
                "quarantine"
            }
        };
        let id = connection.last_insert_rowid();
        if let Entry::Reading(reading) = entry
            && table != "quarantine"
        {
            self.untimed.stage(table, id, reading);
        }
        Ok(row(table, id))
    }

    /// Adds a message to the outbox, where it is forwarded; returns its number there. `None` also where the database refuses
    /// the row.
    fn forward(
        &mut self,
        connection: &Connection,
        tables: &mut Tables<'_>,
        message: &Incoming,
        outcome: &mut Outcome,
    ) -> Result<Option<i64>, StoreError> {
        let (Some(forward), Some(rows), Some(insert)) = (&message.forward, &mut self.outbox, tables.outbox()) else {
            return Ok(None);
        };
        match rows.insert(connection, insert, message, forward) {
            Ok(id) => {
                outcome.forwarded += 1;
                Ok(Some(id))
            }
            Err(error) if error.class() == Class::Reject => {
                outcome.forwards_refused += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Makes the changes of the outbox that the bridge asks for.
    pub(super) fn change_outbox(
        &mut self,
        connection: &Connection,
        changes: &[OutboxChange],
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let Some(rows) = &mut self.outbox else { return Ok(()) };
        let aside = rows.apply(connection, changes)?;
        for change in changes {
            if let &OutboxChange::Sent { lane_after, through } = change {
                match self.sent.back_mut().filter(|(after, _)| *after == lane_after) {
                    Some((_, last)) => *last = through.max(*last),
                    None => self.sent.push_back((lane_after, through)),
                }
                self.sent.truncate(SENT_MAX);
            }
        }
        outcome.quarantined += aside.messages;
        outcome.set_aside += aside.messages;
        self.quarantine_bytes += aside.bytes;
        Ok(())
    }

    /// Writes what a transaction has to hold beside its messages, and drops what is beyond the bounds of the quarantine.
    pub(super) fn finish(&mut self, connection: &Connection, outcome: &mut Outcome) -> Result<(), StoreError> {
        self.marks.write(connection)?;
        self.rejected.write(connection)?;
        self.untimed.write(connection)?;
        outcome.quarantine_dropped = self.trim_quarantine(connection)?;
        self.outbox.as_ref().map_or(Ok(()), |rows| rows.write_totals(connection))
    }

    /// Takes over the transaction's changes: it has committed.
    pub(super) fn committed(&mut self) {
        self.marks.committed();
        self.rejected.clear();
        self.untimed.committed();
        self.sources_staged.clear();
        self.quarantine_bytes_committed = self.quarantine_bytes;
        if let Some(rows) = &mut self.outbox {
            rows.committed();
        }
    }

    /// Forgets the transaction's changes: it was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.marks.rolled_back();
        self.repeats.rolled_back();
        self.rejected.clear();
        self.untimed.rolled_back();
        self.quarantine_bytes = self.quarantine_bytes_committed;
        for source in self.sources_staged.drain(..) {
            self.sources.remove(&source);
        }
        if let Some(rows) = &mut self.outbox {
            rows.rolled_back();
        }
    }

    /// Tells whether the upstream was sent this message since the database was opened.
    pub(super) fn was_sent(&self, id: i64) -> bool {
        self.sent.iter().any(|&(after, through)| id > after && id <= through)
    }

    /// Returns the number of a source that has one.
    pub(super) fn number(&self, source: &SourceId) -> Option<i64> {
        self.sources.get(source).copied()
    }

    /// Returns the text of `created_at` in the making.
    pub(super) fn created_at(&mut self) -> &mut CreatedAt {
        &mut self.created_at
    }

    /// Returns a source's number, a new one where it has none; `None` where too many are known.
    pub(super) fn source_number(
        &mut self,
        tables: &mut Tables<'_>,
        origin: &Origin,
    ) -> Result<Option<i64>, StoreError> {
        if let Some(&number) = self.sources.get(&origin.source) {
            return Ok(Some(number));
        }
        if self.sources.len() >= SOURCES_MAX {
            return Ok(None);
        }
        let number = tables.insert_source(origin)?;
        self.sources.insert(origin.source.clone(), number);
        self.sources_staged.push(origin.source.clone());
        Ok(Some(number))
    }

    /// Drops the oldest messages of the quarantine beyond its bound, and tells how many.
    fn trim_quarantine(&mut self, connection: &Connection) -> Result<u64, StoreError> {
        let mut dropped = 0;
        while self.quarantine_bytes > self.quarantine_bytes_max {
            self.drop_oldest_quarantined(connection)?;
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Drops the oldest messages of the quarantine, so many rows or bytes of them, and tells how many there were.
    pub(super) fn drop_from_quarantine(
        &mut self,
        connection: &Connection,
        rows_max: u64,
        bytes_max: i64,
    ) -> Result<u64, StoreError> {
        let (mut dropped, before) = (0, self.quarantine_bytes);
        while dropped < rows_max && before - self.quarantine_bytes < bytes_max {
            if !self.drop_oldest_quarantined(connection)? {
                break;
            }
            dropped += 1;
        }
        Ok(dropped)
    }

    /// Drops the oldest message of the quarantine; tells whether there was one.
    fn drop_oldest_quarantined(&mut self, connection: &Connection) -> Result<bool, StoreError> {
        let bytes: Option<i64> = connection
            .prepare_cached(concat!(
                "DELETE FROM quarantine WHERE id = (SELECT min(id) FROM quarantine) RETURNING ",
                quarantine_bytes!()
            ))
            .and_then(|mut delete| delete.query_map([], |row| row.get(0))?.next().transpose())
            .doing("cannot drop from the quarantine")?;
        self.quarantine_bytes = bytes.map_or(0, |bytes| self.quarantine_bytes - bytes);
        Ok(bytes.is_some())
    }
}

fn load_sources(connection: &Connection) -> Result<HashMap<SourceId, i64>, StoreError> {
    const DOING: &str = "cannot read the sources";
    let mut statement = connection.prepare("SELECT topic, id FROM source").doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?.into(), row.get(1)?))).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}
