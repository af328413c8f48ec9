//! The owner's socket: `<db>.sock`, for the user alone who runs the hub.
//!
//! Owns its path, its rights (0600) and its end. A socket file that an earlier hub left behind is replaced: whoever
//! binds holds the database's lock, so nobody listens on it.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::place::{Follow, beside, identity, resolved};
use tokio::net::UnixListener;

/// How often it is looked whether the file is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// The longest path of a socket, bytes: `sun_path` less its final zero.
const PATH_BYTES_MAX: usize = 107;

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
pub(super) struct SocketFile {
    path: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Returns the path of a database's socket.
pub fn socket_path(database: &Path) -> PathBuf {
    beside(&resolved(database), ".sock")
}

/// A way to a socket that the system takes: it allows a path 107 bytes, which a database deep in somebody's home passes.
/// Then it leads through the open directory.
pub(super) struct Way {
    pub(super) path: PathBuf,
    _directory: Option<File>,
}

impl Way {
    /// Finds the way to a socket.
    ///
    /// # Errors
    /// Those of opening the socket's directory.
    pub(super) fn to(socket: &Path) -> io::Result<Way> {
        let (Some(parent), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Ok(Way { path: socket.to_owned(), _directory: None });
        };
        if socket.as_os_str().len() <= PATH_BYTES_MAX {
            return Ok(Way { path: socket.to_owned(), _directory: None });
        }
        let directory = File::open(parent)?;
        let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
        Ok(Way { path, _directory: Some(directory) })
    }
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
            let way = Way::to(&path)?;
            let listener = UnixListener::bind(&way.path)?;
            std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
            Ok(listener)
        };
        match bound() {
            Ok(listener) => {
                let identity = identity(&path, Follow::No);
                Ok(OwnersSocket { listener, file: SocketFile { path, identity } })
            }
            Err(source) => Err(SocketError { path, source }),
        }
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl SocketFile {
    /// Waits until it is another file, or none.
    pub(super) async fn removed(&self) {
        while identity(&self.path, Follow::No) == self.identity {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Where it cannot be removed, the next start replaces it; another one in its place is not this one's to remove.
        if identity(&self.path, Follow::No) == self.identity {
            std::fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}
