//! What can go wrong with the database, sorted by what the writer does about it.
//!
//! Owns the sorting of SQLite's result codes. It never retries and never logs: the writer decides.

use std::path::PathBuf;

use rusqlite::ErrorCode;

/// What the writer does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passes by itself or by the owner's hand: keep everything, pause, try again, for ever.
    Retry,
    /// Concerns one message alone: that message goes to quarantine, the rest is stored.
    Reject,
    /// The file is damaged.
    Corrupt,
    /// Cannot be repaired by waiting: the hub ends with the reason.
    Fatal,
}

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite refused an operation.
    #[error("{doing}: {source}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// SQLite's own words.
        source: rusqlite::Error,
    },
    /// The database was written by a newer hub.
    #[error(
        "{path} has schema version {found}, this hub knows up to {known}; start the newer hub, or name another file with --db"
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this hub knows.
        known: i64,
    },
    /// The disk has no room for a step of the schema.
    #[error(
        "{path} cannot be brought to schema version {to}: that needs {needed} bytes, {free} are free; make room for {} more",
        needed.saturating_sub(*free)
    )]
    NoRoom {
        /// The database.
        path: PathBuf,
        /// The version of the step.
        to: i64,
        /// Bytes that the step needs.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// The file system does not let SQLite keep a write-ahead log.
    #[error("{path} cannot be switched to WAL, it stays in mode {mode}; use a local file system")]
    NoWal {
        /// The database.
        path: PathBuf,
        /// The mode that SQLite keeps.
        mode: String,
    },
    /// The file is no longer where it was opened.
    #[error("{path} was moved or deleted while the hub runs; put it back, or restart the hub to begin a new one")]
    Moved {
        /// Where it should be.
        path: PathBuf,
    },
    /// The write-ahead log is no longer beside the database.
    #[error(
        "{path} was moved or deleted while the hub runs; the hub moves what it held into the database and begins a new one"
    )]
    LogGone {
        /// Where it should be.
        path: PathBuf,
    },
    /// The file never was a database.
    #[error("{path} is no database; name another file with --db, or move this one away")]
    NoDatabase {
        /// The file.
        path: PathBuf,
    },
    /// Nobody has looked at the damaged databases that lie beside the database.
    #[error(
        "{path} is damaged, and {count} damaged databases lie beside it already: the disk may be failing; replace it, or move \
         them away, then the hub goes on"
    )]
    TooManyAside {
        /// The database.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// The hub stopped before everything was stored.
    #[error(
        "{messages} messages were not stored: the database could not be written before the hub had to stop; readings with QoS 1 and 2 were not acked and will be sent again, those with QoS 0 are lost, and so are the last changes of retained messages and sessions"
    )]
    Unwritten {
        /// How many.
        messages: usize,
    },
    /// The writer does not come back from the system.
    #[error("the disk does not answer: a write has been under way since before the hub was told to stop")]
    Stuck,
    /// A database or a copy of one is not whole.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// SQLite's words, or what differs.
        what: String,
    },
    /// So much is written while the database is copied that its log grows too large.
    #[error(
        "the database is written so quickly that its log has grown by {bytes} bytes during the copy; \
         try again when less comes in"
    )]
    LogGrows {
        /// By how much.
        bytes: u64,
    },
    /// The one who asked has no use for it any more.
    #[error("stopped before it was done")]
    Stopped,
    /// The writer thread could not be started, or a file beside the database could not be reached.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's own words.
        source: std::io::Error,
    },
}

impl StoreError {
    /// Returns what the writer does about this error.
    pub fn class(&self) -> Class {
        match self {
            StoreError::Sqlite { source, .. } => class_of(source),
            StoreError::Damaged { .. } => Class::Corrupt,
            StoreError::Newer { .. }
            | StoreError::NoWal { .. }
            | StoreError::NoDatabase { .. }
            | StoreError::Unwritten { .. }
            | StoreError::Stuck
            | StoreError::LogGrows { .. }
            | StoreError::Stopped => Class::Fatal,
            StoreError::NoRoom { .. }
            | StoreError::Moved { .. }
            | StoreError::LogGone { .. }
            | StoreError::TooManyAside { .. }
            | StoreError::Io { .. } => Class::Retry,
        }
    }
}

impl StoreError {
    /// Tells whether the disk is full, or the database may not grow, which is for the same reason.
    pub fn is_full(&self) -> bool {
        matches!(self, StoreError::Sqlite { source, .. } if source.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

fn class_of(error: &rusqlite::Error) -> Class {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::SchemaChanged
            | ErrorCode::OperationInterrupted
            | ErrorCode::OperationAborted
            | ErrorCode::OutOfMemory,
        ) => Class::Retry,
        Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => Class::Reject,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Class::Corrupt,
        // A value of a kind that the hub never wrote there.
        None if is_of_a_strange_kind(error) => Class::Corrupt,
        _ => Class::Fatal,
    }
}

fn is_of_a_strange_kind(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::Utf8Error(..)
    )
}

/// Says what was being done when SQLite refused.
pub(crate) trait Doing<T> {
    /// Wraps SQLite's error with `doing`.
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for rusqlite::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Sqlite { doing, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::ffi;

    fn class(code: i32) -> Class {
        class_of(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None))
    }

    #[test]
    fn codes_are_sorted_by_what_is_done_about_them() {
        for code in [
            ffi::SQLITE_BUSY,
            ffi::SQLITE_LOCKED,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_READONLY,
            ffi::SQLITE_CANTOPEN,
        ] {
            assert_eq!(class(code), Class::Retry, "code {code}");
        }
        for code in [ffi::SQLITE_CONSTRAINT, ffi::SQLITE_TOOBIG, ffi::SQLITE_MISMATCH] {
            assert_eq!(class(code), Class::Reject, "code {code}");
        }
        for code in [ffi::SQLITE_CORRUPT, ffi::SQLITE_NOTADB] {
            assert_eq!(class(code), Class::Corrupt, "code {code}");
        }
        for code in [ffi::SQLITE_ERROR, ffi::SQLITE_MISUSE] {
            assert_eq!(class(code), Class::Fatal, "code {code}");
        }
    }
}
