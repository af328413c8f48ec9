//! Tests of episodes: whatever is observed, each is told to begin once and to end once.

#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::alerts::{Condition, Severity};

fn rule(name: &str, hold_s: u64, repeat_s: Option<u64>) -> Rule {
    Rule {
        name: name.to_owned(),
        condition: Condition::Check(None),
        hold: Duration::from_secs(hold_s),
        repeat: repeat_s.map(Duration::from_secs),
        severity: None,
        channels: vec![0],
    }
}

fn found(holds: bool) -> Found {
    Found { holds, severity: Severity::Warning, text: "t".to_owned() }
}

fn at(s: i64) -> Moment {
    Moment { wall_ms: 1_000_000 + s * 1000, run_ms: s * 1000 }
}

fn whats(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    events.into_iter().map(|event| event.what.to_string()).collect()
}

#[test]
fn a_condition_is_told_once_it_has_held_for_long_enough_without_a_break() {
    let (mut book, rule, subject) = (Book::default(), rule("r", 10, None), Arc::from("s"));
    let seen =
        [(0, true), (5, true), (6, false), (7, true), (16, true), (17, true), (18, true), (20, false), (21, false)];
    let told: Vec<(i64, String)> = seen
        .into_iter()
        .filter_map(|(s, holds)| book.observe(&rule, &subject, found(holds), at(s)).map(|event| (s, event)))
        .map(|(s, event)| (s, event.what.to_string()))
        .collect();
    assert_eq!(told, [(17, "firing".to_owned()), (20, "resolved".to_owned())]);
}

#[test]
fn what_lasts_is_repeated_until_somebody_acknowledges_it() {
    let (mut book, rules, subject) = (Book::default(), [rule("r", 0, Some(60))], Arc::from("s"));
    assert_eq!(whats(book.observe(&rules[0], &subject, found(true), at(0))), ["firing"]);
    assert_eq!(whats(book.repeats(&rules, at(59))), [""; 0]);
    assert_eq!(whats(book.repeats(&rules, at(60))), ["repeat 1"]);
    assert_eq!(whats(book.repeats(&rules, at(61))), [""; 0]);
    assert_eq!(whats(book.repeats(&rules, at(120))), ["repeat 2"]);
    assert_eq!(book.acknowledge("r", at(130)).len(), 1);
    assert_eq!(whats(book.repeats(&rules, at(1000))), [""; 0]);
    assert_eq!(whats(book.observe(&rules[0], &subject, found(false), at(1001))), ["resolved"]);
}

#[test]
fn what_gets_worse_is_told_at_once_although_it_was_acknowledged() {
    let (mut book, rule, subject) = (Book::default(), rule("r", 0, None), Arc::from("s"));
    book.observe(&rule, &subject, found(true), at(0));
    book.acknowledge("r", at(1));
    let worse = Found { severity: Severity::Critical, ..found(true) };
    let event = book.observe(&rule, &subject, worse.clone(), at(2)).unwrap();
    assert_eq!((event.what, event.episode.severity), (What::Repeat(1), Severity::Critical));
    assert_eq!(book.observe(&rule, &subject, worse, at(3)), None);
    assert_eq!(book.observe(&rule, &subject, found(true), at(4)), None, "better is no news");
}

#[test]
fn an_episode_goes_on_after_a_restart() {
    let (mut book, rules, subject) = (Book::default(), [rule("r", 0, Some(60))], Arc::from("s"));
    let begun = book.observe(&rules[0], &subject, found(true), at(0)).unwrap().episode;
    let restart = Moment { wall_ms: at(50).wall_ms, run_ms: 3 };
    let mut book = Book::restored(vec![begun.clone()], restart);
    assert_eq!(book.observe(&rules[0], &subject, found(true), restart), None, "told twice");
    let later = |s: i64| Moment { wall_ms: restart.wall_ms + s * 1000, run_ms: 3 + s * 1000 };
    assert_eq!(whats(book.repeats(&rules, later(9))), [""; 0]);
    assert_eq!(whats(book.repeats(&rules, later(10))), ["repeat 1"]);
    let over = book.observe(&rules[0], &subject, found(false), later(11)).unwrap();
    assert_eq!((over.what, over.episode.id), (What::Resolved, begun.id));
    let mut book = Book::restored(vec![over.episode], later(12));
    let next = book.observe(&rules[0], &subject, found(true), Moment { wall_ms: 5, run_ms: 0 }).unwrap();
    assert!(next.episode.id > begun.id, "a clock that was set back gives a number twice");
}

#[test]
fn episodes_of_a_rule_that_is_gone_are_over() {
    let (mut book, rule, subject) = (Book::default(), rule("r", 0, None), Arc::from("s"));
    book.observe(&rule, &subject, found(true), at(0));
    assert_eq!(whats(book.end_others(|_| false, at(1))), ["resolved"]);
    assert!(book.firing().is_empty() && book.ended().len() == 1);
}

#[test]
fn subjects_without_end_take_bounded_room() {
    let (mut book, holding, telling) = (Book::default(), rule("h", 3600, None), rule("t", 0, None));
    for number in 0..2 * SUBJECTS_MAX {
        book.observe(&holding, &Arc::from(number.to_string()), found(true), at(number as i64));
    }
    assert_eq!(book.subjects("h").len(), SUBJECTS_MAX);
    let told = (0..2 * SUBJECTS_MAX)
        .filter_map(|number| book.observe(&telling, &Arc::from(number.to_string()), found(true), at(9_999)));
    assert_eq!(told.count(), SUBJECTS_MAX);
    assert_eq!((book.subjects("t").len(), book.subjects("h").len()), (SUBJECTS_MAX, SUBJECTS_MAX));
}

#[test]
fn a_crowd_of_subjects_that_comes_again_and_again_fires_and_one_that_went_away_makes_room() {
    let (mut book, rule) = (Book::default(), rule("r", 5, None));
    let subject = |number: usize| Arc::from(number.to_string());
    let fired: usize = (0..8)
        .flat_map(|s| (0..SUBJECTS_MAX + 100).map(move |number| (s, number)))
        .filter_map(|(s, number)| book.observe(&rule, &subject(number), found(true), at(s)))
        .count();
    assert_eq!((fired, book.left_out()), (SUBJECTS_MAX, 800), "the crowd shut itself out");

    let mut book = Book::default();
    for number in 0..SUBJECTS_MAX {
        book.observe(&rule, &subject(number), found(true), at(0));
    }
    assert_eq!(book.observe(&rule, &Arc::from("new"), found(true), at(100)), None);
    assert!(book.knows("r", "new"), "what was seen once, long ago, keeps the room");
}

#[test]
fn what_an_earlier_run_told_of_is_known_as_such_until_it_is_observed() {
    let (mut book, rule, subject) = (Book::default(), rule("r", 0, None), Arc::from("s"));
    let begun = book.observe(&rule, &subject, found(true), at(0)).unwrap().episode;
    assert!(!book.is_of_an_earlier_run("r", "s"));
    let mut book = Book::restored(vec![begun], at(1));
    assert!(book.is_of_an_earlier_run("r", "s"));
    book.observe(&rule, &subject, found(true), at(2));
    assert!(!book.is_of_an_earlier_run("r", "s"));
}

#[derive(Clone, Debug)]
enum Step {
    Observe { rule: usize, subject: usize, holds: bool, critical: bool },
    Repeat,
    Acknowledge(usize),
    Restart { clock_s: i64 },
}

fn steps() -> impl Strategy<Value = Vec<(u16, Step)>> {
    let observe = (0..2usize, 0..3usize, any::<bool>(), any::<bool>())
        .prop_map(|(rule, subject, holds, critical)| Step::Observe { rule, subject, holds, critical });
    let step = prop_oneof![
        8 => observe,
        2 => Just(Step::Repeat),
        1 => (0..2usize).prop_map(Step::Acknowledge),
        1 => (-1000..1000i64).prop_map(|clock_s| Step::Restart { clock_s }),
    ];
    prop::collection::vec((0..200u16, step), 1..200)
}

proptest! {
    #[test]
    fn every_episode_begins_once_and_ends_once_whatever_is_observed(steps in steps()) {
        let rules = [rule("now", 0, Some(60)), rule("later", 100, None)];
        let (mut book, mut now) = (Book::default(), at(0));
        let mut told: HashMap<i64, Vec<What>> = HashMap::new();
        let mut subjects: HashMap<i64, (Arc<str>, Arc<str>)> = HashMap::new();
        for (pause_s, step) in steps {
            now.run_ms += i64::from(pause_s) * 1000;
            now.wall_ms += i64::from(pause_s) * 1000;
            let events = match step {
                Step::Observe { rule, subject, holds, critical } => {
                    let severity = if critical { Severity::Critical } else { Severity::Info };
                    let found = Found { holds, severity, text: "t".to_owned() };
                    book.observe(&rules[rule], &Arc::from(subject.to_string()), found, now).into_iter().collect()
                }
                Step::Repeat => book.repeats(&rules, now),
                Step::Acknowledge(rule) => {
                    book.acknowledge(&rules[rule].name, now);
                    Vec::new()
                }
                Step::Restart { clock_s } => {
                    now.wall_ms += clock_s * 1000;
                    let mut kept = book.ended();
                    kept.extend(book.firing());
                    book = Book::restored(kept, now);
                    Vec::new()
                }
            };
            for Event { what, episode, .. } in events {
                let so_far = told.entry(episode.id).or_default();
                let expected = match (so_far.last(), what) {
                    (None, What::Firing) => true,
                    (Some(What::Firing), What::Repeat(1) | What::Resolved) => true,
                    (Some(What::Repeat(last)), What::Repeat(next)) => next == last + 1,
                    (Some(What::Repeat(_)), What::Resolved) => true,
                    _ => false,
                };
                prop_assert!(expected, "{what} after {so_far:?}");
                so_far.push(what);
                let subject = (episode.rule, episode.subject);
                prop_assert_eq!(subjects.entry(episode.id).or_insert_with(|| subject.clone()), &subject);
            }
            let open: Vec<i64> = book.firing().iter().map(|episode| episode.id).collect();
            let mut untold: Vec<i64> =
                told.iter().filter(|(_, told)| told.last() != Some(&What::Resolved)).map(|(id, _)| *id).collect();
            untold.sort_unstable();
            prop_assert_eq!(open, untold, "what is open is what was told and not ended");
        }
    }
}
