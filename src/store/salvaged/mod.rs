//! Rows out of a damaged database, on their way into the one in its place.
//!
//! Owns the table `salvage`, and how a row is put in: under its number where that is free, once, whatever was put in before. What is
//! small is taken over at once when the new database is made: who sends, what was delivered, what the broker keeps, the numbers
//! to go on from. The rest comes in batches in the writer's transactions, each with the mark of how far it is, so that a
//! crash neither loses nor doubles any. It never reads a damaged page itself: `salvage` does.

mod apply;
mod begin;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use serde::{Deserialize, Serialize};

use super::aside;
use super::error::{Class, Doing, StoreError};
use super::salvage::{Raw, Table};
use crate::clock::now_ms;
use crate::place::beside;
use crate::reading::SourceId;

pub(super) use self::apply::{apply, in_words};
pub(super) use self::begin::register;

/// No table counts further; a number beyond is damaged.
const NUMBER_MAX: i64 = 1_000_000_000_000;
const DOING: &str = "cannot take over rows of a damaged database";

/// How the rows of one table are put in.
#[derive(Debug)]
struct Target {
    /// Its columns without the row's number.
    columns: Vec<String>,
    insert: String,
    /// Finds the row under its number.
    same: String,
    /// Finds the row under any number, quickly; `None` where no index helps.
    anywhere: Option<String>,
}

/// How the rows of all tables are put in.
#[derive(Debug)]
pub(super) struct Targets(BTreeMap<Table, Target>);

/// A row to be put in.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) table: Table,
    pub(super) id: i64,
    /// Who sent it, where the table says that and it is known.
    pub(super) source: Option<SourceId>,
    /// In the order of the target's columns.
    values: Vec<Value>,
}

/// What became of the rows of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    /// Put in.
    pub(super) salvaged: u64,
    /// There already.
    pub(super) known: u64,
    /// Not taken by the database, or a number that another row has.
    pub(super) refused: u64,
}

/// What became of all rows, by the names of their tables.
pub(super) type Counts = BTreeMap<String, Count>;

/// Rows of some pages.
#[derive(Debug)]
pub struct Batch {
    /// The name of the damaged database.
    pub(super) file: String,
    pub(super) targets: Arc<Targets>,
    pub(super) rows: Vec<Row>,
    /// Pages that were looked at, these included.
    pub(super) pages: u64,
    /// What could not be read, at the end.
    pub(super) finished: Option<String>,
}

impl Batch {
    /// Returns about how many bytes it occupies.
    pub(super) fn bytes(&self) -> usize {
        self.rows.iter().map(Row::bytes).sum()
    }
}

impl Targets {
    /// Reads which columns the tables have.
    pub(super) fn read(connection: &Connection) -> Result<Targets, StoreError> {
        let mut targets = BTreeMap::new();
        for table in Table::ALL {
            let mut statement = connection
                .prepare("SELECT name FROM pragma_table_info(?1) WHERE name <> 'id' ORDER BY cid")
                .doing(DOING)?;
            let names: Vec<String> =
                statement.query_map([table.name()], |row| row.get(0)).and_then(Iterator::collect).doing(DOING)?;
            targets.insert(table, Target::new(table, names));
        }
        Ok(Targets(targets))
    }

    /// Makes a row for its table out of one of a damaged database, whose columns have these names.
    pub(super) fn row(&self, table: Table, names: Option<&[String]>, raw: Raw) -> Option<Row> {
        let target = self.0.get(&table)?;
        let mut found: Vec<Option<Value>> = raw.values.into_iter().map(Some).collect();
        let has_id = table != Table::Notice;
        // A name that is damaged says less than the place.
        let needed = target.columns.get(..table.columns_min()).unwrap_or_default();
        let names = names.filter(|names| needed.iter().all(|column| names.contains(column)));
        let place = |index: usize, column: &String| match names {
            Some(names) => names.iter().position(|name| name == column),
            None => Some(index + usize::from(has_id)),
        };
        let mut take = |(index, column)| {
            let value = place(index, column).and_then(|place| found.get_mut(place)?.take());
            value.unwrap_or(Value::Null)
        };
        let values = target.columns.iter().enumerate().map(&mut take).collect();
        Some(Row { table, id: raw.id, source: None, values })
    }
}

impl Target {
    fn new(table: Table, columns: Vec<String>) -> Target {
        let name = table.name();
        let list = columns.iter().map(|column| format!("\"{}\"", column.replace('"', "\"\"")));
        let list: Vec<String> = list.collect();
        let marks: Vec<String> = (2..columns.len() + 2).map(|number| format!("?{number}")).collect();
        let equal: Vec<String> = list.iter().zip(&marks).map(|(column, mark)| format!("{column} IS {mark}")).collect();
        let number = if table == Table::Notice { "rowid" } else { "id" };
        let equal = equal.join(" AND ");
        Target {
            insert: format!(
                "INSERT INTO {name}({number}, {}) VALUES (?1, {}) ON CONFLICT DO NOTHING",
                list.join(", "),
                marks.join(", ")
            ),
            same: format!("SELECT 1 FROM {name} WHERE {number} = ?1 AND {equal}"),
            anywhere: matches!(table, Table::Weather | Table::Magnetic)
                .then(|| format!("SELECT 1 FROM {name} WHERE ?1 IS ?1 AND {equal} LIMIT 1")),
            columns,
        }
    }
}

impl Row {
    /// Returns about how many bytes it occupies.
    pub(super) fn bytes(&self) -> usize {
        let of_value = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Blob(bytes) => bytes.len(),
            _ => 0,
        };
        size_of::<Row>() + self.values.iter().map(|value| size_of::<Value>() + of_value(value)).sum::<usize>()
    }

    /// Returns the number of its sender in the damaged database.
    pub(super) fn old_source(&self, targets: &Targets) -> Option<i64> {
        match self.values.get(self.source_place(targets)?) {
            Some(&Value::Integer(number)) => Some(number),
            _ => None,
        }
    }

    /// Returns the topic, where this is a sender's row.
    pub(super) fn topic(&self) -> Option<&str> {
        match (self.table, self.values.first()) {
            (Table::Source, Some(Value::Text(topic))) => Some(topic),
            _ => None,
        }
    }

    fn source_place(&self, targets: &Targets) -> Option<usize> {
        targets.0.get(&self.table)?.columns.iter().position(|column| column == "source_id")
    }

    /// Sets the number of its sender in this database.
    pub(super) fn set_source(&mut self, targets: &Targets, number: Option<i64>) {
        if let Some(value) = self.source_place(targets).and_then(|place| self.values.get_mut(place)) {
            *value = number.map_or(Value::Null, Value::Integer);
        }
    }
}

/// What putting in a row did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// It is there now; the number it has.
    Salvaged(i64),
    Known,
    Refused,
}

/// Puts in a row, once: under its number, or under a new one where another row has that. `last` is the highest number that the
/// table has given out.
pub(super) fn put(connection: &Connection, targets: &Targets, row: &Row, last: i64) -> Result<Put, StoreError> {
    let Some(target) = targets.0.get(&row.table) else { return Ok(Put::Refused) };
    let keeps_number = (1..=last).contains(&row.id) && row.table != Table::Outbox;
    let taken = if row.table == Table::Source || row.table == Table::Notice || keeps_number {
        let (changed, is_same) =
            (insert(connection, target, row, Some(row.id))?, is_there(connection, &target.same, row)?);
        match changed {
            Some(0) => is_same,
            Some(_) => return Ok(Put::Salvaged(row.id)),
            None => return Ok(Put::Refused),
        }
    } else {
        false
    };
    // An episode is known to its notices by its number; a run's order is that of the numbers.
    if taken || matches!(row.table, Table::Source | Table::Notice) {
        return Ok(Put::Known);
    }
    if matches!(row.table, Table::Run | Table::Episode) {
        return Ok(Put::Refused);
    }
    if let Some(anywhere) = &target.anywhere
        && is_there(connection, anywhere, row)?
    {
        return Ok(Put::Known);
    }
    match insert(connection, target, row, None)? {
        Some(1..) => Ok(Put::Salvaged(connection.last_insert_rowid())),
        _ => Ok(Put::Refused),
    }
}

/// Inserts a row; `None` where the database does not take it.
fn insert(connection: &Connection, target: &Target, row: &Row, id: Option<i64>) -> Result<Option<usize>, StoreError> {
    let id = id.map_or(Value::Null, Value::Integer);
    let values = params_from_iter(std::iter::once(&id).chain(&row.values));
    let inserted = connection.prepare_cached(&target.insert).and_then(|mut insert| insert.execute(values)).doing(DOING);
    match inserted {
        Ok(changed) => Ok(Some(changed)),
        Err(error) if error.class() == Class::Reject => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_there(connection: &Connection, sql: &str, row: &Row) -> Result<bool, StoreError> {
    let id = Value::Integer(row.id);
    let values = params_from_iter(std::iter::once(&id).chain(&row.values));
    connection.prepare_cached(sql).and_then(|mut select| select.exists(values)).doing(DOING)
}

/// Returns the highest number that a table has given out.
pub(super) fn last_number(connection: &Connection, table: Table) -> Result<i64, StoreError> {
    let last = connection
        .prepare_cached("SELECT max(seq) FROM sqlite_sequence WHERE name = ?1")
        .and_then(|mut select| select.query_row([table.name()], |row| row.get::<_, Option<i64>>(0)))
        .doing(DOING)?;
    // Tables without a sequence give out any.
    Ok(last.unwrap_or(if matches!(table, Table::Episode) { NUMBER_MAX } else { 0 }))
}

/// Notes how far a salvage is, and what became of its rows.
pub(super) fn note(connection: &Connection, batch: &Batch, counts: &Counts) -> Result<Counts, StoreError> {
    let mut all = progress(connection, &batch.file)?.map(|(_, counts)| counts).unwrap_or_default();
    for (table, count) in counts {
        let sum = all.entry(table.clone()).or_default();
        sum.salvaged += count.salvaged;
        sum.known += count.known;
        sum.refused += count.refused;
    }
    let found = serde_json::to_string(&all).unwrap_or_default();
    let finished_ms = batch.finished.as_ref().map(|_| now_ms());
    connection
        .prepare_cached(
            "INSERT INTO salvage(file, begun_ms, pages, found, finished_ms) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT(file) DO UPDATE SET pages = ?3, found = ?4, finished_ms = ?5",
        )
        .and_then(|mut update| {
            let pages = i64::try_from(batch.pages).unwrap_or(i64::MAX);
            update.execute((&batch.file, now_ms(), pages, found, finished_ms))
        })
        .doing(DOING)?;
    Ok(all)
}

/// Returns how many pages of a damaged database were looked at, and what was found; `None` where it is not known here.
pub(super) fn progress(connection: &Connection, file: &str) -> Result<Option<(u64, Counts)>, StoreError> {
    connection
        .query_row("SELECT pages, found FROM salvage WHERE file = ?1", [file], |row| {
            Ok((row.get::<_, i64>(0)?.unsigned_abs(), row.get::<_, String>(1)?))
        })
        .optional()
        .map(|found| found.map(|(pages, text)| (pages, serde_json::from_str(&text).unwrap_or_default())))
        .doing(DOING)
}

/// Returns the damaged databases that are not salvaged yet, oldest first.
pub(super) fn unfinished(connection: &Connection, database: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let mut statement = connection.prepare("SELECT file FROM salvage WHERE finished_ms IS NOT NULL").doing(DOING)?;
    let finished: Vec<String> = statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).doing(DOING)?;
    let is_open = |path: &std::path::PathBuf| !finished.contains(&name(path)) && !beside(path, REPORT).exists();
    Ok(aside::list(database).into_iter().filter(is_open).collect())
}

/// What the report of a salvage is called behind the name of the damaged database.
pub(super) const REPORT: &str = ".report";

/// Returns the name of a file without its directory.
pub(super) fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
