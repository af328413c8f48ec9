//! What a chart says in words: its description for those who do not see it, and what a gap is. Pure.

use super::series::Series;
use super::time_axis::local;
use super::value_axis::decimal;
use super::{Chart, Gap, Style};
use jiff::Zoned;

/// What stands where there is nothing to draw.
pub(super) const NOTHING: &str = "no readings in this time";

/// The most gaps that a description names.
const GAPS_NAMED: usize = 5;

/// The most letters of a cause that are told.
const CAUSE_LETTERS: usize = 160;

/// Says of a gap when it was and why: `no readings 10:05–10:20: sensor silent`.
pub(super) fn gap(chart: &Chart, gap: &Gap, count: usize) -> String {
    let cause: String = gap.cause.chars().take(CAUSE_LETTERS).collect();
    let what = if count > 1 { format!("no readings at {count} times") } else { "no readings".to_owned() };
    let cause = match (cause.is_empty(), count > 1) {
        (true, _) => String::new(),
        (false, false) => format!(": {cause}"),
        (false, true) => format!(": {cause}, first"),
    };
    format!("{what} {}{cause}", span(chart, gap.from_s, gap.to_s))
}

/// Describes a chart: its time, and of each series the lowest, highest and last value; then its gaps.
pub(super) fn description(chart: &Chart, series: &[Series], gaps: &[Gap], decimals: usize) -> String {
    let mut text = format!("{}.", span(chart, chart.from_s, chart.to_s));
    for one in series {
        text.push(' ');
        text.push_str(&values(chart, one, decimals));
    }
    if series.iter().all(|one| one.runs.is_empty()) {
        text.push_str(&format!(" There are {NOTHING}."));
    }
    for one in gaps.iter().take(GAPS_NAMED) {
        text.push_str(&format!(" There are {}.", gap(chart, one, 1)));
    }
    if gaps.len() > GAPS_NAMED {
        text.push_str(&format!(" There are {} times without readings in all.", gaps.len()));
    }
    text
}

fn values(chart: &Chart, series: &Series, decimals: usize) -> String {
    let label = &series.line.label;
    let Some(last) = series.points().last() else { return format!("{label}: no readings.") };
    let value = |value: f64| {
        let number = decimal(value, decimals);
        if chart.unit.is_empty() { number } else { format!("{number} {}", chart.unit) }
    };
    let moment = |time_s: i64| at(chart, time_s);
    let last = format!("last {} at {}", value(last.mean), moment(last.time_s));
    let bars = matches!(series.line.style, Style::Bars { .. });
    let lowest = series.points().min_by(|a, b| if bars { a.mean.total_cmp(&b.mean) } else { a.min.total_cmp(&b.min) });
    let highest = series.points().max_by(|a, b| if bars { a.mean.total_cmp(&b.mean) } else { a.max.total_cmp(&b.max) });
    match (series.line.style, lowest, highest) {
        (Style::Line, Some(low), Some(high)) => format!(
            "{label}: lowest {} at {}, highest {} at {}, {last}.",
            value(low.min),
            moment(low.time_s),
            value(high.max),
            moment(high.time_s)
        ),
        (Style::Bars { .. }, Some(low), Some(high)) => {
            format!(
                "{label}: lowest {}, highest {} at {}, {last}.",
                value(low.mean),
                value(high.mean),
                moment(high.time_s)
            )
        }
        _ => format!("{label}: {last}."),
    }
}

/// Writes a moment as shortly as the chart's time allows.
fn at(chart: &Chart, time_s: i64) -> String {
    let Some(at) = local(time_s, chart.zone) else { return String::new() };
    let (day, clock) = (date(chart, &at), clock(chart.to_s.saturating_sub(chart.from_s), &at));
    if day.is_empty() { clock } else { format!("{day} {clock}") }
}

/// Writes a time from one moment to another.
fn span(chart: &Chart, from_s: i64, to_s: i64) -> String {
    let (Some(from), Some(to)) = (local(from_s, chart.zone), local(to_s, chart.zone)) else { return String::new() };
    let whole = (from_s, to_s) == (chart.from_s, chart.to_s);
    let day = |at: &Zoned| if whole { at.strftime("%b %-d, %Y").to_string() } else { date(chart, at) };
    let (long_s, first, last) = (to_s - from_s, day(&from), day(&to));
    let (begin, end) = (clock(long_s, &from), clock(long_s, &to));
    match (first.is_empty(), first == last) {
        (true, _) => format!("{begin}–{end}"),
        (false, true) => format!("{first} {begin}–{end}"),
        (false, false) => format!("{first} {begin} – {last} {end}"),
    }
}

/// The date, where a chart shows more than one day; with the year, where it shows more than one.
fn date(chart: &Chart, at: &Zoned) -> String {
    let (Some(first), Some(last)) = (local(chart.from_s, chart.zone), local(chart.to_s - 1, chart.zone)) else {
        return String::new();
    };
    let pattern = match (first.date() == last.date(), first.year() == last.year()) {
        (true, _) => "",
        (_, true) => "%b %-d",
        _ => "%b %-d, %Y",
    };
    // The end of a day is the next day's beginning.
    let shown = if first.date() == last.date() && at.date() != first.date() { "%b %-d" } else { pattern };
    if shown.is_empty() { String::new() } else { at.strftime(shown).to_string() }
}

fn clock(long_s: i64, at: &Zoned) -> String {
    at.strftime(if long_s < 120 { "%H:%M:%S" } else { "%H:%M" }).to_string()
}
