//! Charts of readings, as SVG text for a page and as PNG bytes for a file: data in, picture out.
//!
//! The way is one: `layout` has plotters lay a chart out, `scene` takes down what plotters draws, as shapes that have a role
//! rather than a colour, and the two writers, `svg` and `png`, give roles their colours. In the SVG a role is a class with a
//! fallback colour in a presentation attribute, so a page's stylesheet ([`STYLE`], or one of its own) decides, and a
//! Content-Security-Policy needs no `unsafe-inline`.
//!
//! What this room never does: read a database or a clock, use a font of the system, or draw a line where nothing was read.

mod font;
mod layout;
mod png;
mod scene;
mod series;
mod svg;
#[cfg(test)]
mod tests;
mod time_axis;
mod value_axis;
mod words;

use font::Font;

/// The CSS of the classes in every SVG, with variables for light and dark, for a page to serve.
pub const STYLE: &str = include_str!("chart.css");

/// The colours of which a chart has different ones for its lines; with more lines they come again.
const COLOURS: usize = 6;

/// One chart: what is drawn, and over which time.
#[derive(Debug, Clone)]
pub struct Chart<'a> {
    /// What is shown, such as `Temperature`.
    pub title: &'a str,
    /// The unit of all values, said once beside the title; may be empty.
    pub unit: &'a str,
    /// Where the time axis begins, in seconds since 1970.
    pub from_s: i64,
    /// Where the time axis ends, in seconds since 1970; after `from_s`.
    pub to_s: i64,
    /// The zone whose time the labels tell.
    pub zone: &'a jiff::tz::TimeZone,
    /// The series, drawn in this order.
    pub lines: Vec<Line>,
    /// The times without readings, shaded.
    pub gaps: Vec<Gap>,
    /// How large it is drawn.
    pub size: Size,
}

/// The size of a picture, in pixels: 160 to 4,096 wide, 100 to 4,096 high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its width; the size of the text is chosen by it.
    pub width: u32,
    /// Its height.
    pub height: u32,
}

/// One series of a chart.
#[derive(Debug, Clone)]
pub struct Line {
    /// Its name, for the legend and for the description.
    pub label: String,
    /// How it is drawn.
    pub style: Style,
    /// Its points, in any order.
    pub points: Vec<Point>,
    /// A line is broken where two points are further apart than this, in seconds.
    pub break_after_s: i64,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The mean as a line, before a band from the lowest to the highest.
    Line,
    /// Bars from zero to the mean; each begins at its point's time.
    Bars {
        /// How long each bar is, in seconds.
        width_s: i64,
    },
    /// Dots, for directions in degrees; a chart of nothing else has an axis of 0 to 360.
    Dots,
}

/// One value of a series, or what several came to. What is not finite is left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Its time, in seconds since 1970.
    pub time_s: i64,
    /// The mean.
    pub mean: f64,
    /// The lowest; the mean where there is but one value.
    pub min: f64,
    /// The highest; the mean where there is but one value.
    pub max: f64,
}

/// A time without readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Its beginning, in seconds since 1970.
    pub from_s: i64,
    /// Its end, in seconds since 1970.
    pub to_s: i64,
    /// Its cause, in words.
    pub cause: String,
}

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// The time does not end after its beginning, or a calendar does not reach as far.
    #[error("a chart cannot show the time from {from_s} to {to_s} (seconds since 1970)")]
    Time {
        /// The beginning, in seconds since 1970.
        from_s: i64,
        /// The end, in seconds since 1970.
        to_s: i64,
    },
    /// The picture would be too small to read, or too large for the memory.
    #[error(
        "a chart of {width} x {height} pixels is not drawn: 160 x 100 to 4096 x 4096 are, 16 million pixels in all"
    )]
    Size {
        /// The width, in pixels.
        width: u32,
        /// The height, in pixels.
        height: u32,
    },
    /// The drawing library gave up.
    #[error("the chart was not drawn: {0}")]
    Drawing(String),
}

/// Draws a chart as the text of an SVG element, which takes the width that a page gives it. Fails where the time or the size
/// is none.
pub fn svg(chart: &Chart) -> Result<String, ChartError> {
    let font = Font::embedded()?;
    Ok(svg::write(chart, &layout::scene(chart, &font)?))
}

/// Draws charts one below the other, light, as the bytes of a PNG. Fails where one of them has no time or size, where there
/// are none, and above 16 million pixels.
pub fn png(charts: &[Chart]) -> Result<Vec<u8>, ChartError> {
    let font = Font::embedded()?;
    let scenes = charts.iter().map(|chart| layout::scene(chart, &font)).collect::<Result<Vec<_>, _>>()?;
    png::paint(&scenes, &font)
}
