//! Which rows of the outbox may be upstream already.
//!
//! Owns the claims: what the bridge has read to send is claimed and never dropped, so that what is told to be lost is lost.
//! They live in memory alone, as a few ranges of numbers. It never touches the database.

use std::collections::VecDeque;

use super::Lane;

/// Ranges that are remembered from earlier connections, each of at most a window that was sent and not acknowledged. Beyond
/// it the oldest is given up: its messages may then be told to be lost although they arrived.
const FORMER_MAX: usize = 1024;

/// Numbers above `after`, up to and with `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Range {
    pub(in crate::store) after: i64,
    pub(in crate::store) through: i64,
}

/// The claims.
#[derive(Debug)]
pub(in crate::store) struct Claims {
    /// The live lane begins above it.
    boundary: i64,
    /// The backlog is claimed up to here.
    backlog: i64,
    /// The live lane is claimed up to here.
    live: i64,
    /// The upstream has the live lane up to here.
    live_sent: i64,
    /// What was claimed before this connection.
    former: VecDeque<Range>,
    /// Whether the rows that may have been in flight before the start are claimed.
    pub(in crate::store) knows_the_start: bool,
}

impl Default for Claims {
    fn default() -> Claims {
        Claims {
            boundary: i64::MAX,
            backlog: i64::MIN,
            live: i64::MAX,
            live_sent: i64::MAX,
            former: VecDeque::new(),
            knows_the_start: false,
        }
    }
}

impl Claims {
    /// Returns the numbers of a lane above `after`.
    pub(in crate::store) fn range(&self, lane: Lane, after: i64) -> Range {
        match lane {
            Lane::Backlog => Range { after, through: self.boundary },
            Lane::Live => Range { after: after.max(self.boundary), through: i64::MAX },
        }
    }

    /// Claims a lane up to and with `through`.
    pub(in crate::store) fn claim(&mut self, lane: Lane, through: i64) {
        let claimed = self.lane(lane);
        *claimed = (*claimed).max(through);
    }

    /// Gives up what is claimed of a lane above `through`.
    pub(super) fn release(&mut self, lane: Lane, through: i64) {
        let claimed = self.lane(lane);
        *claimed = (*claimed).min(through);
        self.live = self.live.max(self.boundary);
    }

    /// Begins the live lane anew above `newest`; what was live before is backlog now, and stays claimed.
    pub(super) fn set_boundary(&mut self, newest: i64) {
        let unsent = Range { after: self.live_sent.max(self.boundary), through: self.live };
        self.remember(unsent);
        (self.boundary, self.live, self.live_sent) = (newest, newest, newest);
    }

    /// Claims what may have been in flight when an earlier hub ended.
    pub(in crate::store) fn claim_the_start(&mut self, through: i64) {
        self.knows_the_start = true;
        self.remember(Range { after: i64::MIN, through });
    }

    /// Forgets claims on rows that are gone.
    pub(super) fn sent(&mut self, Range { after, through }: Range) {
        if after >= self.boundary {
            self.live_sent = self.live_sent.max(through);
        } else {
            self.former.retain(|range| range.through > through);
        }
    }

    /// Returns what nobody claims, in order.
    pub(in crate::store) fn free(&self) -> Vec<Range> {
        let lanes =
            [Range { after: i64::MIN, through: self.backlog }, Range { after: self.boundary, through: self.live }];
        let mut claimed: Vec<Range> = self.former.iter().copied().chain(lanes).collect();
        claimed.sort_unstable_by_key(|range| range.after);
        let mut free = Vec::new();
        let mut after = i64::MIN;
        for range in claimed {
            if range.after > after {
                free.push(Range { after, through: range.after });
            }
            after = after.max(range.through);
        }
        if after < i64::MAX {
            free.push(Range { after, through: i64::MAX });
        }
        free
    }

    fn lane(&mut self, lane: Lane) -> &mut i64 {
        match lane {
            Lane::Backlog => &mut self.backlog,
            Lane::Live => &mut self.live,
        }
    }

    fn remember(&mut self, range: Range) {
        if range.after >= range.through {
            return;
        }
        if self.former.len() >= FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(claims: &Claims) -> Vec<(i64, i64)> {
        claims.free().into_iter().map(|range| (range.after, range.through)).collect()
    }

    #[test]
    fn what_is_claimed_in_either_lane_is_not_free_and_what_is_released_is() {
        let mut claims = Claims::default();
        assert_eq!(free(&claims), [(i64::MIN, i64::MAX)]);
        claims.claim(Lane::Backlog, 10);
        assert_eq!(free(&claims), [(10, i64::MAX)]);
        claims.set_boundary(50);
        claims.claim(Lane::Live, 60);
        assert_eq!(free(&claims), [(10, 50), (60, i64::MAX)]);
        claims.release(Lane::Live, 0);
        claims.release(Lane::Backlog, 5);
        assert_eq!(free(&claims), [(5, 50), (50, i64::MAX)]);
    }

    #[test]
    fn what_was_live_stays_claimed_when_a_new_connection_makes_it_backlog() {
        let mut claims = Claims::default();
        claims.claim_the_start(8);
        claims.set_boundary(50);
        claims.claim(Lane::Live, 60);
        claims.sent(Range { after: 50, through: 55 });
        claims.set_boundary(100);
        assert_eq!(free(&claims), [(8, 55), (60, 100), (100, i64::MAX)]);
        claims.release(Lane::Backlog, 0);
        assert_eq!(free(&claims), [(8, 55), (60, 100), (100, i64::MAX)], "what an earlier hub may have sent stays");
        claims.claim(Lane::Backlog, 70);
        claims.sent(Range { after: 0, through: 70 });
        claims.release(Lane::Backlog, 0);
        assert_eq!(free(&claims), [(0, 100), (100, i64::MAX)]);
    }

    #[test]
    fn the_ranges_of_a_connection_that_comes_and_goes_stay_few() {
        let mut claims = Claims::default();
        for round in 0..10_000 {
            claims.set_boundary(round * 10);
            claims.claim(Lane::Live, round * 10 + 5);
        }
        assert!(claims.former.len() <= FORMER_MAX);
    }
}
