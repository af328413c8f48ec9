//! `cargo bench --bench fanout`: what it costs to pass a message on to its subscribers. The hub beside Mosquitto, with
//! the same window and the same queue for each client, measured in turns by one generator on one machine: delivered
//! messages per second and CPU for 1 and 10 subscribers at QoS 0 and 1; memory for each subscribed session; and the
//! hub's ingest beside a subscriber that reads nothing. Prints progress to stderr and a Markdown report to stdout.
//!
//! Loss is known to the last message: published = delivered + dropped, and a hub whose counter says otherwise ends the
//! benchmark with an error, for then messages were lost inside it. A missed goal is only told.
//!
//! | after `--` | does |
//! |---|---|
//! | nothing | everything, about five minutes |
//! | `quick` | one round of 1 s |
//!
//! `STATIONHUB_BIN`, `BENCH_SECONDS`, `BENCH_ROUNDS` and `BENCH_DIR` mean what they mean for `ingest`.

#[path = "ingest/figures.rs"]
mod figures;
#[allow(dead_code)] // the floor belongs to the ingest alone
#[path = "ingest/floor.rs"]
mod floor;
#[allow(dead_code)] // so does the load in numbers of acks
#[path = "ingest/generator.rs"]
mod generator;
#[path = "ingest/histogram.rs"]
mod histogram;
#[path = "fanout/load.rs"]
mod load;
#[path = "ingest/machine.rs"]
mod machine;
#[path = "ingest/outbox.rs"]
mod outbox;
#[path = "ingest/packet.rs"]
mod packet;
#[path = "ingest/process.rs"]
mod process;
#[path = "fanout/report.rs"]
mod report;
#[path = "fanout/sessions.rs"]
mod sessions;
#[allow(dead_code)] // the servers as the ingest wants them
#[path = "ingest/target.rs"]
mod target;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use figures::grouped;
use load::{Load, Shape, subscribe_blocking};
use machine::{find_mosquitto, setting, span};
use process::{cpu_s, memory};
use report::{Cell, Delivery, Ingest, Memory, Report};
use target::{Server, WARM_UP};

/// Messages in flight to one client, in both servers.
const WINDOW: usize = 100;
/// Messages that wait for one client, in both servers.
const QUEUE: usize = 1_000;
const PUBLISHERS: usize = 10;
const IN_FLIGHT: usize = 20;
const SUBSCRIBERS: [(usize, u8); 4] = [(1, 0), (10, 0), (1, 1), (10, 1)];

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
        [] if flags.is_empty() => println!("nothing measured: run `cargo bench --bench fanout`"),
        [] => print!("{}", Bench::new(setting("BENCH_SECONDS", 4.0)?, setting("BENCH_ROUNDS", 3)?)?.everything()?),
        ["quick"] => print!("{}", Bench::new(1.0, 1)?.everything()?),
        _ => bail!("unknown: {words:?}; want nothing or quick"),
    }
    Ok(())
}

/// The settings of a run.
struct Bench {
    hub: PathBuf,
    mosquitto: Option<PathBuf>,
    place: PathBuf,
    duration: Duration,
    rounds: usize,
}

/// Who is measured.
#[derive(Clone, Copy)]
enum Target {
    Hub,
    Mosquitto,
}

impl Bench {
    fn new(seconds: f64, rounds: usize) -> Result<Self> {
        ensure!((1..=1000).contains(&rounds), "BENCH_ROUNDS: {rounds} is not 1 to 1000");
        let (hub, place) = (machine::hub()?, machine::place()?);
        Ok(Self { hub, mosquitto: find_mosquitto(), place, duration: span(seconds)?, rounds })
    }

    /// Runs the whole plan and returns its report.
    fn everything(&self) -> Result<String> {
        let mut targets = vec![Target::Hub];
        match self.mosquitto {
            Some(_) => targets.push(Target::Mosquitto),
            None => eprintln!("Mosquitto is not installed: not compared"),
        }
        let mut cells: Vec<Cell> = SUBSCRIBERS.iter().map(|&(subscribers, qos)| Cell::new(subscribers, qos)).collect();
        let mut ingest = Ingest::default();
        for round in 1..=self.rounds {
            for cell in &mut cells {
                for &target in &targets {
                    self.add(cell, target, round)?;
                }
            }
            self.add_ingest(&mut ingest, round)?;
            targets.reverse();
        }
        let memory = self.memory(&targets)?;
        let (about, seconds) = (machine::about(self.mosquitto.as_deref()), self.duration.as_secs_f64());
        Ok(Report { about, seconds, rounds: self.rounds, cells, memory, ingest }.markdown())
    }

    fn start(&self, target: Target) -> Result<Server> {
        match (target, &self.mosquitto) {
            (Target::Mosquitto, Some(binary)) => Server::mosquitto_with(binary, &self.place, WINDOW, QUEUE),
            _ => {
                let limits = format!(
                    "inflight = {WINDOW}\nsession_queue_messages = {QUEUE}\nconnections = 1100\nconnections_per_address = 1100\n"
                );
                Server::hub_with(&self.hub, &self.place, None, &format!("[broker.limits]\n{limits}"))
            }
        }
    }

    /// Adds one measurement to `cell`.
    fn add(&self, cell: &mut Cell, target: Target, round: usize) -> Result<()> {
        let shape =
            Shape { publishers: PUBLISHERS, in_flight: IN_FLIGHT, subscribers: cell.subscribers, qos: cell.qos };
        let server = self.start(target)?;
        let measured = self.fan_out(&server, shape).with_context(|| server.last_words())?;
        eprintln!(
            "round {round}, {} at QoS {}: {target} {}/s delivered, {}/s published, {:.3} CPU s per 100,000 (generator {:.3}), {:.1} % lost",
            cell.subscribers,
            cell.qos,
            grouped(measured.rate),
            grouped(measured.published_rate),
            measured.cpu_s,
            measured.generator_cpu_s,
            measured.lost_percent
        );
        server.stop()?;
        cell.of(matches!(target, Target::Hub)).push(measured);
        Ok(())
    }

    fn fan_out(&self, server: &Server, shape: Shape) -> Result<Delivery> {
        let mut load = Load::connect(server.addr, shape)?;
        load.pump(Instant::now() + WARM_UP)?;
        let (start, delivered, acked) = (Instant::now(), load.delivered(), load.acked());
        let (server_s, own_s) = (cpu_s(server.pid())?, cpu_s(std::process::id())?);
        load.pump(start + self.duration)?;
        let elapsed = start.elapsed().as_secs_f64();
        let (server_s, own_s) = (cpu_s(server.pid())? - server_s, cpu_s(std::process::id())? - own_s);
        let (delivered, acked) = ((load.delivered() - delivered) as f64, (load.acked() - acked) as f64);
        ensure!(delivered > 0.0, "nothing was delivered within {:?}", self.duration);
        load.drain()?;
        let wanted = load.acked() * shape.subscribers as u64;
        let lost = wanted.checked_sub(load.delivered()).context("more was delivered than published")?;
        if server.db.is_some() {
            let counted = self.figure(server, "dropped")?;
            ensure!(lost == counted, "{lost} messages did not come, and {counted} are counted as dropped");
            let in_router = self.figure(server, "router_lost")?;
            ensure!(in_router == 0, "{in_router} messages were lost inside the router, by its own places");
        }
        let rss_mib = memory(server.pid())?.rss_mib;
        load.disconnect()?;
        Ok(Delivery {
            rate: delivered / elapsed,
            published_rate: acked / elapsed,
            cpu_s: server_s / delivered * 1e5,
            generator_cpu_s: own_s / delivered * 1e5,
            lost_percent: lost as f64 / wanted as f64 * 1e2,
            rss_mib,
        })
    }

    /// Asks a hub for one of the figures that it counts.
    fn figure(&self, server: &Server, name: &str) -> Result<u64> {
        let db = server.db.as_ref().context("Mosquitto has no figures")?;
        let output = process::hub(&self.hub).args(["status", "--json", "--db"]).arg(db).output()?;
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).context("status prints JSON")?;
        report["figures"][name].as_u64().with_context(|| format!("there is no figure {name}"))
    }

    fn memory(&self, targets: &[Target]) -> Result<Vec<Memory>> {
        let mut rows = Vec::new();
        for own_filters in [false, true] {
            for &target in targets {
                let server = self.start(target)?;
                let measured = sessions::measure(server.addr, server.pid(), own_filters);
                let per_session = measured.with_context(|| server.last_words())?;
                eprintln!(
                    "{target}: {:.1} KiB for a session connected, {:.1} subscribed, {:.1} after traffic; {}/s",
                    per_session.connected_kib,
                    per_session.idle_kib,
                    per_session.used_kib,
                    grouped(per_session.rate)
                );
                rows.push(Memory { target: target.to_string(), own_filters, per_session });
                server.stop()?;
            }
        }
        Ok(rows)
    }

    /// Measures the hub's ingest alone, and beside one subscriber to all of it.
    fn add_ingest(&self, ingest: &mut Ingest, round: usize) -> Result<()> {
        let Ingest { alone, reading, stuck_qos0, stuck_qos1 } = ingest;
        let beside = [
            ("nobody", None, alone),
            ("one that reads", Some((0, true)), reading),
            ("one stuck at QoS 0", Some((0, false)), stuck_qos0),
            ("one stuck at QoS 1", Some((1, false)), stuck_qos1),
        ];
        for (name, subscriber, rates) in beside {
            let server = Server::hub(&self.hub, &self.place, None)?;
            let addr = server.addr;
            let mut stuck = Vec::new();
            if let Some((qos, reads)) = subscriber {
                let stream = subscribe_blocking(addr, "subscriber", "#", qos)?;
                if reads { sessions::read_on(stream) } else { stuck.push(stream) }
            }
            let shape = generator::Shape { clients: PUBLISHERS, in_flight: IN_FLIGHT };
            let seen = server.under(shape, |generator, pid| target::measure(generator, Some(pid), self.duration))?;
            eprintln!("round {round}, ingest beside {name}: {}/s", grouped(seen.rate));
            rates.push(seen.rate);
        }
        Ok(())
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Target::Hub => "hub",
            Target::Mosquitto => "Mosquitto",
        })
    }
}
