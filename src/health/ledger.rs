//! What of the readings of the last hour is stored, for the statistics line.
//!
//! Owns these words. What is expected is the gap ledger's to know.

use std::time::Duration;

use super::Health;
use crate::clock::now_ms;
use crate::gaps::HOUR_MS;
use crate::store::{GapQuery, Reader};
use crate::tasks::{self, Name};

/// Rows that are read for it: under a load that makes more, what is missing is not told to the last one.
const ROWS_MAX: usize = 100_000;
const LOOK_TIME_MAX: Duration = Duration::from_secs(2);

impl Health {
    /// Says how many of the readings that were expected in the last hour are stored; nothing where none were.
    pub(super) async fn last_hour(&self) -> String {
        let (database, now_ms) = (self.watched.database.clone(), now_ms());
        let query = GapQuery { rows_max: ROWS_MAX, ..GapQuery::between(now_ms - HOUR_MS, now_ms, true) };
        let looked = tasks::blocking(Name::Part("statistics"), move || Reader::open(&database)?.gaps(&query));
        match tokio::time::timeout(LOOK_TIME_MAX, looked).await {
            Ok(Ok(Ok(report))) => in_words(report.totals()),
            _ => String::new(),
        }
    }
}

fn in_words((stored, expected): (i64, i64)) -> String {
    if expected == 0 { String::new() } else { format!(", stored {stored} of {expected} expected in the last hour") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_hour_is_told_where_something_was_expected() {
        assert_eq!(in_words((719, 720)), ", stored 719 of 720 expected in the last hour");
        assert_eq!(in_words((0, 0)), "");
    }
}
