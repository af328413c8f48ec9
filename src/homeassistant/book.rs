//! What has been announced, and what is to be published next.
//!
//! Owns when an entity is announced, when again, and when a source's values are published. Pure: it never publishes, and is told
//! where that failed.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::entity::{Entity, Station, state};
use crate::almanac::SourceNow;
use crate::reading::Kind;
use crate::weather::quantity::Observed;

/// Sources that are announced in one run of the hub: clients can make as many up as they like.
const SOURCES_MAX: usize = 64;
/// How long a source may be silent whose rhythm is not known.
const SILENCE: Duration = Duration::from_secs(300);
/// Times after which values expire, seconds: few, so that a rhythm that wavers announces nothing again.
const EXPIRY_S: [u64; 12] = [60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 28_800, 86_400, 604_800];
/// How much shorter a time has to be to take the place of the one that was announced.
const SHORTER: u64 = 3;

/// A message that is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload, JSON.
    pub payload: String,
    /// Whether it announces an entity, and is retained; else it has values.
    pub announces: bool,
}

/// What this run has announced and published.
#[derive(Debug)]
pub struct Book {
    station: Station,
    interval: Duration,
    sources: BTreeMap<String, Told>,
}

/// The values of a source.
type Values = Vec<(Observed, f64)>;

/// What was told of a source.
#[derive(Debug, Default)]
struct Told {
    expire_s: u64,
    last_s: Option<i64>,
    kinds: Vec<Kind>,
    /// The announcement of each quantity, as it was made last.
    announced: HashMap<Observed, String>,
}

impl Book {
    /// Begins one; `interval` is the time between two turns.
    pub fn new(station: Station, interval: Duration) -> Book {
        Book { station, interval, sources: BTreeMap::new() }
    }

    /// Returns what is to be published after a look at the sources; `silence_max` says how long each may be silent, where that
    /// is known; `day_s` is when the station's day began, Unix seconds. Announcements come before the values that they are about.
    pub fn turn(
        &mut self,
        now: &[SourceNow],
        day_s: i64,
        silence_max: impl Fn(&str) -> Option<Duration>,
    ) -> Vec<Message> {
        let live = now.iter().filter(|source| !source.is_stale);
        for source in live.clone() {
            let is_full = self.sources.len() >= SOURCES_MAX;
            if is_full && !self.sources.contains_key(&source.name) {
                continue;
            }
            let told = self.sources.entry(source.name.clone()).or_default();
            if !told.kinds.contains(&source.kind) {
                told.kinds.push(source.kind);
            }
            let expire_s = expiry_s(silence_max(&source.name), self.interval);
            if expire_s > told.expire_s || expire_s <= told.expire_s / SHORTER {
                told.expire_s = expire_s;
            }
            for value in &source.values {
                told.announced.entry(value.quantity).or_default();
            }
        }
        let mut messages = self.announcements();
        messages.extend(self.states(live, day_s));
        messages
    }

    /// Takes back that anything was announced: not all of it was published, so all comes again with the next turn.
    pub fn announce_again(&mut self) {
        let announced = self.sources.values_mut().flat_map(|told| told.announced.values_mut());
        announced.for_each(String::clear);
    }

    /// Makes every announcement that differs from the last one of its entity.
    fn announcements(&mut self) -> Vec<Message> {
        let with = |kind: Kind| self.sources.values().filter(|told| told.kinds.contains(&kind)).count();
        let (weather, magnetic) = (with(Kind::Weather), with(Kind::Magnetic));
        let mut messages = Vec::new();
        for (source, told) in &mut self.sources {
            for (quantity, last) in &mut told.announced {
                let sources = if quantity.kind() == Kind::Weather { weather } else { magnetic };
                let (quantity, expire_s) = (*quantity, told.expire_s);
                let entity = Entity { quantity, source, names_source: sources > 1, expire_s };
                let payload = self.station.announcement(entity);
                if payload != *last {
                    last.clone_from(&payload);
                    let topic = self.station.names.config(source, quantity.name());
                    messages.push(Message { topic, payload, announces: true });
                }
            }
        }
        messages
    }

    /// Returns the values of each source that has a new reading.
    fn states<'a>(&mut self, live: impl Iterator<Item = &'a SourceNow>, day_s: i64) -> Vec<Message> {
        // A topic whose route was changed has readings of both kinds.
        let mut sources: BTreeMap<&str, (i64, Values)> = BTreeMap::new();
        for source in live {
            let (last_s, values) = sources.entry(&source.name).or_insert((source.last_s, Vec::new()));
            *last_s = source.last_s.max(*last_s);
            values.extend(source.values.iter().map(|value| (value.quantity, value.value)));
        }
        let mut messages = Vec::new();
        for (source, (last_s, values)) in sources {
            let Some(told) = self.sources.get_mut(source).filter(|told| told.last_s != Some(last_s)) else { continue };
            told.last_s = Some(last_s);
            let topic = self.station.names.state(source);
            messages.push(Message { topic, payload: state(last_s, day_s, &told.kinds, &values), announces: false });
        }
        messages
    }
}

/// Returns after how many seconds the values of a source expire: more than it may be silent, and than two turns.
fn expiry_s(silence_max: Option<Duration>, interval: Duration) -> u64 {
    let [.., longest] = EXPIRY_S;
    let needed = silence_max.unwrap_or(SILENCE).saturating_add(interval * 2).as_secs();
    EXPIRY_S.into_iter().find(|expire_s| *expire_s >= needed).unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::almanac::NowValue;
    use crate::homeassistant::names::Names;

    const DAY_S: i64 = 0;
    const TURN: Duration = Duration::from_secs(10);

    fn book() -> Book {
        let names = Names::new("homeassistant", "stationhub", "farm");
        Book::new(Station { names, name: "farm".to_owned(), url: None }, TURN)
    }

    fn source(name: &str, last_s: i64, values: &[(Observed, f64)]) -> SourceNow {
        let value = |&(quantity, value)| NowValue { quantity, value, is_doubtful: false, today: None, note: None };
        let values = values.iter().map(value).collect();
        SourceNow { name: name.to_owned(), kind: Kind::Weather, last_s, is_stale: false, values }
    }

    fn topics(messages: &[Message]) -> Vec<(&str, bool)> {
        messages.iter().map(|message| (&*message.topic, message.announces)).collect()
    }

    fn silence(seconds: u64) -> impl Fn(&str) -> Option<Duration> {
        move |_| Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_quantity_is_announced_once_it_has_a_value_and_values_follow_each_reading() {
        let mut book = book();
        let first = book.turn(&[source("a/w", 100, &[(Observed::Temperature, 20.0)])], DAY_S, silence(30));
        let config = "homeassistant/sensor/farm/a--w--temperature/config";
        assert_eq!(topics(&first), [(config, true), ("stationhub/farm/a--w/state", false)]);
        assert!(book.turn(&[source("a/w", 100, &[(Observed::Temperature, 20.0)])], DAY_S, silence(30)).is_empty());

        let hot = source("a/w", 105, &[(Observed::Temperature, 33.0), (Observed::HeatIndex, 36.0)]);
        let second = book.turn(&[hot], DAY_S, silence(30));
        let config = "homeassistant/sensor/farm/a--w--heat_index/config";
        assert_eq!(topics(&second), [(config, true), ("stationhub/farm/a--w/state", false)]);

        let third = book.turn(&[source("a/w", 110, &[(Observed::Temperature, 20.0)])], DAY_S, silence(30));
        assert_eq!(topics(&third), [("stationhub/farm/a--w/state", false)]);
        assert!(third[0].payload.contains("\"heat_index\":null"), "{}", third[0].payload);
    }

    #[test]
    fn what_was_not_published_is_announced_again_without_old_values() {
        let mut book = book();
        let rain = source("a/w", 100, &[(Observed::Rain, 1.0)]);
        let first = book.turn(std::slice::from_ref(&rain), DAY_S, silence(30));
        book.announce_again();
        let again = book.turn(&[rain], DAY_S, silence(30));
        assert_eq!((first.len(), &first[..1]), (2, &again[..]));
    }

    #[test]
    fn a_source_that_is_silent_is_neither_announced_nor_published() {
        let stale = SourceNow { is_stale: true, ..source("a/w", 100, &[(Observed::Rain, 1.0)]) };
        assert!(book().turn(&[stale], DAY_S, silence(30)).is_empty());
    }

    #[test]
    fn names_say_which_source_once_there_are_two() {
        let mut book = book();
        let rain = [(Observed::Rain, 1.0)];
        let first = book.turn(&[source("a/w", 100, &rain)], DAY_S, silence(30));
        assert!(first[0].payload.contains("\"Rain today\""), "{first:?}");
        let second = book.turn(&[source("a/w", 100, &rain), source("b/w", 100, &rain)], DAY_S, silence(30));
        let announced: Vec<&Message> = second.iter().filter(|message| message.announces).collect();
        assert_eq!(announced.len(), 2);
        assert!(
            announced[0].payload.contains("\"Rain today, a/w\"")
                && announced[1].payload.contains("\"Rain today, b/w\"")
        );
    }

    #[test]
    fn values_expire_by_the_sources_rhythm_and_one_that_wavers_announces_nothing_again() {
        assert_eq!(expiry_s(None, TURN), 600);
        assert_eq!(expiry_s(Some(Duration::from_secs(25)), TURN), 60);
        assert_eq!(expiry_s(Some(Duration::from_secs(100)), TURN), 120);
        assert_eq!(expiry_s(Some(Duration::MAX), TURN), 604_800);

        let mut book = book();
        let mut turns = 0;
        let mut announced = |book: &mut Book, seconds| {
            turns += 1;
            let messages = book.turn(&[source("a/w", 100 + turns, &[(Observed::Rain, 1.0)])], DAY_S, silence(seconds));
            messages.iter().any(|message| message.announces)
        };
        assert!(announced(&mut book, 200), "300 s, for the first time");
        assert!(!announced(&mut book, 100), "120 s is not much shorter");
        assert!(announced(&mut book, 290), "600 s");
        assert!(!announced(&mut book, 200));
        assert!(announced(&mut book, 30), "60 s");
    }

    #[test]
    fn sources_that_are_made_up_are_bounded() {
        let mut book = book();
        for number in 0..3 * SOURCES_MAX {
            book.turn(&[source(&format!("a/{number}"), 100, &[(Observed::Rain, 1.0)])], DAY_S, silence(30));
        }
        assert_eq!(book.sources.len(), SOURCES_MAX);
    }

    #[test]
    fn a_topic_with_readings_of_both_kinds_has_one_state() {
        let magnetic = SourceNow { kind: Kind::Magnetic, ..source("a/w", 90, &[(Observed::FluxX, 20.0)]) };
        let messages = book().turn(&[source("a/w", 100, &[(Observed::Rain, 1.0)]), magnetic], DAY_S, silence(30));
        let states: Vec<&Message> = messages.iter().filter(|message| !message.announces).collect();
        assert_eq!(states.len(), 1);
        let state: serde_json::Value = serde_json::from_str(&states[0].payload).unwrap();
        assert_eq!((&state["rain"], &state["flux_x"]), (&1.0.into(), &20.0.into()));
    }
}
