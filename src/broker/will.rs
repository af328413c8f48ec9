//! Wills: when one is published, and what is done with it.
//!
//! Owns the wait of a delayed will, which ends early when the client comes back, its session ends or the hub stops: a
//! state that a client retained must not outlive it for want of its will. It never decides whether a connection's end
//! calls for its will.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Broker;
use super::auth::Rights;
use super::inside::Fate;
use super::login::may_leave;
use super::message::Message;
use super::registry::Attachment;
use super::session::Session;
use super::wire::Will;
use crate::tasks::{self, Name};
use crate::topic;

/// A connected client's will; the hub waits for it when it stops.
pub(super) struct Standing {
    will: Will,
    _waited_for: TaskTrackerToken,
}

/// Publishes a client's will in its time, where the client may have it published.
pub(super) async fn leave(will: Option<Standing>, rights: &Rights, attachment: &Attachment, broker: &Arc<Broker>) {
    let client = attachment.holding.session.client();
    if let Some(standing) = will.filter(|standing| may_leave(&standing.will, rights, client, broker)) {
        publish_in_time(standing, attachment, broker).await;
    }
}

/// Publishes a will: at once, or, unless the client comes back before, after its delay or with the end of its session.
async fn publish_in_time(standing: Standing, attachment: &Attachment, broker: &Arc<Broker>) {
    let delay = Duration::from_secs(standing.will.delay_s.into()).min(attachment.expiry);
    let fate = attachment.fate();
    if delay.is_zero() || fate.session.has_ended() || broker.connections.is_cancelled() {
        return broker.publish_will(&standing.will, &fate.session).await;
    }
    let broker = broker.clone();
    tokio::spawn(tasks::named(Name::Client("delayed will", None), async move {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = fate.succeeded.cancelled() => {}
            () = broker.connections.cancelled() => {}
        }
        if !fate.succeeded.is_cancelled() || fate.session.has_ended() {
            broker.publish_will(&standing.will, &fate.session).await;
        }
    }));
}

impl Broker {
    /// Takes a will of a client that is let in.
    pub(super) fn stand(&self, will: Will) -> Standing {
        Standing { will, _waited_for: self.wills.token() }
    }

    /// Publishes a client's will.
    async fn publish_will(&self, will: &Will, session: &Session) {
        if topic::is_of_the_server(&will.topic) {
            return;
        }
        let message = Arc::new(Message::of_will(will, session.client(), Instant::now()));
        let fate = Fate { delivery: None, forwards: true, ticket: None };
        if self.publish_inside(message, fate).await.is_err() {
            tracing::debug!("a will was not stored: the hub stops");
        }
    }
}
