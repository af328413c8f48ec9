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
mod down;
mod echoes;
mod error;
mod ledger;
mod link;
mod outgoing;
mod pace;
pub mod state;
mod supply;
mod suspicion;
mod window;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::{getpriority_process, setpriority_process};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::backoff::{Backoff, chance};
use self::conversation::{Conversation, End};
use self::down::Down;
use self::echoes::Echoes;
use self::error::Loss;
use self::ledger::Ledger;
use self::link::{Link, Settings};
use self::outgoing::Form;
use self::pace::Pace;
use self::supply::Supply;
use self::suspicion::Suspicion;
use self::window::{Again, Window};
use crate::broker::inside::Inside;
use crate::config;
use crate::log::Rate;
use crate::store::{Outbox, Queue};
use crate::tasks::{self, Name};

pub use self::state::{Standing, State};

/// Rows that the upstream may have had when the hub died, beside those in the window.
pub const UNTOLD_MAX: usize = ledger::UNTOLD_MAX;
/// A loss that lasts is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// A connection that held for this long was a good one, whatever it did.
const GOOD_TIME: Duration = Duration::from_secs(60);
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
    ended: oneshot::Receiver<()>,
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
        Ok(Bridge { state, stop, ended })
    }

    /// Returns the counters.
    pub fn state(&self) -> Arc<State> {
        self.state.clone()
    }

    /// Waits for the bridge's end, which only its failure brings about.
    pub async fn ended(&mut self) {
        // An error says that the thread has panicked, which is an end, too.
        (&mut self.ended).await.unwrap_or(());
    }

    /// Lets what is on its way arrive, has the store told, and says goodbye, all within a deadline.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if self.ended.is_terminated() {
            // It has ended by itself, and a channel that has brought its word panics when it is asked for another.
            return;
        }
        if tokio::time::timeout(STOP_TIME_MAX, &mut self.ended).await.is_err() {
            warn!("the bridge did not stop in time; what was on its way is sent again at the next start");
        }
    }
}

/// What outlives a connection.
struct Lasting {
    settings: config::Bridge,
    /// The upstream, for log lines.
    name: String,
    form: Form,
    state: Arc<State>,
    outbox: Arc<Outbox>,
    window: Window,
    supply: Supply,
    ledger: Ledger,
    pace: Pace,
    suspicion: Suspicion,
    echoes: Arc<Echoes>,
    in_flight_bytes_max: usize,
    /// Whether the upstream has answered the subscriptions since the start.
    subscribed: bool,
    /// QoS 2: whether packet ids of an earlier run may be taken upstream.
    unreleased: bool,
    /// Whether the upstream has accepted this connection.
    is_accepted: bool,
    /// Whether it has acknowledged anything on it.
    has_progressed: bool,
    complaints: Rate,
    told: Option<Told>,
}

/// The loss that was told last.
struct Told {
    text: String,
    at: Instant,
    since: Instant,
}

async fn run(settings: config::Bridge, parts: Parts, state: Arc<State>, stop: CancellationToken) {
    let Parts { station, database, outbox, queue, inside } = parts;
    let form = Form { station, prefix: settings.prefix.clone(), keep_retained: settings.keep_retained };
    let part = (outbox.bytes_max() / PART_OF_OUTBOX).min(IN_FLIGHT_BYTES_MAX);
    let bytes_max = usize::try_from(part).unwrap_or(usize::MAX);
    let echoes = Arc::new(Echoes::new(settings.subscribe.clone()));
    let down = Arc::new(Down {
        inside,
        echoes: echoes.clone(),
        form: form.clone(),
        keep_retained: settings.keep_retained,
        state: state.clone(),
        refused_lines: Rate::default(),
    });
    let mut lasting = Lasting {
        name: settings.address(),
        form,
        supply: Supply::new(database, outbox.clone(), bytes_max),
        ledger: Ledger::new(queue),
        pace: Pace::new(settings.rate_max, Instant::now(), outbox.added()),
        window: Window::default(),
        suspicion: Suspicion::new(settings.window),
        echoes,
        in_flight_bytes_max: bytes_max,
        subscribed: false,
        unreleased: settings.qos == 2,
        is_accepted: false,
        has_progressed: false,
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
        let end = match stop.run_until_cancelled(connection(lasting.settings.clone())).await {
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

impl Lasting {
    /// Holds one conversation with the upstream.
    async fn converse(&mut self, settings: &Settings, down: &Arc<Down>, stop: &CancellationToken) -> End {
        (self.is_accepted, self.has_progressed) = (false, false);
        let again = if self.unreleased { self.released_first() } else { self.window.again() };
        self.state.repeated.fetch_add(again.len() as u64, Ordering::Relaxed);
        let (link, arrivals) = Link::open(settings, again);
        let mut bringing =
            tokio::spawn(tasks::named(Name::Part("bridge, down"), down.clone().bring(arrivals, link.sender.clone())));
        let end = Conversation::new(self, link).hold(stop).await;
        self.suspect(&end);
        self.window.lost();
        if self.suspicion.is_narrow() {
            // One after the other, so that it shows at which of them the upstream closes.
            self.window.forget_ids();
        }
        self.state.set_connected(false);
        self.show();
        // The next connection brings what was not acknowledged once more, after what is still being published here.
        if tokio::time::timeout(DOWN_TIME_MAX, &mut bringing).await.is_err() {
            bringing.abort();
        }
        end
    }

    /// Returns the releases of all packet ids that an earlier run may have left taken: the upstream would take a new
    /// message under one of them for the old one.
    fn released_first(&self) -> Vec<Again> {
        (1..=self.settings.window.saturating_add(1)).map(Again::Release).collect()
    }

    /// Draws the conclusion from an upstream that closed the connection while messages were on their way.
    fn suspect(&mut self, end: &End) {
        let is_closed = matches!(end, End::Lost(Loss::Closed | Loss::Goodbye(_) | Loss::Network(_)));
        let first = self.window.first_sent().filter(|_| is_closed && self.is_accepted);
        if let Some(to_blame) = first.and_then(|first| self.suspicion.closed(first)) {
            let detail = "the upstream closes the connection whenever it is sent, and takes others".to_owned();
            self.give_up(to_blame, detail);
        }
    }

    /// Shows what is on its way, and what is done and not deleted yet.
    fn show(&self) {
        self.state.in_flight.store(self.window.unacknowledged() as u64, Ordering::Relaxed);
        self.state.standing.store(self.ledger.standing() as u64, Ordering::Relaxed);
    }

    /// Notes that the upstream has acknowledged a message.
    fn progressed(&mut self, row: i64) {
        self.suspicion.taken(row);
        self.state.sent.fetch_add(1, Ordering::Relaxed);
        if self.has_progressed {
            return;
        }
        self.has_progressed = true;
        self.state.set_last_error(None);
        if let Some(told) = self.told.take() {
            let (seconds, waiting) = (told.since.elapsed().as_secs(), self.outbox.messages());
            info!(seconds, waiting, "messages reach the upstream {} again", self.name);
        }
    }

    /// Says what goes wrong although the connection stands, at a bounded rate.
    fn complain(&mut self, text: &str) {
        self.has_progressed = false;
        self.state.set_last_error(Some(text.to_owned()));
        if self.complaints.allows() {
            warn!("the upstream {}: {text}", self.name);
            let now = Instant::now();
            self.told.get_or_insert(Told { text: text.to_owned(), at: now, since: now });
        }
    }

    /// Sets a message aside that cannot go upstream.
    fn give_up(&mut self, row: i64, detail: String) {
        self.state.refused.fetch_add(1, Ordering::Relaxed);
        let topic = self.window.give_up(row).unwrap_or_default();
        if self.complaints.allows() {
            warn!(topic = %topic.escape_debug(), "a message goes to quarantine, not upstream: {detail}");
        }
        self.ledger.set_aside(row, "refused upstream", detail, Instant::now());
    }

    /// Tells of a loss: the first of a row, another reason, and now and then that it lasts.
    fn lost(&mut self, loss: &Loss, pause: Duration) {
        let (text, now) = (loss.to_string(), Instant::now());
        self.state.set_last_error(Some(text.clone()));
        let again = self.told.as_ref().is_some_and(|told| told.text == text && told.at.elapsed() < TELL_AGAIN);
        let since = self.told.as_ref().map_or(now, |told| told.since);
        if again {
            debug!(?pause, "the upstream {} is still away: {text}", self.name);
            return;
        }
        warn!(
            waiting = self.outbox.messages(),
            "the upstream {} is away: {text}; messages are kept until it is back, the next attempt is in {:.1} s",
            self.name,
            pause.as_secs_f64()
        );
        self.told = Some(Told { text, at: now, since });
    }

    /// Tells the store all that it was not told, and waits for it, within `deadline`.
    async fn settle(&mut self, deadline: Duration) {
        let told = async {
            loop {
                self.ledger.tell(Instant::now(), true);
                if self.ledger.is_settled() {
                    return;
                }
                self.ledger.stored().await;
            }
        };
        // What the store does not get to know is sent again at the next start.
        tokio::time::timeout(deadline, told).await.unwrap_or(());
        self.show();
    }
}

/// Reads what a connection needs, anew each time.
async fn connection(wanted: config::Bridge) -> Result<Settings, Loss> {
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
