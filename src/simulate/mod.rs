//! The `simulate` command: plays a weather station to any MQTT 3.1.1 broker.
//!
//! Owns the publishing side: what was handed over, sent and acknowledged, and sending again after a lost connection.
//! It never touches the hub's own rooms: to the hub it is a client like any other.

mod play;
mod station;
#[cfg(test)]
mod tests;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use self::play::{Play, WINDOW};

pub use self::station::Station;

/// First and longest pause between attempts to connect again.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Time without a connection after which the simulation ends.
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);

/// Time for the DISCONNECT to leave.
const GOODBYE: Duration = Duration::from_secs(2);

/// Time between two progress lines on a terminal, where they overwrite each other, and in a file.
const PROGRESS_TERMINAL: Duration = Duration::from_secs(1);
const PROGRESS_FILE: Duration = Duration::from_secs(60);

/// What to play, and to whom.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The broker.
    pub broker: BrokerAddress,
    /// The topic above those of the sensors.
    pub topic: TopicPrefix,
    /// Time between samples.
    pub interval: Duration,
    /// Quality of service, 0 to 2.
    pub qos: u8,
    /// Samples to play, each a weather and a magnetic reading; `None` for no end.
    pub count: Option<u64>,
    /// Decides the weather.
    pub seed: u64,
    /// The user's name, and the file whose first line is the password.
    pub login: Option<(String, PathBuf)>,
}

/// Host and port of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerAddress {
    /// Name or address; an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl FromStr for BrokerAddress {
    type Err = String;

    /// Reads `HOST:PORT`; without a port it is 1883.
    fn from_str(text: &str) -> Result<BrokerAddress, String> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !text.ends_with(']') => (host, port.parse().ok().filter(|port| *port != 0)),
            _ => (text, Some(1883)),
        };
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let plain = !host.is_empty() && !host.contains([':', '[', ']', '/']) && !host.contains(char::is_whitespace);
        match port {
            Some(port) if bracketed || plain => Ok(BrokerAddress { host: host.to_owned(), port }),
            _ => Err("must be HOST:PORT, such as 127.0.0.1:1883 or [::1]:1883".to_owned()),
        }
    }
}

impl std::fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The topic above those of the sensors, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPrefix(String);

impl FromStr for TopicPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<TopicPrefix, String> {
        let prefix = text.trim_end_matches('/');
        if prefix.is_empty() || prefix.len() > 60_000 || prefix.contains(['+', '#', '\0']) {
            return Err("must be a topic, without '+' and '#'".to_owned());
        }
        Ok(TopicPrefix(prefix.to_owned()))
    }
}

/// Why the simulation ended early.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The broker could not be reached at the start.
    #[error(
        "Cannot reach the broker at {broker}: {reason}\nStart the hub first, or name another broker with --broker."
    )]
    Unreachable {
        /// Where it should be.
        broker: BrokerAddress,
        /// What the network said.
        reason: Box<ConnectionError>,
    },
    /// The broker was there, went, and did not come back in time.
    #[error("Lost the broker at {broker} {GIVE_UP_S} s ago: {reason}\nStart it again, then the simulation.", GIVE_UP_S = GIVE_UP_AFTER.as_secs())]
    Lost {
        /// Where it was.
        broker: BrokerAddress,
        /// What the network said last.
        reason: Box<ConnectionError>,
    },
    /// The password cannot be read.
    #[error("Cannot read the password from {path}: {source}")]
    Password {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// The progress line could not be printed.
    #[error("Cannot print the progress: {0}")]
    Print(#[from] std::io::Error),
}

/// How a connection ended, where it did not break.
enum End {
    /// All was sent and acknowledged, or the user wants no more.
    Done,
    /// The connection broke after it had been established.
    Broken(ConnectionError),
}

/// Plays until the count is reached and acknowledged, or `shutdown` is cancelled.
///
/// # Errors
/// Fails when the broker cannot be reached at the start, or for a minute later on.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), SimulateError> {
    let mut play = Play::new(&options);
    let mut ticker = tokio::time::interval(options.interval);
    ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Progress::new();
    let mut pause = PAUSE_MIN;
    let mut lost_at: Option<Instant> = None;
    loop {
        let reason = match connection(&options, &mut play, &mut ticker, &mut progress, &shutdown).await? {
            Ok(End::Done) => return Ok(progress.end(&play.progress())?),
            Ok(End::Broken(reason)) => {
                (pause, lost_at) = (PAUSE_MIN, Some(Instant::now()));
                reason
            }
            Err(reason) => reason,
        };
        let (broker, reason) = (options.broker.clone(), Box::new(reason));
        match lost_at {
            None => return Err(SimulateError::Unreachable { broker, reason }),
            Some(lost_at) if lost_at.elapsed() >= GIVE_UP_AFTER => {
                return Err(SimulateError::Lost { broker, reason });
            }
            Some(_) => {
                progress.remark(&format!("Lost the broker at {broker}: {reason}. Trying again in {pause:?}."))?
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
            () = shutdown.cancelled() => return Ok(progress.end(&play.progress())?),
        }
    }
}

/// Plays over one connection. Each has a client of its own: rumqttc's keeps events of the last one.
async fn connection(
    options: &Options,
    play: &mut Play,
    ticker: &mut Interval,
    progress: &mut Progress,
    shutdown: &CancellationToken,
) -> Result<Result<End, ConnectionError>, SimulateError> {
    let id = format!("simulate-{}-{}", std::process::id(), options.seed);
    let mut mqtt = MqttOptions::new(id, options.broker.host.clone(), options.broker.port);
    if let Some((name, file)) = &options.login {
        mqtt.set_credentials(name, password(file)?);
    }
    let (client, mut eventloop) = AsyncClient::new(mqtt, WINDOW + 1);
    tokio::select! {
        connected = eventloop.poll() => if let Err(reason) = connected {
            return Ok(Err(reason));
        },
        () = shutdown.cancelled() => return Ok(Ok(End::Done)),
    }
    play.connected();

    // Polling has a task to itself: it must go on while this one does something else, and must not be cut short.
    let (events, mut incoming) = mpsc::channel(WINDOW);
    let mut poller = JoinSet::new();
    poller.spawn(poll(eventloop, events));
    let mut printing = interval_at(Instant::now() + progress.interval, progress.interval);
    while !play.is_done() {
        play.hand_over(|message, qos| client.try_publish(message.topic(), qos, false, message.payload()).is_ok());
        tokio::select! {
            () = shutdown.cancelled() => break,
            event = incoming.recv() => match event {
                Some(Ok(event)) => play.note(&event),
                Some(Err(reason)) => return Ok(Ok(End::Broken(reason))),
                None => return Ok(Ok(End::Broken(ConnectionError::RequestsDone))),
            },
            _ = ticker.tick(), if play.wants_sample() => play.sample(unix_ms()),
            _ = printing.tick() => progress.show(&play.progress())?,
        }
    }
    if client.try_disconnect().is_ok() {
        goodbye(&mut incoming).await;
    }
    Ok(Ok(End::Done))
}

fn password(file: &Path) -> Result<String, SimulateError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| SimulateError::Password { path: file.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

async fn poll(mut eventloop: EventLoop, events: mpsc::Sender<Result<Event, ConnectionError>>) {
    loop {
        let event = eventloop.poll().await;
        let is_last = event.is_err();
        if events.send(event).await.is_err() || is_last {
            return;
        }
    }
}

/// Waits until the DISCONNECT has left, or cannot leave any more.
async fn goodbye(incoming: &mut mpsc::Receiver<Result<Event, ConnectionError>>) {
    let left = async {
        while let Some(Ok(event)) = incoming.recv().await {
            if event == Event::Outgoing(Outgoing::Disconnect) {
                return;
            }
        }
    };
    if tokio::time::timeout(GOODBYE, left).await.is_err() {
        tracing::debug!("the broker took no DISCONNECT");
    }
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn quality(qos: u8) -> QoS {
    match qos {
        0 => QoS::AtMostOnce,
        1 => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

/// Prints one line that overwrites itself on a terminal, and a line a minute elsewhere.
struct Progress {
    terminal: bool,
    interval: Duration,
}

impl Progress {
    fn new() -> Progress {
        let terminal = std::io::stdout().is_terminal();
        Progress { terminal, interval: if terminal { PROGRESS_TERMINAL } else { PROGRESS_FILE } }
    }

    fn show(&mut self, line: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        if self.terminal {
            write!(out, "\r{line}\x1b[K")?
        } else {
            writeln!(out, "{line}")?
        }
        out.flush()
    }

    fn remark(&mut self, line: &str) -> std::io::Result<()> {
        let end = if self.terminal { "\r\x1b[K" } else { "" };
        writeln!(std::io::stdout().lock(), "{end}{line}")
    }

    fn end(&mut self, line: &str) -> std::io::Result<()> {
        self.remark(line)
    }
}
