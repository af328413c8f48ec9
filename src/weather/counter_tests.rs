#![allow(clippy::unwrap_used)]
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use super::*;

/// Counts values that come every 5 s.
fn steps(limits: Limits, values: &[f64]) -> Vec<Step> {
    let mut counter = Counter::new(limits);
    values.iter().zip(0..).map(|(&value, number)| counter.next(number * 5, value)).collect()
}

fn total(values: &[f64]) -> f64 {
    steps(Limits::Rain, values).iter().map(|step| step.rise).sum()
}

fn kinds(values: &[f64]) -> Vec<Kind> {
    steps(Limits::Rain, values).iter().map(|step| step.kind).collect()
}

#[test]
fn a_counter_that_only_rises_is_added_up() {
    assert_eq!(total(&[170.0, 170.0, 171.0, 173.0]), 3.0);
    assert_eq!(kinds(&[170.0, 171.0]), [Kind::First, Kind::Rise]);
}

#[test]
fn a_restart_is_known_by_the_value_after_it() {
    assert_eq!(kinds(&[170.0, 0.0, 0.0, 1.0]), [Kind::First, Kind::Held, Kind::Reset, Kind::Rise]);
    assert_eq!(total(&[170.0, 0.0, 0.0, 1.0]), 1.0);
    // Two tips came between the restart and its first value.
    assert_eq!(total(&[170.0, 2.0, 3.0]), 3.0);
    // From far away it cannot have counted so much.
    assert_eq!(total(&[1_000_000.0, 5_000.0, 5_001.0]), 1.0);
}

#[test]
fn a_single_wrong_value_makes_no_rain_and_takes_none() {
    for glitch in [0.0, 1.0, 65_535.0, 4_294_967_295.0, 1e30] {
        assert_eq!(total(&[170.0, glitch, 171.0, 172.0]), 2.0, "{glitch}");
        assert_eq!(kinds(&[170.0, glitch, 171.0])[1..], [Kind::Held, Kind::Glitch], "{glitch}");
    }
    assert_eq!(total(&[170.0, f64::NAN, -1.0, 171.0]), 1.0);
    // Near enough to be believed, and taken back.
    assert_eq!(total(&[170.0, 180.0, 171.0, 172.0]), 2.0);
    assert_eq!(total(&[65_530.0, 0.0, 65_531.0, 65_531.0]), 1.0);
    // Two different ones in a row.
    assert_eq!(total(&[170.0, 9_999.0, 40_000.0, 171.0]), 1.0);
}

#[test]
fn wraps_of_both_widths_go_on() {
    assert_eq!(total(&[65_534.0, 65_535.0, 1.0]), 3.0);
    assert_eq!(kinds(&[65_535.0, 0.0])[1], Kind::Wrap);
    assert_eq!(total(&[4_294_967_295.0, 2.0]), 3.0);
}

#[test]
fn a_cloudburst_is_rain_and_more_is_not() {
    // 31.2 mm within a minute are 112 tips.
    let minute = Limits::Rain.rise_max(60.0) * 0.2794;
    assert!((31.2..50.0).contains(&minute), "{minute} mm within a minute");
    // The record of an hour is 305 mm (Holt, 1947), that of a day 1,825 mm (Foc-Foc, 1966).
    for (hours, record, bound) in [(1.0, 305.0, 650.0), (24.0, 1_825.0, 3_000.0)] {
        let most = Limits::Rain.rise_max(hours * 3_600.0) * 0.2794;
        assert!((record..bound).contains(&most), "{most} mm within {hours} h");
    }
}

/// What happens to a counter between two readings.
#[derive(Clone, Debug)]
enum Happening {
    Rain(u32),
    Reset,
    Glitch(f64),
}

fn happenings() -> impl Strategy<Value = Vec<Happening>> {
    let rain = (0u32..4).prop_map(Happening::Rain);
    let glitch =
        prop_oneof![Just(0.0), Just(65_535.0), Just(4_294_967_295.0), 100_000.0..1e12].prop_map(Happening::Glitch);
    prop::collection::vec(prop_oneof![20 => rain, 1 => Just(Happening::Reset), 1 => glitch], 1..400)
}

/// Plays what happens, a reading every 5 s, four calm ones after whatever is no rain; returns the readings and the tips.
fn play(start: f64, width: f64, happenings: &[Happening]) -> (Vec<f64>, f64) {
    let (mut count, mut tips, mut values) = (start, 0.0, vec![start]);
    for happening in happenings {
        match happening {
            Happening::Rain(rain) => {
                tips += f64::from(*rain);
                count = (count + f64::from(*rain)) % width;
                values.push(count);
            }
            Happening::Reset => {
                count = 0.0;
                values.extend([count; 4]);
            }
            Happening::Glitch(value) => {
                values.push(*value);
                values.extend([count; 4]);
            }
        }
    }
    (values, tips)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        rng_seed: RngSeed::Fixed(std::env::var("STATIONHUB_SEED").map_or(7, |seed| seed.parse().unwrap())),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Whatever resets, wraps and glitches come between, the sum is right; and no rain is no rain.
    #[test]
    fn the_sum_is_right_within_a_tip(
        start in prop_oneof![Just(0.0), Just(65_500.0), Just(4_294_967_200.0), (0u32..60_000).prop_map(f64::from)],
        events in happenings(),
    ) {
        let width = if start > 65_535.0 { 4_294_967_296.0 } else { 65_536.0 };
        let (values, tips) = play(start, width, &events);
        let counted = total(&values);
        // A reset of a counter that has hardly begun looks like a glitch, one near its end like a wrap.
        prop_assert!((counted - tips).abs() <= 1.0 || looks_the_same(&values), "{counted} of {tips}: {values:?}");
        prop_assert!(counted <= tips + 1.0 || looks_the_same(&values), "phantom rain: {counted} of {tips}");
    }

    #[test]
    fn no_rain_is_no_rain(start in 0u32..70_000, events in happenings()) {
        let dry: Vec<Happening> = events.into_iter().filter(|event| !matches!(event, Happening::Rain(_))).collect();
        let (values, _) = play(f64::from(start), 4_294_967_296.0, &dry);
        prop_assert!(total(&values) == 0.0 || looks_the_same(&values), "{:?}", values);
    }
}

/// Tells whether somewhere a counter fell to 0 from so little that it may have risen there again, or from near its end.
fn looks_the_same(values: &[f64]) -> bool {
    let few = Limits::Rain.rise_max(25.0);
    let fell = |pair: &[f64]| pair[1] == 0.0 && pair[0] > 0.0;
    let near_an_end = |value: f64| WRAPS.iter().any(|end| (0.0..=few).contains(&(end - value)));
    values.windows(2).any(|pair| fell(pair) && (pair[0] <= few || near_an_end(pair[0])))
}
