//! The signals that the hub obeys.
//!
//! Owns which signal asks for what. It never stops anything itself.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::HubError;
use crate::log::LogFile;
use crate::reload::Reloads;

/// Listens to them.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
    log_file: Option<LogFile>,
}

impl Signals {
    pub(super) fn listen(log_file: Option<LogFile>) -> Result<Signals, HubError> {
        let listen = |kind| {
            signal(kind).map_err(|source| HubError::System { doing: "cannot listen to signals".to_owned(), source })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            reopen: listen(SignalKind::user_defined1())?,
            log_file,
        })
    }

    /// Waits for a signal to stop, while there is nothing yet that could be read anew.
    pub(super) async fn stop_early(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for a signal to stop; meanwhile reopens the log, and has files read anew, as often as it is asked to.
    pub(super) async fn stop(&mut self, reloads: &Reloads) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reloads.ask(),
                _ = self.reopen.recv() => self.reopen_log(),
            }
        }
    }

    fn reopen_log(&self) {
        let Some(log_file) = &self.log_file else { return };
        match log_file.reopen() {
            Ok(()) => info!("the log file was opened anew"),
            Err(error) => error!("{error}; the old one is written on"),
        }
    }
}
