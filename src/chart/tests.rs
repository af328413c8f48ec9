//! What a chart must hold: nothing drawn over missing data, every spike, local time, words for all of it, and hostile input.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use jiff::tz::TimeZone;

const NOON_S: i64 = 1_741_003_200; // 2025-03-03 12:00 UTC

fn reading(time_s: i64, value: f64) -> Point {
    Point { time_s, mean: value, min: value, max: value }
}

fn line(points: Vec<Point>) -> Line {
    Line { label: "outside".into(), style: Style::Line, points, break_after_s: 300 }
}

fn chart(zone: &TimeZone, long_s: i64, lines: Vec<Line>) -> Chart<'_> {
    let size = Size { width: 1280, height: 320 };
    Chart { title: "Temperature", unit: "°C", from_s: NOON_S, to_s: NOON_S + long_s, zone, lines, gaps: vec![], size }
}

/// The paths of a class: of each, its beginnings.
fn beginnings(svg: &str, class: &str) -> usize {
    let of_class = svg.lines().filter(|line| line.starts_with(&format!("<path class=\"{class}\"")));
    of_class.map(|line| line.matches('M').count()).sum()
}

fn labels(svg: &str) -> Vec<&str> {
    let texts = svg
        .lines()
        .filter(|line| line.starts_with("<text class=\"chart-text\" fill=\"#24292f\" text-anchor=\"middle\""));
    texts.filter_map(|line| line.split(['>', '<']).nth(2)).collect()
}

/// Fails where tags do not match, or a bare `&` or `<` stands in a text: all that an SVG of this house could get wrong.
fn assert_well_formed(svg: &str) {
    let mut open = Vec::new();
    for part in svg.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag ends");
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split_whitespace().next().unwrap().trim_end_matches('/');
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
        for after in text.split('&').skip(1) {
            assert!(["lt;", "gt;", "amp;", "quot;", "#39;"].iter().any(|entity| after.starts_with(entity)), "{text}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

#[test]
fn a_line_breaks_where_points_are_far_apart_and_where_a_gap_lies() {
    let points = |skip: std::ops::Range<i64>| {
        (0..60).filter(|n| !skip.contains(n)).map(|n| reading(NOON_S + n * 60, n as f64)).collect::<Vec<_>>()
    };
    let zone = TimeZone::UTC;
    assert_eq!(beginnings(&svg(&chart(&zone, 3600, vec![line(points(0..0))])).unwrap(), "chart-line-1"), 1);
    assert_eq!(beginnings(&svg(&chart(&zone, 3600, vec![line(points(20..30))])).unwrap(), "chart-line-1"), 2);
    // Four minutes are below the bound, and a known gap all the same.
    let mut known = chart(&zone, 3600, vec![line(points(20..23))]);
    assert_eq!(beginnings(&svg(&known).unwrap(), "chart-line-1"), 1);
    known.gaps = vec![Gap { from_s: NOON_S + 1200, to_s: NOON_S + 1380, cause: "sensor silent".into() }];
    let drawn = svg(&known).unwrap();
    assert_eq!(beginnings(&drawn, "chart-line-1"), 2);
    assert!(drawn.contains("<title>no readings 12:20–12:23: sensor silent</title>"), "{drawn}");
}

#[test]
fn a_spike_of_one_sample_reaches_as_high_as_it_was() {
    let mut points: Vec<Point> = (0..600).map(|n| reading(NOON_S + n * 6, 10.0)).collect();
    points[300].max = 40.0;
    let zone = TimeZone::UTC;
    let drawn = svg(&chart(&zone, 3600, vec![line(points)])).unwrap();
    let band = drawn.lines().find(|line| line.contains("chart-band-1")).expect("a band");
    assert!(band.contains("stroke="), "its edge is seen where it is narrower than a pixel");
    let rise =
        band.split(['l', 'v', 'h', 'M', 'z', ' ']).filter_map(|part| part.rsplit_once('-')?.1.parse::<f64>().ok());
    assert!(rise.fold(0.0, f64::max) > 200.0, "{band}");
    assert!(drawn.contains("highest 40.0 °C at 12:30"), "{drawn}");
}

#[test]
fn a_reading_without_neighbours_is_a_dot() {
    let zone = TimeZone::UTC;
    let drawn = svg(&chart(&zone, 3600, vec![line(vec![reading(NOON_S + 60, 1.0)])])).unwrap();
    assert_eq!(beginnings(&drawn, "chart-dot-1"), 1);
}

#[test]
fn hostile_text_stays_text() {
    let zone = TimeZone::UTC;
    let hostile = "</title><script>alert(\"1\")</script>&\u{0}\u{1b}\u{ffff}'";
    let mut one = chart(&zone, 3600, vec![line(vec![reading(NOON_S, 1.0)]), line(vec![])]);
    (one.title, one.unit, one.lines[0].label, one.lines[1].label) =
        (hostile, hostile, hostile.into(), hostile.repeat(100));
    one.gaps = vec![Gap { from_s: NOON_S, to_s: NOON_S + 900, cause: hostile.repeat(1000) }];
    let drawn = svg(&one).unwrap();
    assert_well_formed(&drawn);
    assert!(!drawn.contains("<script") && !drawn.contains('\u{0}') && !drawn.contains('\u{1b}'));
    assert!(drawn.len() < 40_000, "{}", drawn.len());
    png(&[one]).unwrap();
}

#[test]
fn no_readings_are_said_in_words() {
    let zone = TimeZone::UTC;
    let nothing = vec![reading(NOON_S, f64::NAN), reading(NOON_S + 1, f64::INFINITY), reading(NOON_S - 1, 1.0)];
    for lines in [vec![], vec![line(vec![])], vec![line(nothing)]] {
        let drawn = svg(&chart(&zone, 3600, lines)).unwrap();
        assert!(drawn.contains(">no readings in this time</text>"), "{drawn}");
        assert!(drawn.contains("There are no readings in this time."), "{drawn}");
    }
}

#[test]
fn a_day_has_as_many_hours_as_the_local_clock_goes_through() {
    let zone = TimeZone::get("Europe/Berlin").expect("the system's zones");
    for (day, hours, twice, missing) in
        [("2025-03-30", 23, 1, true), ("2025-10-26", 25, 2, false), ("2025-06-01", 24, 1, false)]
    {
        let date: jiff::civil::Date = day.parse().unwrap();
        let from_s = date.to_zoned(zone.clone()).unwrap().timestamp().as_second();
        let to_s = date.tomorrow().unwrap().to_zoned(zone.clone()).unwrap().timestamp().as_second();
        let size = Size { width: 2400, height: 200 };
        let drawn = svg(&Chart { from_s, to_s, size, ..chart(&zone, 1, vec![]) }).unwrap();
        let told = labels(&drawn);
        assert_eq!(told.len(), hours + 1, "{told:?}");
        assert_eq!(told.iter().filter(|label| **label == "02:00").count(), if missing { 0 } else { twice }, "{told:?}");
        assert!(told.contains(&"23:00") && told.contains(&"03:00") && told[0].ends_with(char::is_numeric));
        // Wider steps are at round times after the change, too.
        let narrow =
            svg(&Chart { from_s, to_s, size: Size { width: 700, height: 200 }, ..chart(&zone, 1, vec![]) }).unwrap();
        assert_eq!(labels(&narrow)[1..8], ["03:00", "06:00", "09:00", "12:00", "15:00", "18:00", "21:00"], "{day}");
    }
}

#[test]
fn ticks_are_at_borders_of_the_calendar() {
    let zone = TimeZone::UTC;
    let at = |long_s: i64| {
        let drawn = svg(&chart(&zone, long_s, vec![])).unwrap();
        labels(&drawn).join(" ")
    };
    assert!(at(1).starts_with("12:00:00"), "{}", at(1));
    assert!(at(3600).contains("12:05 12:10"), "{}", at(3600));
    assert!(at(86_400).contains("22:00 Mar 4 02:00"), "{}", at(86_400));
    assert!(at(10 * 86_400).starts_with("Mar 4 Mar 5"), "{}", at(10 * 86_400));
    assert!(at(365 * 86_400).contains("Nov Dec 2026 Feb"), "{}", at(365 * 86_400));
    assert!(at(3653 * 86_400).contains("2026"), "{}", at(3653 * 86_400));
    assert!(at(900 * 365 * 86_400).contains("2200"), "{}", at(900 * 365 * 86_400));
}

#[test]
fn six_hundred_points_are_below_forty_kilobytes() {
    let zone = TimeZone::UTC;
    let wild = |n: i64| ((n * 7919) % 613) as f64 / 7.0;
    let points: Vec<Point> = (0..600)
        .map(|n| Point { time_s: NOON_S + n * 6, mean: wild(n), min: wild(n) - 9.0, max: wild(n) + wild(n + 1) })
        .collect();
    for style in [Style::Line, Style::Bars { width_s: 6 }, Style::Dots] {
        let one = Line { style, ..line(points.clone()) };
        let drawn = svg(&chart(&zone, 3600, vec![one])).unwrap();
        assert_well_formed(&drawn);
        assert!(drawn.len() < 40_000, "{style:?}: {}", drawn.len());
    }
    let mut torn = chart(&zone, 3600, vec![]);
    torn.gaps =
        (0..3600).step_by(2).map(|n| Gap { from_s: NOON_S + n, to_s: NOON_S + n + 1, cause: "clock".into() }).collect();
    assert!(svg(&torn).unwrap().len() < 40_000);
}

#[test]
fn odd_times_sizes_and_values_do_not_panic() {
    let zone = TimeZone::UTC;
    for (from_s, to_s) in [(5, 5), (6, 5), (i64::MIN, i64::MAX), (0, i64::MAX), (i64::MIN, 0)] {
        let odd = Chart { from_s, to_s, ..chart(&zone, 1, vec![line(vec![reading(0, 1.0)])]) };
        assert!(matches!(svg(&odd), Err(ChartError::Time { .. })));
    }
    for (width, height) in [(0, 0), (10, 10), (u32::MAX, u32::MAX)] {
        let odd = Chart { size: Size { width, height }, ..chart(&zone, 1, vec![]) };
        assert!(matches!(svg(&odd), Err(ChartError::Size { .. })));
    }
    let values = [0.0, -0.0, 1e-300, -1e12, 1e12, f64::MAX, f64::MIN, f64::NAN, 1013.25, -7.0];
    for value in values {
        for style in [Style::Line, Style::Dots, Style::Bars { width_s: i64::MAX }, Style::Bars { width_s: -1 }] {
            let points = vec![
                reading(NOON_S, value),
                reading(NOON_S + 1, value),
                reading(i64::MIN, 1.0),
                reading(i64::MAX, 1.0),
            ];
            let one = Line { style, break_after_s: i64::MAX, ..line(points) };
            let size = Size { width: 160, height: 100 };
            assert_well_formed(&svg(&Chart { size, ..chart(&zone, 10, vec![one]) }).unwrap());
        }
    }
    assert!(png(&[]).is_err());
}

#[test]
fn a_constant_series_lies_within_a_range() {
    let zone = TimeZone::UTC;
    let drawn = svg(&chart(&zone, 600, vec![line((0..10).map(|n| reading(NOON_S + n * 60, 21.3)).collect())])).unwrap();
    assert!(drawn.contains(">21.0</text>") && drawn.contains(">21.6</text>"), "{drawn}");
}

#[test]
fn screen_readers_and_stylesheets_find_what_they_need() {
    let zone = TimeZone::UTC;
    let one = svg(&chart(&zone, 600, vec![line(vec![reading(NOON_S, -1.5), reading(NOON_S + 60, 2.5)])])).unwrap();
    assert!(one.contains("role=\"img\"") && one.contains("<title id=\"chart-") && one.contains("<desc id=\"chart-"));
    assert!(one.contains("lowest −1.5 °C at 12:00, highest 2.5 °C at 12:01, last 2.5 °C at 12:01"), "{one}");
    assert!(!one.contains("style=") && !one.contains("xlink") && !one.contains("url("));
    let id = |svg: &str| svg.split("id=\"").nth(1).and_then(|rest| rest.split('"').next()).map(str::to_owned);
    let other = svg(&Chart { title: "Dew point", ..chart(&zone, 600, vec![]) }).unwrap();
    assert_ne!(id(&one), id(&other));
    for colour in svg::LINES {
        assert!(STYLE.contains(colour), "the sheet's light colours are the fallback ones: {colour}");
    }
}

#[test]
fn text_is_read_well_on_white() {
    use scene::Role;
    let luminance = |hex: &str| {
        let part = |at: usize| {
            let share = f64::from(u8::from_str_radix(&hex[at..at + 2], 16).unwrap()) / 255.0;
            if share <= 0.04045 { share / 12.92 } else { ((share + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    };
    for role in [Role::Text, Role::Muted, Role::Title] {
        let contrast = 1.05 / (luminance(svg::fallback(role)) + 0.05);
        assert!(contrast >= 4.5, "{role:?}: {contrast}");
    }
}

#[test]
fn a_png_needs_no_font_of_the_system() {
    let zone = TimeZone::UTC;
    let charts = [chart(&zone, 600, vec![line(vec![reading(NOON_S, 1.0)])]), chart(&zone, 3600, vec![])];
    let bytes = png(&charts).unwrap();
    let picture = tiny_skia::Pixmap::decode_png(&bytes).unwrap();
    assert_eq!((picture.width(), picture.height()), (1280, 640));
    let dark = picture.pixels()[..1280 * 25].iter().filter(|pixel| pixel.red() < 100).count();
    assert!(dark > 200, "the title is there: {dark} dark pixels");
}
