//! What a server-sent event carries to `live.js`.
//!
//! Owns its form: the same words as the cards have, by the same ids.

use serde::Serialize;

use super::{View, cards, words};
use crate::almanac::Now;

#[derive(Serialize)]
struct Live<'a> {
    at: String,
    at_s: i64,
    /// The topics, in the order of the ids.
    sources: Vec<&'a str>,
    values: Vec<Value<'a>>,
    status: &'a str,
    issues: usize,
}

#[derive(Serialize)]
struct Value<'a> {
    id: String,
    text: String,
    unit: &'static str,
    age_s: i64,
    stale: bool,
    doubtful: bool,
    note: Option<&'a str>,
    today: Option<String>,
}

/// Returns it as JSON, in one line.
pub(super) fn json(view: &View, now: &Now, status: &str, issues: usize) -> String {
    let sources = cards::ordered(now);
    let values = sources.iter().enumerate().flat_map(|(index, source)| {
        source.values.iter().map(move |value| {
            let unit = view.units.of(value.quantity.dimension());
            Value {
                id: cards::id(index, value.quantity),
                text: words::value(unit, value),
                unit: unit.symbol,
                age_s: view.now_s.saturating_sub(source.last_s),
                stale: source.is_stale,
                doubtful: value.is_doubtful,
                note: value.note.as_deref(),
                today: words::today(unit, value),
            }
        })
    });
    let live = Live {
        at: words::local(view, now.at_s, "%H:%M:%S"),
        at_s: now.at_s,
        values: values.collect(),
        sources: sources.iter().map(|source| source.name.as_str()).collect(),
        status,
        issues,
    };
    // Strings, numbers and lists always become JSON.
    serde_json::to_string(&live).unwrap_or_default()
}
