//! `cargo bench --bench bridge`: how fast a backlog goes upstream, and what the hub's clients notice of it. The hub's
//! backlog of readings drains into a Mosquitto, beside rumqttc alone publishing as many of the same size to the same kind
//! of Mosquitto, one after the other in each round; and the acks of one sensor while the upstream is away and while the
//! backlog drains. Prints progress to stderr and a Markdown report to stdout. A missed goal is only told.
//!
//! | after `--` | does |
//! |---|---|
//! | nothing | three rounds of 100,000 readings, about two minutes |
//! | `quick` | one round of 20,000 |
//!
//! `BENCH_ROUNDS` and `BENCH_READINGS` change that; `STATIONHUB_BIN`, `BENCH_SECONDS` and `BENCH_DIR` mean what they mean
//! for `ingest`.

#[path = "ingest/figures.rs"]
mod figures;
#[allow(dead_code)] // the floor belongs to the ingest alone
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
#[path = "bridge/plain.rs"]
mod plain;
#[path = "ingest/process.rs"]
mod process;
#[allow(dead_code)] // the servers as the ingest wants them
#[path = "ingest/target.rs"]
mod target;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use rustix::process::{Pid, getpriority_process, setpriority_process};

use figures::{goal, grouped, median, spread};
use generator::{Generator, Shape, Until};
use machine::{find_mosquitto, setting, span};
use process::cpu_s;
use target::{Server, free_address};

/// Who fills the backlog, and whose acks are looked at.
const FILLING: Shape = Shape { clients: 100, in_flight: 20 };
const SENSOR: Shape = Shape { clients: 1, in_flight: 1 };
const FILL_DEADLINE: Duration = Duration::from_secs(300);
const DRAIN_DEADLINE: Duration = Duration::from_secs(300);
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Messages that may have gone and not left the outbox: the bridge tells the store in batches.
const UNTOLD: u64 = 200;
/// How much the upstream steps back, as in nice(1).
const NICENESS: i32 = 10;
const SHARE_MIN: f64 = 0.5;
const SLOWDOWN_MAX: f64 = 2.0;

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
    let (flags, words): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|word| word == "--bench");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] if flags.is_empty() => println!("nothing measured: run `cargo bench --bench bridge`"),
        [] => {
            let (rounds, readings) = (setting("BENCH_ROUNDS", 3)?, setting("BENCH_READINGS", 100_000)?);
            print!("{}", Bench::new(rounds, readings)?.everything()?);
        }
        ["quick"] => print!("{}", Bench::new(1, 20_000)?.everything()?),
        _ => bail!("unknown: {words:?}; want nothing or quick"),
    }
    Ok(())
}

/// The settings of a run.
struct Bench {
    hub: PathBuf,
    mosquitto: PathBuf,
    place: PathBuf,
    rounds: usize,
    readings: u64,
    /// How long a sensor's acks are looked at, at most.
    duration: Duration,
}

/// What one round came to.
#[derive(Default)]
struct Round {
    /// Messages a second upstream.
    drained: f64,
    plain: f64,
    /// CPU seconds of the hub for 100,000 messages drained.
    cpu_s: f64,
    /// A sensor's acks: upstream away, and while the backlog drains.
    away_p99_ms: f64,
    draining_p99_ms: f64,
    away_p50_ms: f64,
    draining_p50_ms: f64,
}

impl Bench {
    fn new(rounds: usize, readings: u64) -> Result<Self> {
        ensure!((1..=1000).contains(&rounds), "BENCH_ROUNDS: {rounds} is not 1 to 1000");
        ensure!((5_000..=10_000_000).contains(&readings), "BENCH_READINGS: {readings} is not 5,000 to 10,000,000");
        let mosquitto = find_mosquitto().context("Mosquitto is not installed, and it is the upstream here")?;
        let duration = span(setting("BENCH_SECONDS", 4.0)?)?;
        Ok(Self { hub: machine::hub()?, mosquitto, place: machine::place()?, rounds, readings, duration })
    }

    fn everything(&self) -> Result<String> {
        let mut rounds = Vec::new();
        for number in 1..=self.rounds {
            let round = self.round()?;
            eprintln!(
                "round {number}: {}/s upstream, rumqttc alone {}/s; hub {:.2} CPU s per 100,000; a sensor's acks p50 {:.2} \
                 and p99 {:.2} ms, while draining {:.2} and {:.2} ms",
                grouped(round.drained),
                grouped(round.plain),
                round.cpu_s,
                round.away_p50_ms,
                round.away_p99_ms,
                round.draining_p50_ms,
                round.draining_p99_ms
            );
            rounds.push(round);
        }
        Ok(self.report(&rounds))
    }

    fn round(&self) -> Result<Round> {
        let upstream = free_address()?;
        let config = format!("[bridge]\nurl = \"mqtt://{upstream}\"\nreconnect_s_max = 1\n");
        let hub = Server::hub_with(&self.hub, &self.place, None, &config)?;
        let database = hub.db.clone().context("a hub has a database")?;
        let mut round = Round::default();

        self.fill(hub.addr)?;
        let (p50, p99) = sensor(hub.addr, self.duration, || Ok(false))?;
        (round.away_p50_ms, round.away_p99_ms) = (p50, p99);
        let broker = self.upstream(upstream)?;
        (round.drained, round.cpu_s) = drain(&database, hub.pid())?;
        broker.stop()?;

        self.fill(hub.addr)?;
        let broker = self.upstream(upstream)?;
        begun(&database)?;
        let (p50, p99) = sensor(hub.addr, self.duration, || Ok(waiting(&database)? <= UNTOLD))?;
        (round.draining_p50_ms, round.draining_p99_ms) = (p50, p99);
        broker.stop()?;
        hub.stop()?;

        let broker = self.upstream(upstream)?;
        round.plain = plain::rate(upstream, self.readings)?;
        broker.stop()?;
        Ok(round)
    }

    /// Starts the upstream. In earnest it is another machine, so here it steps back.
    fn upstream(&self, address: SocketAddr) -> Result<Server> {
        let upstream = Server::mosquitto_at(address, &self.mosquitto, &self.place, 100, 1000)?;
        let pid = i32::try_from(upstream.pid()).ok().and_then(Pid::from_raw);
        setpriority_process(pid, getpriority_process(pid)? + NICENESS)?;
        Ok(upstream)
    }

    /// Fills the backlog while the upstream is away.
    fn fill(&self, hub: SocketAddr) -> Result<()> {
        let mut generator = Generator::connect(hub, FILLING)?;
        generator.pump(Until::Acked(self.readings, Instant::now() + FILL_DEADLINE))?;
        generator.drain()?;
        generator.disconnect()
    }

    fn report(&self, rounds: &[Round]) -> String {
        let of = |field: fn(&Round) -> f64| rounds.iter().map(field).collect::<Vec<f64>>();
        let mut text = format!(
            "{}\n\n{} readings of the weather JSON in the backlog, QoS 1, MQTT 5, {} in flight upstream; medians of {} \
             rounds, lowest and highest in brackets. Hub, upstream (niced by 10) and sensor share the cores.\n\n| | |\n|---|--:|\n",
            machine::about(Some(&self.mosquitto)),
            grouped(self.readings as f64),
            plain::WINDOW,
            self.rounds
        );
        for (name, values) in [
            ("drained, messages a second", of(|round| round.drained)),
            ("rumqttc alone, messages a second", of(|round| round.plain)),
        ] {
            text += &format!("| {name} | {} |\n", grouped(median(values)));
        }
        for (name, values) in [
            ("hub, CPU s per 100,000 drained", of(|round| round.cpu_s)),
            ("a sensor's acks, upstream away: p50 ms", of(|round| round.away_p50_ms)),
            ("p99 ms", of(|round| round.away_p99_ms)),
            ("a sensor's acks, while draining: p50 ms", of(|round| round.draining_p50_ms)),
            ("p99 ms", of(|round| round.draining_p99_ms)),
        ] {
            text += &format!("| {name} | {} |\n", spread(&values));
        }
        text += "\n| goal | measured | verdict |\n|---|--:|---|\n";
        let share = of(|round| round.drained / round.plain);
        text += &goal("drain rate ÷ rumqttc alone, at least 0.5", share, |share| share >= SHARE_MIN);
        let slowdown = of(|round| round.draining_p99_ms / round.away_p99_ms);
        text + &goal("p99 of acks while draining ÷ upstream away, less than 2", slowdown, |slow| slow < SLOWDOWN_MAX)
    }
}

/// Looks at a sensor's acks for `duration`, or until `over`: the median and the 99th percentile, milliseconds.
fn sensor(hub: SocketAddr, duration: Duration, over: impl Fn() -> Result<bool>) -> Result<(f64, f64)> {
    let mut generator = Generator::connect(hub, SENSOR)?;
    let end = Instant::now() + duration;
    while Instant::now() < end && !over()? {
        generator.pump(Until::Time(Instant::now() + Duration::from_millis(100)))?;
    }
    generator.drain()?;
    let seen = (generator.latencies.quantile_ms(0.5), generator.latencies.quantile_ms(0.99));
    generator.disconnect()?;
    Ok(seen)
}

/// Returns messages a second, from the first that leaves the outbox to about the last, and the hub's CPU time for 100,000.
fn drain(database: &Path, hub: u32) -> Result<(f64, f64)> {
    let (start, first, cpu) = (begun(database)?, waiting(database)?, cpu_s(hub)?);
    loop {
        let left = waiting(database)?;
        if left <= UNTOLD {
            let (passed, gone) = (start.elapsed().as_secs_f64(), first.saturating_sub(left) as f64);
            return Ok((gone / passed, (cpu_s(hub)? - cpu) / gone * 1e5));
        }
        ensure!(start.elapsed() < DRAIN_DEADLINE, "{left} messages still wait after {DRAIN_DEADLINE:?}");
        thread::sleep(LOOK_INTERVAL);
    }
}

/// Waits until messages leave the outbox.
fn begun(database: &Path) -> Result<Instant> {
    let (full, end) = (waiting(database)?, Instant::now() + DRAIN_DEADLINE);
    while waiting(database)? >= full {
        ensure!(Instant::now() < end, "nothing leaves the outbox");
        thread::sleep(LOOK_INTERVAL);
    }
    Ok(Instant::now())
}

fn waiting(database: &Path) -> Result<u64> {
    let database = Connection::open_with_flags(database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    database.busy_timeout(Duration::from_secs(10))?;
    let messages: i64 = database.query_row("SELECT messages FROM outbox_total", [], |row| row.get(0))?;
    Ok(messages.unsigned_abs())
}
