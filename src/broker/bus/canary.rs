//! The canary: a message of the hub's own that goes through the router and back, to see that the router lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use super::{Bus, BusError, Link, Numbered, Sink};
use crate::broker::message::Message;
use crate::broker::wire::QoS;

/// The canary's topic, in the hub's own name space beside `m/` and `d/`.
const TOPIC: &str = "h/canary";

/// A link of the hub's own.
pub struct Canary {
    bus: Arc<Bus>,
    came: Arc<watch::Sender<Option<u64>>>,
    message: Arc<Message>,
    _link: Link,
}

struct Came(Arc<watch::Sender<Option<u64>>>);

impl Sink for Came {
    fn wants(&self, topic: &str) -> bool {
        topic == TOPIC
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        if let Some(last) = messages.last() {
            self.0.send_replace(Some(last.number));
        }
    }
}

impl Canary {
    /// Opens the canary's link.
    ///
    /// # Errors
    /// As [`Bus::link`].
    pub async fn open(bus: &Arc<Bus>) -> Result<Canary, BusError> {
        let came = Arc::new(watch::Sender::new(None));
        let link = bus.link_apart("canary", Arc::new(Came(came.clone()))).await?;
        link.subscribe_names(vec![TOPIC.to_owned()]).await?;
        let message = Arc::new(Message {
            topic: TOPIC.into(),
            payload: Bytes::new(),
            qos: QoS::AtMostOnce,
            retain: false,
            publisher: "stationhub".into(),
            properties: None,
            expires: None,
        });
        Ok(Canary { bus: bus.clone(), came, message, _link: link })
    }

    /// As [`Bus::lost`].
    pub fn router_lost(&self) -> u64 {
        self.bus.lost()
    }

    /// Sends the canary and returns how long it took to come back.
    ///
    /// # Errors
    /// [`BusError::Silent`] where it is not back within `deadline`, [`BusError::RouterEnded`].
    pub async fn round_trip(&self, deadline: Duration) -> Result<Duration, BusError> {
        let start = Instant::now();
        let there_and_back = async {
            let mut came = self.came.subscribe();
            let units = self.bus.gate.units(&self.message);
            self.bus.gate.reserve(units).await?;
            let number = self.bus.push(vec![(TOPIC.to_owned(), self.message.clone())], units)?;
            came.wait_for(|came| came.is_some_and(|came| came >= number))
                .await
                .map(drop)
                .map_err(|_| BusError::RouterEnded)
        };
        tokio::time::timeout(deadline, there_and_back).await.map_err(|_| BusError::Silent(deadline))??;
        Ok(start.elapsed())
    }
}
