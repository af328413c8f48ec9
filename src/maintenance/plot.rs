//! `stationhub plot`: charts of a time range as SVG or PNG.
//!
//! Owns how several charts come into one picture. What is drawn, and how, is `panels`' and `chart`'s.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::MaintenanceError;
use super::backup::spare_the_database;
use super::whole::{Partial, Replace};
use crate::almanac::range::{Quick, Wanted};
use crate::almanac::{Asked, Open, Resolution, Terms};
use crate::chart::{self, Chart, Size};
use crate::clock::now_ms;
use crate::panels::{self, Look, Panel};
use crate::store::{GapQuery, Reader};
use crate::weather::quantity::Observed;
use crate::weather::units::Units;

/// What is to be plotted.
#[derive(Clone, Debug)]
pub struct Plot {
    /// How long: up to now, up to `to`, or from `from` on; 24 hours where nothing is said.
    pub quick: Option<Quick>,
    /// From when, Unix seconds.
    pub from: Option<i64>,
    /// Until when, Unix seconds.
    pub to: Option<i64>,
    /// Which quantities, a chart each; the page's charts where none is named.
    pub quantities: Vec<Observed>,
    /// In which units.
    pub units: Units,
    /// How large each chart is.
    pub size: Size,
}

/// How a picture is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picture {
    /// As SVG.
    Svg,
    /// As PNG.
    Png,
}

/// Plots into a file that appears only when it is whole, or as SVG to the standard output.
///
/// # Errors
/// [`MaintenanceError`].
pub fn run(
    database: &Path,
    terms: &Terms,
    plot: &Plot,
    output: Option<(PathBuf, Picture, Replace)>,
) -> Result<(), MaintenanceError> {
    let Some((path, picture, replace)) = output else {
        let text = drawn(database, terms, plot, Picture::Svg)?;
        let failed =
            |source| MaintenanceError::File { doing: "cannot write to", path: "the standard output".into(), source };
        return std::io::stdout().write_all(&text).map_err(failed);
    };
    spare_the_database(database, &path)?;
    let partial = Partial::begin(&path, replace)?;
    let bytes = drawn(database, terms, plot, picture)?;
    let failed = |source| MaintenanceError::File { doing: "cannot write to", path: path.clone(), source };
    partial.file().write_all(&bytes).map_err(failed)?;
    partial.finish()
}

fn drawn(database: &Path, terms: &Terms, plot: &Plot, picture: Picture) -> Result<Vec<u8>, MaintenanceError> {
    let reader = Reader::open(database)?;
    let open = Open { reader: &reader, terms, now_s: now_ms().div_euclid(1_000) };
    let range = open.range(Wanted::of(plot.quick, plot.from, plot.to, open.now_s))?;
    let wanted: Vec<Panel> = match plot.quantities.as_slice() {
        [] => panels::panels(terms.altitude_m.is_some()),
        quantities => quantities.iter().map(|quantity| panels::panel_of(*quantity)).collect(),
    };
    let quantities = wanted.iter().flat_map(|panel| panel.quantities).copied().collect();
    let points = usize::try_from(plot.size.width).unwrap_or(1);
    let shown = open.series(&Asked { range, source: None, quantities, resolution: Resolution::Points(points) })?;
    let between = GapQuery::between(
        range.from_s.saturating_mul(1_000),
        range.to_s.min(open.now_s).max(range.from_s + 1).saturating_mul(1_000),
        false,
    );
    let missing = reader.gaps(&between).ok();
    let look = Look { units: plot.units, zone: terms.days.zone(), size: plot.size };
    let charts = panels::charts(&wanted, &shown, missing.as_ref(), look);
    if charts.is_empty() {
        return Err(MaintenanceError::NothingToPlot);
    }
    match picture {
        Picture::Svg => svg(&charts).map(String::into_bytes),
        Picture::Png => chart::png(&charts).map_err(MaintenanceError::from),
    }
}

/// Puts charts one below the other.
fn svg(charts: &[Chart<'_>]) -> Result<String, MaintenanceError> {
    let width = charts.iter().map(|chart| chart.size.width).max().unwrap_or_default();
    let height: u32 = charts.iter().map(|chart| chart.size.height).sum();
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>"
    );
    let mut y = 0;
    for chart in charts {
        let Size { width, height } = chart.size;
        // Writing to a string cannot fail.
        write!(text, "<svg y=\"{y}\" width=\"{width}\" height=\"{height}\">{}</svg>", chart::svg(chart)?)
            .unwrap_or_default();
        y += height;
    }
    Ok(text + "</svg>\n")
}
