//! The almanac: the weather of the station, now and in the past, in physical quantities.
//!
//! Owns what may be asked of it (`now`, `series`, `extremes`, `sources`) and from which of the store's questions each answer
//! is made (raw rows, hours or days, by the length of the time). It never writes, keeps nothing between two questions, and
//! knows nothing of pages: it answers in the hub's own units.

mod bulletin;
pub mod derive;
mod extremes;
mod now;
pub mod range;
mod series;
mod sources;
mod terms;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use self::range::{Quick, Range, Wanted};
use crate::asking::{AskError, Asking};
use crate::clock::now_ms;
use crate::store::{Reader, StoreError};

pub use self::bulletin::Bulletin;
pub use self::derive::Observation;
pub use self::extremes::{Extreme, Extremes, Period};
pub use self::now::{Now, NowValue, SourceNow};
pub use self::series::{Asked, Point, Resolution, SERIES_POINTS_MAX, Series, Shown};
pub use self::sources::Source;
pub use self::terms::Terms;

/// Questions that are answered at a time.
const AT_ONCE: usize = 2;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AlmanacError {
    /// The database cannot be read, or not now.
    #[error(transparent)]
    Unanswered(#[from] AskError),
    /// There is no such source.
    #[error("there is no source {0:?} with such readings")]
    UnknownSource(String),
}

impl From<StoreError> for AlmanacError {
    fn from(error: StoreError) -> AlmanacError {
        AlmanacError::Unanswered(AskError::Store(error))
    }
}

/// The almanac of the running hub.
#[derive(Clone, Debug)]
pub struct Almanac {
    asking: Asking,
    terms: Arc<Terms>,
}

impl Almanac {
    /// Makes it for a database.
    pub fn new(database: &Path, terms: Terms) -> Almanac {
        Almanac { asking: Asking::new(database, AT_ONCE, "almanac"), terms: Arc::new(terms) }
    }

    /// Returns the station's terms.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns the weather now, of every source.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn now(&self) -> Result<Now, AlmanacError> {
        self.ask(|open| open.now()).await
    }

    /// Returns the bulletin of a time; `None` where no weather was heard within it.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn bulletin(&self, time: Range) -> Result<Option<Bulletin>, AlmanacError> {
        self.ask(move |open| open.bulletin(time)).await
    }

    /// Returns quantities over a time.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn series(&self, asked: Asked) -> Result<Shown, AlmanacError> {
        self.ask(move |open| open.series(&asked)).await
    }

    /// Returns the extremes of the day, month or year that a time lies in, or of all time.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn extremes(&self, period: Period, time_s: i64) -> Result<Extremes, AlmanacError> {
        self.ask(move |open| open.extremes(period, time_s)).await
    }

    /// Returns the sources of readings.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn sources(&self) -> Result<Vec<Source>, AlmanacError> {
        self.ask(|open| open.sources()).await
    }

    /// Returns the time that is asked for.
    ///
    /// # Errors
    /// [`AlmanacError`].
    pub async fn range(&self, wanted: Wanted) -> Result<Range, AlmanacError> {
        match wanted {
            // Only of all that there is has the database to be asked.
            Wanted::Quick(Quick::All) => self.ask(move |open| open.range(wanted)).await,
            Wanted::Quick(quick) => Ok(Range::quick(quick, now_ms().div_euclid(1_000), None)),
            Wanted::Range(range) => Ok(range),
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Open<'_>) -> Result<T, AlmanacError> + Send + 'static,
    ) -> Result<T, AlmanacError> {
        let terms = self.terms.clone();
        let answer = self
            .asking
            .ask(move |reader| Ok(question(&Open { reader, terms: &terms, now_s: now_ms().div_euclid(1_000) })));
        answer.await?
    }
}

/// An almanac that is open: the database at hand, and the time.
#[derive(Clone, Copy)]
pub struct Open<'a> {
    /// The database.
    pub reader: &'a Reader,
    /// How its readings are to be understood.
    pub terms: &'a Terms,
    /// The present, Unix seconds.
    pub now_s: i64,
}
