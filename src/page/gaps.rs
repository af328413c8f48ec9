//! The gaps on the health page: of each source what is missing, and why.
//!
//! Owns how many gaps are listed, and their order.

use maud::{Markup, html};

use super::{View, words};
use crate::gaps::{Cause, Gap, cause_in_words};
use crate::store::{GapReport, SourceGaps};

/// Gaps that are listed of each source, the newest.
const LISTED_MAX: usize = 50;
const CAUSES: [Cause; 5] = [Cause::HubDown, Cause::QueueOverflow, Cause::Rejected, Cause::SensorSilent, Cause::Unknown];

/// Returns the section.
pub(super) fn section(view: &View, report: &GapReport) -> Markup {
    html! {
        section aria-labelledby="gaps" {
            h2 #gaps { "Gaps" }
            p.lead {
                "Readings stored and missing from " (words::moment(view, report.from_ms.div_euclid(1_000)))
                " to " (words::moment(view, report.to_ms.div_euclid(1_000))) "."
            }
            @if !report.is_counted { p.notice { "Readings that were here before are still being counted." } }
            @if report.sources.is_empty() { p.notice { "No source has readings." } }
            div.gap-sources {
                @for (index, source) in report.sources.iter().enumerate() { (of_source(view, index, source)) }
            }
        }
    }
}

fn of_source(view: &View, index: usize, source: &SourceGaps) -> Markup {
    let heading = format!("gaps-{index}");
    html! {
        section.gap-source aria-labelledby=(heading) {
            h3 id=(heading) { (words::topic(&source.source)) }
            p {
                (words::count(source.stored)) " of " (words::count(source.expected)) " readings stored"
                @if let Some(percent) = percent(source) { " (" (percent) " %)" }
                ", " (words::count(source.missing)) " missing in " (words::things(source.gap_count, "gap", "gaps")) "."
            }
            @if !source.gaps.is_empty() {
                ul.causes { @for (cause, missing) in by_cause(&source.gaps) {
                    li { (words::count(missing)) " missing: " (cause_in_words(cause)) }
                } }
                details {
                    summary { "The newest gaps" span.unseen { " of " (source.source) } }
                    ul { @for gap in source.gaps.iter().rev().take(LISTED_MAX) { (listed(view, gap)) } }
                    @let more = source.gap_count.saturating_sub(LISTED_MAX.min(source.gaps.len()));
                    @if more > 0 {
                        p { "and " (more) " more: " code { "stationhub gaps" } }
                    }
                }
            }
        }
    }
}

/// Returns how much is stored, rounded down, so that not all is never 100 %.
#[allow(clippy::cast_precision_loss, reason = "shown with two digits")]
fn percent(source: &SourceGaps) -> Option<String> {
    let share = source.stored as f64 / (source.expected > 0).then_some(source.expected)? as f64;
    Some(format!("{:.2}", (share * 10_000.0).floor() / 100.0))
}

/// Returns how many readings each cause took, as far as gaps are listed.
fn by_cause(gaps: &[Gap]) -> Vec<(Cause, i64)> {
    let missing = |cause| gaps.iter().filter(|gap| gap.cause == cause).map(|gap| gap.missing).sum();
    CAUSES.into_iter().map(|cause| (cause, missing(cause))).filter(|(_, missing)| *missing > 0).collect()
}

fn listed(view: &View, gap: &Gap) -> Markup {
    html! {
        li {
            (words::moment(view, gap.from_ms.div_euclid(1_000))) " to "
            (words::moment(view, gap.to_ms.div_euclid(1_000))) ": "
            (words::count(gap.missing)) " missing" @if gap.scattered { ", here and there" } ", " (cause_in_words(gap.cause))
        }
    }
}
