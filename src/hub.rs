//! The running hub: the one place that builds, wires, starts and stops the rooms.
//!
//! Owns the order of things. Start: locks, log, store, broker, health, HTTP, ready file. Stop: listeners close;
//! sessions stop reading; the store writes what is queued and closes the database; the acks leave; HTTP ends; the locks
//! go with the process. It has no rules of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use crate::bridge::{Bridge, Parts, UNTOLD_MAX};
use crate::broker::bus::{Bus, Canary};
use crate::broker::{BrokerError, Place, Running};
use crate::config::{self, Config};
use crate::health::bridge::{Backlog, Bridged};
use crate::health::{Health, Watched};
use crate::http::{self, OwnersSocket};
use crate::ingest::{Forwarding, Ingest, Limits};
use crate::lock::{self, LockError};
use crate::log::{self, LogError, LogFile};
use crate::reload::Reloads;
use crate::store::{Kept, Learnt, Outbox, OutboxSettings, Queue, Reader, Settings, StoreError, Writer};

/// How long the store may take to write what is queued when the hub stops. A lock of another program may add
/// SQLite's busy timeout to it, and all has to end within 10 s.
const STORE_END_TIME_MAX: Duration = Duration::from_secs(3);
const STORE_END_TIME_LATE: Duration = Duration::from_millis(500);
/// How long the start may wait for what the broker keeps over a restart.
const KEPT_READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the broker may take to hand its last changes to the store.
const KEEP_TIME_MAX: Duration = Duration::from_secs(4);
const SESSIONS_END_TIME_MAX: Duration = Duration::from_millis(1500);
const WRITER: &str = "the thread that writes to the database";
const ROUTER_LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Why the hub ended.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Another hub runs.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The database cannot be used, and waiting would not help.
    #[error("the store of {path} ended: {source}")]
    Store {
        /// The database.
        path: PathBuf,
        /// The error.
        source: StoreError,
    },
    /// The broker did not start.
    #[error(transparent)]
    Broker(#[from] BrokerError),
    /// A part of the hub ended that should not.
    #[error("{0} ended unexpectedly; the hub ends with it, so that it can be started whole again")]
    PartEnded(&'static str),
    /// The ready file or a signal handler could not be set up.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: String,
        /// The system's words.
        source: std::io::Error,
    },
    /// The database took too long for what the broker keeps over a restart.
    #[error(
        "the database was not written in time: the last changes of retained messages and sessions are lost, and with \
         them acknowledged messages that wait for clients that are away; readings are stored"
    )]
    NotKept,
    /// A second signal came while the hub stopped.
    #[error("stopped at once by a second signal; what was not acked will be sent again")]
    Hurried,
}

/// What the ready file tells.
#[derive(Serialize)]
struct Ready {
    pid: u32,
    mqtt: Vec<String>,
    listeners: Vec<Place>,
    http: Option<String>,
}

/// Runs the hub until a signal or a fault ends it.
///
/// # Errors
/// [`HubError`], with its reason.
pub async fn run(config: Config) -> Result<(), HubError> {
    let _locks = lock::take(&config.pid, &config.store.path)?;
    let log = log::start(&log::Settings {
        level: config.log.level.to_string().to_lowercase(),
        file: config.log.file.clone(),
        silent: !config.log.stderr,
    })?;
    let ended = run_logged(&config, log.file().cloned()).await;
    if let Err(error) = &ended
        && log.file().is_some()
    {
        // To stderr it goes as the command's last word.
        error!("{error}");
    }
    log.flush();
    ended
}

/// Runs the hub with its locks held and its log set up.
async fn run_logged(config: &Config, log_file: Option<LogFile>) -> Result<(), HubError> {
    let mut signals = Signals::listen(log_file)?;
    if let Some(path) = &config.ready_file {
        remove_stale(path)?;
    }
    allow_many_files();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        database = %config.store.path.display(),
        "stationhub starts"
    );
    for warning in config.warnings() {
        warn!("{warning}");
    }
    let hub = Hub::start(config).await?;
    if let Some(path) = &config.ready_file {
        write_ready_file(path, &hub.ready())?;
    }
    hub.serve(&mut signals).await
}

/// The rooms that run.
struct Hub {
    database: PathBuf,
    writer: Writer,
    broker: Running,
    bridge: Option<Bridge>,
    health: Arc<Health>,
    reloads: Arc<Reloads>,
    http_address: Option<String>,
    background: CancellationToken,
    tasks: TaskTracker,
}

/// What ended the hub.
enum Ended {
    BySignal,
    Writer(Option<Result<(), StoreError>>),
    Router,
    Bridge,
}

impl Hub {
    async fn start(config: &Config) -> Result<Hub, HubError> {
        let store_ended = |source| HubError::Store { path: config.store.path.clone(), source };
        let queue = Arc::new(Queue::new(config.ingest.queue_bytes));
        let settings = Settings {
            path: config.store.path.clone(),
            synchronous: config.store.synchronous,
            batch_max: config.store.batch_max,
            quarantine_bytes_max: config.store.quarantine_bytes_max,
            write_failures_max: config.health.write_failures_max,
        };
        let outbox = config.bridge.as_ref().map(outbox);
        let writer = Writer::start(settings, queue.clone(), outbox.clone()).map_err(store_ended)?;
        let limits = Limits {
            payload_bytes_max: config.ingest.payload_bytes_max,
            clock_skew_ms_max: u64::try_from(config.ingest.clock_skew_max.as_millis()).unwrap_or(u64::MAX),
        };
        let forwarding = config.bridge.as_ref().map(|bridge| forwarding(bridge, &config.station.name));
        let ingest = Arc::new(Ingest::new(config.ingest.routes.clone(), limits, forwarding));
        ingest.sources().remember(rhythms(&config.store.path).await);
        let kept = kept(&config.store.path).await;
        let broker = Running::start(config.broker.clone(), ingest.clone(), queue.clone(), kept).await?;
        let canary = Canary::open(&broker.bus()).await.map_err(BrokerError::from)?;
        let bridge = config.bridge.as_ref().zip(outbox).map(|(settings, outbox)| {
            let parts = Parts {
                station: config.station.name.clone(),
                database: config.store.path.clone(),
                outbox: outbox.clone(),
                queue: queue.clone(),
                inside: broker.inside(&settings.client_id, &settings.local_user),
            };
            (Bridge::start(settings.clone(), parts), outbox)
        });
        let watched = Watched {
            progress: writer.progress(),
            queue,
            counters: broker.counters(),
            ingest,
            canary,
            database: config.store.path.clone(),
            bridge: bridge.as_ref().zip(config.bridge.as_ref()).map(|((bridge, outbox), settings)| {
                bridged(bridge, outbox, settings.address(), config.store.path.clone())
            }),
        };
        let mut hub = Hub {
            database: config.store.path.clone(),
            writer,
            reloads: Reloads::new(broker.reloads()),
            broker,
            bridge: bridge.map(|(bridge, _)| bridge),
            health: Arc::new(Health::new(watched, &config.health)),
            http_address: None,
            background: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        hub.start_background(config).await;
        Ok(hub)
    }

    /// Starts what watches and tells: the hub serves its clients without it, too.
    async fn start_background(&mut self, config: &Config) {
        let (health, stop) = (&self.health, &self.background);
        for Place { name, kind, address } in self.broker.places() {
            info!("MQTT is served on {address} (listener {name:?}, {kind})");
        }
        self.tasks.spawn(self.reloads.clone().serve(stop.clone()));
        if let Some(address) = config.http.listen {
            let bound = http::bind(address).await;
            self.http_address =
                bound.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| address.to_string());
            if let Some(address) = &self.http_address {
                info!("HTTP is served on {address}");
            }
            self.tasks.spawn(http::serve_tcp(address, bound, health.clone(), stop.clone()));
        }
        match OwnersSocket::bind(&self.database) {
            Ok(socket) => {
                self.tasks.spawn(http::serve_socket(socket, health.clone(), stop.clone()));
            }
            Err(error) => warn!("{error}"),
        }
        let (watching, counting) = (health.clone(), health.clone());
        let (interval, stop_watching) = (config.health.interval, stop.clone());
        self.tasks.spawn(async move { watching.watch(interval, stop_watching).await });
        let (beating, stop_beating) = (health.clone(), stop.clone());
        self.tasks.spawn(async move { beating.beat(interval, stop_beating).await });
        let (interval, stop_counting) = (config.stats.interval, stop.clone());
        self.tasks.spawn(async move { counting.count(interval, stop_counting).await });
    }

    fn ready(&self) -> Ready {
        Ready {
            pid: std::process::id(),
            mqtt: self.broker.places().iter().map(|place| place.address.to_string()).collect(),
            listeners: self.broker.places().to_vec(),
            http: self.http_address.clone(),
        }
    }

    async fn serve(mut self, signals: &mut Signals) -> Result<(), HubError> {
        let (bus, reloads) = (self.broker.bus(), self.reloads.clone());
        let ended = tokio::select! {
            () = signals.stop(&reloads) => Ended::BySignal,
            end = self.writer.ended() => Ended::Writer(end),
            () = router_ends(&bus) => Ended::Router,
            () = bridge_ends(&mut self.bridge) => Ended::Bridge,
        };
        tokio::select! {
            result = self.stop(ended) => result,
            () = signals.stop(&reloads) => Err(HubError::Hurried),
        }
    }

    /// Stops everything in order, and tells why.
    async fn stop(mut self, ended: Ended) -> Result<(), HubError> {
        info!("stationhub stops");
        self.broker.stop_reading().await;
        let all_kept = self.broker.keep_the_last(KEEP_TIME_MAX).await;
        if let Some(bridge) = self.bridge.take() {
            bridge.stop().await;
        }
        // Where the store was too slow for that, it has had its time.
        let store_time = if all_kept { STORE_END_TIME_MAX } else { STORE_END_TIME_LATE };
        let (unexpected, written) = match ended {
            Ended::Writer(end) => (Some(WRITER), end),
            Ended::Router => (Some("the message router"), self.writer.stop(store_time).await),
            Ended::Bridge => (Some("the bridge"), self.writer.stop(store_time).await),
            Ended::BySignal => (None, self.writer.stop(store_time).await),
        };
        self.broker.end_sessions(SESSIONS_END_TIME_MAX).await;
        self.health.final_line();
        self.background.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        match (written, unexpected) {
            (Some(Err(source)), _) => Err(HubError::Store { path: self.database, source }),
            (None, _) => Err(HubError::PartEnded(WRITER)),
            (Some(Ok(())), Some(part)) => Err(HubError::PartEnded(part)),
            (Some(Ok(())), None) if !all_kept => Err(HubError::NotKept),
            (Some(Ok(())), None) => {
                info!("stationhub has stopped");
                Ok(())
            }
        }
    }
}

/// Reads what the broker keeps over a restart, for a while if another program keeps it from that; then the hub starts
/// without, `None`, for readings must not wait.
async fn kept(database: &Path) -> Option<Kept> {
    let deadline = Instant::now() + KEPT_READ_TIME_MAX;
    loop {
        let path = database.to_owned();
        let read = tokio::task::spawn_blocking(move || Reader::open(&path)?.kept()).await;
        match read {
            Ok(Ok(kept)) => return Some(kept),
            Ok(Err(error)) if Instant::now() >= deadline => {
                warn!(
                    "{error}; the hub starts without them: clients find no session, and retained messages are missing"
                );
                return None;
            }
            Ok(Err(_)) => tokio::time::sleep(ROUTER_LOOK_INTERVAL).await,
            Err(_) => return None,
        }
    }
}

/// Reads the rhythms that an earlier run learnt. Without them, each is learnt anew.
async fn rhythms(database: &Path) -> Vec<Learnt> {
    let path = database.to_owned();
    match tokio::task::spawn_blocking(move || Reader::open(&path)?.rhythms()).await {
        Ok(Ok(learnt)) => learnt,
        Ok(Err(error)) => {
            warn!("{error}; they are learnt anew");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

/// Makes the outbox of a hub with a bridge.
fn outbox(settings: &config::Bridge) -> Arc<Outbox> {
    Arc::new(Outbox::new(OutboxSettings {
        bytes_max: settings.outbox_bytes_max,
        age_max: settings.outbox_age_max,
        maybe_sent: usize::from(settings.window) + UNTOLD_MAX,
    }))
}

/// Returns what goes upstream.
fn forwarding(settings: &config::Bridge, station: &str) -> Forwarding {
    Forwarding::new(settings.forward.clone(), settings.payload_bytes_max, station, &settings.prefix)
}

/// Lets health look at the bridge.
fn bridged(bridge: &Bridge, outbox: &Arc<Outbox>, upstream: String, database: PathBuf) -> Bridged {
    let (of_backlog, state) = (outbox.clone(), bridge.state());
    let backlog = move || Backlog {
        messages: of_backlog.messages().saturating_sub(state.standing.load(Ordering::Relaxed)),
        bytes: of_backlog.bytes(),
        bytes_max: of_backlog.bytes_max(),
        added: of_backlog.added(),
        dropped: of_backlog.dropped(),
        dropped_ms: of_backlog.dropped_ms(),
    };
    let oldest_ms = move || Reader::open(&database).and_then(|reader| reader.outbox_oldest_ms()).ok().flatten();
    Bridged { upstream, state: bridge.state(), backlog: Box::new(backlog), oldest_ms: Arc::new(oldest_ms) }
}

/// Waits for the end of the bridge, where there is one.
async fn bridge_ends(bridge: &mut Option<Bridge>) {
    match bridge {
        Some(bridge) => bridge.ended().await,
        None => std::future::pending().await,
    }
}

async fn router_ends(bus: &Arc<Bus>) {
    while !bus.is_dead() {
        tokio::time::sleep(ROUTER_LOOK_INTERVAL).await;
    }
}

/// Removes the ready file of an earlier run, which whoever waits for this one must not read.
fn remove_stale(path: &Path) -> Result<(), HubError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(HubError::System { doing: format!("cannot replace the ready file {}", path.display()), source })
        }
        _ => Ok(()),
    }
}

/// Writes the ready file as a whole: whoever waits for it never reads half of it.
fn write_ready_file(path: &Path, ready: &Ready) -> Result<(), HubError> {
    let failed = |source| HubError::System { doing: format!("cannot write the ready file {}", path.display()), source };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let json = serde_json::to_string(ready).map_err(|error| failed(error.into()))?;
    let mut file = std::fs::File::create(&unfinished).map_err(failed)?;
    writeln!(file, "{json}").map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(failed)
}

/// Raises the soft limit of open files to the hard one, so that a crowd of peers does not use it up.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("cannot raise the limit of open files: {error}");
    }
}

/// The signals that the hub obeys.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    reopen: Signal,
    log_file: Option<LogFile>,
}

impl Signals {
    fn listen(log_file: Option<LogFile>) -> Result<Signals, HubError> {
        let listen = |kind| {
            signal(kind).map_err(|source| HubError::System { doing: "cannot listen to signals".to_owned(), source })
        };
        Ok(Signals {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: listen(SignalKind::hangup())?,
            reopen: listen(SignalKind::user_defined1())?,
            log_file,
        })
    }

    /// Waits for a signal to stop; meanwhile reopens the log, and has files read anew, as often as it is asked to.
    async fn stop(&mut self, reloads: &Reloads) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hang_up.recv() => reloads.ask(),
                _ = self.reopen.recv() => self.reopen_log(),
            }
        }
    }

    fn reopen_log(&self) {
        let Some(log_file) = &self.log_file else { return };
        match log_file.reopen() {
            Ok(()) => info!("the log file was opened anew"),
            Err(error) => error!("{error}; the old one is written on"),
        }
    }
}
