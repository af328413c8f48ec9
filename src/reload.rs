//! What SIGHUP makes the hub read anew.
//!
//! Owns the list of the parts that can be read anew while the hub serves, and what is logged of it. It never knows what
//! they read, and never stops anything: a part that cannot be read stays as it was.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::service::Service;
use crate::tasks::{self, Name};

/// Something that can be read anew while the hub serves.
pub trait Reload: Send + Sync {
    /// Reads it anew; it may block.
    ///
    /// # Errors
    /// In words, why not; what was read before stays in force.
    fn reload(&self) -> Result<Reloaded, String>;
}

/// What was read anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// What is in force now, in words.
    pub what: String,
    /// What its owner should know of it.
    pub warnings: Vec<String>,
}

/// All that can be read anew.
pub struct Reloads {
    parts: Vec<Arc<dyn Reload>>,
    asked: Notify,
}

impl Reloads {
    /// Makes the list.
    pub fn new(parts: Vec<Arc<dyn Reload>>) -> Arc<Reloads> {
        Arc::new(Reloads { parts, asked: Notify::new() })
    }

    /// Asks for everything to be read anew, soon; asking again before that is asking once.
    pub fn ask(&self) {
        self.asked.notify_one();
    }

    /// Reads everything anew as often as asked to, until `stop`.
    pub async fn serve(self: Arc<Self>, service: Service, stop: CancellationToken) {
        while stop.run_until_cancelled(self.asked.notified()).await.is_some() {
            service.reloading();
            let reloads = self.clone();
            // Files may hang, and nothing else must wait for them.
            let read = tasks::blocking(Name::Part("reload"), move || reloads.read_anew());
            let Some(read) = stop.run_until_cancelled(read).await else { return };
            if let Err(failed) = read {
                error!("SIGHUP: reading the configuration's files anew failed: {failed}");
            }
            service.reloaded();
        }
    }

    fn read_anew(&self) {
        for part in &self.parts {
            match part.reload() {
                Ok(reloaded) => {
                    info!("SIGHUP: read anew: {}", reloaded.what);
                    for warning in &reloaded.warnings {
                        warn!("{warning}");
                    }
                }
                Err(why) => error!("SIGHUP: {why}; what was read before stays in force"),
            }
        }
    }
}
