//! What a connected client subscribes to, and unsubscribes from.
//!
//! Owns the answers to SUBSCRIBE and UNSUBSCRIBE: each filter's code, and the order in which session, bus and retained
//! messages come to know of it. Messages themselves are not its business.

use std::time::Instant;

use bytes::BytesMut;

use super::bus::{BusError, Link};
use super::end::End;
use super::inbound::Inbound;
use super::message;
use super::session::Subscription;
use super::wire::{self, RetainHandling, Subscribe, SubscribeFilter, Unsubscribe};
use crate::topic;

/// How many filters of an UNSUBSCRIBE are looked for before others are served: one packet has room for a quarter of a
/// million.
const FILTERS_PER_TURN: usize = 16;

mod code {
    //! MQTT 5 reason codes, section 2.4 of the standard.
    pub(super) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub(super) const IMPLEMENTATION_SPECIFIC: u8 = 0x83;
    pub(super) const NOT_AUTHORIZED: u8 = 0x87;
    pub(super) const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub(super) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(super) const QUOTA_EXCEEDED: u8 = 0x97;
}

impl Inbound {
    /// Takes a SUBSCRIBE.
    pub(super) async fn subscribe(&mut self, subscribe: Subscribe, out: &mut BytesMut) -> Result<(), End> {
        // What this client published before must not come back by what it subscribes to now.
        self.hand_over().await?;
        let mut codes = Vec::with_capacity(subscribe.filters.len());
        for (place, wanted) in subscribe.filters.iter().enumerate() {
            // A client may have no more, and one packet has room for a quarter of a million.
            if place >= self.broker.limits.subscriptions {
                codes.push(code::QUOTA_EXCEEDED);
                continue;
            }
            let granted = self.subscribe_to(wanted, subscribe.subscription_identifier).await;
            codes.push(granted.unwrap_or_else(|code| code));
            // Each may have to look at every retained message; others are served in between.
            tokio::task::yield_now().await;
        }
        let why = codes.iter().find_map(|code| words(*code)).filter(|_| self.terms.explains);
        let start = out.len();
        wire::suback(out, self.terms.version, subscribe.id, &codes, why);
        if why.is_some() && out.len() - start > self.terms.packet_bytes_max {
            out.truncate(start);
            wire::suback(out, self.terms.version, subscribe.id, &codes, None);
        }
        self.check_size(out, start)
    }

    /// Subscribes to one filter; returns the QoS that is granted, or the reason code why it is not.
    async fn subscribe_to(&mut self, wanted: &SubscribeFilter, identifier: Option<u32>) -> Result<u8, u8> {
        let is_shared = topic::is_shared(&wanted.filter);
        let is_valid =
            if is_shared { topic::shared(&wanted.filter).is_some() } else { topic::valid_filter(&wanted.filter) };
        if !is_valid {
            return Err(code::TOPIC_FILTER_INVALID);
        }
        let session = &self.holding.session;
        let read = topic::shared(&wanted.filter).map_or(&*wanted.filter, |(_, filter)| filter);
        if !self.rights.may_subscribe(read) {
            self.broker.counters.denied("a subscription", session.client(), &self.rights, &wanted.filter);
            return Err(code::NOT_AUTHORIZED);
        }
        let subscription = Subscription {
            filter: message::copy_text(&wanted.filter),
            qos: wanted.qos,
            no_local: wanted.no_local,
            retain_as_published: wanted.retain_as_published,
            identifier,
            since: self.broker.bus.next_number(),
        };
        let Some(is_new) = session.add(subscription.clone()) else {
            if self.broker.counters.refused_lines.allows() {
                tracing::warn!(
                    client = %session.client().escape_debug(),
                    "a subscription was refused: the client has as many as broker.limits.subscriptions allows"
                );
            }
            return Err(code::QUOTA_EXCEEDED);
        };
        let linked = match (is_shared, is_new) {
            // Also where it is not new: the group has to know of changed options.
            (true, _) => self.broker.shares.join(session, &subscription).await,
            (false, true) => self.link_to(&wanted.filter).await,
            (false, false) => Ok(()),
        };
        if let Err(error) = linked {
            session.remove(&wanted.filter);
            return Err(self.refuse_subscription(&error));
        }
        let sends_retained = match wanted.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if sends_retained && !is_shared {
            let mut found = self.broker.retained.matching(&wanted.filter, Instant::now());
            found.retain(|message| !wanted.no_local || message.publisher != *session.client());
            session.send_retained(found, wanted.qos, identifier);
        }
        Ok(wanted.qos as u8)
    }

    /// Subscribes the session's link, opening it where this is its first filter.
    async fn link_to(&self, filter: &str) -> Result<(), BusError> {
        let mut link = self.holding.link.lock().await;
        let link = match &mut *link {
            Some(link) => link,
            empty => {
                let opened: Link = self.broker.bus.link(self.holding.session.clone()).await?;
                empty.insert(opened)
            }
        };
        link.subscribe(&[filter]).await
    }

    fn refuse_subscription(&self, error: &BusError) -> u8 {
        if self.broker.counters.refused_lines.allows() {
            tracing::warn!(
                client = %self.holding.session.client().escape_debug(),
                "a subscription was refused: {error}"
            );
        }
        match error {
            BusError::NoRoom | BusError::TooManyFilters(_) => code::QUOTA_EXCEEDED,
            _ => code::IMPLEMENTATION_SPECIFIC,
        }
    }

    /// Takes an UNSUBSCRIBE.
    pub(super) async fn unsubscribe(&mut self, unsubscribe: Unsubscribe, out: &mut BytesMut) -> Result<(), End> {
        let mut codes = Vec::with_capacity(unsubscribe.filters.len());
        for (place, filter) in unsubscribe.filters.iter().enumerate() {
            if place % FILTERS_PER_TURN == FILTERS_PER_TURN - 1 {
                tokio::task::yield_now().await;
            }
            let existed = self.holding.session.remove(filter);
            if existed && topic::is_shared(filter) {
                self.broker.shares.unsubscribe(&self.holding.session, filter).await;
            } else if existed && let Some(link) = &*self.holding.link.lock().await {
                link.unsubscribe(&[filter]);
            }
            codes.push(if existed { 0 } else { code::NO_SUBSCRIPTION_EXISTED });
        }
        let start = out.len();
        wire::unsuback(out, self.terms.version, unsubscribe.id, &codes);
        self.check_size(out, start)
    }

    /// Takes an answer back that is larger than the client takes: it cannot be left unsent either.
    fn check_size(&self, out: &mut BytesMut, start: usize) -> Result<(), End> {
        if out.len() - start <= self.terms.packet_bytes_max {
            return Ok(());
        }
        out.truncate(start);
        Err(End::violation(code::PACKET_TOO_LARGE, "the answer to its many filters is larger than it takes"))
    }
}

/// Says why a filter was refused.
fn words(code: u8) -> Option<&'static str> {
    match code {
        code::TOPIC_FILTER_INVALID => Some("a filter is not valid"),
        code::NOT_AUTHORIZED => Some("the access rules deny a filter"),
        code::QUOTA_EXCEEDED => Some("there are as many subscriptions as the hub allows"),
        code::IMPLEMENTATION_SPECIFIC => Some("the hub cannot subscribe now"),
        _ => None,
    }
}
