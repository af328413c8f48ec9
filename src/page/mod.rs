//! The web page: what the hub knows, as HTML text.
//!
//! Owns the pages' words and looks: the front page with its values and charts, the extremes, the health, the stylesheet and
//! the script that keeps the values fresh. Pure: data in, text out. It never opens a socket or a database, never reads a clock,
//! and never trusts a name that a sensor chose: `maud` escapes every text but the charts, which `chart` has made.
//!
//! The pages stand under a strict Content-Security-Policy: no style attribute, no script and no handler inside the HTML. They
//! work without the script, by links and one form.

mod cards;
mod charts;
mod extremes;
mod frame;
mod gaps;
mod health;
mod journal;
mod live;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
mod words;

use jiff::tz::TimeZone;
use maud::html;

use crate::almanac::range::Quick;
use crate::almanac::{Extremes, Now};
use crate::health::Report;
use crate::store::{Event, GapReport};
use crate::weather::units::Units;

use self::frame::{Frame, Place};

/// The stylesheet, for `/style.css`; the charts' own is to follow it.
pub const STYLE: &str = include_str!("style.css");
/// The script, for `/live.js`; the front page alone loads it.
pub const SCRIPT: &str = include_str!("live.js");
/// The icon, an SVG, for `/favicon.svg`.
pub const FAVICON: &str = include_str!("favicon.svg");

/// How a page is to be seen.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The station's name.
    pub station: &'a str,
    /// In which units.
    pub units: Units,
    /// In whose local time.
    pub zone: &'a TimeZone,
    /// The present, Unix seconds.
    pub now_s: i64,
}

/// Which range the charts show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Active {
    /// One that is offered by name.
    Quick(Quick),
    /// One of the visitor's own: both ends as typed, which is local time such as `2026-03-01T12:00`.
    Custom {
        /// From when.
        from: String,
        /// Until when.
        to: String,
    },
}

/// The charts of a page.
#[derive(Clone, Debug)]
pub struct ChartsPart {
    /// Their range.
    pub active: Active,
    /// Each chart: its title, and its SVG element, which is not escaped.
    pub svgs: Vec<(String, String)>,
    /// What is to be known about all of them.
    pub note: Option<String>,
    /// The gaps in them, in words.
    pub gaps: Vec<String>,
}

/// What the front page says of the hub's health.
#[derive(Clone, Debug)]
pub struct HealthPart {
    /// `ok`, `degraded` or `failing`.
    pub status: String,
    /// What is wrong, worst first.
    pub issues: Vec<String>,
}

/// Returns the front page: the values now, the health in one line, the charts.
pub fn now_page(view: &View, now: &Now, charts: &ChartsPart, health: &HealthPart) -> String {
    let body = html! {
        div.headline {
            h1 { "Weather now" }
            p.asof { "as of " (words::clock(view, now.at_s)) " " (words::zone(view)) }
            p #live .live hidden role="status" {}
        }
        noscript { p.notice { "Without JavaScript the values below do not update by themselves: reload the page." } }
        (cards::verdict(view, health))
        (cards::section(view, now))
        (charts::section(view, charts))
    };
    frame::document(view, &Frame { title: "Now", place: Some(Place::Now), active: Some(&charts.active) }, &body)
}

/// Returns the page of lowest and highest values, each period by itself.
pub fn extremes_page(view: &View, periods: &[Extremes]) -> String {
    frame::document(
        view,
        &Frame { title: "Extremes", place: Some(Place::Extremes), active: None },
        &extremes::body(view, periods),
    )
}

/// Returns the health page; `events` in any order, of which those that nobody has acknowledged come first.
pub fn health_page(view: &View, report: &Report, events: &[Event], gaps: &GapReport) -> String {
    let body = html! {
        (health::body(view, report))
        (journal::section(view, events))
        (gaps::section(view, gaps))
    };
    frame::document(view, &Frame { title: "Health", place: Some(Place::Health), active: None }, &body)
}

/// Returns the charts' section alone, for `/charts`.
pub fn charts_fragment(view: &View, charts: &ChartsPart) -> String {
    charts::section(view, charts).into_string()
}

/// Returns the values' section alone, for `/cards`.
pub fn cards_fragment(view: &View, now: &Now) -> String {
    cards::section(view, now).into_string()
}

/// Returns a page that says why there is no other.
pub fn error_page(view: &View, status: u16, text: &str) -> String {
    let title = match status {
        400 => "That cannot be asked",
        401 | 403 => "Not allowed",
        404 => "Not found",
        503 => "Not now",
        _ => "Something went wrong",
    };
    let body = html! {
        div.headline { h1 { (title) } p.asof { "status " (status) } }
        p { (text) }
        p { a href=(frame::href(view, "/", None)) { "Back to the weather now" } }
    };
    frame::document(view, &Frame { title, place: None, active: None }, &body)
}

/// Returns what a server-sent event carries; `health_words` is `ok`, `degraded` or `failing`.
pub fn live_json(view: &View, now: &Now, health_words: &str, issues: usize) -> String {
    live::json(view, now, health_words, issues)
}
