//! The values now, a card for each, and the health in one line above them.
//!
//! Owns the order of sources and the ids of values: by kind, then by topic, since which source was heard last changes with
//! every reading, and an id must not.

use maud::{Markup, html};

use super::{HealthPart, View, frame, words};
use crate::almanac::{Now, NowValue, SourceNow};
use crate::reading::Kind;
use crate::weather::quantity::Observed;

/// Issues that the front page tells.
const ISSUES_MAX: usize = 3;

/// Returns the sources in the order in which they are shown.
pub(super) fn ordered(now: &Now) -> Vec<&SourceNow> {
    let mut sources: Vec<&SourceNow> = now.sources.iter().collect();
    sources.sort_by_key(|source| (source.kind == Kind::Magnetic, &source.name));
    sources
}

/// Returns the id of a value's element.
pub(super) fn id(source: usize, quantity: Observed) -> String {
    format!("v-{source}-{}", quantity.name())
}

/// Returns the values of all sources.
pub(super) fn section(view: &View, now: &Now) -> Markup {
    html! {
        div #cards {
            @for (index, source) in ordered(now).into_iter().enumerate() { (of_source(view, index, source)) }
            @if now.sources.is_empty() {
                p.notice { "No readings yet. A sensor that publishes on a station topic appears here by itself." }
            }
        }
    }
}

fn of_source(view: &View, index: usize, source: &SourceNow) -> Markup {
    let heading = format!("source-{index}");
    let title = match source.kind {
        Kind::Weather => "Weather",
        Kind::Magnetic => "Magnetic field",
    };
    html! {
        section.source aria-labelledby=(heading) data-source=(source.name) {
            div.source-head {
                h2 id=(heading) { (title) " " span.topic { (words::topic(&source.name)) } }
                p.mark.stale.whole hidden[!source.is_stale] {
                    (triangle()) "silent for longer than usual: these values are old"
                }
            }
            @if source.values.is_empty() { p.notice { "Its last reading has no value that can be shown." } }
            ul.cards {
                @for value in &source.values { (card(view, index, source, value)) }
            }
        }
    }
}

fn card(view: &View, index: usize, source: &SourceNow, value: &NowValue) -> Markup {
    let unit = view.units.of(value.quantity.dimension());
    let (age_s, number) = (view.now_s.saturating_sub(source.last_s), words::value(unit, value));
    html! {
        li.card.old[source.is_stale] {
            h3 { (label(value.quantity)) @if let Some(how) = how(value.quantity) { " " span.how { (how) } } }
            div.figure {
                p.reading.long[number.chars().count() > 6] id=(id(index, value.quantity)) {
                    span.number { (number) } " " span.unit { (unit.symbol) }
                }
                @if value.quantity == Observed::WindDirection { (compass(value)) }
            }
            p.note hidden[value.note.is_none()] { (value.note.as_deref().unwrap_or_default()) }
            @let today = words::today(unit, value);
            p.today hidden[today.is_none()] { "today " span { (today.unwrap_or_default()) } }
            p.mark.doubtful hidden[!value.is_doubtful] { (diamond()) "doubtful: a counter went back or jumped" }
            p.foot {
                time.age datetime=(words::machine(view, source.last_s)) data-age=(age_s) { (words::ago(age_s)) }
                " "
                span.mark.stale hidden[!source.is_stale] { (triangle()) "stale" }
            }
        }
    }
}

fn label(quantity: Observed) -> &'static str {
    match quantity {
        // Their kind of reading stands above them.
        Observed::FluxX => "x",
        Observed::FluxY => "y",
        Observed::FluxZ => "z",
        Observed::FluxMagnitude => "Magnitude",
        Observed::FluxInclination => "Inclination",
        Observed::FluxDeclination => "Declination",
        Observed::PressureTendency => "Pressure tendency",
        _ => quantity.label(),
    }
}

/// Returns over which time the almanac takes a value, where that is not the last reading.
fn how(quantity: Observed) -> Option<&'static str> {
    match quantity {
        Observed::WindSpeed | Observed::WindDirection => Some("10 min mean"),
        Observed::WindGust => Some("10 min max."),
        Observed::RainRate => Some("over 10 min"),
        Observed::Rain | Observed::SolarEnergy => Some("today"),
        Observed::PressureTendency => Some("3 h"),
        _ => None,
    }
}

/// Returns an arrow that flies with the wind.
fn compass(value: &NowValue) -> Markup {
    let degrees = format!("{:.0}", value.value);
    let words = match &value.note {
        Some(note) => format!("Wind from {note}"),
        None => format!("Wind from {degrees} degrees"),
    };
    html! {
        svg.compass viewBox="0 0 40 40" width="40" height="40" role="img" aria-label=(words) {
            circle cx="20" cy="20" r="17.5" {}
            path.ticks d="M20 2.5v4M20 33.5v4M2.5 20h4M33.5 20h4" {}
            path.needle d="M20 8v16m0 8-5.5-10L20 24.5 25.5 22Z" transform=(format!("rotate({degrees} 20 20)")) {}
        }
    }
}

/// Returns the sign of what is old.
pub(super) fn triangle() -> Markup {
    sign("M6 .8 11.7 11.2H.3Z")
}

/// Returns the sign of what is doubtful.
pub(super) fn diamond() -> Markup {
    sign("M6 .3 11.7 6 6 11.7.3 6Z")
}

fn sign(path: &str) -> Markup {
    html! { svg.sign viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { path d=(path) {} } }
}

/// Returns the verdict in words; `live.js` has the same.
pub(super) fn verdict_words(status: &str, issues: usize) -> String {
    let many = words::things(issues, "issue", "issues");
    match status {
        "ok" => "The hub is well".to_owned(),
        "failing" => format!("The hub is failing: {many}"),
        _ => format!("The hub is degraded: {many}"),
    }
}

/// Returns the class of a verdict.
pub(super) fn verdict_class(status: &str) -> &'static str {
    match status {
        "ok" => "ok",
        "failing" => "failing",
        _ => "degraded",
    }
}

/// Returns the health in one line, and the worst that is wrong.
pub(super) fn verdict(view: &View, health: &HealthPart) -> Markup {
    let (class, issues) = (verdict_class(&health.status), health.issues.len());
    html! {
        div #verdict .verdict .(class) data-status=(health.status) data-issues=(issues) {
            p role="status" {
                span.dot aria-hidden="true" {}
                span #verdict-words { (verdict_words(&health.status, issues)) }
            }
            " " a href=(frame::href(view, "/health", None)) { "Details" }
            @if issues > 0 {
                ul #verdict-issues {
                    @for issue in health.issues.iter().take(ISSUES_MAX) { li { (issue) } }
                    @if issues > ISSUES_MAX { li { "and " (issues - ISSUES_MAX) " more" } }
                }
            }
        }
    }
}
