//! Access rules in the format of Mosquitto's `acl_file`, with Mosquitto's meaning.
//!
//! Owns that format, and the verdicts: may this client publish on, receive from, subscribe to? What no rule allows is
//! denied. Rules before the first `user` line are for clients without a name and for nobody else; `pattern` rules are
//! for everybody. Of a client's rules those of its name come before the patterns, and of each sort the denials before
//! the rest; the first that settles the question decides. Pure: it never reads a file.

use std::collections::HashMap;
use std::sync::Arc;

use crate::topic;

/// Lines with rules in one file, at most.
const RULES_MAX: usize = 10_000;
/// Patterns in one file, at most: each client has them with its own names put in.
const PATTERNS_MAX: usize = 256;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Read,
    Write,
    ReadWrite,
    Deny,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    verb: Verb,
    filter: String,
}

/// The rules of a file.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    /// By user, of clients without a name under `None`; the denials of each first.
    own: HashMap<Option<String>, Arc<[Rule]>>,
    /// The denials first.
    patterns: Vec<Rule>,
}

/// The rules for one client: its own, which it shares with others of its name, and the patterns with its names put in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    own: Arc<[Rule]>,
    patterns: Vec<Rule>,
}

/// A file as far as it was read.
#[derive(Default)]
struct Reading {
    user: Option<String>,
    own: HashMap<Option<String>, Vec<Rule>>,
    patterns: Vec<Rule>,
}

impl Acl {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Every wrong line with its number, counted from 1.
    pub fn parse(text: &str) -> Result<Acl, Vec<(usize, String)>> {
        let mut reading = Reading::default();
        let mut wrong = Vec::new();
        let mut rules = 0;
        for (index, line) in text.lines().enumerate() {
            let line = line.trim_end();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match reading.take_line(line) {
                Ok(()) => rules += 1,
                Err(text) => wrong.push((index + 1, text)),
            }
            if rules > RULES_MAX {
                wrong.push((index + 1, format!("there are more than {RULES_MAX} lines with rules")));
                break;
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let own = reading.own.into_iter().map(|(user, rules)| (user, denials_first(rules).into()));
        Ok(Acl { own: own.collect(), patterns: denials_first(reading.patterns) })
    }

    /// Returns the rules for a client.
    pub fn rules(&self, user: Option<&str>, client_id: &str) -> Rules {
        let own = self.own.get(&user.map(str::to_owned)).cloned().unwrap_or_default();
        let mut rules = Rules { own, patterns: Vec::new() };
        // A name with a wildcard would widen the pattern that it is put into.
        let is_wild = |text: &str| text.contains(['+', '#']);
        if !is_wild(client_id) && !user.is_some_and(is_wild) {
            let patterns = self.patterns.iter().filter_map(|rule| {
                let filter = fill_in(&rule.filter, user, client_id)?;
                Some(Rule { verb: rule.verb, filter })
            });
            rules.patterns = patterns.collect();
        }
        rules
    }

    /// Tells whether there are rules for users by name.
    pub fn names_users(&self) -> bool {
        self.own.keys().any(Option::is_some)
    }
}

impl Reading {
    fn take_line(&mut self, line: &str) -> Result<(), String> {
        let (word, rest) = first_word(line);
        match (word, rest) {
            ("user", None) => return Err("after `user` must stand a name".to_owned()),
            ("user", Some(name)) => self.user = Some(name.to_owned()),
            ("topic" | "pattern", None) => return Err(format!("after `{word}` must stand a topic filter")),
            ("topic", Some(rest)) => self.own.entry(self.user.clone()).or_default().push(rule(rest)?),
            ("pattern", Some(_)) if self.patterns.len() >= PATTERNS_MAX => {
                return Err(format!("there are more than {PATTERNS_MAX} patterns"));
            }
            ("pattern", Some(rest)) => self.patterns.push(rule(rest)?),
            _ => return Err("a line must begin with `topic`, `user`, `pattern` or `#`".to_owned()),
        }
        Ok(())
    }
}

impl Rules {
    /// Tells whether a message on `topic` may be delivered to the client.
    pub fn may_read(&self, topic: &str) -> bool {
        self.allow(topic, |verb| matches!(verb, Verb::Read | Verb::ReadWrite))
    }

    /// Tells whether the client may publish on `topic`.
    pub fn may_write(&self, topic: &str) -> bool {
        self.allow(topic, |verb| matches!(verb, Verb::Write | Verb::ReadWrite))
    }

    /// Tells whether a subscription to `filter` can bring the client anything that it may read. What it brings is
    /// judged message by message.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        let filter = without_share(filter);
        for rule in self.in_order() {
            match rule.verb {
                Verb::Deny if covers(&rule.filter, filter) => return false,
                Verb::Read | Verb::ReadWrite if overlap(&rule.filter, filter) => return true,
                _ => {}
            }
        }
        false
    }

    fn in_order(&self) -> impl Iterator<Item = &Rule> {
        self.own.iter().chain(&self.patterns)
    }

    fn allow(&self, topic: &str, grants: impl Fn(Verb) -> bool) -> bool {
        for rule in self.in_order() {
            if (rule.verb == Verb::Deny || grants(rule.verb)) && topic::matches(&rule.filter, topic) {
                return rule.verb != Verb::Deny;
            }
        }
        false
    }
}

fn first_word(line: &str) -> (&str, Option<&str>) {
    let line = line.trim_start_matches(' ');
    match line.split_once(' ') {
        Some((word, rest)) => (word, Some(rest.trim()).filter(|rest| !rest.is_empty())),
        None => (line, None),
    }
}

fn rule(text: &str) -> Result<Rule, String> {
    let (verb, filter) = match first_word(text) {
        ("read", Some(filter)) => (Verb::Read, filter),
        ("write", Some(filter)) => (Verb::Write, filter),
        ("readwrite", Some(filter)) => (Verb::ReadWrite, filter),
        ("deny", Some(filter)) => (Verb::Deny, filter),
        (_, Some(_)) => return Err("the access must be `read`, `write`, `readwrite` or `deny`".to_owned()),
        (filter, None) => (Verb::ReadWrite, filter),
    };
    if !topic::valid_filter(filter) {
        return Err(format!("{filter:?} is not a topic filter"));
    }
    Ok(Rule { verb, filter: filter.to_owned() })
}

fn denials_first(mut rules: Vec<Rule>) -> Vec<Rule> {
    rules.sort_by_key(|rule| rule.verb != Verb::Deny);
    rules
}

/// Puts the client's names into a pattern; `None` where it has no user name and the pattern wants one.
fn fill_in(pattern: &str, user: Option<&str>, client_id: &str) -> Option<String> {
    let mut filled = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(at) = rest.find('%') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, taken) = match rest.as_bytes().get(1) {
            Some(b'c') => (client_id, 2),
            Some(b'u') => (user?, 2),
            _ => ("%", 1),
        };
        filled.push_str(name);
        rest = &rest[taken..];
    }
    filled.push_str(rest);
    Some(filled)
}

/// Returns the filter that a shared subscription is to.
fn without_share(filter: &str) -> &str {
    let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
    shared.map_or(filter, |(_, filter)| filter)
}

fn hides_system_topics(filter: &str) -> bool {
    filter.starts_with(['+', '#'])
}

/// Tells whether there is a topic that both filters match.
fn overlap(left: &str, right: &str) -> bool {
    if (left.starts_with('$') && hides_system_topics(right)) || (right.starts_with('$') && hides_system_topics(left)) {
        return false;
    }
    let (mut left, mut right) = (left.split('/'), right.split('/'));
    loop {
        match (left.next(), right.next()) {
            (None, None) | (Some("#"), _) | (_, Some("#")) => return true,
            (Some(left), Some(right)) if left == right || left == "+" || right == "+" => {}
            _ => return false,
        }
    }
}

/// Tells whether `wide` matches every topic that `narrow` matches.
fn covers(wide: &str, narrow: &str) -> bool {
    if narrow.starts_with('$') && hides_system_topics(wide) {
        return false;
    }
    let (mut wide, mut narrow) = (wide.split('/'), narrow.split('/'));
    loop {
        match (wide.next(), narrow.next()) {
            (None, None) | (Some("#"), _) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(wide), Some(narrow)) if wide == narrow => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        Acl::parse(text).unwrap_err().into_iter().map(|(line, _)| line).collect()
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number() {
        let text = "# comment\n\ntopic read a/#\nuser\nfoo bar\ntopic\ntopic readonly a\npattern\npattern read a/#/b\n\
                    topic\tread a\n # no comment\nuser somebody\ntopic deny b\n";
        assert_eq!(lines(text), [4, 5, 6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn spaces_and_words_are_taken_as_mosquitto_takes_them() {
        let acl = Acl::parse("  topic   read   a b \r\nuser  the cook  \ntopic read\ntopic write\n").unwrap();
        assert!(acl.rules(None, "c").may_read("a b"));
        let cook = acl.rules(Some("the cook"), "c");
        assert!(cook.may_read("read") && cook.may_write("write") && !cook.may_read("a b"));
    }

    #[test]
    fn too_many_rules_are_refused() {
        assert_eq!(lines(&"topic a\n".repeat(RULES_MAX + 5)), [RULES_MAX + 1]);
        assert_eq!(lines(&"pattern %c\n".repeat(PATTERNS_MAX + 1)), [PATTERNS_MAX + 1]);
    }

    #[test]
    fn filters_overlap_where_one_topic_fits_both() {
        for (left, right) in [
            ("#", "a"),
            ("a/#", "a"),
            ("a/#", "+/b"),
            ("+/b", "a/+"),
            ("a/b", "a/b"),
            ("+", "a"),
            ("$SYS/#", "$SYS/+"),
            ("a/+/c", "a/b/#"),
        ] {
            assert!(overlap(left, right) && overlap(right, left), "{left} {right}");
        }
        for (left, right) in
            [("a", "b"), ("a/#", "b/#"), ("+", "a/b"), ("#", "$SYS/x"), ("+/x", "$SYS/x"), ("a", "a/b")]
        {
            assert!(!overlap(left, right) && !overlap(right, left), "{left} {right}");
        }
    }

    #[test]
    fn a_filter_covers_another_where_it_matches_all_of_its_topics() {
        for (wide, narrow) in
            [("#", "a/#"), ("a/#", "a"), ("a/#", "a/+/c"), ("a/+", "a/+"), ("a/+", "a/b"), ("+/#", "a/#")]
        {
            assert!(covers(wide, narrow), "{wide} {narrow}");
        }
        for (wide, narrow) in [("a/+", "a/#"), ("a/b", "a/+"), ("a", "a/b"), ("#", "$SYS/x"), ("a/b/#", "a/#")] {
            assert!(!covers(wide, narrow), "{wide} {narrow}");
        }
    }
    fn level() -> impl Strategy<Value = &'static str> {
        prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")]
    }

    fn filter() -> impl Strategy<Value = String> {
        let levels = proptest::collection::vec(prop_oneof![3 => level(), 2 => Just("+")], 0..4);
        let filter = (levels, any::<bool>()).prop_map(|(mut levels, hash)| {
            levels.extend(hash.then_some("#"));
            levels.join("/")
        });
        filter.prop_filter("a filter is not empty", |filter| !filter.is_empty())
    }

    proptest! {
        #[test]
        fn overlap_and_covers_agree_with_matching(
            left in filter(),
            right in filter(),
            levels in proptest::collection::vec(level(), 1..5),
        ) {
            let topic = levels.join("/");
            let (by_left, by_right) = (topic::matches(&left, &topic), topic::matches(&right, &topic));
            prop_assert!(overlap(&left, &right) || !(by_left && by_right), "{left} {right} {topic}");
            prop_assert!(!covers(&left, &right) || by_left || !by_right, "{left} {right} {topic}");
        }
    }
}
