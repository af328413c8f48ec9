//! Home Assistant: each quantity of each source announces itself there by MQTT discovery, and its values follow.
//!
//! Owns which quantities are announced, in Home Assistant's words, and when their values are published. It never computes weather,
//! which is the almanac's, and never keeps a message: what is retained, the broker has.

mod book;
mod entity;
mod names;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use self::book::Book;
use self::entity::{OFFLINE, ONLINE, Station};
use crate::almanac::Almanac;
use crate::broker::inside::{Given, Inside, Refused};
use crate::config::{self, Config, Route};
use crate::ingest::sources::Heard;
use crate::ingest::{Ingest, route};
use crate::log::Rate;
use crate::tasks::{self, Name};

pub use self::names::Names;

/// Stands in the place of a client id in what is published here; by it, what an earlier run left is known.
pub const PUBLISHER: &str = "stationhub-homeassistant";

/// How long the end may wait until it is told.
const END_TIME_MAX: Duration = Duration::from_millis(500);
/// How long the last word has to leave. Who misses it finds it retained, and has lost the connection anyway.
const LEAVING_TIME: Duration = Duration::from_millis(100);
/// How long the almanac is asked after the last reading was heard, at least: the reading may not be on disk yet.
const ASKED_AFTER: Duration = Duration::from_secs(120);

/// The room.
struct Teller {
    settings: config::HomeAssistant,
    station: Station,
    routes: Vec<Route>,
    almanac: Almanac,
    ingest: Arc<Ingest>,
    broker: Inside,
    lines: Rate,
}

/// The tasks of the room.
pub struct Running {
    teller: Arc<Teller>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Running {
    /// Starts the room: what an earlier run announced under other names, or all of it where nothing is to be told, is taken back.
    pub fn start(config: &Config, almanac: Almanac, ingest: Arc<Ingest>, broker: Inside) -> Running {
        let settings = config.homeassistant.clone();
        let name = config.station.name.clone();
        let names = Names::new(&settings.prefix, &settings.topic, &name);
        let station = Station { names, name, url: url(&config.http) };
        let routes = config.ingest.routes.clone();
        let lines = Rate::default();
        let teller = Arc::new(Teller { settings, station, routes, almanac, ingest, broker, lines });
        let running = Running { teller, tasks: TaskTracker::new(), stop: CancellationToken::new() };
        let (teller, stop) = (running.teller.clone(), running.stop.clone());
        if teller.settings.enabled {
            tasks::lasting(&running.tasks, Name::Part("homeassistant"), stop.clone(), move || {
                let (teller, stop) = (teller.clone(), stop.clone());
                async move { stop.run_until_cancelled(teller.run()).await.unwrap_or_default() }
            });
        } else {
            let cleared = async move { stop.run_until_cancelled(teller.take_back()).await.unwrap_or_default() };
            running.tasks.spawn(tasks::named(Name::Part("homeassistant"), cleared));
        }
        running
    }

    /// Ends the room, while the broker still takes the word that it does.
    pub async fn stop(&self) {
        let ended = async {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
            if self.teller.settings.enabled {
                self.teller.tell(self.teller.station.names.status(), OFFLINE.to_owned(), true).await;
                // A session that is told to stop sends nothing more than acks.
                self.teller.broker.until_queued().await;
                tokio::time::sleep(LEAVING_TIME).await;
            }
        };
        if tokio::time::timeout(END_TIME_MAX, ended).await.is_err() {
            warn!("Home Assistant was not told in time that the hub stops: its values expire there");
        }
    }
}

impl Teller {
    async fn run(&self) {
        self.take_back().await;
        let mut book = Book::new(self.station.clone(), self.settings.interval);
        let mut is_online = false;
        loop {
            is_online = is_online || self.tell(self.station.names.status(), ONLINE.to_owned(), true).await;
            let heard = self.ingest.sources().heard(Instant::now());
            let recent = ASKED_AFTER.max(self.settings.interval * 2);
            if heard.iter().any(|heard| heard.silent < recent) {
                self.turn(&mut book, &heard).await;
            }
            tokio::time::sleep(self.settings.interval).await;
        }
    }

    /// Publishes what is new.
    async fn turn(&self, book: &mut Book, heard: &[Heard]) {
        let now = match self.almanac.now().await {
            Ok(now) => now,
            Err(error) => {
                if self.lines.allows() {
                    warn!("Home Assistant is not told the weather now: {error}");
                }
                return;
            }
        };
        let (day_s, _) = self.almanac.terms().days.bounds(now.at_s);
        let silences: HashMap<&str, Option<Duration>> =
            heard.iter().map(|heard| (&*heard.source, heard.silence_max)).collect();
        let messages = book.turn(&now.sources, day_s, |source| silences.get(source).copied().flatten());
        let mut all_announced = true;
        for message in messages {
            let is_told = self.tell(message.topic, message.payload, message.announces).await;
            all_announced &= is_told || !message.announces;
        }
        if !all_announced {
            book.announce_again();
        }
    }

    /// Takes back what an earlier run of the hub published, and this one does not.
    async fn take_back(&self) {
        let retained = self.broker.retained();
        let ours = |topic: &str| self.settings.enabled && self.station.names.has(topic);
        let left: Vec<String> = retained.into_iter().filter(|topic| !ours(topic)).collect();
        if !left.is_empty() {
            info!(topics = left.len(), "what an earlier run of the hub announced to Home Assistant is taken back");
        }
        for topic in left {
            self.tell(topic, String::new(), true).await;
        }
    }

    /// Publishes a message; tells whether that was done.
    async fn tell(&self, topic: String, payload: String, retain: bool) -> bool {
        if !payload.is_empty() && route::kind(&self.routes, &topic).is_some() {
            if self.lines.allows() {
                warn!(topic, "Home Assistant is not told: a route takes the topic for readings");
            }
            // It would be no better the next time.
            return true;
        }
        let given = Given {
            topic,
            payload: Bytes::from(payload),
            qos: u8::from(retain),
            retain,
            delivery: None,
            properties: None,
            // Upstream, other topics than those announced would carry the values, and the readings go there anyway.
            forwards: false,
        };
        match self.broker.publish_soon(given).await {
            Ok(()) => true,
            Err(Refused::TheHubStops) => false,
            Err(refused) => {
                if self.lines.allows() {
                    warn!("Home Assistant is not told: {refused}; docs/homeassistant.md says which rules it needs");
                }
                false
            }
        }
    }
}

/// Returns where a browser finds the hub; `None` where that is known to nobody else, or not by a name.
fn url(http: &config::Http) -> Option<String> {
    let address = http.listen.filter(|address| !address.ip().is_loopback())?;
    if address.ip().is_unspecified() {
        return http.hosts.first().map(|host| format!("http://{host}:{}/", address.port()));
    }
    Some(format!("http://{address}/"))
}
