//! Shared subscriptions: `$share/NAME/FILTER`, whose messages each go to one of the subscribers.
//!
//! Owns the groups of members, and the one link to the bus that brings their messages. A message goes to the next
//! connected member that has room for it, and only where there is none to one that is away. What a member has not begun
//! to receive when it goes away, and what it has not acknowledged at QoS 1, goes to the others; QoS 2 messages in flight
//! stay its own. It never queues a message itself.
//!
//! Locks are taken in the order registry, groups, session. Two sessions are locked at once only under the groups' lock.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Mutex as AsyncMutex;

use super::bus::{Bus, BusError, Link, Numbered, Sink};
use super::counters::Counters;
use super::message::Message;
use super::session::{Session, Subscription};
use crate::log::Rate;
use crate::topic;

/// How often it is said that a group's members cannot keep up.
const DROPPED_LINE_INTERVAL: Duration = Duration::from_secs(60);

/// The shared subscriptions of all clients.
pub(super) struct Shares {
    bus: Arc<Bus>,
    groups: Arc<Groups>,
    linked: AsyncMutex<Linked>,
}

#[derive(Default)]
struct Linked {
    link: Option<Link>,
    /// The filters that the link is subscribed to; those that no group has any more go at the next tidying.
    filters: HashSet<String>,
}

/// The groups, as the registry knows them: members leave by it when their session ends.
#[derive(Debug)]
pub struct Groups {
    groups_max: usize,
    counters: Arc<Counters>,
    dropped_lines: Rate,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the whole name of the shared subscription.
    groups: HashMap<Arc<str>, Group>,
}

#[derive(Debug)]
struct Group {
    name: Arc<str>,
    filter: String,
    members: Vec<Member>,
    /// The member whose turn it is.
    next: usize,
}

#[derive(Debug)]
struct Member {
    session: Arc<Session>,
    terms: Subscription,
}

/// Why a member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It unsubscribes: what it has begun to receive stays its own.
    Unsubscribed,
    /// Its session has ended.
    Ended,
}

impl Shares {
    /// Makes shared subscriptions over a bus; nothing is linked until the first.
    pub(super) fn new(bus: Arc<Bus>, groups: Arc<Groups>) -> Shares {
        Shares { bus, groups, linked: AsyncMutex::default() }
    }

    /// Makes a session a member, or changes the options of one that is; `terms` holds a valid shared subscription.
    ///
    /// # Errors
    /// As [`Bus::link`] and [`Link::subscribe`]; the session is no member then.
    pub(super) async fn join(&self, session: &Arc<Session>, terms: &Subscription) -> Result<(), BusError> {
        let Some((_, filter)) = topic::shared(&terms.filter) else { return Ok(()) };
        let mut linked = self.linked.lock().await;
        self.groups.join(session, terms, filter)?;
        let subscribed = self.subscribe(&mut linked, filter).await;
        if subscribed.is_err() {
            self.groups.leave(session, &terms.filter, Leaving::Ended);
        }
        subscribed
    }

    async fn subscribe(&self, linked: &mut Linked, filter: &str) -> Result<(), BusError> {
        let is_new = !linked.filters.contains(filter);
        let link = match &mut linked.link {
            Some(link) => link,
            empty => empty.insert(self.bus.link(self.groups.clone()).await?),
        };
        // Where it is subscribed to already, the bus still has to know that there is a group again that wants it.
        let new: &[&str] = if is_new { &[filter] } else { &[] };
        link.subscribe(new).await?;
        linked.filters.insert(filter.to_owned());
        Ok(())
    }

    /// Takes a member out that unsubscribes.
    pub(super) async fn unsubscribe(&self, session: &Arc<Session>, name: &str) {
        self.groups.leave(session, name, Leaving::Unsubscribed);
        self.tidy().await;
    }

    /// Hands what a member was not acknowledged for to the other members: it has lost its connection.
    pub(super) fn away(&self, session: &Arc<Session>) {
        for name in session.shared() {
            self.groups.away(session, &name);
        }
    }

    /// Unsubscribes the link from filters that no group has any more, and closes it after the last.
    pub(super) async fn tidy(&self) {
        let mut linked = self.linked.lock().await;
        let unused: Vec<String> = {
            let state = self.groups.lock();
            let used: HashSet<&str> = state.groups.values().map(|group| group.filter.as_str()).collect();
            linked.filters.iter().filter(|filter| !used.contains(filter.as_str())).cloned().collect()
        };
        for filter in unused {
            linked.filters.remove(&filter);
            if let Some(link) = &linked.link {
                link.unsubscribe(&[&filter]);
            }
        }
        if linked.filters.is_empty() {
            linked.link = None;
        }
    }
}

impl Groups {
    /// Makes no group yet; `groups_max` bounds their number.
    pub fn new(groups_max: usize, counters: Arc<Counters>) -> Arc<Groups> {
        let dropped_lines = Rate::new(1, DROPPED_LINE_INTERVAL);
        Arc::new(Groups { groups_max, counters, dropped_lines, state: Mutex::default() })
    }

    /// Takes a session that has ended out of its groups.
    pub fn end(&self, session: &Arc<Session>) {
        for name in session.end() {
            self.leave(session, &name, Leaving::Ended);
        }
    }

    fn join(&self, session: &Arc<Session>, terms: &Subscription, filter: &str) -> Result<(), BusError> {
        let mut state = self.lock();
        // Under the lock, so that an end comes either before this or finds the member.
        if session.has_ended() {
            return Ok(());
        }
        let has_room = state.groups.len() < self.groups_max;
        let group = match state.groups.get_mut(&*terms.filter) {
            Some(group) => group,
            None if has_room => {
                let name: Arc<str> = Arc::from(&*terms.filter);
                let group = Group { name: name.clone(), filter: filter.to_owned(), members: Vec::new(), next: 0 };
                state.groups.entry(name).or_insert(group)
            }
            None => return Err(BusError::TooManyFilters(self.groups_max)),
        };
        match group.members.iter_mut().find(|member| Arc::ptr_eq(&member.session, session)) {
            Some(member) => member.terms = terms.clone(),
            None => group.members.push(Member { session: session.clone(), terms: terms.clone() }),
        }
        Ok(())
    }

    fn leave(&self, session: &Arc<Session>, name: &str, why: Leaving) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(name) else { return };
        group.members.retain(|member| !Arc::ptr_eq(&member.session, session));
        let ended = why == Leaving::Ended;
        let mut lost = 0;
        session.hand_over(name, ended, &mut |message| {
            let taken = group.give(message, true);
            lost += usize::from(ended && !taken && !group.members.is_empty());
            taken
        });
        self.count_dropped(name, lost);
        if group.members.is_empty() {
            state.groups.remove(name);
        }
    }

    fn away(&self, session: &Arc<Session>, name: &str) {
        let mut state = self.lock();
        let Some(group) = state.groups.get_mut(name) else { return };
        // It may be back already.
        let has_others =
            group.members.iter().any(|member| !Arc::ptr_eq(&member.session, session) && member.session.is_connected());
        if has_others && !session.is_connected() {
            let Some(place) = group.members.iter().position(|member| Arc::ptr_eq(&member.session, session)) else {
                return;
            };
            // Taken out meanwhile: it is locked and must not be asked.
            let member = group.members.remove(place);
            session.hand_over(name, true, &mut |message| group.give(message, false));
            group.members.insert(place, member);
        }
    }

    fn count_dropped(&self, name: &str, count: usize) {
        if count == 0 {
            return;
        }
        Counters::add(&self.counters.dropped, count);
        if self.dropped_lines.allows() {
            tracing::warn!(
                share = %name.escape_debug(),
                "the members of a shared subscription cannot keep up: messages to it are dropped"
            );
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Groups {
    fn wants(&self, topic: &str) -> bool {
        self.lock().groups.values().any(|group| topic::matches(&group.filter, topic))
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        let mut state = self.lock();
        for Numbered { message, .. } in messages.drain(..) {
            for group in state.groups.values_mut().filter(|group| topic::matches(&group.filter, &message.topic)) {
                if !group.give(&message, true) && group.would_keep(&message) {
                    self.count_dropped(&group.name, 1);
                }
            }
        }
    }
}

impl Group {
    /// Gives a message to the next member that takes it: a connected one, and where none does, and only with
    /// `away_too`, one that is away.
    fn give(&mut self, message: &Arc<Message>, away_too: bool) -> bool {
        let count = self.members.len();
        for away in [false, true] {
            if away && !away_too {
                break;
            }
            for step in 0..count {
                let place = (self.next + step) % count;
                let Some(member) = self.members.get(place) else { continue };
                if member.session.offer(message, &member.terms, &self.name, away) {
                    self.next = place + 1;
                    return true;
                }
            }
        }
        false
    }

    /// Tells whether a message that nobody took is a loss: at QoS 0 those who are away want none.
    fn would_keep(&self, message: &Message) -> bool {
        self.members.iter().any(|member| {
            member.session.is_connected() || member.terms.qos.min(message.qos) > super::wire::QoS::AtMostOnce
        })
    }
}
