//! The command line of the owner's commands on the database: backup, export, import, quarantine.
//!
//! Owns their words, as `cli` does those of the others. It never acts on them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::almanac::range::Quick;
use crate::maintenance::export;
use crate::maintenance::plot::Picture;
use crate::maintenance::quarantine::Which;
use crate::reading::Kind;
use crate::table::Format;
use crate::weather::quantity::Observed;
use crate::weather::units::Units;

/// Flags of `import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The other database; it is not changed
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Flags of `export`.
#[derive(Args, Clone, Debug)]
pub struct ExportArgs {
    /// Which readings
    #[arg(long, value_name = "TABLE", default_value = "weather", value_parser = kind)]
    pub table: Kind,
    /// From this time on: 2026-03-01 or 2026-03-01T12:00 in UTC, 2026-03-01T12:00+01:00, or
    /// 2026-03-01T12:00[Europe/Berlin] [default: from the first]
    #[arg(long, value_name = "TIME", value_parser = export::moment)]
    pub from: Option<i64>,
    /// Before this time [default: to the last]
    #[arg(long, value_name = "TIME", value_parser = export::moment)]
    pub to: Option<i64>,
    /// Only sources that this topic or topic filter matches
    #[arg(long, value_name = "FILTER", value_parser = filter)]
    pub source: Option<String>,
    /// csv or jsonl
    #[arg(long, value_name = "FORMAT", default_value = "csv", value_parser = format)]
    pub format: Format,
    /// As weather, derived, in these units: metric, imperial or si [default: the raw readings as they are stored]
    #[arg(long, value_name = "UNITS", value_parser = units)]
    pub units: Option<Units>,
    /// File to write to; it appears only when it is whole [default: the standard output]
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Replace the file where it is there
    #[arg(long, requires = "out")]
    pub force: bool,
}

/// Flags of `plot`.
#[derive(Args, Clone, Debug)]
pub struct PlotArgs {
    /// How long: up to now, up to --to, or from --from on: 30m, 1h, 6h, 24h, 7d, 30d, 1y or all [default: 24h; from --from up to
    /// now]
    #[arg(long, value_name = "RANGE", value_parser = quick)]
    pub range: Option<Quick>,
    /// From this time on: 2026-03-01 or 2026-03-01T12:00 in the station's time, or 2026-03-01T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Until this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// Which quantities, a chart each, with commas between: temperature,rain [default: the page's charts]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = observed)]
    pub quantities: Vec<Observed>,
    /// metric, imperial or si [default: weather.units]
    #[arg(long, value_name = "UNITS", value_parser = units)]
    pub units: Option<Units>,
    /// Width of a chart, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 960, value_parser = clap::value_parser!(u32).range(160..=4096))]
    pub width: u32,
    /// Height of a chart, pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 280, value_parser = clap::value_parser!(u32).range(100..=4096))]
    pub height: u32,
    /// File to write to, .svg or .png; it appears only when it is whole [default: the standard output, as SVG]
    #[arg(long, value_name = "FILE", value_parser = picture)]
    pub out: Option<(PathBuf, Picture)>,
    /// Replace the file where it is there
    #[arg(long, requires = "out")]
    pub force: bool,
}

fn quick(text: &str) -> Result<Quick, String> {
    Quick::named(text).ok_or_else(|| "one of 30m, 1h, 6h, 24h, 7d, 30d, 1y, all".to_owned())
}

fn observed(text: &str) -> Result<Observed, String> {
    Observed::named(text).filter(|quantity| quantity.is_series()).ok_or_else(|| {
        let names: Vec<&str> = Observed::ALL.iter().filter(|one| one.is_series()).map(|one| one.name()).collect();
        format!("one of {}", names.join(", "))
    })
}

fn units(text: &str) -> Result<Units, String> {
    Units::named(text).ok_or_else(|| "one of metric, imperial, si".to_owned())
}

fn picture(text: &str) -> Result<(PathBuf, Picture), String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => Ok((path, Picture::Svg)),
        Some("png") => Ok((path, Picture::Png)),
        _ => Err("a file whose name ends with .svg or .png".to_owned()),
    }
}

/// Flags of `backup`.
#[derive(Args, Clone, Debug)]
pub struct BackupArgs {
    /// The copy; it appears only when it is whole
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Replace the file where it is there
    #[arg(long)]
    pub force: bool,
}

/// What can be done with the quarantine.
#[derive(Clone, Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what was rejected, newest first, with topic and reason
    List(QuarantineListArgs),
    /// Show one message whole
    Show(QuarantineShowArgs),
    /// Decode messages once more: what is a reading now becomes one, what is not stays
    Replay(QuarantineWhichArgs),
    /// Drop messages for good
    Drop(QuarantineWhichArgs),
}

/// Flags of `quarantine show`.
#[derive(Args, Clone, Debug)]
pub struct QuarantineShowArgs {
    /// The message's number
    #[arg(value_name = "ID")]
    pub id: i64,
    /// Write its bytes as they came, and nothing else
    #[arg(long)]
    pub raw: bool,
}

/// Flags of `quarantine replay` and `quarantine drop`.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct QuarantineWhichArgs {
    /// The messages' numbers
    #[arg(value_name = "ID")]
    pub ids: Vec<i64>,
    /// All messages that are there now
    #[arg(long)]
    pub all: bool,
}

/// Flags of `quarantine list`.
#[derive(Args, Clone, Debug)]
pub struct QuarantineListArgs {
    /// Print at most N entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print one JSON object per line, with the raw payload
    #[arg(long)]
    pub json: bool,
}

impl From<QuarantineWhichArgs> for Which {
    fn from(args: QuarantineWhichArgs) -> Which {
        if args.all { Which::All } else { Which::These(args.ids) }
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    let kinds = [Kind::Weather, Kind::Magnetic];
    kinds.into_iter().find(|kind| kind.name() == text).ok_or_else(|| "must be weather or magnetic".to_owned())
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "csv" => Ok(Format::Csv),
        "jsonl" => Ok(Format::JsonLines),
        _ => Err("must be csv or jsonl".to_owned()),
    }
}

fn filter(text: &str) -> Result<String, String> {
    let is_filter = crate::topic::valid_filter(text);
    if is_filter { Ok(text.to_owned()) } else { Err("must be a topic or an MQTT topic filter".to_owned()) }
}
