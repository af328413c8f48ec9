//! A batch of salvaged rows in the writer's transaction.
//!
//! Owns what a row changes beside its own table: senders' numbers, and the totals of quarantine and outbox. It never begins or ends a
//! transaction.

use std::collections::HashMap;

use rusqlite::Connection;

use super::{Batch, Counts, DOING, Put, Row, Table, last_number, note, put};
use crate::store::cached::Cached;
use crate::store::error::{Doing, StoreError};
use crate::store::job::Origin;
use crate::store::outbox::rows::outbox_bytes;
use crate::store::rollup;
use crate::store::tables::{Tables, quarantine_bytes};

/// Puts a batch in; returns the sum of what became of all rows of its file, and what it says at its end.
pub(in crate::store) fn apply(
    connection: &Connection,
    cached: &mut Cached,
    tables: &mut Tables<'_>,
    batch: &Batch,
) -> Result<(), StoreError> {
    let mut counts = Counts::default();
    let mut last = HashMap::new();
    for row in &batch.rows {
        let number = match last.get(row.table.name()) {
            Some(&number) => number,
            None => *last.entry(row.table.name()).or_insert(last_number(connection, row.table)?),
        };
        let done = put_one(connection, cached, tables, batch, row, number)?;
        let count = counts.entry(row.table.name().to_owned()).or_default();
        match done {
            Put::Salvaged(_) => count.salvaged += 1,
            Put::Known => count.known += 1,
            Put::Refused => count.refused += 1,
        }
    }
    let all = note(connection, batch, &counts)?;
    if let Some(unread) = &batch.finished {
        // Readings are counted by their numbers, from the first on: those that came back are below what was counted.
        connection.execute_batch("DELETE FROM hour_count; DELETE FROM hour_counted").doing(DOING)?;
        let text = format!("{}: salvaged {}; {unread}", batch.file, in_words(&all));
        connection
            .execute(
                "INSERT INTO event(at_ms, kind, text) VALUES (?1, 'store.salvaged', ?2)",
                (crate::clock::now_ms(), text),
            )
            .doing(DOING)?;
    }
    Ok(())
}

/// Returns how many rows of each table were put in, in words.
pub(in crate::store) fn in_words(counts: &Counts) -> String {
    let one = |(table, count): (&String, &super::Count)| {
        let refused = if count.refused > 0 { format!(" ({} not taken)", count.refused) } else { String::new() };
        let known = if count.known > 0 { format!(" ({} were there)", count.known) } else { String::new() };
        format!("{} rows of {table}{known}{refused}", count.salvaged)
    };
    let parts: Vec<String> = counts.iter().map(one).collect();
    if parts.is_empty() { "no rows".to_owned() } else { parts.join(", ") }
}

fn put_one(
    connection: &Connection,
    cached: &mut Cached,
    tables: &mut Tables<'_>,
    batch: &Batch,
    row: &Row,
    last: i64,
) -> Result<Put, StoreError> {
    let origin = |source| Origin { source, client: "".into(), qos: 0, received_ms: crate::clock::now_ms() };
    match row.table {
        Table::Source => {
            if let Some(topic) = row.topic() {
                cached.source_number(tables, &origin(topic.into()))?;
            }
            Ok(Put::Known)
        }
        Table::Outbox if cached.was_sent(row.id) => Ok(Put::Known),
        _ => {
            let done = match &row.source {
                Some(source) => {
                    let mut row = row.clone();
                    row.set_source(&batch.targets, cached.source_number(tables, &origin(source.clone()))?);
                    put(connection, &batch.targets, &row, last)?
                }
                None => put(connection, &batch.targets, row, last)?,
            };
            if let Put::Salvaged(id) = done {
                count_in(connection, cached, row.table, id)?;
                rollup::note_row(connection, row.table.name(), id)?;
            }
            Ok(done)
        }
    }
}

/// Counts a row where totals are kept.
fn count_in(connection: &Connection, cached: &mut Cached, table: Table, id: i64) -> Result<(), StoreError> {
    let bytes = |sql| -> Result<i64, StoreError> {
        connection.prepare_cached(sql).and_then(|mut select| select.query_row([id], |row| row.get(0))).doing(DOING)
    };
    match table {
        Table::Quarantine => {
            cached.quarantine_bytes +=
                bytes(concat!("SELECT ", quarantine_bytes!(), " FROM quarantine WHERE id = ?1"))?;
        }
        Table::Outbox => {
            let bytes = bytes(concat!("SELECT ", outbox_bytes!(), " FROM outbox WHERE id = ?1"))?;
            match cached.outbox() {
                Some(rows) => rows.salvaged(id, bytes),
                // Without a bridge nobody else counts.
                None => {
                    connection
                        .prepare_cached(
                            "INSERT INTO outbox_total(one, messages, bytes) VALUES (1, 1, ?1)
                             ON CONFLICT(one) DO UPDATE SET messages = messages + 1, bytes = bytes + ?1",
                        )
                        .and_then(|mut add| add.execute([bytes]))
                        .doing(DOING)?;
                }
            }
        }
        _ => {}
    }
    Ok(())
}
