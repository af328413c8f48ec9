//! The frame of every page: head, header, navigation, footer.
//!
//! Owns the links between pages, and which parameters they carry: always the units, and the range where there is one.

use maud::{DOCTYPE, Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Active, View, words};
use crate::weather::units::Units;

/// A page of the navigation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Now,
    Extremes,
    Health,
}

impl Place {
    const ALL: [Place; 3] = [Place::Now, Place::Extremes, Place::Health];

    fn path(self) -> &'static str {
        match self {
            Place::Now => "/",
            Place::Extremes => "/extremes",
            Place::Health => "/health",
        }
    }

    fn label(self) -> &'static str {
        match self {
            Place::Now => "Now",
            Place::Extremes => "Extremes",
            Place::Health => "Health",
        }
    }
}

/// What differs from page to page.
pub(super) struct Frame<'a> {
    pub(super) title: &'a str,
    pub(super) place: Option<Place>,
    pub(super) active: Option<&'a Active>,
}

/// Returns the address of a page with these units.
pub(super) fn href(view: &View, path: &str, active: Option<&Active>) -> String {
    link(path, view.units, active)
}

fn link(path: &str, units: Units, active: Option<&Active>) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let range = match active {
        None => String::new(),
        Some(Active::Quick(quick)) => format!("range={}&", quick.name()),
        Some(Active::Custom { from, to }) => format!("from={}&to={}&", encoded(from), encoded(to)),
    };
    format!("{path}?{range}units={}", units.name())
}

fn units_label(units: Units) -> &'static str {
    match units {
        Units::Metric => "Metric",
        Units::Imperial => "Imperial",
        Units::Si => "SI",
    }
}

/// Returns a whole page.
pub(super) fn document(view: &View, frame: &Frame, body: &Markup) -> String {
    let is_live = frame.place == Some(Place::Now);
    let page = html! {
        (DOCTYPE)
        html lang="en" data-units=(view.units.name()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="same-origin";
                title { (frame.title) " \u{b7} " (view.station) }
                link rel="icon" href="/favicon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/style.css";
                @if is_live { script src="/live.js" defer {} }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header.top {
                    div.wide {
                        p.station { a href=(href(view, "/", None)) { (view.station) } }
                        nav aria-label="Pages" {
                            ul.pages {
                                @for place in Place::ALL {
                                    @let current = (frame.place == Some(place)).then_some("page");
                                    li {
                                        a href=(href(view, place.path(), None)) aria-current=[current] { (place.label()) }
                                    }
                                }
                            }
                        }
                    }
                }
                main #main .wide tabindex="-1" { (body) }
                footer.wide {
                    @if let Some(place) = frame.place { (units_choice(view, place, frame.active)) }
                    p { "Times are those of the station, " (words::zone(view)) ". Served by stationhub." }
                }
            }
        }
    };
    page.into_string()
}

fn units_choice(view: &View, place: Place, active: Option<&Active>) -> Markup {
    html! {
        nav.choice aria-labelledby="units" {
            p #units { "Units" }
            ul {
                @for units in Units::ALL {
                    @let current = (units == view.units).then_some("true");
                    li { a href=(link(place.path(), units, active)) aria-current=[current] { (units_label(units)) } }
                }
            }
        }
    }
}
