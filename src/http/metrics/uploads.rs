//! The metrics of the uploads, one of each for every network.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::seconds_of;
use crate::upload::report::UploadReport;

/// A metric of each network.
type ByUpload<M> = Family<Vec<(String, String)>, M>;

pub(super) fn uploads(registry: &mut Registry, reports: &[UploadReport]) {
    let [sent, failures, missed] = [(); 3].map(|()| ByUpload::<Counter>::default());
    let (waiting, last) = (ByUpload::<Gauge>::default(), ByUpload::<Gauge<f64, AtomicU64>>::default());
    for report in reports {
        let label = vec![("upload".to_owned(), report.name.clone())];
        sent.get_or_create(&label).inc_by(report.sent);
        failures.get_or_create(&label).inc_by(report.failures);
        missed.get_or_create(&label).inc_by(report.missed);
        waiting.get_or_create(&label).set(i64::try_from(report.waiting).unwrap_or(i64::MAX));
        if let Some(ms) = report.last_sent_ms.and_then(|ms| u64::try_from(ms).ok()) {
            last.get_or_create(&label).set(seconds_of(ms * 1_000));
        }
    }
    registry.register("sent", "Observations that a weather network took", sent);
    registry.register("failures", "Attempts to send an observation that failed", failures);
    registry.register("missed", "Slots never sent: too old, or refused again and again", missed);
    registry.register("slots_waiting", "Slots that wait for a weather network", waiting);
    let help = "When a weather network last took an observation, Unix time; missing before the first";
    registry.register_with_unit("last_success_timestamp", help, Unit::Seconds, last);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use prometheus_client::encoding::text;

    use super::*;
    use crate::health::upload::tests::report;

    #[test]
    fn each_network_has_metrics() {
        let mut registry = Registry::with_prefix("stationhub");
        uploads(registry.sub_registry_with_prefix("upload"), &[report()]);
        let mut encoded = String::new();
        text::encode(&mut encoded, &registry).unwrap();
        for line in [
            "stationhub_upload_sent_total{upload=\"windy\"} 3",
            "stationhub_upload_failures_total{upload=\"windy\"} 2",
            "stationhub_upload_missed_total{upload=\"windy\"} 0",
            "stationhub_upload_slots_waiting{upload=\"windy\"} 1",
            "stationhub_upload_last_success_timestamp_seconds{upload=\"windy\"} 1002.5",
        ] {
            assert!(encoded.lines().any(|other| other == line), "{line} is not in\n{encoded}");
        }
    }
}
