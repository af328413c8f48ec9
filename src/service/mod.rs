//! The service manager: what systemd is told of the hub, through the socket that NOTIFY_SOCKET names.
//!
//! Owns the thread that tells it (READY, STATUS, RELOADING, STOPPING, WATCHDOG), and the two tasks whose turns show that the
//! hub moves. A sign of life is given only where `watchdog` finds that every part has moved; it is never a timer's.
//! Without NOTIFY_SOCKET nothing of this runs. It never stops the hub: that is the service manager's to do.

mod pulse;
pub mod watchdog;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::pulse::Pulse;
use self::watchdog::{Stuck, Watch};
use crate::health::Health;
use crate::health::statistics::Figures;
use crate::log::one_line;
use crate::tasks::{self, Name};

/// What may wait to be told.
const ORDERS_MAX: usize = 32;
/// How often it is looked whether the store is open, before it is.
const READY_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the status line is renewed where there is no watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(30);

enum Order {
    Serving(Arc<Health>, Arc<Pulse>),
    Reloading,
    Reloaded,
    Stopping(String),
}

/// The handle of the thread; where there is no service manager, it does nothing.
#[derive(Clone)]
pub struct Service {
    orders: Option<SyncSender<Order>>,
    watchdog: Option<Duration>,
}

impl Service {
    /// Starts the thread, where there is a service manager to talk to.
    pub fn start() -> Service {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Service { orders: None, watchdog: None };
        }
        let watchdog = sd_notify::watchdog_enabled();
        let (orders, received) = sync_channel(ORDERS_MAX);
        let voice = Voice { watchdog, serving: None, last_words: None, is_silent: false };
        let started = std::thread::Builder::new().name("service".into()).spawn(move || voice.speak(&received));
        match started {
            Ok(_) => Service { orders: Some(orders), watchdog },
            Err(error) => {
                warn!("the service manager will hear nothing: its thread cannot be started: {error}");
                Service { orders: None, watchdog: None }
            }
        }
    }

    /// Says that the hub serves, once its store is open, and begins to watch it.
    pub fn serving(&self, health: &Arc<Health>, tracker: &TaskTracker, stop: &CancellationToken) {
        let pulse = Arc::new(Pulse::default());
        if let Some(time_max) = self.watchdog {
            let (beating, stop_beating) = (pulse.clone(), stop.clone());
            tasks::lasting(tracker, Name::Part("pulse"), stop.clone(), move || {
                pulse::beat(beating.clone(), time_max, stop_beating.clone())
            });
            let (calling, health, stop_calling) = (pulse.clone(), health.clone(), stop.clone());
            tasks::lasting(tracker, Name::Part("canary"), stop.clone(), move || {
                pulse::call_router(calling.clone(), health.clone(), time_max, stop_calling.clone())
            });
        }
        self.order(Order::Serving(health.clone(), pulse));
    }

    /// Says that files are being read anew.
    pub fn reloading(&self) {
        self.order(Order::Reloading);
    }

    /// Says that they were.
    pub fn reloaded(&self) {
        self.order(Order::Reloaded);
    }

    /// Says that the hub stops, and why.
    pub fn stopping(&self, why: &str) {
        self.order(Order::Stopping(why.to_owned()));
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders
            && orders.try_send(order).is_err()
        {
            warn!("the service manager takes nothing: what it should hear is left out");
        }
    }
}

/// The hub that serves, as it was at the last look.
struct Serving {
    health: Arc<Health>,
    pulse: Arc<Pulse>,
    watch: Option<Watch>,
    figures: Figures,
    looked: Instant,
    stuck: Option<Stuck>,
    /// Whether the service manager knows that the hub serves.
    is_ready: bool,
}

/// The thread's own.
struct Voice {
    watchdog: Option<Duration>,
    serving: Option<Serving>,
    /// Why the hub stops, once it does: no figures stand in its place.
    last_words: Option<String>,
    /// Whether the last line did not reach the service manager.
    is_silent: bool,
}

impl Voice {
    fn speak(mut self, orders: &Receiver<Order>) {
        let mut looked = Instant::now();
        loop {
            let interval = self.watchdog.map_or(STATUS_INTERVAL, Watch::interval);
            let interval = if self.is_ready() { interval } else { interval.min(READY_LOOK_INTERVAL) };
            match orders.recv_timeout((looked + interval).saturating_duration_since(Instant::now())) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {
                    looked = Instant::now();
                    self.look();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Serving(health, pulse) => {
                let (now, figures) = (Instant::now(), health.figures());
                let watch = self.watchdog.map(|time_max| Watch::begin(now, time_max));
                self.serving =
                    Some(Serving { health, pulse, watch, figures, looked: now, stuck: None, is_ready: false });
                self.look();
            }
            Order::Reloading => match NotifyState::monotonic_usec_now() {
                Ok(now) => self.tell(&[NotifyState::Reloading, now]),
                // Without the time, the service manager could not tell this reload from an earlier one.
                Err(error) => warn!("cannot read the clock for the service manager: {error}"),
            },
            Order::Reloaded if self.is_ready() => self.tell(&[NotifyState::Ready]),
            // The end of the start says it.
            Order::Reloaded => {}
            Order::Stopping(why) => {
                // A line break would begin another word.
                let why = one_line(&why);
                self.tell(&[NotifyState::Stopping, NotifyState::Status(&why)]);
                self.last_words = Some(why);
            }
        }
    }

    fn is_ready(&self) -> bool {
        self.serving.as_ref().is_some_and(|serving| serving.is_ready)
    }

    /// Looks at the hub, and tells its figures, with a sign of life where it deserves one.
    fn look(&mut self) {
        let Some(serving) = &mut self.serving else { return };
        if !serving.is_ready {
            match serving.health.store_was_open() {
                Ok(()) => {
                    serving.is_ready = true;
                    self.tell(&[NotifyState::Ready, NotifyState::Status("serves")]);
                }
                Err(why) => {
                    let why = why.map(|why| format!(": {}", one_line(&why))).unwrap_or_default();
                    self.tell(&[NotifyState::Status(&format!("waits for the database{why}"))]);
                }
            }
            return;
        }
        let (now, figures) = (Instant::now(), serving.health.figures());
        let line = figures.in_brief(&serving.figures, now.duration_since(serving.looked));
        let line = self.last_words.clone().unwrap_or(line);
        (serving.figures, serving.looked) = (figures, now);
        let verdict = serving.watch.as_mut().map(|watch| watch.look(now, serving.pulse.counts(&serving.health)));
        match verdict {
            None => self.tell(&[NotifyState::Status(&line)]),
            Some(Ok(())) => {
                if let Some(stuck) = serving.stuck.take() {
                    info!("the watchdog is fed again; before, {stuck}");
                }
                self.tell(&[NotifyState::Watchdog, NotifyState::Status(&line)]);
            }
            Some(Err(stuck)) => {
                let before = serving.stuck.replace(stuck);
                if before.is_none_or(|before| std::mem::discriminant(&before) != std::mem::discriminant(&stuck)) {
                    error!("the watchdog is not fed: {stuck}; the service manager will start the hub again");
                }
                self.tell(&[NotifyState::Status(&format!("stuck: {stuck}"))]);
            }
        }
    }

    fn tell(&mut self, states: &[NotifyState<'_>]) {
        match sd_notify::notify(states) {
            Ok(()) => self.is_silent = false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    warn!("cannot tell the service manager: {error}");
                }
            }
        }
    }
}
