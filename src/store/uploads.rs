//! Up to which time each weather network has taken the weather.
//!
//! Owns the table `upload`, a row for each network by the name that the owner gave it. It never sends anything, and never
//! decides what is sent next. A change can be applied twice and makes no difference then.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

use super::error::{Doing, StoreError};
use super::reader::Reader;

const SET: &str =
    "INSERT INTO upload(name, sent_s) VALUES (?1, ?2) ON CONFLICT(name) DO UPDATE SET sent_s = excluded.sent_s";
const SENT: &str = "SELECT sent_s FROM upload WHERE name = ?1";

/// Notes that a network has taken the weather up to a time.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The network's name.
    pub name: Arc<str>,
    /// The time, Unix seconds.
    pub sent_s: i64,
}

impl Sent {
    pub(super) fn bytes(&self) -> usize {
        self.name.len()
    }
}

/// Makes a change in the transaction that is open.
pub(super) fn apply(connection: &Connection, sent: &Sent) -> Result<(), StoreError> {
    connection
        .prepare_cached(SET)
        .and_then(|mut set| set.execute((&*sent.name, sent.sent_s)))
        .map(drop)
        .doing("cannot note what a weather network has taken")
}

impl Reader {
    /// Returns up to which time a network has taken the weather, Unix seconds; `None` where nothing is known of it.
    ///
    /// # Errors
    /// SQLite's.
    pub fn upload_sent_s(&self, name: &str) -> Result<Option<i64>, StoreError> {
        let found = self.connection.query_row(SENT, [name], |row| row.get(0)).optional();
        found.doing("cannot read what a weather network has taken")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::schema;
    use super::*;
    use crate::config::Synchronous;

    #[test]
    fn the_last_note_of_each_network_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.db");
        let connection = schema::open(&path, Synchronous::Full, true).unwrap();
        for (name, sent_s) in [("windy", 300), ("wunderground", 60), ("windy", 600), ("windy", 600)] {
            apply(&connection, &Sent { name: name.into(), sent_s }).unwrap();
        }
        let reader = Reader::open(&path).unwrap();
        let sent = ["windy", "wunderground", "cwop"].map(|name| reader.upload_sent_s(name).unwrap());
        assert_eq!(sent, [Some(600), Some(60), None]);
    }
}
