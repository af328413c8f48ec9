//! The beginning of a salvage: what a new database takes over from a damaged one at once.
//!
//! Owns the numbers that are not given out again, and the copies of what is small and needed from the start. All of it is one
//! transaction, with the event that tells of it. It never judges whether a database is damaged.

use std::collections::HashMap;
use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, params_from_iter};

use super::{DOING, NUMBER_MAX, Targets, last_number, name, progress, put, unfinished};
use crate::clock::now_ms;
use crate::store::error::{Doing, StoreError};
use crate::store::salvage::{Pages, Raw, Table, Walk, columns, table_of};

/// Rows that are taken over at once, of each table.
const AT_ONCE_MAX: usize = 20_000;
/// Bytes of a row, at least, with which the rows of a file are estimated.
const ROW_BYTES_MIN: u64 = 16;
/// Where the numbers of the small tables go on from if nobody knows it: few enough that their oldest rows are not forgotten.
const SMALL_BEGIN: i64 = 9_999;

/// Begins to salvage what was put aside and is not known here: its numbers are never given out again, what is small is taken over
/// at once, and the event is written with it.
pub(in crate::store) fn register(
    connection: &mut Connection,
    database: &Path,
    why: Option<&str>,
) -> Result<(), StoreError> {
    for aside in unfinished(connection, database)? {
        let file = name(&aside);
        if progress(connection, &file)?.is_some() {
            continue;
        }
        let targets = Targets::read(connection)?;
        let transaction = connection.transaction().doing(DOING)?;
        // A file that cannot be opened now is tried again by the salvage.
        if let Ok(pages) = Pages::open(&aside) {
            let walk = Walk::begin(pages);
            go_on_above(&transaction, &walk, &aside)?;
            take_over(&transaction, &targets, &walk)?;
        }
        copy_kept(&transaction, &aside);
        transaction
            .execute("INSERT INTO salvage(file, begun_ms, pages, found) VALUES (?1, ?2, 0, '{}')", (&file, now_ms()))
            .doing(DOING)?;
        let text = format!(
            "the database was damaged ({}) and is put aside as {file}; a new one has taken its place, and what can be read of the old \
             one is put into it",
            why.unwrap_or("an earlier run of the hub found it")
        );
        transaction
            .execute("INSERT INTO event(at_ms, kind, text) VALUES (?1, 'store.corrupt', ?2)", (now_ms(), text))
            .doing(DOING)?;
        transaction.commit().doing(DOING)?;
    }
    Ok(())
}

/// Lets numbers go on above those of a damaged database: as it says, or as its tables end, or as many as fit into its size.
fn go_on_above(connection: &Connection, walk: &Walk, aside: &Path) -> Result<(), StoreError> {
    let tree = |name: &str| walk.trees().iter().position(|tree| tree.name == name);
    let sequences: HashMap<String, i64> = tree("sqlite_sequence")
        .map(|tree| walk.all(tree, 1_000))
        .unwrap_or_default()
        .into_iter()
        .filter_map(|row| match &row.values[..] {
            [Value::Text(name), Value::Integer(seq)] => Some((name.clone(), *seq)),
            _ => None,
        })
        .collect();
    let size = aside.metadata().map_or(0, |found| found.len());
    let estimate = i64::try_from(size / ROW_BYTES_MIN).unwrap_or(i64::MAX) / 1_000 * 1_000 + 1_000;
    for table in [Table::Weather, Table::Magnetic, Table::Quarantine, Table::Run, Table::Event] {
        let said = sequences.get(table.name()).copied();
        let newest = tree(table.name()).and_then(|tree| walk.last(tree)).map(|row| row.id);
        let is_small = matches!(table, Table::Run | Table::Event);
        let known = said.into_iter().chain(newest).filter(|number| (0..=NUMBER_MAX).contains(number)).max();
        let last = known.unwrap_or(if is_small { SMALL_BEGIN } else { estimate.min(NUMBER_MAX) });
        let changed = connection
            .execute("UPDATE sqlite_sequence SET seq = max(seq, ?2) WHERE name = ?1", (table.name(), last))
            .doing(DOING)?;
        if changed == 0 {
            connection
                .execute("INSERT INTO sqlite_sequence(name, seq) VALUES (?1, ?2)", (table.name(), last))
                .doing(DOING)?;
        }
    }
    Ok(())
}

/// Takes over the small tables, as far as their trees lead.
fn take_over(connection: &Connection, targets: &Targets, walk: &Walk) -> Result<(), StoreError> {
    for (index, tree) in walk.trees().iter().enumerate() {
        let small = [Table::Source, Table::Run, Table::Event, Table::Episode, Table::Notice];
        if let Some(table) = Table::of_name(&tree.name).filter(|table| small.contains(table)) {
            let last = last_number(connection, table)?;
            let names = columns(&tree.sql);
            for raw in walk.all(index, AT_ONCE_MAX) {
                if table_of(&raw.values, Some(table)) == Some(table)
                    && let Some(row) = targets.row(table, names.as_deref(), raw)
                {
                    put(connection, targets, &row, last)?;
                }
            }
        } else if tree.name == "delivery" {
            for Raw { id, values } in walk.all(index, AT_ONCE_MAX) {
                if let [_, client @ Value::Text(_), marks @ Value::Blob(_)] = &values[..] {
                    connection
                        .execute(
                            "INSERT OR IGNORE INTO delivery(id, client_id, marks) VALUES (?1, ?2, ?3)",
                            (id, client, marks),
                        )
                        .doing(DOING)?;
                }
            }
        }
    }
    Ok(())
}

/// Copies what the broker keeps, as far as SQLite reads it: these tables are trees of another kind.
fn copy_kept(connection: &Connection, aside: &Path) {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let Ok(old) = Connection::open_with_flags(aside, flags) else { return };
    for (table, columns, marks) in [
        ("retained", "topic, publisher, expires_ms, packet", "?1, ?2, ?3, ?4"),
        ("session", "client_id, expiry_s, away_since_ms, state", "?1, ?2, ?3, ?4"),
        ("session_message", "client_id, number, publisher, expires_ms, packet", "?1, ?2, ?3, ?4, ?5"),
    ] {
        let copy = || -> rusqlite::Result<()> {
            let mut select = old.prepare(&format!("SELECT {columns} FROM {table}"))?;
            let mut insert =
                connection.prepare(&format!("INSERT OR IGNORE INTO {table}({columns}) VALUES ({marks})"))?;
            let count = select.column_count();
            let mut rows = select.query([])?;
            while let Some(row) = rows.next()? {
                let values: Vec<Value> = (0..count).map(|column| row.get(column)).collect::<Result<_, _>>()?;
                insert.execute(params_from_iter(values))?;
            }
            Ok(())
        };
        if let Err(error) = copy() {
            tracing::warn!("{error}: not all of the table {table} could be taken over from the damaged database");
        }
    }
}
