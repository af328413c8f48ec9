//! The hub's tasks: each has a name, and an end that nobody asked for does not go unnoticed.
//!
//! Owns the names, which stand in the line about a panic, and what such an end means: a task whose state is whole without
//! it is started again (`lasting`), one whose state is lost ends the hub with its reason (`essential`), and one that serves
//! a single client ends alone (`named`). It never knows what the tasks do. Nothing here costs a task more than a word
//! that is set before each of its turns.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::{fault, log};

/// The first pause before a task is started again, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);

tokio::task_local! {
    static NAME: Name;
}

/// What a task is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A part of the hub.
    Part(&'static str),
    /// The task that accepts clients, by its listener's name.
    Listener(Arc<str>),
    /// Work that one client asked for, by its address where it is known.
    Client(&'static str, Option<SocketAddr>),
}

impl Name {
    /// Returns the name of the task that runs on this thread now.
    pub fn current() -> Option<Name> {
        NAME.try_with(Name::clone).ok()
    }

    /// Tells whether a client can make such tasks run as often as it likes.
    pub fn is_of_a_client(&self) -> bool {
        matches!(self, Name::Client(..))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Part(name) => formatter.write_str(name),
            Name::Listener(name) => write!(formatter, "listener {name}"),
            Name::Client(what, Some(peer)) => write!(formatter, "{what} of {peer}"),
            Name::Client(what, None) => formatter.write_str(what),
        }
    }
}

/// Where the tasks that the hub cannot do without report that they are gone.
#[derive(Debug, Default)]
pub struct Faults {
    first: Mutex<Option<String>>,
    told: Notify,
}

impl Faults {
    /// Waits until such a task is gone; returns which, and why.
    pub async fn first(&self) -> String {
        loop {
            let told = self.told.notified();
            if let Some(first) = self.first.lock().unwrap_or_else(PoisonError::into_inner).clone() {
                return first;
            }
            told.await;
        }
    }

    fn report(&self, fault: String) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
        self.told.notify_waiters();
    }
}

/// Gives a task its name.
pub fn named<F: Future>(name: Name, task: F) -> impl Future<Output = F::Output> {
    NAME.scope(name, task)
}

/// Gives the task of a part of the hub its name; a test can make it panic by it.
pub fn part<F: Future<Output = ()>>(part: &'static str, task: F) -> impl Future<Output = ()> {
    named(Name::Part(part), fallible(part, task))
}

/// Runs what may block on a thread where it holds nobody up, under its name.
pub fn blocking<T: Send + 'static>(name: Name, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(move || NAME.sync_scope(name, work))
}

/// Starts a task that the hub cannot do without: where it ends before `stop`, that is a fault of the hub's. Its handle
/// says whether it came to its proper end.
pub fn essential<F>(faults: &Arc<Faults>, part: &'static str, stop: CancellationToken, task: F) -> JoinHandle<bool>
where
    F: Future<Output = ()> + Send + 'static,
{
    let faults = faults.clone();
    let running = tokio::spawn(self::part(part, task));
    tokio::spawn(async move {
        let ended = running.await;
        let is_proper = ended.is_ok() && stop.is_cancelled();
        if !is_proper {
            faults.report(format!("the task {part:?} {}", how(ended)));
        }
        is_proper
    })
}

/// Starts a task of `tracker` that lasts until `stop`: where it ends before, it is made and started again, after a pause
/// that grows.
pub fn lasting<M, F>(tracker: &TaskTracker, name: Name, stop: CancellationToken, mut make: M)
where
    M: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    tracker.spawn(async move {
        let mut pause = PAUSE_MIN;
        loop {
            let begun = Instant::now();
            let part = if let Name::Part(part) = name { part } else { "listener" };
            let ended = tokio::spawn(named(name.clone(), fallible(part, make()))).await;
            if stop.is_cancelled() {
                return;
            }
            if begun.elapsed() >= PAUSE_MAX {
                pause = PAUSE_MIN;
            }
            tracing::error!(task = %name, "a task {}; it is started again in {pause:?}", how(ended));
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    });
}

/// A task that a test can make panic.
async fn fallible<F: Future<Output = ()>>(part: &str, task: F) {
    tokio::select! {
        biased;
        () = task => {}
        () = fault::panic_task(part) => {}
    }
}

/// Says how a task ended that was not to. Where it panicked stands in the log already.
fn how(ended: Result<(), JoinError>) -> String {
    let Err(Ok(payload)) = ended.map_err(JoinError::try_into_panic) else { return "ended unexpectedly".to_owned() };
    let words =
        payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panicked ({})", log::one_line(words.unwrap_or("no words")))
}
