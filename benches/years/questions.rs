//! What is asked of the database: each question with its plan, which must look into an index, and its time.
//!
//! Owns the list of questions. It only reads.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rusqlite::{Connection, OpenFlags};
use stationhub::reading::{Kind, Quantity};
use stationhub::store::{Reader, series};

/// How often each is asked.
const ASKED: usize = 9;
const DAY_S: i64 = 86_400;
/// The numbers of the station's sources, as `make` gives them.
const WEATHER_SOURCE: i64 = 1;

/// A question's answer: how long it took, in milliseconds, and of how many rows it was.
pub(crate) struct Answered {
    pub(crate) name: &'static str,
    /// The first time, and the median of the others.
    pub(crate) first_ms: f64,
    pub(crate) again_ms: f64,
    pub(crate) rows: usize,
    pub(crate) plan: String,
}

type Ask = Box<dyn Fn(&Reader) -> Result<usize>>;

/// Asks all questions, about the time before `last_s`, Unix seconds.
pub(crate) fn ask_all(db: &Path, last_s: i64) -> Result<Vec<Answered>> {
    let (day_s, year_s) = (last_s - 3 * DAY_S, last_s - 366 * DAY_S);
    let questions: [(&str, &str, Ask); 8] = [
        (
            "latest readings, weather",
            series::NEWEST_WEATHER,
            Box::new(|reader| Ok(reader.latest(Kind::Weather)?.len())),
        ),
        ("latest readings, magnetic", series::NEWEST_FLUX, Box::new(|reader| Ok(reader.latest(Kind::Magnetic)?.len()))),
        (
            "one day raw, weather",
            series::RAW_WEATHER,
            Box::new(move |reader| Ok(reader.raw(Kind::Weather, None, day_s, day_s + DAY_S, 100_000)?.len())),
        ),
        (
            "one day raw, magnetic",
            series::RAW_FLUX,
            Box::new(move |reader| Ok(reader.raw(Kind::Magnetic, None, day_s, day_s + DAY_S, 100_000)?.len())),
        ),
        (
            "one year hourly, temperature",
            series::HOURLY,
            Box::new(move |reader| {
                Ok(reader.hourly(WEATHER_SOURCE, Quantity::Temperature, year_s, last_s, 10_000)?.len())
            }),
        ),
        (
            "ten years daily, temperature, the hub's half",
            series::DAILY,
            Box::new(|reader| daily(reader, WEATHER_SOURCE, Quantity::Temperature)),
        ),
        (
            "ten years daily, temperature, the old station's half",
            series::DAILY,
            Box::new(|reader| daily(reader, 0, Quantity::Temperature)),
        ),
        (
            "ten years daily, rain, both halves",
            series::DAILY,
            Box::new(|reader| {
                Ok(daily(reader, 0, Quantity::RainGaugeCount)?
                    + daily(reader, WEATHER_SOURCE, Quantity::RainGaugeCount)?)
            }),
        ),
    ];
    questions.into_iter().map(|(name, sql, ask)| answered(db, name, sql, &ask)).collect()
}

fn daily(reader: &Reader, source: i64, quantity: Quantity) -> Result<usize> {
    Ok(reader.daily(source, quantity, "2000-01-01", "2099-12-31", 10_000)?.len())
}

fn answered(db: &Path, name: &'static str, sql: &str, ask: &Ask) -> Result<Answered> {
    let plan = plan(db, sql).with_context(|| name.to_owned())?;
    let mut times_ms = Vec::new();
    let mut rows = 0;
    for _ in 0..ASKED {
        let begun = Instant::now();
        // As one who asks does: with a connection of its own.
        rows = ask(&Reader::open(db)?).with_context(|| name.to_owned())?;
        times_ms.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    ensure!(rows > 0, "{name}: nothing was found");
    let first_ms = times_ms.remove(0);
    times_ms.sort_by(f64::total_cmp);
    Ok(Answered { name, first_ms, again_ms: times_ms[times_ms.len() / 2], rows, plan })
}

/// Returns a statement's plan; an error where it goes through a whole table.
fn plan(db: &Path, sql: &str) -> Result<String> {
    let connection = Connection::open_with_flags(db, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    // Parameters that are not bound are NULL: the plan does not depend on them.
    let steps: Vec<String> = statement.raw_query().mapped(|row| row.get(3)).collect::<rusqlite::Result<_>>()?;
    ensure!(!steps.iter().any(|step| step.starts_with("SCAN")), "goes through a whole table: {steps:?}");
    Ok(steps.into_iter().filter(|step| step.starts_with("SEARCH")).collect::<Vec<_>>().join("; "))
}
