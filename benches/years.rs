//! `cargo bench --bench years`: a database of ten years.
//!
//! | after `--` | does |
//! |---|---|
//! | `make ROWS FILE` | makes a database of so many rows in each table; 63115200 are ten years at a 5 s rhythm |

#[allow(dead_code)]
#[path = "ingest/figures.rs"]
mod figures;
#[path = "years/make.rs"]
mod make;

use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Result, bail};

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
    let (flags, words): (Vec<_>, Vec<_>) = env::args().skip(1).partition(|word| word == "--bench");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        [] if flags.is_empty() => println!("nothing measured: run `cargo bench --bench years`"),
        ["make", rows, file] => make::make(rows.parse()?, Path::new(file))?,
        _ => bail!("unknown: {words:?}"),
    }
    Ok(())
}
