//! The instance locks: one hub on a PID file, one hub on a database.
//!
//! Owns the two lock files. Both are locked with `flock` before anything else is touched, and hold the PID, written
//! only after the lock is held: a refused second hub leaves the first one's PID alone. The lock goes with the
//! process, however it ends, and no lock file is ever removed: removing one that another hub is about to lock would
//! let two hubs in.

use crate::place::{beside, resolved};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Why the hub may not start.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another hub runs.
    #[error("Cannot start - another instance is already running ({what} locked: {path}, pid {pid})")]
    Taken {
        /// `PID file` or `database`.
        what: &'static str,
        /// The PID file, or the database.
        path: PathBuf,
        /// The other hub's PID, as its lock file has it.
        pid: String,
    },
    /// A lock file cannot be written.
    #[error("cannot lock {path}: {source}; its directory must exist and be writable")]
    File {
        /// The lock file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
}

/// A held lock; it is released when this is dropped or the process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// The locks that a running hub holds.
#[derive(Debug)]
pub struct InstanceLocks {
    _pid: Lock,
    _database: Lock,
}

/// Takes both locks.
///
/// # Errors
/// [`LockError::Taken`] where another hub holds one.
pub fn take(pid_file: &Path, database: &Path) -> Result<InstanceLocks, LockError> {
    Ok(InstanceLocks { _pid: lock("PID file", pid_file, pid_file)?, _database: take_database(database)? })
}

/// Takes the database's lock alone, as a command does that works on the database of a hub that does not run.
///
/// # Errors
/// [`LockError::Taken`] where a hub holds it.
pub fn take_database(database: &Path) -> Result<Lock, LockError> {
    lock("database", database, &beside(&resolved(database), ".lock"))
}

fn lock(what: &'static str, path: &Path, lock_file: &Path) -> Result<Lock, LockError> {
    let failed = |source| LockError::File { path: lock_file.to_owned(), source };
    // Not truncated: until the lock is held, what is in the file is another hub's.
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_file).map_err(failed)?;
    match fs4::FileExt::try_lock(&file) {
        Ok(()) => {}
        Err(fs4::TryLockError::WouldBlock) => {
            return Err(LockError::Taken { what, path: path.to_owned(), pid: pid_in(&mut file) });
        }
        Err(fs4::TryLockError::Error(error)) => return Err(failed(error)),
    }
    // Written over what is there and cut then: on a full disk, a file that was emptied first could not be filled again.
    file.rewind().map_err(failed)?;
    let pid = format!("{}\n", std::process::id());
    file.write_all(pid.as_bytes()).map_err(failed)?;
    file.set_len(pid.len() as u64).map_err(failed)?;
    Ok(Lock { _file: file })
}

fn pid_in(file: &mut File) -> String {
    let mut text = String::new();
    // A file that cannot be read, or is being written this moment, still means that the lock is taken.
    let read = file.take(20).read_to_string(&mut text);
    match text.trim() {
        pid if read.is_ok() && !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit()) => pid.to_owned(),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_refusal_leaves_the_owners_pid_and_the_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.pid");
        std::fs::write(&path, "99999999999 stale and longer").unwrap();
        let held = lock("PID file", &path, &path).unwrap();
        let pid = std::fs::read_to_string(&path).unwrap();
        assert_eq!(pid.trim(), std::process::id().to_string());
        let refusal = lock("PID file", &path, &path).unwrap_err().to_string();
        assert_eq!(
            refusal,
            format!(
                "Cannot start - another instance is already running (PID file locked: {}, pid {})",
                path.display(),
                std::process::id()
            )
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), pid);
        drop(held);
        assert!(path.exists());
        lock("PID file", &path, &path).unwrap();
    }

    #[test]
    fn the_databases_lock_is_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("weather_data.db");
        let _held = take_database(&database).unwrap();
        assert!(dir.path().join("weather_data.db.lock").exists() && !database.exists());
        let refusal = take_database(&database).unwrap_err().to_string();
        assert!(refusal.contains(&format!("(database locked: {}, pid ", database.display())), "{refusal}");
    }
}
