//! What the writer does about a full disk between two attempts.
//!
//! Owns the order of it: first what makes room by itself, whatever waits before it, then what `space` can spare. It never
//! stores a reading.

use super::Work;
use crate::store::error::StoreError;
use crate::store::job::Job;
use crate::store::transaction::Database;

impl Work {
    /// Makes room where a batch found none; tells whether it is worth to try again at once.
    pub(super) fn make_room(&mut self, error: &StoreError, batch: &mut Vec<Job>) -> bool {
        if !error.is_full() {
            return false;
        }
        // Readings come first: what the hub does beside them waits until there is room.
        let shelved = self.shelved.len();
        self.shelved.extend(batch.extract_if(.., |job| job.can_wait()));
        let has_shelved = self.shelved.len() > shelved;
        self.queue.note_shelved(self.shelved.len());
        let Some(mut database) = self.database.take() else { return has_shelved };
        let has_room = self.empty_outbox(&mut database, batch) || self.space.relieve(&mut database);
        self.database = Some(database);
        has_room || has_shelved
    }

    /// Deletes what the upstream has, of the batch and of all that is queued; tells whether there was anything.
    fn empty_outbox(&mut self, database: &mut Database, batch: &mut Vec<Job>) -> bool {
        let mut making: Vec<Job> = batch.extract_if(.., |job| job.makes_room()).collect();
        self.queue.take_what_makes_room(&mut making);
        if making.is_empty() {
            return false;
        }
        database.is_frugal = true;
        let deleted = self.space.with_room(database, |database| database.store(&making));
        database.is_frugal = false;
        match deleted {
            Ok(_) => {
                self.done(&mut making, &mut Vec::new());
                true
            }
            Err(error) => {
                tracing::debug!(%error, "cannot empty the outbox");
                batch.append(&mut making);
                false
            }
        }
    }
}
