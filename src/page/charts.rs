//! The charts' section: which range, the charts, the gaps in words.
//!
//! Owns the choice of the range and how often its charts are worth fetching again. It draws nothing.

use maud::{Markup, PreEscaped, html};

use super::{Active, ChartsPart, View, frame, words};
use crate::almanac::range::{Quick, Range, moment};

/// Charts of up to this length are fetched again each minute, seconds; longer ones each ten minutes.
const SHORT_S_MAX: i64 = 86_400;

/// Returns the section.
pub(super) fn section(view: &View, charts: &ChartsPart) -> Markup {
    html! {
        section #charts aria-labelledby="charts-title" data-refresh=(refresh_s(view, &charts.active)) {
            h2 #charts-title { "Charts" }
            div.ranges {
                (quick_ranges(view, &charts.active))
                (own_range(view, &charts.active))
            }
            div #charts-body {
                @if let Some(note) = &charts.note { p.notice { (note) } }
                @if charts.svgs.is_empty() && charts.note.is_none() {
                    p.notice { "There are no readings in this time." }
                }
                div.plots {
                    @for (title, svg) in &charts.svgs {
                        div.plot { h3.unseen { (title) } (PreEscaped(svg)) }
                    }
                }
                @if !charts.gaps.is_empty() {
                    details #chart-gaps {
                        summary { (words::things(charts.gaps.len(), "gap", "gaps")) " in this time" }
                        ul { @for gap in &charts.gaps { li { (gap) } } }
                    }
                }
            }
        }
    }
}

fn quick_ranges(view: &View, active: &Active) -> Markup {
    html! {
        nav.choice aria-label="Range of the charts" {
            ul {
                @for quick in Quick::ALL {
                    @let one = Active::Quick(quick);
                    @let current = (one == *active).then_some("true");
                    li { a href=(frame::href(view, "/", Some(&one))) aria-current=[current] { (quick.label()) } }
                }
            }
        }
    }
}

fn own_range(view: &View, active: &Active) -> Markup {
    let typed = |time_s: i64| words::local(view, time_s, "%Y-%m-%dT%H:%M");
    let (from, to) = match active {
        // Of the forms of a time, an input of a browser knows one.
        Active::Custom { from, to } => {
            let known = |text: &str| moment(text, view.zone).map(typed).unwrap_or_default();
            (known(from), known(to))
        }
        Active::Quick(quick) => {
            let from = quick.span_s().map(|span_s| typed(view.now_s.saturating_sub(span_s)));
            (from.unwrap_or_default(), typed(view.now_s))
        }
    };
    let is_own = matches!(active, Active::Custom { .. });
    html! {
        form.own.current[is_own] method="get" action="/" aria-label="A range of your own, in the station's local time" {
            label { "From " input type="datetime-local" name="from" value=(from) required; }
            label { "to " input type="datetime-local" name="to" value=(to) required; }
            input type="hidden" name="units" value=(view.units.name());
            button type="submit" { "Show" }
        }
    }
}

fn refresh_s(view: &View, active: &Active) -> u32 {
    let span_s = match active {
        Active::Quick(quick) => quick.span_s(),
        Active::Custom { from, to } => {
            let ends = moment(from, view.zone).and_then(|from_s| Ok(Range::between(from_s, moment(to, view.zone)?)));
            ends.ok().map(Range::span_s)
        }
    };
    if span_s.is_some_and(|span_s| span_s <= SHORT_S_MAX) { 60 } else { 600 }
}
