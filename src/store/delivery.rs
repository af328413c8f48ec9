//! Delivery marks: which QoS 1 and 2 publishes are on disk, so that a redelivered one is not stored twice.
//!
//! Owns the marks in memory, their bound, and their rows. A mark is a client's packet id with a digest of topic and
//! payload. Marks are written in the transaction of the readings they belong to, one row for each client and
//! transaction, and are read once, at the start. The bound is by client and in all; the oldest go first, so a client
//! that comes back after the bound was used up by others may be stored twice, never lost.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use rusqlite::{Connection, params};

use super::error::{Doing, StoreError};
use super::job::Delivery;

/// Bytes of one mark in a row: packet id, digest, both little-endian.
const MARK_BYTES: usize = 10;

/// What is kept, at most.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Marks of one client.
    pub(super) per_client: usize,
    /// Marks of all clients.
    pub(super) marks: usize,
    /// Clients.
    pub(super) clients: usize,
    /// Rows that are collected before they are deleted, to write fewer pages.
    pub(super) deleted_together: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { per_client: 1024, marks: 65_536, clients: 4096, deleted_together: 64 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    id: u16,
    digest: u64,
}

#[derive(Debug)]
struct Row {
    id: i64,
    marks: Box<[Mark]>,
}

#[derive(Debug, Default)]
struct Client {
    rows: VecDeque<Row>,
    marks: usize,
}

/// The marks that are on disk, and those of the transaction under way.
#[derive(Debug, Default)]
pub(super) struct Marks {
    bounds: Bounds,
    clients: HashMap<Arc<str>, Client>,
    marks: usize,
    last_row: i64,
    staged: Vec<(Arc<str>, Vec<Mark>)>,
    staged_index: HashMap<Arc<str>, usize>,
    expired: Vec<i64>,
}

impl Marks {
    /// Reads the marks that are on disk.
    pub(super) fn load(connection: &Connection, bounds: Bounds) -> Result<Marks, StoreError> {
        const DOING: &str = "cannot read the delivery marks";
        let mut marks = Marks { bounds, ..Marks::default() };
        let mut statement = connection.prepare("SELECT id, client_id, marks FROM delivery ORDER BY id").doing(DOING)?;
        let mut rows = statement.query([]).doing(DOING)?;
        while let Some(row) = rows.next().doing(DOING)? {
            let id = row.get(0).doing(DOING)?;
            let client: Arc<str> = row.get::<_, String>(1).doing(DOING)?.into();
            let blob: Vec<u8> = row.get(2).doing(DOING)?;
            marks.keep(client, id, decode(&blob).into());
            marks.expire();
        }
        Ok(marks)
    }

    /// Tells whether a publish is a redelivery of one that is stored, or is about to be by this transaction.
    pub(super) fn knows(&self, client: &Arc<str>, delivery: Delivery) -> bool {
        if !delivery.dup {
            return false;
        }
        let latest = |marks: &[Mark]| marks.iter().rev().find(|mark| mark.id == delivery.id).copied();
        let staged = self
            .staged_index
            .get(client)
            .and_then(|&index| self.staged.get(index))
            .and_then(|(_, marks)| latest(marks));
        let stored = || {
            let rows = &self.clients.get(client)?.rows;
            rows.iter().rev().find_map(|row| latest(&row.marks))
        };
        staged.or_else(stored).is_some_and(|mark| mark.digest == delivery.digest)
    }

    /// Adds a mark to the transaction under way.
    pub(super) fn stage(&mut self, client: &Arc<str>, delivery: Delivery) {
        let index = match self.staged_index.get(client) {
            Some(&index) => index,
            None => {
                self.staged.push((client.clone(), Vec::new()));
                self.staged_index.insert(client.clone(), self.staged.len() - 1);
                self.staged.len() - 1
            }
        };
        if let Some((_, marks)) = self.staged.get_mut(index) {
            marks.push(Mark { id: delivery.id, digest: delivery.digest });
        }
    }

    /// Writes the transaction's marks, and deletes rows beyond the bound.
    pub(super) fn write(&self, connection: &Connection) -> Result<(), StoreError> {
        const DOING: &str = "cannot write the delivery marks";
        if !self.staged.is_empty() {
            let mut insert = connection
                .prepare_cached("INSERT INTO delivery(id, client_id, marks) VALUES (?1, ?2, ?3)")
                .doing(DOING)?;
            for (id, (client, marks)) in (self.last_row + 1..).zip(&self.staged) {
                insert.execute(params![id, &**client, encode(marks)]).doing(DOING)?;
            }
        }
        if self.expired.len() >= self.bounds.deleted_together {
            let mut delete = connection.prepare_cached("DELETE FROM delivery WHERE id = ?1").doing(DOING)?;
            for id in &self.expired {
                delete.execute([id]).doing(DOING)?;
            }
        }
        Ok(())
    }

    /// Takes over the transaction's marks: it has committed.
    pub(super) fn committed(&mut self) {
        if self.expired.len() >= self.bounds.deleted_together {
            self.expired.clear();
        }
        self.staged_index.clear();
        let staged = std::mem::take(&mut self.staged);
        for (client, marks) in staged {
            self.keep(client, self.last_row + 1, marks.into());
        }
        self.expire();
    }

    /// Forgets the transaction's marks: it was rolled back.
    pub(super) fn rolled_back(&mut self) {
        self.staged.clear();
        self.staged_index.clear();
    }

    fn keep(&mut self, client: Arc<str>, id: i64, marks: Box<[Mark]>) {
        self.last_row = self.last_row.max(id);
        self.marks += marks.len();
        let kept = self.clients.entry(client).or_default();
        kept.marks += marks.len();
        kept.rows.push_back(Row { id, marks });
        while kept.marks > self.bounds.per_client && kept.rows.len() > 1 {
            let Some(row) = kept.rows.pop_front() else { break };
            kept.marks -= row.marks.len();
            self.marks -= row.marks.len();
            self.expired.push(row.id);
        }
    }

    /// Drops the clients that were silent longest, once a bound is passed, down to seven eighths of it.
    fn expire(&mut self) {
        let Bounds { marks, clients, .. } = self.bounds;
        if self.marks <= marks && self.clients.len() <= clients {
            return;
        }
        let mut by_age: Vec<(i64, Arc<str>)> = self
            .clients
            .iter()
            .map(|(client, kept)| (kept.rows.back().map_or(0, |row| row.id), client.clone()))
            .collect();
        by_age.sort_unstable();
        for (_, client) in by_age {
            if self.marks <= marks / 8 * 7 && self.clients.len() <= clients / 8 * 7 {
                return;
            }
            if let Some(kept) = self.clients.remove(&client) {
                self.marks -= kept.marks;
                self.expired.extend(kept.rows.iter().map(|row| row.id));
            }
        }
    }
}

fn encode(marks: &[Mark]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(marks.len() * MARK_BYTES);
    for mark in marks {
        blob.extend_from_slice(&mark.id.to_le_bytes());
        blob.extend_from_slice(&mark.digest.to_le_bytes());
    }
    blob
}

fn decode(blob: &[u8]) -> Vec<Mark> {
    let (marks, _) = blob.as_chunks::<MARK_BYTES>();
    marks
        .iter()
        .map(|&[i0, i1, d0, d1, d2, d3, d4, d5, d6, d7]| Mark {
            id: u16::from_le_bytes([i0, i1]),
            digest: u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn connection() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE delivery(id INTEGER PRIMARY KEY, client_id TEXT, marks BLOB)").unwrap();
        connection
    }

    fn sent(id: u16, digest: u64) -> Delivery {
        Delivery { id, digest, dup: false }
    }

    fn again(id: u16, digest: u64) -> Delivery {
        Delivery { id, digest, dup: true }
    }

    fn commit(marks: &mut Marks, connection: &Connection, client: &Arc<str>, deliveries: &[Delivery]) {
        for &delivery in deliveries {
            marks.stage(client, delivery);
        }
        marks.write(connection).unwrap();
        marks.committed();
    }

    #[test]
    fn a_redelivery_is_known_before_and_after_commit_and_after_a_restart() {
        let connection = connection();
        let mut marks = Marks::load(&connection, Bounds::default()).unwrap();
        let client: Arc<str> = "a".into();
        marks.stage(&client, sent(1, 10));
        assert!(marks.knows(&client, again(1, 10)));
        commit(&mut marks, &connection, &client, &[]);
        assert!(marks.knows(&client, again(1, 10)));
        let marks = Marks::load(&connection, Bounds::default()).unwrap();
        assert!(marks.knows(&client, again(1, 10)));
        assert!(!marks.knows(&client, sent(1, 10)), "not marked as sent before");
        assert!(!marks.knows(&client, again(1, 11)), "another payload");
        assert!(!marks.knows(&client, again(2, 10)), "another packet id");
        assert!(!marks.knows(&"b".into(), again(1, 10)), "another client");
    }

    #[test]
    fn a_reused_packet_id_forgets_its_first_use() {
        let connection = connection();
        let mut marks = Marks::default();
        let client: Arc<str> = "a".into();
        commit(&mut marks, &connection, &client, &[sent(1, 10)]);
        commit(&mut marks, &connection, &client, &[sent(1, 20)]);
        assert!(!marks.knows(&client, again(1, 10)));
        assert!(marks.knows(&client, again(1, 20)));
    }

    #[test]
    fn a_rollback_forgets_the_marks_of_its_transaction_alone() {
        let connection = connection();
        let mut marks = Marks::default();
        let client: Arc<str> = "a".into();
        commit(&mut marks, &connection, &client, &[sent(1, 10)]);
        marks.stage(&client, sent(2, 20));
        marks.rolled_back();
        assert!(marks.knows(&client, again(1, 10)));
        assert!(!marks.knows(&client, again(2, 20)));
    }

    #[test]
    fn marks_stay_within_their_bounds_in_memory_and_on_disk() {
        let connection = connection();
        let bounds = Bounds { per_client: 4, marks: 16, clients: 8, deleted_together: 3 };
        let mut marks = Marks::load(&connection, bounds).unwrap();
        for round in 0..50u16 {
            for client in 0..20 {
                let client: Arc<str> = format!("client {client}").into();
                commit(&mut marks, &connection, &client, &[sent(round, 1), sent(round + 100, 2)]);
                assert!(marks.knows(&client, again(round, 1)), "the newest is always kept");
            }
        }
        assert!(marks.marks <= 16 && marks.clients.len() <= 8);
        let rows: i64 = connection.query_row("SELECT count(*) FROM delivery", [], |row| row.get(0)).unwrap();
        assert!(rows <= 16 + 3, "{rows} rows");
        let loaded = Marks::load(&connection, bounds).unwrap();
        assert!(loaded.marks <= 16);
    }
}
