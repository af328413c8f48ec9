//! What waits for the proof that a trunk has read everything.
//!
//! Owns the counting of answers: two PINGRESPs in a row with no `Unschedule` between them prove that all that was
//! published before the first PINGREQ is read (see `trunk`). What comes while one proof is under way waits for the
//! next. It sends and reads nothing itself.

use tokio::sync::mpsc;

/// What waits.
#[derive(Debug)]
pub(super) enum Waiting {
    /// A checkpoint; it is passed when the sender is dropped.
    Checkpoint(mpsc::Sender<()>),
    /// A name that is new on the trunk, by its number.
    Name(usize),
}

/// The proof under way, and what waits for the next.
#[derive(Debug, Default)]
pub(super) struct Proof {
    proving: Vec<Waiting>,
    next: Vec<Waiting>,
    clean_answers: u8,
}

/// What follows from answers.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing is being proven.
    Rest,
    /// Another PINGREQ is due.
    Ask,
    /// This is proven.
    Proven(Vec<Waiting>),
}

impl Proof {
    /// Has something wait for the next proof.
    pub(super) fn add(&mut self, waiting: Waiting) {
        self.next.push(waiting);
    }

    /// Begins the next proof where something waits and none is under way; tells whether a PINGREQ is due.
    pub(super) fn begin(&mut self) -> bool {
        if !self.proving.is_empty() || self.next.is_empty() {
            return false;
        }
        self.proving = std::mem::take(&mut self.next);
        self.clean_answers = 0;
        true
    }

    /// Notes that the router had more than it could hand over.
    pub(super) fn disturb(&mut self) {
        self.clean_answers = 0;
    }

    /// Counts answers with nothing behind them.
    pub(super) fn answer(&mut self, answers: u8) -> Next {
        if self.proving.is_empty() {
            return Next::Rest;
        }
        self.clean_answers += answers;
        if self.clean_answers < 2 { Next::Ask } else { Next::Proven(std::mem::take(&mut self.proving)) }
    }
}
