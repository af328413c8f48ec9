//! Where everything of a chart stands: title, legend, axes, gaps, series, drawn with plotters on a `scene`.
//!
//! It chooses sizes of text by the width, and how many ticks there is room for. It chooses no colours.

use super::font::Font;
use super::scene::{Recorder, Role, Scene, TENTHS};
use super::series::{self, Series};
use super::time_axis::TimeAxis;
use super::value_axis::ValueAxis;
use super::{COLOURS, Chart, ChartError, Gap, Point, Size, Style, words};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters_backend::BackendColor;

/// Gaps nearer to each other than this are drawn as one, in pixels.
const GAPS_APART_PX: f64 = 3.0;

/// A chart as shapes, and what is said of it in words.
pub(super) struct Laid {
    pub(super) scene: Scene,
    /// The description for those who do not see it.
    pub(super) description: String,
    /// What each gap says, by its number.
    pub(super) gaps: Vec<String>,
}

type Plot<'a, 'b> = ChartContext<'a, Recorder<'b>, Cartesian2d<TimeAxis, ValueAxis>>;
type Area<'b> = DrawingArea<Recorder<'b>, Shift>;

/// Lays a chart out.
pub(super) fn scene(chart: &Chart, font: &Font) -> Result<Laid, ChartError> {
    let Size { width, height } = chart.size;
    if !(160..=4096).contains(&width) || !(100..=4096).contains(&height) {
        return Err(ChartError::Size { width, height });
    }
    let mut scene = Scene { width: width * TENTHS as u32, height: height * TENTHS as u32, shapes: Vec::new() };
    let (series, gaps) = series::prepare(chart);
    let paper = Paper::new(chart, font, &series);
    let values = value_axis(&series, (f64::from(scene.height) - paper.head()) / (paper.text * 2.6));
    let left = values.labels().iter().map(|label| font.width(label, paper.text)).fold(0.0, f64::max) + paper.text;
    let inner = f64::from(scene.width) - left - paper.right();
    let times = TimeAxis::new(chart.from_s, chart.to_s, chart.zone, |widest| {
        inner / (font.width(widest, paper.text) + paper.text * 1.5)
    })?;
    let apart_s = (GAPS_APART_PX * TENTHS / inner * (chart.to_s - chart.from_s) as f64).ceil() as i64;
    let shown = series::joined(&gaps, apart_s);
    let description = words::description(chart, &series, &gaps, values.decimals + 1);

    let root = Recorder { scene: &mut scene, font }.into_drawing_area();
    root.fill(&colour(Role::Ground)).map_err(failed)?;
    let (head, body) = root.split_vertically(paper.head() as i32);
    paper.draw_head(&head, &times.note)?;
    let mut plot = paper.axes(&body, times, values, left)?;
    for (number, (gap, _)) in shown.iter().enumerate() {
        draw_gap(&mut plot, gap, number)?;
    }
    for (number, one) in series.iter().enumerate() {
        draw_series(&mut plot, one, (number % COLOURS) as u16)?;
    }
    if series.iter().all(|one| one.runs.is_empty()) {
        let (across, down) = plot.plotting_area().dim_in_pixel();
        let style = paper.style(Role::Muted, paper.text, HPos::Center, VPos::Center);
        let area = plot.plotting_area().strip_coord_spec();
        area.draw_text(words::NOTHING, &style, (across as i32 / 2, down as i32 / 2)).map_err(failed)?;
    }
    drop(plot);
    drop((head, body, root));
    let gaps = shown.iter().map(|(gap, count)| words::gap(chart, gap, *count)).collect();
    Ok(Laid { scene, description, gaps })
}

fn failed(error: impl std::fmt::Display) -> ChartError {
    ChartError::Drawing(error.to_string())
}

fn colour(role: Role) -> RGBColor {
    let (kind, high, low) = role.rgb();
    RGBColor(kind, high, low)
}

/// Chooses the range of values: all that is drawn, zero where there are bars, the whole circle for directions.
fn value_axis(series: &[Series], ticks: f64) -> ValueAxis {
    if series.iter().all(|one| one.runs.is_empty()) {
        return ValueAxis::empty();
    }
    if series.iter().all(|one| one.line.style == Style::Dots) {
        return ValueAxis::directions();
    }
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for one in series {
        for point in one.points() {
            let bounds = if one.line.style == Style::Line { (point.min, point.max) } else { (point.mean, point.mean) };
            (low, high) = (low.min(bounds.0), high.max(bounds.1));
        }
        if matches!(one.line.style, Style::Bars { .. }) {
            (low, high) = (low.min(0.0), high.max(0.0));
        }
    }
    ValueAxis::around(low, high, ticks.clamp(2.0, 7.0) as usize)
}

/// The measures of one picture, in tenths of a pixel, and what stands above the plot.
struct Paper<'a> {
    font: &'a Font,
    /// The size of labels.
    text: f64,
    title: String,
    /// Rows of the legend: in each, what is named, and how far from the left.
    legend: Vec<Vec<(Role, String, i32)>>,
    width: f64,
}

impl<'a> Paper<'a> {
    fn new(chart: &Chart, font: &'a Font, series: &[Series]) -> Self {
        let width = f64::from(chart.size.width) * TENTHS;
        let text = TENTHS
            * match chart.size.width {
                0..480 => 11.0,
                480..900 => 12.0,
                _ => 13.0,
            };
        let title = match chart.unit {
            "" => chart.title.to_owned(),
            unit => format!("{}, {unit}", chart.title),
        };
        let mut paper = Self { font, text, title, legend: Vec::new(), width };
        paper.title = font.fit(&paper.title, paper.title_size(), width - 2.0 * text);
        if series.len() > 1 {
            paper.legend = paper.legend(series);
        }
        paper
    }

    fn title_size(&self) -> f64 {
        self.text + 2.0 * TENTHS
    }

    /// The room right of the plot, for half of the last label.
    fn right(&self) -> f64 {
        self.text * 2.0
    }

    /// The height of what stands above the plot.
    fn head(&self) -> f64 {
        self.text * (2.2 + 1.4 * self.legend.len() as f64)
    }

    fn style(&self, role: Role, size: f64, across: HPos, down: VPos) -> TextStyle<'static> {
        let color = BackendColor { alpha: 1.0, rgb: role.rgb() };
        TextStyle { font: ("sans-serif", size).into_font(), color, pos: Pos::new(across, down) }
    }

    fn legend(&self, series: &[Series]) -> Vec<Vec<(Role, String, i32)>> {
        let mut rows = vec![Vec::new()];
        let begin = self.text * 0.6;
        let mut x = begin;
        for (number, one) in series.iter().enumerate() {
            let number = (number % COLOURS) as u16;
            let role = match one.line.style {
                Style::Line => Role::Line(number),
                Style::Bars { .. } => Role::Bar(number),
                Style::Dots => Role::Dot(number),
            };
            let label = self.font.fit(&one.line.label, self.text, self.width - 4.0 * self.text);
            let wide = self.font.width(&label, self.text) + self.text * 3.0;
            if x + wide > self.width && x > begin {
                rows.push(Vec::new());
                x = begin;
            }
            if let Some(row) = rows.last_mut() {
                row.push((role, label, x as i32));
            }
            x += wide;
        }
        rows
    }

    fn draw_head(&self, head: &Area, note: &str) -> Result<(), ChartError> {
        let middle = (self.text * 1.15) as i32;
        let style = self.style(Role::Title, self.title_size(), HPos::Left, VPos::Center);
        let begin = self.text * 0.6;
        head.draw_text(&self.title, &style, (begin as i32, middle)).map_err(failed)?;
        // A title in bold is wider than it was measured.
        let title = self.font.width(&self.title, self.title_size()) * 1.15 + begin;
        if title + self.font.width(note, self.text) + self.text * 2.0 <= self.width && !note.is_empty() {
            let style = self.style(Role::Muted, self.text, HPos::Right, VPos::Center);
            head.draw_text(note, &style, ((self.width - begin) as i32, middle)).map_err(failed)?;
        }
        for (row, entries) in self.legend.iter().enumerate() {
            let y = (self.text * (2.6 + 1.4 * row as f64)) as i32;
            for (role, label, x) in entries {
                self.draw_entry(head, *role, label, (*x, y))?;
            }
        }
        Ok(())
    }

    /// Draws a piece of a line, a bar or a dot, and what it stands for.
    fn draw_entry(&self, head: &Area, role: Role, label: &str, (x, y): (i32, i32)) -> Result<(), ChartError> {
        let (wide, half) = ((self.text * 1.2) as i32, (self.text * 0.35) as i32);
        let style = colour(role);
        match role {
            Role::Bar(_) => {
                head.draw(&Rectangle::new([(x + half, y - half), (x + 3 * half, y + half)], style.filled()))
            }
            Role::Dot(_) => head.draw(&Circle::new((x + wide / 2, y), 1, style.filled())),
            _ => head.draw(&PathElement::new(vec![(x, y), (x + wide, y)], style)),
        }
        .map_err(failed)?;
        let text = self.style(Role::Text, self.text, HPos::Left, VPos::Center);
        head.draw_text(label, &text, (x + wide + half, y)).map_err(failed)
    }

    /// Draws grid, axes and labels, and hands out the plot for what is drawn on it.
    fn axes<'p, 'b>(
        &self,
        body: &'p Area<'b>,
        times: TimeAxis,
        values: ValueAxis,
        left: f64,
    ) -> Result<Plot<'p, 'b>, ChartError> {
        let labels = times.ticks.clone();
        let axis = values.clone();
        let mut plot = ChartBuilder::on(body)
            .margin_top((self.text * 0.6) as i32)
            .margin_right(self.right() as i32)
            .margin_bottom((self.text * 0.3) as i32)
            .y_label_area_size(left as i32)
            .x_label_area_size((self.text * 1.7) as i32)
            .build_cartesian_2d(times, values)
            .map_err(failed)?;
        let time = |at: &i64| {
            let found = labels.binary_search_by_key(at, |tick| tick.0).ok().and_then(|n| labels.get(n));
            found.map(|tick| tick.1.clone()).unwrap_or_default()
        };
        plot.configure_mesh()
            .bold_line_style(colour(Role::Grid))
            .axis_style(colour(Role::Axis))
            .label_style(self.style(Role::Text, self.text, HPos::Left, VPos::Top))
            .set_all_tick_mark_size((self.text * 0.3) as i32)
            .x_label_formatter(&time)
            .y_label_formatter(&|value| axis.label(*value))
            .draw()
            .map_err(failed)?;
        Ok(plot)
    }
}

fn draw_gap(plot: &mut Plot, gap: &Gap, number: usize) -> Result<(), ChartError> {
    let range = plot.y_range();
    let role = Role::Gap(u16::try_from(number).unwrap_or(u16::MAX));
    let corners = [(gap.from_s, range.end), (gap.to_s, range.start)];
    plot.draw_series([Rectangle::new(corners, colour(role).filled())]).map(drop).map_err(failed)
}

fn draw_series(plot: &mut Plot, series: &Series, number: u16) -> Result<(), ChartError> {
    match series.line.style {
        Style::Line => draw_line(plot, series, number),
        Style::Bars { width_s } => {
            let style = colour(Role::Bar(number)).filled();
            let range = plot.x_range();
            let bars = series.points().filter(|point| point.mean != 0.0).map(|point| {
                let (from_s, to_s) = (point.time_s, point.time_s.saturating_add(width_s.max(1)));
                Rectangle::new([(from_s.max(range.start), point.mean), (to_s.min(range.end), 0.0)], style)
            });
            plot.draw_series(bars).map(drop).map_err(failed)
        }
        Style::Dots => {
            let style = colour(Role::Dot(number)).filled();
            let dots = series.points().map(|point| Circle::new((point.time_s, point.mean), 1, style));
            plot.draw_series(dots).map(drop).map_err(failed)
        }
    }
}

/// Draws bands first, then means before them; a reading without neighbours becomes a dot on an upright line.
fn draw_line(plot: &mut Plot, series: &Series, number: u16) -> Result<(), ChartError> {
    let wide = |run: &&Vec<Point>| run.iter().any(|point| point.min < point.max);
    let bands = series.runs.iter().filter(|run| run.len() > 1).filter(wide).map(|run| {
        let there = run.iter().map(|point| (point.time_s, point.max));
        let back = run.iter().rev().map(|point| (point.time_s, point.min));
        Polygon::new(there.chain(back).collect::<Vec<_>>(), colour(Role::Band(number)))
    });
    plot.draw_series(bands).map_err(failed)?;
    let uprights = series.runs.iter().filter(|run| run.len() == 1).filter(wide).flatten();
    let uprights = uprights.map(|point| {
        PathElement::new(vec![(point.time_s, point.min), (point.time_s, point.max)], colour(Role::Band(number)))
    });
    plot.draw_series(uprights).map_err(failed)?;
    let lines = series.runs.iter().filter(|run| run.len() > 1).map(|run| {
        PathElement::new(
            run.iter().map(|point| (point.time_s, point.mean)).collect::<Vec<_>>(),
            colour(Role::Line(number)),
        )
    });
    plot.draw_series(lines).map_err(failed)?;
    let alone = series.runs.iter().filter(|run| run.len() == 1).flatten();
    let dots = alone.map(|point| Circle::new((point.time_s, point.mean), 1, colour(Role::Dot(number)).filled()));
    plot.draw_series(dots).map(drop).map_err(failed)
}
