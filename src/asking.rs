//! Questions to the database for those who ask the running hub.
//!
//! Owns how many are answered at a time and how long one may wait, so that whoever asks too much waits and the disk stays the
//! writer's. It never knows what is asked.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::store::{Reader, StoreError};
use crate::tasks::{self, Name};

/// How long a question may wait for those before it, and how long its answer may take.
const ASK_TIME_MAX: Duration = Duration::from_secs(8);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Others ask, or the disk does not answer.
    #[error("the hub is busy with other questions, or its disk does not answer: ask again later")]
    Busy,
}

/// Asks a database.
#[derive(Clone, Debug)]
pub struct Asking {
    database: PathBuf,
    turns: Arc<Semaphore>,
    name: &'static str,
}

impl Asking {
    /// Makes it for a database; `at_once` questions are answered at a time, by a part of the hub called `name`.
    pub fn new(database: &Path, at_once: usize, name: &'static str) -> Asking {
        Asking { database: database.to_owned(), turns: Arc::new(Semaphore::new(at_once)), name }
    }

    /// Returns the database that is asked.
    pub fn database(&self) -> &Path {
        &self.database
    }

    /// Reads on a thread that may wait for the disk.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, AskError> {
        let turn = tokio::time::timeout(ASK_TIME_MAX, self.turns.clone().acquire_owned());
        let turn = turn.await.ok().and_then(Result::ok).ok_or(AskError::Busy)?;
        let database = self.database.clone();
        let answer = tasks::blocking(Name::Part(self.name), move || {
            let _turn = turn;
            question(&Reader::open(&database)?)
        });
        match tokio::time::timeout(ASK_TIME_MAX, answer).await {
            Ok(Ok(answer)) => answer.map_err(AskError::from),
            _ => Err(AskError::Busy),
        }
    }
}
