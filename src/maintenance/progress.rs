//! How far a command is, in one line that is written over and over on a terminal.
//!
//! Owns that line. Where nobody looks, it is silent.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_millis(100);
const BAR_CHARS: usize = 24;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes, told in MiB.
    Bytes,
    /// Rows.
    Rows,
    /// Messages.
    Messages,
    /// Nothing that has a name: a part of the whole.
    Share,
}

/// The line.
#[derive(Debug)]
pub struct Progress {
    what: &'static str,
    unit: Unit,
    begun: Instant,
    /// When it was drawn last; `None` where it never is.
    drawn: Option<Instant>,
    is_drawn: bool,
}

impl Progress {
    /// Begins a line on stderr, where that is a terminal.
    pub fn begin(what: &'static str, unit: Unit) -> Progress {
        let now = Instant::now();
        Progress { what, unit, begun: now, drawn: std::io::stderr().is_terminal().then_some(now), is_drawn: false }
    }

    /// Says on a terminal what takes its time, where nobody knows how much.
    pub fn announce(what: &'static str) -> Progress {
        let mut progress = Progress::begin(what, Unit::Share);
        if progress.drawn.is_some() {
            progress.is_drawn = true;
            write!(std::io::stderr(), "{what} …").unwrap_or_default();
        }
        progress
    }

    /// Tells how far it is; a `total` of 0 is unknown.
    pub fn tell(&mut self, done: u64, total: u64) {
        let Some(last) = self.drawn else { return };
        if last.elapsed() < INTERVAL {
            return;
        }
        self.drawn = Some(Instant::now());
        self.is_drawn = true;
        let line = line(self.what, self.unit, done, total, self.begun.elapsed());
        // Where the terminal is gone, nobody misses it.
        write!(std::io::stderr(), "\r\x1b[K{line}").unwrap_or_default();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.is_drawn {
            write!(std::io::stderr(), "\r\x1b[K").unwrap_or_default();
        }
    }
}

fn line(what: &str, unit: Unit, done: u64, total: u64, took: Duration) -> String {
    let in_words = |count: u64| match unit {
        Unit::Bytes => format!("{} MiB", count >> 20),
        Unit::Rows => format!("{count} rows"),
        Unit::Messages => format!("{count} messages"),
        Unit::Share => "all".to_owned(),
    };
    if total == 0 {
        return format!("{what}: {}", in_words(done));
    }
    let done = done.min(total);
    let share = u128::from(done);
    let filled = usize::try_from(share * BAR_CHARS as u128 / u128::from(total)).unwrap_or(BAR_CHARS);
    let bar: String = (0..BAR_CHARS).map(|at| if at < filled { '#' } else { '.' }).collect();
    let percent = share * 100 / u128::from(total);
    let left = u128::from(total - done) * took.as_millis() / share.max(1) / 1000;
    let left = if took.as_secs() < 1 { String::new() } else { format!(", {left} s left") };
    format!("{what}: [{bar}] {percent} % of {}{left}", in_words(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_how_far_it_is_and_how_long_it_takes() {
        let told = line("copying", Unit::Bytes, 50 << 20, 200 << 20, Duration::from_secs(10));
        assert_eq!(told, "copying: [######..................] 25 % of 200 MiB, 30 s left");
        assert_eq!(line("importing", Unit::Rows, 7, 0, Duration::ZERO), "importing: 7 rows");
    }
}
