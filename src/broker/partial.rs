//! Large packets on their way: what has been read of those that have not come whole, and what has been written for
//! clients that do not take it.
//!
//! Owns the bound on these bytes over all connections together, and who has to go when it is reached: the connection that
//! has not moved on for longest. A packet of a megabyte that goes without a pause is gone in no time; two hundred that
//! are begun and not gone on with must not take the memory of a small machine. It never touches a socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// What every connection may hold without being counted, bytes: what a few reads bring.
const FREE_BYTES: usize = 32 * 1024;

/// The bytes that all connections hold.
#[derive(Debug)]
pub(super) struct Partial {
    bytes_max: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: usize,
    stamps: u64,
    /// Those that hold any, by when they last moved on.
    shares: BTreeMap<u64, (usize, CancellationToken)>,
}

/// One connection's share of them; dropping it gives all back.
#[derive(Debug)]
pub(super) struct Share {
    partial: Arc<Partial>,
    evicted: CancellationToken,
    stamp: u64,
}

impl Partial {
    /// Makes a bound of `bytes_max`; a single connection may hold more, as its listener allows.
    pub(super) fn new(bytes_max: usize) -> Arc<Partial> {
        Arc::new(Partial { bytes_max, held: Mutex::default() })
    }

    /// Makes the share of a connection that holds nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { partial: self.clone(), evicted: CancellationToken::new(), stamp: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Says how much the connection holds now, and whether it has moved on since it last said so. Where all hold too much,
    /// those that have not moved for longest are told to end.
    pub(super) fn hold(&mut self, bytes: usize, has_moved: bool) {
        let counts = bytes > FREE_BYTES && !self.evicted.is_cancelled();
        if !counts && self.stamp == 0 {
            return;
        }
        let mut held = self.partial.lock();
        held.give_back(self.stamp);
        if !counts {
            self.stamp = 0;
            return;
        }
        if has_moved || self.stamp == 0 {
            held.stamps += 1;
            self.stamp = held.stamps;
        }
        held.bytes += bytes;
        held.shares.insert(self.stamp, (bytes, self.evicted.clone()));
        while held.bytes > self.partial.bytes_max && held.shares.len() > 1 {
            let Some((_, (bytes, longest))) = held.shares.pop_first() else { break };
            held.bytes -= bytes;
            longest.cancel();
        }
    }

    /// Counts nothing until the next [`Self::hold`]: the connection is at work on what it holds.
    pub(super) fn rest(&mut self) {
        if self.stamp > 0 {
            self.partial.lock().give_back(self.stamp);
        }
    }

    /// Returns what is cancelled when the connection has to end.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.rest();
    }
}

impl Held {
    fn give_back(&mut self, stamp: u64) {
        if let Some((bytes, _)) = self.shares.remove(&stamp) {
            self.bytes -= bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 100_000;

    fn evicted(shares: &[Share]) -> Vec<usize> {
        (0..shares.len()).filter(|index| shares[*index].evicted.is_cancelled()).collect()
    }

    #[test]
    fn who_has_not_moved_for_longest_makes_room_and_who_holds_little_is_left_alone() {
        let partial = Partial::new(3 * MANY);
        let mut shares: Vec<Share> = (0..6).map(|_| partial.share()).collect();
        shares[5].hold(FREE_BYTES, true);
        for share in &mut shares[..3] {
            share.hold(MANY, true);
        }
        shares[0].hold(MANY, true);
        shares[1].rest();
        shares[1].hold(MANY, false);
        assert!(evicted(&shares).is_empty());
        shares[3].hold(MANY, true);
        assert_eq!(evicted(&shares), [1], "to rest is not to move");
        shares[1].hold(2 * MANY, true);
        assert_eq!(partial.lock().bytes, 3 * MANY, "one that has to go counts no more");
        shares[4].hold(MANY, true);
        assert_eq!(evicted(&shares), [1, 2]);
    }

    #[test]
    fn what_is_given_back_is_room_again_and_one_alone_may_hold_all_it_wants() {
        let partial = Partial::new(MANY);
        let mut first = partial.share();
        first.hold(2 * MANY, true);
        first.hold(0, true);
        let mut second = partial.share();
        second.hold(MANY, true);
        assert!(!first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        drop(second);
        let held = partial.lock();
        assert_eq!((held.bytes, held.shares.len()), (0, 0));
    }
}
