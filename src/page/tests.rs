//! What the pages promise: nothing hostile gets through, every value has its unit and marks, the policy is kept.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use jiff::tz::TimeZone;

use super::samples::{self, HOSTILE};
use super::*;
use crate::almanac::{NowValue, Period, SourceNow};
use crate::reading::Kind;
use crate::weather::quantity::Observed;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn of_periods(view: &View) -> String {
    extremes_page(view, &Period::ALL.map(samples::extremes))
}

/// Every page, with the data of the samples.
fn pages(view: &View) -> Vec<String> {
    vec![
        now_page(view, &samples::now(), &samples::charts(), &samples::health()),
        of_periods(view),
        health_page(view, &samples::report(), &samples::events(), &samples::gaps()),
        error_page(view, 404, "there is no such page"),
    ]
}

fn page_of(source: SourceNow, units: Units) -> String {
    let zone = berlin();
    let now = Now { at_s: samples::NOW_S, sources: vec![source] };
    cards_fragment(&samples::view(&zone, units), &now)
}

#[test]
fn hostile_names_are_escaped() {
    let zone = berlin();
    let view = View { station: HOSTILE, ..samples::view(&zone, Units::Metric) };
    let mut now = samples::now();
    now.sources[0].name = HOSTILE.to_owned();
    now.sources[0].values[0].note = Some(HOSTILE.to_owned());
    let typed = Active::Custom { from: HOSTILE.to_owned(), to: HOSTILE.to_owned() };
    let charts = ChartsPart {
        active: typed,
        svgs: vec![(HOSTILE.to_owned(), String::new())],
        note: Some(HOSTILE.to_owned()),
        gaps: vec![HOSTILE.to_owned()],
    };
    let health = HealthPart { status: HOSTILE.to_owned(), issues: vec![HOSTILE.to_owned()] };
    let mut report = samples::report();
    report.sources[0].source = HOSTILE.to_owned();
    report.issues[0].text = HOSTILE.to_owned();
    let (mut events, mut gaps) = (samples::events(), samples::gaps());
    (events[0].kind, events[0].text) = (HOSTILE.to_owned(), HOSTILE.to_owned());
    gaps.sources[0].source = HOSTILE.to_owned();
    for page in [
        now_page(&view, &now, &charts, &health),
        health_page(&view, &report, &events, &gaps),
        of_periods(&view),
        error_page(&view, 400, HOSTILE),
    ] {
        assert!(page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script>") && !page.contains("<img"), "{page}");
    }
}

#[test]
fn pages_keep_the_policy() {
    let zone = berlin();
    for page in pages(&samples::view(&zone, Units::Metric)) {
        for forbidden in
            [" style=", "<style", "<script>", "javascript:", " onclick", " onload", " onerror", "http-equiv"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        assert!(!page.contains("http://") && !page.contains("https://"), "nothing from outside the hub");
        assert!(page.matches("<script").count() <= 1 && page.matches("<h1").count() == 1);
    }
    assert!(!SCRIPT.contains("console.") && !SCRIPT.contains("eval(") && !STYLE.contains("url("));
    assert!(SCRIPT.lines().count() < 150);
}

#[test]
fn ids_are_unique_and_what_refers_to_them_finds_them() {
    let zone = berlin();
    for page in pages(&samples::view(&zone, Units::Imperial)) {
        let all = |attribute: &str| {
            let before = format!(" {attribute}=\"");
            page.split(&before).skip(1).map(|part| part.split('"').next().unwrap_or_default()).collect::<Vec<_>>()
        };
        let ids = all("id");
        let unique: BTreeSet<_> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{ids:?}");
        assert!(all("aria-labelledby").iter().all(|id| unique.contains(id)));
    }
}

#[test]
fn ids_do_not_change_with_who_was_heard_last() {
    let mut now = samples::now();
    let zone = berlin();
    let before = cards_fragment(&samples::view(&zone, Units::Metric), &now);
    now.sources.reverse();
    assert_eq!(cards_fragment(&samples::view(&zone, Units::Metric), &now), before);
    assert!(before.contains("id=\"v-0-temperature\"") && before.contains("id=\"v-1-flux_x\""));
}

#[test]
fn a_stale_source_is_marked_in_words_and_by_a_shape() {
    let hidden = "<span class=\"mark stale\" hidden>";
    let values = vec![samples::value(Observed::Temperature, 5.22)];
    let fresh = page_of(samples::source("a/weathermeters", Kind::Weather, 3, values.clone()), Units::Metric);
    assert!(fresh.contains(hidden) && fresh.contains(">3 s ago</time>"), "{fresh}");
    let stale = page_of(samples::source("a/weathermeters", Kind::Weather, 754, values), Units::Metric);
    assert!(!stale.contains(hidden) && stale.contains("</svg>stale</span>"), "{stale}");
    assert!(stale.contains(">12 min ago</time>") && stale.contains("class=\"card old\""), "{stale}");
}

#[test]
fn a_doubtful_value_says_why() {
    let doubtful = NowValue { is_doubtful: true, ..samples::value(Observed::Rain, 4.8) };
    let page = page_of(samples::source("a/weathermeters", Kind::Weather, 3, vec![doubtful]), Units::Metric);
    assert!(page.contains("<p class=\"mark doubtful\"><svg"), "{page}");
    assert!(page.contains("a counter went back or jumped"));
}

#[test]
fn values_are_in_the_units_asked_for_and_changes_have_a_sign() {
    let values =
        || vec![samples::value(Observed::Temperature, -5.23), samples::value(Observed::PressureTendency, 1.24)];
    let shown = |units| page_of(samples::source("a", Kind::Weather, 3, values()), units);
    let reading =
        |number: &str, unit: &str| format!("<span class=\"number\">{number}</span> <span class=\"unit\">{unit}</span>");
    for (units, temperature, tendency) in [
        (Units::Metric, ("\u{2212}5.2", "°C"), ("+1.2", "hPa")),
        (Units::Imperial, ("22.6", "°F"), ("+0.04", "inHg")),
        (Units::Si, ("267.9", "K"), ("+124", "Pa")),
    ] {
        let page = shown(units);
        assert!(page.contains(&reading(temperature.0, temperature.1)), "{page}");
        assert!(page.contains(&reading(tendency.0, tendency.1)), "{page}");
    }
}

#[test]
fn the_wind_has_an_arrow_with_words() {
    let direction = NowValue { note: Some("WNW".to_owned()), ..samples::value(Observed::WindDirection, 293.4) };
    let page = page_of(samples::source("a", Kind::Weather, 3, vec![direction]), Units::Metric);
    assert!(page.contains("aria-label=\"Wind from WNW\"") && page.contains("rotate(293 20 20)"), "{page}");
}

#[test]
fn links_keep_range_and_units() {
    let zone = berlin();
    let view = samples::view(&zone, Units::Si);
    let quick = charts_fragment(&view, &samples::charts());
    assert!(quick.contains("href=\"/?range=24h&amp;units=si\" aria-current=\"true\""), "{quick}");
    assert!(quick.contains("href=\"/?range=30m&amp;units=si\">30 min"), "{quick}");
    assert!(quick.contains("data-refresh=\"60\"") && quick.contains("value=\"2025-10-02T10:24\""), "{quick}");
    let (from, to) = ("2025-09-01T00:00".to_owned(), "2025-10-01T00:00".to_owned());
    let own = ChartsPart { active: Active::Custom { from, to }, ..samples::charts() };
    let page = now_page(&view, &samples::now(), &own, &samples::health());
    let kept = "href=\"/?from=2025%2D09%2D01T00%3A00&amp;to=2025%2D10%2D01T00%3A00&amp;units=imperial\"";
    assert!(page.contains(kept) && page.contains("data-refresh=\"600\""), "{page}");
}

#[test]
fn the_form_shows_a_time_as_a_browser_reads_it_in_whatever_form_it_was_asked_for() {
    let zone = berlin();
    for (typed, shown) in [
        ("2025-09-01", "2025-09-01T00:00"),
        ("2025-09-01T10:20", "2025-09-01T10:20"),
        ("2025-09-01T10:20:30Z", "2025-09-01T12:20"),
        ("1756722000", "2025-09-01T12:20"),
        ("soon", ""),
    ] {
        let own = Active::Custom { from: typed.to_owned(), to: "2025-10-01".to_owned() };
        let page =
            charts_fragment(&samples::view(&zone, Units::Metric), &ChartsPart { active: own, ..samples::charts() });
        assert!(page.contains(&format!("name=\"from\" value=\"{shown}\"")), "{typed}: {page}");
    }
}

#[test]
fn the_health_page_tells_what_to_do() {
    let zone = berlin();
    let page =
        health_page(&samples::view(&zone, Units::Metric), &samples::report(), &samples::events(), &samples::gaps());
    for words in [
        "The hub is failing: 2 issues",
        "see its power",
        "every 5.0 s",
        "81 messages",
        "11.2 GiB",
        "in 462 d",
        "stationhub events ack 11",
        "17\u{202f}229 of 17\u{202f}280 readings stored (99.70 %)",
        "42 missing: the hub was down",
    ] {
        assert!(page.contains(words), "{words}\n{page}");
    }
    assert!(page.find("#11").unwrap() < page.find("#14").unwrap(), "what is not acknowledged comes first");
}

#[test]
fn an_event_of_the_live_feed_is_as_the_script_reads_it() {
    let zone = berlin();
    let temperature = NowValue { today: Some((3.1, 8.04)), ..samples::value(Observed::Temperature, 5.22) };
    let rain = NowValue { is_doubtful: true, note: Some("\"<b>".to_owned()), ..samples::value(Observed::Rain, 0.0) };
    let sources = vec![
        samples::source("b/flux", Kind::Magnetic, 60, vec![samples::value(Observed::FluxX, -0.004)]),
        samples::source("a/meters", Kind::Weather, 3, vec![temperature, rain]),
    ];
    let json = live_json(&samples::view(&zone, Units::Metric), &Now { at_s: samples::NOW_S, sources }, "ok", 0);
    let golden = concat!(
        r#"{"at":"10:24:05","at_s":1759479845,"sources":["a/meters","b/flux"],"values":["#,
        r#"{"id":"v-0-temperature","text":"5.2","unit":"°C","age_s":3,"stale":false,"doubtful":false,"#,
        r#""note":null,"today":"3.1 – 8.0"},"#,
        r#"{"id":"v-0-rain","text":"0.0","unit":"mm","age_s":3,"stale":false,"doubtful":true,"#,
        r#""note":"\"<b>","today":null},"#,
        r#"{"id":"v-1-flux_x","text":"0.00","unit":"µT","age_s":60,"stale":true,"doubtful":false,"#,
        r#""note":null,"today":null}],"status":"ok","issues":0}"#
    );
    assert_eq!(json, golden);
}

#[test]
fn lengths_of_time_and_sizes_are_short() {
    let spans = [(0, "0 s"), (89, "89 s"), (90, "1 min"), (5_399, "89 min"), (5_400, "1 h"), (172_800, "2 d")];
    assert!(spans.iter().all(|(seconds, text)| words::span(*seconds) == *text));
    assert_eq!(words::ago(-2), "just now");
    let sizes = [(1_023, "1023 B"), (1_024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (5_368_709_120, "5.0 GiB")];
    assert!(sizes.iter().all(|(bytes, text)| words::size(*bytes) == *text));
    assert_eq!(words::grouped(1_234_567), "1\u{202f}234\u{202f}567");
}

#[test]
fn without_data_every_page_is_whole() {
    let zone = TimeZone::UTC;
    let view = View { now_s: i64::MAX, ..samples::view(&zone, Units::Metric) };
    let nothing = ChartsPart { active: Active::Quick(Quick::All), svgs: Vec::new(), note: None, gaps: Vec::new() };
    let well = HealthPart { status: "ok".to_owned(), issues: Vec::new() };
    let page = now_page(&view, &Now { at_s: i64::MIN, sources: Vec::new() }, &nothing, &well);
    assert!(page.contains("No readings yet") && page.contains("The hub is well"), "{page}");
    assert!(extremes_page(&view, &[]).contains("</html>"));
}
