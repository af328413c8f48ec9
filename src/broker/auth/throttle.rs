//! Slows down whoever tries passwords.
//!
//! Owns what is remembered of addresses: how often a login from there failed of late, and how many are under way. It
//! grows the delay before a refusal, and bounds the logins at a time from one address, so that guessing in parallel
//! gains nothing. Others are never delayed for it. Bounded in number; it takes the time as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::broker::crowd::network;

/// The delay of the first refusal; each further one doubles it.
const DELAY: Duration = Duration::from_millis(250);
const DELAY_MAX: Duration = Duration::from_secs(8);
/// After this long without a failure an address is a good one again.
const MEMORY: Duration = Duration::from_secs(600);
/// Addresses with failures that are remembered, at most.
const ADDRESSES_MAX: usize = 1024;
/// Logins at a time from one address: without failures, and with.
const AT_A_TIME: usize = 128;
const AT_A_TIME_FAILED: usize = 4;

/// What is known of addresses.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    addresses: Mutex<HashMap<IpAddr, Record>>,
}

#[derive(Debug)]
struct Record {
    failures: u32,
    last: Instant,
    under_way: usize,
}

/// A login that is under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Attempt {
    throttle: Arc<Throttle>,
    address: IpAddr,
}

impl Throttle {
    /// Begins a login; `None` where as many are under way from the address as may be.
    pub(super) fn begin(self: &Arc<Self>, address: IpAddr, now: Instant) -> Option<Attempt> {
        let address = network(address);
        let mut addresses = self.lock();
        let record = addresses.entry(address).or_insert(Record { failures: 0, last: now, under_way: 0 });
        record.forgive(now);
        let most = if record.failures > 0 { AT_A_TIME_FAILED } else { AT_A_TIME };
        if record.under_way >= most {
            return None;
        }
        record.under_way += 1;
        Some(Attempt { throttle: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    /// Notes that the login failed; returns how long the refusal is to wait.
    pub(super) fn failed(&self, now: Instant) -> Duration {
        let mut addresses = self.throttle.lock();
        let Some(record) = addresses.get_mut(&self.address) else { return DELAY_MAX };
        record.failures = record.failures.saturating_add(1);
        record.last = now;
        let doublings = (record.failures - 1).min(16);
        let delay = DELAY.saturating_mul(1 << doublings).min(DELAY_MAX);
        make_room(&mut addresses, now);
        delay
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let mut addresses = self.throttle.lock();
        if let Some(record) = addresses.get_mut(&self.address) {
            record.under_way -= 1;
            if record.under_way == 0 && record.failures == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

impl Record {
    fn forgive(&mut self, now: Instant) {
        if now.duration_since(self.last) >= MEMORY {
            self.failures = 0;
        }
    }
}

/// Forgets the address that failed longest ago, where there are too many.
fn make_room(addresses: &mut HashMap<IpAddr, Record>, now: Instant) {
    if addresses.len() <= ADDRESSES_MAX {
        return;
    }
    addresses.retain(|_, record| record.under_way > 0 || now.duration_since(record.last) < MEMORY);
    let idle = addresses.iter().filter(|(_, record)| record.under_way == 0);
    let oldest = idle.min_by_key(|(_, record)| record.last).map(|(address, _)| *address);
    if let Some(oldest) = oldest.filter(|_| addresses.len() > ADDRESSES_MAX) {
        addresses.remove(&oldest);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn fail(throttle: &Arc<Throttle>, from: &str, now: Instant) -> Duration {
        throttle.begin(address(from), now).unwrap().failed(now)
    }

    #[test]
    fn refusals_wait_longer_each_time_up_to_a_bound_and_only_those_of_their_address() {
        let (throttle, now) = (Arc::<Throttle>::default(), Instant::now());
        let delays: Vec<u128> = (0..8).map(|_| fail(&throttle, "192.0.2.1", now).as_millis()).collect();
        assert_eq!(delays, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
        assert_eq!(fail(&throttle, "192.0.2.2", now), DELAY);
        assert_eq!(fail(&throttle, "192.0.2.1", now + MEMORY), DELAY, "it is forgotten after a while");
    }

    #[test]
    fn a_network_of_64_bits_and_a_mapped_address_are_one_address() {
        let (throttle, now) = (Arc::<Throttle>::default(), Instant::now());
        fail(&throttle, "2001:db8::1", now);
        assert_eq!(fail(&throttle, "2001:db8::ffff:2", now), DELAY * 2);
        assert_eq!(fail(&throttle, "2001:db8:0:1::1", now), DELAY);
        fail(&throttle, "192.0.2.1", now);
        assert_eq!(fail(&throttle, "::ffff:192.0.2.1", now), DELAY * 2);
    }

    #[test]
    fn guessing_in_parallel_gains_nothing() {
        let (throttle, now) = (Arc::<Throttle>::default(), Instant::now());
        fail(&throttle, "192.0.2.1", now);
        let attempts: Vec<_> = (0..9).filter_map(|_| throttle.begin(address("192.0.2.1"), now)).collect();
        assert_eq!(attempts.len(), AT_A_TIME_FAILED);
        assert!(throttle.begin(address("192.0.2.2"), now).is_some());
        drop(attempts);
        assert!(throttle.begin(address("192.0.2.1"), now).is_some());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (throttle, now) = (Arc::<Throttle>::default(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 * 2 {
            let from = IpAddr::V4(std::net::Ipv4Addr::from_bits(number));
            throttle.begin(from, now).unwrap().failed(now + Duration::from_millis(number.into()));
            drop(throttle.begin(IpAddr::V4(std::net::Ipv4Addr::from_bits(!number)), now));
        }
        assert_eq!(throttle.lock().len(), ADDRESSES_MAX);
    }
}
