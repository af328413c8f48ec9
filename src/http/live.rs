//! The live values: server-sent events for the page.
//!
//! Owns how many may listen, and how often it is looked whether something is new: a reading that was stored, or a verdict that is
//! another. However many listen, the weather is asked for once. A stream ends with the hub; browsers come back by themselves.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::Rooms;
use super::pages::Visit;
use super::problem::Problem;
use crate::almanac::{Almanac, Now};
use crate::health::Health;

/// Streams at once.
const LISTENERS_MAX: usize = 32;
/// How often it is looked whether something is new.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long nothing new may be told: ages and staleness change without a reading.
const SILENCE_MAX: Duration = Duration::from_secs(15);

/// What was seen at one moment.
struct Seen {
    number: u64,
    now: Now,
    status: &'static str,
    issues: usize,
}

/// The live values of the hub.
pub struct Live {
    almanac: Almanac,
    health: Arc<Health>,
    stop: CancellationToken,
    room: Arc<Semaphore>,
    /// What was seen last, and when it was looked.
    last: Mutex<Option<(Instant, Arc<Seen>)>>,
}

impl Live {
    /// Makes them for a hub that runs until `stop`.
    pub fn new(almanac: Almanac, health: Arc<Health>, stop: CancellationToken) -> Live {
        Live { almanac, health, stop, room: Arc::new(Semaphore::new(LISTENERS_MAX)), last: Mutex::default() }
    }

    /// Returns what is to be seen, as of the last reading that was stored.
    async fn seen(&self) -> Option<Arc<Seen>> {
        let mut last = self.last.lock().await;
        // One look answers all who listen.
        if let Some((looked, seen)) = &*last
            && looked.elapsed() < LOOK_INTERVAL / 2
        {
            return Some(seen.clone());
        }
        let number = self.health.figures().readings;
        let report = self.health.report().await;
        let (status, issues) = (report.status.word(), report.issues.len());
        if let Some((looked, seen)) = &mut *last
            && (seen.number, seen.status, seen.issues) == (number, status, issues)
            && self.age(seen) < SILENCE_MAX
        {
            *looked = Instant::now();
            return Some(seen.clone());
        }
        let now = self.almanac.now().await.ok()?;
        let seen = Arc::new(Seen { number, now, status, issues });
        *last = Some((Instant::now(), seen.clone()));
        Some(seen)
    }

    fn age(&self, seen: &Seen) -> Duration {
        let age_s = crate::clock::now_ms().div_euclid(1_000) - seen.now.at_s;
        Duration::from_secs(u64::try_from(age_s).unwrap_or_default())
    }
}

/// Returns the path of the stream.
pub(super) fn readers(rooms: Rooms) -> Router {
    Router::new().route("/api/v1/live", get(listen)).with_state(rooms)
}

/// One who listens.
struct Listener {
    rooms: Rooms,
    visit: Visit,
    told: Option<Arc<Seen>>,
    _place: OwnedSemaphorePermit,
}

async fn listen(State(rooms): State<Rooms>, RawQuery(query): RawQuery) -> Result<Response, Problem> {
    let visit = Visit::read(query.as_deref(), &rooms).map_err(Problem::wrong)?;
    let place = rooms.live.room.clone().try_acquire_owned().map_err(|_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "as many pages are open as may be: close one, or reload by hand")
    })?;
    let listener = Listener { rooms, visit, told: None, _place: place };
    let events = stream::unfold(listener, |mut listener| async {
        let event = listener.rooms.live.stop.clone().run_until_cancelled_owned(listener.next()).await?;
        Some((Ok::<Event, Infallible>(event), listener))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::default()).into_response())
}

impl Listener {
    /// Waits for something new, and returns it.
    async fn next(&mut self) -> Event {
        loop {
            if let Some(seen) = self.rooms.live.seen().await
                && !self.told.as_ref().is_some_and(|told| Arc::ptr_eq(told, &seen))
            {
                let view = self.visit.view(&self.rooms);
                let text = crate::page::live_json(&view, &seen.now, seen.status, seen.issues);
                self.told = Some(seen);
                return Event::default().retry(Duration::from_secs(1)).data(text);
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
