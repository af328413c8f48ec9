//! What becomes of a message by its topic, its payload and where it has been.

#![allow(clippy::unwrap_used)]
use super::*;
use crate::config::Pattern;

fn ingest() -> Ingest {
    let routes = vec![Route { kind: Kind::Magnetic, pattern: Pattern::Level("flux".to_owned()) }];
    let limits = Limits { payload_bytes_max: 1000, clock_skew_ms_max: 1000 };
    let filters = vec!["flux".to_owned(), "up/#".to_owned(), "stations/#".to_owned()];
    Ingest::new(routes, limits, Some(Forwarding::new(filters, 30, "a", "stations/a/{topic}")))
}

fn arrival(payload: &[u8]) -> Arrival<'_> {
    let properties = Some(Properties::default());
    let client = "c".into();
    Arrival {
        payload,
        client,
        qos: 1,
        retain: true,
        properties,
        forwards: true,
        delivery: None,
        received: Moment { ms: 1, at: std::time::Instant::now() },
        ticket: None,
    }
}

fn job(ingest: &Ingest, topic: &str, arrival: Arrival<'_>) -> Option<Incoming> {
    let job = ingest.job(&ingest.route(topic).unwrap(), arrival)?;
    match job.content {
        Content::Message(incoming) => Some(incoming),
        _ => None,
    }
}

const FLUX: &[u8] = br#"{"x":1,"y":2,"z":3}"#;

#[test]
fn a_message_is_stored_forwarded_both_or_neither_by_its_topic() {
    let ingest = ingest();
    let both = job(&ingest, "flux/", arrival(FLUX)).unwrap();
    let forward = both.forward.unwrap();
    assert!(matches!(both.entry, Entry::Reading(_)));
    assert_eq!((&*forward.topic, &*both.origin.source, forward.retain), ("flux/", "flux", true));
    assert_eq!(forward.properties.as_deref(), Some(&Properties::default()));
    let rejected = job(&ingest, "flux", arrival(b"?")).unwrap();
    assert!(matches!(rejected.entry, Entry::Rejected { reason: "not JSON", .. }), "{:?}", rejected.entry);
    assert!(rejected.forward.is_some(), "what is no reading here may be one upstream");
    let passing = job(&ingest, "up/x", arrival(b"?")).unwrap();
    assert!(matches!(passing.entry, Entry::Passing) && passing.forward.is_some());
    let stored = job(&ingest, "a/flux", arrival(FLUX)).unwrap();
    assert!(matches!(stored.entry, Entry::Reading(_)) && stored.forward.is_none());
    assert!(ingest.route("other").is_none());
}

#[test]
fn what_came_round_is_not_forwarded_again_and_a_reading_is_stored_all_the_same() {
    let ingest = ingest();
    assert!(job(&ingest, "stations/b/stations/a/x", arrival(b"1")).is_none());
    let mut marked = arrival(FLUX);
    marked.properties.as_mut().unwrap().user.push((forward::ID_PROPERTY.to_owned(), "a:7".to_owned()));
    let reading = job(&ingest, "flux", marked).unwrap();
    assert!(matches!(reading.entry, Entry::Reading(_)) && reading.forward.is_none());
    assert_eq!(ingest.came_round(), 2);
    assert!(job(&ingest, "stations/b/x", arrival(b"1")).unwrap().forward.is_some());
    assert!(job(&ingest, "up/x", Arrival { forwards: false, ..arrival(b"1") }).is_none());
    assert!(job(&ingest, "flux", Arrival { forwards: false, ..arrival(FLUX) }).unwrap().forward.is_none());
    assert_eq!(ingest.came_round(), 2);
}

#[test]
fn what_is_too_large_to_forward_is_quarantined_unless_it_is_a_reading() {
    let ingest = ingest();
    let large = [b' '; 31];
    let passing = job(&ingest, "up/x", arrival(&large)).unwrap();
    assert!(matches!(passing.entry, Entry::Rejected { reason: "too large to forward", .. }));
    assert!(passing.forward.is_none());
    let reading = job(&ingest, "flux", arrival(br#"{"x":1,"y":2,"z":3            }"#)).unwrap();
    assert!(matches!(reading.entry, Entry::Reading(_)) && reading.forward.is_none());
    assert_eq!(ingest.too_large_to_forward(), 2);
}
