//! What has been read of packets that have not come whole, or that nobody has had time for: how much of it the hub
//! holds.
//!
//! Owns the bound on these bytes over all connections together, and who has to go when it is reached: the connection that
//! has been holding on longest. A packet of a megabyte that comes without a pause is there in no time; one that is
//! begun and not gone on with, two hundred times, must not take the memory of a small machine. It never reads a socket.

use std::collections::VecDeque;
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
    /// Those that hold any, the one that began first in front.
    shares: VecDeque<(Arc<CancellationToken>, usize)>,
}

/// One connection's share of them; dropping it gives all back.
#[derive(Debug)]
pub(super) struct Share {
    partial: Arc<Partial>,
    evicted: Arc<CancellationToken>,
    bytes: usize,
}

impl Partial {
    /// Makes a bound of `bytes_max`; a single connection may hold more, as its listener allows.
    pub(super) fn new(bytes_max: usize) -> Arc<Partial> {
        Arc::new(Partial { bytes_max, held: Mutex::default() })
    }

    /// Makes the share of a connection that holds nothing yet.
    pub(super) fn share(self: &Arc<Self>) -> Share {
        Share { partial: self.clone(), evicted: Arc::default(), bytes: 0 }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// Says how much the connection holds now. Where all hold too much, those that have held longest are told to end.
    pub(super) fn hold(&mut self, bytes: usize) {
        let bytes = if bytes > FREE_BYTES { bytes } else { 0 };
        if bytes == self.bytes {
            return;
        }
        self.bytes = bytes;
        let mut held = self.partial.lock();
        held.set(&self.evicted, bytes);
        while held.bytes > self.partial.bytes_max && held.shares.len() > 1 {
            let Some((longest, bytes)) = held.shares.pop_front() else { break };
            held.bytes -= bytes;
            longest.cancel();
        }
    }

    /// Returns what is cancelled when the connection has to end.
    pub(super) fn evicted(&self) -> Arc<CancellationToken> {
        self.evicted.clone()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

impl Held {
    fn set(&mut self, owner: &Arc<CancellationToken>, bytes: usize) {
        let index = self.shares.iter().position(|(other, _)| Arc::ptr_eq(other, owner));
        let before = index.and_then(|index| self.shares.get(index)).map_or(0, |(_, before)| *before);
        self.bytes = self.bytes - before + bytes;
        match index {
            Some(index) if bytes == 0 => drop(self.shares.remove(index)),
            Some(index) => {
                if let Some((_, held)) = self.shares.get_mut(index) {
                    *held = bytes;
                }
            }
            // One that was told to end is not counted again while it does.
            None if bytes > 0 && !owner.is_cancelled() => self.shares.push_back((owner.clone(), bytes)),
            None => self.bytes -= bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = 100_000;

    #[test]
    fn who_has_held_longest_makes_room_and_who_holds_little_is_left_alone() {
        let partial = Partial::new(3 * MANY);
        let mut shares: Vec<Share> = (0..5).map(|_| partial.share()).collect();
        shares[4].hold(FREE_BYTES);
        for share in &mut shares[..3] {
            share.hold(MANY);
        }
        assert!(shares.iter().all(|share| !share.evicted.is_cancelled()));
        shares[3].hold(MANY);
        let evicted: Vec<bool> = shares.iter().map(|share| share.evicted.is_cancelled()).collect();
        assert_eq!(evicted, [true, false, false, false, false]);
        shares[0].hold(2 * MANY);
        assert_eq!(partial.lock().bytes, 3 * MANY, "one that has to go counts no more");
    }

    #[test]
    fn what_is_given_back_is_room_again_and_one_alone_may_hold_all_it_wants() {
        let partial = Partial::new(MANY);
        let mut first = partial.share();
        first.hold(2 * MANY);
        first.hold(0);
        let mut second = partial.share();
        second.hold(MANY);
        assert!(!first.evicted.is_cancelled() && !second.evicted.is_cancelled());
        drop(second);
        let held = partial.lock();
        assert_eq!((held.bytes, held.shares.len()), (0, 0));
    }
}
