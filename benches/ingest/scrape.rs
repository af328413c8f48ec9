//! What a scrape of the metrics costs: how long it takes under load, and what the load notices of it.
//!
//! Owns the scraper, which asks ten times a second where Prometheus asks four times a minute, and its report.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::figures::{goal, grouped, spread};
use crate::generator::Shape;
use crate::histogram::Histogram;
use crate::target::{Measurement, Server, measure};

/// The time between two scrapes.
const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_secs(10);
const SHAPES: [Shape; 2] = [Shape { clients: 10, in_flight: 1 }, Shape { clients: 10, in_flight: 20 }];
/// How long a scrape may take, milliseconds, and by how much the 99th percentile of the acks may grow.
const MS_MAX: f64 = 50.0;
const RATIO_MAX: f64 = 1.1;

/// What the rounds of one shape came to.
struct Rounds {
    shape: Shape,
    without: Vec<Measurement>,
    with: Vec<Measurement>,
    p50_ms: Vec<f64>,
    longest_ms: Vec<f64>,
}

/// Loads hubs in turns without and with a scraper, and returns the report.
pub(crate) fn measured(hub: &Path, place: &Path, duration: Duration, rounds: usize) -> Result<String> {
    let mut report = String::from(
        "| clients × in flight | acked/s without | with | p99 ms without | with | p99 with ÷ without | scrape p50 ms | longest ms |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    let mut goals = String::new();
    for shape in SHAPES {
        let mut cell =
            Rounds { shape, without: Vec::new(), with: Vec::new(), p50_ms: Vec::new(), longest_ms: Vec::new() };
        for round in 0..rounds {
            for with in [round % 2 == 0, round % 2 != 0] {
                cell.add(Server::hub(hub, place, None)?, with, duration)?;
            }
            eprintln!("round {}, {shape}: scrapes up to {:.2} ms", round + 1, cell.longest_ms[round]);
        }
        cell.tell(&mut report, &mut goals)?;
    }
    Ok(format!("{report}\n| goal | measured | |\n|---|---|---|\n{goals}"))
}

impl Rounds {
    fn add(&mut self, server: Server, with: bool, duration: Duration) -> Result<()> {
        let http = server.http.context("the hub serves no HTTP")?;
        let shape = self.shape;
        if !with {
            self.without.push(server.under(shape, |generator, pid| measure(generator, Some(pid), duration))?);
            return Ok(());
        }
        let is_over = AtomicBool::new(false);
        let (seen, times) = thread::scope(|scope| -> Result<_> {
            let scraper = scope.spawn(|| scrape_until(&is_over, http));
            let seen = server.under(shape, |generator, pid| {
                let seen = measure(generator, Some(pid), duration);
                is_over.store(true, Ordering::Relaxed);
                seen
            });
            is_over.store(true, Ordering::Relaxed);
            let times = scraper.join().map_err(|_| anyhow!("the scraper panicked"))?;
            Ok((seen?, times?))
        })?;
        self.with.push(seen);
        self.p50_ms.push(times.quantile_ms(0.5));
        self.longest_ms.push(times.quantile_ms(1.0));
        Ok(())
    }

    fn tell(&self, report: &mut String, goals: &mut String) -> Result<()> {
        let of = |measured: &[Measurement], what: fn(&Measurement) -> f64| -> Vec<f64> {
            measured.iter().map(what).collect()
        };
        let rates = [&self.without, &self.with].map(|all| grouped(crate::figures::median(of(all, |one| one.rate))));
        let p99 = [&self.without, &self.with].map(|all| spread(&of(all, |one| one.p99_ms)));
        let ratios: Vec<f64> =
            self.with.iter().zip(&self.without).map(|(with, without)| with.p99_ms / without.p99_ms).collect();
        let (shape, p50, longest) = (self.shape, spread(&self.p50_ms), spread(&self.longest_ms));
        writeln!(
            report,
            "| {shape} | {} | {} | {} | {} | {} | {p50} | {longest} |",
            rates[0],
            rates[1],
            p99[0],
            p99[1],
            spread(&ratios)
        )?;
        let name = format!("{shape}: the longest scrape takes less than {MS_MAX} ms");
        goals.push_str(&goal(&name, self.longest_ms.clone(), |ms| ms < MS_MAX));
        let name = format!("{shape}: p99 of the acks with a scraper is at most {RATIO_MAX} times that without");
        goals.push_str(&goal(&name, ratios, |ratio| ratio <= RATIO_MAX));
        Ok(())
    }
}

/// Scrapes at intervals until it is over; returns how long each took.
fn scrape_until(is_over: &AtomicBool, http: SocketAddr) -> Result<Histogram> {
    let mut times = Histogram::new();
    while !is_over.load(Ordering::Relaxed) {
        let start = Instant::now();
        scrape(http)?;
        times.record(start.elapsed());
        thread::sleep(INTERVAL.saturating_sub(start.elapsed()));
    }
    Ok(times)
}

fn scrape(http: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&http, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("stationhub_readings_total"), "no metrics: {answer}");
    Ok(())
}
