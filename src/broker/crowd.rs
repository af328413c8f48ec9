//! How many clients an address has.
//!
//! Owns the count, so that one machine, a broken sensor that opens connection after connection say, does not take all
//! the room there is. What counts as one address is said here, for whoever else counts by address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clients of each address.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<HashMap<IpAddr, usize>>);

/// One client's place in the count, until it is dropped.
#[derive(Debug)]
pub(super) struct Spot {
    crowd: Arc<Crowd>,
    address: IpAddr,
}

impl Crowd {
    /// Counts a client in; `None` where its address has `most` already.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, most: usize) -> Option<Spot> {
        let address = network(address);
        let mut counts = self.lock();
        let count = counts.entry(address).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Spot { crowd: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        let mut counts = self.crowd.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

/// Returns what counts as one address: in IPv6 the network of 64 bits, as one host has all of it.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_its_share_and_gets_it_back() {
        let crowd: Arc<Crowd> = Arc::default();
        let enter = |address: &str| crowd.enter(address.parse().unwrap(), 2);
        let (first, second) = (enter("10.0.0.1").unwrap(), enter("::ffff:10.0.0.1").unwrap());
        assert!(enter("10.0.0.1").is_none());
        let other = enter("10.0.0.2").unwrap();
        drop(first);
        let third = enter("10.0.0.1").unwrap();
        let six = (enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap());
        assert!(enter("2001:db8::3").is_none() && enter("2001:db8:0:1::1").is_some());
        drop((second, third, other, six));
        assert!(crowd.lock().is_empty());
    }
}
