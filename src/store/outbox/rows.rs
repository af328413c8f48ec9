//! The rows of the outbox, written within the writer's transactions.
//!
//! Owns every statement on `outbox` and `outbox_total`, the totals beside them, and what is dropped where the limits are
//! passed: the oldest rows that nobody claims. The row of the last message dropped becomes a gap marker, which has that
//! message's number and so its place in the order; where the next one dropped follows it directly, the marker moves on, so
//! that there is one for each gap. It never decides when a transaction begins or ends.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};

use super::claims::Range;
use super::{Claims, Figures, Forward, GAP_TOPIC, Gap, Outbox, OutboxChange, Waiting};
use crate::clock::{CLOCK_SET_MS, now_ms};
use crate::store::error::{Doing, StoreError};
use crate::store::job::Incoming;
use crate::store::tables::quarantine_bytes;

/// What a row is counted with beside its texts and bytes.
const ROW_BYTES: u64 = 128;
/// What a gap marker is counted with, at most.
const MARKER_BYTES_MAX: u64 = 512;
/// Bytes that an earlier hub may have sent without being told that they arrived.
const MAYBE_SENT_BYTES: u64 = 8 << 20;
/// Messages dropped in one transaction, at most: more than come in with it, and few enough that it does not take long.
const DROPPED_TOGETHER_MAX: u64 = 16_384;
/// How often the age of the rows is looked at, milliseconds.
const AGE_LOOK_INTERVAL_MS: i64 = 1_000;

const WRITING: &str = "cannot write to the outbox";
const READING: &str = "cannot read the outbox";
const DROPPING: &str = "cannot drop from the outbox";

/// What a row is counted with, bytes, as an SQL expression over it.
macro_rules! outbox_bytes {
    () => {
        "(128 + octet_length(topic) + octet_length(payload) + coalesce(octet_length(properties), 0) \
          + coalesce(octet_length(lost), 0))"
    };
}

pub(in crate::store) use outbox_bytes;

/// The statement that adds a row.
pub(in crate::store) const INSERT: &str =
    "INSERT INTO outbox(received_ms, topic, retain, payload, properties) VALUES (?1, ?2, ?3, ?4, ?5)";

/// The rows' half of the outbox, beside the connection that writes them.
#[derive(Debug)]
pub(in crate::store) struct Rows {
    shared: Arc<Outbox>,
    figures: Figures,
    /// As of the last commit.
    committed: Figures,
    /// What this transaction deletes because the upstream has it.
    sent: Vec<Range>,
    /// When the age of the rows was looked at last, Unix milliseconds.
    age_looked_ms: i64,
}

/// What went from the outbox to quarantine.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct SetAside {
    pub(in crate::store) messages: u64,
    /// What it is counted with there.
    pub(in crate::store) bytes: i64,
}

impl Rows {
    /// Reads the totals, and claims what an earlier hub may have sent. Numbers go on above the time, in microseconds so that no load
    /// runs ahead of it: the file may be an older
    /// copy that was put back, and no number that went upstream since may be given out again.
    pub(in crate::store) fn load(connection: &Connection, shared: Arc<Outbox>) -> Result<Rows, StoreError> {
        let now_ms = now_ms();
        if now_ms >= CLOCK_SET_MS {
            connection
                .execute(
                    "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'outbox' AND seq < ?1",
                    [now_ms.saturating_mul(1000)],
                )
                .doing(WRITING)?;
        }
        let figures = read_figures(connection).doing(READING)?;
        let mut claims = shared.claims();
        if !claims.knows_the_start {
            let through = last_maybe_sent(connection, shared.settings().maybe_sent).doing(READING)?;
            claims.claim_the_start(through.unwrap_or(i64::MIN));
        }
        drop(claims);
        shared.publish(figures);
        shared.wake();
        Ok(Rows { shared, figures, committed: figures, sent: Vec::new(), age_looked_ms: 0 })
    }

    /// Adds a message; returns its number.
    pub(in crate::store) fn insert(
        &mut self,
        connection: &Connection,
        insert: &mut CachedStatement<'_>,
        message: &Incoming,
        forward: &Forward,
    ) -> Result<i64, StoreError> {
        let Forward { topic, retain, properties } = forward;
        // Texts and numbers can always be written as JSON.
        let properties = properties.as_deref().and_then(|properties| serde_json::to_string(properties).ok());
        insert
            .execute(params![message.origin.received_ms, &**topic, retain, &*message.payload, properties])
            .doing(WRITING)?;
        let texts = topic.len() + message.payload.len() + properties.as_ref().map_or(0, String::len);
        self.figures.messages += 1;
        self.figures.bytes += ROW_BYTES + texts as u64;
        self.figures.newest = connection.last_insert_rowid();
        Ok(self.figures.newest)
    }

    /// Counts a row that came out of a damaged database.
    pub(in crate::store) fn salvaged(&mut self, id: i64, bytes: i64) {
        self.figures.messages += 1;
        self.figures.bytes += bytes.unsigned_abs();
        self.figures.newest = self.figures.newest.max(id);
    }

    /// Makes the changes that the bridge asks for.
    pub(in crate::store) fn apply(
        &mut self,
        connection: &Connection,
        changes: &[OutboxChange],
    ) -> Result<SetAside, StoreError> {
        let mut aside = SetAside::default();
        for change in changes {
            match change {
                &OutboxChange::Sent { lane_after, through } => {
                    let range = Range { after: lane_after, through };
                    self.delete(connection, range).doing(WRITING)?;
                    self.sent.push(range);
                }
                OutboxChange::SetAside { id, reason, detail } => {
                    if let Some(bytes) = set_aside(connection, *id, reason, detail).doing(WRITING)? {
                        aside.messages += 1;
                        aside.bytes += bytes;
                    }
                    self.delete(connection, Range { after: id.saturating_sub(1), through: *id }).doing(WRITING)?;
                }
            }
        }
        Ok(aside)
    }

    /// Tells whether rows may have to be dropped; of their age, now and then.
    pub(in crate::store) fn may_have_to_drop(&mut self, now_ms: i64) -> bool {
        let settings = self.shared.settings();
        if self.figures.bytes > settings.bytes_max {
            return true;
        }
        let looks = settings.age_max.is_some() && !(0..AGE_LOOK_INTERVAL_MS).contains(&(now_ms - self.age_looked_ms));
        if looks {
            self.age_looked_ms = now_ms;
        }
        looks && self.figures.messages > 0
    }

    /// Drops the oldest messages that nobody claims until the rest is within the limits; tells how many.
    pub(in crate::store) fn drop_beyond_limits(
        &mut self,
        connection: &Connection,
        claims: &Claims,
        now_ms: i64,
    ) -> Result<u64, StoreError> {
        let age_max = self.shared.settings().age_max;
        let dropped_before =
            age_max.map(|age| now_ms.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let mut dropped = 0;
        for mut free in claims.free() {
            while dropped < DROPPED_TOGETHER_MAX
                && let Some(run) = self.next_run(connection, free, dropped_before).doing(DROPPING)?
            {
                dropped += run.dropped;
                free.after = run.gap.last_id;
                self.replace(connection, &run).doing(DROPPING)?;
            }
            if dropped_before.is_none() && self.figures.bytes <= self.shared.settings().bytes_max {
                break;
            }
        }
        Ok(dropped)
    }

    /// Writes the totals where this transaction has changed them.
    pub(in crate::store) fn write_totals(&self, connection: &Connection) -> Result<(), StoreError> {
        let Figures { messages, bytes, .. } = self.figures;
        if (messages, bytes) == (self.committed.messages, self.committed.bytes) {
            return Ok(());
        }
        connection
            .prepare_cached("INSERT OR REPLACE INTO outbox_total(one, messages, bytes) VALUES (1, ?1, ?2)")
            .and_then(|mut update| update.execute([signed(messages), signed(bytes)]))
            .map(drop)
            .doing(WRITING)
    }

    /// Takes over the transaction's changes: it has committed.
    pub(in crate::store) fn committed(&mut self) {
        self.committed = self.figures;
        self.shared.gone(&mut self.sent);
        self.shared.publish(self.figures);
    }

    /// Forgets the transaction's changes: it was rolled back.
    pub(in crate::store) fn rolled_back(&mut self) {
        self.figures = self.committed;
        self.sent.clear();
    }

    /// Deletes the rows of a range.
    fn delete(&mut self, connection: &Connection, range: Range) -> rusqlite::Result<()> {
        let range = [range.after, range.through];
        let (messages, bytes): (i64, i64) = connection
            .prepare_cached(concat!(
                "SELECT count(*), coalesce(sum",
                outbox_bytes!(),
                ", 0) FROM outbox WHERE id > ?1 AND id <= ?2"
            ))?
            .query_row(range, |row| Ok((row.get(0)?, row.get(1)?)))?;
        if messages > 0 {
            connection.prepare_cached("DELETE FROM outbox WHERE id > ?1 AND id <= ?2")?.execute(range)?;
            self.figures.messages = self.figures.messages.saturating_sub(messages.unsigned_abs());
            self.figures.bytes = self.figures.bytes.saturating_sub(bytes.unsigned_abs());
        }
        Ok(())
    }

    /// Finds the next rows in a range that are to be dropped and follow each other; `None` where nothing has to go.
    fn next_run(&self, connection: &Connection, range: Range, before_ms: Option<i64>) -> rusqlite::Result<Option<Run>> {
        let mut select = connection.prepare_cached(concat!(
            "SELECT id, received_ms, octet_length(payload), ",
            outbox_bytes!(),
            ", lost FROM outbox WHERE id > ?1 AND id <= ?2 ORDER BY id"
        ))?;
        let mut rows = select.query([range.after, range.through])?;
        let mut found: Option<Run> = None;
        while let Some(row) = rows.next()? {
            let part = Run::of_row(row)?;
            let follows = found.as_ref().is_some_and(|run| run.gap.last_id + 1 == part.gap.first_id);
            let has_drops = found.as_ref().is_some_and(|run| run.dropped > 0);
            let has_many = found.as_ref().is_some_and(|run| run.dropped >= DROPPED_TOGETHER_MAX);
            if has_many || has_drops && !follows || part.dropped > 0 && !self.must_go(found.as_ref(), &part, before_ms)
            {
                break;
            }
            match &mut found {
                Some(run) if follows => run.append(&part),
                _ => found = Some(part),
            }
        }
        Ok(found.filter(|run| run.dropped > 0))
    }

    /// Tells whether a message has to go once those of `run` are gone.
    fn must_go(&self, run: Option<&Run>, message: &Run, before_ms: Option<i64>) -> bool {
        let gone = run.map_or(0, |run| run.cost.saturating_sub(MARKER_BYTES_MAX));
        let received_ms = message.gap.last_received_ms;
        self.figures.bytes.saturating_sub(gone) > self.shared.settings().bytes_max
            || before_ms.is_some_and(|before_ms| (CLOCK_SET_MS..before_ms).contains(&received_ms))
    }

    /// Puts one gap marker in the place of a run.
    fn replace(&mut self, connection: &Connection, run: &Run) -> rusqlite::Result<()> {
        let last = run.gap.last_id;
        let lost = serde_json::to_string(&run.gap).unwrap_or_default();
        connection.prepare_cached("DELETE FROM outbox WHERE id >= ?1 AND id < ?2")?.execute([run.first_row, last])?;
        connection
            .prepare_cached(
                "UPDATE outbox SET topic = ?2, retain = 0, payload = x'', properties = NULL, lost = ?3 WHERE id = ?1",
            )?
            .execute(params![last, GAP_TOPIC, lost])?;
        let marker = ROW_BYTES + (GAP_TOPIC.len() + lost.len()) as u64;
        self.figures.messages = (self.figures.messages + 1).saturating_sub(run.rows);
        self.figures.bytes = (self.figures.bytes + marker).saturating_sub(run.cost);
        Ok(())
    }
}

/// Rows that follow each other and become one gap marker.
#[derive(Debug)]
struct Run {
    first_row: i64,
    rows: u64,
    cost: u64,
    /// Messages among them; the others are gap markers.
    dropped: u64,
    gap: Gap,
}

impl Run {
    fn of_row(row: &Row<'_>) -> rusqlite::Result<Run> {
        let (id, received_ms): (i64, i64) = (row.get(0)?, row.get(1)?);
        let (payload, cost): (i64, i64) = (row.get(2)?, row.get(3)?);
        let lost: Option<String> = row.get(4)?;
        let here = Gap {
            messages: 1,
            bytes: payload.unsigned_abs(),
            first_id: id,
            last_id: id,
            first_received_ms: received_ms,
            last_received_ms: received_ms,
        };
        let dropped = u64::from(lost.is_none());
        let gap = lost.map_or(here, |lost| Gap { last_id: id, ..gap_of(&lost).unwrap_or(Gap { messages: 0, ..here }) });
        Ok(Run { first_row: id, rows: 1, cost: cost.unsigned_abs(), dropped, gap })
    }

    fn append(&mut self, next: &Run) {
        self.rows += next.rows;
        self.cost += next.cost;
        self.dropped += next.dropped;
        self.gap.messages += next.gap.messages;
        self.gap.bytes += next.gap.bytes;
        self.gap.last_id = next.gap.last_id;
        self.gap.last_received_ms = next.gap.last_received_ms;
    }
}

/// Reads the rows of a range, at most this many, and, beyond the first, at most this many bytes.
pub(in crate::store) fn read(
    connection: &Connection,
    range: Range,
    rows_max: usize,
    bytes_max: usize,
) -> Result<Vec<Waiting>, StoreError> {
    let read = || -> rusqlite::Result<Vec<Waiting>> {
        let mut select = connection.prepare_cached(
            "SELECT id, received_ms, topic, retain, payload, properties, lost FROM outbox
             WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3",
        )?;
        let limit = i64::try_from(rows_max).unwrap_or(i64::MAX);
        let mut rows = select.query([range.after, range.through, limit])?;
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            bytes += ROW_BYTES as usize + row.get_ref(4)?.as_blob().map_or(0, <[u8]>::len);
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            let json = |column| row.get::<_, Option<String>>(column);
            found.push(Waiting {
                id: row.get(0)?,
                received_ms: row.get(1)?,
                topic: row.get(2)?,
                retain: row.get(3)?,
                payload: row.get(4)?,
                properties: json(5)?.and_then(|text| serde_json::from_str(&text).ok()),
                gap: json(6)?.and_then(|text| gap_of(&text)),
            });
        }
        Ok(found)
    };
    read().doing(READING)
}

/// Returns when the oldest row was received, Unix milliseconds.
pub(in crate::store) fn oldest_ms(connection: &Connection) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT received_ms FROM outbox ORDER BY id LIMIT 1")
        .and_then(|mut select| select.query_map([], |row| row.get(0))?.next().transpose())
        .doing(READING)
}

fn read_figures(connection: &Connection) -> rusqlite::Result<Figures> {
    connection.query_row(
        concat!(
            "SELECT coalesce((SELECT messages FROM outbox_total), (SELECT count(*) FROM outbox)),
               coalesce((SELECT bytes FROM outbox_total), (SELECT sum",
            outbox_bytes!(),
            " FROM outbox), 0),
               (SELECT seq FROM sqlite_sequence WHERE name = 'outbox')"
        ),
        [],
        |row| {
            let (messages, bytes): (i64, i64) = (row.get(0)?, row.get(1)?);
            let newest: Option<i64> = row.get(2)?;
            Ok(Figures {
                messages: messages.unsigned_abs(),
                bytes: bytes.unsigned_abs(),
                newest: newest.unwrap_or_default(),
            })
        },
    )
}

/// Finds the last of the rows that may have been in flight when an earlier hub ended.
fn last_maybe_sent(connection: &Connection, rows_max: usize) -> rusqlite::Result<Option<i64>> {
    let mut select =
        connection.prepare(concat!("SELECT id, ", outbox_bytes!(), " FROM outbox ORDER BY id LIMIT ?1"))?;
    let mut rows = select.query([i64::try_from(rows_max).unwrap_or(i64::MAX)])?;
    let (mut last, mut bytes) = (None, 0);
    while let Some(row) = rows.next()? {
        last = Some(row.get(0)?);
        bytes += row.get::<_, i64>(1)?.unsigned_abs();
        if bytes > MAYBE_SENT_BYTES {
            break;
        }
    }
    Ok(last)
}

/// Copies a message to quarantine; tells what it is counted with there. `None` where it is a gap marker, or gone.
fn set_aside(connection: &Connection, id: i64, reason: &str, detail: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached(concat!(
            "INSERT INTO quarantine(received_ms, topic, client_id, qos, reason, detail, payload)
             SELECT received_ms, topic, '', 1, ?2, ?3, payload FROM outbox WHERE id = ?1 AND lost IS NULL
             RETURNING ",
            quarantine_bytes!()
        ))?
        .query_map(params![id, reason, detail], |row| row.get(0))?
        .next()
        .transpose()
}

fn gap_of(text: &str) -> Option<Gap> {
    serde_json::from_str(text).ok()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
