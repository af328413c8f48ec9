//! `stationhub import-mosquitto`: a mosquitto.conf becomes a `rumqttd.toml` and a `hub.toml` that do the same.
//!
//! Owns the reading of Mosquitto's format (`parse`), what each setting becomes (`translate`, pure; `reasons` for those
//! that become nothing) and the files that are written (`write`). Where a restriction has no counterpart, what it
//! restricted is left out rather than opened. It never changes Mosquitto's own files, and never prints a setting's
//! value, which may be a password.

mod parse;
mod reasons;
#[cfg(test)]
mod tests;
mod translate;
mod write;

use std::io;
use std::path::{Path, PathBuf};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file that would be written is there.
    #[error("{0} is there already; name another directory with --out, or overwrite it with --force")]
    Exists(PathBuf),
    /// A file cannot be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The rules of the acl_file are wrong, for Mosquitto too.
    #[error("{path}:{line}: {text}; Mosquitto would not start with it either")]
    Acl {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        text: String,
    },
    /// There is more configuration than a mosquitto.conf has.
    #[error("{path} and what it includes is larger than {bytes_max} bytes, or more than {files_max} files")]
    TooMuch {
        /// The file.
        path: PathBuf,
        /// Bytes, at most.
        bytes_max: u64,
        /// Files, at most.
        files_max: usize,
    },
}

/// Reads `conf` and writes the hub's files into `out`; returns what to tell.
///
/// # Errors
/// [`ImportError`]; unless it comes from writing, nothing was written.
pub fn run(conf: &Path, out: &Path, force: bool) -> Result<String, ImportError> {
    let settings = parse::read(conf)?;
    let plan = translate::translate(&settings);
    let files = write::files(&plan)?;
    let written = write::write(&files, out, force)?;
    Ok(report(&plan, &files, &written, out))
}

fn report(plan: &translate::Plan, files: &write::Files, written: &[PathBuf], out: &Path) -> String {
    let mut text = String::new();
    let mut say = |line: &str| {
        text.push_str(line);
        text.push('\n');
    };
    for path in written {
        say(&format!("Wrote {}", path.display()));
    }
    let notes: Vec<&String> = plan.notes.iter().chain(&files.notes).collect();
    say(if notes.is_empty() { "Everything was carried over." } else { "Not carried over:" });
    for note in notes {
        say(&format!("  {note}"));
    }
    say("Where Mosquitto has no limit unless it is told, the hub has one:");
    for remark in &plan.remarks {
        say(&format!("  {remark}"));
    }
    say(&format!("Next: stationhub check --config {}", out.join(write::HUB).display()));
    if files.has_passwords {
        say(&format!("{} must be readable by the user that the hub runs as.", out.join(write::PASSWORDS).display()));
    }
    text
}
