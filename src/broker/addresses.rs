//! How many clients are connected from each address.
//!
//! Owns the bound that keeps one machine from taking the places of all others. An address is remembered only while
//! somebody is connected from it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clients of every address.
#[derive(Debug, Default)]
pub(super) struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One client's place among those of its address; dropping it leaves it.
#[derive(Debug)]
pub(super) struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    /// Takes a place for a client of `address`; `None` where `clients_max` are connected from there.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, clients_max: usize) -> Option<Place> {
        // The same machine, whether it came by IPv4 or by IPv4 within IPv6.
        let address = address.to_canonical();
        let mut clients = self.lock();
        let count = clients.get(&address).copied().unwrap_or(0);
        if count >= clients_max {
            return None;
        }
        clients.insert(address, count + 1);
        Some(Place { addresses: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Entry::Occupied(mut clients) = self.addresses.lock().entry(self.address) {
            *clients.get_mut() -= 1;
            if *clients.get() == 0 {
                clients.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_places_of_its_own_and_none_is_remembered_without_clients() {
        let addresses: Arc<Addresses> = Arc::default();
        let [here, there]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let first = addresses.enter(here, 2);
        let second = addresses.enter([0, 0, 0, 0, 0, 0xFFFF, 0x0A00, 1].into(), 2);
        assert!(first.is_some() && second.is_some());
        assert!(addresses.enter(here, 2).is_none());
        assert!(addresses.enter(there, 2).is_some());
        drop(first);
        assert!(addresses.enter(here, 2).is_some());
        drop(second);
        assert!(addresses.lock().is_empty());
    }
}
