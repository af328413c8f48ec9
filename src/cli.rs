//! The command line, as definitions: commands, flags, their help and their ranges.
//!
//! Owns the words that a user types. It never acts on them.

mod maintenance;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub use self::maintenance::{
    BackupArgs, ExportArgs, ImportArgs, PlotArgs, QuarantineCommand, QuarantineListArgs, QuarantineShowArgs,
    QuarantineWhichArgs,
};
use crate::config::Flags;
use crate::simulate;

/// An MQTT broker and failsafe store for a weather station, in one binary.
#[derive(Clone, Debug, Parser)]
#[command(name = "stationhub", version, about, long_about = None)]
#[command(after_help = "Without a command, the hub runs. Exit codes: 0 done, 1 failed or refused, 2 wrong usage or \
                        configuration.")]
pub struct Cli {
    /// What to do; without it, the hub runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Flags of every command.
    #[command(flatten)]
    pub common: Common,
    /// Flags of `run`, which may stand without the word.
    #[command(flatten)]
    pub run: RunArgs,
}

/// Flags of every command.
#[derive(Args, Clone, Debug, Default)]
pub struct Common {
    /// Configuration file; it must exist if it is named [default: hub.toml, if there is one]
    #[arg(long, value_name = "FILE", global = true, display_order = 90)]
    pub config: Option<PathBuf>,
    /// Database, instead of store.path [default: weather_data.db]
    #[arg(long, value_name = "FILE", global = true, display_order = 91)]
    pub db: Option<PathBuf>,
}

/// Flags of `run` and `check`.
#[derive(Args, Clone, Debug, Default)]
pub struct RunArgs {
    /// MQTT address, instead of the first listener's in rumqttd.toml; port 0 lets the system choose
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// HTTP address (health and status), instead of http.listen; port 0 lets the system choose, "" turns it off
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// PID file, locked while the hub runs [default: stationhub.pid]
    #[arg(long, value_name = "FILE")]
    pub pid: Option<PathBuf>,
    /// Log file, reopened on SIGUSR1, instead of log.file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Log at level debug
    #[arg(long, conflicts_with = "silent")]
    pub verbose: bool,
    /// Log to the file only, not to stderr
    #[arg(long)]
    pub silent: bool,
    /// File to write once the hub serves: JSON with pid, mqtt (addresses) and http
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
}

/// What the hub can be told to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the hub
    Run(RunArgs),
    /// Check the configuration: print every error with its key, or the effective configuration
    Check(RunArgs),
    /// Ask the running hub how it is: exit 0 healthy, 1 unhealthy, 2 not running
    Status(StatusArgs),
    /// Play a weather station to any broker, so that the hub can be tried without hardware
    Simulate(SimulateArgs),
    /// Add, change, list or remove users of the MQTT broker
    #[command(subcommand)]
    Passwd(PasswdCommand),
    /// Read a mosquitto.conf and write the configuration that does the same; tell what has no counterpart
    ImportMosquitto(ImportMosquittoArgs),
    /// Show, acknowledge and try alerts
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Show which readings are missing, and why: expected against stored, by source
    Gaps(GapsArgs),
    /// Show and acknowledge what happened to the hub: unclean stops, steps of the clock, lost readings
    #[command(subcommand)]
    Events(EventsCommand),
    /// Show what was rejected, and why; decode it once more, or drop it
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Copy the database to a file while the hub runs, and check the copy
    Backup(BackupArgs),
    /// Write readings of a time range as CSV or JSON lines
    Export(ExportArgs),
    /// Draw a chart of a time range as SVG or PNG
    Plot(PlotArgs),
    /// Add the readings of another station's database, none twice
    Import(ImportArgs),
    /// Look at all that the hub needs: one line each, exit 0 where nothing is to be done
    Doctor,
}

/// Flags of `status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be done with users.
#[derive(Clone, Debug, Subcommand)]
pub enum PasswdCommand {
    /// Add a user, or change the password of one that is there; the password is asked for, or read from standard input
    #[command(visible_alias = "set")]
    Add(PasswdUserArgs),
    /// Remove a user
    Remove(PasswdUserArgs),
    /// List the users' names
    List(PasswdArgs),
}

/// Flags of `passwd` for one user.
#[derive(Args, Clone, Debug)]
pub struct PasswdUserArgs {
    /// The user's name
    #[arg(value_name = "NAME")]
    pub name: String,
    /// Which file.
    #[command(flatten)]
    pub file: PasswdArgs,
}

/// Flags of `passwd`.
#[derive(Args, Clone, Debug)]
pub struct PasswdArgs {
    /// File of users, instead of broker.users
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Flags of `import-mosquitto`.
#[derive(Args, Clone, Debug)]
pub struct ImportMosquittoArgs {
    /// The mosquitto.conf
    #[arg(value_name = "FILE")]
    pub conf: PathBuf,
    /// Directory to write rumqttd.toml and hub.toml to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Overwrite what is there
    #[arg(long)]
    pub force: bool,
}

/// What can be done with alerts.
#[derive(Clone, Debug, Subcommand)]
pub enum AlertCommand {
    /// List what is firing, what was, and how the channels stand
    List(AlertListArgs),
    /// Acknowledge what a rule tells: it is not repeated, its end is told
    Ack(AlertAckArgs),
    /// Send a test over a channel of the running hub, and tell how that went
    Test(AlertTestArgs),
}

/// Flags of `alert list`.
#[derive(Args, Clone, Debug)]
pub struct AlertListArgs {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `alert ack`.
#[derive(Args, Clone, Debug)]
pub struct AlertAckArgs {
    /// The rule's name
    #[arg(value_name = "RULE", value_parser = alert_name)]
    pub rule: String,
}

/// Flags of `alert test`.
#[derive(Args, Clone, Debug)]
pub struct AlertTestArgs {
    /// The channel's name
    #[arg(value_name = "CHANNEL", value_parser = alert_name)]
    pub channel: String,
}

/// Flags of `gaps`.
#[derive(Args, Clone, Debug)]
pub struct GapsArgs {
    /// From when: 2025-10-03, 2025-10-03T08:24:05 (UTC), or as long ago as 30m, 6h, 7d [default: 7 days before the end]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub from: Option<i64>,
    /// Until when [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub to: Option<i64>,
    /// Of this source alone, named by its topic without a trailing slash
    #[arg(long, value_name = "TOPIC")]
    pub source: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be done with events.
#[derive(Clone, Debug, Subcommand)]
pub enum EventsCommand {
    /// List what happened, newest first
    List(EventsListArgs),
    /// Note that you know of an event
    Ack(EventsAckArgs),
}

/// Flags of `events list`.
#[derive(Args, Clone, Debug)]
pub struct EventsListArgs {
    /// Print at most N events
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Flags of `events ack`.
#[derive(Args, Clone, Debug)]
pub struct EventsAckArgs {
    /// The event's number, as `events list` shows it
    #[arg(value_name = "ID")]
    pub id: i64,
}

/// Flags of `simulate`.
#[derive(Args, Clone, Debug)]
pub struct SimulateArgs {
    /// Broker to publish to
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883")]
    pub broker: simulate::BrokerAddress,
    /// Topic above weathermeters/ and magneticfluxsensor/
    #[arg(long, value_name = "PREFIX", default_value = "backacres/house/weatherstation")]
    pub topic: simulate::TopicPrefix,
    /// Seconds between samples, fractions allowed
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = interval)]
    pub interval_s: Duration,
    /// Quality of service; the real sensors use 0
    #[arg(long, value_name = "0|1|2", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// End after N samples of two readings each, weather and magnetic, once those at QoS 1 and 2 are acknowledged
    /// [default: endless]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Number that decides the weather; the same seed at the same time makes the same weather
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub seed: u64,
    /// User to log in as
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub username: Option<String>,
    /// File whose first line is the user's password
    #[arg(long, value_name = "FILE", requires = "username")]
    pub password_file: Option<PathBuf>,
}

impl Cli {
    /// Returns what the command line says about the configuration.
    pub fn flags(&self) -> Flags {
        let (outer, inner) = match &self.command {
            Some(Command::Run(args) | Command::Check(args)) => (self.run.clone(), args.clone()),
            _ => (self.run.clone(), RunArgs::default()),
        };
        Flags {
            config: self.common.config.clone(),
            db: self.common.db.clone(),
            listen: inner.listen.or(outer.listen),
            http: inner.http.or(outer.http),
            pid: inner.pid.or(outer.pid),
            log: inner.log.or(outer.log),
            ready_file: inner.ready_file.or(outer.ready_file),
            verbose: inner.verbose || outer.verbose,
            silent: inner.silent || outer.silent,
        }
    }
}

impl From<SimulateArgs> for simulate::Options {
    fn from(args: SimulateArgs) -> simulate::Options {
        simulate::Options {
            broker: args.broker,
            topic: args.topic,
            interval: args.interval_s,
            qos: args.qos,
            count: args.count,
            seed: args.seed,
            login: args.username.zip(args.password_file),
        }
    }
}

fn alert_name(text: &str) -> Result<String, String> {
    let is_name = crate::config::is_alert_name(text);
    if is_name { Ok(text.to_owned()) } else { Err("no rule and no channel can have that name".to_owned()) }
}

fn time(text: &str) -> Result<i64, String> {
    crate::gaps::parse_time(text, crate::clock::now_ms())
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.001..=86_400.0).contains(seconds));
    let seconds = seconds.ok_or("must be a number of seconds between 0.001 and 86400")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::path::Path;
    use std::time::Duration;

    use clap::{CommandFactory, Parser};

    use super::{Cli, Command};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_run_mean_the_same_with_and_without_the_word() {
        for line in [
            "stationhub --config a --db b --listen c --verbose",
            "stationhub run --config a --db b --listen c --verbose",
            "stationhub --config a --verbose run --listen c --db b",
            "stationhub check --verbose --listen c --db b --config a",
        ] {
            let flags = parse(line).unwrap().flags();
            assert_eq!(flags.config.as_deref(), Some(Path::new("a")), "{line}");
            assert_eq!(flags.db.as_deref(), Some(Path::new("b")), "{line}");
            assert_eq!(flags.listen.as_deref(), Some("c"), "{line}");
            assert!(flags.verbose && !flags.silent, "{line}");
        }
    }

    #[test]
    fn every_command_takes_the_configuration_and_the_database() {
        for command in [
            "run",
            "check",
            "status --json",
            "simulate",
            "quarantine list --limit 3 --json",
            "alert list",
            "alert ack frost",
            "gaps --from 7d --json",
            "events list",
            "events ack 3",
            "passwd list",
            "passwd add me",
        ] {
            let flags = parse(&format!("stationhub {command} --config a --db b")).unwrap().flags();
            assert!(flags.config.is_some() && flags.db.is_some(), "{command}");
        }
    }

    #[test]
    fn wrong_usage_exits_2() {
        for line in [
            "stationhub --verbose --silent",
            "stationhub nonsense",
            "stationhub simulate --qos 3",
            "stationhub simulate --count 0",
            "stationhub simulate --interval-s 0",
            "stationhub simulate --interval-s NaN",
            "stationhub simulate --topic a/#",
            "stationhub simulate --broker mqtt://x",
            "stationhub quarantine",
            "stationhub alert",
            "stationhub alert ack a/b",
            "stationhub events",
            "stationhub gaps --from yesterday",
            "stationhub events ack x",
            "stationhub passwd",
            "stationhub passwd add",
            "stationhub import-mosquitto",
            "stationhub status --listen c",
        ] {
            assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn an_interval_may_have_a_fraction() {
        let Some(Command::Simulate(args)) = parse("stationhub simulate --interval-s 0.25").unwrap().command else {
            panic!("not simulate");
        };
        assert_eq!(args.interval_s, Duration::from_millis(250));
    }
}
