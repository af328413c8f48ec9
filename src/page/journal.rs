//! The events on the health page: what happened to the hub that its owner should know of.
//!
//! Owns their order there, and how many are shown. It acknowledges nothing: the page only says how.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{View, words};
use crate::store::Event;

/// Events that are shown.
const SHOWN_MAX: usize = 50;

/// Returns the section, those that nobody has acknowledged first, then the newest.
pub(super) fn section(view: &View, events: &[Event]) -> Markup {
    let mut sorted: Vec<&Event> = events.iter().collect();
    sorted.sort_by_key(|event| (event.acknowledged_ms.is_some(), Reverse(event.id)));
    let open: Vec<i64> = sorted.iter().filter(|event| event.acknowledged_ms.is_none()).map(|event| event.id).collect();
    html! {
        section aria-labelledby="events" {
            h2 #events { "Events" }
            @if sorted.is_empty() { p.notice { "Nothing has happened." } }
            @if let Some(newest) = open.first() {
                p.lead {
                    (words::things(open.len(), "event is", "events are")) " not acknowledged. Say that you know of event "
                    (newest) " with " code { "stationhub events ack " (newest) } " on the hub's machine."
                }
            }
            ol.events {
                @for event in sorted.iter().take(SHOWN_MAX) { (row(view, event)) }
            }
            @if sorted.len() > SHOWN_MAX {
                p { "and " (sorted.len() - SHOWN_MAX) " more: " code { "stationhub events list" } }
            }
        }
    }
}

fn row(view: &View, event: &Event) -> Markup {
    html! {
        li.open[event.acknowledged_ms.is_none()] {
            p.event-head {
                span.event-id { "#" (event.id) } " "
                (words::moment(view, event.at_ms.div_euclid(1_000))) " "
                code { (event.kind) } " "
                @match event.acknowledged_ms {
                    Some(ms) => span.when { "acknowledged " (words::moment(view, ms.div_euclid(1_000))) },
                    None => strong { "not acknowledged" },
                }
            }
            p { (event.text) }
        }
    }
}
