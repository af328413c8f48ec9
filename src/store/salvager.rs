//! The thread that looks after damage: it reads all pages where somebody doubts them, and salvages what was put aside.
//!
//! Owns the pace of the salvage: some rows at a time, through the writer's queue as everything else, while that has little else to
//! do. It never writes to a database itself, and a stop of the hub need not wait for it.

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags};
use tracing::{debug, info, warn};

use super::damage;
use super::error::{Doing, StoreError};
use super::job::{AckGate, Content, Job, Ticket};
use super::progress::Progress;
use super::queue::Queue;
use super::salvage::{Pages, Raw, Table, Tally, Walk, columns, table_of};
use super::salvaged::{self, Batch, REPORT, Row, Targets};
use crate::place::{Follow, beside, identity};
use crate::reading::SourceId;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long nobody's doubt is heard after all pages were read.
const READ_INTERVAL: Duration = Duration::from_secs(60);
/// After a failure, as of a disk.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// What is put in at a time: few enough that it does not hold up the readings.
const BATCH_ROWS: usize = 500;
const BATCH_BYTES: usize = 256 * 1024;
/// Jobs that may wait before the next batch does, and how long it waits for that.
const JOBS_BEFORE_MAX: usize = 8;
const TURN_WAIT_MAX: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(5);
const LINES_INTERVAL: Duration = Duration::from_secs(30);
/// Senders that are known by their number alone.
const UNKNOWN_SENDER_MAX: i64 = 100_000;
const SENDERS_MAX: usize = 20_000;

/// Starts it.
///
/// # Errors
/// The system's, where it makes no thread.
pub(super) fn start(database: PathBuf, queue: Arc<Queue>, progress: Arc<Progress>) -> Result<(), StoreError> {
    let care = Care { database, queue, progress, gate: Arc::new(AckGate::new(Arc::default())), pushed: 0 };
    std::thread::Builder::new().name("store-salvage".into()).spawn(move || care.run()).map(drop).map_err(|source| {
        StoreError::Io { doing: "cannot start the thread that salvages", path: "the database".into(), source }
    })
}

struct Care {
    database: PathBuf,
    queue: Arc<Queue>,
    progress: Arc<Progress>,
    gate: Arc<AckGate>,
    pushed: u64,
}

/// The hub stops.
struct Stopped;

impl Care {
    fn run(mut self) {
        let (mut read, mut failed): (Option<Instant>, Option<Instant>) = (None, None);
        while !self.queue.pause(LOOK_INTERVAL) {
            let doubts = self.progress.doubts.clone();
            if read.is_none_or(|read| read.elapsed() > READ_INTERVAL) && doubts.take_asked() {
                self.read_all();
                read = Some(Instant::now());
            }
            if failed.is_some_and(|failed| failed.elapsed() < RETRY_INTERVAL) || !doubts.take_salvage_wanted() {
                continue;
            }
            match self.salvage_all() {
                Ok(()) => failed = None,
                Err(error) => {
                    warn!("cannot salvage from a damaged database now: {error}; trying again");
                    doubts.want_salvage();
                    failed = Some(Instant::now());
                }
            }
        }
    }

    /// Reads all pages of the database, and has the writer act where they are damaged.
    fn read_all(&mut self) {
        info!("all pages of the database are read, to see whether they are whole");
        let before = identity(&self.database, Follow::Yes);
        let found = damage::read_all(&self.database);
        match found {
            _ if identity(&self.database, Follow::Yes) != before => {
                info!("the database became another file while its pages were read: what was found says nothing of it");
            }
            Ok(None) => info!("all pages of the database are whole"),
            Ok(Some(what)) => {
                self.progress.doubts.confirm(what);
                // The writer looks at each transaction; now there is one.
                self.push(Job { content: Content::Heartbeat, ticket: None }).unwrap_or(());
            }
            Err(error) => warn!("{error}; whether its pages are whole is not known"),
        }
    }

    fn salvage_all(&mut self) -> Result<(), StoreError> {
        loop {
            let connection = open(&self.database)?;
            let Some(aside) = salvaged::unfinished(&connection, &self.database)?.into_iter().next() else {
                return Ok(());
            };
            let file = salvaged::name(&aside);
            let done = salvaged::progress(&connection, &file)?.map_or(0, |(pages, _)| pages);
            let targets = Arc::new(Targets::read(&connection)?);
            let pages = Pages::open(&aside).map_err(|source| StoreError::Io {
                doing: "cannot read",
                path: aside.clone(),
                source,
            })?;
            drop(connection);
            info!("salvaging what can be read of {file}, from its page {done} of {} on", pages.count());
            let salvage = Salvage::begin(&aside, pages, targets);
            match self.salvage(salvage, done) {
                Ok(unread) => self.tell(&aside, &unread),
                Err(Stopped) => return Ok(()),
            }
            if self.queue.is_closed() {
                return Ok(());
            }
        }
    }

    /// Salvages one database from where it stands; returns what could not be read.
    fn salvage(&mut self, mut salvage: Salvage, done: u64) -> Result<String, Stopped> {
        let mut batch = salvage.batch(0);
        let (mut steps, mut bytes, mut told) = (0, 0, Instant::now());
        while let Some(rows) = salvage.next() {
            steps += 1;
            if steps <= done {
                continue;
            }
            bytes += rows.iter().map(Row::bytes).sum::<usize>();
            batch.rows.extend(rows);
            if batch.rows.len() >= BATCH_ROWS || bytes >= BATCH_BYTES || steps % 4096 == 0 {
                batch.pages = steps;
                let full = std::mem::replace(&mut batch, salvage.batch(0));
                bytes = 0;
                self.store(full)?;
            }
            if told.elapsed() >= LINES_INTERVAL {
                told = Instant::now();
                info!("salvaging {}: {steps} of about {} pages", salvage.file, salvage.walk.pages().count());
            }
        }
        batch.pages = steps;
        let unread = salvage.unread();
        batch.finished = Some(unread.clone());
        self.store(batch)?;
        Ok(unread)
    }

    /// Stores a batch when it is its turn, and returns when it is on disk.
    fn store(&mut self, batch: Batch) -> Result<(), Stopped> {
        let start = Instant::now();
        while self.queue.jobs() > JOBS_BEFORE_MAX && start.elapsed() < TURN_WAIT_MAX {
            self.wait()?;
        }
        // What is left of the disk is for readings that come.
        while !self.progress.room.is_ample() {
            self.wait()?;
        }
        self.pushed += 1;
        let ticket = Some(Ticket { gate: self.gate.clone(), number: self.pushed });
        self.push(Job { content: Content::Salvaged(Box::new(batch)), ticket })?;
        while self.gate.stored() < self.pushed {
            self.wait()?;
        }
        Ok(())
    }

    fn push(&self, job: Job) -> Result<(), Stopped> {
        let mut jobs = VecDeque::from([job]);
        self.queue.push(&mut jobs);
        while !jobs.is_empty() {
            self.wait()?;
            self.queue.push(&mut jobs);
        }
        Ok(())
    }

    fn wait(&self) -> Result<(), Stopped> {
        if self.queue.is_closed() {
            return Err(Stopped);
        }
        std::thread::sleep(POLL_INTERVAL);
        Ok(())
    }

    fn tell(&self, aside: &Path, unread: &str) {
        let file = salvaged::name(aside);
        let counts = open(&self.database).and_then(|connection| salvaged::progress(&connection, &file));
        let counts = counts.ok().flatten().map(|(_, counts)| counts).unwrap_or_default();
        let text = format!("salvaged from {file}: {}; {unread}", salvaged::in_words(&counts));
        info!("{text}");
        // It also says to later databases that this one is done with.
        if let Err(error) = std::fs::write(beside(aside, REPORT), format!("{text}\n")) {
            debug!(%error, "the report of the salvage could not be written");
        }
    }
}

fn open(database: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags).doing("cannot open the database for reading")?;
    connection.busy_timeout(Duration::from_secs(1)).doing("cannot set the busy timeout")?;
    Ok(connection)
}

/// One damaged database, page by page.
struct Salvage {
    file: String,
    walk: Walk,
    targets: Arc<Targets>,
    /// Of each tree: whose it is, and the names of its columns.
    trees: Vec<(Option<Table>, Option<Vec<String>>)>,
    senders: HashMap<i64, SourceId>,
    /// Rows that are no table's.
    strange: u64,
}

impl Salvage {
    fn begin(aside: &Path, pages: Pages, targets: Arc<Targets>) -> Salvage {
        let walk = Walk::begin(pages);
        let trees: Vec<_> = walk.trees().iter().map(|tree| (Table::of_name(&tree.name), columns(&tree.sql))).collect();
        let mut senders = HashMap::new();
        match trees.iter().position(|(table, _)| *table == Some(Table::Source)) {
            Some(tree) => walk.all(tree, SENDERS_MAX).into_iter().for_each(|row| learn(&mut senders, row)),
            // Without its tree, the table lies anywhere; and every reading names its sender by a number in it.
            None => {
                let mut whole = Pages::open(aside).map(Walk::begin).ok();
                while let Some(found) = whole.as_mut().and_then(Walk::next) {
                    let strays =
                        found.rows.into_iter().filter(|row| table_of(&row.values, None) == Some(Table::Source));
                    strays.for_each(|row| learn(&mut senders, row));
                }
            }
        }
        Salvage { file: salvaged::name(aside), walk, targets, trees, senders, strange: 0 }
    }

    fn batch(&self, pages: u64) -> Batch {
        Batch { file: self.file.clone(), targets: self.targets.clone(), rows: Vec::new(), pages, finished: None }
    }

    /// Returns the rows of the next page.
    fn next(&mut self) -> Option<Vec<Row>> {
        let found = self.walk.next()?;
        let (led_from, names) = match found.tree.and_then(|tree| self.trees.get(tree)) {
            // Another table's, which can be made again or is none of the hub's.
            Some((None, _)) => return Some(Vec::new()),
            Some((table, names)) => (*table, names.clone()),
            None => (None, None),
        };
        Some(found.rows.into_iter().filter_map(|raw| self.row(raw, led_from, names.as_deref())).collect())
    }

    fn row(&mut self, raw: Raw, led_from: Option<Table>, names: Option<&[String]>) -> Option<Row> {
        let Some(table) = table_of(&raw.values, led_from) else {
            self.strange += 1;
            return None;
        };
        // What was sent is deleted: a stray row may be one of those, and would be sent again.
        if table == Table::Outbox && led_from.is_none() && !self.walk.free_is_known() {
            return None;
        }
        let mut row = self.targets.row(table, names.filter(|_| led_from == Some(table)), raw)?;
        if let Some(number) = row.old_source(&self.targets) {
            let known = self.senders.get(&number).cloned();
            let unknown = || format!("unknown sender {number} of {}", self.file).into();
            row.source = known.or_else(|| (1..UNKNOWN_SENDER_MAX).contains(&number).then(unknown));
        }
        Some(row)
    }

    /// Says what could not be read.
    fn unread(&self) -> String {
        let Tally { unread, spoilt, cells, .. } = self.walk.tally();
        let missing = self.walk.pages().missing();
        let mut parts: Vec<String> = [
            (missing, "pages that the file has lost"),
            (unread, "pages that the disk does not give back"),
            (spoilt, "pages that are none any more"),
            (cells, "rows that are damaged"),
            (self.strange, "rows that are no table's"),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
        parts.extend(self.walk.pages().log_damage().map(str::to_owned));
        if parts.is_empty() { "nothing was unreadable".to_owned() } else { format!("unreadable: {}", parts.join(", ")) }
    }
}

fn learn(senders: &mut HashMap<i64, SourceId>, row: Raw) {
    if let [_, Value::Text(topic), ..] = &row.values[..]
        && senders.len() < SENDERS_MAX
    {
        senders.insert(row.id, topic.as_str().into());
    }
}
