//! The running hub: the one place that builds, wires, starts and stops the rooms.
//!
//! Owns the order of things. Start: locks, log, store, broker, health, HTTP, ready file. Stop: listeners close;
//! sessions stop reading; the store writes what is queued and closes the database; the acks leave; HTTP ends; the locks
//! go with the process. It has no rules of its own.

mod ready;
mod signals;
mod upstream;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::ready::Ready;
use self::signals::Signals;
use crate::alert::{self, Inputs, RulesAnew};
use crate::almanac::{Almanac, Terms};
use crate::bridge::Bridge;
use crate::broker::auth::AuthErrors;
use crate::broker::bus::{Bus, Canary};
use crate::broker::{BrokerError, Place, Running};
use crate::config::Config;
use crate::health::{Health, Watched};
use crate::homeassistant;
use crate::http::{self, Guard, Live, OwnersSocket, PageUsers, Rooms};
use crate::ingest::{Ingest, Limits};
use crate::lock::{self, LockError};
use crate::log::{self, LogError, LogFile};
use crate::maintenance::desk::Desk;
use crate::maintenance::schedule::Schedule;
use crate::panics;
use crate::records::Records;
use crate::reload::{Reload, Reloads};
use crate::service::Service;
use crate::settings::{HubToml, Reread};
use crate::store::{Kept, Learnt, Queue, Reader, Settings, StoreError, Writer};
use crate::tasks::{self, Faults, Name};
use crate::upkeep::Upkeep;
use crate::upload::Uploads;

/// How long the store may take to write what is queued when the hub stops. A lock of another program may add
/// SQLite's busy timeout to it, and all has to end within 10 s.
const STORE_END_TIME_MAX: Duration = Duration::from_secs(3);
const STORE_END_TIME_LATE: Duration = Duration::from_millis(500);
/// How long the start may wait for what the broker keeps over a restart.
const KEPT_READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How long the broker may take to hand its last changes to the store.
const KEEP_TIME_MAX: Duration = Duration::from_secs(4);
const SESSIONS_END_TIME_MAX: Duration = Duration::from_millis(1500);
const WRITER_ENDED: &str = "the thread that writes to the database ended unexpectedly";
const START_ENDED: &str = "the thread that opens the database ended unexpectedly";
const ROUTER_ENDED: &str = "the message router ended unexpectedly";
const BRIDGE_ENDED: &str = "the bridge ended unexpectedly";
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
    /// The page's users cannot be read.
    #[error(transparent)]
    Users(#[from] AuthErrors),
    /// A part of the hub ended that should not.
    #[error("{0}; the hub ends with it, so that it can be started whole again")]
    PartEnded(String),
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

/// Runs the hub until a signal or a fault ends it; `reread` reads its configuration once more.
///
/// # Errors
/// [`HubError`], with its reason.
pub async fn run(config: Config, reread: Arc<Reread>) -> Result<(), HubError> {
    let _locks = lock::take(&config.pid, &config.store.path)?;
    let log = Arc::new(log::start(&log::Settings {
        level: config.log.level,
        file: config.log.file.clone(),
        silent: !config.log.stderr,
    })?);
    panics::log_all(&log);
    let hub_toml = HubToml::new(config.clone(), reread, log.level());
    let ended = run_logged(&config, log.file().cloned(), Arc::new(hub_toml)).await;
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
async fn run_logged(config: &Config, log_file: Option<LogFile>, hub_toml: Arc<HubToml>) -> Result<(), HubError> {
    let mut signals = Signals::listen(log_file)?;
    if let Some(path) = &config.ready_file {
        ready::remove_stale(path)?;
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
    let service = Service::start();
    let started = tokio::select! {
        started = Hub::start(config, service.clone(), hub_toml) => Some(started?),
        () = signals.stop_early() => None,
    };
    // Nothing was acked yet that is not on disk.
    let Some(hub) = started else {
        service.stopping("stops");
        info!("stationhub has stopped before it served");
        return Ok(());
    };
    if let Some(path) = &config.ready_file {
        ready::write(path, &hub.ready())?;
    }
    service.serving(&hub.health, &hub.tasks, &hub.background);
    hub.serve(&mut signals).await
}

/// The rooms that run.
struct Hub {
    database: PathBuf,
    queue: Arc<Queue>,
    writer: Writer,
    broker: Running,
    bridge: Option<Bridge>,
    health: Arc<Health>,
    desk: Arc<Desk>,
    backups: Option<Arc<Schedule>>,
    uploads: Arc<Uploads>,
    alerts: alert::Running,
    homeassistant: homeassistant::Running,
    records: Arc<Records>,
    almanac: Almanac,
    page_users: Option<Arc<PageUsers>>,
    reloads: Arc<Reloads>,
    service: Service,
    http_address: Option<String>,
    background: CancellationToken,
    tasks: TaskTracker,
    faults: Arc<Faults>,
}

/// What ended the hub.
enum Ended {
    BySignal,
    Writer(Option<Result<(), StoreError>>),
    Router,
    Bridge,
    Task(String),
}

impl Ended {
    fn words(&self) -> &str {
        match self {
            Ended::BySignal => "stops",
            Ended::Writer(_) => WRITER_ENDED,
            Ended::Router => ROUTER_ENDED,
            Ended::Bridge => BRIDGE_ENDED,
            Ended::Task(fault) => fault,
        }
    }
}

impl Hub {
    async fn start(config: &Config, service: Service, hub_toml: Arc<HubToml>) -> Result<Hub, HubError> {
        let store_ended = |source| HubError::Store { path: config.store.path.clone(), source };
        let queue = Arc::new(Queue::new(config.ingest.queue_bytes));
        let readings = alert::tap();
        let settings = Settings {
            path: config.store.path.clone(),
            synchronous: config.store.synchronous,
            batch_max: config.store.batch_max,
            quarantine_bytes_max: config.store.quarantine_bytes_max,
            reserve_bytes: config.store.reserve_bytes,
            write_failures_max: config.health.write_failures_max,
            tap: Some(readings.0.clone()),
        };
        let outbox = config.bridge.as_ref().map(upstream::outbox);
        let (of_writer, of_bridge) = (queue.clone(), outbox.clone());
        // To open the database may wait for another program's lock.
        let writer = tasks::blocking(Name::Part("start"), move || Writer::start(settings, of_writer, of_bridge)).await;
        let writer = writer.map_err(|_| HubError::PartEnded(START_ENDED.to_owned()))?.map_err(store_ended)?;
        let limits = Limits {
            payload_bytes_max: config.ingest.payload_bytes_max,
            clock_skew_ms_max: u64::try_from(config.ingest.clock_skew_max.as_millis()).unwrap_or(u64::MAX),
        };
        let forwarding = config.bridge.as_ref().map(|bridge| upstream::forwarding(bridge, &config.station.name));
        let ingest = Arc::new(Ingest::new(config.ingest.routes.clone(), limits, forwarding));
        ingest.sources().remember(rhythms(&config.store.path).await);
        let kept = kept(&config.store.path).await;
        let faults: Arc<Faults> = Arc::default();
        let broker = Running::start(config.broker.clone(), ingest.clone(), queue.clone(), kept, &faults).await?;
        let canary = Canary::open(&broker.bus()).await.map_err(BrokerError::from)?;
        let bridge = match (&config.bridge, outbox) {
            (Some(settings), Some(outbox)) => {
                let inside = broker.inside(&settings.client_id, &settings.local_user);
                Some(upstream::start(config, settings, outbox, queue.clone(), inside)?)
            }
            _ => None,
        };
        let (bridge, bridged) = bridge.unzip();
        let records = Records::new(
            &config.store.path,
            writer.progress(),
            queue.clone(),
            ingest.clone(),
            config.ingest.clock_skew_max,
        );
        let backups = Schedule::start(&config.store, writer.progress())
            .map_err(|source| HubError::System { doing: "cannot start the thread of backups".to_owned(), source })?;
        let desk = Arc::new(Desk::new(config.store.path.clone(), ingest.clone(), queue.clone()));
        let almanac = Almanac::new(&config.store.path, Terms::of(config));
        let uploads = Arc::new(Uploads::start(&config.uploads, &almanac, &config.store.path, &queue, &ingest));
        let watched = Watched {
            progress: writer.progress(),
            queue: queue.clone(),
            counters: broker.counters(),
            ingest: ingest.clone(),
            canary,
            database: config.store.path.clone(),
            bridge: bridged,
            backups: backups.clone(),
            uploads: uploads.clone(),
        };
        let health = Arc::new(Health::new(watched, &config.health));
        let inside = broker.inside("stationhub-alerts", alert::USER);
        let inputs = Inputs { findings: health.findings(), readings };
        let (station, database) = (&config.station.name, &config.store.path);
        let alerts = alert::Running::start(&config.alerts, station, database, queue.clone(), &inside, inputs).await;
        let inside = broker.inside(homeassistant::PUBLISHER, alert::USER);
        let homeassistant = homeassistant::Running::start(config, almanac.clone(), ingest, inside);
        let mut reloads: Vec<Arc<dyn Reload>> = vec![hub_toml.clone()];
        reloads.extend(broker.reloads());
        reloads.push(Arc::new(RulesAnew::new(alerts.alerts(), hub_toml.reread())));
        let page_users = PageUsers::load(&config.http)?.map(Arc::new);
        reloads.extend(page_users.clone().map(|users| users as Arc<dyn Reload>));
        let mut hub = Hub {
            database: config.store.path.clone(),
            queue,
            writer,
            reloads: Reloads::new(reloads),
            broker,
            service,
            bridge,
            health,
            desk,
            backups,
            uploads,
            alerts,
            homeassistant,
            records: Arc::new(records),
            almanac,
            page_users,
            http_address: None,
            background: CancellationToken::new(),
            tasks: TaskTracker::new(),
            faults,
        };
        hub.start_background(config).await;
        Ok(hub)
    }

    /// Starts what watches and tells: the hub serves its clients without it, too.
    async fn start_background(&mut self, config: &Config) {
        let (health, stop) = (&self.health, &self.background);
        let rooms = Rooms {
            health: health.clone(),
            alerts: self.alerts.alerts(),
            records: self.records.clone(),
            desk: self.desk.clone(),
            almanac: self.almanac.clone(),
            live: Arc::new(Live::new(self.almanac.clone(), self.health.clone(), stop.clone())),
            station: Arc::new(http::Station { name: config.station.name.clone(), units: config.weather.units }),
        };
        for Place { name, kind, address } in self.broker.places() {
            info!("MQTT is served on {address} (listener {name:?}, {kind})");
        }
        self.serve_reloads();
        if self.bridge.is_none() {
            let told = upstream::tell_of_an_outbox_without_a_bridge(self.database.clone());
            self.tasks.spawn(tasks::named(Name::Part("start"), told));
        }
        if let Some(address) = config.http.listen {
            let mut bound = http::bind(address).await;
            self.http_address =
                bound.as_ref().and_then(|listener| listener.local_addr().ok()).map(|address| address.to_string());
            if let Some(address) = &self.http_address {
                info!("HTTP is served on {address}");
            }
            let (served, stopping) = (rooms.clone(), stop.clone());
            let users = self.page_users.as_ref().map(|users| users.access());
            let guard = Arc::new(Guard::new(address, &config.http.hosts, users));
            tasks::lasting(&self.tasks, Name::Part("http"), stop.clone(), move || {
                http::serve_tcp(address, bound.take(), served.clone(), guard.clone(), stopping.clone())
            });
        }
        match OwnersSocket::bind(&self.database) {
            Ok(socket) => self.serve_socket(socket, rooms),
            Err(error) => warn!("{error}"),
        }
        self.watch_health(config);
        self.keep_records(config);
        let upkeep = Upkeep::new(config, self.queue.clone(), &self.writer.progress(), self.records.clone());
        upkeep.start(&self.tasks, &self.background);
    }

    fn keep_records(&self, config: &Config) {
        let (records, stop, interval) = (self.records.clone(), self.background.clone(), config.health.interval);
        tasks::lasting(&self.tasks, Name::Part("ledger"), self.background.clone(), move || {
            records.clone().keep(interval, stop.clone())
        });
    }

    fn serve_reloads(&self) {
        let (reloads, service, stop) = (self.reloads.clone(), self.service.clone(), self.background.clone());
        tasks::lasting(&self.tasks, Name::Part("reload"), self.background.clone(), move || {
            reloads.clone().serve(service.clone(), stop.clone())
        });
    }

    fn serve_socket(&self, socket: OwnersSocket, rooms: Rooms) {
        let (database, stop) = (self.database.clone(), self.background.clone());
        let mut bound = Some(socket);
        tasks::lasting(&self.tasks, Name::Part("owner's socket"), self.background.clone(), move || {
            let (database, rooms, stop) = (database.clone(), rooms.clone(), stop.clone());
            let mut bound = bound.take();
            async move {
                while !stop.is_cancelled() {
                    match bound.take().map_or_else(|| OwnersSocket::bind(&database), Ok) {
                        Ok(socket) => http::serve_socket(socket, rooms.clone(), stop.clone()).await,
                        Err(error) => return warn!("{error}"),
                    }
                }
            }
        });
    }

    fn watch_health(&self, config: &Config) {
        let (health, stop, interval) = (self.health.clone(), self.background.clone(), config.health.interval);
        tasks::lasting(&self.tasks, Name::Part("health"), self.background.clone(), move || {
            let (health, stop) = (health.clone(), stop.clone());
            async move { health.watch(interval, stop).await }
        });
        let (health, stop, interval) = (self.health.clone(), self.background.clone(), config.stats.interval);
        tasks::lasting(&self.tasks, Name::Part("statistics"), self.background.clone(), move || {
            let (health, stop) = (health.clone(), stop.clone());
            async move { health.count(interval, stop).await }
        });
        let (health, stop, interval) = (self.health.clone(), self.background.clone(), config.health.interval);
        tasks::lasting(&self.tasks, Name::Part("heartbeat"), self.background.clone(), move || {
            let (health, stop) = (health.clone(), stop.clone());
            async move { health.beat(interval, stop).await }
        });
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
        let (bus, reloads, faults) = (self.broker.bus(), self.reloads.clone(), self.faults.clone());
        let ended = tokio::select! {
            () = signals.stop(&reloads) => Ended::BySignal,
            end = self.writer.ended() => Ended::Writer(end),
            () = router_ends(&bus) => Ended::Router,
            () = upstream::bridge_ends(&mut self.bridge) => Ended::Bridge,
            fault = faults.first() => Ended::Task(fault),
        };
        tokio::select! {
            result = self.stop(ended) => result,
            () = signals.stop(&reloads) => Err(HubError::Hurried),
        }
    }

    /// Stops everything in order, and tells why.
    async fn stop(mut self, ended: Ended) -> Result<(), HubError> {
        info!("stationhub stops");
        self.service.stopping(ended.words());
        self.backups.iter().for_each(|backups| backups.stop());
        self.homeassistant.stop().await;
        tokio::join!(self.broker.stop_reading(), self.alerts.stop(), self.uploads.stop());
        let all_kept = self.broker.keep_the_last(KEEP_TIME_MAX).await;
        if let Some(bridge) = self.bridge.take() {
            bridge.stop().await;
        }
        // Where the store was too slow for that, it has had its time.
        let store_time = if all_kept { STORE_END_TIME_MAX } else { STORE_END_TIME_LATE };
        let (unexpected, written) = match ended {
            Ended::Writer(end) => (Some(WRITER_ENDED.to_owned()), end),
            Ended::Router => (Some(ROUTER_ENDED.to_owned()), self.writer.stop(store_time).await),
            Ended::Bridge => (Some(BRIDGE_ENDED.to_owned()), self.writer.stop(store_time).await),
            Ended::Task(fault) => (Some(fault), self.writer.stop(store_time).await),
            Ended::BySignal => (None, self.writer.stop(store_time).await),
        };
        self.broker.end_sessions(SESSIONS_END_TIME_MAX).await;
        self.health.final_line();
        self.background.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        match (written, unexpected) {
            (Some(Err(source)), _) => Err(HubError::Store { path: self.database, source }),
            (None, _) => Err(HubError::PartEnded(WRITER_ENDED.to_owned())),
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
        let read = tasks::blocking(Name::Part("start"), move || Reader::open(&path)?.kept()).await;
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
    match tasks::blocking(Name::Part("start"), move || Reader::open(&path)?.rhythms()).await {
        Ok(Ok(learnt)) => learnt,
        Ok(Err(error)) => {
            warn!("{error}; they are learnt anew");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

async fn router_ends(bus: &Arc<Bus>) {
    while !bus.is_dead() {
        tokio::time::sleep(ROUTER_LOOK_INTERVAL).await;
    }
}

/// Raises the soft limit of open files to the hard one, so that a crowd of peers does not use it up.
fn allow_many_files() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!("cannot raise the limit of open files: {error}");
    }
}
