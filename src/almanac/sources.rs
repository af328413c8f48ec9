//! Where readings come from: each source with its last reading.
//!
//! Owns which source is meant where nobody says, and what becomes of rows without one.

use super::AlmanacError;
use super::Open;
use super::range::{Quick, Range, Wanted};
use crate::reading::Kind;
use crate::store::rollup::Days;

/// Both kinds of reading, in the order in which they are shown.
pub(super) const KINDS: [Kind; 2] = [Kind::Weather, Kind::Magnetic];
/// The name of rows that were there before sources had names.
const UNNAMED: &str = "(before the hub)";

/// A source of readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// Its topic.
    pub name: String,
    /// What it sends.
    pub kind: Kind,
    /// The time of its last reading, Unix seconds.
    pub last_s: i64,
    /// The usual time between its readings, seconds, where it is known.
    pub usual_s: Option<f64>,
    /// The values of its last reading, raw, in the order of the kind's quantities.
    pub(super) last: Vec<Option<f64>>,
    /// Its number in the database.
    pub(super) id: i64,
    /// Whether rows without a source are taken for its own: it is the first of its kind.
    pub(super) takes_unnamed: bool,
}

impl Source {
    /// Returns how long it may say nothing before that is a gap, seconds, where its rhythm is known.
    pub(super) fn patience_s(&self) -> Option<f64> {
        self.usual_s.map(patience_s)
    }

    /// Returns the numbers in the database under which its rows are.
    pub(super) fn ids(&self) -> Vec<i64> {
        if self.takes_unnamed && self.id != 0 { vec![0, self.id] } else { vec![self.id] }
    }
}

impl Open<'_> {
    /// Returns the sources of readings, those heard last first.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn sources(&self) -> Result<Vec<Source>, AlmanacError> {
        let named = self.reader.sources()?;
        let mut sources = Vec::new();
        for kind in KINDS {
            let latest = self.reader.latest(kind)?;
            let first = latest.iter().map(|raw| raw.source).filter(|id| *id != 0).min();
            for raw in latest {
                if raw.source == 0 && first.is_some() {
                    continue;
                }
                let known = named.iter().find(|named| named.id == raw.source);
                sources.push(Source {
                    name: known.map_or_else(|| UNNAMED.to_owned(), |named| named.topic.clone()),
                    kind,
                    last_s: raw.time_s,
                    usual_s: known.and_then(|named| named.usual_s),
                    last: raw.values,
                    id: raw.source,
                    takes_unnamed: first.is_none_or(|first| first == raw.source),
                });
            }
        }
        sources.sort_by_key(|source| std::cmp::Reverse(source.last_s));
        Ok(sources)
    }

    /// Returns the first and the last time of which there are readings, Unix seconds.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn reach(&self) -> Result<Option<(i64, i64)>, AlmanacError> {
        let mut reach: Option<(i64, i64)> = None;
        for source in self.sources()? {
            let mut first_s = source.last_s;
            for id in source.ids() {
                first_s = self.reader.first_s(source.kind, id)?.map_or(first_s, |first| first.min(first_s));
            }
            let (from_s, to_s) = reach.unwrap_or((first_s, source.last_s));
            reach = Some((from_s.min(first_s), to_s.max(source.last_s)));
        }
        Ok(reach)
    }

    /// Returns the time that is asked for.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub fn range(&self, wanted: Wanted) -> Result<Range, AlmanacError> {
        match wanted {
            Wanted::Range(range) => Ok(range),
            Wanted::Quick(Quick::All) => Ok(Range::quick(Quick::All, self.now_s, self.reach()?)),
            Wanted::Quick(quick) => Ok(Range::quick(quick, self.now_s, None)),
        }
    }

    pub(super) fn days(&self) -> &Days {
        &self.terms.days
    }
}

/// Returns the source of a kind that is meant: the named one, or the one that was heard last.
pub(super) fn meant<'s>(sources: &'s [Source], kind: Kind, name: Option<&str>) -> Option<&'s Source> {
    sources.iter().find(|source| source.kind == kind && name.is_none_or(|name| source.name == name))
}

/// Returns how long a source that sends every `usual_s` seconds may say nothing: three times that, and 10 s.
pub(super) fn patience_s(usual_s: f64) -> f64 {
    usual_s * 3.0 + 10.0
}
