//! Reading the database beside the writer.
//!
//! Owns read-only connections: they cannot write, and in WAL they neither wait for the writer nor make it wait.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};
use serde::Serialize;

use super::alerts::{self, KeptAlerts};
use super::error::{Class, Doing, StoreError};
use super::gaps::{self, GapQuery, GapReport};
use super::heartbeat::Learnt;
use super::journal::{self, Event};
use super::kept::{self, Kept};
use super::ledger::{self, Counted, Readings};
use super::outbox::{Lane, Outbox, Waiting, rows};
use super::salvaged;
use super::untimed::{self, SetRight};
use crate::place::resolved;

/// A message in the quarantine.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub struct Quarantined {
    /// Its number.
    pub id: i64,
    /// When the hub received it, Unix milliseconds.
    pub received_ms: i64,
    /// The topic it came on.
    pub topic: String,
    /// The client that sent it.
    pub client_id: String,
    /// The QoS it was sent with.
    pub qos: u8,
    /// Why it is no reading.
    pub reason: String,
    /// Where, and what was found.
    pub detail: String,
    /// Its payload where that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// Its payload in hexadecimal where it is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_hex: Option<String>,
}

/// A message in the quarantine, with its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Its number.
    pub id: i64,
    /// When the hub received it, Unix milliseconds.
    pub received_ms: i64,
    /// The topic it came on.
    pub topic: String,
    /// The client that sent it.
    pub client_id: String,
    /// The QoS it was sent with.
    pub qos: u8,
    /// Why it is no reading.
    pub reason: String,
    /// Where, and what was found.
    pub detail: String,
    /// Its bytes.
    pub payload: Vec<u8>,
}

/// A read-only connection.
#[derive(Debug)]
pub struct Reader {
    pub(super) connection: Connection,
}

impl Reader {
    /// Opens the database for reading alone.
    ///
    /// # Errors
    /// SQLite's.
    pub fn open(path: &Path) -> Result<Reader, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).doing("cannot open the database for reading")?;
        connection.busy_timeout(Duration::from_secs(1)).doing("cannot set the busy timeout")?;
        Ok(Reader { connection })
    }

    /// Reads one page, to see that reading works.
    ///
    /// # Errors
    /// SQLite's.
    pub fn probe(&self) -> Result<(), StoreError> {
        self.connection
            .query_row("SELECT id FROM weather_data ORDER BY id DESC LIMIT 1", [], |_| Ok(()))
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                other => Err(other),
            })
            .doing("cannot read the database")
    }

    /// Reads what the broker keeps over a restart.
    ///
    /// # Errors
    /// SQLite's.
    pub fn kept(&self) -> Result<Kept, StoreError> {
        kept::load(&self.connection)
    }

    /// Reads what is kept of alerts.
    ///
    /// # Errors
    /// SQLite's.
    pub fn alerts(&self) -> Result<KeptAlerts, StoreError> {
        alerts::load(&self.connection)
    }

    /// Reads what waits for the upstream in a lane above `after`, at most `rows_max` messages and, beyond the first,
    /// `bytes_max` bytes, and claims it. While it is in doubt whether rows were dropped, there is nothing to read;
    /// [`Outbox::changed`] tells when that is over.
    ///
    /// # Errors
    /// SQLite's.
    pub fn outbox(
        &self,
        outbox: &Outbox,
        lane: Lane,
        after: i64,
        rows_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<Waiting>, StoreError> {
        let mut claims = outbox.claims();
        if outbox.is_in_doubt() {
            return Ok(Vec::new());
        }
        let found =
            rows::read(&self.connection, claims.range(lane, after), rows_max, bytes_max).inspect_err(|error| {
                if error.class() == Class::Corrupt {
                    outbox.note_damage();
                }
            })?;
        if let Some(last) = found.last() {
            claims.claim(lane, last.id);
        }
        Ok(found)
    }

    /// Returns when the oldest message that waits for the upstream was received, Unix milliseconds.
    ///
    /// # Errors
    /// SQLite's.
    pub fn outbox_oldest_ms(&self) -> Result<Option<i64>, StoreError> {
        rows::oldest_ms(&self.connection)
    }

    /// Returns the sources whose rhythm was learnt, and the usual time between their readings.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rhythms(&self) -> Result<Vec<Learnt>, StoreError> {
        const DOING: &str = "cannot read the sources' rhythms";
        let mut statement = self
            .connection
            .prepare("SELECT topic, rhythm_ms FROM source WHERE rhythm_ms > 0 ORDER BY id LIMIT 4096")
            .doing(DOING)?;
        let rows = statement
            .query_map([], |row| {
                let usual_ms: i64 = row.get(1)?;
                Ok((row.get::<_, String>(0)?.into(), Duration::from_millis(usual_ms.unsigned_abs())))
            })
            .doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }

    /// Tells whether rows of a damaged database are still to come into this one.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_salvaging(&self, database: &Path) -> Result<bool, StoreError> {
        salvaged::unfinished(&self.connection, &resolved(database)).map(|files| !files.is_empty())
    }

    /// Lists the newest `limit` events, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn events(&self, limit: u32) -> Result<Vec<Event>, StoreError> {
        journal::list(&self.connection, limit)
    }

    /// Adds up at most `rows_max` readings of a table that are not counted yet.
    ///
    /// # Errors
    /// SQLite's.
    pub fn count(&self, readings: Readings, rows_max: i64) -> Result<Counted, StoreError> {
        ledger::count(&self.connection, readings, rows_max)
    }

    /// Returns the next step in which times of receipt are set right; `None` where there is none. `offset_ms` is how far
    /// the wall clock, which is right, is ahead of the time since the boot; `skew_ms_max` is how far a sensor's may be from
    /// it without a mark.
    ///
    /// # Errors
    /// SQLite's.
    pub fn untimed(&self, offset_ms: i64, skew_ms_max: i64) -> Result<Option<SetRight>, StoreError> {
        untimed::next(&self.connection, offset_ms, skew_ms_max)
    }

    /// Finds which readings are missing, and why.
    ///
    /// # Errors
    /// SQLite's.
    pub fn gaps(&self, query: &GapQuery) -> Result<GapReport, StoreError> {
        gaps::report(&self.connection, query)
    }

    /// Tells whether there is an event.
    ///
    /// # Errors
    /// SQLite's.
    pub fn has_event(&self, id: i64) -> Result<bool, StoreError> {
        journal::has(&self.connection, id)
    }

    /// Returns the numbers of at most `limit` messages of the quarantine above `after`, in their order.
    ///
    /// # Errors
    /// SQLite's.
    pub fn quarantine_ids(&self, after: i64, limit: u32) -> Result<Vec<i64>, StoreError> {
        const DOING: &str = "cannot read the quarantine";
        let sql = "SELECT id FROM quarantine WHERE id > ?1 ORDER BY id LIMIT ?2";
        let mut statement = self.connection.prepare(sql).doing(DOING)?;
        let rows = statement.query_map((after, limit), |row| row.get(0)).doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }

    /// Reads one message of the quarantine; `None` where it is not there.
    ///
    /// # Errors
    /// SQLite's.
    pub fn quarantine_message(&self, id: i64) -> Result<Option<RawMessage>, StoreError> {
        self.connection
            .query_row(
                "SELECT received_ms, topic, client_id, qos, reason, detail, payload FROM quarantine WHERE id = ?1",
                [id],
                |row| {
                    Ok(RawMessage {
                        id,
                        received_ms: row.get(0)?,
                        topic: row.get(1)?,
                        client_id: row.get(2)?,
                        qos: row.get(3)?,
                        reason: row.get(4)?,
                        detail: row.get(5)?,
                        payload: row.get(6)?,
                    })
                },
            )
            .optional()
            .doing("cannot read the quarantine")
    }

    /// Lists the newest `limit` messages of the quarantine, newest first.
    ///
    /// # Errors
    /// SQLite's.
    pub fn quarantine(&self, limit: u32) -> Result<Vec<Quarantined>, StoreError> {
        const DOING: &str = "cannot read the quarantine";
        let mut statement = self
            .connection
            .prepare(
                "SELECT id, received_ms, topic, client_id, qos, reason, detail, payload
                 FROM quarantine ORDER BY id DESC LIMIT ?1",
            )
            .doing(DOING)?;
        let rows = statement
            .query_map([limit], |row| {
                let (payload, payload_hex) = match String::from_utf8(row.get(7)?) {
                    Ok(text) => (Some(text), None),
                    Err(bytes) => (None, Some(hex(bytes.as_bytes()))),
                };
                Ok(Quarantined {
                    id: row.get(0)?,
                    received_ms: row.get(1)?,
                    topic: row.get(2)?,
                    client_id: row.get(3)?,
                    qos: row.get(4)?,
                    reason: row.get(5)?,
                    detail: row.get(6)?,
                    payload,
                    payload_hex,
                })
            })
            .doing(DOING)?;
        rows.collect::<Result<_, _>>().doing(DOING)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}

impl Quarantined {
    /// Returns the message in one line for a person: when, where, who, why, and how it begins.
    pub fn in_words(&self) -> String {
        let received = jiff::Timestamp::from_millisecond(self.received_ms).unwrap_or_default();
        let payload = self.payload.as_deref().or(self.payload_hex.as_deref()).unwrap_or_default();
        let beginning: String = payload.chars().take(60).collect();
        let more = if payload.chars().nth(60).is_some() { "…" } else { "" };
        format!(
            "{}  {}  {}  from {}  {}: {}  {}{more}",
            self.id,
            received.strftime("%Y-%m-%dT%H:%M:%SZ"),
            self.topic.escape_debug(),
            self.client_id.escape_debug(),
            self.reason,
            self.detail,
            beginning.escape_debug(),
        )
    }
}
