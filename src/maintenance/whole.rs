//! A file that appears only when it is whole.
//!
//! Owns the partial file beside it, which is locked while somebody writes it, and the step from one to the other. What a
//! command that was killed left behind is taken over by the next one. It never replaces a file unless told to.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::MaintenanceError;
use crate::place::{beside, directory};

/// Whether a file that is there is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replace {
    /// It is.
    Yes,
    /// It is not: that is an error.
    No,
}

impl Replace {
    /// Replaces where `--force` was given.
    pub fn where_forced(force: bool) -> Replace {
        if force { Replace::Yes } else { Replace::No }
    }
}

/// A file on its way; dropped before it is whole, it is removed.
#[derive(Debug)]
pub(super) struct Partial {
    target: PathBuf,
    path: PathBuf,
    file: File,
    replace: Replace,
    is_whole: bool,
}

impl Partial {
    /// Begins a file: an empty one beside it, locked.
    pub(super) fn begin(target: &Path, replace: Replace) -> Result<Partial, MaintenanceError> {
        if replace == Replace::No && fs::symlink_metadata(target).is_ok() {
            return Err(MaintenanceError::Exists { path: target.to_owned() });
        }
        let path = beside(target, ".partial");
        let failed = |doing| {
            let path = path.clone();
            move |source| MaintenanceError::File { doing, path, source }
        };
        // Not truncated before the lock is held: until then it may be another's.
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed("cannot make"))?;
        let taken = || MaintenanceError::Unfit {
            path: target.to_owned(),
            why: "is being written by another command; wait for it, or name another file".to_owned(),
        };
        match fs4::FileExt::try_lock(&file) {
            Ok(()) => {}
            Err(fs4::TryLockError::WouldBlock) => return Err(taken()),
            Err(fs4::TryLockError::Error(error)) => return Err(failed("cannot lock")(error)),
        }
        // Whoever held the lock may have given the file its name meanwhile.
        let is_same = |found: fs::Metadata, held: fs::Metadata| found.ino() == held.ino() && found.dev() == held.dev();
        if !fs::metadata(&path).and_then(|found| Ok(is_same(found, file.metadata()?))).unwrap_or(false) {
            return Err(taken());
        }
        file.set_len(0).map_err(failed("cannot empty"))?;
        Ok(Partial { target: target.to_owned(), path, file, replace, is_whole: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Syncs the file and gives it its name.
    pub(super) fn finish(mut self) -> Result<(), MaintenanceError> {
        let failed = |source| MaintenanceError::File { doing: "cannot write", path: self.target.clone(), source };
        self.file.sync_all().map_err(failed)?;
        self.rename().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => MaintenanceError::Exists { path: self.target.clone() },
            _ => failed(source),
        })?;
        let directory = directory(&self.target);
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)?;
        self.is_whole = true;
        Ok(())
    }

    fn rename(&self) -> io::Result<()> {
        if self.replace == Replace::Yes {
            return fs::rename(&self.path, &self.target);
        }
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            // Not every file system can.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if fs::symlink_metadata(&self.target).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&self.path, &self.target)
            }
            result => result.map_err(io::Error::from),
        }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.is_whole {
            // Where it cannot be removed, the next command takes it over.
            fs::remove_file(&self.path).unwrap_or_default();
        }
    }
}
