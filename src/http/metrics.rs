//! The hub's figures as metrics, in Prometheus' text, or in OpenMetrics' where that is asked for.
//!
//! Owns their names, units and help texts: programs elsewhere rely on them, so a name stays. It never counts anything
//! itself: all comes out of a health report and the list of alerts.

mod uploads;

use std::fmt;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet, prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::alert::Listing;
use crate::health::Report;
use crate::health::bridge::BridgeReport;
use crate::health::checks::{CHECKS, Status};
use crate::health::statistics::Figures;
use crate::histogram::{BOUNDS_US, Counted};

/// The texts that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, which every tool of it reads.
    Prometheus,
    /// OpenMetrics', which Prometheus asks for.
    OpenMetrics,
}

impl Format {
    /// Chooses by what an `Accept` header says.
    pub(super) fn wanted(accept: &str) -> Format {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// Returns its media type.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Begins the id of every check of the bridge.
const OF_THE_BRIDGE: &str = "bridge.";
/// The id of the check of the uploads.
const OF_THE_UPLOADS: &str = "upload";

/// A count or a number of things: its name, its help text, its value.
type Row = (&'static str, &'static str, u64);

/// Metrics of each channel of the alerts.
type ByChannel<M> = Family<Vec<(String, String)>, M>;

/// Returns the metrics of a report, and of what is told of it.
///
/// # Errors
/// Those of formatting, of which there are none where the text has room.
pub(super) fn encode(report: &Report, alerts: &Listing, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("stationhub");
    hub(&mut registry, report);
    verdicts(&mut registry, report);
    counts(&mut registry, &figures_counted(&report.figures));
    numbers(&mut registry, &figures_now(&report.figures));
    amounts(&mut registry, report);
    machine(&mut registry, report);
    sources(&mut registry, report);
    if let Some(bridge) = &report.bridge {
        upstream(registry.sub_registry_with_prefix("bridge"), bridge);
    }
    if !report.uploads.is_empty() {
        uploads::uploads(registry.sub_registry_with_prefix("upload"), &report.uploads);
    }
    if !alerts.channels.is_empty() {
        told(registry.sub_registry_with_prefix("alerts"), alerts);
    }
    let mut encoded = String::new();
    match format {
        Format::Prometheus => prometheus_text::encode(&mut encoded, &registry)?,
        Format::OpenMetrics => text::encode(&mut encoded, &registry)?,
    }
    Ok(encoded)
}

fn hub(registry: &mut Registry, report: &Report) {
    let version = vec![("version".to_owned(), report.version.to_owned())];
    registry.register("build", "What runs here", Info::new(version));
    seconds(registry, "uptime", "How long the hub has run", micros_of(report.uptime_s));
    if let Some(us) = report.broker_round_trip_us {
        seconds(registry, "broker_round_trip", "How long a message took through the broker's router just now", us);
    }
}

fn verdicts(registry: &mut Registry, report: &Report) {
    let is = |wanted: bool| u64::from(wanted);
    numbers(
        registry,
        &[
            ("healthy", "1 where no check finds anything wrong, else 0", is(report.status == Status::Ok)),
            ("failing", "1 where the hub does not do what it is for, else 0", is(report.status == Status::Failing)),
        ],
    );
    let failing = Family::<Vec<(String, String)>, Gauge>::default();
    let is_asked = |check: &str| match check {
        OF_THE_UPLOADS => !report.uploads.is_empty(),
        _ => report.bridge.is_some() || !check.starts_with(OF_THE_BRIDGE),
    };
    let asked = CHECKS.into_iter().filter(|check| is_asked(check));
    for check in asked {
        let found = report.issues.iter().any(|issue| issue.id == check);
        failing.get_or_create(&vec![("check".to_owned(), check.to_owned())]).set(i64::from(found));
    }
    registry.register("check_failing", "1 where this check finds something wrong, else 0", failing);
}

fn figures_counted(figures: &Figures) -> [Row; 20] {
    [
        ("readings", "Readings stored", figures.readings),
        ("readings_lost", "Readings at QoS 0 that found no room in the queue", figures.lost),
        ("readings_without_time", "Readings without a time of their own", figures.time_missing),
        ("readings_time_skewed", "Readings with a time far from the hub's", figures.time_skewed),
        ("quarantined", "Messages put into quarantine", figures.quarantined),
        ("redeliveries", "Redeliveries that made no second row", figures.duplicates),
        ("repeats", "Samples sent again as new messages, which made no second row", figures.repeats),
        ("commits", "Transactions committed", figures.commits),
        ("write_failures", "Transactions that failed", figures.write_failures),
        ("connections", "Sockets accepted", figures.connections),
        ("connections_refused", "Sockets that never became a client", figures.connections_refused),
        ("protocol_violations", "Connections ended for breaking the protocol", figures.violations),
        ("logins_refused", "Logins refused", figures.logins_refused),
        ("denied", "Publishes, subscriptions and wills that the access rules denied", figures.denied),
        ("messages_received", "Publishes received from clients", figures.received),
        ("messages_delivered", "Messages delivered to subscribers", figures.delivered),
        ("messages_dropped", "Messages dropped for subscribers that could not keep up", figures.dropped),
        ("came_round", "Messages that went upstream, came round, and did not go again", figures.came_round),
        ("too_large_to_forward", "Messages that were too large to go upstream", figures.too_large_to_forward),
        ("router_lost", "Messages that the router dropped, which should be none", figures.router_lost),
    ]
}

fn figures_now(figures: &Figures) -> [Row; 3] {
    [
        ("clients", "Clients connected", figures.clients),
        ("sessions", "Sessions kept, of clients that are connected and of those that are away", figures.sessions),
        ("queue_messages", "Messages that wait for the database", figures.queue_jobs),
    ]
}

/// Registers what has a unit.
fn amounts(registry: &mut Registry, report: &Report) {
    let figures = &report.figures;
    times(registry, "commit", "How long transactions took that committed", report.times.commit);
    let help = "How long a reading at QoS 1 or 2 waited for its ack, from its arrival at the hub on";
    times(registry, "ack_latency", help, report.times.ack);
    let last = u64::try_from(figures.last_commit_ms).unwrap_or(0).saturating_mul(1_000);
    seconds(
        registry,
        "last_commit_timestamp",
        "When the last transaction committed, Unix time; 0 before the first",
        last,
    );
    bytes(registry, "queue", "What waits for the database", figures.queue_bytes);
    bytes(registry, "queue_peak", "The most that ever waited for the database", figures.queue_bytes_peak);
    bytes(registry, "clients_queued", "What waits for clients", figures.queued_bytes);
}

/// Registers what the machine says; what it does not say is left out.
fn machine(registry: &mut Registry, report: &Report) {
    bytes(registry, "database", "Size of the database", report.database_bytes);
    bytes(registry, "wal", "Size of the database's write-ahead log", report.wal_bytes);
    bytes(registry, "disk_reserve", "Room kept back for when the disk is full", report.room.reserve_bytes);
    let help = "0 while the disk has room, 1 where the database does not grow any more, 2 where readings wait";
    numbers(registry, &[("disk_stage", help, report.room.stage as u64)]);
    let help = "Rows dropped for want of room on the disk";
    counts(registry, &[("disk_dropped_rows", help, report.room.dropped)]);
    if let Some(written) = report.written.since_start_bytes {
        let written = ConstCounter::new(written);
        registry.register_with_unit(
            "disk_written",
            "What the hub wrote to disks, its log among it",
            Unit::Bytes,
            written,
        );
    }
    if let Some(per_day) = report.written.per_day_bytes {
        bytes(registry, "disk_written_per_day", "What the hub writes to disks in a day", per_day);
    }
    seconds(
        registry,
        "heartbeat_age",
        "How long ago the hub's own row was committed",
        micros_of(report.heartbeat_age_s),
    );
    if let Some(free) = report.disk_free_bytes {
        bytes(registry, "disk_free", "Free space where the database is", free);
    }
    if let Some(left) = report.disk_full_in_s {
        let help = "When the disk will be full at the rate of the last day; missing where nothing grows";
        seconds(registry, "disk_full_in", help, micros_of(left));
    }
    if let Some(resident) = report.memory.resident_bytes {
        bytes(registry, "memory_resident", "Memory that the hub occupies", resident);
    }
    if let Some(synchronised) = report.clock_synchronised {
        numbers(registry, &[("clock_synchronised", "1 where the clock is synchronised, else 0", synchronised.into())]);
    }
}

/// Registers the sources. Their names are the sensors' to choose: a report lists a bounded number of them.
fn sources(registry: &mut Registry, report: &Report) {
    let known = u64::try_from(report.sources_known).unwrap_or(u64::MAX);
    numbers(registry, &[("sources", "Sources of readings that are known", known)]);
    let arrivals = Family::<Vec<(String, String)>, Gauge<f64, AtomicU64>>::default();
    for source in &report.sources {
        if let Some(ms) = source.last_ms.and_then(|ms| u64::try_from(ms).ok()) {
            arrivals.get_or_create(&vec![("source".to_owned(), source.source.clone())]).set(seconds_of(ms * 1_000));
        }
    }
    let help = "When the source's last reading came, Unix time; the sources heard last, at most 200";
    registry.register_with_unit("source_last_arrival_timestamp", help, Unit::Seconds, arrivals);
}

/// Times in buckets, as they are at one moment.
#[derive(Debug)]
struct Times(Counted);

impl EncodeMetric for Times {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS_US.iter().map(|us| seconds_of(*us)).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        let count = self.0.counts.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(seconds_of(self.0.sum_us), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn times(registry: &mut Registry, name: &str, help: &str, counted: Counted) {
    registry.register_with_unit(name, help, Unit::Seconds, Times(counted));
}

fn upstream(registry: &mut Registry, bridge: &BridgeReport) {
    let BridgeReport { standing, backlog, .. } = bridge;
    let counted: [Row; 10] = [
        ("sent", "Messages that the upstream acknowledged", standing.sent),
        ("repeated", "Messages sent upstream again", standing.repeated),
        ("unheard", "Messages that the upstream dropped: nobody subscribes to their topics there", standing.unheard),
        ("refused", "Messages that the upstream does not take, put into quarantine", standing.refused),
        ("received", "Messages from the upstream that were published here", standing.received),
        ("denied", "Messages from the upstream that the access rules denied", standing.denied),
        ("echoes", "The hub's own messages that the upstream sent back", standing.echoes),
        ("connects", "Connections that the upstream accepted", standing.connects),
        ("added", "Messages that came to wait for the upstream", backlog.added),
        ("dropped", "Messages lost for the limits of what waits", backlog.dropped),
    ];
    counts(registry, &counted);
    let now: [Row; 3] = [
        ("connected", "1 where the upstream is connected, else 0", u64::from(standing.connected)),
        ("backlog_messages", "Messages that wait for the upstream", backlog.messages),
        ("in_flight", "Messages sent upstream and not acknowledged yet", standing.in_flight),
    ];
    numbers(registry, &now);
    bytes(registry, "backlog", "What waits for the upstream", backlog.bytes);
    bytes(registry, "backlog_limit", "What may wait for the upstream", backlog.bytes_max);
    if let Some(age_s) = bridge.oldest_age_s.or((backlog.messages == 0).then_some(0)) {
        let help = "How long the oldest message has waited for the upstream; 0 where none waits";
        seconds(registry, "backlog_oldest_age", help, micros_of(age_s));
    }
}

fn told(registry: &mut Registry, alerts: &Listing) {
    numbers(registry, &[("firing", "Alerts that are firing", alerts.firing.len() as u64)]);
    let help = "Readings that came faster than the rules of the alerts look at them";
    counts(registry, &[("readings_passed_by", help, alerts.readings_passed_by)]);
    let (sent, dropped) = (ByChannel::<Counter>::default(), ByChannel::<Counter>::default());
    let (waiting, failing) = (ByChannel::<Gauge>::default(), ByChannel::<Gauge>::default());
    for channel in &alerts.channels {
        let label = vec![("channel".to_owned(), channel.name.clone())];
        sent.get_or_create(&label).inc_by(channel.sent);
        dropped.get_or_create(&label).inc_by(channel.dropped);
        waiting.get_or_create(&label).set(i64::try_from(channel.waiting).unwrap_or(i64::MAX));
        failing.get_or_create(&label).set(i64::from(channel.error.is_some()));
    }
    registry.register("messages_sent", "Messages that a channel delivered", sent);
    registry.register("notices_dropped", "Notices that found no room before a channel", dropped);
    registry.register("notices_waiting", "Notices that wait for a channel", waiting);
    registry.register("channel_failing", "1 where a channel's last attempt failed, else 0", failing);
}

fn counts(registry: &mut Registry, rows: &[Row]) {
    for (name, help, value) in rows {
        registry.register(*name, *help, ConstCounter::new(*value));
    }
}

fn numbers(registry: &mut Registry, rows: &[Row]) {
    for (name, help, value) in rows {
        registry.register(*name, *help, gauge(*value));
    }
}

fn bytes(registry: &mut Registry, name: &str, help: &str, value: u64) {
    registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
}

fn seconds(registry: &mut Registry, name: &str, help: &str, us: u64) {
    registry.register_with_unit(name, help, Unit::Seconds, ConstGauge::new(seconds_of(us)));
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn micros_of(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000_000)
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 285 years")]
fn seconds_of(us: u64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::PathBuf;
    use std::time::Duration;

    use super::*;
    use crate::alert::Standing;
    use crate::health::bridge::tests::well;
    use crate::health::checks::{Issue, Severity};
    use crate::health::memory::Memory;
    use crate::health::silence::SourceReport;
    use crate::histogram::Histogram;
    use crate::store::WearReport;

    fn report(bridge: Option<BridgeReport>) -> Report {
        let text = String::new();
        Report {
            status: Status::Degraded,
            issues: vec![Issue { id: "store.read", severity: Severity::Degraded, text }],
            version: "1.2.3",
            pid: 1,
            uptime_s: 61,
            database: PathBuf::new(),
            broker_round_trip_us: Some(250),
            disk_free_bytes: None,
            disk_full_in_s: None,
            room: Default::default(),
            written: WearReport { since_start_bytes: Some(77), ..WearReport::default() },
            database_bytes: 4_096,
            wal_bytes: 0,
            heartbeat_age_s: 3,
            clock_synchronised: Some(false),
            memory: Memory::default(),
            sources_known: 2,
            sources: vec![source("a/b\"c", Some(1_500)), source("silent-one", None)],
            figures: Figures { readings: 7, queue_bytes: 8, ..Figures::default() },
            bridge,
            backup: None,
            uploads: Vec::new(),
            times: crate::health::Times { ack: counted(), commit: Counted::default() },
        }
    }

    fn alerts() -> Listing {
        Listing { firing: Vec::new(), ended: Vec::new(), channels: Vec::new(), readings_passed_by: 0 }
    }

    fn source(name: &str, last_ms: Option<i64>) -> SourceReport {
        SourceReport { source: name.to_owned(), last_ms, silent_s: 1, usual_s: None, silence_s_max: None }
    }

    fn counted() -> Counted {
        let histogram = Histogram::default();
        [400, 900, 40_000_000].into_iter().for_each(|us| histogram.count(Duration::from_micros(us)));
        histogram.counted()
    }

    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }

    #[test]
    fn figures_and_verdicts_have_names_with_base_units() {
        let text = encode(&report(None), &alerts(), Format::OpenMetrics).unwrap();
        for line in [
            "stationhub_build_info{version=\"1.2.3\"} 1",
            "stationhub_uptime_seconds 61.0",
            "stationhub_broker_round_trip_seconds 0.00025",
            "# TYPE stationhub_readings counter",
            "# HELP stationhub_readings Readings stored.",
            "stationhub_readings_total 7",
            "# UNIT stationhub_ack_latency_seconds seconds",
            "# TYPE stationhub_ack_latency_seconds histogram",
            "stationhub_ack_latency_seconds_bucket{le=\"0.0005\"} 1",
            "stationhub_ack_latency_seconds_bucket{le=\"0.001\"} 2",
            "stationhub_ack_latency_seconds_bucket{le=\"30.0\"} 2",
            "stationhub_ack_latency_seconds_bucket{le=\"+Inf\"} 3",
            "stationhub_ack_latency_seconds_count 3",
            "stationhub_ack_latency_seconds_sum 40.0013",
            "stationhub_commit_seconds_count 0",
            "stationhub_database_bytes 4096",
            "stationhub_disk_written_bytes_total 77",
            "stationhub_disk_stage 0",
            "stationhub_heartbeat_age_seconds 3.0",
            "stationhub_clock_synchronised 0",
            "stationhub_sources 2",
            "stationhub_source_last_arrival_timestamp_seconds{source=\"a/b\\\"c\"} 1.5",
            "stationhub_queue_bytes 8",
            "stationhub_healthy 0",
            "stationhub_failing 0",
            "stationhub_check_failing{check=\"store.read\"} 1",
            "stationhub_check_failing{check=\"store.write\"} 0",
        ] {
            has(&text, line);
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        assert!(
            !text.contains("bridge")
                && !text.contains("disk_f")
                && !text.contains("per_day")
                && !text.contains("silent-one"),
            "what is not there is left out: {text}"
        );
    }

    #[test]
    fn prometheus_own_text_has_the_same_figures() {
        assert_eq!(Format::wanted("*/*"), Format::Prometheus);
        assert_eq!(Format::wanted("application/openmetrics-text;version=1.0.0,text/plain;q=0.5"), Format::OpenMetrics);
        let text = encode(&report(None), &alerts(), Format::Prometheus).unwrap();
        for line in [
            "# TYPE stationhub_readings_total counter",
            "stationhub_readings_total 7",
            "stationhub_ack_latency_seconds_bucket{le=\"+Inf\"} 3",
        ] {
            has(&text, line);
        }
        assert!(!text.contains("EOF"), "{text}");
    }

    #[test]
    fn each_channel_of_the_alerts_has_metrics() {
        let channel = Standing {
            name: "mail".to_owned(),
            kind: "mail",
            waiting: 2,
            sent: 3,
            dropped: 4,
            error: Some("no".to_owned()),
        };
        let listing = Listing { channels: vec![channel], readings_passed_by: 5, ..alerts() };
        let text = encode(&report(None), &listing, Format::OpenMetrics).unwrap();
        for line in [
            "stationhub_alerts_firing 0",
            "stationhub_alerts_readings_passed_by_total 5",
            "stationhub_alerts_messages_sent_total{channel=\"mail\"} 3",
            "stationhub_alerts_notices_dropped_total{channel=\"mail\"} 4",
            "stationhub_alerts_notices_waiting{channel=\"mail\"} 2",
            "stationhub_alerts_channel_failing{channel=\"mail\"} 1",
        ] {
            has(&text, line);
        }
    }

    #[test]
    fn the_bridge_has_metrics_where_there_is_one() {
        let text_of = |bridge| encode(&report(Some(bridge)), &alerts(), Format::OpenMetrics).unwrap();
        let text = text_of(well());
        for line in [
            "stationhub_bridge_connected 1",
            "stationhub_bridge_backlog_messages 4",
            "stationhub_bridge_backlog_bytes 400",
            "stationhub_bridge_backlog_oldest_age_seconds 1.0",
            "stationhub_bridge_sent_total 5",
            "stationhub_bridge_repeated_total 1",
            "stationhub_bridge_received_total 2",
            "stationhub_bridge_in_flight 3",
            "stationhub_bridge_dropped_total 0",
            "stationhub_check_failing{check=\"bridge.lag\"} 0",
        ] {
            has(&text, line);
        }
        assert!(
            !text_of(BridgeReport { oldest_age_s: None, ..well() }).contains("oldest_age"),
            "where it is not known"
        );
        let mut idle = BridgeReport { oldest_age_s: None, ..well() };
        idle.backlog.messages = 0;
        has(&text_of(idle), "stationhub_bridge_backlog_oldest_age_seconds 0.0");
    }
}
