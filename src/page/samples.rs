//! Made-up data for the tests of the pages.

use super::{Active, ChartsPart, HealthPart, View};
use crate::almanac::range::{Quick, Range};
use crate::almanac::{Extreme, Extremes, Now, NowValue, Period, SourceNow};
use crate::bridge::Standing;
use crate::gaps::{Cause, Gap};
use crate::health::Report;
use crate::health::bridge::{Backlog, BridgeReport};
use crate::health::checks::{Issue, Severity, Status};
use crate::health::memory::Memory;
use crate::health::silence::SourceReport;
use crate::health::statistics::Figures;
use crate::maintenance::schedule::BackupReport;
use crate::reading::Kind;
use crate::store::{Event, GapReport, RoomReport, SourceGaps, WearReport};
use crate::weather::quantity::Observed;
use crate::weather::units::Units;
use jiff::tz::TimeZone;

/// 2025-10-03 08:24:05 UTC.
pub(super) const NOW_S: i64 = 1_759_479_845;
/// What a sensor might call itself.
pub(super) const HOSTILE: &str = "a/\"><script>alert(1)</script>&<img src=x onerror='x'>";

pub(super) fn view(zone: &TimeZone, units: Units) -> View<'_> {
    View { station: "Back acres", units, zone, now_s: NOW_S }
}

pub(super) fn value(quantity: Observed, value: f64) -> NowValue {
    NowValue { quantity, value, is_doubtful: false, today: None, note: None }
}

pub(super) fn source(name: &str, kind: Kind, age_s: i64, values: Vec<NowValue>) -> SourceNow {
    SourceNow { name: name.to_owned(), kind, last_s: NOW_S - age_s, is_stale: age_s > 25, values }
}

pub(super) fn now() -> Now {
    let with = |quantity, number, today, note: Option<&str>| NowValue {
        today,
        note: note.map(str::to_owned),
        ..value(quantity, number)
    };
    let weather = vec![
        with(Observed::Temperature, 5.22, Some((3.1, 8.04)), None),
        with(Observed::Humidity, 61.5, Some((55.0, 93.0)), None),
        value(Observed::DewPoint, -1.62),
        value(Observed::WindChill, 1.3),
        with(Observed::Pressure, 1_004.94, Some((1_002.1, 1_005.3)), None),
        with(Observed::PressureSeaLevel, 1_021.3, Some((1_018.2, 1_021.7)), None),
        with(Observed::PressureTendency, -1.24, None, Some("falling")),
        with(Observed::WindSpeed, 6.3, Some((0.0, 9.9)), Some("moderate breeze")),
        with(Observed::WindGust, 11.2, Some((0.0, 14.9)), None),
        with(Observed::WindDirection, 293.0, None, Some("WNW")),
        NowValue { is_doubtful: true, ..with(Observed::Rain, 4.8, None, Some("0.6 mm in the last hour")) },
        value(Observed::RainRate, 1.2),
        with(Observed::Irradiance, 183.0, Some((0.0, 412.0)), None),
        value(Observed::SolarEnergy, 640.0),
    ];
    let magnetic = vec![
        with(Observed::FluxX, 18.31, Some((18.1, 18.5)), None),
        value(Observed::FluxY, -0.92),
        value(Observed::FluxZ, 44.07),
        value(Observed::FluxMagnitude, 47.73),
    ];
    let sources = vec![
        source("backacres/house/weatherstation/magneticfluxsensor", Kind::Magnetic, 754, magnetic),
        source("backacres/house/weatherstation/weathermeters", Kind::Weather, 3, weather),
    ];
    Now { at_s: NOW_S, sources }
}

pub(super) fn charts() -> ChartsPart {
    ChartsPart {
        active: Active::Quick(Quick::Day),
        svgs: vec![("Temperature".to_owned(), "<svg viewBox=\"0 0 9 9\" role=\"img\"></svg>".to_owned())],
        note: None,
        gaps: vec!["Temperature: 02:10 to 02:25, the hub was down".to_owned()],
    }
}

pub(super) fn health() -> HealthPart {
    HealthPart { status: "degraded".to_owned(), issues: vec!["the magnetometer is silent for 12 min".to_owned()] }
}

pub(super) fn extremes(period: Period) -> Extremes {
    let extreme = |quantity, lowest, highest, total| Extreme {
        quantity,
        source: "backacres/house/weatherstation/weathermeters".to_owned(),
        lowest,
        highest: (highest, NOW_S - 7_445),
        total,
    };
    Extremes {
        period,
        range: Range { from_s: NOW_S - 37_445, to_s: NOW_S + 48_955 },
        extremes: vec![
            extreme(Observed::Temperature, Some((-3.12, NOW_S - 14_645)), 18.04, None),
            extreme(Observed::Humidity, Some((55.0, NOW_S - 14_645)), 93.0, None),
            extreme(Observed::PressureSeaLevel, Some((1_001.0, NOW_S - 14_645)), 1_021.7, None),
            extreme(Observed::WindGust, Some((0.0, NOW_S - 14_645)), 14.9, None),
            extreme(Observed::Rain, None, 2.4, Some(4.8)),
            extreme(Observed::SolarEnergy, None, 312.0, Some(640.0)),
        ],
        is_partial: period == Period::All,
    }
}

pub(super) fn report() -> Report {
    let of_source = |source: &str, silent_s: i64, usual_s| SourceReport {
        source: source.to_owned(),
        last_ms: Some((NOW_S - silent_s) * 1_000),
        silent_s: silent_s.unsigned_abs(),
        usual_s,
        silence_s_max: Some(25),
    };
    let issue = |id, severity, text: &str| Issue { id, severity, text: text.to_owned() };
    let standing = Standing {
        connected: false,
        for_s: 200,
        last_error: None,
        sent: 0,
        repeated: 0,
        unheard: 0,
        refused: 0,
        received: 0,
        denied: 0,
        echoes: 0,
        connects: 0,
        in_flight: 0,
    };
    Report {
        status: Status::Failing,
        issues: vec![
            issue(
                "store.queue",
                Severity::Failing,
                "the queue to the database is 91 % full; see why it is not written",
            ),
            issue("ingest.silence", Severity::Degraded, "the magnetometer is silent for 12 min; see its power"),
        ],
        version: "0.1.0",
        pid: 1,
        uptime_s: 1_000_000,
        database: "/var/lib/stationhub/weather_data.db".into(),
        broker_round_trip_us: Some(412),
        disk_free_bytes: Some(12_000_000_000),
        disk_full_in_s: Some(40_000_000),
        room: RoomReport::default(),
        written: WearReport { today_bytes: 55_000_000, per_day_bytes: Some(190_000_000), ..WearReport::default() },
        database_bytes: 912_000_000,
        wal_bytes: 4_100_000,
        heartbeat_age_s: 4,
        clock_synchronised: Some(true),
        memory: Memory { resident_bytes: Some(19_000_000), bound_bytes: None },
        sources_known: 2,
        sources: vec![
            of_source("backacres/house/weatherstation/weathermeters", 3, Some(5.0)),
            of_source("backacres/house/weatherstation/magneticfluxsensor", 754, None),
        ],
        figures: Figures {
            readings: 1_234_567,
            queue_jobs: 12,
            queue_bytes: 4_096,
            last_commit_ms: NOW_S * 1_000,
            ..Figures::default()
        },
        bridge: Some(BridgeReport {
            upstream: "upstream.example:8883".to_owned(),
            standing,
            standing_s: 200,
            backlog: Backlog { messages: 81, bytes: 16_000, ..Backlog::default() },
            oldest_age_s: Some(210),
            sent_per_s: 0.0,
            added_per_s: 0.4,
        }),
        backup: Some(BackupReport {
            directory: "/backup".into(),
            every_s: 86_400,
            is_running: false,
            last: None,
            last_ms: Some((NOW_S - 20_000) * 1_000),
            error: None,
        }),
        uploads: Vec::new(),
        times: crate::health::Times::default(),
    }
}

pub(super) fn events() -> Vec<Event> {
    let event = |id, kind: &str, text: &str, acknowledged_ms| Event {
        id,
        at_ms: (NOW_S - 90_000 + id) * 1_000,
        kind: kind.to_owned(),
        text: text.to_owned(),
        acknowledged_ms,
    };
    vec![
        event(14, "store.disk", "the disk has room again", Some(NOW_S * 1_000)),
        event(11, "store.corrupt", "the database was damaged; it was put aside and a new one begun", None),
    ]
}

pub(super) fn gaps() -> GapReport {
    let gap = |from_s: i64, cause, missing| Gap {
        from_ms: (NOW_S - from_s) * 1_000,
        to_ms: (NOW_S - from_s + missing * 5) * 1_000,
        cause,
        missing,
        scattered: false,
    };
    let gaps = vec![gap(9_000, Cause::HubDown, 42), gap(5_000, Cause::SensorSilent, 9)];
    let source = SourceGaps {
        source: "backacres/house/weatherstation/weathermeters".to_owned(),
        interval_ms: 5_000,
        expected: 17_280,
        stored: 17_229,
        missing: 51,
        gap_count: 2,
        gaps,
        hours: Vec::new(),
    };
    GapReport { from_ms: (NOW_S - 86_400) * 1_000, to_ms: NOW_S * 1_000, is_counted: true, sources: vec![source] }
}
