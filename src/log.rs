//! The hub's log: to standard error, and to a file that can be reopened.
//!
//! Owns the subscriber's set-up, the log file, and the rate limit for lines that outsiders can cause.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Where the log goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// The file, if any.
    pub file: Option<PathBuf>,
    /// Whether standard error is left alone.
    pub silent: bool,
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
    /// The level is none.
    #[error("log.level: {0}")]
    Level(String),
}

/// Sets up the log for the whole process; returns the file's handle where there is one.
///
/// # Errors
/// [`LogError`].
pub fn start(settings: &Settings) -> Result<Option<LogFile>, LogError> {
    let file = settings.file.as_deref().map(LogFile::open).transpose()?;
    // The router's own lines speak of links, which mean nothing to an owner; those of WebSocket know no rate limit.
    let others = "rumqttd=off,rumqttc=warn,tungstenite=off,tokio_tungstenite=off";
    let filter = EnvFilter::try_new(format!("{},{others}", settings.level))
        .map_err(|error| LogError::Level(error.to_string()))?;
    let to_stderr = (!settings.silent || file.is_none()).then(|| {
        tracing_subscriber::fmt::layer()
            .with_target(false)
            .with_ansi(io::stderr().is_terminal())
            .with_writer(io::stderr)
    });
    let to_file =
        file.clone().map(|file| tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).with_writer(file));
    // A second set-up in one process, as in tests, keeps the first.
    tracing_subscriber::registry().with(filter).with(to_stderr).with(to_file).try_init().unwrap_or(());
    Ok(file)
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

impl<'a> MakeWriter<'a> for LogFile {
    type Writer = LogFile;

    fn make_writer(&'a self) -> LogFile {
        self.clone()
    }
}

/// Limits how often lines of one sort are logged: a few in each interval, so that outsiders cannot fill the disk.
#[derive(Debug)]
pub struct Rate {
    interval: Duration,
    lines_max: u32,
    window: Mutex<Window>,
    suppressed: AtomicU64,
}

#[derive(Debug, Default)]
struct Window {
    since: Option<Instant>,
    lines: u32,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate::new(5, Duration::from_secs(10))
    }
}

impl Rate {
    /// Makes a limit of `lines_max` lines in each `interval`.
    pub fn new(lines_max: u32, interval: Duration) -> Rate {
        Rate { interval, lines_max, window: Mutex::default(), suppressed: AtomicU64::new(0) }
    }

    /// Tells whether a line may be logged now; says how many were not, with the first that may again.
    pub fn allows(&self) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if window.since.is_none_or(|since| now.duration_since(since) >= self.interval) {
            window.since = Some(now);
            window.lines = 0;
            let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
            if suppressed > 0 {
                tracing::warn!(lines = suppressed, "lines like the next were left out of the log");
            }
        }
        window.lines += 1;
        if window.lines > self.lines_max {
            self.suppressed.fetch_add(1, Ordering::Relaxed);
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_rate_lets_a_few_lines_through_in_each_interval() {
        let rate = Rate::new(2, Duration::from_secs(3600));
        assert_eq!([rate.allows(), rate.allows(), rate.allows()], [true, true, false]);
        let rate = Rate::new(1, Duration::ZERO);
        assert!(rate.allows() && rate.allows());
    }

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
