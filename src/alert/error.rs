//! What can go wrong with alerts. It never says a secret: of a webhook, scheme, host and port alone.

use std::time::Duration;

/// An error of the room.
#[derive(Debug, thiserror::Error)]
pub enum AlertError {
    /// A server cannot be reached.
    #[error("{server} cannot be reached: {reason}")]
    Unreachable {
        /// Which.
        server: String,
        /// Why.
        reason: String,
    },
    /// A server answers that it does not take the message.
    #[error("{server} answered {answer}")]
    Refused {
        /// Which.
        server: String,
        /// What it answered.
        answer: String,
        /// Whether it will not take it later either.
        is_final: bool,
    },
    /// A channel took too long.
    #[error("no answer within {} s", .0.as_secs())]
    Slow(Duration),
    /// A message cannot be made as the channel wants it.
    #[error("the message cannot be made: {0}")]
    Unmade(String),
    /// A file that the channel needs cannot be used.
    #[error("{0}")]
    File(String),
    /// A program cannot be run.
    #[error("{program} cannot be run: {reason}")]
    NotRun {
        /// Which.
        program: String,
        /// Why.
        reason: String,
    },
    /// A program ended with an error.
    #[error("{program} ended with {status}{said}")]
    Failed {
        /// Which.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// How what it said on stderr begins.
        said: String,
    },
    /// The broker does not take the message.
    #[error("the hub's own broker does not take it: {0}; rules of access are those of user stationhub")]
    Broker(String),
    /// A change of the configuration that does not take effect while the hub serves.
    #[error("{0} has changed, which needs a restart, and the rules with it")]
    NeedsRestart(&'static str),
    /// The configuration has no such rule or channel.
    #[error("there is no {what} {name:?}; there are: {known}")]
    Unknown {
        /// `rule` or `channel`.
        what: &'static str,
        /// The name that was asked for.
        name: String,
        /// The names that there are.
        known: String,
    },
}

impl AlertError {
    /// Tells whether the message as it is will not be taken, however often it is sent.
    pub fn is_final(&self) -> bool {
        matches!(self, AlertError::Refused { is_final: true, .. } | AlertError::Unmade(_) | AlertError::Broker(_))
    }
}
