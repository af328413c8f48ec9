//! Takes known keys, each with its type and range, out of a merged tree of configuration values.
//!
//! Owns the rule that every wrong value is reported, none stops the reading, and every key that nobody asked for is
//! an error. It never knows which keys there are.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use ::config::{Value, ValueKind};

use super::error::Problem;
use super::sources::ENVIRONMENT;

/// Longest value that an error line shows, characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Longest list of texts.
const ITEMS_MAX: usize = 1_000;

/// Reads one tree of values; wrong ones are collected and read as absent.
pub(super) struct Reader {
    leaves: BTreeMap<String, Value>,
    file: String,
    asked: BTreeSet<String>,
    problems: Vec<Problem>,
}

impl Reader {
    /// Begins with a merged tree; `file` is the origin of values that stand in the file.
    pub(super) fn new(tree: Value, file: &str) -> Reader {
        let mut leaves = BTreeMap::new();
        if let ValueKind::Table(sections) = tree.kind {
            for (name, value) in sections {
                flatten(name, value, &mut leaves);
            }
        }
        Reader { leaves, file: file.to_owned(), asked: BTreeSet::new(), problems: Vec::new() }
    }

    /// Tells whether `key`, or anything below it, is set.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.leaves.keys().any(|leaf| below(key, leaf))
    }

    /// Accepts `name` as a section, which may be empty but not a value.
    pub(super) fn section(&mut self, name: &str) {
        if let Some(value) = self.take(name)
            && !matches!(value.kind, ValueKind::Table(_))
        {
            let text = format!("must be a section, written [{name}], is {}", shown(&value));
            self.report(&value, name, text);
        }
    }

    /// Reports `key`, and accepts all below it, where it is set to something that the hub does not do.
    pub(super) fn refuse(&mut self, key: &str, text: &str) {
        let found: Vec<String> = self.leaves.keys().filter(|leaf| below(key, leaf)).cloned().collect();
        if !found.is_empty() {
            self.problems.push(Problem::new(self.file.clone(), key, text));
        }
        self.asked.extend(found);
    }

    /// Reports `key` where it is not set.
    pub(super) fn require(&mut self, key: &str) {
        if !self.leaves.contains_key(key) {
            self.problems.push(Problem::new(self.file.clone(), key, "is missing"));
        }
    }

    /// Returns a whole number within `allowed`.
    pub(super) fn whole(&mut self, key: &str, allowed: RangeInclusive<u64>) -> Option<u64> {
        let value = self.take(key)?;
        let number = match &value.kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::String(text) if from_environment(&value) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| allowed.contains(number));
        if number.is_none() {
            let (low, high) = allowed.into_inner();
            let text = format!("must be a whole number between {low} and {high}, is {}", shown(&value));
            self.report(&value, key, text);
        }
        number
    }

    /// Returns a whole number within `allowed` as a count or a size in memory.
    pub(super) fn size(&mut self, key: &str, allowed: RangeInclusive<u64>) -> Option<usize> {
        self.whole(key, allowed).map(|number| usize::try_from(number).unwrap_or(usize::MAX))
    }

    /// Returns a finite number within `allowed`, whole or with a fraction.
    pub(super) fn real(&mut self, key: &str, allowed: RangeInclusive<f64>) -> Option<f64> {
        let value = self.take(key)?;
        let number = match &value.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::I64(number) => Some(*number as f64),
            ValueKind::String(text) if from_environment(&value) => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| allowed.contains(number));
        if number.is_none() {
            let (low, high) = allowed.into_inner();
            let text = format!("must be a number between {low} and {high}, is {}", shown(&value));
            self.report(&value, key, text);
        }
        number
    }

    /// Returns true or false.
    pub(super) fn switch(&mut self, key: &str) -> Option<bool> {
        let value = self.take(key)?;
        let switch = match &value.kind {
            ValueKind::Boolean(switch) => Some(*switch),
            ValueKind::String(text) if from_environment(&value) => text.trim().parse().ok(),
            _ => None,
        };
        if switch.is_none() {
            self.report(&value, key, format!("must be true or false, is {}", shown(&value)));
        }
        switch
    }

    /// Returns a text that `parse` accepts; `allowed` says in words which those are.
    pub(super) fn text<T>(&mut self, key: &str, allowed: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.take(key)?;
        let parsed = match &value.kind {
            ValueKind::String(text) => parse(text),
            _ => None,
        };
        if parsed.is_none() {
            self.report(&value, key, format!("must be {allowed}, is {}", shown(&value)));
        }
        parsed
    }

    /// Returns what `parse` makes of a text; its error is the whole text of the problem, so that a secret stays out of it.
    pub(super) fn parsed<T>(&mut self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let value = self.take(key)?;
        let parsed = match &value.kind {
            ValueKind::String(text) => parse(text),
            _ => Err("must be a text, in quotes".to_owned()),
        };
        parsed.map_err(|text| self.report(&value, key, text)).ok()
    }

    /// Returns a list of texts that `accept` accepts; `allowed` says in words which those are. A variable of the
    /// environment holds them with commas between them.
    pub(super) fn texts(&mut self, key: &str, allowed: &str, accept: impl Fn(&str) -> bool) -> Option<Vec<String>> {
        let value = self.take(key)?;
        let items: Option<Vec<String>> = match &value.kind {
            ValueKind::String(text) if from_environment(&value) => {
                Some(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
            }
            ValueKind::Array(items) => items.iter().map(text_of).collect(),
            _ => None,
        };
        let Some(items) = items else {
            self.report(
                &value,
                key,
                format!("must be a list of texts in brackets, each {allowed}, is {}", shown(&value)),
            );
            return None;
        };
        if items.len() > ITEMS_MAX {
            self.report(&value, key, format!("must be a list of at most {ITEMS_MAX}, has {}", items.len()));
            return None;
        }
        let wrong: Vec<&String> = items.iter().filter(|item| !accept(item)).collect();
        for item in &wrong {
            let item = item.chars().take(SHOWN_CHARS_MAX).collect::<String>();
            self.report(&value, key, format!("each must be {allowed}, one is {item:?}"));
        }
        wrong.is_empty().then_some(items)
    }

    /// Returns a path; a relative one that stands in the file is taken from `base`.
    pub(super) fn path(
        &mut self,
        key: &str,
        base: &Path,
        allowed: &str,
        accept: impl Fn(&str) -> bool,
    ) -> Option<PathBuf> {
        let in_file = self.leaves.get(key).is_some_and(|value| value.origin() == Some(&self.file));
        let path = self.text(key, allowed, |text| accept(text).then(|| PathBuf::from(text)))?;
        Some(if in_file { base.join(path) } else { path })
    }

    /// Returns the keys of a list of sections, such as `ingest.route[0]`.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        if let Some(value) = self.take(key) {
            let text = format!("must be at least one [[{key}]] section, is {}", shown(&value));
            self.report(&value, key, text);
        }
        self.refuse_single(key);
        let open = format!("{key}[");
        let mut items = Vec::new();
        while self.leaves.keys().any(|leaf| below(&format!("{open}{}]", items.len()), leaf)) {
            items.push(format!("{open}{}]", items.len()));
        }
        for item in &items {
            self.section(item);
        }
        items
    }

    /// Returns a text without reading it: whoever owns the key says what is wrong with it.
    pub(super) fn peek(&self, key: &str) -> Option<String> {
        self.leaves.get(key).and_then(text_of)
    }

    /// Accepts all below `key`: what is wrong above it has been reported.
    pub(super) fn accept_all(&mut self, key: &str) {
        let found: Vec<String> = self.leaves.keys().filter(|leaf| below(key, leaf)).cloned().collect();
        self.asked.extend(found);
    }

    /// Reports `text` about `key`, at the place where the key, or the file, is.
    pub(super) fn complain(&mut self, key: &str, text: impl Into<String>) {
        let found = self.leaves.iter().find(|(leaf, _)| below(key, leaf));
        let source = found.and_then(|(_, value)| value.origin()).unwrap_or(&self.file).to_owned();
        self.problems.push(Problem::new(source, key, text));
    }

    /// Ends the reading: returns all problems, among them every key that was not asked for.
    pub(super) fn finish(mut self) -> Vec<Problem> {
        let unknown: Vec<String> = self.leaves.keys().filter(|leaf| !self.asked.contains(*leaf)).cloned().collect();
        for key in unknown {
            let text = match nearest(&key, &self.asked) {
                Some(known) => format!("unknown key; did you mean {known}?"),
                None => "unknown key".to_owned(),
            };
            self.complain(&key, text);
        }
        self.problems
    }

    fn refuse_single(&mut self, key: &str) {
        let open = format!("{key}.");
        let found: Vec<String> = self.leaves.keys().filter(|leaf| leaf.starts_with(&open)).cloned().collect();
        if !found.is_empty() {
            self.complain(key, format!("is a list of sections: write [[{key}]], with double brackets"));
            self.asked.extend(found);
        }
    }

    fn take(&mut self, key: &str) -> Option<Value> {
        self.asked.insert(key.to_owned());
        self.leaves.get(key).cloned()
    }

    fn report(&mut self, value: &Value, key: &str, text: String) {
        self.problems.push(Problem::new(value.origin().unwrap_or(&self.file), key, text));
    }
}

/// Puts the leaves of a tree beside their full keys. An empty section, and a list of plain values, are leaves.
fn flatten(key: String, value: Value, leaves: &mut BTreeMap<String, Value>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            for (name, inner) in table {
                flatten(format!("{key}.{name}"), inner, leaves);
            }
        }
        ValueKind::Array(items) if items.iter().any(|item| matches!(item.kind, ValueKind::Table(_))) => {
            for (index, item) in items.into_iter().enumerate() {
                flatten(format!("{key}[{index}]"), item, leaves);
            }
        }
        _ => {
            leaves.insert(key, value);
        }
    }
}

fn below(key: &str, leaf: &str) -> bool {
    leaf.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn from_environment(value: &Value) -> bool {
    value.origin().is_some_and(|origin| origin.starts_with(ENVIRONMENT))
}

fn text_of(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("{:?}", text.chars().take(SHOWN_CHARS_MAX).collect::<String>()),
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(items) if items.is_empty() => "an empty list".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    }
}

/// Returns the known key that an unknown one was probably meant to be: one or two letters off, or in another section.
fn nearest<'a>(unknown: &str, known: &'a BTreeSet<String>) -> Option<&'a String> {
    let name = unknown.rsplit('.').next();
    known
        .iter()
        .map(|key| (distance(unknown, key), key))
        .filter(|(distance, key)| *distance <= 2 || name == key.rsplit('.').next())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, key)| key)
}

/// Counts the letters to insert, drop or change between two keys (Levenshtein).
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, letter) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = above + 1;
        for (column, other) in right.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = change.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
