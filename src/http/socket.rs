//! The owner's socket: `<db>.sock`, for the user alone who runs the hub.
//!
//! Owns its path, its rights (0600) and its end. A socket file that an earlier hub left behind is replaced: whoever
//! binds holds the database's lock, so nobody listens on it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::lock;

/// Why the socket cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on the owner's socket {path}: {source}; `stationhub status` will not reach this hub")]
pub struct SocketError {
    path: PathBuf,
    source: io::Error,
}

/// The bound socket.
#[derive(Debug)]
pub struct OwnersSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the socket's file when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

/// Returns the path of a database's socket.
pub fn socket_path(database: &Path) -> PathBuf {
    let mut path = lock::resolved(database).into_os_string();
    path.push(".sock");
    path.into()
}

impl OwnersSocket {
    /// Binds the socket beside a database whose lock is held.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(database: &Path) -> Result<OwnersSocket, SocketError> {
        let path = socket_path(database);
        let bound = || {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let listener = UnixListener::bind(&path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        match bound() {
            Ok(listener) => Ok(OwnersSocket { listener, file: SocketFile(path) }),
            Err(source) => Err(SocketError { path, source }),
        }
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start replaces it.
        std::fs::remove_file(&self.0).unwrap_or_default();
    }
}
