//! Lines on their way out, written by a thread of their own.
//!
//! Owns the bounded queue between whoever logs and whatever is written to: a terminal that is held, a pipe that nobody
//! reads or a card that stalls must not stop the hub. Lines that find no room are lost, counted, and told once there is
//! room again. It never formats a line.

use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// Lines that may wait.
const LINES_MAX: usize = 1024;

enum Order {
    Write(Box<[u8]>),
    Flush(SyncSender<()>),
}

/// The entrance to the queue.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    orders: SyncSender<Order>,
    lost: Arc<AtomicU64>,
}

impl Lines {
    /// Starts the thread that writes to `target`.
    pub(super) fn start(name: &str, target: impl Write + Send + 'static) -> io::Result<Lines> {
        let (orders, received) = sync_channel(LINES_MAX);
        let lost: Arc<AtomicU64> = Arc::default();
        let counted = lost.clone();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || write_on(&received, &counted, target))?;
        Ok(Lines { orders, lost })
    }

    /// Waits until what was logged so far is written, for `deadline` at most.
    pub(super) fn flush(&self, deadline: Duration) {
        let (done, is_done) = sync_channel(1);
        // Where there is no room even for this, nobody reads.
        if self.orders.try_send(Order::Flush(done)).is_ok() {
            is_done.recv_timeout(deadline).unwrap_or(());
        }
    }
}

/// Writes until nobody is left who logs; a panic costs the line that it came with, not the log.
fn write_on(orders: &Receiver<Order>, lost: &AtomicU64, mut target: impl Write) {
    while catch_unwind(AssertUnwindSafe(|| write(orders, lost, &mut target))).is_err() {}
}

fn write(orders: &Receiver<Order>, lost: &AtomicU64, target: &mut impl Write) {
    for order in orders {
        // A log that cannot be written has nowhere to be told.
        match order {
            Order::Write(line) => target.write_all(&line).unwrap_or(()),
            Order::Flush(done) => {
                target.flush().unwrap_or(());
                done.send(()).unwrap_or(());
            }
        }
        let lines = lost.swap(0, Ordering::Relaxed);
        if lines > 0 {
            writeln!(target, "{lines} lines of this log are lost: it could not be written as fast as they came")
                .unwrap_or(());
        }
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.orders.try_send(Order::Write(bytes.into())) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Mutex;

    #[derive(Clone, Default)]
    struct Held(Arc<Mutex<Vec<u8>>>);

    impl Write for Held {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_target_that_is_held_holds_nobody_and_what_is_lost_is_told() {
        let target = Held::default();
        let mut lines = Lines::start("test-log", target.clone()).unwrap();
        let held = target.0.lock().unwrap();
        for number in 0..2 * LINES_MAX {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        lines.flush(Duration::ZERO);
        drop(held);
        while lines.lost.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        lines.flush(Duration::from_secs(10));
        let text = String::from_utf8(target.0.lock().unwrap().clone()).unwrap();
        assert!(text.starts_with("0\n") && text.contains("lines of this log are lost"), "{text}");
    }
}
