//! `stationhub doctor`: everything that the hub needs, looked at from outside, a line each.
//!
//! Owns what is looked at and what to do where it is not well. It changes nothing: what it makes to try a backup, it removes.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use serde_json::Value;

use super::backup::{make, pace};
use super::progress::{Progress, Unit};
use super::whole::Replace;
use crate::broker::auth::Auth;
use crate::config::Config;
use crate::health;
use crate::http;
use crate::http::client::{ClientError, Colours};
use crate::lock::{self, LockError};
use crate::place::{beside, directory, resolved};
use crate::store::StoreError;
use crate::store::backup::{self, Copying, Holds};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Well.
    Ok,
    /// Not known, or not to be tried now.
    Unknown,
    /// Not well.
    Failing,
}

/// What was found of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    what: &'static str,
    verdict: Verdict,
    words: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, words: impl Into<String>) -> Finding {
        Finding { what, verdict, words: words.into() }
    }

    fn ok(what: &'static str, words: impl Into<String>) -> Finding {
        Finding::new(what, Verdict::Ok, words)
    }

    fn failing(what: &'static str, words: impl Into<String>) -> Finding {
        Finding::new(what, Verdict::Failing, words)
    }

    /// Tells whether something is to be done.
    pub fn is_failing(&self) -> bool {
        self.verdict == Verdict::Failing
    }

    /// Returns it in one line.
    pub fn in_words(&self, colours: Colours) -> String {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Unknown => "unknown",
            Verdict::Failing => "failing",
        };
        let padding = " ".repeat(8 - verdict.len());
        format!("{}{padding}{:<14}{}", colours.of(verdict), self.what, self.words)
    }
}

/// Looks at everything; `tell` is told each finding as it comes.
pub async fn run(config: &Config, mut tell: impl FnMut(&Finding)) {
    let database = &config.store.path;
    tell(&configuration(config));
    let asked = http::status(database).await;
    let report = asked.as_ref().ok().and_then(|answer| serde_json::from_str::<Value>(answer).ok());
    tell(&hub(config, &asked, report.as_ref()));
    tell(&broker(report.as_ref()));
    tell(&clock());
    tell(&disk(config));
    if !database.exists() {
        let words = format!("{} is not there yet; the hub makes it when it starts first", database.display());
        tell(&Finding::new("database", Verdict::Unknown, words));
        return;
    }
    let checked = integrity(database);
    let is_whole = !checked.is_failing();
    tell(&checked);
    tell(&schedule(config, report.as_ref()));
    if is_whole {
        tell(&drill(database));
    }
}

fn configuration(config: &Config) -> Finding {
    const WHAT: &str = "configuration";
    match Auth::load(&config.broker) {
        Ok(auth) => {
            let warnings: Vec<String> = config.warnings().chain(auth.warnings()).map(ToString::to_string).collect();
            let words = if warnings.is_empty() { "valid".to_owned() } else { warnings.join("; ") };
            Finding::ok(WHAT, words)
        }
        Err(errors) => Finding::failing(WHAT, format!("{errors}; `stationhub check` says more")),
    }
}

/// Asks the hub how it is, and sees who holds the lock where none answers.
fn hub(config: &Config, asked: &Result<String, ClientError>, report: Option<&Value>) -> Finding {
    const WHAT: &str = "hub";
    match (asked, report) {
        (Ok(_), Some(report)) => {
            let issues: Vec<&str> =
                report["issues"].as_array().into_iter().flatten().filter_map(|issue| issue["text"].as_str()).collect();
            let running = format!("runs (pid {}), up {} s", report["pid"], report["uptime_s"]);
            if issues.is_empty() {
                Finding::ok(WHAT, running)
            } else {
                Finding::failing(WHAT, format!("{running}: {}", issues.join("; ")))
            }
        }
        (Ok(_), None) => Finding::failing(WHAT, "answers with what is no JSON: it is of another version; restart it"),
        (Err(ClientError::NotRunning { .. }), _) => not_running(&config.store.path),
        (Err(error), _) => Finding::failing(WHAT, error.to_string()),
    }
}

fn not_running(database: &Path) -> Finding {
    const WHAT: &str = "hub";
    let none = || Finding::new(WHAT, Verdict::Unknown, "none runs on this database; start it with `stationhub run`");
    // One that is not there is not made: it would be this user's.
    if !beside(&resolved(database), ".lock").exists() {
        return none();
    }
    match lock::take_database(database) {
        Ok(_) => none(),
        Err(LockError::Taken { pid, .. }) => {
            let words =
                format!("pid {pid} has the database locked and does not answer; see its log, or whether it is one");
            Finding::failing(WHAT, words)
        }
        Err(error) => Finding::failing(WHAT, error.to_string()),
    }
}

fn broker(report: Option<&Value>) -> Finding {
    const WHAT: &str = "broker";
    match report.map(|report| &report["broker_round_trip_us"]) {
        None => Finding::new(WHAT, Verdict::Unknown, "no hub runs, so no message was sent round"),
        Some(Value::Number(micros)) => Finding::ok(WHAT, format!("a message went round in {micros} µs")),
        Some(_) => Finding::failing(WHAT, "a message does not come back; see the hub's log, and restart it"),
    }
}

fn clock() -> Finding {
    const WHAT: &str = "clock";
    match health::is_clock_synchronised() {
        Some(true) => Finding::ok(WHAT, "synchronised"),
        Some(false) => Finding::failing(WHAT, "not synchronised; see the network and `timedatectl`"),
        None => Finding::new(WHAT, Verdict::Unknown, "no time service says whether it is synchronised"),
    }
}

fn disk(config: &Config) -> Finding {
    const WHAT: &str = "disk";
    let database = resolved(&config.store.path);
    let stat = match statvfs(directory(&database)) {
        Ok(stat) => stat,
        Err(error) => {
            let words = format!("{}: {error}; its directory must exist", database.display());
            return Finding::failing(WHAT, words);
        }
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let (mib, least) = (free >> 20, config.health.disk_free_bytes_min);
    if free < least {
        return Finding::failing(WHAT, format!("{mib} MiB are free, health.disk_free_bytes_min is {least}; make room"));
    }
    Finding::ok(WHAT, format!("{mib} MiB are free"))
}

fn integrity(database: &Path) -> Finding {
    const WHAT: &str = "database";
    let checking = Progress::announce("checking the database");
    let checked = backup::quick_check(database).and_then(|()| backup::rows(database));
    drop(checking);
    match checked {
        Ok(holds) if holds.is_empty() => Finding::failing(WHAT, "it has none of a station's tables; see store.path"),
        Ok(holds) => Finding::ok(WHAT, format!("whole: {}", in_words(&holds))),
        Err(error @ StoreError::Damaged { .. }) => Finding::failing(
            WHAT,
            format!(
                "{error}; the hub puts it aside when it starts, and takes over what can be read; or put back a backup"
            ),
        ),
        Err(error) => Finding::failing(WHAT, format!("{error}; see its owner and rights, and who has it locked")),
    }
}

fn schedule(config: &Config, report: Option<&Value>) -> Finding {
    const WHAT: &str = "backups";
    if config.store.backup.schedule().is_none() {
        let words =
            "none are made by the hub itself; store.backup.every_hours and store.backup.directory have them made";
        return Finding::new(WHAT, Verdict::Unknown, words);
    }
    match report.map(|report| &report["backup"]) {
        None => Finding::new(WHAT, Verdict::Unknown, "the hub makes them while it runs"),
        Some(backup) => match (backup["error"].as_str(), backup["last"].as_str()) {
            (Some(error), _) => Finding::failing(WHAT, format!("the last was not made: {error}")),
            (None, Some(last)) => Finding::ok(WHAT, format!("the last is {last}")),
            (None, None) => Finding::new(WHAT, Verdict::Unknown, "there is none yet"),
        },
    }
}

/// Makes a backup and opens it as the hub would, to see that one can be put back.
fn drill(database: &Path) -> Finding {
    const WHAT: &str = "restore drill";
    let copy = Copy(beside(&resolved(database), ".drill"));
    let mut progress = Progress::begin("copying", Unit::Bytes);
    let made = make(database, &copy.0, Replace::Yes, pace(database), |Copying { done, total }| {
        progress.tell(done, total);
        ControlFlow::Continue(())
    });
    drop(progress);
    let made = match made {
        Ok(made) => made,
        Err(error) => return Finding::failing(WHAT, error.to_string()),
    };
    match backup::open_as_the_hub(&copy.0) {
        Ok(holds) if holds == made.holds => {
            Finding::ok(WHAT, format!("a backup was made, opened and counted: {}", in_words(&holds)))
        }
        Ok(holds) => {
            let words = format!("a backup holds {}, and once opened {}", in_words(&made.holds), in_words(&holds));
            Finding::failing(WHAT, words)
        }
        Err(error) => Finding::failing(WHAT, format!("a backup cannot be opened: {error}")),
    }
}

/// The copy of the drill; dropped, it is gone.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            // Most are not there.
            fs::remove_file(beside(&self.0, suffix)).unwrap_or_default();
        }
    }
}

fn in_words(holds: &[Holds]) -> String {
    let tables: Vec<String> = holds.iter().map(|held| format!("{} rows of {}", held.rows, held.table)).collect();
    tables.join(", ")
}
