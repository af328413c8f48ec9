//! The hub on a database of many years: how long it takes to start, to catch up with its rollups, to answer; whether it takes
//! readings as quickly as on an empty one; and what acks notice of old rows being deleted.
//!
//! Owns what is measured and how it is written down. Of the database it is given it changes nothing that lasts but the
//! rollups: the readings that it sends are taken out again.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::figures::{goal, grouped, median, spread};
use crate::generator::{Generator, Shape};
use crate::make;
use crate::questions::ask_all;
use crate::target::{Measurement, Server, measure};

/// How long the rollups of ten years may take.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(3_600);
const LOOK_AGAIN: Duration = Duration::from_millis(500);
const ONE: Shape = Shape { clients: 1, in_flight: 1 };
const MANY: Shape = Shape { clients: 10, in_flight: 20 };
const START_GOAL_MS: f64 = 1_000.0;
/// Rows that are taken out in one transaction.
const CHUNK: i64 = 50_000;

/// Pages that are asked for, and how long each may take, milliseconds.
const PAGES: [(&str, f64); 6] = [
    ("/", 100.0),
    ("/charts?range=24h", 100.0),
    ("/?range=7d", 300.0),
    ("/?range=1y", 300.0),
    ("/?range=all", 300.0),
    ("/extremes", 300.0),
];

/// A page that was asked for.
struct Page {
    path: &'static str,
    bytes: usize,
    took_ms: Vec<f64>,
}

/// Gets a page; returns its size, bytes.
fn get(address: SocketAddr, path: &str) -> Result<usize> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    ensure!(
        answer.starts_with(b"HTTP/1.1 200 "),
        "{path}: {}",
        String::from_utf8_lossy(&answer[..answer.len().min(200)])
    );
    Ok(answer.len())
}

/// What a run is like.
pub(crate) struct Years {
    pub(crate) hub: PathBuf,
    pub(crate) place: PathBuf,
    pub(crate) duration: Duration,
    pub(crate) rounds: usize,
    /// Rows of the database whose old rows are deleted.
    pub(crate) retention_rows: i64,
}

impl Years {
    /// Measures all of it on `db`; returns the report.
    pub(crate) fn everything(&self, db: &Path) -> Result<String> {
        let rows = max_id(db)?;
        let last_s = number(db, "SELECT timestamp FROM weather_data ORDER BY id DESC LIMIT 1")?;
        let mut report = format!("{} rows in each table, {} MB.\n\n", grouped(rows as f64), size_mb(db)?);
        let starts = self.starts(db)?;
        writeln!(report, "| start, from exec to the ready file | ms |\n|---|--:|")?;
        writeln!(report, "| the first | {:.0} |\n| later ones | {} |\n", starts[0], spread(&starts[1..]))?;
        let (caught_up, meanwhile) = self.catch_up(db)?;
        writeln!(report, "Rollups caught up with in {:.0} s. {}\n", caught_up.as_secs_f64(), meanwhile)?;
        writeln!(report, "| question | rows | first ms | again ms | plan |\n|---|--:|--:|--:|---|")?;
        for answered in ask_all(db, last_s)? {
            let crate::questions::Answered { name, first_ms, again_ms, rows, plan } = answered;
            writeln!(report, "| {name} | {} | {first_ms:.2} | {again_ms:.2} | {plan} |", grouped(rows as f64))?;
        }
        writeln!(report, "{}", self.gaps(db))?;
        let pages = self.pages(db)?;
        writeln!(report, "\n| page, from the request to its last byte | KB | ms |\n|---|--:|--:|")?;
        for page in &pages {
            writeln!(report, "| {} | {} | {} |", page.path, page.bytes / 1000, spread(&page.took_ms))?;
        }
        writeln!(report)?;
        let (ratios, table) = self.inserts(db)?;
        report += &table;
        let (before, during) = self.retention()?;
        writeln!(report, "\n| a lone sensor's acks | p50 ms | p99 ms |\n|---|--:|--:|")?;
        for (name, seen) in [("nothing to delete", before), ("while old rows are deleted", during)] {
            writeln!(report, "| {name} | {:.2} | {:.2} |", seen.p50_ms, seen.p99_ms)?;
        }
        report += "\n| goal | measured | verdict |\n|---|--:|---|\n";
        report += &goal("start, ms, below 1,000", starts, |ms| ms < START_GOAL_MS);
        for (page, goal_ms) in pages.iter().zip(PAGES.map(|(_, goal_ms)| goal_ms)) {
            let name = format!("{}, ms, below {goal_ms}", page.path);
            report += &goal(&name, page.took_ms.clone(), |ms| ms < goal_ms);
        }
        report += &goal("insert rate ÷ the empty database's, at least 0.9", ratios, |ratio| ratio >= 0.9);
        report +=
            &goal("p99 of acks while deleting ÷ before, less than 2", vec![during.p99_ms / before.p99_ms], |it| {
                it < 2.0
            });
        Ok(report)
    }

    fn on(&self, db: &Path, config: &str) -> Result<Server> {
        Server::hub_on(&self.hub, &self.place, None, config, Some(db))
    }

    /// Starts and stops the hub; returns how long each start took, in milliseconds.
    fn starts(&self, db: &Path) -> Result<Vec<f64>> {
        let mut starts = Vec::new();
        for _ in 0..=self.rounds {
            let begun = Instant::now();
            let server = self.on(db, "")?;
            starts.push(begun.elapsed().as_secs_f64() * 1000.0);
            server.stop()?;
            eprintln!("started in {:.0} ms", starts[starts.len() - 1]);
        }
        Ok(starts)
    }

    /// Lets the hub catch up with its rollups, and looks at a sensor's acks for the beginning of it.
    fn catch_up(&self, db: &Path) -> Result<(Duration, String)> {
        let before = max_id(db)?;
        let begun = Instant::now();
        let server = self.on(db, "")?;
        let seen = self.one_sensor(&server)?;
        let end = begun + CATCH_UP_DEADLINE;
        // The last hours have their minute of grace.
        let due_s = number(db, "SELECT unixepoch()")? - 2 * 3600;
        while !is_rolled_up(db, due_s)? {
            ensure!(Instant::now() < end, "rollups are not done after {CATCH_UP_DEADLINE:?}");
            std::thread::sleep(LOOK_AGAIN);
        }
        let took = begun.elapsed();
        server.stop()?;
        take_out(db, before)?;
        let words =
            format!("A lone sensor's acks at their beginning: p50 {:.2} ms, p99 {:.2} ms.", seen.p50_ms, seen.p99_ms);
        eprintln!("caught up in {:.0} s. {words}", took.as_secs_f64());
        Ok((took, words))
    }

    /// Asks for pages of the hub, each as often as there are rounds.
    fn pages(&self, db: &Path) -> Result<Vec<Page>> {
        let server = self.on(db, "")?;
        let address = server.http.context("the hub serves no HTTP")?;
        let mut pages = Vec::new();
        for (path, _) in PAGES {
            let mut page = Page { path, bytes: 0, took_ms: Vec::new() };
            for _ in 0..self.rounds {
                let begun = Instant::now();
                page.bytes = get(address, path)?;
                page.took_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
            }
            eprintln!("{path}: {} ms", spread(&page.took_ms));
            pages.push(page);
        }
        server.stop()?;
        Ok(pages)
    }

    fn one_sensor(&self, server: &Server) -> Result<Measurement> {
        self.load(server, ONE).map(|(seen, _)| seen)
    }

    fn load(&self, server: &Server, shape: Shape) -> Result<(Measurement, u64)> {
        let mut generator = Generator::connect(server.addr, shape)?;
        let seen = measure(&mut generator, Some(server.pid()), self.duration);
        let seen = seen.with_context(|| format!("{shape}{}", server.last_words()))?;
        generator.drain()?;
        let acked = generator.acked();
        generator.disconnect()?;
        Ok((seen, acked))
    }

    /// Sends readings to an empty database and to this one in turns; returns the ratios of the rates, and a table.
    fn inserts(&self, db: &Path) -> Result<(Vec<f64>, String)> {
        let (mut empty, mut full, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let mut rates = [0.0; 2];
            for turn in 0..2 {
                let is_full = (round + turn) % 2 == 1;
                rates[usize::from(is_full)] = if is_full { self.insert_into(db)? } else { self.insert_into_empty()? };
            }
            eprintln!("round {}: empty {}/s, full {}/s", round + 1, grouped(rates[0]), grouped(rates[1]));
            empty.push(rates[0]);
            full.push(rates[1]);
            ratios.push(rates[1] / rates[0]);
        }
        let row = |name: &str, rates: &[f64]| format!("| {name} | {} |\n", grouped(median(rates.to_vec())));
        let table = format!("\n| readings acked/s, {MANY} | |\n|---|--:|\n");
        let table = table + &row("empty database", &empty) + &row("this database", &full);
        Ok((ratios.clone(), format!("{table}| ratio | {} |\n", spread(&ratios))))
    }

    fn insert_into_empty(&self) -> Result<f64> {
        let server = Server::hub(&self.hub, &self.place, None)?;
        let (seen, _) = self.load(&server, MANY)?;
        server.stop()?;
        Ok(seen.rate)
    }

    fn insert_into(&self, db: &Path) -> Result<f64> {
        let before = max_id(db)?;
        let server = self.on(db, "")?;
        let (seen, acked) = self.load(&server, MANY)?;
        server.stop()?;
        let stored = number(db, &format!("SELECT count(*) FROM weather_data WHERE id > {before}"))?;
        ensure!(stored.unsigned_abs() == acked, "{acked} acked, {stored} stored");
        take_out(db, before)?;
        Ok(seen.rate)
    }

    /// Makes a database of its own, and has all but its last day deleted.
    fn retention(&self) -> Result<(Measurement, Measurement)> {
        let dir = tempfile::TempDir::with_prefix_in("retention-", &self.place)?;
        let db = dir.path().join("old.db");
        make::make(self.retention_rows, &db)?;
        self.catch_up(&db)?;
        let server = self.on(&db, "")?;
        let before = self.one_sensor(&server)?;
        server.stop()?;
        let oldest = "SELECT min(id) FROM weather_data";
        let first = number(&db, oldest)?;
        let server = self.on(&db, "[store.retention]\nraw_days = 1\n")?;
        let end = Instant::now() + CATCH_UP_DEADLINE;
        while number(&db, oldest)? == first {
            ensure!(Instant::now() < end, "no old row was deleted within {CATCH_UP_DEADLINE:?}");
            std::thread::sleep(LOOK_AGAIN / 10);
        }
        let (begun, gone) = (Instant::now(), number(&db, oldest)?);
        let during = self.one_sensor(&server)?;
        let deleted = number(&db, oldest)? - gone;
        eprintln!("{} rows deleted in {:?} beside a sensor's acks", grouped(deleted as f64), begun.elapsed());
        ensure!(deleted > 0, "nothing was deleted beside the acks");
        server.stop()?;
        Ok((before, during))
    }

    /// Times the gap report, where this hub has one.
    fn gaps(&self, db: &Path) -> String {
        let mut command = crate::process::hub(&self.hub);
        command.current_dir(&self.place);
        command.arg("gaps").arg("--db").arg(db);
        let begun = Instant::now();
        match command.output() {
            Ok(output) if output.status.success() => {
                let ms = begun.elapsed().as_secs_f64() * 1000.0;
                format!(
                    "| `stationhub gaps` | {} lines | {ms:.0} | | |",
                    String::from_utf8_lossy(&output.stdout).lines().count()
                )
            }
            _ => "| `stationhub gaps` | not measured | | | |".to_owned(),
        }
    }
}

fn reading(db: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    Ok(connection)
}

fn number(db: &Path, sql: &str) -> Result<i64> {
    Ok(reading(db)?.query_row(sql, [], |row| row.get(0))?)
}

fn max_id(db: &Path) -> Result<i64> {
    number(db, "SELECT max(id) FROM weather_data")
}

fn size_mb(db: &Path) -> Result<u64> {
    Ok(std::fs::metadata(db)?.len() / 1_000_000)
}

/// Tells whether both kinds of readings are rolled up to this time, or to their ends where these lie before it.
fn is_rolled_up(db: &Path, due_s: i64) -> Result<bool> {
    let weather = format!("min({due_s}, (SELECT max(timestamp) FROM weather_data) - 7200)");
    let flux = format!("min({due_s}, unixepoch((SELECT max(created_at) FROM magnetic_flux_data)) - 7200)");
    let sql = format!(
        "SELECT (SELECT count(*) FROM rollup_state WHERE kind = 'weather' AND done_s >= {weather})
              + (SELECT count(*) FROM rollup_state WHERE kind = 'magnetic' AND done_s >= {flux})"
    );
    Ok(number(db, &sql)? == 2)
}

/// Takes out the rows after this one.
fn take_out(db: &Path, after: i64) -> Result<()> {
    let connection = Connection::open(db)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    loop {
        let sql = "DELETE FROM weather_data WHERE id > ?1 AND id > (SELECT max(id) FROM weather_data) - ?2";
        if connection.execute(sql, [after, CHUNK])? == 0 {
            return Ok(());
        }
    }
}
