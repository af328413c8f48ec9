//! The report: Markdown tables of medians, ready for `docs/performance.md`, and the goals with their verdicts. A ratio
//! is the median of the rounds' own ratios, since only what ran next to each other compares; the lowest and highest stand
//! beside it, and a goal that only some rounds reach is told as such: where the scheduler puts server and generator, on
//! one core or on two, alone moves Mosquitto's CPU per message by a factor of 1.5, and its 1 × 1 by 10. A whole run may stay
//! in one of the two, so that its rounds agree and the next run does not: the spread within a run is no bound.

use crate::figures::{goal, grouped, median, spread};
use crate::generator::Shape;
use crate::process::Memory;
use crate::target::Measurement;

const RSS_MIB_MAX_10: f64 = 16.0;
const RSS_MIB_MAX_100: f64 = 30.0;
const FLOOR_SHARE_MIN: f64 = 0.6;
/// How far the last samples of a million readings may lie above the first.
const GROWTH_MIB_MAX: f64 = 1.0;

/// All rounds of one cell; the targets' values of one round have the same index.
pub(crate) struct Cell {
    pub(crate) shape: Shape,
    pub(crate) hub: Vec<Measurement>,
    pub(crate) mosquitto: Vec<Measurement>,
    pub(crate) floor: Vec<Measurement>,
}

impl Cell {
    /// Returns a cell without any measurement yet.
    pub(crate) fn new(shape: Shape) -> Self {
        Self { shape, hub: Vec::new(), mosquitto: Vec::new(), floor: Vec::new() }
    }

    fn is(&self, clients: usize, in_flight: usize) -> bool {
        self.shape == Shape { clients, in_flight }
    }
}

/// Everything that one run measured.
pub(crate) struct Report {
    /// What machine, which versions.
    pub(crate) about: String,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) fast: Vec<Cell>,
    /// The slow disk: milliseconds per sync, and its cells.
    pub(crate) slow: Option<(u64, Vec<Cell>)>,
    /// Acked so far and memory then, every 100,000 readings.
    pub(crate) million: Vec<(u64, Memory)>,
}

type Field = fn(&Measurement) -> f64;

impl Report {
    /// Returns the whole report as Markdown.
    pub(crate) fn markdown(&self) -> String {
        let mut text = format!(
            "{}\n\nQoS 1, the weather JSON; medians of {} rounds of {} s after 0.5 s of warm-up, the targets taking turns \
             cell by cell; ratios are medians of the rounds' own, lowest and highest in brackets. Nothing is pinned to a core: whether \
             the scheduler puts server and generator on one or on two alone moves rates and CPU, at times for a whole run: compare several runs. The hub stores every row with `synchronous=FULL` before \
             it acks, Mosquitto stores nothing, the floor is one thread of SQLite committing the same row alone. Hub \
             rows stored were equal to acks in every run.\n",
            self.about, self.rounds, self.seconds
        );
        text += "\n### This disk\n\n";
        text += &table(&self.fast);
        if let Some((sync_ms, cells)) = &self.slow {
            text += &format!("\n### A slow disk: every sync takes {sync_ms} ms longer\n\n");
            text += &table(cells);
        }
        if !self.million.is_empty() {
            text += "\n### A million readings through 10 × 20\n\n| readings | RSS MiB | peak MiB |\n|--:|--:|--:|\n";
            for (acked, memory) in &self.million {
                text += &format!("| {} | {:.1} | {:.1} |\n", grouped(*acked as f64), memory.rss_mib, memory.peak_mib);
            }
        }
        text + "\n### Goals\n\n| goal | measured | verdict |\n|---|--:|---|\n" + &self.goals()
    }

    fn goals(&self) -> String {
        let mut text = String::new();
        for (clients, in_flight) in [(10, 20), (100, 20)] {
            let cell = self.fast.iter().find(|cell| cell.is(clients, in_flight));
            let against = |field: Field| cell.map_or(Vec::new(), |cell| ratios(&cell.hub, &cell.mosquitto, field));
            let shape = Shape { clients, in_flight };
            text += &goal(&format!("{shape}: rate ≥ Mosquitto's"), against(rate), |share| share >= 1.0);
            text += &goal(&format!("{shape}: CPU per message ≤ Mosquitto's"), against(cpu), |share| share <= 1.0);
        }
        let floor_goal = |cells: &[Cell], disk: &str| {
            let cell = cells.iter().find(|cell| cell.is(1, 1));
            let shares = cell.map_or(Vec::new(), |cell| ratios(&cell.hub, &cell.floor, rate));
            goal(&format!("1 × 1: rate ≥ {FLOOR_SHARE_MIN} × floor, {disk}"), shares, |share| {
                share >= FLOOR_SHARE_MIN
            })
        };
        text += &floor_goal(&self.fast, "this disk");
        let slow = self.slow.as_ref();
        text += &floor_goal(slow.map_or(&[], |(_, cells)| cells), "slow disk");
        let million = self.million.iter().map(|(_, memory)| memory.rss_mib);
        for (clients, limit, more) in [(10, RSS_MIB_MAX_10, Some(million)), (100, RSS_MIB_MAX_100, None)] {
            let cells = self.fast.iter().chain(slow.into_iter().flat_map(|(_, cells)| cells));
            let of_clients = cells.filter(|cell| cell.shape.clients == clients);
            let all = of_clients.flat_map(|cell| &cell.hub).map(|hub| hub.rss_mib).chain(more.into_iter().flatten());
            let name = format!("{clients} clients: RSS < {limit} MiB in every run");
            text += &goal(&name, all.reduce(f64::max).into_iter().collect(), |mib| mib < limit);
        }
        let name =
            format!("a million readings: RSS grows by ≤ {GROWTH_MIB_MAX} MiB (last three samples over first three)");
        text + &goal(&name, self.growth_mib().into_iter().collect(), |mib| mib <= GROWTH_MIB_MAX)
    }

    fn growth_mib(&self) -> Option<f64> {
        let highest = |samples: &[(u64, Memory)]| samples.iter().map(|(_, memory)| memory.rss_mib).reduce(f64::max);
        let from_last_three = self.million.len().checked_sub(3)?;
        Some(highest(&self.million[from_last_three..])? - highest(&self.million[..3])?)
    }
}

fn table(cells: &[Cell]) -> String {
    let mut text =
        "| clients × in flight | target | acked/s | lowest to highest | p50 ms | p99 ms | CPU s per 100,000 | RSS MiB \
                    | peak MiB | rate ÷ Mosquitto | CPU ÷ Mosquitto | rate ÷ floor |\n"
            .to_owned();
    text += "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n";
    for cell in cells {
        let share = |of: &[Measurement], field| spread(&ratios(&cell.hub, of, field));
        let shares = [share(&cell.mosquitto, rate), share(&cell.mosquitto, cpu), share(&cell.floor, rate)].join(" | ");
        text += &row(cell.shape, "hub", &cell.hub, &shares);
        text += &row(cell.shape, "Mosquitto", &cell.mosquitto, " |  | ");
        text += &row(cell.shape, "floor", &cell.floor, " |  | ");
    }
    text
}

fn row(shape: Shape, target: &str, rounds: &[Measurement], shares: &str) -> String {
    if rounds.is_empty() {
        return String::new();
    }
    let middle = |field: Field| median(rounds.iter().map(field).collect());
    let lowest = rounds.iter().map(rate).fold(f64::INFINITY, f64::min);
    let highest = rounds.iter().map(rate).fold(0.0, f64::max);
    let cpus: Vec<f64> = rounds.iter().map(cpu).collect();
    format!(
        "| {shape} | {target} | {} | {} to {} | {:.2} | {:.2} | {} | {:.1} | {:.1} | {shares} |\n",
        grouped(middle(rate)),
        grouped(lowest),
        grouped(highest),
        middle(|m| m.p50_ms),
        middle(|m| m.p99_ms),
        spread(&cpus),
        middle(|m| m.rss_mib),
        middle(|m| m.peak_mib),
    )
}

fn rate(measured: &Measurement) -> f64 {
    measured.rate
}

fn cpu(measured: &Measurement) -> f64 {
    measured.cpu_s
}

/// Returns `these` divided by `those`, round by round.
fn ratios(these: &[Measurement], those: &[Measurement], field: Field) -> Vec<f64> {
    these.iter().zip(those).map(|(this, that)| field(this) / field(that)).collect()
}
