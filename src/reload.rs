//! What SIGHUP makes the hub read anew.
//!
//! Owns the list of the parts that can be read anew while the hub serves, and what is logged of it. It never knows what
//! they read, and never stops anything: a part that cannot be read stays as it was.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::service::Service;
use crate::tasks::{self, Name};

/// How long the service manager is told that files are being read.
const READ_TIME_MAX: Duration = Duration::from_secs(30);

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
            let mut read = tasks::blocking(Name::Part("reload"), move || reloads.read_anew());
            let in_time = stop.run_until_cancelled(tokio::time::timeout(READ_TIME_MAX, &mut read)).await;
            service.reloaded();
            let ended = match in_time {
                Some(Ok(ended)) => Some(ended),
                Some(Err(_)) => {
                    error!(
                        "SIGHUP: not all files could be read within {READ_TIME_MAX:?}; what they held before stays in force"
                    );
                    // One at a time: what hangs is not asked for again.
                    stop.run_until_cancelled(read).await
                }
                None => None,
            };
            match ended {
                Some(Ok(())) => {}
                Some(Err(failed)) => error!("SIGHUP: not all files were read anew: {failed}"),
                None => return,
            }
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
