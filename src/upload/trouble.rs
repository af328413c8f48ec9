//! A row of failures: how long to pause after each, and what of it is told.
//!
//! Owns both. Pure: it never waits and never logs.

use std::time::{Duration, Instant};

use super::error::{Fault, UploadError};

/// The first pause after a failure, and the longest.
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// How often a network is asked that does not let the station in.
const LOGIN_PAUSE: Duration = Duration::from_secs(600);
/// How often an observation is sent that the network does not take as it is.
const REJECTIONS_MAX: u32 = 3;

/// A row of failures.
#[derive(Debug)]
pub(super) struct Trouble {
    /// When it began.
    pub(super) since: Instant,
    /// How many there were.
    pub(super) attempts: u32,
    /// The last one, in words.
    pub(super) error: String,
    /// Whether the network does not let the station in.
    pub(super) is_login: bool,
    /// Whether a line told of it.
    pub(super) is_told: bool,
    pause: Duration,
    rejections: u32,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Follows {
    /// The pause before the next attempt.
    pub(super) pause: Duration,
    /// Whether it is new that the network does not let the station in.
    pub(super) is_new_login: bool,
    /// Whether the observation is given up.
    pub(super) gives_up: bool,
}

impl Trouble {
    /// Begins a row.
    pub(super) fn begin(now: Instant) -> Trouble {
        Trouble {
            since: now,
            attempts: 0,
            error: String::new(),
            is_login: false,
            is_told: false,
            pause: PAUSE_MIN,
            rejections: 0,
        }
    }

    /// Adds a failure.
    pub(super) fn add(&mut self, error: &UploadError) -> Follows {
        self.attempts += 1;
        self.error = error.to_string();
        let due = self.pause;
        self.pause = (due * 2).min(PAUSE_MAX);
        let fault = error.fault();
        let was_login = std::mem::replace(&mut self.is_login, fault == Some(Fault::Login));
        let mut follows = Follows { pause: due, is_new_login: self.is_login && !was_login, gives_up: false };
        match fault {
            Some(Fault::Login) => follows.pause = LOGIN_PAUSE,
            Some(Fault::Later(Some(wanted))) => follows.pause = due.max(wanted),
            Some(Fault::Rejected) => self.rejections += 1,
            Some(Fault::Later(None)) | None => {}
        }
        if self.rejections >= REJECTIONS_MAX {
            self.rejections = 0;
            follows.gives_up = true;
        }
        follows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(fault: Fault) -> UploadError {
        UploadError::Refused { server: "s".to_owned(), answer: "a".to_owned(), fault }
    }

    #[test]
    fn pauses_double_up_to_five_minutes_and_the_network_may_ask_for_more() {
        let mut trouble = Trouble::begin(Instant::now());
        let gone = UploadError::Unreachable { server: "s".to_owned(), reason: "gone".to_owned() };
        let pauses: Vec<u64> = (0..10).map(|_| trouble.add(&gone).pause.as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        let wanted = trouble.add(&refused(Fault::Later(Some(Duration::from_secs(900)))));
        assert_eq!(wanted.pause.as_secs(), 900);
        assert_eq!(trouble.add(&refused(Fault::Later(Some(Duration::from_secs(9))))).pause.as_secs(), 300);
        assert_eq!((trouble.attempts, trouble.error.as_str()), (12, "s answered a"));
    }

    #[test]
    fn a_login_is_told_once_and_tried_every_ten_minutes() {
        let mut trouble = Trouble::begin(Instant::now());
        let follows: Vec<Follows> = (0..3).map(|_| trouble.add(&refused(Fault::Login))).collect();
        assert!(follows.iter().all(|follows| follows.pause.as_secs() == 600));
        assert_eq!(follows.iter().map(|follows| follows.is_new_login).collect::<Vec<_>>(), [true, false, false]);
    }

    #[test]
    fn an_observation_that_is_refused_again_and_again_is_given_up() {
        let mut trouble = Trouble::begin(Instant::now());
        let given: Vec<bool> = (0..4).map(|_| trouble.add(&refused(Fault::Rejected)).gives_up).collect();
        assert_eq!(given, [false, false, true, false]);
    }
}
