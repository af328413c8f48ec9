//! What outlives a connection upstream: what is on its way, what the store knows, and what was told.
//!
//! Owns the state that one conversation hands to the next, what is concluded from the end of one, and the lines about the
//! upstream's coming and going: one when it goes, one when it is back, few where it does both all the time.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::DOWN_TIME_MAX;
use super::conversation::{Conversation, End};
use super::courtesy::Courtesy;
use super::down::Down;
use super::echoes::Echoes;
use super::error::{Loss, SEE_PROTOCOL};
use super::ledger::Ledger;
use super::link::{Link, Settings};
use super::outgoing::Form;
use super::pace::Pace;
use super::state::State;
use super::supply::Supply;
use super::suspicion::Suspicion;
use super::window::{Again, Window};
use crate::config::{self, Protocol};
use crate::log::Rate;
use crate::store::Outbox;
use crate::tasks::{self, Name};

/// A loss that lasts is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// A loss is told again after this time where the upstream comes and goes.
const TELL_ANEW: Duration = Duration::from_secs(30);
/// After so many attempts the ids of an earlier run are used as they are.
const RELEASES_MAX: u32 = 3;
/// A topic that the upstream denies is tried anew after this time.
const DENIED_TIME: Duration = Duration::from_secs(600);
/// So many of them are remembered.
const DENIED_MAX: usize = 256;

/// What outlives a connection.
pub(super) struct Lasting {
    pub(super) settings: config::Bridge,
    /// The upstream, for log lines.
    pub(super) name: String,
    pub(super) form: Form,
    pub(super) state: Arc<State>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) window: Window,
    pub(super) supply: Supply,
    pub(super) ledger: Ledger,
    pub(super) pace: Pace,
    pub(super) courtesy: Courtesy,
    pub(super) suspicion: Suspicion,
    pub(super) echoes: Arc<Echoes>,
    pub(super) in_flight_bytes_max: usize,
    /// Whether the upstream has answered the subscriptions since the start.
    pub(super) subscribed: bool,
    /// QoS 2: whether packet ids of an earlier run may be taken upstream.
    pub(super) unreleased: bool,
    /// How often releasing them came to nothing.
    pub(super) releases_failed: u32,
    /// Messages that the upstream has acknowledged.
    pub(super) acked: u64,
    /// Whether it has accepted this connection.
    pub(super) is_accepted: bool,
    /// Whether it has acknowledged anything on it.
    pub(super) has_progressed: bool,
    /// Topics that the upstream does not let the hub publish on: since when, and how many messages it had acknowledged then.
    pub(super) denied: HashMap<String, (Instant, u64)>,
    pub(super) complaints: Rate,
    /// What was told last of the upstream's being away.
    pub(super) told: Option<Told>,
}

/// A loss that was told.
pub(super) struct Told {
    text: String,
    at: Instant,
    since: Instant,
    /// Whether it was told since that it is over.
    is_over: bool,
}

impl Lasting {
    /// Holds one conversation with the upstream.
    pub(super) async fn converse(&mut self, settings: &Settings, down: &Arc<Down>, stop: &CancellationToken) -> End {
        (self.is_accepted, self.has_progressed) = (false, false);
        let again = if self.unreleased {
            self.ids().map(Again::Release).collect()
        } else {
            self.window.again(self.suspicion.limit())
        };
        self.state.repeated.fetch_add(again.len() as u64, Ordering::Relaxed);
        if self.settings.protocol == Protocol::V4 {
            self.note_echoes(&again);
        }
        let (link, arrivals) = Link::open(settings, again);
        let mut bringing =
            tokio::spawn(tasks::named(Name::Part("bridge, down"), down.clone().bring(arrivals, link.sender.clone())));
        let mut end = Conversation::new(self, link).hold(stop).await;
        if matches!(end, End::Lost(Loss::Closed)) && !self.is_accepted {
            let is_v5 = self.settings.protocol == Protocol::V5;
            end = End::Lost(Loss::ClosedAtOnce(if is_v5 { SEE_PROTOCOL } else { "" }));
        }
        if self.unreleased && self.is_accepted && !matches!(end, End::Lost(Loss::Released)) {
            self.releases_failed += 1;
            if self.releases_failed >= RELEASES_MAX {
                warn!(
                    "the upstream {} does not let packet ids of an earlier run be released: they are used again",
                    self.name
                );
                self.unreleased = false;
            }
        }
        self.suspect(&end);
        self.window.lost();
        if self.suspicion.is_alone() && self.settings.qos == 1 {
            self.window.forget_ids();
        }
        self.ledger.tell(Instant::now(), true);
        self.state.set_connected(false);
        self.show();
        // The next connection brings what was not acknowledged once more, after what is still being published here.
        if tokio::time::timeout(DOWN_TIME_MAX, &mut bringing).await.is_err() {
            bringing.abort();
        }
        end
    }

    /// Returns all packet ids that an earlier run may have left taken: the upstream would take a new message under one of
    /// them for the old one.
    pub(super) fn ids(&self) -> RangeInclusive<u16> {
        1..=self.settings.window.saturating_add(1)
    }

    /// Tells whether the upstream is to forget an earlier run's session: nothing that it holds is needed, and its packet ids
    /// are in the way.
    pub(super) fn begins_clean(&self) -> bool {
        self.unreleased && self.settings.subscribe.is_empty()
    }

    /// Notes what is sent again and may come back.
    fn note_echoes(&self, again: &[Again]) {
        for one in again {
            if let Again::Publish(_, message) = one {
                self.echoes.sent(&message.topic, &message.payload, Instant::now());
            }
        }
    }

    /// Draws the conclusion from an upstream that closed the connection while messages were on their way.
    fn suspect(&mut self, end: &End) {
        let is_closed =
            matches!(end, End::Lost(Loss::Closed | Loss::Goodbye(_) | Loss::Network(_) | Loss::Protocol(..)));
        let first = self.window.first_sent().filter(|_| is_closed && self.is_accepted);
        if self.settings.qos == 2 {
            // The upstream remembers the ids of what it has received, so they cannot be given up.
            first.inspect(|_| self.suspicion.narrow());
            return;
        }
        if let Some(to_blame) = first.and_then(|first| self.suspicion.closed(first)) {
            let detail = "the upstream closes the connection whenever it is sent, and takes others".to_owned();
            self.give_up(to_blame, detail);
        }
    }

    /// Shows what is on its way, and what is done and not deleted yet.
    pub(super) fn show(&self) {
        self.state.in_flight.store(self.window.unacknowledged() as u64, Ordering::Relaxed);
        self.state.standing.store(self.ledger.standing() as u64, Ordering::Relaxed);
    }

    /// Notes that the upstream has acknowledged a message.
    pub(super) fn progressed(&mut self, row: i64) {
        self.acked += 1;
        self.suspicion.taken(row);
        self.state.sent.fetch_add(1, Ordering::Relaxed);
        if self.has_progressed {
            return;
        }
        self.has_progressed = true;
        self.state.set_last_error(None);
        self.tell_back();
    }

    /// Notes that the upstream has accepted the connection. That it is back is said when it takes what waits.
    pub(super) fn accepted(&mut self) {
        self.is_accepted = true;
        self.state.connects.fetch_add(1, Ordering::Relaxed);
        self.state.set_connected(true);
        let waiting = self.outbox.messages();
        if self.told.is_none() {
            info!(waiting, "the upstream {} is connected", self.name);
        } else if waiting == 0 {
            self.tell_back();
        }
    }

    /// Says that the upstream is back, where it was told to be away.
    fn tell_back(&mut self) {
        if let Some(told) = self.told.as_mut().filter(|told| !told.is_over) {
            told.is_over = true;
            let (seconds, waiting) = (told.since.elapsed().as_secs(), self.outbox.messages());
            info!(seconds, waiting, "the upstream {} is back: messages reach it again", self.name);
        }
    }

    /// Says what goes wrong although the connection stands, at a bounded rate.
    pub(super) fn complain(&mut self, text: &str) {
        self.has_progressed = false;
        self.state.set_last_error(Some(text.to_owned()));
        if self.complaints.allows() {
            warn!("the upstream {}: {text}", self.name);
            self.tell(text.to_owned());
        }
    }

    /// Tells whether the upstream has denied a topic for so long that the hub goes on without, as it takes others.
    pub(super) fn goes_without(&mut self, topic: &str, now: Instant) -> bool {
        self.denied.retain(|_, (since, _)| now.saturating_duration_since(*since) < DENIED_TIME);
        if self.denied.len() >= DENIED_MAX && !self.denied.contains_key(topic) {
            return false;
        }
        let (since, acked) = *self.denied.entry(topic.to_owned()).or_insert((now, self.acked));
        acked < self.acked && now.saturating_duration_since(since) >= self.settings.ack_wait_max
    }

    /// Sets a message aside that cannot go upstream.
    pub(super) fn give_up(&mut self, row: i64, detail: String) {
        self.state.refused.fetch_add(1, Ordering::Relaxed);
        let topic = self.window.give_up(row).unwrap_or_default();
        if self.complaints.allows() {
            warn!(topic = %topic.escape_debug(), "a message goes to quarantine, not upstream: {detail}");
        }
        self.suspicion.forget(row);
        self.ledger.set_aside(row, "refused upstream", detail, Instant::now());
    }

    /// Tells of a loss: the first of a row, another reason, and now and then that it lasts.
    pub(super) fn lost(&mut self, loss: &Loss, pause: Duration) {
        let text = loss.to_string();
        self.state.set_last_error(Some(text.clone()));
        let is_known = self.told.as_ref().is_some_and(|told| {
            if told.is_over {
                told.at.elapsed() < TELL_ANEW
            } else {
                told.text == text && told.at.elapsed() < TELL_AGAIN
            }
        });
        if is_known {
            debug!(?pause, "the upstream {} is away: {text}", self.name);
            return;
        }
        warn!(
            waiting = self.outbox.messages(),
            "the upstream {} is away: {text}; messages are kept until it is back, the next attempt is in {:.1} s",
            self.name,
            pause.as_secs_f64()
        );
        self.tell(text);
    }

    /// Notes what was told.
    fn tell(&mut self, text: String) {
        let now = Instant::now();
        let since = self.told.as_ref().filter(|told| !told.is_over).map_or(now, |told| told.since);
        self.told = Some(Told { text, at: now, since, is_over: false });
    }

    /// Tells the store all that it was not told, and waits for it, within `deadline`.
    pub(super) async fn settle(&mut self, deadline: Duration) {
        let told = async {
            loop {
                self.ledger.tell(Instant::now(), true);
                if self.ledger.is_settled() {
                    return;
                }
                self.ledger.stored().await;
            }
        };
        // What the store does not get to know is sent again at the next start.
        tokio::time::timeout(deadline, told).await.unwrap_or(());
        self.show();
    }
}
