//! One connection upstream: rumqttc, told and listened to in the bridge's own words.
//!
//! Owns the task that polls rumqttc; it ends with the connection, and a new connection is a new one of it, so nothing
//! of rumqttc's own queues outlives the connection: the outbox is the truth. What differs between MQTT 3.1.1 and 5 stands
//! in `v4` and `v5`. It never decides what is sent.
//!
//! # Pitfalls kept out
//! Polling is not safe to be given up half-way, so the task does nothing else, and events leave it by a channel. rumqttc
//! forgets what is pending where the upstream has no session, and sends it in the order of packet ids where it has one:
//! what is to be sent again is handed to it after the CONNACK, in the order of the outbox. What it has read when it ends a
//! connection stays in its queue of events, and is taken out of there.

mod v4;
mod v5;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::error::Loss;
use super::outgoing::Outgoing;
use super::window::Again;
use crate::config::Protocol;
use crate::store::Properties;
use crate::tasks::{self, Name};

/// How long it may take from the look-up of the name to the CONNACK.
pub(super) const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// Requests that rumqttc may hold beside the window's messages: acks and subscriptions.
const OTHER_REQUESTS_MAX: usize = 128;
/// The task that speaks to the upstream.
const LINK: Name = Name::Part("bridge, link");
/// Events that may wait for the bridge; then the connection is not read.
const EVENTS_MAX: usize = 512;
/// Messages from the upstream that may wait to be published locally; then the connection is not read.
const ARRIVALS_MAX: usize = 64;
/// How long the upstream is asked to keep the session while the hub is away.
const SESSION_EXPIRY_S: u32 = 7 * 24 * 3600;
/// What a packet holds beside its payload, bytes, generously.
const PACKET_BYTES_MORE: usize = 256 * 1024;
/// Largest packet that is read from an upstream that cannot be told a limit, bytes: it is too large to be published then,
/// but one that is not read at all would end every connection.
const UNTOLD_PACKET_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Largest packet that the hub sends, bytes: the standard's.
const PACKET_BYTES_MAX: usize = 268_435_455;

/// All that a connection needs.
pub(super) struct Settings {
    /// The upstream's name or address.
    pub(super) host: String,
    /// Its port.
    pub(super) port: u16,
    /// TLS, where it is wanted.
    pub(super) tls: Option<Arc<ClientConfig>>,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// The hub's client id.
    pub(super) client_id: String,
    /// User name and password.
    pub(super) login: Option<(String, String)>,
    /// Whether the upstream is to forget an earlier session.
    pub(super) clean: bool,
    /// MQTT's keep alive.
    pub(super) keep_alive: Duration,
    /// Messages on their way at a time.
    pub(super) window: u16,
    /// 1 or 2.
    pub(super) qos: u8,
    /// Largest payload, bytes.
    pub(super) payload_bytes_max: usize,
}

/// What happened on the connection.
#[derive(Debug)]
pub(super) enum Event {
    /// The upstream has accepted the connection.
    Connected(Terms),
    /// A message was sent under this packet id.
    Sent(u16),
    /// QoS 2: the upstream has received the message under this id.
    Received(u16),
    /// The upstream's last word on the message under this id.
    Answered(u16, Verdict),
    /// The upstream has answered the subscriptions, and refused so many.
    Subscribed { refused: usize },
}

/// What the upstream says on accepting the connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether it still has the session.
    pub(super) present: bool,
    /// Messages that it takes at a time.
    pub(super) receive_max: u16,
    /// Largest packet that it takes, bytes.
    pub(super) packet_bytes_max: Option<usize>,
    /// Whether it retains messages.
    pub(super) retains: bool,
    /// The highest QoS that it takes.
    pub(super) qos_max: u8,
}

/// What the upstream says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has it.
    Taken,
    /// It took it and dropped it: nobody subscribes to its topic there.
    Unheard,
    /// It does not take it now, and why.
    NotNow(&'static str),
    /// It does not let the hub publish it.
    Denied,
    /// It will never take it, and why.
    Never(&'static str),
}

/// A message from the upstream.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its topic; empty where that is no text.
    pub(super) topic: String,
    /// Its payload.
    pub(super) payload: Bytes,
    /// 0 or 1.
    pub(super) qos: u8,
    /// Whether the upstream has retained it, or it was published to be.
    pub(super) retain: bool,
    /// Whether it may have come before.
    pub(super) dup: bool,
    /// Its packet id; 0 at QoS 0.
    pub(super) id: u16,
    /// Its MQTT 5 properties.
    pub(super) properties: Option<Properties>,
    receipt: Receipt,
}

impl Arrival {
    /// Returns what it is acknowledged by.
    pub(super) fn receipt(self) -> Receipt {
        self.receipt
    }
}

/// What rumqttc acknowledges a message by: the packet without its contents.
#[derive(Debug)]
pub(super) enum Receipt {
    V4(rumqttc::Publish),
    V5(rumqttc::v5::mqttbytes::v5::Publish),
}

/// Something that rumqttc reports.
enum Step {
    Event(Event),
    Arrived(Box<Arrival>),
    Other,
}

/// What differs between the two protocols in polling.
trait Dialect: Send + 'static {
    /// Waits for the next thing that happens.
    fn step(&mut self) -> impl Future<Output = Result<Step, Loss>> + Send;
    /// Hands over what is to be sent before all else.
    fn send_again(&mut self, again: Vec<Again>, qos: u8);
    /// Returns what came before the connection ended and was not reported yet.
    fn rest(&mut self) -> Vec<Step>;
}

/// The sending half of a connection.
#[derive(Clone)]
pub(super) enum Sender {
    V4(rumqttc::AsyncClient, rumqttc::QoS),
    V5(rumqttc::v5::AsyncClient, rumqttc::v5::mqttbytes::QoS),
}

/// A connection, or the attempt at one.
pub(super) struct Link {
    /// The sending half.
    pub(super) sender: Sender,
    /// What happens on the connection.
    pub(super) events: mpsc::Receiver<Event>,
    /// Whether the connection is not read because what came down waits to be published.
    pub(super) is_held: Arc<AtomicBool>,
    task: JoinHandle<Loss>,
}

impl Link {
    /// Begins to connect. What is to be sent again is, if the upstream still has the session, before all else. The second
    /// value brings what comes from the upstream.
    pub(super) fn open(settings: &Settings, again: Vec<Again>) -> (Link, mpsc::Receiver<Arrival>) {
        let (events, events_out) = mpsc::channel(EVENTS_MAX);
        let (arrivals, arrivals_out) = mpsc::channel(ARRIVALS_MAX);
        let is_held = Arc::new(AtomicBool::new(false));
        let outlet = Outlet { events, arrivals, is_held: is_held.clone() };
        let qos = settings.qos;
        let (sender, task) = match settings.protocol {
            Protocol::V4 => {
                let (sender, dialect) = v4::open(settings);
                (sender, tokio::spawn(tasks::named(LINK, poll(dialect, again, qos, outlet))))
            }
            Protocol::V5 => {
                let (sender, dialect) = v5::open(settings);
                (sender, tokio::spawn(tasks::named(LINK, poll(dialect, again, qos, outlet))))
            }
        };
        (Link { sender, events: events_out, is_held, task }, arrivals_out)
    }

    /// Waits for the reason why the connection has ended, once there are no more events.
    pub(super) async fn loss(&mut self) -> Loss {
        (&mut self.task).await.unwrap_or(Loss::Library)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Hands a message over; false where there is no room, which the bridge's window leaves.
    pub(super) fn publish(&self, message: &Outgoing, retains: bool) -> bool {
        let retain = message.retain && retains;
        match self {
            Sender::V4(client, qos) => {
                client.try_publish(message.topic.as_str(), *qos, retain, message.payload.as_ref()).is_ok()
            }
            Sender::V5(client, qos) => {
                let (payload, properties) = (message.payload.clone(), v5::properties(message));
                client.try_publish_with_properties(message.topic.as_str(), *qos, retain, payload, properties).is_ok()
            }
        }
    }

    /// Asks for messages of these filters.
    pub(super) fn subscribe(&self, filters: &[String]) -> bool {
        match self {
            Sender::V4(client, _) => client.try_subscribe_many(v4::filters(filters)).is_ok(),
            Sender::V5(client, _) => client.try_subscribe_many(v5::filters(filters)).is_ok(),
        }
    }

    /// Acknowledges a message of the upstream's; false where there is no room now.
    pub(super) fn acknowledge(&self, receipt: &Receipt) -> bool {
        match (self, receipt) {
            (Sender::V4(client, _), Receipt::V4(publish)) => client.try_ack(publish).is_ok(),
            (Sender::V5(client, _), Receipt::V5(publish)) => client.try_ack(publish).is_ok(),
            _ => true,
        }
    }

    /// Says goodbye.
    pub(super) fn disconnect(&self) -> bool {
        match self {
            Sender::V4(client, _) => client.try_disconnect().is_ok(),
            Sender::V5(client, _) => client.try_disconnect().is_ok(),
        }
    }
}

/// Where the poll task tells what happens.
struct Outlet {
    events: mpsc::Sender<Event>,
    arrivals: mpsc::Sender<Arrival>,
    is_held: Arc<AtomicBool>,
}

impl Outlet {
    /// Passes a step on; false once nobody listens any more.
    async fn tell(&self, step: Step) -> bool {
        match step {
            Step::Event(event) => self.events.send(event).await.is_ok(),
            Step::Arrived(arrival) => {
                self.is_held.store(true, Ordering::Relaxed);
                let is_told = self.arrivals.send(*arrival).await.is_ok();
                self.is_held.store(false, Ordering::Relaxed);
                is_told
            }
            Step::Other => true,
        }
    }
}

/// Polls until the connection ends, and returns why.
async fn poll(mut dialect: impl Dialect, again: Vec<Again>, qos: u8, outlet: Outlet) -> Loss {
    let mut again = Some(again);
    loop {
        match dialect.step().await {
            Ok(step) => {
                if let Step::Event(Event::Connected(terms)) = &step
                    && let Some(mut again) = again.take()
                    && terms.present
                {
                    fit(&mut again, terms);
                    dialect.send_again(again, qos);
                }
                if !outlet.tell(step).await {
                    return Loss::Closed;
                }
            }
            Err(loss) => {
                // Acks may have come together with the end.
                for step in dialect.rest() {
                    outlet.tell(step).await;
                }
                return loss;
            }
        }
    }
}

/// Leaves out what the upstream would not take now: more messages than its receive maximum, which the bridge sends later,
/// and retain flags.
fn fit(again: &mut Vec<Again>, terms: &Terms) {
    let mut room = usize::from(terms.receive_max);
    again.retain_mut(|one| match one {
        Again::Release(_) => true,
        Again::Publish(_, message) => {
            message.retain &= terms.retains;
            let fits = room > 0;
            room = room.saturating_sub(1);
            fits
        }
    });
}
