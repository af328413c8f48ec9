//! Numbers, times and sizes in words.
//!
//! Owns how they look on a page. `live.js` says ages in the same words.

use jiff::Timestamp;
use maud::{Markup, html};

use super::View;
use crate::almanac::NowValue;
use crate::weather::quantity::Observed;
use crate::weather::units::Unit;

/// Returns a length of time in words, by its largest unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..90 => format!("{seconds} s"),
        90..5_400 => format!("{} min", seconds / 60),
        5_400..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", grouped(seconds / 86_400)),
    }
}

/// Returns how long ago something was; a clock that is ahead makes it just now.
pub(super) fn ago(seconds: i64) -> String {
    u64::try_from(seconds).map_or_else(|_| "just now".to_owned(), |seconds| format!("{} ago", span(seconds)))
}

/// Returns a size in words.
#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1_024 {
        return format!("{bytes} B");
    }
    let mut scaled = bytes as f64 / 1_024.0;
    let mut unit = 0;
    while scaled >= 1_023.95 && unit + 1 < UNITS.len() {
        scaled /= 1_024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// Returns a whole number with its digits in groups of three.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    if digits.len() < 5 {
        return digits;
    }
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// Returns a count that cannot be below nothing.
pub(super) fn count(number: i64) -> String {
    grouped(u64::try_from(number).unwrap_or(0))
}

/// Returns a number and its thing, one or many.
pub(super) fn things(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{} {many}", grouped(number as u64)) }
}

/// Returns a number of the hub's in a unit, with a real minus, which screen readers say.
pub(super) fn number(unit: Unit, value: f64) -> String {
    unit.text(unit.convert(value)).replace('-', "\u{2212}")
}

/// Returns a value as it is shown; of a change, with its sign.
pub(super) fn value(unit: Unit, value: &NowValue) -> String {
    if value.quantity != Observed::PressureTendency {
        return number(unit, value.value);
    }
    let text = unit.text(unit.convert_difference(value.value));
    let is_nothing = text.chars().all(|digit| matches!(digit, '0' | '.'));
    if is_nothing || text.starts_with('-') { text.replace('-', "\u{2212}") } else { format!("+{text}") }
}

/// Returns today's lowest and highest of a value, as they are shown.
pub(super) fn today(unit: Unit, value: &NowValue) -> Option<String> {
    let (low, high) = value.today?;
    // A gust has no lowest.
    if value.quantity == Observed::WindGust {
        return Some(format!("up to {}", number(unit, high)));
    }
    Some(format!("{} \u{2013} {}", number(unit, low), number(unit, high)))
}

/// Returns a time in the station's zone by a pattern of `strftime`.
pub(super) fn local(view: &View, time_s: i64, pattern: &str) -> String {
    match Timestamp::from_second(time_s) {
        Ok(timestamp) => timestamp.to_zoned(view.zone.clone()).strftime(pattern).to_string(),
        Err(_) => "?".to_owned(),
    }
}

/// Returns a time for programs: RFC 3339 with the station's offset.
pub(super) fn machine(view: &View, time_s: i64) -> String {
    local(view, time_s, "%Y-%m-%dT%H:%M:%S%:z")
}

/// Returns a time of which everybody may read a part.
pub(super) fn time(view: &View, time_s: i64, pattern: &str) -> Markup {
    html! { time datetime=(machine(view, time_s)) { (local(view, time_s, pattern)) } }
}

/// Returns the time of day, to the second.
pub(super) fn clock(view: &View, time_s: i64) -> Markup {
    html! { time #asof datetime=(machine(view, time_s)) { (local(view, time_s, "%H:%M:%S")) } }
}

/// Returns day and time of day.
pub(super) fn moment(view: &View, time_s: i64) -> Markup {
    time(view, time_s, "%Y-%m-%d %H:%M")
}

/// Returns how long ago a time was; the time itself is for programs.
pub(super) fn age(view: &View, time_s: i64) -> Markup {
    html! { time datetime=(machine(view, time_s)) { (ago(view.now_s.saturating_sub(time_s))) } }
}

/// Returns the name of the station's zone.
pub(super) fn zone(view: &View) -> String {
    view.zone.iana_name().unwrap_or("local time").to_owned()
}

/// Returns a topic with places where its line may break.
pub(super) fn topic(name: &str) -> Markup {
    html! {
        @for (at, level) in name.split('/').enumerate() {
            @if at > 0 { "/" wbr; }
            (level)
        }
    }
}
