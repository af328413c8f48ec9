//! The health page: the verdict, what is wrong, the sources, the store and what waits.
//!
//! Owns how a report reads. It judges nothing: `health` did.

use maud::{Markup, html};

use super::{View, cards, words};
use crate::health::Report;
use crate::health::checks::{Issue, Severity};
use crate::health::silence::SourceReport;
use crate::store::Stage;

/// Returns the page's content about the hub itself.
pub(super) fn body(view: &View, report: &Report) -> Markup {
    let status = report.status.word();
    html! {
        div.headline {
            h1 { "Health" }
            p.asof { "as of " (words::clock(view, view.now_s)) " " (words::zone(view)) }
        }
        div .verdict .(cards::verdict_class(status)) {
            p { span.dot aria-hidden="true" {} (cards::verdict_words(status, report.issues.len())) }
            p.asof { "version " (report.version) ", up for " (words::span(report.uptime_s)) }
        }
        @if !report.issues.is_empty() { (issues(&report.issues)) }
        (sources(view, report))
        section aria-labelledby="figures" {
            h2 #figures { "Store and machine" }
            dl.facts { (store_facts(view, report)) (machine_facts(report)) }
        }
    }
}

fn issues(issues: &[Issue]) -> Markup {
    let mut worst_first: Vec<&Issue> = issues.iter().collect();
    worst_first.sort_by_key(|issue| issue.severity);
    html! {
        section aria-labelledby="issues" {
            h2 #issues { "What is wrong, and what to do" }
            ol.issues {
                @for issue in worst_first {
                    @let word = if issue.severity == Severity::Failing { "failing" } else { "degraded" };
                    li .(word) {
                        p.issue-head { span.dot aria-hidden="true" {} strong { (word) } " " code { (issue.id) } }
                        p { (issue.text) }
                    }
                }
            }
        }
    }
}

fn sources(view: &View, report: &Report) -> Markup {
    html! {
        section aria-labelledby="sources" {
            h2 #sources { "Sources" }
            @if report.sources.is_empty() {
                p.notice { "No source is known yet." }
            } @else {
                div.scroll role="region" tabindex="0" aria-label="Table of sources" {
                    table.sources {
                        thead { tr {
                            th scope="col" { "Source" } th scope="col" { "State" } th scope="col" { "Last reading" }
                            th scope="col" { "Rhythm" } th scope="col" { "May be silent" }
                        } }
                        tbody { @for source in &report.sources { (source_row(view, source)) } }
                    }
                }
            }
            @if report.sources_known > report.sources.len() {
                p { "and " (report.sources_known - report.sources.len()) " more" }
            }
        }
    }
}

fn source_row(view: &View, source: &SourceReport) -> Markup {
    let is_silent = source.silence_s_max.is_some_and(|max| source.silent_s >= max);
    html! {
        tr {
            th scope="row" { (words::topic(&source.source)) }
            td {
                @if is_silent { span.mark.stale { (cards::triangle()) "silent" } }
                @else if source.last_ms.is_none() { "awaited" }
                @else { "heard" }
            }
            td {
                @match source.last_ms {
                    Some(ms) => (words::age(view, ms.div_euclid(1_000))),
                    None => { "none since the start, " (words::span(source.silent_s)) " ago" },
                }
            }
            td { @match source.usual_s { Some(usual_s) => { "every " (rhythm(usual_s)) }, None => "none known" } }
            td { @match source.silence_s_max { Some(max) => (words::span(max)), None => "for ever" } }
        }
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a time between readings, not below nothing"
)]
fn rhythm(usual_s: f64) -> String {
    if usual_s < 10.0 { format!("{usual_s:.1} s") } else { words::span(usual_s.round() as u64) }
}

fn fact(label: &str, value: &Markup) -> Markup {
    html! { div { dt { (label) } dd { (value) } } }
}

fn store_facts(view: &View, report: &Report) -> Markup {
    let figures = &report.figures;
    let last_commit = html! {
        @if figures.last_commit_ms > 0 { (words::age(view, figures.last_commit_ms.div_euclid(1_000))) }
        @else { "none since the start" }
    };
    html! {
        div.broad[report.bridge.is_some()] { dt { "Waiting for the upstream" } dd { (outbox(report)) } }
        (fact("Waiting for the database", &html! {
            (words::grouped(figures.queue_jobs)) " readings, " (words::size(figures.queue_bytes))
        }))
        (fact("Disk free", &html! {
            (known(report.disk_free_bytes.map(words::size)))
            @match report.room.stage {
                Stage::Ample => {},
                Stage::Tight => ", tight: what can be spared is dropped",
                Stage::Out => ", out: readings wait for room",
            }
        }))
        (fact("Disk full", &html! {
            @match report.disk_full_in_s { Some(seconds) => { "in " (words::span(seconds)) }, None => "not in sight" }
        }))
        (fact("Database", &html! { (words::size(report.database_bytes)) }))
        (fact("Write-ahead log", &html! { (words::size(report.wal_bytes)) }))
        (fact("Last commit", &last_commit))
        (fact("Readings since the start", &html! {
            (words::grouped(figures.readings)) " stored, " (words::grouped(figures.quarantined)) " in quarantine, "
            (words::grouped(figures.lost)) " lost"
        }))
        (fact("Last backup", &backup(view, report)))
        (fact("Written to the disk", &html! {
            (words::size(report.written.today_bytes)) " today (UTC)"
            @if let Some(bytes) = report.written.per_day_bytes { ", " (words::size(bytes)) " a day" }
        }))
    }
}

fn outbox(report: &Report) -> Markup {
    let Some(bridge) = &report.bridge else { return html! { "no upstream" } };
    html! {
        (words::grouped(bridge.backlog.messages)) " messages, " (words::size(bridge.backlog.bytes))
        @if let Some(oldest_s) = bridge.oldest_age_s { ", the oldest for " (words::span(oldest_s)) }
        "; " @if bridge.standing.connected { "connected" } @else { "not connected" }
        " to " (bridge.upstream) " for " (words::span(bridge.standing_s))
    }
}

fn backup(view: &View, report: &Report) -> Markup {
    let Some(backup) = &report.backup else { return html! { "the hub makes none by itself" } };
    html! {
        @match backup.last_ms { Some(ms) => (words::moment(view, ms.div_euclid(1_000))), None => "none yet" }
        @if backup.is_running { ", one is being made" }
        ", one every " (words::span(backup.every_s))
        @if let Some(error) = &backup.error { ", the last attempt failed: " (error) }
    }
}

fn machine_facts(report: &Report) -> Markup {
    let memory = report.memory;
    html! {
        (fact("Memory", &html! {
            (known(memory.resident_bytes.map(words::size)))
            @if let Some(bound) = memory.bound_bytes { " of " (words::size(bound)) }
        }))
        (fact("Clock", &html! {
            @match report.clock_synchronised {
                Some(true) => "synchronised",
                Some(false) => "not synchronised",
                None => "the system does not say",
            }
        }))
        (fact("Broker", &html! {
            @match report.broker_round_trip_us {
                Some(us) => { "answers in " (words::grouped(us)) " \u{b5}s, " (report.figures.clients) " clients" },
                None => "does not answer",
            }
        }))
    }
}

fn known(text: Option<String>) -> String {
    text.unwrap_or_else(|| "unknown".to_owned())
}
