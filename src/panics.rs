//! What happens when the hub panics anywhere: one line of the log with the thread, the task and the place.
//!
//! Owns the process's panic hook. It never decides what a panic ends: a client's task ends alone, and what becomes of the
//! others is told in `tasks`.

use std::panic::{PanicHookInfo, set_hook};
use std::sync::Arc;
use std::thread;

use tracing::error;

use crate::log::{self, Log, Rate};
use crate::tasks::Name;

/// Has every panic logged from now on, instead of printed.
pub fn log_all(log: &Arc<Log>) {
    let (log, lines) = (log.clone(), Rate::default());
    set_hook(Box::new(move |panic| {
        let name = Name::current();
        let is_of_a_client = name.as_ref().is_some_and(Name::is_of_a_client);
        // A client that knows how to do it may do it again and again.
        if is_of_a_client && !lines.allows() {
            return;
        }
        tell(panic, name.as_ref());
        if !is_of_a_client {
            // It may be the end of the process.
            log.flush();
        }
    }));
}

fn tell(panic: &PanicHookInfo<'_>, name: Option<&Name>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let words = log::one_line(panic.payload_as_str().unwrap_or("no words"));
    let current = thread::current();
    let thread = current.name().unwrap_or("without a name");
    match name {
        Some(task) => error!(thread, %task, "panic at {place}: {words}"),
        None => error!(thread, "panic at {place}: {words}"),
    }
}
