//! `stationhub backup`: a copy of the database that appears under its name only when it is whole and checked.
//!
//! Owns where a copy may go and what is said of it. It needs no running hub and disturbs none: it reads beside it.

use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::statvfs;
use rustix::process::{getpriority_process, setpriority_process};

use super::MaintenanceError;
use super::progress::{Progress, Unit};
use super::whole::{Partial, Replace};
use crate::http;
use crate::place::{beside, directory, resolved};
use crate::store::backup::{self, Copying, Holds, Pace};

/// Room that is left beside a copy, bytes.
const ROOM_LEFT: u64 = 1 << 20;
/// How much less of the processor a backup gets than the hub, as `nice` counts.
const NICENESS: i32 = 10;

/// A copy that was made.
#[derive(Debug)]
pub struct Made {
    /// Its size, bytes.
    pub bytes: u64,
    /// Its rows.
    pub holds: Vec<Holds>,
}

/// Copies a database to a file, and checks the copy; returns what to say of it.
///
/// # Errors
/// [`MaintenanceError`]; then there is no such file, or the one that was there before.
pub fn run(database: &Path, target: &Path, replace: Replace) -> Result<String, MaintenanceError> {
    give_way();
    let mut progress = Progress::begin("copying", Unit::Bytes);
    let made = make(database, target, replace, pace(database), |Copying { done, total }| {
        progress.tell(done, total);
        ControlFlow::Continue(())
    })?;
    drop(progress);
    let rows: Vec<String> = made.holds.iter().map(|held| format!("{} rows of {}", held.rows, held.table)).collect();
    Ok(format!("{}: {} bytes, checked: {}", target.display(), made.bytes, rows.join(", ")))
}

/// Returns the pace of a copy: where a hub runs, its socket is there.
pub(super) fn pace(database: &Path) -> Pace {
    if http::socket_path(database).exists() { Pace::Gentle } else { Pace::Full }
}

/// Lets all others have the processor first, from this thread on.
pub(super) fn give_way() {
    let lowered = getpriority_process(None).and_then(|priority| setpriority_process(None, priority + NICENESS));
    // It helps, and does no harm where the system does not allow it.
    if let Err(error) = lowered {
        tracing::debug!(%error, "the priority of the backup stays as it is");
    }
}

/// Copies a database to a file, and checks the copy.
///
/// # Errors
/// As [`run`].
pub(super) fn make(
    database: &Path,
    target: &Path,
    replace: Replace,
    pace: Pace,
    told: impl FnMut(Copying) -> ControlFlow<()>,
) -> Result<Made, MaintenanceError> {
    see_that_it_fits(database, target)?;
    let partial = Partial::begin(target, replace)?;
    // Whoever may read the database may read its copy, and nobody else.
    let failed = |source| MaintenanceError::File { doing: "cannot set the rights of", path: target.to_owned(), source };
    let mode = fs::metadata(database).map_err(failed)?.permissions().mode() & 0o666;
    partial.file().set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    let copied = backup::copy(database, partial.path(), partial.file(), pace, told)?;
    let holds = backup::verify(partial.path(), &copied, pace)?;
    partial.finish()?;
    Ok(Made { bytes: copied.bytes, holds })
}

/// Refuses a target that is the database, or one of the files that belong to it.
pub(super) fn spare_the_database(database: &Path, target: &Path) -> Result<(), MaintenanceError> {
    let (database, target) = (resolved(database), resolved(target));
    let own = ["-wal", "-shm", "-journal", ".lock", ".sock", ".reserve"].map(|suffix| beside(&database, suffix));
    if target == database || own.contains(&target) {
        let why = "belongs to the database itself; name another file".to_owned();
        return Err(MaintenanceError::Unfit { path: target, why });
    }
    Ok(())
}

/// Refuses a target that is the database, that has a log of its own which would be taken for the copy's, or that has no room.
fn see_that_it_fits(database: &Path, target: &Path) -> Result<(), MaintenanceError> {
    let unfit = |why: &str| MaintenanceError::Unfit { path: target.to_owned(), why: why.to_owned() };
    spare_the_database(database, target)?;
    if ["-wal", "-journal"].iter().any(|suffix| beside(target, suffix).exists()) {
        return Err(unfit(
            "has a log beside it (-wal or -journal): some program uses it, or did not close it; name another file",
        ));
    }
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
    let needed = size(database) + size(&beside(&resolved(database), "-wal")) + ROOM_LEFT;
    let stat = statvfs(directory(target)).map_err(|source| MaintenanceError::File {
        doing: "cannot look at the disk of",
        path: target.to_owned(),
        source: source.into(),
    })?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free < needed {
        return Err(MaintenanceError::NoRoom { path: target.to_owned(), needed, free });
    }
    Ok(())
}
