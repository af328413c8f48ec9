//! Where a file is: what lies beside it, its directory, what a path really names, and whether that is still the same file.
//!
//! Owns these paths alone. It never opens a file: to close one of a database's ends SQLite's own locks on it.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags, makedev, statx};

/// Whether a symbolic link is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// To what it leads to.
    Yes,
    /// It is looked at itself.
    No,
}

/// Returns a path with something added to its name.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Returns the directory of a file.
pub fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Returns where a file really is, so that one reached by two paths is one; a path that does not exist yet is resolved as far as
/// it does.
pub fn resolved(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| match path.file_name() {
        Some(name) => directory(path).canonicalize().map_or_else(|_| path.to_owned(), |parent| parent.join(name)),
        None => path.to_owned(),
    })
}

/// Returns device and inode, which stay with a file wherever it is moved.
///
/// Asks for nothing but the inode: since Linux 6.13, whoever is told a file's time makes the next write to it change that
/// time, and the sync after it write the inode as well. On a quick disk that cost a third of a commit.
pub fn identity(path: &Path, follow: Follow) -> Option<(u64, u64)> {
    let flags = if follow == Follow::Yes { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
    let found = statx(CWD, path, flags, StatxFlags::INO).ok()?;
    Some((makedev(found.stx_dev_major, found.stx_dev_minor), found.stx_ino))
}
