//! What the owner has done to the database beside what comes in: readings of another database added, and messages of the
//! quarantine decoded once more or dropped.
//!
//! Owns the statements of these errands, each a part of one of the writer's transactions. Whoever asks keeps an errand small,
//! so that no reading's ack waits for it. An errand that is done again, after a crash or by mistake, does nothing more.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};
use serde::{Deserialize, Serialize};

use super::cached::Cached;
use super::error::{Class, Doing, StoreError};
use super::import::{Cell, ImportedRow, Station};
use super::job::{Entry, Origin};
use super::rollup;
use super::tables::{REFUSED, Tables, quarantine_bytes};
use super::transaction::Outcome;

/// What is to be done.
#[derive(Debug)]
pub enum Work {
    /// Add readings of another database, each unless it is there.
    Import(Station, Vec<ImportedRow>),
    /// Take messages out of the quarantine that are readings after all, and note why the others are not.
    Replay(Vec<Replayed>),
    /// Drop messages of the quarantine.
    Drop(Vec<i64>),
}

/// A message of the quarantine, decoded once more.
#[derive(Debug)]
pub struct Replayed {
    /// Its number in the quarantine.
    pub id: i64,
    /// Where it came from.
    pub origin: Origin,
    /// What it became now.
    pub entry: Entry,
}

/// What became of an errand's parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Imported, replayed or dropped.
    pub done: u64,
    /// Nothing was left to do: it was there, or not in the quarantine any more.
    pub already: u64,
    /// Not taken.
    pub refused: u64,
}

impl Done {
    /// Adds what became of further parts.
    pub fn add(&mut self, more: Done) {
        self.done += more.done;
        self.already += more.already;
        self.refused += more.refused;
    }
}

/// Work, and where it is noted what became of it.
#[derive(Debug)]
pub struct Errand {
    work: Work,
    done: Arc<Mutex<Done>>,
}

impl Errand {
    /// Makes an errand, and returns with it the place where it is noted what became of it, once it is on disk.
    pub fn new(work: Work) -> (Errand, Arc<Mutex<Done>>) {
        let done: Arc<Mutex<Done>> = Arc::default();
        (Errand { work, done: done.clone() }, done)
    }

    /// Returns the bytes that it occupies in the queue, beside itself.
    pub fn bytes(&self) -> usize {
        match &self.work {
            Work::Import(_, rows) => rows.iter().map(ImportedRow::bytes).sum(),
            Work::Replay(messages) => messages.iter().map(Replayed::bytes).sum(),
            Work::Drop(ids) => size_of_val(ids.as_slice()),
        }
    }

    /// Does it in the transaction that is open.
    pub(super) fn apply(
        &self,
        connection: &Connection,
        cached: &mut Cached,
        tables: &mut Tables<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), StoreError> {
        let mut done = Done::default();
        match &self.work {
            Work::Import(station, rows) => {
                for row in rows {
                    import(connection, cached, tables, *station, row, &mut done)?;
                }
            }
            Work::Replay(messages) => {
                for message in messages {
                    replay(connection, cached, tables, message, &mut done)?;
                }
                outcome.readings += done.done;
            }
            Work::Drop(ids) => {
                for id in ids {
                    drop_one(connection, cached, *id, &mut done)?;
                }
            }
        }
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
        Ok(())
    }
}

impl Replayed {
    fn bytes(&self) -> usize {
        let entry = match &self.entry {
            Entry::Reading(reading) => size_of_val(&**reading),
            Entry::Rejected { detail, .. } => detail.len(),
            Entry::Passing => 0,
        };
        size_of::<Replayed>() + entry + self.origin.source.len() + self.origin.client.len()
    }
}

/// Adds a row unless as many equal ones are there as the other database has up to it.
fn import(
    connection: &Connection,
    cached: &mut Cached,
    tables: &mut Tables<'_>,
    station: Station,
    row: &ImportedRow,
    done: &mut Done,
) -> Result<(), StoreError> {
    const DOING: &str = "cannot import a reading";
    if row.values.len() != station.columns().len() || row.values.contains(&Cell::Other) || !has_whole_time(station, row)
    {
        done.refused += 1;
        return Ok(());
    }
    let source = match &row.source {
        Some(topic) => {
            let received_ms = row.received_ms.unwrap_or_default();
            let origin = Origin { source: topic.as_str().into(), client: "".into(), qos: 0, received_ms };
            cached.source_number(tables, &origin)?
        }
        None => None,
    };
    let mut values: Vec<Value> = row.values.iter().map(Cell::value).collect();
    values.push(source.map_or(Value::Null, Value::Integer));
    let most = Value::Integer(row.ordinal);
    let equal = values.iter().chain([&most]);
    let there: i64 = connection
        .prepare_cached(station.count_equal())
        .and_then(|mut count| count.query_row(params_from_iter(equal), |row| row.get(0)))
        .doing(DOING)?;
    if there >= row.ordinal {
        done.already += 1;
        return Ok(());
    }
    values.extend([row.received_ms, row.marks].map(|value| value.map_or(Value::Null, Value::Integer)));
    let added = connection
        .prepare_cached(station.insert())
        .and_then(|mut insert| insert.execute(params_from_iter(&values)))
        .doing(DOING);
    match added {
        Ok(_) => {
            done.done += 1;
            rollup::note_row(connection, station.table(), connection.last_insert_rowid())?;
        }
        Err(error) if error.class() == Class::Reject => done.refused += 1,
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Tells whether a weather reading's time is a whole number, as the hub and its readers take it to be.
fn has_whole_time(station: Station, row: &ImportedRow) -> bool {
    let place = station.columns().iter().position(|column| *column == "timestamp");
    place.and_then(|place| row.values.get(place)).is_none_or(|time| matches!(time.value(), Value::Integer(_)))
}

fn replay(
    connection: &Connection,
    cached: &mut Cached,
    tables: &mut Tables<'_>,
    message: &Replayed,
    done: &mut Done,
) -> Result<(), StoreError> {
    const DOING: &str = "cannot replay a message of the quarantine";
    let Replayed { id, origin, entry } = message;
    // Its number may be another's since it was read: in a database that was begun anew, for example.
    let before: Option<i64> = connection
        .prepare_cached(concat!("SELECT ", quarantine_bytes!(), " FROM quarantine WHERE id = ?1 AND received_ms = ?2"))
        .and_then(|mut find| find.query_row([*id, origin.received_ms], |row| row.get(0)).optional())
        .doing(DOING)?;
    let Some(before) = before else {
        done.already += 1;
        return Ok(());
    };
    let (reason, detail) = match entry {
        Entry::Reading(reading) => {
            let source = cached.source_number(tables, origin)?;
            match tables.insert_reading(reading, source, origin, cached.created_at()).doing(DOING) {
                Ok(table) => {
                    rollup::note_row(connection, table, connection.last_insert_rowid())?;
                    return drop_one(connection, cached, *id, done);
                }
                Err(error) if error.class() == Class::Reject => (REFUSED, error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Entry::Rejected { reason, detail } => (*reason, detail.clone()),
        Entry::Passing => return Ok(()),
    };
    let after: i64 = connection
        .prepare_cached(concat!(
            "UPDATE quarantine SET reason = ?2, detail = ?3 WHERE id = ?1 RETURNING ",
            quarantine_bytes!()
        ))
        .and_then(|mut update| update.query_row(params![id, reason, detail], |row| row.get(0)))
        .doing(DOING)?;
    cached.quarantine_bytes += after - before;
    done.refused += 1;
    Ok(())
}

fn drop_one(connection: &Connection, cached: &mut Cached, id: i64, done: &mut Done) -> Result<(), StoreError> {
    let bytes: Option<i64> = connection
        .prepare_cached(concat!("DELETE FROM quarantine WHERE id = ?1 RETURNING ", quarantine_bytes!()))
        .and_then(|mut delete| delete.query_row([id], |row| row.get(0)).optional())
        .doing("cannot drop from the quarantine")?;
    match bytes {
        Some(bytes) => {
            cached.quarantine_bytes -= bytes;
            done.done += 1;
        }
        None => done.already += 1,
    }
    Ok(())
}
