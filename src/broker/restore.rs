//! What the store kept, put back in its place before the first client comes.
//!
//! Owns the order: retained messages, then sessions, the latest first where there are more than the limits allow, each
//! with its subscriptions on the bus, so that no message passes it by. It never writes to the store: what is forgotten
//! here is noted, and the keeper tells the store.

use std::sync::Arc;

use tokio::sync::Mutex as AsyncMutex;

use super::Broker;
use super::bus::BusError;
use super::registry::Holding;
use super::session::{Restored, Session};
use crate::store::{Kept, KeptSession};

/// Takes what the store kept over the restart.
pub(super) async fn restore(broker: &Arc<Broker>, kept: Kept) {
    let messages = kept.retained.len();
    let refused = broker.retained.restore(kept.retained);
    if refused > 0 {
        tracing::warn!(
            refused,
            "retained messages were forgotten: there are more than broker.limits.retained_messages or retained_bytes"
        );
    }
    let mut sessions = kept.sessions;
    sessions.sort_by_key(|session| std::cmp::Reverse(session.away_since_ms.unwrap_or(i64::MAX)));
    let mut restored = 0;
    for session in sessions {
        let client = session.client.clone();
        if restored < broker.limits.sessions && broker.restore_session(session).await {
            restored += 1;
        } else {
            broker.changed.note_session(&client, false);
        }
    }
    if messages + restored > 0 {
        tracing::info!(messages, sessions = restored, "retained messages and sessions were read back");
    }
}

impl Broker {
    /// Puts a session back; false where its time is over.
    async fn restore_session(self: &Arc<Self>, kept: KeptSession) -> bool {
        let Some(restored) = Session::restore(kept, &self.limits, &self.counters, &self.changed) else { return false };
        let Restored { session, expiry, filters, shared } = restored;
        let session = Arc::new(session);
        let holding = Arc::new(Holding { session: session.clone(), link: AsyncMutex::default() });
        let mut missing = None;
        if let Err(error) = self.resubscribe(&holding, &filters).await {
            forget(&session, filters.iter().map(String::as_str));
            missing = Some(error);
        }
        for subscription in &shared {
            if let Err(error) = self.shares.join(&session, subscription).await {
                forget(&session, [&*subscription.filter]);
                missing = Some(error);
            }
        }
        if let Some(error) = missing {
            tracing::warn!(
                client = %session.client().escape_debug(),
                "subscriptions of a session that was kept over the restart are missing: {error}"
            );
        }
        self.registry.restore(holding, expiry);
        true
    }

    async fn resubscribe(&self, holding: &Arc<Holding>, filters: &[String]) -> Result<(), BusError> {
        if filters.is_empty() {
            return Ok(());
        }
        let link = self.bus.link(holding.session.clone()).await?;
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        link.subscribe(&filters).await?;
        *holding.link.lock().await = Some(link);
        Ok(())
    }
}

/// Has a session forget subscriptions that the bus does not know: its client, subscribing again, would be told that it
/// has them already.
fn forget<'f>(session: &Session, filters: impl IntoIterator<Item = &'f str>) {
    for filter in filters {
        session.remove(filter);
    }
}
