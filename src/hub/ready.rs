//! The ready file: written once the hub serves, so that whoever started it knows where.
//!
//! Owns its words, and that nobody reads half of them or those of an earlier run.

use std::io::Write;
use std::path::Path;

use serde::Serialize;

use super::HubError;
use crate::broker::Place;
use crate::place::beside;

/// What the ready file tells.
#[derive(Serialize)]
pub(super) struct Ready {
    pub(super) pid: u32,
    pub(super) mqtt: Vec<String>,
    pub(super) listeners: Vec<Place>,
    pub(super) http: Option<String>,
}

/// Removes the ready file of an earlier run, which whoever waits for this one must not read.
pub(super) fn remove_stale(path: &Path) -> Result<(), HubError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::System { doing: format!("cannot replace the ready file {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

/// Writes the ready file as a whole: whoever waits for it never reads half of it.
pub(super) fn write(path: &Path, ready: &Ready) -> Result<(), HubError> {
    let failed = |source| HubError::System { doing: format!("cannot write the ready file {}", path.display()), source };
    let unfinished = beside(path, ".new");
    let json = serde_json::to_string(ready).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::create(&unfinished).map_err(failed)?;
    writeln!(file, "{json}").map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}
