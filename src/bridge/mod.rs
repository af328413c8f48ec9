//! The bridge: store and forward to an upstream broker, and what comes down from it.
//!
//! Owns the connection upstream and the order of what goes there. The outbox in the store is the truth: a row leaves it
//! only when the upstream has acknowledged its message, and what was on its way when a connection or the hub ended is
//! sent again, under the same identity. It never touches the database but through `store`, and never speaks to a local
//! client but through `broker::inside`.
//!
//! Data flows outbox → supply → window → link → upstream; against the stream go acknowledgements: link → window → ledger →
//! the store's queue. What comes down: link → down → broker.

mod backoff;
mod conversation;
mod courtesy;
mod down;
mod echoes;
mod error;
mod lasting;
mod ledger;
mod link;
mod outgoing;
mod pace;
pub mod state;
mod supply;
mod suspicion;
mod window;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::backoff::{Backoff, chance};
use self::conversation::End;
use self::courtesy::Courtesy;
use self::down::Down;
use self::echoes::{Echoes, Rounds};
use self::error::Loss;
use self::lasting::Lasting;
use self::ledger::Ledger;
use self::link::Settings;
use self::outgoing::Form;
use self::pace::Pace;
use self::supply::Supply;
use self::suspicion::Suspicion;
use self::window::Window;
use crate::broker::inside::Inside;
use crate::config::{self, Protocol};
use crate::log::Rate;
use crate::store::{Outbox, Queue};
use crate::tasks::{self, Name};

pub use self::state::{Standing, State};

/// Rows that the upstream may have had when the hub died, beside those in the window.
pub const UNTOLD_MAX: usize = ledger::UNTOLD_MAX;
/// A connection that held for this long was a good one, whatever it did.
const GOOD_TIME: Duration = Duration::from_secs(60);
/// Messages on their way at QoS 2 over MQTT 3.1.1, which has no word for how many the upstream takes: HiveMQ takes 10 by
/// default, and Mosquitto, which takes 20, answers the next with a PUBREC and drops it.
const QOS_2_WINDOW_MAX: u16 = 10;
/// How long what came down may take to be published after its connection has ended.
const DOWN_TIME_MAX: Duration = Duration::from_secs(2);
/// How much the bridge's thread steps back, as in nice(1).
const NICENESS: i32 = 10;
/// How long a stop may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);
/// Bytes on their way upstream, at most; less where the outbox is small.
const IN_FLIGHT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The part of the outbox that may be on its way, or read to be sent.
const PART_OF_OUTBOX: u64 = 16;

/// What the bridge works with.
pub struct Parts {
    /// The station's name.
    pub station: String,
    /// The database.
    pub database: PathBuf,
    /// What waits for the upstream.
    pub outbox: Arc<Outbox>,
    /// The way to the writer.
    pub queue: Arc<Queue>,
    /// The way to local clients.
    pub inside: Inside,
}

/// The running bridge.
pub struct Bridge {
    state: Arc<State>,
    stop: CancellationToken,
    /// `None` once it has ended.
    ended: Option<oneshot::Receiver<()>>,
}

impl Bridge {
    /// Starts to connect, on a thread of its own: a backlog that drains must not stand in the way of those who publish here.
    ///
    /// # Errors
    /// The system's, where it gives no thread.
    pub fn start(settings: config::Bridge, parts: Parts) -> std::io::Result<Bridge> {
        let (state, stop) = (Arc::new(State::new()), CancellationToken::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let running = run(settings, parts, state.clone(), stop.clone());
        std::thread::Builder::new().name("bridge".into()).spawn(move || {
            // Where the machine is busy, the others go first.
            getpriority_process(None)
                .and_then(|priority| setpriority_process(None, priority + NICENESS))
                .unwrap_or_else(|error| debug!("the bridge does not step back: {error}"));
            runtime.block_on(tasks::part("bridge", running));
            runtime.shutdown_background();
            end.send(()).unwrap_or(());
        })?;
        Ok(Bridge { state, stop, ended: Some(ended) })
    }

    /// Returns the counters.
    pub fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Waits for the bridge's end, which only its failure brings about.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // An error says that the thread has panicked, which is an end, too.
            ended.await.unwrap_or(());
        }
        self.ended = None;
    }

    /// Lets what is on its way arrive, has the store told, and says goodbye, all within a deadline.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(STOP_TIME_MAX, self.ended()).await.is_err() {
            warn!("the bridge did not stop in time; what was on its way is sent again at the next start");
        }
    }
}

async fn run(mut settings: config::Bridge, parts: Parts, state: Arc<State>, stop: CancellationToken) {
    if settings.qos == 2 && settings.protocol == Protocol::V4 {
        settings.window = settings.window.min(QOS_2_WINDOW_MAX);
    }
    let Parts { station, database, outbox, queue, inside } = parts;
    let form = Form { station, prefix: settings.prefix.clone(), keep_retained: settings.keep_retained };
    let part = (outbox.bytes_max() / PART_OF_OUTBOX).min(IN_FLIGHT_BYTES_MAX);
    let bytes_max = usize::try_from(part).unwrap_or(usize::MAX);
    let echoes = Arc::new(Echoes::new(settings.subscribe.clone()));
    let down = Arc::new(Down {
        inside,
        echoes: echoes.clone(),
        rounds: Rounds::new(),
        form: form.clone(),
        payload_bytes_max: settings.payload_bytes_max,
        state: state.clone(),
        refused_lines: Rate::default(),
    });
    let mut lasting = Lasting {
        name: settings.address(),
        form,
        supply: Supply::new(database, outbox.clone(), bytes_max),
        ledger: Ledger::new(queue),
        pace: Pace::new(settings.rate_max, Instant::now(), outbox.added()),
        courtesy: Courtesy::new(Instant::now(), outbox.added()),
        window: Window::default(),
        suspicion: Suspicion::new(settings.window),
        echoes,
        in_flight_bytes_max: bytes_max,
        subscribed: false,
        unreleased: settings.qos == 2,
        releases_failed: 0,
        acked: 0,
        is_accepted: false,
        has_progressed: false,
        denied: HashMap::new(),
        complaints: Rate::default(),
        told: None,
        state,
        outbox,
        settings,
    };
    info!(upstream = %lasting.name, waiting = lasting.outbox.messages(), "the bridge starts");
    let mut backoff = Backoff::new(lasting.settings.reconnect_max);
    loop {
        let begun = Instant::now();
        let clean = lasting.begins_clean();
        let end = match stop.run_until_cancelled(connection(lasting.settings.clone(), clean)).await {
            Some(Ok(settings)) => lasting.converse(&settings, &down, &stop).await,
            Some(Err(loss)) => End::Lost(loss),
            None => End::Stopped,
        };
        match end {
            End::Stopped => break,
            End::Lost(Loss::Released) => {}
            End::Lost(loss) => {
                if lasting.has_progressed || begun.elapsed() >= GOOD_TIME {
                    backoff.reset();
                }
                let pause = backoff.pause(chance());
                lasting.lost(&loss, pause);
                if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                    break;
                }
            }
        }
    }
    lasting.settle(DOWN_TIME_MAX).await;
}

/// Reads what a connection needs, anew each time; with `clean` the upstream is to forget an earlier session.
async fn connection(wanted: config::Bridge, clean: bool) -> Result<Settings, Loss> {
    let read = tasks::blocking(Name::Part("bridge"), move || {
        Ok(Settings {
            login: login(&wanted)?,
            tls: wanted.tls.as_ref().map(client_settings).transpose()?,
            host: if wanted.host.contains(':') && wanted.tls.is_none() {
                format!("[{}]", wanted.host)
            } else {
                wanted.host
            },
            port: wanted.port,
            protocol: wanted.protocol,
            client_id: wanted.client_id,
            clean,
            keep_alive: wanted.keep_alive,
            window: wanted.window,
            qos: wanted.qos,
            payload_bytes_max: wanted.payload_bytes_max,
        })
    });
    read.await.unwrap_or(Err(Loss::Library))
}

fn client_settings(files: &config::BridgeTls) -> Result<Arc<rustls::ClientConfig>, Loss> {
    files.settings().map_err(|faults| {
        let faults: Vec<String> = faults.iter().map(|(_, error)| error.to_string()).collect();
        Loss::File(faults.join("; "))
    })
}

/// Returns user name and password, where there are any.
fn login(settings: &config::Bridge) -> Result<Option<(String, String)>, Loss> {
    let unreadable = |error| Loss::File(format!("the password cannot be read: {error}; see bridge.password_file"));
    let password = settings.password.as_ref().map(|password| password.read().map_err(unreadable)).transpose()?;
    Ok(match (&settings.username, password) {
        (None, None) => None,
        (user, password) => Some((user.clone().unwrap_or_default(), password.unwrap_or_default())),
    })
}
