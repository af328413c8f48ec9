#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

const T: i64 = CLOCK_SET_MS + 24 * HOUR_MS;

fn times(readings: &[i64], interval_ms: i64) -> Known {
    let mut known = Known { interval_ms, ..Known::default() };
    for ms in readings {
        let hour = known.hours.entry(ms / HOUR_MS).or_insert((Hour::Times(Vec::new()), interval_ms));
        if let Hour::Times(times) = &mut hour.0 {
            times.push(*ms);
        }
    }
    known
}

fn every(interval_ms: i64, spans: &[(i64, i64)]) -> Vec<i64> {
    spans.iter().flat_map(|(from, to)| (T + from..T + to).step_by(interval_ms as usize)).collect()
}

fn runs(spans: &[(i64, i64)]) -> Vec<Ran> {
    spans.iter().map(|(from, to)| Ran { started_ms: T + from, ended_ms: T + to }).collect()
}

fn told(found: &Found) -> Vec<(i64, i64, Cause, i64)> {
    found.gaps.iter().map(|gap| (gap.from_ms - T, gap.to_ms - T, gap.cause, gap.missing)).collect()
}

#[test]
fn each_gap_has_the_cause_of_its_time() {
    // Every 5 s; silent for a minute, down for five, rejected for one, lost for one.
    let spans = [(0, 60_000), (120_000, 180_000), (480_000, 540_000), (600_000, 660_000), (720_000, 800_000)];
    let mut known = times(&every(5_000, &spans), 5_000);
    known.rejected = vec![(T + 540_000, T + 595_000)];
    known.lost = vec![(T + 660_000, T + 715_000)];
    let downs = Downs::between(&runs(&[(-1_000, 170_000), (475_000, 800_000)]), T + 800_000, true);
    let found = find(&known, &downs, T, T + 800_000);
    let expected = [
        (55_000, 120_000, Cause::SensorSilent, 12),
        (175_000, 480_000, Cause::HubDown, 60),
        (535_000, 600_000, Cause::Rejected, 12),
        (655_000, 720_000, Cause::QueueOverflow, 12),
    ];
    assert_eq!(told(&found), expected);
    assert_eq!((found.stored, found.missing()), (64, 96));
}

#[test]
fn a_gap_is_split_where_the_hub_goes_down_and_comes_back() {
    let known = times(&every(5_000, &[(0, 60_000), (400_000, 460_000)]), 5_000);
    let downs = Downs::between(&runs(&[(0, 155_000), (200_000, 460_000)]), T + 460_000, true);
    let found = find(&known, &downs, T, T + 460_000);
    let causes: Vec<_> = told(&found).iter().map(|gap| gap.2).collect();
    assert_eq!(causes, [Cause::SensorSilent, Cause::HubDown, Cause::SensorSilent], "{found:?}");
    assert_eq!(found.missing(), 68);
}

#[test]
fn a_single_reading_that_is_late_is_no_gap_and_silence_at_the_end_is_one() {
    let readings: Vec<i64> = [0, 5_000, 10_000, 22_400, 27_000].iter().map(|ms| T + ms).collect();
    let found = find(&times(&readings, 5_000), &Downs::default(), T, T + 39_000);
    assert_eq!(found.gaps, []);
    let found = find(&times(&readings, 5_000), &Downs::default(), T, T + 60_000);
    assert_eq!(told(&found), [(27_000, 60_000, Cause::SensorSilent, 6)]);
    let ended = Known { has_ended: true, ..times(&readings, 5_000) };
    assert_eq!(find(&ended, &Downs::default(), T, T + 60_000).gaps, []);
}

#[test]
fn whole_hours_are_believed_and_scattered_ones_counted() {
    let hour = T / HOUR_MS;
    let mut known = Known { is_old: true, interval_ms: 5_000, ..Known::default() };
    known.hours.insert(hour, (Hour::Whole { stored: 719 }, 5_000));
    known.hours.insert(hour + 1, (Hour::Some { stored: 400 }, 5_000));
    known.hours.insert(hour + 4, (Hour::Whole { stored: 720 }, 5_000));
    let downs = Downs { times: vec![], known_since_ms: T + 2 * HOUR_MS };
    let found = find(&known, &downs, T, T + 5 * HOUR_MS);
    let expected =
        [(HOUR_MS, 2 * HOUR_MS, Cause::Unknown, 320), (2 * HOUR_MS, 4 * HOUR_MS, Cause::SensorSilent, 1_439)];
    assert_eq!(told(&found), expected);
    assert_eq!(found.stored, 1_839);
}

#[test]
fn a_start_by_a_clock_that_was_not_set_does_not_hide_that_the_hub_was_down() {
    let runs = [
        Ran { started_ms: T, ended_ms: T + 1_000 },
        Ran { started_ms: 5, ended_ms: T + 90_000 },
        Ran { started_ms: 5, ended_ms: 600 },
    ];
    assert_eq!(Downs::between(&runs, T + 95_000, true).times, [(T + 1_000, T + 90_000)]);
    assert_eq!(Downs::between(&runs, T + 95_000, false).times.last(), Some(&(T + 90_000, T + 95_000)));
}

fn spans() -> impl Strategy<Value = Vec<(i64, i64)>> {
    proptest::collection::vec((0..7_200_000_i64, 0..600_000_i64), 0..6)
        .prop_map(|found| found.into_iter().map(|(from, length)| (T + from, T + from + length)).collect())
}

proptest! {
    #[test]
    fn what_is_expected_is_what_is_stored_and_what_is_missing_and_no_gap_overlaps_another(
        pauses in proptest::collection::vec(prop_oneof![4 => Just(5_000_i64), 1 => 0..2_000_000_i64], 1..200),
        lost in spans(), rejected in spans(), mut down in spans(), is_old: bool, since in 0..3_600_000_i64,
    ) {
        let mut at = T;
        let readings: Vec<i64> = pauses.iter().map(|pause| { at += pause; at }).collect();
        down.sort_unstable();
        let known = Known { lost, rejected, is_old, ..times(&readings, 5_000) };
        let downs = Downs { times: down, known_since_ms: T + since };
        let to_ms = at + 1_000_000;
        let found = find(&known, &downs, T, to_ms);
        prop_assert_eq!(found.stored, readings.len() as i64);
        let mut ends: Vec<i64> = if is_old { vec![T] } else { vec![] };
        ends.extend(&readings);
        ends.push(to_ms);
        let is_gap = |pair: &[i64]| (pair[1] - pair[0]) * 2 > 25_000;
        let expected: i64 = ends.windows(2).filter(|pair| is_gap(pair)).map(|p| (p[1] - p[0] + 2_500) / 5_000 - 1).sum();
        prop_assert_eq!(found.missing(), expected);
        let mut end = T;
        for gap in &found.gaps {
            prop_assert!(gap.from_ms >= end && gap.to_ms > gap.from_ms && gap.missing > 0, "{:?}", gap);
            end = gap.to_ms;
            prop_assert!(!readings.iter().any(|ms| *ms > gap.from_ms && *ms < gap.to_ms), "{:?}", gap);
        }
        prop_assert!(end <= to_ms);
    }
}
