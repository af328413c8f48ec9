//! Alerts: what is wrong, or extreme, is told to whom it concerns, once when it begins and once when it is over.
//!
//! Owns the way from observations (the checks of `health`, readings as they are stored) over rules and episodes to
//! channels. It never decides health, and nothing waits for it: readings that it is too slow for are passed by and counted.

mod channel;
mod delivery;
mod episode;
mod error;
mod ledger;
mod listing;
mod message;
mod reload;
mod rules;
mod running;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use self::channel::Sender;
use self::delivery::Outlet;
use self::episode::{Book, Event, Moment};
use self::ledger::Ledger;
use self::waiting::{Manners, Waiting};
use crate::broker::inside::Inside;
use crate::clock::now_ms;
use crate::config;
use crate::config::alerts::{Channel, Condition, Rule};
use crate::health::checks::{Finding, Findings};
use crate::log::Rate;
use crate::store::alerts::{Episode, Notice};
use crate::store::{AlertChange, KeptAlerts, Measured, Tap};
use crate::topic;

pub use self::delivery::Standing;
pub use self::error::AlertError;
pub use self::listing::{Listed, Listing};
pub use self::reload::RulesAnew;
pub use self::running::{Inputs, Running, tap};

/// How often repeats are looked for.
const REPEAT_LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Stands as the user whose rights the channels to the hub's own broker have.
pub const USER: &str = "stationhub";

/// The room.
pub struct Alerts {
    settings: Mutex<config::Alerts>,
    rules: Mutex<Arc<[Rule]>>,
    book: Mutex<Book>,
    outlets: Vec<Arc<Outlet>>,
    ledger: Arc<Ledger>,
    tap: Arc<Tap>,
    started: Instant,
    crowded_lines: Rate,
}

impl Alerts {
    fn new(
        settings: &config::Alerts,
        station: &str,
        broker: &Inside,
        ledger: Arc<Ledger>,
        kept: KeptAlerts,
        tap: Arc<Tap>,
    ) -> Alerts {
        let settings = &with_a_channel(settings);
        let outlet = |channel: &config::alerts::Channel| {
            let manners = match channel.kind.may_wake() {
                true => Manners { group: Some(settings.group), quiet: settings.quiet.clone() },
                false => Manners::default(),
            };
            Arc::new(Outlet::new(channel, Sender::new(channel, broker), station, manners, ledger.clone()))
        };
        let outlets: Vec<Arc<Outlet>> = settings.channels.iter().map(outlet).collect();
        let started = Instant::now();
        let now = moment(started);
        let book = Book::restored(kept.episodes, now);
        for (name, notice) in kept.notices {
            match outlets.iter().find(|outlet| **outlet.name() == *name) {
                Some(outlet) => outlet.push(Waiting { notice, noted: 0, is_deferred: false }),
                None => {
                    let Notice { episode, what, .. } = notice;
                    let outcome = "its channel is gone";
                    ledger.note([AlertChange::Done { episode, what, channel: name, done_ms: now.wall_ms, outcome }]);
                }
            }
        }
        let alerts = Alerts {
            settings: Mutex::new(settings.clone()),
            rules: Mutex::default(),
            book: Mutex::new(book),
            outlets,
            ledger,
            tap,
            started,
            crowded_lines: Rate::default(),
        };
        let tells = |episode: &Episode, outlet: &Outlet| kept.tellers.contains(&(episode.id, outlet.name().clone()));
        alerts.put_in_force(&settings.rules, tells);
        alerts
    }

    /// Takes other rules into force; what was told by rules that are no more, of what they are not about any more, or by
    /// other channels, is over.
    ///
    /// # Errors
    /// Which other part of the section is another, which needs a restart; the rules in force stay then.
    pub fn replace_rules(&self, settings: &config::Alerts) -> Result<(), AlertError> {
        let settings = &with_a_channel(settings);
        let mut in_force = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, is_same) in [
            ("alerts.channel", in_force.channels == settings.channels),
            ("alerts.group_s", in_force.group == settings.group),
            ("alerts.quiet", in_force.quiet == settings.quiet),
        ] {
            if !is_same {
                return Err(AlertError::NeedsRestart(part));
            }
        }
        let before = std::mem::replace(&mut *in_force, settings.clone()).rules;
        let tells = |episode: &Episode, outlet: &Outlet| {
            let rule = before.iter().find(|rule| *rule.name == *episode.rule);
            let mut channels = rule.into_iter().flat_map(|rule| &rule.channels);
            channels.any(|&position| self.outlets.get(position).is_some_and(|told| told.name() == outlet.name()))
        };
        // A rule about something else is another one, whatever it is called: what it told would never be observed again.
        let is_same =
            |rule: &&Rule| before.iter().all(|old| old.name != rule.name || rules::are_about_the_same(old, rule));
        let same: Vec<Rule> = settings.rules.iter().filter(is_same).cloned().collect();
        if same.len() < settings.rules.len() {
            self.put_in_force(&same, tells);
        }
        self.put_in_force(&settings.rules, tells);
        Ok(())
    }

    fn put_in_force(&self, rules: &[Rule], tells: impl Fn(&Episode, &Outlet) -> bool) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = rules.into();
        self.tap.set_open(rules.iter().any(|rule| matches!(rule.condition, Condition::Quantity(_))));
        let is_told = |episode: &Episode| {
            let rule = rules.iter().find(|rule| *rule.name == *episode.rule);
            rule.is_some_and(|rule| {
                let is_same = |(position, outlet): (usize, &Arc<Outlet>)| {
                    tells(episode, outlet) == rule.channels.contains(&position)
                };
                rules::concerns(rule, &episode.subject) && self.outlets.iter().enumerate().all(is_same)
            })
        };
        let over = self.book().end_others(is_told, moment(self.started));
        for event in over {
            let outlets: Vec<&Arc<Outlet>> =
                self.outlets.iter().filter(|outlet| tells(&event.episode, outlet)).collect();
            self.tell_by(event, &outlets);
        }
    }

    fn rules(&self) -> Arc<[Rule]> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns what is told now, what was, and how the channels stand.
    pub fn listing(&self) -> Listing {
        let book = self.book();
        Listing {
            firing: book.firing().into_iter().map(Listed::from).collect(),
            ended: book.ended().into_iter().map(Listed::from).collect(),
            channels: self.outlets.iter().map(|outlet| outlet.standing()).collect(),
            readings_passed_by: self.tap.passed_by(),
        }
    }

    /// Notes that somebody knows of what a rule tells: it is not repeated any more. Returns of how many subjects it tells.
    ///
    /// # Errors
    /// [`AlertError::Unknown`].
    pub fn acknowledge(&self, rule: &str) -> Result<usize, AlertError> {
        let rules = self.rules();
        if !rules.iter().any(|known| known.name == rule) {
            let known = rules.iter().map(|rule| rule.name.as_str()).collect();
            return Err(unknown("rule", rule, known));
        }
        let acknowledged = self.book().acknowledge(rule, moment(self.started));
        let count = acknowledged.len();
        self.ledger.note(acknowledged.into_iter().map(AlertChange::Episode));
        Ok(count)
    }

    /// Sends a test over a channel, once.
    ///
    /// # Errors
    /// [`AlertError`].
    pub async fn test(&self, channel: &str) -> Result<(), AlertError> {
        match self.outlets.iter().find(|outlet| **outlet.name() == *channel) {
            Some(outlet) => outlet.test().await,
            None => {
                let known = self.outlets.iter().map(|outlet| &**outlet.name()).collect();
                Err(unknown("channel", channel, known))
            }
        }
    }

    async fn watch(
        &self,
        mut findings: watch::Receiver<Option<Arc<Findings>>>,
        readings: &mut mpsc::Receiver<Measured>,
        stop: CancellationToken,
    ) {
        let mut repeat_look = tokio::time::interval(REPEAT_LOOK_INTERVAL);
        repeat_look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok(()) = findings.changed() => {
                    let found = findings.borrow_and_update().clone();
                    found.iter().for_each(|found| self.take_findings(found));
                }
                Some(measured) = readings.recv() => self.take_reading(&measured),
                _ = repeat_look.tick() => {
                    let events = self.book().repeats(&self.rules(), moment(self.started));
                    events.into_iter().for_each(|event| self.tell(event));
                }
            }
        }
    }

    fn take_findings(&self, findings: &Findings) {
        let now = moment(self.started);
        for rule in &*self.rules() {
            let Condition::Check(id) = &rule.condition else { continue };
            let mut by_subject: BTreeMap<Arc<str>, Vec<&Finding>> =
                self.book().subjects(&rule.name).into_iter().map(|subject| (subject, Vec::new())).collect();
            for found in findings.found.iter().filter(|found| id.as_deref().is_none_or(|id| id == found.check)) {
                by_subject.entry(found.subject.clone()).or_default().push(found);
            }
            for (subject, found) in by_subject {
                let mut book = self.book();
                if found.is_empty() && findings.is_unsure(&subject) && book.is_of_an_earlier_run(&rule.name, &subject) {
                    continue;
                }
                let event = book.observe(rule, &subject, rules::of_findings(rule, &found), now);
                drop(book);
                event.into_iter().for_each(|event| self.tell(event));
            }
        }
        let left_out = self.book().left_out();
        if left_out > 0 && self.crowded_lines.allows() {
            warn!(left_out, "too many sources at once are beyond the limits of rules: of some, nothing is told");
        }
    }

    fn take_reading(&self, measured: &Measured) {
        for rule in &*self.rules() {
            let Condition::Quantity(limit) = &rule.condition else { continue };
            let Some(value) = limit.quantity.of(&measured.sample) else { continue };
            if limit.source.as_deref().is_some_and(|filter| !topic::matches(filter, &measured.source)) {
                continue;
            }
            let mut book = self.book();
            let firing = book.is_firing(&rule.name, &measured.source);
            if !firing && !limit.comparison.holds(value, limit.number) && !book.knows(&rule.name, &measured.source) {
                // Nearly always so: no words are made for it.
                continue;
            }
            let found = rules::of_value(rule, limit, &measured.source, value, firing);
            let event = book.observe(rule, &measured.source, found, moment(self.started));
            drop(book);
            event.into_iter().for_each(|event| self.tell(event));
        }
    }

    /// Has an event told by the channels of its rule.
    fn tell(&self, event: Event) {
        let rules = self.rules();
        let Some(rule) = rules.iter().find(|rule| *rule.name == *event.episode.rule) else { return };
        let outlets: Vec<&Arc<Outlet>> =
            rule.channels.iter().filter_map(|&position| self.outlets.get(position)).collect();
        self.tell_by(event, &outlets);
    }

    fn tell_by(&self, event: Event, outlets: &[&Arc<Outlet>]) {
        let Event { what, episode, text } = event;
        let notice = Notice {
            episode: episode.id,
            what: what.to_string(),
            rule: episode.rule.clone(),
            subject: episode.subject.clone(),
            severity: episode.severity,
            text,
            made_ms: episode.told_ms,
        };
        let channels = outlets.iter().map(|outlet| outlet.name().clone()).collect();
        let noted =
            self.ledger.note([AlertChange::Episode(episode), AlertChange::Notice { notice: notice.clone(), channels }]);
        for outlet in outlets {
            outlet.push(Waiting { notice: notice.clone(), noted, is_deferred: false });
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the section with the channel that rules without any have: the log.
fn with_a_channel(settings: &config::Alerts) -> config::Alerts {
    let mut settings = settings.clone();
    if settings.channels.is_empty() {
        settings.channels.push(Channel::log());
    }
    settings
}

fn unknown(what: &'static str, name: &str, known: Vec<&str>) -> AlertError {
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    AlertError::Unknown { what, name: name.to_owned(), known }
}

fn moment(started: Instant) -> Moment {
    Moment { wall_ms: now_ms(), run_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX) }
}
