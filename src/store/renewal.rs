//! A database that is damaged is put aside, and a new one takes its place.
//!
//! Owns the opening of the database by the writer, damaged or not, and the line that tells of it. What can be read of the damaged one is
//! for `salvaged` and `salvager`.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::error;

use super::error::StoreError;
use super::outbox::Outbox;
use super::progress::Progress;
use super::transaction::Database;
use super::writer::Settings;
use super::{aside, damage};
use crate::clock::now_ms;
use crate::place::resolved;

/// Opens the database at the start, or makes it; one that is damaged is put aside, and a new one made.
///
/// # Errors
/// Whatever else keeps it from being opened.
pub(super) fn open(
    settings: &Settings,
    outbox: &Option<Arc<Outbox>>,
    progress: &Progress,
) -> Result<Database, StoreError> {
    aside::complete(&real(settings))?;
    // Only now, while nobody in this process can have the file open: to close it later would end SQLite's locks on it.
    let looked = damage::before_opening(&real(settings), settings.synchronous);
    let error = match looked.and_then(|has_log| make_with(settings, outbox, progress, true, None, has_log)) {
        Ok(database) => return Ok(database),
        Err(error) => error,
    };
    let Some(what) = damage::of_error(&error, &settings.path) else { return Err(error) };
    put_aside(settings, &what)?;
    make(settings, outbox, progress, true, Some(&what))
}

/// Puts the damaged database aside, and tells.
///
/// # Errors
/// The system's: then it is tried again.
pub(super) fn put_aside(settings: &Settings, what: &str) -> Result<(), StoreError> {
    // SQLite keeps the log beside the file itself: where the path is a link, that stays, and names the new one.
    let aside = aside::put_aside(&real(settings), now_ms())?;
    error!(
        "the database is damaged: {what}; it is put aside as {}, and a new one takes its place. What can be read of it is put into the \
         new one by and by; keep the file until then, and look after the disk: see docs/store.md",
        aside.display()
    );
    Ok(())
}

/// Opens the database, or makes it where `create` says so; `why` is what was wrong with the one before, where that was put aside just now.
///
/// # Errors
/// Whatever keeps it from being opened, damage among it.
pub(super) fn make(
    settings: &Settings,
    outbox: &Option<Arc<Outbox>>,
    progress: &Progress,
    create: bool,
    why: Option<&str>,
) -> Result<Database, StoreError> {
    make_with(settings, outbox, progress, create, why, false)
}

fn make_with(
    settings: &Settings,
    outbox: &Option<Arc<Outbox>>,
    progress: &Progress,
    create: bool,
    why: Option<&str>,
    has_log: bool,
) -> Result<Database, StoreError> {
    let Settings { path, synchronous, quarantine_bytes_max, .. } = settings;
    Database::open(path, *synchronous, *quarantine_bytes_max, outbox.clone(), create, why, has_log)?
        .with_riders(progress)
}

fn real(settings: &Settings) -> PathBuf {
    settings.path.canonicalize().unwrap_or_else(|_| resolved(&settings.path))
}
