//! The hub's log: to standard error, and to a file that can be reopened.
//!
//! Owns the subscriber's set-up and the log file. Lines are written by threads of their own (`lines`); what outsiders can
//! cause is limited in its rate (`rate`).

mod lines;
mod rate;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tracing::Level;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, reload};

use self::lines::Lines;

pub use self::rate::Rate;

/// How long the last lines may take to be written, to each target.
const FLUSH_TIME_MAX: Duration = Duration::from_millis(500);

/// Where the log goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The least important lines that are logged.
    pub level: Level,
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Whether standard error is left alone.
    pub silent: bool,
}

/// The log of this process.
#[derive(Debug)]
pub struct Log {
    file: Option<LogFile>,
    targets: Vec<Lines>,
    level: LevelSwitch,
}

/// Changes the level of the log while it is written.
#[derive(Clone, Debug)]
pub struct LevelSwitch(reload::Handle<EnvFilter, Registry>);

impl LevelSwitch {
    /// Changes the level.
    ///
    /// # Errors
    /// [`LogError::Fixed`]; the level stays.
    pub fn set(&self, level: Level) -> Result<(), LogError> {
        self.0.reload(filter(level)).map_err(|error| LogError::Fixed(error.to_string()))
    }
}

/// Returns what is let through at a level.
fn filter(level: Level) -> EnvFilter {
    // The router's own lines speak of links, which mean nothing to an owner; those of WebSocket know no rate limit.
    EnvFilter::new(format!("{level},rumqttd=off,rumqttc=off,tungstenite=off,tokio_tungstenite=off"))
}

/// The log file's handle.
#[derive(Clone, Debug)]
pub struct LogFile {
    path: PathBuf,
    file: Arc<Mutex<File>>,
}

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened.
    #[error("cannot open the log file {path}: {source}; make its directory writable, or name another with --log")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The level cannot be changed any more.
    #[error("the log's level cannot be changed: {0}")]
    Fixed(String),
    /// A thread that writes the log cannot be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(io::Error),
}

/// Sets up the log for the whole process.
///
/// # Errors
/// [`LogError`].
pub fn start(settings: &Settings) -> Result<Log, LogError> {
    let file = settings.file.as_deref().map(LogFile::open).transpose()?;
    let (filter, level) = reload::Layer::new(filter(settings.level));
    let stderr = (!settings.silent || file.is_none()).then(|| Lines::start("log-stderr", io::stderr()));
    let stderr = stderr.transpose().map_err(LogError::Thread)?;
    let in_file = file.clone().map(|file| Lines::start("log-file", file)).transpose().map_err(LogError::Thread)?;
    let targets = stderr.iter().chain(&in_file).cloned().collect();
    let to_stderr = stderr.map(|lines| {
        let ansi = io::stderr().is_terminal();
        tracing_subscriber::fmt::layer().with_target(false).with_ansi(ansi).with_writer(lines)
    });
    let to_file =
        in_file.map(|lines| tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).with_writer(lines));
    // A second set-up in one process, as in tests, keeps the first.
    tracing_subscriber::registry().with(filter).with(to_stderr).with(to_file).try_init().unwrap_or(());
    Ok(Log { file, targets, level: LevelSwitch(level) })
}

impl Log {
    /// Returns the log file, where there is one.
    pub fn file(&self) -> Option<&LogFile> {
        self.file.as_ref()
    }

    /// Returns what changes its level.
    pub fn level(&self) -> LevelSwitch {
        self.level.clone()
    }

    /// Waits until what was logged is written, or a target turns out to take nothing.
    pub fn flush(&self) {
        for lines in &self.targets {
            lines.flush(FLUSH_TIME_MAX);
        }
    }
}

impl LogFile {
    fn open(path: &Path) -> Result<LogFile, LogError> {
        let file = append(path).map_err(|source| LogError::File { path: path.to_owned(), source })?;
        Ok(LogFile { path: path.to_owned(), file: Arc::new(Mutex::new(file)) })
    }

    /// Opens the file anew, after logrotate has moved the old one away.
    ///
    /// # Errors
    /// [`LogError::File`]; the old file is written on.
    pub fn reopen(&self) -> Result<(), LogError> {
        let file = append(&self.path).map_err(|source| LogError::File { path: self.path.clone(), source })?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

/// Returns a text as one line, without anything that a terminal would obey.
pub fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_reopened_file_is_written_where_its_name_is() {
        let dir = tempfile::tempdir().unwrap();
        let (path, rotated) = (dir.path().join("hub.log"), dir.path().join("hub.log.1"));
        let mut log = LogFile::open(&path).unwrap();
        log.write_all(b"one\n").unwrap();
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen().unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(std::fs::read(&rotated).unwrap(), b"one\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"two\n");
    }
}
