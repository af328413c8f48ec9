//! The `stationhub` command: arguments in, exit code out.

use std::io::{IsTerminal, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use stationhub::almanac::Terms;
use stationhub::almanac::range::moment;
use stationhub::broker::auth::{Auth, AuthErrors};
use stationhub::chart::Size;
use stationhub::cli::{
    AlertCommand, BackupArgs, Cli, Command, EventsCommand, ExportArgs, GapsArgs, ImportArgs, ImportMosquittoArgs,
    PasswdCommand, PlotArgs, QuarantineCommand, QuarantineListArgs,
};
use stationhub::clock::now_ms;
use stationhub::config::{Config, Flags};
use stationhub::http::client::{ClientError, Colours};
use stationhub::maintenance::MaintenanceError;
use stationhub::maintenance::export::Output;
use stationhub::maintenance::plot::Plot;
use stationhub::maintenance::quarantine::What;
use stationhub::maintenance::whole::Replace;
use stationhub::store::Reader;
use stationhub::store::export::Wanted;
use stationhub::{gaps, http, hub, lock, maintenance, passwd, records, simulate, store};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;

/// Worker threads, at most: a station's traffic does not need more, and each has a stack.
const WORKERS_MAX: usize = 4;

/// Exit codes other than 0.
mod exit {
    pub(super) const FAILED: u8 = 1;
    pub(super) const USAGE: u8 = 2;
    /// `status`: no hub runs.
    pub(super) const NOT_RUNNING: u8 = 2;
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Simulate(args)) => return finish(play(args.into())),
        Some(Command::ImportMosquitto(args)) => return finish(import_mosquitto(&args)),
        _ => {}
    }
    let config = match Config::load(&cli.flags(), std::env::vars_os()) {
        Ok(config) => config,
        Err(errors) => {
            return wrong(&errors);
        }
    };
    match cli.command {
        None | Some(Command::Run(_)) => match users_of(&config) {
            Ok(_) => finish(run(config, cli.flags())),
            Err(errors) => wrong(&errors),
        },
        Some(Command::Check(_)) => check(&config),
        Some(Command::Status(args)) => status(&config, args.json).unwrap_or_else(|error| finish(Err(error))),
        Some(Command::Alert(command)) => finish(alert(&config, command)),
        Some(Command::Quarantine(command)) => finish(quarantine(&config, command)),
        Some(Command::Backup(args)) => finish(backup(&config, &args)),
        Some(Command::Export(args)) => finish(export(&config, args)),
        Some(Command::Plot(args)) => finish(plot(&config, args)),
        Some(Command::Doctor) => doctor(&config).unwrap_or_else(|error| finish(Err(error))),
        Some(Command::Import(args)) => finish(import(&config, &args)),
        Some(Command::Gaps(args)) => finish(missing(&config, args)),
        Some(Command::Events(command)) => finish(events(&config, &command)),
        Some(Command::Passwd(command)) => finish(users(config, command)),
        Some(Command::Simulate(_) | Command::ImportMosquitto(_)) => ExitCode::SUCCESS,
    }
}

fn wrong(errors: &dyn std::error::Error) -> ExitCode {
    complain(&errors);
    ExitCode::from(exit::USAGE)
}

/// Reads all files of users as the hub will; returns what their owner should know.
fn users_of(config: &Config) -> Result<Vec<String>, AuthErrors> {
    let mut warnings = Auth::load(&config.broker)?.warnings().to_vec();
    let page = http::access(&config.http)?;
    warnings.extend(page.iter().flat_map(|auth| auth.warnings().iter().cloned()));
    Ok(warnings)
}

fn check(config: &Config) -> ExitCode {
    match users_of(config) {
        Ok(warnings) => {
            warnings.iter().for_each(|warning| complain(&format_args!("warning: {warning}")));
            finish(print_line(config.effective().trim_end()))
        }
        Err(errors) => wrong(&errors),
    }
}

/// Says what is wrong on stderr; where nobody reads that, the exit code says it alone.
fn complain(what: &dyn std::fmt::Display) {
    writeln!(std::io::stderr(), "{what}").unwrap_or(());
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format_args!("{error:#}"));
            ExitCode::from(exit::FAILED)
        }
    }
}

fn runtime() -> anyhow::Result<Runtime> {
    // Half of the cores: the writer and the router have threads of their own, and each hand-over to another worker that
    // has to be woken first is time that an ack waits.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = (cores / 2).clamp(1, WORKERS_MAX);
    Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(16)
        .thread_name("hub-worker")
        .enable_all()
        .build()
        .context("cannot start the hub's threads")
}

fn run(config: Config, flags: Flags) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let reread = Arc::new(move || Config::load(&flags, std::env::vars_os()));
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(hub::run(config, reread))));
    // A thread that is stuck in the system must not keep the hub from ending.
    runtime.shutdown_background();
    let ended = ended.map_err(|_| anyhow::Error::msg("the hub's main task panicked; its log says where"))?;
    // Its words name their cause already.
    ended.map_err(|error| anyhow::Error::msg(error.to_string()))
}

fn play(options: simulate::Options) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        tokio::spawn(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stopping.cancel();
            }
        });
        simulate::run(options, stop).await.map_err(Into::into)
    })
}

/// Prints the running hub's status: exit 0 where it is well, 1 where not, 2 where no hub runs.
fn status(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    let answer = match runtime()?.block_on(http::status(&config.store.path)) {
        Ok(answer) => answer,
        Err(error @ ClientError::NotRunning { .. }) => {
            complain(&error);
            return Ok(ExitCode::from(exit::NOT_RUNNING));
        }
        Err(error) => return Err(error.into()),
    };
    let report: serde_json::Value = serde_json::from_str(&answer).context("the hub's answer is no JSON")?;
    if json {
        print_line(&answer)?;
    } else {
        print_line(http::client::in_words(&report, colours()).trim_end())?;
    }
    Ok(if report["status"] == "ok" { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn alert(config: &Config, command: AlertCommand) -> anyhow::Result<()> {
    let database = &config.store.path;
    let answer = runtime()?.block_on(async {
        match &command {
            AlertCommand::List(_) => http::alerts(database).await,
            AlertCommand::Ack(args) => http::acknowledge(database, &args.rule).await,
            AlertCommand::Test(args) => http::test_channel(database, &args.channel).await,
        }
    });
    let answer = match (answer, &command) {
        (Err(ClientError::NotRunning { .. }), AlertCommand::Ack(args)) => {
            let _lock = lock::take_database(database)?;
            let count = store::alerts::acknowledge(database, &args.rule)?;
            format!("no hub runs; {} is acknowledged on {count} in the database", args.rule)
        }
        (answer, _) => answer?,
    };
    match command {
        AlertCommand::List(args) if !args.json => {
            let listing = serde_json::from_str(&answer).context("the hub's answer is no JSON")?;
            print_line(&http::alerts::in_words(&listing))
        }
        _ => print_line(&answer),
    }
}

/// Prints which readings are missing, from the database alone: the hub need not run.
fn missing(config: &Config, args: GapsArgs) -> anyhow::Result<()> {
    let database = &config.store.path;
    let is_alive = runtime()?.block_on(http::status(database)).is_ok();
    let question = records::Question { from_ms: args.from, to_ms: args.to, source: args.source };
    let query = question.query(now_ms(), is_alive)?;
    let report = Reader::open(database)
        .and_then(|reader| reader.gaps(&query))
        .with_context(|| format!("{}", database.display()))?;
    if args.json {
        return print_line(&serde_json::to_string(&report)?);
    }
    print_line(&gaps::in_words(&report))
}

fn events(config: &Config, command: &EventsCommand) -> anyhow::Result<()> {
    let database = &config.store.path;
    match command {
        EventsCommand::List(args) => {
            let listed = Reader::open(database)
                .and_then(|reader| reader.events(args.limit))
                .with_context(|| format!("{}", database.display()))?;
            print_line(&if args.json { serde_json::to_string(&listed)? } else { records::in_words(&listed) })
        }
        EventsCommand::Ack(args) => match runtime()?.block_on(http::acknowledge_event(database, args.id)) {
            Err(ClientError::NotRunning { .. }) => {
                let _locked = lock::take_database(database)?;
                let is_known = store::acknowledge_event(database, args.id)?;
                anyhow::ensure!(is_known, records::RecordsError::Unknown(args.id));
                print_line(&format!("event {} is acknowledged", args.id))
            }
            answer => print_line(&answer?),
        },
    }
}

/// Colours are for a terminal that knows them, unless NO_COLOR is set to anything (https://no-color.org).
fn colours() -> Colours {
    let says = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let knows = says("TERM").is_none_or(|term| term != "dumb") && says("NO_COLOR").is_none();
    if knows && std::io::stdout().is_terminal() { Colours::On } else { Colours::Off }
}

fn users(config: Config, command: PasswdCommand) -> anyhow::Result<()> {
    let configured = config.broker.users;
    let said = match command {
        PasswdCommand::Add(args) => passwd::add(args.file.file.or(configured), &args.name),
        PasswdCommand::Remove(args) => passwd::remove(args.file.file.or(configured), &args.name),
        PasswdCommand::List(args) => passwd::list(args.file.or(configured)),
    }?;
    if said.is_empty() { Ok(()) } else { print_line(&said) }
}

fn import_mosquitto(args: &ImportMosquittoArgs) -> anyhow::Result<()> {
    print_line(stationhub::import_mosquitto::run(&args.conf, &args.out, args.force)?.trim_end())
}

fn backup(config: &Config, args: &BackupArgs) -> anyhow::Result<()> {
    let replace = Replace::where_forced(args.force);
    print_line(&maintenance::backup::run(&config.store.path, &args.file, replace).map_err(in_its_words)?)
}

fn export(config: &Config, args: ExportArgs) -> anyhow::Result<()> {
    let output = args.out.map_or(Output::Stdout, |path| Output::File(path, Replace::where_forced(args.force)));
    let wanted = Wanted { kind: args.table, from: args.from, to: args.to, source: args.source };
    let database = &config.store.path;
    let done = match args.units {
        None => maintenance::export::run(database, &wanted, args.format, &output),
        Some(units) => {
            maintenance::export::run_derived(database, &wanted, (&Terms::of(config), units), args.format, &output)
        }
    };
    done.map_err(in_its_words)
}

fn plot(config: &Config, args: PlotArgs) -> anyhow::Result<()> {
    let terms = Terms::of(config);
    let time = |text: Option<String>, flag: &str| {
        let parsed = text.map(|text| moment(&text, terms.days.zone())).transpose();
        parsed.map_err(|error| anyhow::Error::msg(format!("{flag} {error}")))
    };
    let plot = Plot {
        quick: args.range,
        from: time(args.from, "--from")?,
        to: time(args.to, "--to")?,
        quantities: args.quantities,
        units: args.units.unwrap_or(config.weather.units),
        size: Size { width: args.width, height: args.height },
    };
    let output = args.out.map(|(path, picture)| (path, picture, Replace::where_forced(args.force)));
    maintenance::plot::run(&config.store.path, &terms, &plot, output).map_err(in_its_words)
}

/// Takes an error whose words name their cause already.
fn in_its_words(error: MaintenanceError) -> anyhow::Error {
    anyhow::Error::msg(error.to_string())
}

fn doctor(config: &Config) -> anyhow::Result<ExitCode> {
    let colours = colours();
    let (mut printed, mut is_well) = (Ok(()), true);
    runtime()?.block_on(maintenance::doctor::run(config, |finding| {
        is_well &= !finding.is_failing();
        if printed.is_ok() {
            printed = print_line(&finding.in_words(colours));
        }
    }));
    printed?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

fn import(config: &Config, args: &ImportArgs) -> anyhow::Result<()> {
    let report = runtime()?.block_on(maintenance::import::run(config, &args.file)).map_err(in_its_words)?;
    print_line(report.trim_end())
}

fn quarantine(config: &Config, command: QuarantineCommand) -> anyhow::Result<()> {
    let (what, which) = match command {
        QuarantineCommand::List(args) => return quarantine_list(config, &args),
        QuarantineCommand::Show(args) => {
            let message = maintenance::quarantine::show(&config.store.path, args.id).map_err(in_its_words)?;
            if args.raw {
                return std::io::stdout().write_all(&message.payload).context("cannot print");
            }
            return print_line(&maintenance::quarantine::in_words(&message));
        }
        QuarantineCommand::Replay(args) => (What::Replay, args.into()),
        QuarantineCommand::Drop(args) => (What::Drop, args.into()),
    };
    let said = runtime()?.block_on(maintenance::quarantine::run(config, what, which)).map_err(in_its_words)?;
    print_line(&said)
}

fn quarantine_list(config: &Config, args: &QuarantineListArgs) -> anyhow::Result<()> {
    let listed = Reader::open(&config.store.path)
        .and_then(|reader| reader.quarantine(args.limit))
        .with_context(|| format!("{}", config.store.path.display()))?;
    for message in &listed {
        if args.json {
            print_line(&serde_json::to_string(message)?)?;
        } else {
            print_line(&message.in_words())?;
        }
    }
    if listed.is_empty() && std::io::stdout().is_terminal() {
        print_line("The quarantine is empty.")?;
    }
    Ok(())
}

/// Prints a line; a reader that has seen enough, as `head` has, is no error.
fn print_line(line: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => result.context("cannot print"),
    }
}
