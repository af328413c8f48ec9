#![allow(clippy::unwrap_used)]
use std::path::Path;

use rusqlite::Connection;

use super::fold::Seen;
use super::*;
use crate::config::Synchronous;
use crate::store::{Reader, schema, series};
use crate::weather::calibration::{Sensors, Vane};

/// 2024-03-30 00:00 UTC, the day before Europe's clocks go forward.
pub(super) const MARCH_S: i64 = 1_711_756_800;

/// A database and what reads it.
pub(super) struct Bench {
    dir: tempfile::TempDir,
    pub(super) connection: Connection,
    late: Late,
    pub(super) days: Days,
    pub(super) sensors: Sensors,
}

impl Bench {
    pub(super) fn new(zone: &str) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let connection = schema::open(&dir.path().join("a.db"), Synchronous::Normal, true).unwrap();
        let days = Days::of_zone(Some(zone)).unwrap();
        Bench { dir, connection, late: Late::default(), days, sensors: Sensors::default() }
    }

    /// Adds a weather reading a minute, its values by its number.
    pub(super) fn add(&self, source: Option<i64>, from_s: i64, minutes: i64) {
        self.connection.execute_batch("BEGIN").unwrap();
        for number in 0..minutes {
            self.add_one(source, from_s + number * 60, number);
        }
        self.connection.execute_batch("COMMIT").unwrap();
    }

    fn add_one(&self, source: Option<i64>, time_s: i64, number: i64) {
        let values = params![
            time_s,
            f64::from(i32::try_from(number * 37 % 400).unwrap()) / 10.0,
            number * 11 % 360,
            number / 7,
            source,
            raw::created_at(time_s),
            time_s * 1000
        ];
        let sql = "INSERT INTO weather_data(timestamp, temperature, wind_direction, rain_gauge_count, source_id,
          created_at, received_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        self.connection.execute(sql, values).unwrap();
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("a.db")
    }

    fn step(&self, now_s: i64) -> Step {
        let reader = Reader::open(Path::new(&self.path())).unwrap();
        reader.rollup_step(Kind::Weather, &self.days, &self.sensors, &self.late.claims, now_s).unwrap()
    }

    /// Does what is next; returns how many steps wrote something, `None` where there is nothing to do.
    pub(super) fn one_step(&self, now_s: i64) -> Option<usize> {
        let (changes, steps) = match self.step(now_s) {
            Step::Nothing => return None,
            Step::Claim(change) => (vec![change], 0),
            Step::Write(work) => (work.changes, 1),
        };
        self.late.apply(&self.connection, &changes).unwrap();
        Some(steps)
    }

    /// Does all there is to do; returns how many steps wrote something.
    pub(super) fn roll_up(&self, now_s: i64) -> usize {
        std::iter::from_fn(|| self.one_step(now_s)).sum()
    }

    pub(super) fn text(&self, sql: &str) -> Vec<String> {
        let mut statement = self.connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let row = |row: &Row<'_>| {
            let values = (0..columns).map(|column| row.get::<_, rusqlite::types::Value>(column).unwrap());
            Ok(values.map(|value| format!("{value:?}")).collect::<Vec<_>>().join(" "))
        };
        statement.query_map([], row).unwrap().map(Result::unwrap).collect()
    }

    pub(super) fn number(&self, sql: &str) -> i64 {
        self.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn folded(quantity: Quantity, values: &[f64]) -> Summary {
    let (mut summary, mut counter) = (Summary::default(), fold::counter(quantity, &Sensors::default()));
    for (number, &value) in values.iter().enumerate() {
        let time_s = i64::try_from(number).unwrap() * 5;
        let counted = counter.as_mut().map(|counter| Seen::Count(time_s, counter.next(time_s, value)));
        summary.add(counted.or_else(|| Seen::value(quantity, value, &Vane::Degrees)).unwrap());
    }
    summary
}

#[test]
fn a_count_that_starts_anew_or_jumps_makes_no_rain_of_it_and_loses_none() {
    let restarted = folded(Quantity::RainGaugeCount, &[100.0, 102.0, 0.0, 1.0]);
    assert_eq!((restarted.sum, restarted.resets, restarted.count), (Some(3.0), Some(1), 4));
    let glitch = folded(Quantity::RainGaugeCount, &[100.0, 65_535.0, 101.0, 102.0]);
    // Lowest and highest are tips a second.
    assert_eq!((glitch.sum, glitch.resets, glitch.maximum), (Some(2.0), Some(1), Some(0.2)));
    assert_eq!(glitch.seconds, Some(15.0));
    let alone = folded(Quantity::RainGaugeCount, &[100.0]);
    assert_eq!((alone.sum, alone.resets, alone.count), (None, Some(0), 1));
}

#[test]
fn directions_on_both_sides_of_north_come_to_north() {
    let mean = folded(Quantity::WindDirection, &[350.0, 10.0, 0.0]).mean().unwrap();
    assert!(!(1e-6..=360.0 - 1e-6).contains(&mean), "{mean}");
    assert_eq!(folded(Quantity::WindDirection, &[0.0, 180.0]).mean(), None, "opposite winds have no mean");
    assert_eq!(folded(Quantity::Temperature, &[1.0, 2.0, 6.0]).mean(), Some(3.0));
}

#[test]
fn hours_and_days_are_what_the_raw_rows_say_by_a_plain_question() {
    let bench = Bench::new("UTC");
    bench.add(None, MARCH_S + 1_800, 3_000);
    bench.add(Some(7), MARCH_S + 40_000, 2_500);
    bench.roll_up(MARCH_S + 20 * 86_400);
    for (table, time, of_time) in [
        ("rollup_hour", "hour", "timestamp / 3600 * 3600"),
        ("rollup_day", "day", "strftime('%Y-%m-%d', timestamp, 'unixepoch')"),
    ] {
        let rolled = format!(
            "SELECT source_id, {time}, count, minimum, maximum, round(sum, 6) FROM {table}
             WHERE quantity = 'temperature' ORDER BY 1, 2"
        );
        let plain = format!(
            "SELECT coalesce(source_id, 0), {of_time}, count(*), min(temperature), max(temperature),
             round(sum(temperature), 6) FROM weather_data GROUP BY 1, 2 ORDER BY 1, 2"
        );
        assert_eq!(bench.text(&rolled), bench.text(&plain), "{table}");
        let rain = format!("SELECT cast(sum(sum) AS INTEGER) FROM {table} WHERE quantity = 'rain_gauge_count'");
        assert_eq!(bench.number(&rain), 2_999 / 7 + 2_499 / 7, "{table}: no difference over a border is lost");
    }
}

#[test]
fn a_local_day_is_23_hours_long_where_clocks_go_forward() {
    let bench = Bench::new("Europe/Berlin");
    bench.add(None, MARCH_S, 4 * 24 * 60);
    bench.roll_up(MARCH_S + 10 * 86_400);
    let days = bench.text("SELECT day, count FROM rollup_day WHERE quantity = 'temperature' AND day > '2024-03-30'");
    let day = |date: &str, hours: i64| format!("Text({date:?}) Integer({})", hours * 60);
    assert_eq!(days, [day("2024-03-31", 23), day("2024-04-01", 24), day("2024-04-02", 24), day("2024-04-03", 2)]);
}

#[test]
fn a_day_that_begins_at_half_an_hour_of_utc_has_its_own_readings() {
    let bench = Bench::new("Asia/Kolkata");
    bench.add(None, MARCH_S, 3 * 24 * 60);
    bench.roll_up(MARCH_S + 10 * 86_400);
    let days = bench.text("SELECT day, count FROM rollup_day WHERE quantity = 'temperature'");
    let day = |date: &str, minutes: i64| format!("Text({date:?}) Integer({minutes})");
    assert_eq!(
        days,
        [day("2024-03-30", 1110), day("2024-03-31", 1440), day("2024-04-01", 1440), day("2024-04-02", 330)]
    );
}

#[test]
fn another_time_zone_does_the_days_again_from_the_hours() {
    let mut bench = Bench::new("UTC");
    bench.add(None, MARCH_S, 70 * 24 * 60);
    bench.roll_up(MARCH_S + 100 * 86_400);
    // What the hours do not need any more is not needed for it.
    bench.connection.execute_batch("DELETE FROM weather_data").unwrap();
    bench.days = Days::of_zone(Some("America/New_York")).unwrap();
    assert!(bench.roll_up(MARCH_S + 100 * 86_400) > 3, "in steps");
    let again = bench.text("SELECT day, count, round(sum, 3) FROM rollup_day WHERE quantity = 'temperature'");
    let fresh = Bench::new("America/New_York");
    fresh.add(None, MARCH_S, 70 * 24 * 60);
    fresh.roll_up(MARCH_S + 100 * 86_400);
    assert_eq!(again, fresh.text("SELECT day, count, round(sum, 3) FROM rollup_day WHERE quantity = 'temperature'"));
    assert_eq!(bench.text("SELECT zone, days_from_s FROM rollup_state"), ["Text(\"America/New_York\") Null"]);
}

#[test]
fn a_reading_that_comes_while_its_hour_is_worked_out_is_not_missed() {
    let mut bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 120);
    let now_s = MARCH_S + 86_400;
    let Step::Claim(claim) = bench.step(now_s) else { panic!("hours are claimed first") };
    bench.late.apply(&bench.connection, &[claim]).unwrap();
    let Step::Write(work) = bench.step(now_s) else { panic!("then they are done") };
    // Stored after they were read, before they are written.
    let reading = Reading {
        sample: Sample::Weather(crate::reading::Weather { timestamp: MARCH_S + 30, ..Default::default() }),
        marks: Marks::default(),
    };
    bench.add_one(Some(1), MARCH_S + 30, 5);
    bench.late.begin();
    bench.late.look_at(&incoming(MARCH_S * 1000 + 86_000_000), &reading);
    bench.late.write(&bench.connection).unwrap();
    bench.late.apply(&bench.connection, &work.changes).unwrap();
    bench.roll_up(now_s);
    let count = "SELECT sum(count) FROM rollup_hour WHERE quantity = 'temperature'";
    assert_eq!(bench.number(count), 121);
    assert_eq!(bench.number("SELECT sum(count) FROM rollup_day WHERE quantity = 'temperature'"), 121);
    assert_eq!(bench.number("SELECT count(*) FROM rollup_late"), 0);
}

#[test]
fn an_hour_noted_again_while_it_is_done_again_is_done_once_more() {
    let bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 120);
    let now_s = MARCH_S + 86_400;
    bench.roll_up(now_s);
    note_late(&bench.connection, "weather", MARCH_S).unwrap();
    let Step::Write(work) = bench.step(now_s) else { panic!("it is done again") };
    bench.add_one(Some(1), MARCH_S + 30, 5);
    note_late(&bench.connection, "weather", MARCH_S).unwrap();
    bench.late.apply(&bench.connection, &work.changes).unwrap();
    assert_eq!(bench.number("SELECT count(*) FROM rollup_late"), 1);
    bench.roll_up(now_s);
    assert_eq!(bench.number("SELECT sum(count) FROM rollup_hour WHERE quantity = 'temperature'"), 121);
}

#[test]
fn an_hour_whose_rows_moved_away_loses_its_rollup() {
    let bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 60);
    bench.roll_up(MARCH_S + 86_400);
    bench.connection.execute_batch("UPDATE weather_data SET timestamp = timestamp + 3600").unwrap();
    note_late(&bench.connection, "weather", MARCH_S).unwrap();
    bench.roll_up(MARCH_S + 86_400);
    let hours = bench.text("SELECT hour, count FROM rollup_hour WHERE quantity = 'temperature'");
    assert_eq!(hours, [format!("Integer({}) Integer(60)", MARCH_S + 3600)]);
}

#[test]
fn a_sensor_whose_clock_was_never_set_is_rolled_up_by_the_time_of_receipt() {
    let bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 60);
    bench.connection.execute_batch("UPDATE weather_data SET timestamp = id, marks = 2").unwrap();
    bench.roll_up(MARCH_S + 86_400);
    let hours = bench.text("SELECT hour, count FROM rollup_hour WHERE quantity = 'temperature'");
    assert_eq!(hours, [format!("Integer({MARCH_S}) Integer(60)")]);
}

#[test]
fn a_restart_goes_on_where_it_was_and_an_idle_station_costs_nothing() {
    let mut bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 600);
    bench.roll_up(MARCH_S + 86_400);
    bench.late = Late::opened(&bench.connection, Arc::default()).unwrap();
    assert_eq!(bench.roll_up(MARCH_S + 30 * 86_400), 0);
    bench.add(Some(1), MARCH_S + 30 * 3_600, 60);
    assert_eq!(bench.roll_up(MARCH_S + 30 * 86_400), 1);
}

#[test]
fn no_question_goes_through_a_whole_table() {
    let bench = Bench::new("UTC");
    let questions = [
        series::NEWEST_WEATHER,
        series::NEWEST_FLUX,
        series::RAW_WEATHER,
        series::RAW_FLUX,
        series::HOURLY,
        series::DAILY,
    ];
    for sql in questions {
        let plan = bench.connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let mut plan = plan;
        let steps: Vec<String> = plan.raw_query().mapped(|row| row.get(3)).map(Result::unwrap).collect();
        assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{sql}: {steps:?}");
        if sql == series::DAILY || sql == series::HOURLY {
            assert_eq!(steps.len(), 1, "one range of one index: {steps:?}");
        }
    }
}

#[test]
fn the_latest_reading_of_a_silent_source_is_found_by_its_rollups() {
    let bench = Bench::new("UTC");
    bench.connection.execute_batch("INSERT INTO source VALUES (1, 'a', 0, NULL), (2, 'b', 0, NULL)").unwrap();
    bench.add(Some(1), MARCH_S, 90);
    bench.add(Some(2), MARCH_S + 86_400, 3_000);
    bench.roll_up(MARCH_S + 10 * 86_400);
    let latest = Reader::open(&bench.path()).unwrap().latest(Kind::Weather).unwrap();
    let latest: Vec<_> = latest.iter().map(|raw| (raw.source, raw.time_s)).collect();
    assert_eq!(latest, [(2, MARCH_S + 86_400 + 2_999 * 60), (1, MARCH_S + 89 * 60)]);
}

fn incoming(received_ms: i64) -> Incoming {
    use crate::store::{Entry, Origin};
    Incoming {
        origin: Origin { source: "a".into(), client: "c".into(), qos: 1, received_ms },
        entry: Entry::Passing,
        payload: Box::default(),
        forward: None,
        delivery: None,
    }
}
