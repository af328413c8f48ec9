//! The report on the fan-out: Markdown tables of medians, ready for `docs/performance.md`, and the goals with their
//! verdicts. Ratios are medians of the rounds' own, since only what ran next to each other compares.

use crate::figures::{goal, grouped, median, spread};
use crate::sessions::{PerSession, SESSIONS};

/// How many times Mosquitto's deliveries are wanted.
const RATE_MIN: f64 = 2.0;
const SESSION_KIB_MAX: f64 = 60.0;
/// How much slower the ingest may be beside a subscriber that reads nothing than beside one that reads: the noise
/// between rounds. That there is a subscriber costs something by itself: without any, messages take a short way.
const INGEST_SHARE_MIN: f64 = 0.9;

/// One measurement of one cell.
#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    /// Delivered per second, to all subscribers together.
    pub(crate) rate: f64,
    /// Published and acked per second.
    pub(crate) published_rate: f64,
    /// CPU seconds of the server per 100,000 delivered.
    pub(crate) cpu_s: f64,
    /// CPU seconds of the generator per 100,000 delivered.
    pub(crate) generator_cpu_s: f64,
    /// How much of what was due to the subscribers never came.
    pub(crate) lost_percent: f64,
    /// Resident memory of the server at the end.
    pub(crate) rss_mib: f64,
}

/// All rounds of one number of subscribers; both targets' values of one round have the same index.
pub(crate) struct Cell {
    pub(crate) subscribers: usize,
    pub(crate) qos: u8,
    hub: Vec<Delivery>,
    mosquitto: Vec<Delivery>,
}

impl Cell {
    /// Returns a cell without any measurement yet.
    pub(crate) fn new(subscribers: usize, qos: u8) -> Self {
        Self { subscribers, qos, hub: Vec::new(), mosquitto: Vec::new() }
    }

    /// Returns the hub's measurements, or Mosquitto's.
    pub(crate) fn of(&mut self, hub: bool) -> &mut Vec<Delivery> {
        if hub { &mut self.hub } else { &mut self.mosquitto }
    }

    fn ratios(&self, field: Field) -> Vec<f64> {
        self.hub.iter().zip(&self.mosquitto).map(|(hub, mosquitto)| field(hub) / field(mosquitto)).collect()
    }

    fn name(&self) -> String {
        let plural = if self.subscribers == 1 { "" } else { "s" };
        format!("{} subscriber{plural} at QoS {}", self.subscribers, self.qos)
    }
}

/// What sessions cost one target.
pub(crate) struct Memory {
    pub(crate) target: String,
    pub(crate) own_filters: bool,
    pub(crate) per_session: PerSession,
}

/// The hub's acked readings per second: alone, and beside one subscriber to all of them.
#[derive(Default)]
pub(crate) struct Ingest {
    pub(crate) alone: Vec<f64>,
    /// It takes all it gets.
    pub(crate) reading: Vec<f64>,
    /// It takes nothing.
    pub(crate) stuck_qos0: Vec<f64>,
    pub(crate) stuck_qos1: Vec<f64>,
}

/// Everything that one run measured.
pub(crate) struct Report {
    /// What machine, which versions.
    pub(crate) about: String,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) cells: Vec<Cell>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) ingest: Ingest,
}

type Field = fn(&Delivery) -> f64;

impl Report {
    /// Returns the whole report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\n10 publishers with 20 in flight each at QoS 1, the weather JSON on a topic that is not stored; both servers with a \
             window of 100 and a queue of 1,000 messages for each client; medians of {} rounds of {} s after 0.5 s of warm-up, the \
             servers taking turns; ratios are medians of the rounds' own, lowest and highest in brackets. Nothing is pinned to a core. \
             Of the hub, published = delivered + dropped was true to the last message in every run: nothing is lost inside the router.\n",
            self.about, self.rounds, self.seconds
        );
        text += "\n### Delivered\n\n| subscribers | target | delivered/s | published/s | lost % | CPU s per 100,000 delivered \
                 | generator | RSS MiB | delivered ÷ Mosquitto | CPU ÷ Mosquitto |\n";
        text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|\n";
        for cell in &self.cells {
            let ratios = format!("{} | {}", spread(&cell.ratios(rate)), spread(&cell.ratios(cpu)));
            text += &row(cell, "hub", &cell.hub, &ratios);
            text += &row(cell, "Mosquitto", &cell.mosquitto, " | ");
        }
        text += &self.memory();
        text += &self.ingest();
        text + "\n### Goals\n\n| goal | measured | verdict |\n|---|--:|---|\n" + &self.goals()
    }

    fn memory(&self) -> String {
        let mut text = format!(
            "\n### Memory of a session\n\n{SESSIONS} of them; KiB of resident memory for each.\n\n| filters | target | \
             connected | subscribed | after 20 messages each | delivered/s meanwhile |\n|---|---|--:|--:|--:|--:|\n"
        );
        for Memory { target, own_filters, per_session } in &self.memory {
            let filters = if *own_filters { "one each" } else { "the same" };
            let PerSession { connected_kib, idle_kib, used_kib, rate } = per_session;
            let rate = grouped(*rate);
            text +=
                &format!("| {filters} | {target} | {connected_kib:.1} | {idle_kib:.1} | {used_kib:.1} | {rate} |\n");
        }
        text
    }

    fn ingest(&self) -> String {
        let mut text =
            "\n### Ingest beside a subscriber\n\n| subscriber to `#` | readings acked/s | ÷ alone | ÷ beside one that \
                        reads |\n|---|--:|--:|--:|\n"
                .to_owned();
        let Ingest { alone, reading, stuck_qos0, stuck_qos1 } = &self.ingest;
        let rows = [
            ("none", alone),
            ("reads, QoS 0", reading),
            ("reads nothing, QoS 0", stuck_qos0),
            ("reads nothing, QoS 1", stuck_qos1),
        ];
        for (name, rates) in rows {
            let shares = [alone, reading].map(|base| spread(&shares(rates, base))).join(" | ");
            text += &format!("| {name} | {} | {shares} |\n", grouped(median(rates.clone())));
        }
        text
    }

    fn goals(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            let name = cell.name();
            text += &goal(&format!("{name}: delivered ≥ {RATE_MIN} × Mosquitto"), cell.ratios(rate), |share| {
                share >= RATE_MIN
            });
            text += &goal(&format!("{name}: CPU per message ≤ Mosquitto's"), cell.ratios(cpu), |share| share <= 1.0);
        }
        for Memory { own_filters, per_session, .. } in self.memory.iter().filter(|row| row.target == "hub") {
            let filters = if *own_filters { "a filter of its own" } else { "a common filter" };
            let name = format!("a session with {filters}, after traffic: < {SESSION_KIB_MAX} KiB");
            text += &goal(&name, vec![per_session.used_kib], |kib| kib < SESSION_KIB_MAX);
        }
        for (qos, rates) in [(0, &self.ingest.stuck_qos0), (1, &self.ingest.stuck_qos1)] {
            let name =
                format!("ingest beside a subscriber stuck at QoS {qos}: ≥ {INGEST_SHARE_MIN} × beside one that reads");
            text += &goal(&name, shares(rates, &self.ingest.reading), |share| share >= INGEST_SHARE_MIN);
        }
        text
    }
}

fn row(cell: &Cell, target: &str, rounds: &[Delivery], ratios: &str) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let middle = |field: Field| median(rounds.iter().map(field).collect());
    let cpus: Vec<f64> = rounds.iter().map(cpu).collect();
    format!(
        "| {} at QoS {} | {target} | {} | {} | {:.1} | {} | {:.3} | {:.1} | {ratios} |\n",
        cell.subscribers,
        cell.qos,
        grouped(middle(rate)),
        grouped(middle(|it| it.published_rate)),
        middle(|it| it.lost_percent),
        spread(&cpus),
        middle(|it| it.generator_cpu_s),
        middle(|it| it.rss_mib),
    )
}

fn shares(these: &[f64], those: &[f64]) -> Vec<f64> {
    these.iter().zip(those).map(|(this, that)| this / that).collect()
}

fn rate(measured: &Delivery) -> f64 {
    measured.rate
}

fn cpu(measured: &Delivery) -> f64 {
    measured.cpu_s
}
