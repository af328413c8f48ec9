//! Faults on command, for tests: a thread that hangs, a task that panics, a database that may not grow.
//!
//! Only debug builds have them, and only where HUB_TEST_FAULTS names a file: each of its lines is a fault that is in force
//! while the line stands there, `hang PLACE`, `panic PLACE` or `pages NUMBER`. A release build asks nothing and does nothing.

#[cfg(debug_assertions)]
mod armed {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    use std::time::Duration;

    /// How often the file is looked at while something waits for its line to come or to go.
    const LOOK_INTERVAL: Duration = Duration::from_millis(20);

    fn file() -> Option<&'static PathBuf> {
        static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
        FILE.get_or_init(|| std::env::var_os("HUB_TEST_FAULTS").map(PathBuf::from)).as_ref()
    }

    fn is_asked(fault: &str, place: &str) -> bool {
        let Some(file) = file() else { return false };
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().any(|line| line.split_once(' ') == Some((fault, place)))
    }

    /// Holds the thread for as long as its place is to hang.
    pub(crate) fn hang(place: &str) {
        while is_asked("hang", place) {
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// As [`hang`], for a task alone: its thread serves others meanwhile.
    pub(crate) async fn hang_task(place: &str) {
        while is_asked("hang", place) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Panics where its place is to.
    pub(crate) fn panic(place: &str) {
        assert!(!is_asked("panic", place), "a fault on command");
    }

    /// Returns how many pages a database may have, as if its disk had no room for more.
    pub(crate) fn pages_max() -> Option<i64> {
        let text = std::fs::read_to_string(file()?).ok()?;
        text.lines().find_map(|line| line.strip_prefix("pages "))?.parse().ok()
    }

    /// Panics once its place is to.
    pub(crate) async fn panic_task(place: &str) {
        while file().is_some() {
            panic(place);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        std::future::pending().await
    }
}

#[cfg(not(debug_assertions))]
mod armed {
    /// Does nothing.
    pub(crate) fn hang(_place: &str) {}

    /// Does nothing.
    pub(crate) async fn hang_task(_place: &str) {}

    /// Does nothing.
    pub(crate) fn panic(_place: &str) {}

    /// Returns that there is no bound.
    pub(crate) fn pages_max() -> Option<i64> {
        None
    }

    /// Does nothing, for ever.
    pub(crate) async fn panic_task(_place: &str) {
        std::future::pending().await
    }
}

pub(crate) use armed::{hang, hang_task, pages_max, panic, panic_task};
