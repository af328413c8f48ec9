#![allow(clippy::unwrap_used)]
use rusqlite::params;

use super::tests::{Bench, MARCH_S};
use super::*;
use crate::weather::calibration::{Calibration, Sensors, Vane};

const NOW_S: i64 = MARCH_S + 10 * 86_400;

/// The sensors of a station whose vane sends the converter's value.
fn table() -> Sensors {
    Calibration::default().sensors(Vane::sparkfun_12_bit())
}

/// Adds a reading a minute that has a rain gauge's count.
fn add_counts(bench: &Bench, from_s: i64, counts: &[i64]) {
    for (count, time_s) in counts.iter().zip((from_s..).step_by(60)) {
        let values = params![time_s, count, raw::created_at(time_s), time_s * 1000];
        let sql =
            "INSERT INTO weather_data(timestamp, rain_gauge_count, created_at, received_ms) VALUES (?1, ?2, ?3, ?4)";
        bench.connection.execute(sql, values).unwrap();
    }
}

/// Says what fell in the two hours on both sides of the border that these counts lie about, and how often it went astray: as
/// it comes when the first hour is done before the second comes, which has to be what it comes to at once.
fn over_the_border(counts: &[i64], before: i64) -> Vec<String> {
    let hours =
        "SELECT cast(sum AS INTEGER), resets FROM rollup_hour WHERE quantity = 'rain_gauge_count' ORDER BY hour";
    let whole = "SELECT * FROM rollup_hour ORDER BY hour";
    let border_s = MARCH_S + HOUR_S;
    let (at_once, hourly) = (Bench::new("UTC"), Bench::new("UTC"));
    for bench in [&at_once, &hourly] {
        add_counts(bench, border_s - before * 60, counts);
    }
    at_once.roll_up(NOW_S);
    hourly.roll_up(border_s + 61);
    assert_eq!(hourly.number("SELECT count(*) FROM rollup_hour WHERE quantity = 'rain_gauge_count'"), 1);
    hourly.roll_up(NOW_S);
    assert_eq!(hourly.text(whole), at_once.text(whole));
    at_once.text(hours)
}

#[test]
fn a_wrong_count_at_an_hours_border_rains_in_neither_hour() {
    for wrong in [0, 65_535] {
        let last_of_the_hour = over_the_border(&[100, 101, 101, wrong, 102, 102], 4);
        assert_eq!(last_of_the_hour, ["Integer(1) Integer(0)", "Integer(1) Integer(1)"], "{wrong}");
        let first_of_the_next = over_the_border(&[100, 101, 101, wrong, 102, 102], 3);
        assert_eq!(first_of_the_next, ["Integer(1) Integer(0)", "Integer(1) Integer(1)"], "{wrong}");
    }
}

#[test]
fn a_reset_at_an_hours_border_loses_no_rain() {
    for before in [3, 4] {
        let hours = over_the_border(&[100, 101, 102, 2, 3, 3], before);
        assert_eq!(hours, ["Integer(2) Integer(0)", "Integer(3) Integer(1)"], "{before} readings before the border");
    }
}

#[test]
fn a_counter_that_wraps_at_an_hours_border_loses_no_rain() {
    let counts = &[65_533, 65_534, 65_535, 1, 2, 2];
    assert_eq!(over_the_border(counts, 4), ["Integer(4) Integer(0)", "Integer(1) Integer(0)"]);
    assert_eq!(over_the_border(counts, 3), ["Integer(2) Integer(0)", "Integer(3) Integer(0)"]);
}

#[test]
fn the_rises_of_a_count_are_kept_per_second_so_that_a_long_pause_is_no_gust() {
    let bench = Bench::new("UTC");
    add_counts(&bench, MARCH_S, &[100, 103]);
    add_counts(&bench, MARCH_S + 1_860, &[133]);
    bench.roll_up(NOW_S);
    let range =
        "SELECT round(minimum * 600), round(maximum * 600) FROM rollup_hour WHERE quantity = 'rain_gauge_count'";
    assert_eq!(bench.text(range), ["Real(10.0) Real(30.0)"]);
}

/// The rollups of directions, and their state.
fn directions(bench: &Bench) -> Vec<String> {
    bench.text(
        "SELECT 'hour', hour, count, round(sum_sin, 6), round(sum_cos, 6) FROM rollup_hour WHERE quantity = 'wind_direction'
         UNION ALL SELECT 'day', day, count, round(sum_sin, 6), round(sum_cos, 6) FROM rollup_day
         WHERE quantity = 'wind_direction' UNION ALL SELECT 'state', zone, done_s, gone_s, days_from_s FROM rollup_state",
    )
}

#[test]
fn another_vane_does_all_hours_again_and_back_again() {
    let mut bench = Bench::new("Europe/Berlin");
    bench.add(Some(1), MARCH_S, 3 * 24 * 60);
    bench.roll_up(NOW_S);
    let by_degrees = directions(&bench);
    bench.sensors = table();
    assert!(bench.roll_up(NOW_S) > 2, "a step for the state, and one for each day");
    let mut fresh = Bench::new("Europe/Berlin");
    fresh.sensors = table();
    fresh.add(Some(1), MARCH_S, 3 * 24 * 60);
    fresh.roll_up(NOW_S);
    assert_eq!(directions(&bench), directions(&fresh));
    assert_ne!(directions(&bench), by_degrees);
    assert_eq!(bench.roll_up(NOW_S), 0, "once");
    bench.sensors = Sensors::default();
    bench.roll_up(NOW_S);
    assert_eq!(directions(&bench), by_degrees);
}

#[test]
fn another_vane_leaves_hours_whose_raw_rows_are_gone_also_where_some_are_still_there() {
    let mut bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 3 * 24 * 60);
    bench.roll_up(NOW_S);
    let early = format!("SELECT * FROM rollup_hour WHERE hour < {} ORDER BY quantity, hour", MARCH_S + 86_400);
    let before = bench.text(&early);
    // Retention is at work: half of the first day is deleted.
    let gone = format!(
        "UPDATE rollup_state SET gone_s = {}; DELETE FROM weather_data WHERE timestamp < {}",
        MARCH_S + 86_400,
        MARCH_S + 12 * HOUR_S + 600
    );
    bench.connection.execute_batch(&gone).unwrap();
    bench.sensors = table();
    assert!(bench.roll_up(NOW_S) > 1);
    assert_eq!(bench.text(&early), before);
    let day = "SELECT count FROM rollup_day WHERE quantity = 'temperature' ORDER BY day";
    assert_eq!(bench.text(day), ["Integer(1440)"; 3]);
}

#[test]
fn a_direction_that_the_vane_does_not_have_is_in_no_rollup_any_more() {
    let mut bench = Bench::new("UTC");
    bench.sensors = table();
    bench.add(Some(1), MARCH_S, 60);
    bench.connection.execute_batch("UPDATE weather_data SET wind_direction = 3143").unwrap();
    bench.roll_up(NOW_S);
    let rollups = "SELECT (SELECT count(*) FROM rollup_hour WHERE quantity = 'wind_direction')
      + (SELECT count(*) FROM rollup_day WHERE quantity = 'wind_direction')";
    assert_eq!(bench.number(rollups), 2);
    bench.sensors = Sensors::default();
    bench.roll_up(NOW_S);
    assert_eq!(bench.number(rollups), 0);
    assert_eq!(bench.number("SELECT sum(count) FROM rollup_day WHERE quantity = 'temperature'"), 60);
}

#[test]
fn another_zone_while_hours_are_done_anew_leaves_no_stale_day() {
    let mut bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 3 * 24 * 60);
    bench.roll_up(NOW_S);
    bench.sensors = table();
    bench.days = Days::of_zone(Some("Asia/Kolkata")).unwrap();
    while !bench.text("SELECT zone FROM rollup_state")[0].contains("sensors") {
        bench.one_step(NOW_S);
    }
    bench.days = Days::of_zone(Some("America/New_York")).unwrap();
    bench.roll_up(NOW_S);
    let mut fresh = Bench::new("America/New_York");
    fresh.sensors = table();
    fresh.add(Some(1), MARCH_S, 3 * 24 * 60);
    fresh.roll_up(NOW_S);
    for table in ["rollup_hour", "rollup_day"] {
        let all = format!("SELECT * FROM {table} ORDER BY quantity, 3");
        assert_eq!(bench.text(&all), fresh.text(&all), "{table}");
    }
}

#[test]
fn a_late_reading_before_the_hours_are_done_again_is_in_them() {
    let mut bench = Bench::new("UTC");
    bench.add(Some(1), MARCH_S, 2 * 24 * 60);
    bench.roll_up(NOW_S);
    bench.sensors = table();
    bench.one_step(NOW_S);
    bench.add(Some(1), MARCH_S + 86_430, 1);
    note_late(&bench.connection, "weather", MARCH_S + 86_400).unwrap();
    bench.roll_up(NOW_S);
    assert_eq!(bench.number("SELECT sum(count) FROM rollup_day WHERE quantity = 'temperature'"), 2 * 24 * 60 + 1);
    assert_eq!(bench.number("SELECT count(*) FROM rollup_late"), 0);
}
