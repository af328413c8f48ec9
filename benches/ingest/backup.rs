//! What a backup costs those who publish: acks with and without backups that follow one another without a pause.
//!
//! Owns the loop of `stationhub backup`, the check of what it made, and its report.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rusqlite::{Connection, OpenFlags};

use crate::figures::{goal, grouped, median, spread};
use crate::generator::{Generator, Shape, Until};
use crate::target::{Measurement, Server, measure};

const SHAPES: [Shape; 2] = [Shape { clients: 10, in_flight: 1 }, Shape { clients: 10, in_flight: 20 }];
/// Readings in the database before it is measured, so that a copy takes its time.
const READINGS_FIRST: u64 = 100_000;
const FILL_DEADLINE: Duration = Duration::from_secs(120);
/// By how much the 99th percentile of the acks may grow.
const RATIO_MAX: f64 = 2.0;

/// What the rounds of one shape came to.
struct Rounds {
    shape: Shape,
    without: Vec<Measurement>,
    with: Vec<Measurement>,
    backups: Vec<f64>,
    longest_s: Vec<f64>,
}

/// Loads hubs in turns without and with backups, and returns the report.
pub(crate) fn measured(hub: &Path, place: &Path, duration: Duration, rounds: usize) -> Result<String> {
    let mut report = String::from(
        "| clients × in flight | acked/s without | with | p99 ms without | with | p99 with ÷ without | backups | longest s |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut goals = String::new();
    for shape in SHAPES {
        let mut cell =
            Rounds { shape, without: Vec::new(), with: Vec::new(), backups: Vec::new(), longest_s: Vec::new() };
        for round in 0..rounds {
            for with in [round % 2 == 0, round % 2 != 0] {
                cell.add(hub, place, with, duration)?;
            }
            let p99 = [&cell.without, &cell.with].map(|all| all[round].p99_ms);
            let backups = cell.backups[round];
            eprintln!("round {}, {shape}: p99 {:.2} ms, with {backups} backups {:.2} ms", round + 1, p99[0], p99[1]);
        }
        cell.tell(&mut report, &mut goals)?;
    }
    Ok(format!("{report}\n| goal | measured | |\n|---|---|---|\n{goals}"))
}

impl Rounds {
    fn add(&mut self, hub: &Path, place: &Path, with: bool, duration: Duration) -> Result<()> {
        let server = Server::hub(hub, place, None)?;
        let db = server.db.clone().context("the hub has no database")?;
        let fill =
            |generator: &mut Generator| generator.pump(Until::Acked(READINGS_FIRST, Instant::now() + FILL_DEADLINE));
        if !with {
            self.without.push(server.under(self.shape, |generator, pid| {
                fill(generator)?;
                measure(generator, Some(pid), duration)
            })?);
            return Ok(());
        }
        let (begins, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
        let (seen, times) = thread::scope(|scope| -> Result<_> {
            let copier = scope.spawn(|| copy_until(&begins, &is_over, hub, &db));
            let seen = server.under(self.shape, |generator, pid| {
                let filled = fill(generator);
                begins.store(true, Ordering::Relaxed);
                filled?;
                let seen = measure(generator, Some(pid), duration);
                is_over.store(true, Ordering::Relaxed);
                // The last copy is made of a database that is there.
                let times = copier.join().map_err(|_| anyhow!("the one who copies panicked"))?;
                Ok((seen?, times?))
            });
            begins.store(true, Ordering::Relaxed);
            is_over.store(true, Ordering::Relaxed);
            seen
        })?;
        self.with.push(seen);
        self.backups.push(times.len() as f64);
        self.longest_s.push(times.iter().map(Duration::as_secs_f64).fold(0.0, f64::max));
        Ok(())
    }

    fn tell(&self, report: &mut String, goals: &mut String) -> Result<()> {
        let of = |measured: &[Measurement], what: fn(&Measurement) -> f64| -> Vec<f64> {
            measured.iter().map(what).collect()
        };
        let rates = [&self.without, &self.with].map(|all| grouped(median(of(all, |one| one.rate))));
        let p99 = [&self.without, &self.with].map(|all| spread(&of(all, |one| one.p99_ms)));
        let ratios: Vec<f64> =
            self.with.iter().zip(&self.without).map(|(with, without)| with.p99_ms / without.p99_ms).collect();
        let (shape, backups, longest) = (self.shape, spread(&self.backups), spread(&self.longest_s));
        writeln!(
            report,
            "| {shape} | {} | {} | {} | {} | {} | {backups} | {longest} |",
            rates[0],
            rates[1],
            p99[0],
            p99[1],
            spread(&ratios)
        )?;
        let name = format!("{shape}: p99 of the acks during backups is less than {RATIO_MAX} times that without");
        goals.push_str(&goal(&name, ratios, |ratio| ratio < RATIO_MAX));
        Ok(())
    }
}

/// Makes one backup after another until it is over, and checks each; returns how long each took.
fn copy_until(begins: &AtomicBool, is_over: &AtomicBool, hub: &Path, db: &Path) -> Result<Vec<Duration>> {
    while !begins.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
    let (copy, mut times) = (db.with_extension("copy"), Vec::new());
    while times.is_empty() || !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        let mut command = crate::process::hub(hub);
        command.arg("backup").arg("--db").arg(db).arg("--force").arg(&copy);
        let output = command.output()?;
        times.push(start.elapsed());
        ensure!(output.status.success(), "no backup: {}", String::from_utf8_lossy(&output.stderr));
    }
    let made = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let words: String = made.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    ensure!(words == "ok", "A COPY IS NOT WHOLE: {words}");
    Ok(times)
}
