//! What of a session outlives a restart, and how it is written.
//!
//! Owns the text that the store keeps of a session (JSON: subscriptions, packet ids under way) and which of its messages
//! have a row. QoS 0 messages and retained ones that were not sent yet are not kept, nor are wills.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Session, State, Subscription, Touched};
use crate::broker::counters::Counters;
use crate::broker::keeper::Changed;
use crate::broker::outbound::{Exchanges, Outbound};
use crate::broker::received::Received;
use crate::broker::record;
use crate::broker::rows::Rows;
use crate::broker::wire::QoS;
use crate::clock::now_ms;
use crate::config::Limits;
use crate::store::{Change, KeptSession};
use crate::topic;

/// How a session is kept.
#[derive(Debug)]
pub(super) struct Keeping {
    expiry: Duration,
    /// Since when the client is away, Unix milliseconds; `None` while it is connected.
    away_since_ms: Option<i64>,
    /// Whether the store has the session.
    is_stored: bool,
    /// As what the last change was noted that the store does not have yet.
    pub(super) noted: Touched,
}

#[derive(Serialize, Deserialize)]
struct Record {
    subscriptions: Vec<SubscriptionRecord>,
    exchanges: Exchanges,
    /// Packet ids of the client's QoS 2 publishes that wait for their PUBREL.
    received: Vec<u16>,
    /// The highest number that a message of the session ever had.
    last_number: u64,
}

#[derive(Serialize, Deserialize)]
struct SubscriptionRecord {
    filter: String,
    qos: u8,
    no_local: bool,
    retain_as_published: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    identifier: Option<u32>,
}

/// A session as it was read back.
pub(in crate::broker) struct Restored {
    pub(in crate::broker) session: Session,
    /// How long it is still kept.
    pub(in crate::broker) expiry: Duration,
    /// The filters to subscribe to on the bus.
    pub(in crate::broker) filters: Vec<String>,
    /// The shared subscriptions to join.
    pub(in crate::broker) shared: Vec<Subscription>,
}

impl Session {
    /// Has the session kept over a restart for as long as it lives without its client; not at all where that is zero.
    pub(in crate::broker) fn keep_for(&self, expiry: Duration, is_away: bool) {
        let mut state = self.lock();
        state.touch(Touched::Surely);
        let away_since_ms = is_away.then(now_ms);
        match &mut state.keeping {
            Some(keeping) => (keeping.expiry, keeping.away_since_ms) = (expiry, away_since_ms),
            // A session of the same client may be in the store that ends with this one's beginning.
            None if expiry.is_zero() && self.changed.rows_are_unknown() => {
                self.changed.note_session(&self.client, false)
            }
            None if expiry.is_zero() => {}
            None => {
                let keeping = Keeping { expiry, away_since_ms, is_stored: false, noted: Touched::No };
                state.keeping = Some(keeping);
            }
        }
    }

    /// Takes what the store does not have yet; `None` where the session is not to be kept, or no more.
    pub(in crate::broker) fn take_changes(&self) -> Option<Vec<Change>> {
        let (now, now_ms) = (Instant::now(), now_ms());
        let mut state = self.lock();
        let state = &mut *state;
        let keeping = state.keeping.as_mut()?;
        keeping.noted = Touched::No;
        if state.has_ended || keeping.expiry.is_zero() {
            state.keeping = None;
            state.outbound.forgotten();
            return None;
        }
        let client = || self.client.clone();
        let mut changes = Vec::new();
        if !keeping.is_stored {
            // Another session of the same client may have been there.
            changes.push(Change::Forget { client: client() });
            keeping.is_stored = true;
        }
        let (expiry, away_since_ms) = (keeping.expiry, keeping.away_since_ms);
        let (new, done) = state.outbound.take_changes();
        changes.push(Change::Session {
            client: client(),
            expiry_s: i64::try_from(expiry.as_secs()).unwrap_or(i64::MAX),
            away_since_ms,
            state: serde_json::to_string(&state.record()).unwrap_or_default(),
        });
        changes.extend(new.iter().map(|queued| Change::Add {
            client: client(),
            number: queued.number,
            message: record::write_queued(queued, now, now_ms),
        }));
        if !done.is_empty() {
            changes.push(Change::Remove { client: client(), numbers: done });
        }
        Some(changes)
    }

    /// Makes a session out of what was kept of it; `None` where its time is over, or the store holds no session.
    pub(in crate::broker) fn restore(
        kept: KeptSession,
        limits: &Arc<Limits>,
        counters: &Arc<Counters>,
        changed: &Arc<Changed>,
    ) -> Option<Restored> {
        let (now, now_ms) = (Instant::now(), now_ms());
        let away_since_ms = kept.away_since_ms.unwrap_or(now_ms);
        let expiry = Duration::from_secs(u64::try_from(kept.expiry_s).ok()?);
        let away = Duration::from_millis(u64::try_from(now_ms.saturating_sub(away_since_ms)).unwrap_or(0));
        let left = expiry.checked_sub(away).filter(|left| !left.is_zero())?;
        let record: Record = serde_json::from_str(&kept.state).ok()?;
        let last_number = kept.messages.last().map_or(0, |(number, _)| *number).max(record.last_number);
        let mut messages = Vec::new();
        let mut gone = Vec::new();
        for (number, kept) in kept.messages {
            match record::read_queued(number, kept, now, now_ms) {
                Some(queued) => messages.push(queued),
                None => gone.push(number),
            }
        }
        let (shared, subscriptions): (Vec<_>, Vec<_>) = record
            .subscriptions
            .into_iter()
            .filter_map(SubscriptionRecord::read)
            .partition(|subscription| topic::is_shared(&subscription.filter));
        let session = Session::new(kept.client, limits.clone(), counters.clone(), changed.clone());
        let filters = subscriptions.iter().map(|subscription| (*subscription.filter).to_owned()).collect();
        {
            let mut state = session.lock();
            if !gone.is_empty() {
                state.touch(Touched::Slightly);
            }
            state.outbound = Outbound::restore(&record.exchanges, messages, Rows::restored(last_number, gone));
            state.received = Received::restored(record.received);
            state.subscriptions = subscriptions;
            state.shared.clone_from(&shared);
            let away_since_ms = Some(away_since_ms);
            state.keeping = Some(Keeping { expiry, away_since_ms, is_stored: true, noted: Touched::No });
        }
        Some(Restored { session, expiry: left, filters, shared })
    }
}

impl State {
    fn record(&self) -> Record {
        Record {
            subscriptions: self.subscriptions.iter().chain(&self.shared).map(SubscriptionRecord::write).collect(),
            exchanges: self.outbound.exchanges(),
            received: self.received.all(),
            last_number: self.outbound.last_number(),
        }
    }
}

impl SubscriptionRecord {
    fn write(subscription: &Subscription) -> SubscriptionRecord {
        SubscriptionRecord {
            filter: (*subscription.filter).to_owned(),
            qos: subscription.qos as u8,
            no_local: subscription.no_local,
            retain_as_published: subscription.retain_as_published,
            identifier: subscription.identifier,
        }
    }

    fn read(self) -> Option<Subscription> {
        Some(Subscription {
            filter: self.filter.into(),
            qos: QoS::try_from(self.qos).ok()?,
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            identifier: self.identifier,
            since: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::broker::bus::{Numbered, Sink};
    use crate::broker::message::Message;
    use crate::broker::outbound::tests::limits;

    const HOUR: Duration = Duration::from_secs(3600);

    fn session() -> Session {
        let limits = Limits { session_expiry_max: HOUR, ..limits() };
        let session = Session::new("c".into(), Arc::new(limits), Arc::default(), Arc::default());
        let all = Subscription {
            filter: "#".into(),
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            identifier: None,
            since: 0,
        };
        session.add(all).unwrap();
        session
    }

    fn take(session: &Session, number: u64, expires: Option<Instant>) {
        let message = Message {
            topic: "a".into(),
            payload: bytes::Bytes::new(),
            qos: QoS::AtLeastOnce,
            retain: false,
            publisher: "p".into(),
            properties: None,
            expires,
        };
        session.take(&mut vec![Numbered { number, message: Arc::new(message) }]);
    }

    fn added(changes: &[Change]) -> usize {
        changes.iter().filter(|change| matches!(change, Change::Add { .. })).count()
    }

    #[test]
    fn messages_have_their_rows_again_where_a_session_is_to_be_kept_after_all() {
        let session = session();
        session.keep_for(HOUR, true);
        take(&session, 0, None);
        assert_eq!(added(&session.take_changes().unwrap()), 1);
        session.keep_for(Duration::ZERO, false);
        assert!(session.take_changes().is_none());
        session.keep_for(HOUR, false);
        take(&session, 1, None);
        assert_eq!(added(&session.take_changes().unwrap()), 2);
    }

    #[test]
    fn a_row_whose_message_expired_while_the_hub_was_off_goes() {
        let before = session();
        before.keep_for(HOUR, true);
        take(&before, 0, None);
        take(&before, 1, Some(Instant::now()));
        let (client, state) = (before.client.clone(), String::new());
        let mut kept = KeptSession { client, expiry_s: 3600, away_since_ms: None, state, messages: Vec::new() };
        for change in before.take_changes().unwrap() {
            match change {
                Change::Session { state, .. } => kept.state = state,
                Change::Add { number, message, .. } => kept.messages.push((number, message)),
                _ => {}
            }
        }
        assert_eq!(kept.messages.len(), 2);
        let changed: Arc<Changed> = Arc::default();
        let restored = Session::restore(kept, &Arc::new(limits()), &Arc::default(), &changed).unwrap();
        assert_eq!(changed.sessions().len(), 1, "the store has to be told");
        let changes = restored.session.take_changes().unwrap();
        let gone = Change::Remove { client: "c".into(), numbers: vec![2] };
        assert!(changes.contains(&gone) && added(&changes) == 0, "{changes:?}");
    }
}
