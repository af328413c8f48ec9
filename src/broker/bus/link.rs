//! A sink's place on the bus.
//!
//! Owns what one sink is subscribed to, as far as it counts. A link rides on one of the few trunks that the router knows of,
//! with many others: a session costs the router nothing. What comes by a trunk and whom it concerns is not its business.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::trunk::Trunk;
use super::{Bus, BusError};
use crate::topic;

/// The handle of a sink's place; dropping it ends its subscriptions.
pub struct Link {
    bus: Arc<Bus>,
    trunk: Arc<Trunk>,
    seat: usize,
    subscribed: AtomicUsize,
}

impl Link {
    pub(super) fn new(bus: Arc<Bus>, trunk: Arc<Trunk>, seat: usize) -> Link {
        Link { bus, trunk, seat, subscribed: AtomicUsize::new(0) }
    }

    /// Subscribes to filters that are valid and not subscribed yet; returns once the router has them. With none, only
    /// what the sink wants is asked anew.
    ///
    /// # Errors
    /// [`BusError::TooManyFilters`], and nothing is subscribed; [`BusError::RouterEnded`], [`BusError::Silent`].
    pub async fn subscribe(&self, filters: &[&str]) -> Result<(), BusError> {
        // Counted first: from the SUBACK on, no message may take the short way past the bus.
        let weight = weight(filters);
        let before = self.bus.subscribed.fetch_add(weight, Ordering::AcqRel);
        self.subscribed.fetch_add(weight, Ordering::AcqRel);
        let names = || filters.iter().map(|filter| self.bus.names.of_filter(filter)).collect();
        if before + weight > self.bus.filters_max {
            self.count_off(weight);
            return Err(BusError::TooManyFilters(self.bus.filters_max));
        }
        let subscribed = self.subscribe_names(names()).await;
        if subscribed.is_err() {
            // The router may still come to it.
            self.trunk.unsubscribe(self.seat, names());
            self.count_off(weight);
        }
        subscribed
    }

    /// Unsubscribes from filters that are subscribed.
    pub fn unsubscribe(&self, filters: &[&str]) {
        self.count_off(weight(filters));
        let names = filters.iter().map(|filter| self.bus.names.of_filter(filter)).collect();
        self.trunk.unsubscribe(self.seat, names);
    }

    /// Subscribes to names as the router knows them.
    pub(super) async fn subscribe_names(&self, names: Vec<String>) -> Result<(), BusError> {
        self.trunk.subscribe(self.seat, names).await
    }

    fn count_off(&self, weight: usize) {
        self.bus.subscribed.fetch_sub(weight, Ordering::AcqRel);
        self.subscribed.fetch_sub(weight, Ordering::AcqRel);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.bus.subscribed.fetch_sub(self.subscribed.load(Ordering::Acquire), Ordering::AcqRel);
        self.trunk.leave(self.seat);
    }
}

fn weight(filters: &[&str]) -> usize {
    filters.iter().map(|filter| topic::weight(filter)).sum()
}
