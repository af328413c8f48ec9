//! What is kept of alerts over a restart: episodes, from the beginning of a fault to its end, and who was told.
//!
//! Owns their rows: changes are applied in the writer's transactions, and what is still open is read once, at the start. It
//! never decides what is an alert, and never sends one. Every change can be applied twice and makes no difference then.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};

use super::error::{Doing, StoreError};
use super::schema;
use crate::clock::now_ms;
use crate::config::Synchronous;
use crate::config::alerts::Severity;

/// Episodes that are kept; those that have ended go first.
const EPISODES_MAX: i64 = 1_000;
/// Ended episodes that are read at the start, to be listed.
const ENDED_READ: i64 = 50;
/// Notices that are read at the start.
const NOTICES_READ: i64 = 20_000;

/// An episode of a rule, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    /// Its number, above those of all earlier ones.
    pub id: i64,
    /// The rule's name.
    pub rule: Arc<str>,
    /// The check or the source that it is about.
    pub subject: Arc<str>,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong.
    pub text: String,
    /// When it began to be told, Unix milliseconds.
    pub fired_ms: i64,
    /// When it ended, Unix milliseconds.
    pub resolved_ms: Option<i64>,
    /// When somebody acknowledged it, Unix milliseconds.
    pub acknowledged_ms: Option<i64>,
    /// How often it was repeated.
    pub repeats: u32,
    /// When it was told last, Unix milliseconds.
    pub told_ms: i64,
}

/// One thing to tell of an episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The episode's number.
    pub episode: i64,
    /// `firing`, `repeat N` or `resolved`.
    pub what: String,
    /// The rule's name.
    pub rule: Arc<str>,
    /// The check or the source that it is about.
    pub subject: Arc<str>,
    /// How much it matters.
    pub severity: Severity,
    /// What is said, in one line.
    pub text: String,
    /// When it was made, Unix milliseconds.
    pub made_ms: i64,
}

/// A change of what is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertChange {
    /// An episode is new or another.
    Episode(Episode),
    /// Channels are to tell something.
    Notice {
        /// What.
        notice: Notice,
        /// The channels' names.
        channels: Vec<Arc<str>>,
    },
    /// A channel is done with a notice.
    Done {
        /// The notice's episode.
        episode: i64,
        /// Which of its notices.
        what: String,
        /// The channel's name.
        channel: Arc<str>,
        /// When, Unix milliseconds.
        done_ms: i64,
        /// `sent`, or why it will never be.
        outcome: &'static str,
    },
}

/// All that a start needs to know.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeptAlerts {
    /// Episodes that have not ended, and the last of those that have, oldest first.
    pub episodes: Vec<Episode>,
    /// What channels are still to tell, oldest first.
    pub notices: Vec<(Arc<str>, Notice)>,
    /// The channels that tell of episodes which have not ended, with the numbers of these.
    pub tellers: Vec<(i64, Arc<str>)>,
}

impl AlertChange {
    /// Returns about how many bytes the change occupies.
    pub fn bytes(&self) -> usize {
        let rest = match self {
            AlertChange::Episode(episode) => episode.rule.len() + episode.subject.len() + episode.text.len(),
            AlertChange::Notice { notice, channels } => {
                notice.rule.len() + notice.subject.len() + notice.text.len() + size_of_val(&**channels)
            }
            AlertChange::Done { what, channel, .. } => what.len() + channel.len(),
        };
        size_of::<AlertChange>() + rest
    }
}

/// Applies changes in their order, within the transaction that is open.
pub(super) fn apply(connection: &Connection, changes: &[AlertChange]) -> Result<(), StoreError> {
    let run = |sql: &str, run: &dyn Fn(&mut CachedStatement<'_>) -> rusqlite::Result<usize>| {
        connection.prepare_cached(sql).and_then(|mut statement| run(&mut statement)).map(drop)
    };
    for change in changes {
        match change {
            AlertChange::Episode(episode) => keep(connection, episode),
            AlertChange::Notice { notice, channels } => channels.iter().try_for_each(|channel| {
                run(
                    "INSERT OR IGNORE INTO alert_notice(episode, what, channel, severity, text, made_ms)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    &|sql| {
                        let Notice { episode, what, severity, text, made_ms, .. } = notice;
                        sql.execute(params![episode, what, &**channel, severity.name(), text, made_ms])
                    },
                )
            }),
            AlertChange::Done { episode, what, channel, done_ms, outcome } => run(
                "UPDATE alert_notice SET done_ms = ?4, outcome = ?5 WHERE episode = ?1 AND what = ?2 AND channel = ?3",
                &|sql| sql.execute(params![episode, what, &**channel, done_ms, outcome]),
            ),
        }
        .doing("cannot keep an alert")?;
    }
    Ok(())
}

fn keep(connection: &Connection, episode: &Episode) -> rusqlite::Result<()> {
    let Episode { id, rule, subject, severity, text, fired_ms, resolved_ms, acknowledged_ms, repeats, told_ms } =
        episode;
    connection
        .prepare_cached(
            "INSERT INTO alert_episode(id, rule, subject, severity, text, fired_ms, resolved_ms, acknowledged_ms,
               repeats, told_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
             ON CONFLICT(id) DO UPDATE SET severity = ?4, text = ?5, resolved_ms = ?7, acknowledged_ms = ?8,
               repeats = ?9, told_ms = ?10",
        )?
        .execute(params![
            id,
            &**rule,
            &**subject,
            severity.name(),
            text,
            fired_ms,
            resolved_ms,
            acknowledged_ms,
            repeats,
            told_ms
        ])?;
    if resolved_ms.is_some() {
        for sql in [
            "DELETE FROM alert_episode WHERE resolved_ms IS NOT NULL
             AND id NOT IN (SELECT episode FROM alert_notice WHERE done_ms IS NULL)
             AND id <= (SELECT id FROM alert_episode ORDER BY id DESC LIMIT 1 OFFSET ?1)",
            "DELETE FROM alert_notice WHERE ?1 > 0 AND episode NOT IN (SELECT id FROM alert_episode)",
        ] {
            connection.prepare_cached(sql)?.execute([EPISODES_MAX])?;
        }
    }
    Ok(())
}

/// Notes, in a database that no hub has open, that somebody knows of what a rule tells; returns of how many subjects it tells.
///
/// # Errors
/// SQLite's.
pub fn acknowledge(path: &Path, rule: &str) -> Result<usize, StoreError> {
    let connection = schema::open(path, Synchronous::Full, false)?;
    connection
        .execute(
            "UPDATE alert_episode SET acknowledged_ms = coalesce(acknowledged_ms, ?2)
             WHERE rule = ?1 AND resolved_ms IS NULL",
            params![rule, now_ms()],
        )
        .doing("cannot acknowledge an alert")
}

/// Reads what is still open.
pub(super) fn load(connection: &Connection) -> Result<KeptAlerts, StoreError> {
    let severity_of = |row: &Row<'_>, column: usize| -> rusqlite::Result<Severity> {
        Ok(Severity::of_name(&row.get::<_, String>(column)?).unwrap_or(Severity::Warning))
    };
    let read = || -> rusqlite::Result<KeptAlerts> {
        let mut episodes = connection
            .prepare(
                "SELECT id, rule, subject, severity, text, fired_ms, resolved_ms, acknowledged_ms, repeats, told_ms
                 FROM alert_episode WHERE resolved_ms IS NULL
                 UNION ALL SELECT * FROM (SELECT id, rule, subject, severity, text, fired_ms, resolved_ms,
                   acknowledged_ms, repeats, told_ms
                 FROM alert_episode WHERE resolved_ms IS NOT NULL ORDER BY id DESC LIMIT ?1)",
            )?
            .query_map([ENDED_READ], |row| {
                Ok(Episode {
                    id: row.get(0)?,
                    rule: row.get::<_, String>(1)?.into(),
                    subject: row.get::<_, String>(2)?.into(),
                    severity: severity_of(row, 3)?,
                    text: row.get(4)?,
                    fired_ms: row.get(5)?,
                    resolved_ms: row.get(6)?,
                    acknowledged_ms: row.get(7)?,
                    repeats: row.get(8)?,
                    told_ms: row.get(9)?,
                })
            })?
            .collect::<Result<Vec<_>, _>>()?;
        episodes.sort_by_key(|episode| episode.id);
        let notices = connection
            .prepare(
                "SELECT channel, episode, what, rule, subject, n.severity, n.text, made_ms
                 FROM alert_notice n JOIN alert_episode e ON e.id = n.episode
                 WHERE done_ms IS NULL ORDER BY n.rowid LIMIT ?1",
            )?
            .query_map([NOTICES_READ], |row| {
                let notice = Notice {
                    episode: row.get(1)?,
                    what: row.get(2)?,
                    rule: row.get::<_, String>(3)?.into(),
                    subject: row.get::<_, String>(4)?.into(),
                    severity: severity_of(row, 5)?,
                    text: row.get(6)?,
                    made_ms: row.get(7)?,
                };
                Ok((row.get::<_, String>(0)?.into(), notice))
            })?
            .collect::<Result<_, _>>()?;
        let tellers = connection
            .prepare(
                "SELECT DISTINCT episode, channel FROM alert_notice
                 WHERE episode IN (SELECT id FROM alert_episode WHERE resolved_ms IS NULL)",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?.into())))?
            .collect::<Result<_, _>>()?;
        Ok(KeptAlerts { episodes, notices, tellers })
    };
    read().doing("cannot read the alerts")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn episode(id: i64, resolved_ms: Option<i64>) -> Episode {
        Episode {
            id,
            rule: "frost".into(),
            subject: "garden".into(),
            severity: Severity::Warning,
            text: "cold".to_owned(),
            fired_ms: 5,
            resolved_ms,
            acknowledged_ms: None,
            repeats: 0,
            told_ms: 5,
        }
    }

    fn notice(episode: i64, what: &str) -> Notice {
        Notice {
            episode,
            what: what.to_owned(),
            rule: "frost".into(),
            subject: "garden".into(),
            severity: Severity::Warning,
            text: "cold".to_owned(),
            made_ms: 5,
        }
    }

    #[test]
    fn what_was_sent_is_not_read_back_and_what_was_not_is_however_often_it_was_noted() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let tell =
            |what: &str| AlertChange::Notice { notice: notice(7, what), channels: vec!["mail".into(), "log".into()] };
        let done = AlertChange::Done {
            episode: 7,
            what: "firing".to_owned(),
            channel: "mail".into(),
            done_ms: 9,
            outcome: "sent",
        };
        apply(&connection, &[AlertChange::Episode(episode(7, None)), tell("firing"), done]).unwrap();
        apply(&connection, &[tell("firing"), AlertChange::Episode(episode(7, Some(9))), tell("resolved")]).unwrap();
        let kept = load(&connection).unwrap();
        assert_eq!(kept.episodes, [episode(7, Some(9))]);
        let open: Vec<(&str, &str)> =
            kept.notices.iter().map(|(channel, notice)| (&**channel, notice.what.as_str())).collect();
        assert_eq!(open, [("log", "firing"), ("mail", "resolved"), ("log", "resolved")]);
    }

    #[test]
    fn ended_episodes_beyond_the_bound_go_and_open_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let open = [AlertChange::Episode(episode(1, None))];
        let ended = (2..EPISODES_MAX + 50).map(|id| AlertChange::Episode(episode(id, Some(id))));
        apply(&connection, &open.into_iter().chain(ended).collect::<Vec<_>>()).unwrap();
        let count = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
        assert_eq!(count("SELECT count(*) FROM alert_episode"), EPISODES_MAX + 1);
        assert_eq!(count("SELECT min(id) FROM alert_episode"), 1);
        assert_eq!(load(&connection).unwrap().episodes.len(), ENDED_READ as usize + 1);
    }
}
