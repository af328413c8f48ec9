//! The page of extremes: for each period the lowest and the highest of each quantity, and when.
//!
//! Owns how exactly a time is told: a day's extremes by the hour, longer ones by the day, as the almanac knows them.

use maud::{Markup, html};

use super::{View, words};
use crate::almanac::{Extreme, Extremes, Period};

/// Returns the page's content.
pub(super) fn body(view: &View, periods: &[Extremes]) -> Markup {
    html! {
        div.headline {
            h1 { "Extremes" }
            p.asof { "as of " (words::clock(view, view.now_s)) " " (words::zone(view)) }
        }
        p.lead { "The time beside a value is the hour of the day in which it was; in longer periods, the day." }
        div.periods { @for extremes in periods { (period(view, extremes)) } }
    }
}

fn period(view: &View, extremes: &Extremes) -> Markup {
    let id = extremes.period.name();
    let (sums, others): (Vec<&Extreme>, Vec<&Extreme>) =
        extremes.extremes.iter().partition(|extreme| extreme.total.is_some());
    html! {
        section.period aria-labelledby=(id) {
            h2 id=(id) { (title(extremes.period)) " " span.topic { (span(view, extremes)) } }
            @if extremes.is_partial { p.notice { "Not all readings are summarised yet: look again in some minutes." } }
            @if extremes.extremes.is_empty() { p.notice { "There are no readings in this time." } }
            @if !others.is_empty() { (table(view, extremes, &others)) }
            @if !sums.is_empty() { (totals(view, extremes, &sums)) }
        }
    }
}

fn title(period: Period) -> &'static str {
    match period {
        Period::Day => "Day",
        Period::Month => "Month",
        Period::Year => "Year",
        Period::All => "All time",
    }
}

fn span(view: &View, extremes: &Extremes) -> Markup {
    let from_s = extremes.range.from_s;
    html! {
        @match extremes.period {
            Period::Day => (words::time(view, from_s, "%A, %-d %B %Y")),
            Period::Month => (words::time(view, from_s, "%B %Y")),
            Period::Year => (words::time(view, from_s, "%Y")),
            Period::All => { "since " (words::time(view, from_s, "%-d %B %Y")) },
        }
    }
}

fn table(view: &View, extremes: &Extremes, rows: &[&Extreme]) -> Markup {
    let caption = format!("{}: lowest and highest", title(extremes.period));
    html! {
        div.scroll role="region" tabindex="0" aria-label=(caption) {
            table {
                thead { tr { th scope="col" { "Quantity" } th scope="col" { "Lowest" } th scope="col" { "Highest" } } }
                tbody {
                    @for extreme in rows {
                        tr {
                            th scope="row" { (name(extremes, extreme)) }
                            td {
                                @if let Some(lowest) = extreme.lowest { (told(view, extremes.period, extreme, lowest)) }
                            }
                            td { (told(view, extremes.period, extreme, extreme.highest)) }
                        }
                    }
                }
            }
        }
    }
}

fn totals(view: &View, extremes: &Extremes, rows: &[&Extreme]) -> Markup {
    let most = if extremes.period == Period::Day { "In one hour" } else { "In one day" };
    html! {
        div.scroll role="region" tabindex="0" aria-label=(format!("{}: sums", title(extremes.period))) {
            table {
                thead { tr { th scope="col" { "Sum" } th scope="col" { "Total" } th scope="col" { (most) } } }
                tbody {
                    @for extreme in rows {
                        tr {
                            th scope="row" { (name(extremes, extreme)) }
                            td { @if let Some(total) = extreme.total { (quantity(view, extreme, total)) } }
                            td { (told(view, extremes.period, extreme, extreme.highest)) }
                        }
                    }
                }
            }
        }
    }
}

/// Returns what an extreme is of; whose, where several sources have it.
fn name(extremes: &Extremes, extreme: &Extreme) -> Markup {
    let is_shared = extremes.extremes.iter().filter(|other| other.quantity == extreme.quantity).nth(1).is_some();
    html! {
        (extreme.quantity.label())
        @if is_shared { " " span.topic { (words::topic(&extreme.source)) } }
    }
}

fn quantity(view: &View, extreme: &Extreme, value: f64) -> Markup {
    let unit = view.units.of(extreme.quantity.dimension());
    html! { span.amount { (words::number(unit, value)) "\u{a0}" (unit.symbol) } }
}

fn told(view: &View, period: Period, extreme: &Extreme, (value, time_s): (f64, i64)) -> Markup {
    html! {
        (quantity(view, extreme, value)) " "
        span.when {
            @match period {
                Period::Day => {
                    time datetime=(words::machine(view, time_s)) {
                        (words::local(view, time_s, "%H:%M")) "\u{2013}"
                        (words::local(view, time_s.saturating_add(3_600), "%H:%M"))
                    }
                },
                Period::Month | Period::Year => (words::time(view, time_s, "%-d %b")),
                Period::All => (words::time(view, time_s, "%-d %b %Y")),
            }
        }
    }
}
