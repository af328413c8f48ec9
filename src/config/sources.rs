//! Brings `hub.toml`, the environment and the flags together into one tree in which every value knows its origin.
//!
//! Owns the order of precedence, the names of environment variables, and where a file is looked for. It never knows
//! which keys there are, and never reads the process environment itself.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use ::config::{ConfigError, FileFormat, Format, Map, Source, Value, ValueKind};

use super::error::{ConfigErrors, Problem};

/// Begins the origin of every value that comes from the environment.
pub(super) const ENVIRONMENT: &str = "environment ";

/// Begins the name of every environment variable that the hub reads.
const PREFIX: &str = "STATIONHUB_";

/// Stands for the configuration file where no other is named.
const FILE: &str = "hub.toml";

/// Holds what the command line says about the configuration; all of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config FILE`: the configuration file, which then has to exist.
    pub config: Option<PathBuf>,
    /// `--db FILE`: the database, `store.path`.
    pub db: Option<PathBuf>,
    /// `--listen ADDR`: the address of the first MQTT listener.
    pub listen: Option<String>,
    /// `--http ADDR`: the HTTP address, `http.listen`; empty for none.
    pub http: Option<String>,
    /// `--pid FILE`: the PID file.
    pub pid: Option<PathBuf>,
    /// `--log FILE`: the log file, `log.file`.
    pub log: Option<PathBuf>,
    /// `--ready-file FILE`: written once the hub serves.
    pub ready_file: Option<PathBuf>,
    /// `--verbose`: log at least at level debug.
    pub verbose: bool,
    /// `--silent`: no log lines on stderr.
    pub silent: bool,
}

/// The merged tree, and what is needed to make sense of it.
pub(super) struct Merged {
    /// All values.
    pub(super) tree: Value,
    /// The configuration file, as errors name it.
    pub(super) file: String,
    /// The directory that relative paths in the file, and the defaults, start from.
    pub(super) base: PathBuf,
    /// What was wrong with the sources themselves.
    pub(super) problems: Vec<Problem>,
}

/// Merges file < environment < flags. A file that cannot be read ends it at once: the rest would only mislead.
pub(super) fn merge(
    flags: &Flags,
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Merged, ConfigErrors> {
    let path = flags.config.clone().unwrap_or_else(|| PathBuf::from(FILE));
    let file = path.display().to_string();
    let mut problems = Vec::new();
    let text = read(&path, flags.config.is_some()).map_err(|text| Problem::new(&file, "", text))?;
    let mut values = match &text {
        Some(text) => parse(&file, text)?,
        None => Map::new(),
    };
    drop_foreign(&file, "", &mut values, &mut problems);

    let mut builder = ::config::Config::builder().add_source(Layer(values));
    for variable in environment(env, &mut problems) {
        builder = builder.add_source(variable);
    }
    builder = builder.add_source(from_flags(flags, &mut problems));
    let merged = builder.build().map_err(|error| Problem::new(&file, "", error.to_string()))?;

    let parent = path.parent().filter(|_| text.is_some());
    let base = parent.map(Path::to_path_buf).unwrap_or_default();
    Ok(Merged { tree: merged.cache, file, base, problems })
}

/// Reads a file; one that is missing is an error only where it was named.
pub(super) fn read(path: &Path, named: bool) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound && !named => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Parses TOML; the error names line and column.
pub(super) fn parse(file: &str, text: &str) -> Result<Map<String, Value>, Problem> {
    FileFormat::Toml.parse(Some(&file.to_owned()), text).map_err(|error| {
        // The parser's text: "TOML parse error at line L, column C", three lines of picture, then the cause.
        let error = error.to_string();
        let place = error.lines().next().unwrap_or_default().trim_start_matches("TOML parse error at ");
        let cause: Vec<&str> = error.lines().skip(4).map(str::trim).collect();
        Problem::new(file, "", format!("{place}: {}", cause.join(", ")))
    })
}

/// One source of values. Unlike the crate's own sources it keeps each value's origin as it is.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

/// Takes out keys that no key of the hub looks like, as the merge would read `a.b` or `a[1]` as paths, and `A` as `a`.
fn drop_foreign(file: &str, prefix: &str, values: &mut Map<String, Value>, problems: &mut Vec<Problem>) {
    let mut foreign: Vec<String> = values.keys().filter(|key| !is_plain(key)).cloned().collect();
    foreign.sort();
    for key in foreign {
        values.remove(&key);
        let text = "unknown key; keys are lower-case letters, digits and underscores";
        problems.push(Problem::new(file, format!("{prefix}{key}"), text));
    }
    for (key, value) in values.iter_mut() {
        if let ValueKind::Table(inner) = &mut value.kind {
            drop_foreign(file, &format!("{prefix}{key}."), inner, problems);
        }
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Returns one layer per variable, longer keys first, so that a value set over a section is seen and reported.
fn environment(env: impl IntoIterator<Item = (OsString, OsString)>, problems: &mut Vec<Problem>) -> Vec<Layer> {
    let mut found = Vec::new();
    for (name, value) in env {
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
            continue;
        };
        let key = rest.to_lowercase().replace("__", ".");
        let origin = format!("{ENVIRONMENT}{PREFIX}{rest}");
        match value.into_string() {
            Ok(_) if !key.split('.').all(is_plain) => problems.push(Problem::new(origin, key, "unknown key")),
            Ok(text) => found.push((key, Value::new(Some(&origin), text))),
            Err(_) => problems.push(Problem::new(origin, key, "must be UTF-8 text")),
        }
    }
    found.sort_by(|left, right| right.0.cmp(&left.0));
    found.into_iter().map(|variable| Layer(Map::from_iter([variable]))).collect()
}

fn from_flags(flags: &Flags, problems: &mut Vec<Problem>) -> Layer {
    let mut values = Map::new();
    let mut set = |flag: &str, key: &str, text: String| {
        values.insert(key.to_owned(), Value::new(Some(&flag.to_owned()), text));
    };
    for (flag, key, path) in [("--db", "store.path", &flags.db), ("--log", "log.file", &flags.log)] {
        match path.as_ref().map(|path| path.to_str()) {
            Some(Some(text)) => set(flag, key, text.to_owned()),
            Some(None) => problems.push(Problem::new(flag, key, "must be UTF-8 text")),
            None => {}
        }
    }
    if let Some(address) = &flags.http {
        set("--http", "http.listen", address.clone());
    }
    Layer(values)
}
