//! `cargo bench --bench years`: a database of ten years, a reading every 5 s, 63 million rows in each table. How long the hub
//! takes to start on it, to answer what charts ask, and to take a reading; and what acks notice of rollups and of old rows
//! being deleted. Prints progress to stderr and a Markdown report to stdout. A question that goes through a whole table, or a
//! reading that was acked and not stored, ends it with an error; a missed goal is only told.
//!
//! | after `--` | does |
//! |---|---|
//! | nothing | everything, on `years-ROWS.db` in `BENCH_DIR`, which is made where it is missing (15 GB, five minutes) |
//! | `quick` | everything on a small database that is thrown away |
//! | `make ROWS FILE` | makes a database |
//! | `measure FILE` | everything on this one |
//!
//! | variable | means |
//! |---|---|
//! | `STATIONHUB_BIN` | the hub's binary (the one that cargo built) |
//! | `BENCH_SECONDS`, `BENCH_ROUNDS` | per measurement (4), repetitions (3) |
//! | `BENCH_ROWS` | rows of each table (63115200: ten years) |
//! | `BENCH_DIR` | where databases are put (under `target/`); never a tmpfs |

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
#[allow(dead_code)] // Mosquitto has no part in this
#[path = "ingest/machine.rs"]
mod machine;
#[path = "years/make.rs"]
mod make;
#[path = "years/measure.rs"]
mod measure;
#[path = "ingest/outbox.rs"]
mod outbox;
#[path = "ingest/packet.rs"]
mod packet;
#[path = "ingest/process.rs"]
mod process;
#[path = "years/questions.rs"]
mod questions;
#[allow(dead_code)] // the servers as the ingest wants them
#[path = "ingest/target.rs"]
mod target;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

use machine::{setting, span};
use measure::Years;

/// Ten years.
const ROWS: i64 = 63_115_200;
const ROWS_QUICK: i64 = 200_000;
const ROWS_RETENTION: i64 = 1_000_000;

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
        [] if flags.is_empty() => println!("nothing measured: run `cargo bench --bench years`"),
        [] => {
            let rows = setting("BENCH_ROWS", ROWS)?;
            let db = machine::place()?.join(format!("years-{rows}.db"));
            if !db.exists() {
                make::make(rows, &db)?;
            }
            measure(&db)?;
        }
        ["quick"] => quick()?,
        ["make", rows, file] => make::make(rows.parse()?, Path::new(file))?,
        ["measure", file] => measure(Path::new(file))?,
        _ => bail!("unknown: {words:?}; one of: quick | make ROWS FILE | measure FILE"),
    }
    Ok(())
}

fn measure(db: &Path) -> Result<()> {
    let years = Years {
        hub: machine::hub()?,
        place: machine::place()?,
        duration: span(setting("BENCH_SECONDS", 4.0)?)?,
        rounds: setting("BENCH_ROUNDS", 3)?,
        retention_rows: ROWS_RETENTION,
    };
    let report = years.everything(&db.canonicalize()?)?;
    println!("{}\n\n{report}", machine::about(None));
    Ok(())
}

fn quick() -> Result<()> {
    let (hub, place) = (machine::hub()?, machine::place()?);
    let dir = tempfile::TempDir::with_prefix_in("years-", &place)?;
    let db = dir.path().join("quick.db");
    make::make(ROWS_QUICK, &db)?;
    let years = Years { hub, place, duration: span(1.0)?, rounds: 1, retention_rows: ROWS_QUICK };
    println!("{}", years.everything(&db)?);
    Ok(())
}
