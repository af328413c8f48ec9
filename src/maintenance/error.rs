//! Why a command of the owner's did not do what it was asked for.
//!
//! Owns the words. It never decides what is done about it.

use std::path::PathBuf;

use super::desk::DeskError;
use crate::almanac::AlmanacError;
use crate::chart::ChartError;
use crate::http::client::ClientError;
use crate::lock::LockError;
use crate::store::StoreError;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum MaintenanceError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another hub runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The hub that runs.
    #[error(transparent)]
    Hub(#[from] ClientError),
    /// The errand.
    #[error(transparent)]
    Desk(#[from] DeskError),
    /// The hub answers with something else than was asked for.
    #[error("the hub's answer cannot be read: {0}; is it of another version?")]
    Answer(String),
    /// A file.
    #[error("{doing} {path}: {source}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// What should be written is there.
    #[error("{path} is there already; name another file, or overwrite it with --force")]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The target cannot be what it is to be.
    #[error("{path} {why}")]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is in the way, and what to do.
        why: String,
    },
    /// There is no such message.
    #[error("number {id} is not in the quarantine; `stationhub quarantine list` shows what is")]
    NotInQuarantine {
        /// Its number.
        id: i64,
    },
    /// The weather cannot be told.
    #[error(transparent)]
    Almanac(#[from] AlmanacError),
    /// A chart cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// There is no source of what is to be plotted.
    #[error("there are no readings of these quantities; `stationhub status` shows the sources")]
    NothingToPlot,
    /// There is too little room.
    #[error("{path} needs {needed} bytes, {free} are free there; make room, or name a file on another disk")]
    NoRoom {
        /// The file.
        path: PathBuf,
        /// How much it needs.
        needed: u64,
        /// How much there is.
        free: u64,
    },
}
