//! `cargo bench --bench ingest`: what a durable ack costs. The hub, Mosquitto and the floor of one committing thread,
//! measured in turns by one generator on one machine, on its own disk and on one where a sync takes 10 ms; then the
//! hub's memory over a million readings. Prints progress to stderr and a Markdown report to stdout. A hub that acked
//! what it did not store, or a wait that passed its deadline, ends it with an error; a missed goal is only told.
//!
//! | after `--` | does |
//! |---|---|
//! | nothing | everything, about eight minutes |
//! | `quick` | one round of 1 s, no million |
//! | `scrape` | the hub with and without a scraper of its metrics |
//! | `backup` | the hub with and without backups that follow one another |
//! | `profile 10x20 SECONDS` | the hub alone, one cell, for use under `perf` |
//! | `load ADDR 10x20 SECONDS` | loads a server that runs already |
//!
//! | variable | means |
//! |---|---|
//! | `STATIONHUB_BIN` | the hub's binary (the one that cargo built) |
//! | `BENCH_SECONDS`, `BENCH_ROUNDS` | per cell (4), repetitions (3) |
//! | `SLOWSYNC_MS` | what the slow disk adds to a sync (10) |
//! | `BENCH_DIR` | where databases are put (under `target/`); never a tmpfs |

#[path = "ingest/backup.rs"]
mod backup;
#[path = "ingest/figures.rs"]
mod figures;
#[path = "ingest/floor.rs"]
mod floor;
#[path = "ingest/generator.rs"]
mod generator;
#[path = "ingest/histogram.rs"]
mod histogram;
#[path = "ingest/machine.rs"]
mod machine;
#[path = "ingest/outbox.rs"]
mod outbox;
#[path = "ingest/packet.rs"]
mod packet;
#[path = "ingest/process.rs"]
mod process;
#[path = "ingest/report.rs"]
mod report;
#[path = "ingest/scrape.rs"]
mod scrape;
#[path = "ingest/target.rs"]
mod target;

use std::env;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use figures::grouped;
use floor::SlowSync;
use generator::{Generator, Shape, Until};
use machine::{find_mosquitto, setting, span};
use process::{Memory, memory};
use report::{Cell, Report};
use target::{Measurement, Server, measure};

const SHAPES: [(usize, usize); 6] = [(1, 1), (1, 20), (10, 1), (10, 20), (100, 1), (100, 20)];
const SAMPLE_EVERY: u64 = 100_000;
const SAMPLES: u64 = 10;
/// How long 100,000 readings may take.
const SAMPLE_DEADLINE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    // Cargo adds --bench; without it, and without a mode, this is `cargo test --all-targets`.
    let (flags, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|word| word == "--bench");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] if flags.is_empty() => println!("nothing measured: run `cargo bench --bench ingest`"),
        [] => print!("{}", Bench::new(setting("BENCH_SECONDS", 4.0)?, setting("BENCH_ROUNDS", 3)?)?.everything(true)?),
        ["quick"] => print!("{}", Bench::new(1.0, 1)?.everything(false)?),
        ["scrape"] => {
            let bench = Bench::new(setting("BENCH_SECONDS", 4.0)?, setting("BENCH_ROUNDS", 3)?)?;
            print!("{}", scrape::measured(&bench.hub, &bench.place, bench.duration, bench.rounds)?);
        }
        ["backup"] => {
            let bench = Bench::new(setting("BENCH_SECONDS", 4.0)?, setting("BENCH_ROUNDS", 3)?)?;
            print!("{}", backup::measured(&bench.hub, &bench.place, bench.duration, bench.rounds)?);
        }
        ["profile", shape, seconds] => Bench::new(seconds.parse()?, 1)?.profile(shape.parse()?)?,
        ["load", addr, shape, seconds] => load(addr.parse()?, shape.parse()?, span(seconds.parse()?)?)?,
        ["floor", dir, seconds] => {
            let measured = floor::measure_here(Path::new(dir), span(seconds.parse()?)?)?;
            println!("{}", serde_json::to_string(&measured)?);
        }
        _ => bail!(
            "unknown: {words:?}; one of: quick | scrape | backup | profile 10x20 SECONDS | load ADDR 10x20 SECONDS"
        ),
    }
    Ok(())
}

/// Who is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Hub,
    Mosquitto,
    Floor,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Hub => "hub",
            Target::Mosquitto => "Mosquitto",
            Target::Floor => "floor",
        }
    }
}

/// The settings of a run.
struct Bench {
    hub: PathBuf,
    mosquitto: Option<PathBuf>,
    /// Where every server gets its directory.
    place: PathBuf,
    duration: Duration,
    rounds: usize,
    sync_ms: u64,
}

impl Bench {
    fn new(seconds: f64, rounds: usize) -> Result<Self> {
        ensure!((1..=1000).contains(&rounds), "BENCH_ROUNDS: {rounds} is not 1 to 1000");
        let (hub, place) = (machine::hub()?, machine::place()?);
        let sync_ms = setting("SLOWSYNC_MS", 10)?;
        Ok(Self { hub, mosquitto: find_mosquitto(), place, duration: span(seconds)?, rounds, sync_ms })
    }

    /// Runs the whole plan and returns its report.
    fn everything(&self, with_million: bool) -> Result<String> {
        if self.mosquitto.is_none() {
            eprintln!("Mosquitto is not installed: not compared");
        }
        let fast = self.cells(&[Target::Floor, Target::Hub, Target::Mosquitto], None)?;
        let slow = match SlowSync::compile(&self.place, self.sync_ms) {
            Ok(slow) => Some((self.sync_ms, self.cells(&[Target::Floor, Target::Hub], Some(&slow))?)),
            Err(error) => {
                eprintln!("no slow disk: {error:#}");
                None
            }
        };
        let million = if with_million { self.million()? } else { Vec::new() };
        let about = machine::about(self.mosquitto.as_deref());
        let seconds = self.duration.as_secs_f64();
        Ok(Report { about, seconds, rounds: self.rounds, fast, slow, million }.markdown())
    }

    /// Measures all shapes, in rounds, the targets next to each other and in turns the one or the other first.
    fn cells(&self, targets: &[Target], slow: Option<&SlowSync>) -> Result<Vec<Cell>> {
        let mut cells: Vec<Cell> =
            SHAPES.iter().map(|&(clients, in_flight)| Cell::new(Shape { clients, in_flight })).collect();
        let mut targets = targets.to_vec();
        for round in 1..=self.rounds {
            for cell in &mut cells {
                for &target in &targets {
                    self.add(cell, target, slow, round)?;
                }
            }
            targets.reverse();
        }
        Ok(cells)
    }

    /// Adds one measurement to `cell`, unless `target` has no place in it.
    fn add(&self, cell: &mut Cell, target: Target, slow: Option<&SlowSync>, round: usize) -> Result<()> {
        let shape = cell.shape;
        let (measurements, measured) = match (target, &self.mosquitto) {
            (Target::Hub, _) => (&mut cell.hub, self.load(Server::hub(&self.hub, &self.place, slow)?, shape)?),
            (Target::Mosquitto, Some(binary)) => {
                (&mut cell.mosquitto, self.load(Server::mosquitto(binary, &self.place)?, shape)?)
            }
            (Target::Floor, _) if shape == (Shape { clients: 1, in_flight: 1 }) => {
                (&mut cell.floor, floor::measure_apart(&self.place, slow, self.duration)?)
            }
            (Target::Mosquitto | Target::Floor, _) => return Ok(()),
        };
        let disk = slow.map_or(String::new(), |slow| format!(", {} ms disk", slow.sync_ms));
        eprintln!("round {round}, {shape}{disk}: {}", told(target, &measured));
        if let Some(slow) = slow {
            slow.check(target.name(), &measured)?;
        }
        measurements.push(measured);
        Ok(())
    }

    fn load(&self, server: Server, shape: Shape) -> Result<Measurement> {
        server.under(shape, |generator, pid| measure(generator, Some(pid), self.duration))
    }

    /// Sends a million readings through 10 × 20, and samples the hub's memory on the way.
    fn million(&self) -> Result<Vec<(u64, Memory)>> {
        let hub = Server::hub(&self.hub, &self.place, None)?;
        hub.under(Shape { clients: 10, in_flight: 20 }, |generator, pid| {
            let mut samples = Vec::new();
            for sample in 1..=SAMPLES {
                generator.pump(Until::Acked(sample * SAMPLE_EVERY, Instant::now() + SAMPLE_DEADLINE))?;
                let now = memory(pid)?;
                eprintln!("{} readings: RSS {:.1} MiB", grouped(generator.acked() as f64), now.rss_mib);
                samples.push((generator.acked(), now));
            }
            Ok(samples)
        })
    }

    /// Loads the hub alone with one shape.
    fn profile(&self, shape: Shape) -> Result<()> {
        let hub = Server::hub(&self.hub, &self.place, None)?;
        eprintln!("hub: pid {}, {}; {shape} for {:?}", hub.pid(), hub.addr, self.duration);
        println!("{}", told(Target::Hub, &self.load(hub, shape)?));
        Ok(())
    }
}

/// Loads the server at `addr`, whatever it is, and tells what its clients saw.
fn load(addr: SocketAddr, shape: Shape, duration: Duration) -> Result<()> {
    let mut generator = Generator::connect(addr, shape)?;
    let seen = measure(&mut generator, None, duration)?;
    generator.drain()?;
    println!(
        "{shape}: {} acked/s, p50 {:.2} ms, p99 {:.2} ms; generator {:.2} CPU s per 100,000; {} acked in all",
        grouped(seen.rate),
        seen.p50_ms,
        seen.p99_ms,
        seen.generator_cpu_s,
        generator.acked()
    );
    generator.disconnect()
}

fn told(target: Target, seen: &Measurement) -> String {
    format!(
        "{} {}/s, p50 {:.2} ms, p99 {:.2} ms, {:.2} CPU s per 100,000 (generator {:.2}), RSS {:.1} MiB, peak {:.1} MiB",
        target.name(),
        grouped(seen.rate),
        seen.p50_ms,
        seen.p99_ms,
        seen.cpu_s,
        seen.generator_cpu_s,
        seen.rss_mib,
        seen.peak_mib
    )
}
