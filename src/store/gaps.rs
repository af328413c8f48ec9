//! What the gap ledger needs of the database, read from counts and, only within hours that miss readings, from rows.
//!
//! Owns which hours are read row by row, and the bounds of that. What is missing, and why, is `crate::gaps`' to find. It never
//! scans a table of readings: rows are reached by number or by `created_at`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::error::{Doing, StoreError};
use super::ledger::{self, HourCount, Readings, UNNAMED_MAGNETIC, UNNAMED_WEATHER};
use crate::clock::CLOCK_SET_MS;
use crate::gaps::{self, Downs, Gap, HOUR_MS, Hour, Known, Ran};

const DOING: &str = "cannot read what is stored";
/// Rows that are not counted yet and are added up for one report.
const UNCOUNTED_MAX: i64 = 200_000;
/// Hours that are read row by row for one report, the newest; of the others the counts alone are known.
const ROW_HOURS_MAX: usize = 1_500;
/// Rows that are read for one report at most, where nobody asks for fewer.
const ROWS_MAX: usize = 3_000_000;
/// A source is taken for gone where it had no reading for this long before the report's time.
const GONE_HOURS: i64 = 31 * 24;
/// In reports of more hours than this, one in a hundred readings may lack before an hour is read row by row.
const EXACT_HOURS_MAX: i64 = 31 * 24;
/// Hours and gaps that are listed in one report.
const LISTED_MAX: usize = 20_000;
const MARKS_MAX: i64 = 20_000;

const SOURCES: &str = "SELECT id, topic, rhythm_ms FROM source ORDER BY id LIMIT 4096";
const HOURS: &str = "SELECT hour, stored, interval_ms FROM hour_count WHERE source_id = ?1 AND hour BETWEEN ?2 AND ?3";
const LAST_BEFORE: &str = "SELECT hour, interval_ms FROM hour_count WHERE source_id = ?1 AND hour < ?2
  ORDER BY hour DESC LIMIT 1";
const RUNS: &str = "SELECT started_ms, coalesce(stopped_ms, alive_ms) FROM run ORDER BY id";
const MARKS: &str = "SELECT first_ms, last_ms FROM unstored
  WHERE source_id = ?1 AND minute BETWEEN ?2 AND ?3 AND cause = ?4 LIMIT ?5";
const WEATHER_TIMES: &str = "SELECT coalesce(source_id, 0), coalesce(received_ms, unixepoch(created_at) * 1000)
  FROM weather_data WHERE created_at >= ?1 AND created_at < ?2 ORDER BY created_at LIMIT ?3";
const MAGNETIC_TIMES: &str = "SELECT coalesce(source_id, -1), coalesce(received_ms, unixepoch(created_at) * 1000)
  FROM magnetic_flux_data WHERE created_at >= ?1 AND created_at < ?2 ORDER BY created_at LIMIT ?3";

/// What is asked for.
#[derive(Clone, Debug)]
pub struct GapQuery {
    /// From when, Unix milliseconds.
    pub from_ms: i64,
    /// Until when, Unix milliseconds; not beyond the present.
    pub to_ms: i64,
    /// Of which source alone.
    pub source: Option<String>,
    /// Whether the hub runs.
    pub is_alive: bool,
    /// Rows that may be read for it.
    pub rows_max: usize,
}

impl GapQuery {
    /// Asks for all sources between two times, with all the rows that one report may read.
    pub fn between(from_ms: i64, to_ms: i64, is_alive: bool) -> GapQuery {
        GapQuery { from_ms, to_ms, source: None, is_alive, rows_max: ROWS_MAX }
    }
}

/// What is stored and what is missing.
#[derive(Clone, Debug, Serialize)]
pub struct GapReport {
    /// From when, Unix milliseconds.
    pub from_ms: i64,
    /// Until when, Unix milliseconds.
    pub to_ms: i64,
    /// Whether all rows that were there before the hub are counted.
    pub is_counted: bool,
    /// The sources.
    pub sources: Vec<SourceGaps>,
}

/// What is stored of one source, and what is missing.
#[derive(Clone, Debug, Serialize)]
pub struct SourceGaps {
    /// Its topic.
    pub source: String,
    /// The time between its readings, milliseconds.
    pub interval_ms: i64,
    /// Readings that were expected.
    pub expected: i64,
    /// Readings that are stored.
    pub stored: i64,
    /// Readings that are missing.
    pub missing: i64,
    /// How many gaps there are.
    pub gap_count: usize,
    /// The gaps, in order, as far as they are listed.
    pub gaps: Vec<Gap>,
    /// The hours that miss readings.
    pub hours: Vec<HourGaps>,
}

/// One hour that misses readings.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct HourGaps {
    /// When it begins, Unix milliseconds.
    pub hour_ms: i64,
    /// Readings that are stored in it.
    pub stored: i64,
    /// Readings that were expected in it.
    pub expected: i64,
}

impl GapReport {
    /// Returns how many readings are stored, and how many were expected.
    pub fn totals(&self) -> (i64, i64) {
        self.sources
            .iter()
            .fold((0, 0), |(stored, expected), source| (stored + source.stored, expected + source.expected))
    }
}

/// A source, and what is known of it.
struct Subject {
    id: i64,
    name: String,
    rhythm_ms: Option<i64>,
    counts: BTreeMap<i64, (i64, Option<i64>)>,
    known: Known,
}

/// Reads what a report needs, and makes it.
pub(super) fn report(connection: &Connection, query: &GapQuery) -> Result<GapReport, StoreError> {
    let (from_ms, to_ms) = (query.from_ms.max(CLOCK_SET_MS), query.to_ms);
    let mut uncounted: HashMap<i64, Vec<HourCount>> = HashMap::new();
    let mut is_counted = true;
    for readings in Readings::ALL {
        let more = ledger::count(connection, readings, UNCOUNTED_MAX)?;
        is_counted &= more.rows() < UNCOUNTED_MAX;
        more.hours.into_iter().for_each(|hour| uncounted.entry(hour.source).or_default().push(hour));
    }
    let mut subjects = Vec::new();
    for (id, name, rhythm_ms) in sources(connection)? {
        if query.source.as_ref().is_some_and(|wanted| *wanted != name) {
            continue;
        }
        let more = uncounted.remove(&id).unwrap_or_default();
        subjects.extend(subject(connection, (id, name, rhythm_ms), &more, (from_ms, to_ms))?);
    }
    read_times(connection, &mut subjects, (from_ms, to_ms), query.rows_max)?;
    let downs = Downs::between(&runs(connection)?, to_ms, query.is_alive);
    let mut room = LISTED_MAX;
    let sources = subjects.into_iter().map(|subject| found(subject, &downs, (from_ms, to_ms), &mut room)).collect();
    Ok(GapReport { from_ms, to_ms, is_counted, sources })
}

fn sources(connection: &Connection) -> Result<Vec<(i64, String, Option<i64>)>, StoreError> {
    let mut statement = connection.prepare_cached(SOURCES).doing(DOING)?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).doing(DOING)?;
    let mut sources: Vec<_> = rows.collect::<Result<_, _>>().doing(DOING)?;
    sources.push((UNNAMED_WEATHER, "weather_data without a source".to_owned(), None));
    sources.push((UNNAMED_MAGNETIC, "magnetic_flux_data without a source".to_owned(), None));
    Ok(sources)
}

fn runs(connection: &Connection) -> Result<Vec<Ran>, StoreError> {
    let mut statement = connection.prepare_cached(RUNS).doing(DOING)?;
    let rows =
        statement.query_map([], |row| Ok(Ran { started_ms: row.get(0)?, ended_ms: row.get(1)? })).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

/// Reads what is known of a source; `None` where it has no readings, or is gone.
fn subject(
    connection: &Connection,
    (id, name, rhythm_ms): (i64, String, Option<i64>),
    uncounted: &[HourCount],
    (from_ms, to_ms): (i64, i64),
) -> Result<Option<Subject>, StoreError> {
    let (first, last) = (from_ms / HOUR_MS, (to_ms - 1) / HOUR_MS);
    let mut counts = BTreeMap::new();
    let mut statement = connection.prepare_cached(HOURS).doing(DOING)?;
    let rows =
        statement.query_map([id, first, last], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).doing(DOING)?;
    for row in rows {
        let (hour, count): (i64, (i64, Option<i64>)) = row.doing(DOING)?;
        counts.insert(hour, count);
    }
    let before = connection
        .prepare_cached(LAST_BEFORE)
        .and_then(|mut statement| statement.query_row([id, first], |row| Ok((row.get(0)?, row.get(1)?))).optional());
    let mut before: Option<(i64, Option<i64>)> = before.doing(DOING)?;
    for HourCount { hour, stored, interval_ms, .. } in uncounted.iter().copied() {
        if (first..=last).contains(&hour) {
            let count = counts.entry(hour).or_insert((0, None));
            *count = (count.0 + stored, interval_ms.or(count.1));
        } else if hour < first && before.is_none_or(|(known, _)| known < hour) {
            before = Some((hour, interval_ms));
        }
    }
    counts.retain(|_, (stored, _)| *stored > 0);
    if counts.is_empty() && before.is_none_or(|(hour, _)| hour < first - GONE_HOURS) {
        return Ok(None);
    }
    let mut known = Known { is_old: before.is_some(), has_ended: id <= UNNAMED_WEATHER, ..Known::default() };
    known.lost = marks(connection, id, "lost", from_ms, to_ms)?;
    known.rejected = marks(connection, id, "rejected", from_ms, to_ms)?;
    // Of a source that says nothing of its interval and has no rhythm, its fullest hour tells.
    let fullest = counts.values().map(|(stored, _)| *stored).max().filter(|stored| *stored >= 12);
    let usual = before.and_then(|(_, interval)| interval).or(rhythm_ms).or(fullest.map(|stored| HOUR_MS / stored));
    known.interval_ms = usual.filter(|ms| *ms > 0).unwrap_or(i64::MAX / 4);
    let mut interval_ms = known.interval_ms;
    for (hour, (stored, interval)) in &counts {
        interval_ms = interval.or(rhythm_ms).filter(|ms| *ms > 0).unwrap_or(interval_ms);
        let tolerated = if last - first > EXACT_HOURS_MAX { HOUR_MS / interval_ms / 100 } else { 0 };
        let is_edge = *hour == first && from_ms % HOUR_MS > 0 || *hour == last && to_ms % HOUR_MS > 0;
        let is_whole = !is_edge && *stored >= HOUR_MS / interval_ms - tolerated;
        let content = if is_whole { Hour::Whole { stored: *stored } } else { Hour::Some { stored: *stored } };
        known.hours.insert(*hour, (content, interval_ms));
    }
    Ok(Some(Subject { id, name, rhythm_ms, counts, known }))
}

fn marks(
    connection: &Connection,
    source: i64,
    cause: &str,
    from_ms: i64,
    to_ms: i64,
) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut statement = connection.prepare_cached(MARKS).doing(DOING)?;
    let values = (source, from_ms.div_euclid(60_000), to_ms.div_euclid(60_000), cause, MARKS_MAX);
    let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?))).doing(DOING)?;
    rows.collect::<Result<_, _>>().doing(DOING)
}

/// Reads when the readings came of hours that miss some, as far as the bounds go.
fn read_times(
    connection: &Connection,
    subjects: &mut [Subject],
    (from_ms, to_ms): (i64, i64),
    mut rows_left: usize,
) -> Result<(), StoreError> {
    let lacking = |subject: &Subject| {
        let hours = subject.known.hours.iter();
        hours
            .filter(|(_, (content, _))| matches!(content, Hour::Some { .. }))
            .map(|(hour, _)| *hour)
            .collect::<Vec<_>>()
    };
    let wanted: BTreeSet<i64> = subjects.iter().flat_map(lacking).collect();
    for hour in wanted.into_iter().rev().take(ROW_HOURS_MAX) {
        let Some(times) = times_of(connection, hour, &mut rows_left)? else { return Ok(()) };
        for subject in subjects.iter_mut() {
            let Some((content @ Hour::Some { .. }, _)) = subject.known.hours.get_mut(&hour) else { continue };
            let mut found = times.get(&subject.id).cloned().unwrap_or_default();
            found.sort_unstable();
            let is_gone = found.is_empty() && hour * HOUR_MS >= from_ms && (hour + 1) * HOUR_MS <= to_ms;
            // Rows that were counted and are there no more were stored all the same.
            if !is_gone {
                *content = Hour::Times(found);
            }
        }
    }
    Ok(())
}

/// Reads when the readings of an hour came, by source; `None` where that would be too many rows.
fn times_of(
    connection: &Connection,
    hour: i64,
    rows_left: &mut usize,
) -> Result<Option<HashMap<i64, Vec<i64>>>, StoreError> {
    let text = |hour: i64| {
        let time = jiff::Timestamp::from_second(hour * 3_600).unwrap_or_default();
        time.strftime("%Y-%m-%d %H:%M:%S").to_string()
    };
    let mut times: HashMap<i64, Vec<i64>> = HashMap::new();
    for sql in [WEATHER_TIMES, MAGNETIC_TIMES] {
        let mut statement = connection.prepare_cached(sql).doing(DOING)?;
        let limit = i64::try_from(*rows_left).unwrap_or(i64::MAX);
        let rows = statement
            .query_map((text(hour), text(hour + 1), limit), |row| Ok((row.get(0)?, row.get(1)?)))
            .doing(DOING)?;
        for row in rows {
            let (source, ms): (i64, i64) = row.doing(DOING)?;
            times.entry(source).or_default().push(ms);
            *rows_left -= 1;
        }
        if *rows_left == 0 {
            return Ok(None);
        }
    }
    Ok(Some(times))
}

/// Finds the gaps of a source; `room` is how many hours and gaps may still be listed.
fn found(subject: Subject, downs: &Downs, (from_ms, to_ms): (i64, i64), room: &mut usize) -> SourceGaps {
    let Subject { name, rhythm_ms, counts, known, .. } = subject;
    let found = gaps::find(&known, downs, from_ms, to_ms);
    let missing = found.missing();
    let mut lacking: BTreeMap<i64, i64> = BTreeMap::new();
    for gap in &found.gaps {
        for hour in (gap.from_ms / HOUR_MS..=gap.to_ms / HOUR_MS).take(LISTED_MAX) {
            let before = |ms| gaps::came_before(ms, gap.from_ms, gap.to_ms, gap.missing);
            *lacking.entry(hour).or_default() += before((hour + 1) * HOUR_MS) - before(hour * HOUR_MS);
        }
    }
    let listed = lacking.into_iter().filter(|(_, missing)| *missing > 0).take(*room);
    let hours: Vec<HourGaps> = listed
        .map(|(hour, missing)| {
            let stored = match known.hours.get(&hour) {
                Some((Hour::Times(times), _)) => times.len() as i64,
                _ => counts.get(&hour).map_or(0, |(stored, _)| *stored),
            };
            HourGaps { hour_ms: hour * HOUR_MS, stored, expected: stored + missing }
        })
        .collect();
    *room -= hours.len();
    let gap_count = found.gaps.len();
    let gaps: Vec<Gap> = found.gaps.into_iter().take(*room).collect();
    *room -= gaps.len();
    let last = known.hours.values().next_back().map(|(_, interval)| *interval);
    SourceGaps {
        source: name,
        interval_ms: last.or(rhythm_ms).unwrap_or(known.interval_ms),
        expected: found.stored + missing,
        stored: found.stored,
        missing,
        hours,
        gap_count,
        gaps,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Synchronous;
    use crate::gaps::Cause;

    #[test]
    fn nothing_is_read_without_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        for (sql, words) in [
            (HOURS, "SEARCH hour_count USING PRIMARY KEY (source_id=? AND hour>? AND hour<?)"),
            (LAST_BEFORE, "SEARCH hour_count USING PRIMARY KEY (source_id=? AND hour<?)"),
            (MARKS, "(source_id=? AND minute>? AND minute<?)"),
            (WEATHER_TIMES, "SEARCH weather_data USING INDEX idx_weather_created (created_at>? AND created_at<?)"),
            (MAGNETIC_TIMES, "SEARCH magnetic_flux_data USING INDEX idx_flux_created (created_at>? AND created_at<?)"),
        ] {
            let plan = super::super::plan(&connection, sql);
            assert!(plan.contains(words) && !plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
        }
    }

    #[test]
    fn the_old_programs_rows_are_a_source_with_gaps_of_unknown_cause() {
        let dir = tempfile::tempdir().unwrap();
        let connection = super::super::schema::open(&dir.path().join("a.db"), Synchronous::Full, true).unwrap();
        let start = 1_759_478_400;
        // Three hours every 5 s, twenty minutes missing in the second of them.
        for at in (start..start + 10_800).step_by(5).filter(|at| !(start + 4_200..start + 5_400).contains(at)) {
            let sql = "INSERT INTO weather_data(timestamp, sample_interval, created_at)
                       VALUES (?1, 5000, datetime(?1, 'unixepoch'))";
            connection.execute(sql, [at]).unwrap();
        }
        let query = GapQuery::between((start - 86_400) * 1000, (start + 90_000) * 1000, true);
        for _ in 0..2 {
            let report = report(&connection, &query).unwrap();
            assert_eq!(report.sources.len(), 1);
            let source = &report.sources[0];
            assert_eq!((source.stored, source.expected, source.missing), (1_920, 2_160, 240));
            let gap = Gap {
                from_ms: (start + 4_195) * 1000,
                to_ms: (start + 5_400) * 1000,
                cause: Cause::Unknown,
                missing: 240,
                scattered: false,
            };
            assert_eq!(source.gaps, [gap]);
            let hours: Vec<_> = source.hours.iter().map(|hour| (hour.stored, hour.expected)).collect();
            assert_eq!(hours, [(480, 720)]);
            let counted = ledger::count(&connection, Readings::Weather, 10_000).unwrap();
            ledger::apply(&connection, &ledger::LedgerChange::Counted(counted)).unwrap();
        }
    }
}
