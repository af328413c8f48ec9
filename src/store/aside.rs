//! Damaged databases, put aside: `<db>.corrupt-<UTC time>`, with `-wal` and `-shm`.
//!
//! Owns their names, and the renaming, which is whole even where a crash comes between. Nothing is ever overwritten or
//! deleted here: only so many are put aside at all before somebody has looked.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::error::StoreError;
use crate::place::{beside, directory};

/// Damaged databases that may lie beside the database. Where a disk spoils one after the other, more copies of it help nobody.
pub(super) const ASIDE_MAX: usize = 20;
const MARK: &str = ".corrupt-";
/// What goes with a database.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Puts a database aside; returns where it is now. It must not be open for writing.
///
/// # Errors
/// The system's, and [`StoreError::TooManyAside`].
pub(super) fn put_aside(database: &Path, at_ms: i64) -> Result<PathBuf, StoreError> {
    let count = list(database).len();
    if count >= ASIDE_MAX {
        return Err(StoreError::TooManyAside { path: database.to_owned(), count });
    }
    let time = Timestamp::from_millisecond(at_ms).unwrap_or_default().strftime("%Y%m%dT%H%M%SZ").to_string();
    let failed = |source| StoreError::Io { doing: "cannot put aside", path: database.to_owned(), source };
    for number in 1..=ASIDE_MAX + 1 {
        let again = if number == 1 { String::new() } else { format!("-{number}") };
        let aside = beside(database, &format!("{MARK}{time}{again}"));
        let is_taken = COMPANIONS.iter().any(|suffix| beside(&aside, suffix).exists());
        // The database itself goes first: what is left of the move after a crash is then known by the database that is missing.
        match if is_taken { Err(rustix::io::Errno::EXIST) } else { rename(database, &aside) } {
            Ok(()) => {
                move_companions(database, &aside).map_err(failed)?;
                return Ok(aside);
            }
            Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(failed(error.into())),
        }
    }
    Err(StoreError::TooManyAside { path: database.to_owned(), count })
}

/// Ends a move that a crash has cut off: without the database, its log would be taken for a new one's, and lost.
///
/// # Errors
/// The system's.
pub(super) fn complete(database: &Path) -> Result<(), StoreError> {
    if database.exists() || !beside(database, "-wal").exists() {
        return Ok(());
    }
    let Some(newest) = list(database).pop() else { return Ok(()) };
    move_companions(database, &newest).map_err(|source| StoreError::Io {
        doing: "cannot put aside",
        path: beside(database, "-wal"),
        source,
    })
}

/// Returns the databases that are aside, oldest first.
pub(super) fn list(database: &Path) -> Vec<PathBuf> {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let begins = format!("{name}{MARK}");
    let is_database = |name: &str| {
        name.strip_prefix(&begins).is_some_and(|rest| {
            rest.starts_with(|first: char| first.is_ascii_digit())
                && rest.chars().all(|character| character.is_ascii_digit() || matches!(character, 'T' | 'Z' | '-'))
        })
    };
    let entries = fs::read_dir(directory(database)).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_database(name));
    let mut found: Vec<PathBuf> = names.map(|name| database.with_file_name(name)).collect();
    found.sort();
    found
}

fn move_companions(database: &Path, aside: &Path) -> io::Result<()> {
    for suffix in COMPANIONS {
        match rename(&beside(database, suffix), &beside(aside, suffix)) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    File::open(directory(database))?.sync_all()
}

/// Renames, and overwrites nothing. Where the file system cannot promise that, nothing is looked for there: the names carry
/// the time, and one hub alone gives them.
fn rename(from: &Path, to: &Path) -> Result<(), rustix::io::Errno> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !to.exists() => {
            rustix::fs::renameat(CWD, from, CWD, to)
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn site() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("a.db");
        (dir, database)
    }

    fn write(database: &Path, text: &str) {
        for suffix in ["", "-wal", "-shm"] {
            fs::write(beside(database, suffix), text).unwrap();
        }
    }

    #[test]
    fn a_second_one_in_the_same_second_overwrites_nothing() {
        let (_dir, database) = site();
        write(&database, "first");
        let first = put_aside(&database, 1_795_638_600_000).unwrap();
        assert_eq!(first, database.with_file_name("a.db.corrupt-20261125T203000Z"));
        write(&database, "second");
        let second = put_aside(&database, 1_795_638_600_000).unwrap();
        assert_eq!(list(&database), [first.clone(), second.clone()]);
        for suffix in ["", "-wal", "-shm"] {
            assert_eq!(fs::read_to_string(beside(&first, suffix)).unwrap(), "first");
            assert_eq!(fs::read_to_string(beside(&second, suffix)).unwrap(), "second");
            assert!(!beside(&database, suffix).exists());
        }
    }

    #[test]
    fn a_crash_between_database_and_log_does_not_part_them() {
        let (_dir, database) = site();
        write(&database, "first");
        fs::rename(&database, database.with_file_name("a.db.corrupt-20261125T203000Z")).unwrap();
        complete(&database).unwrap();
        assert!(database.with_file_name("a.db.corrupt-20261125T203000Z-wal").exists());
        write(&database, "new");
        complete(&database).unwrap();
        assert!(beside(&database, "-wal").exists(), "it is the new one's");
    }

    #[test]
    fn there_is_an_end_to_putting_aside() {
        let (_dir, database) = site();
        for number in 0..ASIDE_MAX {
            write(&database, &number.to_string());
            put_aside(&database, 1_795_638_600_000).unwrap();
        }
        write(&database, "one more");
        assert!(matches!(put_aside(&database, 1_795_638_600_000), Err(StoreError::TooManyAside { .. })));
        assert!(database.exists());
    }
}
