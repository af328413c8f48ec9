//! What the broker keeps over a restart: retained messages, sessions, and the messages that wait for their clients.
//!
//! Owns their rows: changes are applied in the writer's transactions, and all of it is read once, at the start. It never
//! looks into a message or a session: to the store, one is a packet in bytes and the other a text, which the broker
//! writes and reads.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};

use super::error::{Doing, StoreError};

/// A message as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptMessage {
    /// The client that published it.
    pub publisher: Arc<str>,
    /// When it expires, Unix milliseconds.
    pub expires_ms: Option<i64>,
    /// The packet that carries it.
    pub packet: Vec<u8>,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A topic's retained message is another, or, with `None`, gone.
    Retain {
        /// The topic.
        topic: Box<str>,
        /// The message.
        message: Option<KeptMessage>,
    },
    /// A session is new or another.
    Session {
        /// The client's id.
        client: Arc<str>,
        /// How long the session is kept without its client, seconds.
        expiry_s: i64,
        /// Since when the client is away, Unix milliseconds; `None` while it is connected.
        away_since_ms: Option<i64>,
        /// All else that there is to know, in the broker's own words.
        state: String,
    },
    /// A session has ended; the messages that waited for it go with it.
    Forget {
        /// The client's id.
        client: Arc<str>,
    },
    /// A message waits for a client.
    Add {
        /// The client's id.
        client: Arc<str>,
        /// The message's number in its session; a message comes after those with lower ones.
        number: u64,
        /// The message.
        message: KeptMessage,
    },
    /// Messages wait no more.
    Remove {
        /// The client's id.
        client: Arc<str>,
        /// Their numbers.
        numbers: Vec<u64>,
    },
}

/// All that is kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Topics and their retained messages.
    pub retained: Vec<(String, KeptMessage)>,
    /// Sessions.
    pub sessions: Vec<KeptSession>,
}

/// A session as its rows hold it.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptSession {
    /// The client's id.
    pub client: Arc<str>,
    /// As in [`Change::Session`].
    pub expiry_s: i64,
    /// As in [`Change::Session`].
    pub away_since_ms: Option<i64>,
    /// As in [`Change::Session`].
    pub state: String,
    /// Its messages with their numbers, in their order.
    pub messages: Vec<(u64, KeptMessage)>,
}

impl Change {
    /// Returns about how many bytes the change occupies.
    pub fn bytes(&self) -> usize {
        let rest = match self {
            Change::Retain { topic, message } => topic.len() + message.as_ref().map_or(0, KeptMessage::bytes),
            Change::Session { client, state, .. } => client.len() + state.len(),
            Change::Forget { client } => client.len(),
            Change::Add { client, message, .. } => client.len() + message.bytes(),
            Change::Remove { client, numbers } => client.len() + size_of_val(&**numbers),
        };
        size_of::<Change>() + rest
    }
}

impl KeptMessage {
    fn bytes(&self) -> usize {
        self.publisher.len() + self.packet.len()
    }

    fn of_row(row: &Row<'_>, first: usize) -> rusqlite::Result<KeptMessage> {
        Ok(KeptMessage {
            publisher: row.get::<_, String>(first)?.into(),
            expires_ms: row.get(first + 1)?,
            packet: row.get(first + 2)?,
        })
    }
}

/// Applies changes in their order, within the transaction that is open.
pub(super) fn apply(connection: &Connection, changes: &[Change]) -> Result<(), StoreError> {
    let run = |sql: &str, run: &dyn Fn(&mut CachedStatement<'_>) -> rusqlite::Result<usize>| {
        connection.prepare_cached(sql).and_then(|mut statement| run(&mut statement)).map(drop)
    };
    for change in changes {
        match change {
            Change::Retain { topic, message: Some(message) } => run(
                "INSERT INTO retained(topic, publisher, expires_ms, packet) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(topic) DO UPDATE SET publisher = ?2, expires_ms = ?3, packet = ?4",
                &|sql| sql.execute(params![topic, &*message.publisher, message.expires_ms, message.packet]),
            ),
            Change::Retain { topic, message: None } => {
                run("DELETE FROM retained WHERE topic = ?1", &|sql| sql.execute([topic]))
            }
            Change::Session { client, expiry_s, away_since_ms, state } => run(
                "INSERT INTO session(client_id, expiry_s, away_since_ms, state) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT(client_id) DO UPDATE SET expiry_s = ?2, away_since_ms = ?3, state = ?4",
                &|sql| sql.execute(params![&**client, expiry_s, away_since_ms, state]),
            ),
            Change::Forget { client } => {
                run("DELETE FROM session_message WHERE client_id = ?1", &|sql| sql.execute([&**client]))
                    .and_then(|()| run("DELETE FROM session WHERE client_id = ?1", &|sql| sql.execute([&**client])))
            }
            Change::Add { client, number, message } => run(
                "INSERT OR REPLACE INTO session_message(client_id, number, publisher, expires_ms, packet)
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                &|sql| {
                    let KeptMessage { publisher, expires_ms, packet } = message;
                    sql.execute(params![&**client, signed(*number), &**publisher, expires_ms, packet])
                },
            ),
            Change::Remove { client, numbers } => numbers.iter().try_for_each(|number| {
                run("DELETE FROM session_message WHERE client_id = ?1 AND number = ?2", &|sql| {
                    sql.execute(params![&**client, signed(*number)])
                })
            }),
        }
        .doing("cannot keep the broker's state")?;
    }
    Ok(())
}

/// Reads all that is kept.
pub(super) fn load(connection: &Connection) -> Result<Kept, StoreError> {
    let read = || -> rusqlite::Result<Kept> {
        let retained = connection
            .prepare("SELECT topic, publisher, expires_ms, packet FROM retained")?
            .query_map([], |row| Ok((row.get(0)?, KeptMessage::of_row(row, 1)?)))?
            .collect::<Result<_, _>>()?;
        let mut messages = connection.prepare(
            "SELECT number, publisher, expires_ms, packet FROM session_message WHERE client_id = ?1 ORDER BY number",
        )?;
        let sessions = connection
            .prepare("SELECT client_id, expiry_s, away_since_ms, state FROM session")?
            .query_map([], |row| {
                let client: String = row.get(0)?;
                let messages = messages
                    .query_map([&client], |row| {
                        Ok((row.get::<_, i64>(0)?.unsigned_abs(), KeptMessage::of_row(row, 1)?))
                    })?
                    .collect::<Result<_, _>>()?;
                Ok(KeptSession {
                    client: client.into(),
                    expiry_s: row.get(1)?,
                    away_since_ms: row.get(2)?,
                    state: row.get(3)?,
                    messages,
                })
            })?
            .collect::<Result<_, _>>()?;
        Ok(Kept { retained, sessions })
    };
    read().doing("cannot read the retained messages and sessions")
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;

    fn message(text: &str) -> KeptMessage {
        KeptMessage { publisher: "p".into(), expires_ms: Some(7), packet: text.as_bytes().to_vec() }
    }

    fn add(client: &str, number: u64) -> Change {
        Change::Add { client: client.into(), number, message: message(&number.to_string()) }
    }

    fn session(client: &str, away_since_ms: Option<i64>) -> Change {
        Change::Session { client: client.into(), expiry_s: 60, away_since_ms, state: "{}".to_owned() }
    }

    #[test]
    fn what_is_kept_is_read_back_as_the_last_changes_left_it() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let retain = |topic: &str, message| Change::Retain { topic: topic.into(), message };
        let changes = [
            retain("a", Some(message("1"))),
            retain("a", Some(message("2"))),
            retain("b", Some(message("3"))),
            retain("b", None),
            session("gone", None),
            add("gone", 1),
            session("here", None),
            add("here", 10),
            add("here", 9),
            add("here", 11),
            Change::Remove { client: "here".into(), numbers: vec![10] },
            session("here", Some(5)),
            Change::Forget { client: "gone".into() },
        ];
        apply(&connection, &changes).unwrap();
        let kept = load(&connection).unwrap();
        assert_eq!(kept.retained, [("a".to_owned(), message("2"))]);
        let [here] = &kept.sessions[..] else { panic!("{kept:?}") };
        assert_eq!((&*here.client, here.expiry_s, here.away_since_ms), ("here", 60, Some(5)));
        assert_eq!(here.messages, [(9, message("9")), (11, message("11"))]);
    }
}
