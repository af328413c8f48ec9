//! The next step of the rollups: which hours and days are to be done, and what they came to.
//!
//! Owns what is read for that, on a connection that only reads, and decides nothing by any clock but the one it is given. A
//! step is a day of raw rows at most, or one hour that is done again; it never writes: what it found is for the writer.

use rusqlite::{Connection, OptionalExtension};

use super::days::{Day, Days};
use super::raw::{self, Found, Most, Of};
use super::{Claims, HOUR_S, RollupChange, Series, State, Summary, hour_of, quantities};
use crate::reading::Kind;
use crate::store::error::{Doing, StoreError};
use crate::store::reader::Reader;
use crate::weather::calibration::Sensors;

/// How long after its end an hour is done: what is on its way has come by then.
const GRACE_S: i64 = 60;
/// The length of a step that does days again, seconds: 31 days of hours, which are few.
const DAYS_STEP_S: i64 = 31 * 24 * HOUR_S;
/// Stands between a zone and what is known of the sensors.
const SENSORS: &str = " | sensors ";
const DOING: &str = "cannot read the rollups";
const LATE: &str = "SELECT hour, times FROM rollup_late WHERE kind = ?1 ORDER BY hour LIMIT 1";
/// Sources are few: each is found by a look into the index.
const NEXT_SOURCE: &str = "SELECT min(source_id) FROM rollup_hour WHERE source_id > ?1";
const FIRST_HOUR: &str = "SELECT min(hour) FROM rollup_hour WHERE source_id = ?1 AND quantity = ?2";
const LAST_HOUR: &str = "SELECT max(hour) FROM rollup_hour WHERE source_id = ?1 AND quantity = ?2";
const HOURS: &str = "SELECT hour, count, minimum, maximum, sum, sum_sin, sum_cos, resets, seconds FROM rollup_hour
  WHERE source_id = ?1 AND quantity = ?2 AND hour >= ?3 AND hour < ?4";
const DAYS: &str = "SELECT day FROM rollup_day WHERE source_id = ?1 AND quantity = ?2 AND day BETWEEN ?3 AND ?4";

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing for now.
    Nothing,
    /// Hours are to be claimed before they are read.
    Claim(RollupChange),
    /// This is to be written, in this order.
    Write(Work),
}

/// What a step came to.
#[derive(Debug, Default, PartialEq)]
pub struct Work {
    /// What is to be written, in this order.
    pub changes: Vec<RollupChange>,
    /// Whether a reading came for an hour whose raw rows are gone, so that it is in no rollup.
    pub came_too_late: bool,
}

impl From<Vec<RollupChange>> for Work {
    fn from(changes: Vec<RollupChange>) -> Work {
        Work { changes, came_too_late: false }
    }
}

impl Reader {
    /// Works out the next step for a kind of reading, at this time, Unix seconds.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rollup_step(
        &self,
        kind: Kind,
        days: &Days,
        sensors: &Sensors,
        claims: &Claims,
        now_s: i64,
    ) -> Result<Step, StoreError> {
        // All of it is read at one moment.
        let moment = self.connection.unchecked_transaction().doing(DOING)?;
        let look = Look { connection: &moment, kind, days, sensors };
        look.step(claims, hour_of(now_s - GRACE_S))
    }
}

impl Reader {
    /// Returns the time before which hours of a kind are done, Unix seconds; `None` where none are.
    ///
    /// # Errors
    /// SQLite's.
    pub fn rolled_up_until_s(&self, kind: Kind) -> Result<Option<i64>, StoreError> {
        Ok(State::load(&self.connection, kind)?.map(|state| state.done_s))
    }
}

/// The database at one moment.
struct Look<'c> {
    connection: &'c Connection,
    kind: Kind,
    days: &'c Days,
    sensors: &'c Sensors,
}

impl Look<'_> {
    fn of(&self) -> Of<'_> {
        Of { kind: self.kind, sources: None, sensors: self.sensors }
    }

    /// Returns what the hours depend on besides their readings: of weather, what is known of the sensors.
    fn sensors(&self) -> String {
        if self.kind == Kind::Weather { self.sensors.signature() } else { String::new() }
    }

    /// Returns what stands in the state for the zone of now, and hours that were done for these sensors.
    fn zone_text(&self, sensors: &str) -> String {
        let zone = self.days.name();
        if sensors.is_empty() { zone.to_owned() } else { format!("{zone}{SENSORS}{sensors}") }
    }

    fn step(&self, claims: &Claims, limit_s: i64) -> Result<Step, StoreError> {
        let state = State::load(self.connection, self.kind)?;
        if let Some(state) = &state {
            if let Some(work) = self.late(state)? {
                return Ok(Step::Write(work));
            }
            let (zone, sensors) = zone_and_sensors(&state.zone);
            if zone != self.days.name() {
                let first = self.hours_at(FIRST_HOUR)?.into_iter().min();
                let zone = RollupChange::Zone(self.kind, self.zone_text(sensors), first);
                return Ok(Step::Write(vec![zone].into()));
            }
            if let Some(from_s) = state.days_from_s {
                return self.days_again(from_s, state.done_s, sensors).map(|changes| Step::Write(changes.into()));
            }
            if sensors != self.sensors() {
                let anew = RollupChange::Anew(self.kind, self.zone_text(&self.sensors()));
                return Ok(Step::Write(vec![anew].into()));
            }
        }
        self.forward(state.as_ref(), claims, limit_s)
    }

    /// Does the next hours that are over.
    fn forward(&self, state: Option<&State>, claims: &Claims, limit_s: i64) -> Result<Step, StoreError> {
        let done_s = state.map_or(i64::MIN, |state| state.done_s);
        let Some(next_s) = raw::next_s(self.connection, self.kind, done_s)? else { return Ok(Step::Nothing) };
        let from_s = hour_of(next_s);
        if from_s >= limit_s {
            return Ok(Step::Nothing);
        }
        let day_end_s = -hour_of(-self.days.of(from_s).to_s);
        let mut to_s = day_end_s.min(limit_s);
        if claims.until_s(self.kind) < to_s {
            return Ok(Step::Claim(RollupChange::Claim(self.kind, to_s)));
        }
        let mut found = raw::fold(self.connection, self.of(), from_s, to_s, Most::OF_A_STEP, hour_of)?;
        if found.is_none() {
            to_s = from_s + HOUR_S;
            found = raw::fold(self.connection, self.of(), from_s, to_s, Most::ALL, hour_of)?;
        }
        let gone_s = state.and_then(|state| state.gone_s);
        let found = found.unwrap_or_default();
        // Hours that are done anew may come to nothing now.
        let stale = self.stale_hours(&found, from_s, to_s)?;
        let mut changes = self.written(&found, &stale, from_s, to_s, gone_s)?;
        changes.push(RollupChange::Done(self.kind, to_s, self.zone_text(&self.sensors())));
        if to_s < limit_s {
            // So that the next step needs no transaction for it.
            changes.push(RollupChange::Claim(self.kind, limit_s.min(to_s + 24 * HOUR_S)));
        }
        Ok(Step::Write(changes.into()))
    }

    /// Does an hour again that a late reading touched, and the next one, whose first difference it may change.
    fn late(&self, state: &State) -> Result<Option<Work>, StoreError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(LATE)?;
            statement.query_row([self.kind.name()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        };
        let Some((hour, times)) = read().doing(DOING)? else { return Ok(None) };
        let done = RollupChange::LateDone(self.kind, hour, times);
        let came_too_late = state.gone_s.is_some_and(|gone_s| hour < gone_s);
        if came_too_late || hour >= state.done_s {
            return Ok(Some(Work { changes: vec![done], came_too_late }));
        }
        let to_s = state.done_s.min(hour + 2 * HOUR_S);
        let found = raw::fold(self.connection, self.of(), hour, to_s, Most::ALL, hour_of)?.unwrap_or_default();
        let stale = self.stale_hours(&found, hour, to_s)?;
        let mut changes = self.written(&found, &stale, hour, to_s, state.gone_s)?;
        changes.push(done);
        Ok(Some(changes.into()))
    }

    /// Does days again from hours, for the zone that they are of now.
    fn days_again(&self, from_s: i64, done_s: i64, sensors: &str) -> Result<Vec<RollupChange>, StoreError> {
        // Where hours are being done anew, there are some beyond those that are done.
        let last_s = self.hours_at(LAST_HOUR)?.into_iter().max();
        let end_s = last_s.map_or(done_s, |last_s| done_s.max(last_s + HOUR_S));
        let to_s = end_s.min(from_s + DAYS_STEP_S);
        let days = self.days.between(from_s - 24 * HOUR_S, to_s.max(from_s) + 24 * HOUR_S);
        let mut changes = Vec::new();
        for series in self.all_series()? {
            for day in &days {
                changes.push(self.day(series, day, &[], None)?);
            }
            self.stale_days(series, &days, &mut changes)?;
        }
        let rest = (to_s < end_s).then_some(to_s);
        changes.push(RollupChange::Zone(self.kind, self.zone_text(sensors), rest));
        Ok(changes)
    }

    /// Returns the changes that hours make, which were found or are stale, in their own table and that of the days.
    fn written(
        &self,
        found: &Found,
        stale: &[(Series, i64)],
        from_s: i64,
        to_s: i64,
        gone_s: Option<i64>,
    ) -> Result<Vec<RollupChange>, StoreError> {
        let hours = found.iter().map(|(&(series, hour), summary)| RollupChange::Hour(series, hour, Some(*summary)));
        let stale_hours = stale.iter().map(|&(series, hour)| RollupChange::Hour(series, hour, None));
        let mut changes: Vec<RollupChange> = hours.chain(stale_hours).collect();
        let mut touched: Vec<Series> =
            found.keys().map(|(series, _)| *series).chain(stale.iter().map(|(series, _)| *series)).collect();
        touched.sort_unstable();
        touched.dedup();
        for day in self.days.between(from_s, to_s) {
            let has_raw = gone_s.is_none_or(|gone_s| day.from_s >= gone_s);
            if !day.is_of_whole_hours() && has_raw {
                changes.extend(self.day_from_raw(&day, &touched)?);
                continue;
            }
            for &series in &touched {
                let fresh: Vec<Summary> =
                    found.range((series, day.from_s)..(series, day.to_s)).map(|(_, summary)| *summary).collect();
                changes.push(self.day(series, &day, &fresh, Some((from_s, to_s)))?);
            }
        }
        Ok(changes)
    }

    /// Returns what a day came to: what its hours say that lie outside of `except`, and `fresh`. An hour counts for the day
    /// that it begins in.
    fn day(
        &self,
        (source, quantity): Series,
        day: &Day,
        fresh: &[Summary],
        except: Option<(i64, i64)>,
    ) -> Result<RollupChange, StoreError> {
        let mut whole = Summary::default();
        let read = |whole: &mut Summary| -> rusqlite::Result<()> {
            let mut statement = self.connection.prepare_cached(HOURS)?;
            let mut rows = statement.query((source, quantity.name(), day.from_s, day.to_s))?;
            while let Some(row) = rows.next()? {
                let hour: i64 = row.get(0)?;
                if !except.is_some_and(|(from_s, to_s)| (from_s..to_s).contains(&hour)) {
                    whole.merge(&summary(row, 1)?);
                }
            }
            Ok(())
        };
        read(&mut whole).doing(DOING)?;
        fresh.iter().for_each(|summary| whole.merge(summary));
        Ok(RollupChange::Day((source, quantity), day.date.to_string(), (whole.count > 0).then_some(whole)))
    }

    /// Returns what a day came to that does not begin with an hour of UTC.
    fn day_from_raw(&self, day: &Day, touched: &[Series]) -> Result<Vec<RollupChange>, StoreError> {
        let all = Most::ALL;
        let found = raw::fold(self.connection, self.of(), day.from_s, day.to_s, all, |_| day.from_s)?;
        let found = found.unwrap_or_default();
        let change = |series: &Series| {
            let summary = found.get(&(*series, day.from_s)).copied();
            RollupChange::Day(*series, day.date.to_string(), summary)
        };
        Ok(touched.iter().map(change).collect())
    }

    /// Lists the hours of a time that have a rollup and no reading any more.
    fn stale_hours(&self, found: &Found, from_s: i64, to_s: i64) -> Result<Vec<(Series, i64)>, StoreError> {
        let mut stale = Vec::new();
        for (source, quantity) in self.all_series()? {
            let read = || -> rusqlite::Result<Vec<i64>> {
                let mut statement = self.connection.prepare_cached(HOURS)?;
                statement.query_map((source, quantity.name(), from_s, to_s), |row| row.get(0))?.collect()
            };
            let hours = read().doing(DOING)?.into_iter().map(|hour| ((source, quantity), hour));
            stale.extend(hours.filter(|key| !found.contains_key(key)));
        }
        Ok(stale)
    }

    /// Drops dates that are none of these days, although they lie among them.
    fn stale_days(
        &self,
        (source, quantity): Series,
        days: &[Day],
        changes: &mut Vec<RollupChange>,
    ) -> Result<(), StoreError> {
        let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(()) };
        let read = || -> rusqlite::Result<Vec<String>> {
            let mut statement = self.connection.prepare_cached(DAYS)?;
            let values = (source, quantity.name(), first.date.to_string(), last.date.to_string());
            statement.query_map(values, |row| row.get(0))?.collect()
        };
        for date in read().doing(DOING)? {
            if !days.iter().any(|day| day.date.to_string() == date) {
                changes.push(RollupChange::Day((source, quantity), date, None));
            }
        }
        Ok(())
    }

    /// Lists the series of the kind that have rollups.
    fn all_series(&self) -> Result<Vec<Series>, StoreError> {
        let mut all = Vec::new();
        let mut source = i64::MIN;
        let next = |after: i64| -> rusqlite::Result<Option<i64>> {
            self.connection.prepare_cached(NEXT_SOURCE)?.query_row([after], |row| row.get(0))
        };
        while let Some(found) = next(source).doing(DOING)? {
            source = found;
            all.extend(quantities(self.kind).iter().map(|quantity| (source, *quantity)));
        }
        Ok(all)
    }

    /// Returns an hour of each series, the first or the last.
    fn hours_at(&self, end: &str) -> Result<Vec<i64>, StoreError> {
        let mut hours = Vec::new();
        for (source, quantity) in self.all_series()? {
            let read = || -> rusqlite::Result<Option<i64>> {
                self.connection.prepare_cached(end)?.query_row((source, quantity.name()), |row| row.get(0))
            };
            hours.extend(read().doing(DOING)?);
        }
        Ok(hours)
    }
}

/// Takes apart what stands in the state: the zone of the days, and what was known of the sensors when the hours were done.
fn zone_and_sensors(text: &str) -> (&str, &str) {
    text.split_once(SENSORS).unwrap_or((text, ""))
}

/// Reads a summary out of a row, from this column on.
pub(in crate::store) fn summary(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Summary> {
    Ok(Summary {
        count: row.get(first)?,
        minimum: row.get(first + 1)?,
        maximum: row.get(first + 2)?,
        sum: row.get(first + 3)?,
        sum_sin: row.get(first + 4)?,
        sum_cos: row.get(first + 5)?,
        resets: row.get(first + 6)?,
        seconds: row.get(first + 7)?,
    })
}
