//! What of a series is drawn: its points in order and within the time, in runs that no missing data lies between, and gaps
//! that are far enough apart to be seen. Pure.

use super::value_axis::LARGEST;
use super::{Chart, Gap, Line, Point, Style};

/// A series as it is drawn.
pub(super) struct Series<'a> {
    pub(super) line: &'a Line,
    /// Points one after the other; between two runs, something is missing.
    pub(super) runs: Vec<Vec<Point>>,
}

impl<'a> Series<'a> {
    fn new(line: &'a Line, chart: &Chart, gaps: &[Gap]) -> Self {
        let mut points: Vec<Point> = line.points.iter().filter_map(|point| usable(point, line.style, chart)).collect();
        points.sort_by_key(|point| point.time_s);
        let mut runs: Vec<Vec<Point>> = Vec::new();
        let mut gap = 0;
        for point in points {
            let last = runs.last().and_then(|run| run.last()).map(|last| last.time_s);
            let parted = last.is_none_or(|last_s| {
                while gaps.get(gap).is_some_and(|gap| gap.to_s <= last_s) {
                    gap += 1;
                }
                point.time_s - last_s > line.break_after_s || lacks(&gaps[gap..], last_s, point.time_s)
            });
            match runs.last_mut() {
                Some(run) if !parted => run.push(point),
                _ => runs.push(vec![point]),
            }
        }
        Self { line, runs }
    }

    /// Walks all its points.
    pub(super) fn points(&self) -> impl Iterator<Item = &Point> {
        self.runs.iter().flatten()
    }
}

/// Says whether a gap covers half the time between two points: a shorter one is within what a point stands for.
fn lacks(gaps: &[Gap], from_s: i64, to_s: i64) -> bool {
    let before = gaps.iter().take_while(|gap| gap.from_s < to_s);
    before.map(|gap| gap.to_s.min(to_s) - gap.from_s.max(from_s)).any(|both_s| both_s * 2 >= (to_s - from_s).max(1))
}

/// The series of a chart, and its gaps in order, cut to its time.
pub(super) fn prepare<'a>(chart: &'a Chart) -> (Vec<Series<'a>>, Vec<Gap>) {
    let cut = |gap: &Gap| Gap {
        from_s: gap.from_s.max(chart.from_s),
        to_s: gap.to_s.min(chart.to_s),
        cause: gap.cause.clone(),
    };
    let mut gaps: Vec<Gap> = chart.gaps.iter().map(cut).filter(|gap| gap.from_s < gap.to_s).collect();
    gaps.sort_by_key(|gap| gap.from_s);
    let series = chart.lines.iter().map(|line| Series::new(line, chart, &gaps)).collect();
    (series, gaps)
}

/// A point as it is drawn, where it is a number and within the time.
fn usable(point: &Point, style: Style, chart: &Chart) -> Option<Point> {
    let known = |value: f64| value.is_finite() && value.abs() <= LARGEST;
    let end_s = match style {
        Style::Bars { width_s } => point.time_s.saturating_add(width_s.max(1) - 1),
        _ => point.time_s,
    };
    if !known(point.mean) || end_s < chart.from_s || point.time_s > chart.to_s {
        return None;
    }
    if style == Style::Dots {
        let mean = if point.mean == 360.0 { 360.0 } else { point.mean.rem_euclid(360.0) };
        return Some(Point { mean, min: mean, max: mean, ..*point });
    }
    let min = if known(point.min) { point.min.min(point.mean) } else { point.mean };
    let max = if known(point.max) { point.max.max(point.mean) } else { point.mean };
    Some(Point { min, max, ..*point })
}

/// Joins gaps that are less than `apart_s` from each other, since one could not tell them apart. Each comes with how many it is.
pub(super) fn joined(gaps: &[Gap], apart_s: i64) -> Vec<(Gap, usize)> {
    let mut all: Vec<(Gap, usize)> = Vec::new();
    for gap in gaps {
        match all.last_mut() {
            Some((last, count)) if gap.from_s - last.to_s < apart_s => {
                last.to_s = last.to_s.max(gap.to_s);
                *count += 1;
            }
            _ => all.push((gap.clone(), 1)),
        }
    }
    all
}
