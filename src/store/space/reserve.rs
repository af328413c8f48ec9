//! The reserve: a file of some MiB beside the database, whose room is there when the disk has none.
//!
//! Owns `<db>.reserve`. A file, not pages of the database: what a full disk denies first is the write-ahead log, without which
//! nothing can be deleted, either, and free pages of the database are no room for that. It holds nothing and is read by
//! nobody; it never decides when it is given up.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::place::{beside, directory, resolved};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

/// A reserve smaller than this helps nobody.
const BYTES_MIN: u64 = 64 * 1024;
/// The reserve is at most this part of the disk.
const PART_OF_DISK: u64 = 8;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The file, and how much it is to hold.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes_max: u64,
    held: u64,
}

impl Reserve {
    /// Looks at the reserve of a database, which an earlier hub may have made; `bytes_max` is less where the disk is small.
    pub(super) fn of(database: &Path, bytes_max: u64) -> Reserve {
        let path = beside(&resolved(database), ".reserve");
        let disk = statvfs(directory(&path)).map_or(u64::MAX, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        let held = fs::symlink_metadata(&path).map_or(0, |found| found.len());
        Reserve { path, bytes_max: bytes_max.min(disk / PART_OF_DISK), held }
    }

    /// Returns how much it holds now, bytes.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    /// Returns how much it is to hold, bytes.
    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Returns what is free beside it, bytes; `None` where the disk does not say.
    pub(super) fn free(&self) -> Option<u64> {
        statvfs(directory(&self.path)).ok().map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Gives its room to whoever needs it.
    pub(super) fn release(&mut self) {
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::debug!(%error, "the reserve cannot be removed"),
        }
        self.held = 0;
    }

    /// Makes it hold so much, and no more than it is to hold; where there is no room for that, half, and so on.
    pub(super) fn make(&mut self, bytes: u64) {
        let mut wanted = bytes.min(self.bytes_max);
        while wanted >= BYTES_MIN {
            match self.allocate(wanted) {
                Ok(()) => {
                    self.held = wanted;
                    return;
                }
                Err(error) => tracing::debug!(%error, wanted, "no room for the reserve"),
            }
            self.release();
            wanted /= 2;
        }
        self.release();
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // Who put a link there would have the hub write elsewhere.
        let link = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).custom_flags(link).open(&self.path)?;
        file.set_len(bytes)?;
        match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&file, bytes),
            other => Ok(other?),
        }
    }
}

/// Takes room where the file system cannot promise it.
fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let part = ZEROS.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(ZEROS.get(..part).unwrap_or(&ZEROS))?;
        left -= part as u64;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn it_takes_its_room_for_real_and_gives_it_back_and_one_of_an_earlier_hub_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("a.db");
        let mut reserve = Reserve::of(&database, 1 << 20);
        reserve.make(u64::MAX);
        let file = dir.path().canonicalize().unwrap().join("a.db.reserve");
        assert_eq!(reserve.held(), 1 << 20);
        assert!(fs::metadata(&file).unwrap().blocks() * 512 >= 1 << 20, "not a hole");
        assert_eq!(Reserve::of(&database, 1 << 20).held(), 1 << 20);
        reserve.make(100_000);
        assert_eq!((reserve.held(), fs::metadata(&file).unwrap().len()), (100_000, 100_000), "it shrinks");
        reserve.release();
        assert!(!file.exists() && reserve.held() == 0);
        reserve.make(BYTES_MIN - 1);
        assert!(!file.exists(), "too little to be of use");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let elsewhere = dir.path().join("elsewhere");
        fs::write(&elsewhere, "mine").unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.path().join("a.db.reserve")).unwrap();
        let mut reserve = Reserve::of(&dir.path().join("a.db"), 1 << 20);
        reserve.make(1 << 20);
        assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
    }
}
