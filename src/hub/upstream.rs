//! The bridge's place in the running hub: what it is given, and how health looks at it.
//!
//! Owns the wiring alone: it has no rules of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tracing::warn;

use super::HubError;
use crate::bridge::{Bridge, Parts, UNTOLD_MAX};
use crate::broker::inside::Inside;
use crate::config::{self, Config};
use crate::health::bridge::{Backlog, Bridged};
use crate::ingest::Forwarding;
use crate::store::{Outbox, OutboxSettings, Queue, Reader};
use crate::tasks::{self, Name};

/// Starts the bridge; the second value is for health.
pub(super) fn start(
    config: &Config,
    settings: &config::Bridge,
    outbox: Arc<Outbox>,
    queue: Arc<Queue>,
    inside: Inside,
) -> Result<(Bridge, Bridged), HubError> {
    let database = config.store.path.clone();
    let parts = Parts {
        station: config.station.name.clone(),
        database: database.clone(),
        outbox: outbox.clone(),
        queue,
        inside,
    };
    let bridge = Bridge::start(settings.clone(), parts)
        .map_err(|source| HubError::System { doing: "cannot start the bridge's thread".to_owned(), source })?;
    let bridged = bridged(&bridge, &outbox, settings.address(), database);
    Ok((bridge, bridged))
}

/// Makes the outbox of a hub with a bridge.
pub(super) fn outbox(settings: &config::Bridge) -> Arc<Outbox> {
    Arc::new(Outbox::new(OutboxSettings {
        bytes_max: settings.outbox_bytes_max,
        age_max: settings.outbox_age_max,
        maybe_sent: usize::from(settings.window) + UNTOLD_MAX,
    }))
}

/// Returns what goes upstream.
pub(super) fn forwarding(settings: &config::Bridge, station: &str) -> Forwarding {
    Forwarding::new(settings.forward.clone(), settings.payload_bytes_max, station, &settings.prefix)
}

/// Says that messages of an earlier configuration wait for an upstream that there is not any more.
pub(super) async fn tell_of_an_outbox_without_a_bridge(database: PathBuf) {
    if let Ok(Some(_)) = tasks::blocking(Name::Part("start"), move || oldest_ms(&database)).await {
        warn!(
            "messages wait in the outbox for an upstream, and the configuration names none: they stay until [bridge] has a url"
        );
    }
}

/// Lets health look at the bridge.
fn bridged(bridge: &Bridge, outbox: &Arc<Outbox>, upstream: String, database: PathBuf) -> Bridged {
    let (of_backlog, state) = (outbox.clone(), bridge.state());
    let backlog = move || {
        let messages = of_backlog.messages().saturating_sub(state.standing.load(Ordering::Relaxed));
        Backlog {
            messages,
            // What is done and not deleted yet does not wait any more.
            bytes: if messages == 0 { 0 } else { of_backlog.bytes() },
            bytes_max: of_backlog.bytes_max(),
            added: of_backlog.added(),
            dropped: of_backlog.dropped(),
            dropped_ms: of_backlog.dropped_ms(),
        }
    };
    let oldest_ms = Arc::new(move || oldest_ms(&database));
    Bridged { upstream, state: bridge.state(), backlog: Box::new(backlog), oldest_ms }
}

/// Reads when the oldest message that waits was received, Unix milliseconds.
fn oldest_ms(database: &Path) -> Option<i64> {
    Reader::open(database).and_then(|reader| reader.outbox_oldest_ms()).ok().flatten()
}

/// Waits for the end of the bridge, where there is one.
pub(super) async fn bridge_ends(bridge: &mut Option<Bridge>) {
    match bridge {
        Some(bridge) => bridge.ended().await,
        None => std::future::pending().await,
    }
}
