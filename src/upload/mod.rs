//! Uploads: the station's weather for weather networks, in slots of time, each of them once and in order.
//!
//! Owns which slot goes when (`slots`), what each network wants to hear (`wunderground`, `windy`, `cwop`: pure) and the way
//! there (`way`), a task for each network (`task`) with its pauses (`trouble`) and what it notes in the store (`notes`). It
//! never reads a row: the weather is the almanac's. Nobody waits for it.

mod cwop;
mod error;
mod notes;
pub mod report;
mod slots;
mod task;
mod text;
mod trouble;
mod way;
mod windy;
mod wunderground;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::report::UploadReport;
use self::task::Upload;
use crate::almanac::Almanac;
use crate::config;
use crate::ingest::Ingest;
use crate::store::Queue;
use crate::tasks::{self, Name};

/// How long the end may wait for what is under way.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// The networks of the running hub.
#[derive(Debug, Default)]
pub struct Uploads {
    list: Vec<Arc<Upload>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Uploads {
    /// Starts the task of every network.
    pub fn start(
        settings: &config::upload::Uploads,
        almanac: &Almanac,
        database: &Path,
        queue: &Arc<Queue>,
        ingest: &Arc<Ingest>,
    ) -> Uploads {
        let new = |settings| {
            Arc::new(Upload::new(settings, almanac.clone(), database.to_owned(), queue.clone(), ingest.clone()))
        };
        let uploads = Uploads { list: settings.list.iter().map(new).collect(), ..Uploads::default() };
        for upload in &uploads.list {
            let (upload, stop) = (upload.clone(), uploads.stop.clone());
            tasks::lasting(&uploads.tasks, Name::Part("upload"), stop.clone(), move || {
                upload.clone().run(stop.clone())
            });
        }
        uploads
    }

    /// Returns how each stands.
    pub fn report(&self) -> Vec<UploadReport> {
        self.list.iter().map(|upload| upload.report()).collect()
    }

    /// Ends the tasks, while the store still takes what they note last. What is cut off goes again after the next start.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(END_TIME_MAX, self.tasks.wait()).await.unwrap_or_default();
    }
}
