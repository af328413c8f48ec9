//! What is drawn: which quantities share a chart, and how series and gaps become one.
//!
//! Owns the list of charts, shared by the page and `stationhub plot`. Pure: it asks nothing and draws nothing itself.

use jiff::tz::TimeZone;

use crate::almanac::{Observation, Series, Shown};
use crate::chart::{Chart, Gap, Line, Point, Size, Style};
use crate::gaps;
use crate::store::GapReport;
use crate::weather::quantity::Observed;
use crate::weather::units::Units;

/// Gaps that are marked in a chart, at most.
const GAPS_MAX: usize = 200;
/// Bars in a chart, about.
const BARS: i64 = 96;
/// Lengths that a bar may have, seconds: none needs explaining.
const BAR_STEPS_S: [i64; 8] = [60, 300, 900, 1_800, 3_600, 3 * 3_600, 6 * 3_600, 86_400];

/// A chart: what it is called, and what it shows.
#[derive(Clone, Copy, Debug)]
pub struct Panel {
    /// Its title.
    pub title: &'static str,
    /// The quantities that it shows, of one dimension.
    pub quantities: &'static [Observed],
}

const PANELS: [Panel; 9] = [
    Panel { title: "Temperature", quantities: &[Observed::Temperature, Observed::DewPoint] },
    Panel { title: "Wind", quantities: &[Observed::WindSpeed] },
    Panel { title: "Wind direction", quantities: &[Observed::WindDirection] },
    Panel { title: "Rain", quantities: &[Observed::Rain] },
    Panel { title: "Pressure", quantities: &[Observed::PressureSeaLevel] },
    Panel { title: "Humidity", quantities: &[Observed::Humidity] },
    Panel { title: "Irradiance", quantities: &[Observed::Irradiance] },
    Panel { title: "Magnetic flux", quantities: &[Observed::FluxX, Observed::FluxY, Observed::FluxZ] },
    Panel { title: "Magnetic flux, magnitude", quantities: &[Observed::FluxMagnitude] },
];
/// In the place of the pressure at sea level where the station's altitude is not known.
const AT_STATION: Panel = Panel { title: "Pressure at the station", quantities: &[Observed::Pressure] };

/// Returns the charts of a station.
pub fn panels(knows_altitude: bool) -> Vec<Panel> {
    let fitting = |panel: Panel| match panel.quantities {
        [Observed::PressureSeaLevel] if !knows_altitude => AT_STATION,
        _ => panel,
    };
    PANELS.into_iter().map(fitting).collect()
}

/// Returns a chart of one quantity.
pub fn panel_of(quantity: Observed) -> Panel {
    let own = Observed::ALL.iter().position(|other| *other == quantity).unwrap_or_default();
    Panel { title: quantity.label(), quantities: &Observed::ALL[own..=own] }
}

/// How charts are to be drawn.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// In which units.
    pub units: Units,
    /// In whose local time.
    pub zone: &'a TimeZone,
    /// How large.
    pub size: Size,
}

/// Makes the charts of what was found; a panel without a source is left out.
pub fn charts<'a>(panels: &[Panel], shown: &Shown, missing: Option<&GapReport>, look: Look<'a>) -> Vec<Chart<'a>> {
    panels.iter().filter_map(|panel| chart(panel, shown, missing, look)).collect()
}

fn chart<'a>(panel: &Panel, shown: &Shown, missing: Option<&GapReport>, look: Look<'a>) -> Option<Chart<'a>> {
    let of_panel = shown.series.iter().filter(|series| panel.quantities.contains(&series.quantity));
    let series: Vec<&Series> = of_panel.collect();
    let first = series.first()?;
    let dimension = first.quantity.dimension();
    Some(Chart {
        title: panel.title,
        unit: look.units.of(dimension).symbol,
        from_s: shown.range.from_s,
        to_s: shown.range.to_s,
        zone: look.zone,
        lines: series.iter().map(|series| line(series, shown, look.units)).collect(),
        gaps: missing.map(|missing| gaps(missing, &first.source)).unwrap_or_default(),
        size: look.size,
    })
}

fn line(series: &Series, shown: &Shown, units: Units) -> Line {
    let unit = units.of(series.quantity.dimension());
    let label = series.quantity.label().to_owned();
    let point = |time_s: i64, observed: &Observation| Point {
        time_s,
        mean: unit.convert(observed.value),
        min: unit.convert(observed.min),
        max: unit.convert(observed.max),
    };
    if series.quantity.adds_up() {
        let width_s = bar_s(shown.range.span_s(), series.step_s.unwrap_or(1));
        let points = added_up(series, width_s).into_iter().map(|(time_s, observed)| point(time_s, &observed)).collect();
        return Line { label, style: Style::Bars { width_s }, points, break_after_s: series.break_after_s };
    }
    let style = if series.quantity == Observed::WindDirection { Style::Dots } else { Style::Line };
    // What stands for a time is drawn in its middle.
    let middle_s = |span_s: i64| series.step_s.map_or(0, |_| span_s / 2);
    let points = series.points.iter().map(|each| point(each.time_s + middle_s(each.span_s), &each.observed)).collect();
    Line { label, style, points, break_after_s: series.break_after_s }
}

/// Returns the length of a bar in a time of this length, whose points stand for `step_s` each.
fn bar_s(span_s: i64, step_s: i64) -> i64 {
    let fitting = BAR_STEPS_S.into_iter().find(|bar_s| *bar_s >= span_s / BARS && *bar_s >= step_s);
    fitting.unwrap_or(step_s.max(1))
}

/// Adds up points in bars of this length.
fn added_up(series: &Series, bar_s: i64) -> Vec<(i64, Observation)> {
    let mut bars: Vec<(i64, Observation)> = Vec::new();
    for point in &series.points {
        let is_longer = series.step_s.is_some_and(|step_s| step_s >= bar_s);
        let time_s = if is_longer { point.time_s } else { point.time_s.div_euclid(bar_s) * bar_s };
        match bars.last_mut() {
            Some((last_s, bar)) if *last_s == time_s => {
                bar.value += point.observed.value;
                (bar.min, bar.max) = (bar.value, bar.value);
            }
            _ => bars.push((time_s, point.observed)),
        }
    }
    bars
}

/// Returns the gaps of a source: those in which nothing came.
fn gaps(missing: &GapReport, source: &str) -> Vec<Gap> {
    let of_source = missing.sources.iter().filter(|gaps| gaps.source == source).flat_map(|gaps| &gaps.gaps);
    let whole = of_source.filter(|gap| !gap.scattered).take(GAPS_MAX);
    let gap = |gap: &gaps::Gap| Gap {
        from_s: gap.from_ms.div_euclid(1_000),
        to_s: gap.to_ms.div_euclid(1_000),
        cause: gaps::cause_in_words(gap.cause).to_owned(),
    };
    whole.map(gap).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::almanac::range::Range;

    fn shown(quantity: Observed, step_s: i64, values: &[f64]) -> Shown {
        let observed = |value| Observation { value, min: value - 1.0, max: value + 1.0, count: 1, is_doubtful: false };
        let points = values.iter().zip(0..).map(|(&value, number)| crate::almanac::Point {
            time_s: number * step_s,
            span_s: step_s,
            observed: observed(value),
        });
        let series = Series {
            quantity,
            source: "garden".to_owned(),
            step_s: Some(step_s),
            break_after_s: 3 * step_s,
            points: points.collect(),
        };
        let range = Range { from_s: 0, to_s: 86_400 };
        Shown { range, series: vec![series], is_partial: false }
    }

    fn drawn(shown: &Shown, units: Units) -> Vec<Line> {
        let look = Look { units, zone: &TimeZone::UTC, size: Size { width: 480, height: 200 } };
        charts(&panels(true), shown, None, look).into_iter().flat_map(|chart| chart.lines).collect()
    }

    #[test]
    fn rain_is_added_up_in_bars_and_no_drop_is_lost() {
        let shown = shown(Observed::Rain, 144, &[0.5; 600]);
        let lines = drawn(&shown, Units::Metric);
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!(line.style, Style::Bars { width_s: 900 });
        let sum: f64 = line.points.iter().map(|point| point.mean).sum();
        assert!((sum - 300.0).abs() < 1e-9 && line.points.len() == 96, "{sum} in {}", line.points.len());
    }

    #[test]
    fn a_chart_keeps_the_ends_and_converts_them() {
        let shown = shown(Observed::Temperature, 144, &[10.0]);
        let point = drawn(&shown, Units::Imperial)[0].points[0];
        assert_eq!((point.time_s, point.mean, point.min, point.max), (72, 50.0, 48.2, 51.8));
        assert!(panels(false).iter().any(|panel| panel.title == "Pressure at the station"));
    }
}
