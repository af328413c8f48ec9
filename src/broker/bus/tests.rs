#![allow(clippy::unwrap_used)]
use super::*;
use crate::broker::wire::QoS;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

#[derive(Default)]
struct Taken(Mutex<VecDeque<u64>>);

impl Sink for Taken {
    fn take(&self, messages: &mut Vec<Numbered>) {
        lock(&self.0).extend(messages.iter().map(|message| message.number));
    }
}

fn config() -> RouterConfig {
    RouterConfig {
        max_connections: 20,
        max_outgoing_packet_count: 100,
        max_segment_size: 65_536,
        max_segment_count: 4,
        ..RouterConfig::default()
    }
}

fn bounds(filters: usize) -> Bounds {
    Bounds { filters, topics: 4096 }
}

fn message(topic: &str, bytes: usize) -> Arc<Message> {
    Arc::new(Message {
        topic: topic.into(),
        payload: Bytes::from(vec![0; bytes]),
        qos: QoS::AtMostOnce,
        retain: false,
        publisher: "p".into(),
        properties: None,
        expires: None,
    })
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_order_is_kept_however_fast_it_is_published() {
    const COUNT: usize = 60_000;
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let sinks: Vec<Arc<Taken>> = (0..5).map(|_| Arc::default()).collect();
    let mut links = Vec::new();
    for sink in &sinks {
        let link = bus.link(sink.clone()).await.unwrap();
        link.subscribe(&["a/+/c"]).await.unwrap();
        links.push(link);
    }
    for chunk in 0..COUNT / 100 {
        let bytes = if chunk % 50 == 0 { 70_000 } else { chunk % 400 };
        bus.publish((0..100).map(|_| message("a/b/c", bytes)).collect()).await.unwrap();
    }
    for sink in &sinks {
        until("all messages", || lock(&sink.0).len() == COUNT).await;
        assert!(lock(&sink.0).iter().copied().eq(0..COUNT as u64));
    }
    assert_eq!(bus.lost(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_router_drops_is_counted_to_the_message() {
    const COUNT: usize = 20_000;
    let bus = Bus::start(config(), bounds(10)).await.unwrap();
    let sink: Arc<Taken> = Arc::default();
    let link = bus.link(sink.clone()).await.unwrap();
    link.subscribe(&["a"]).await.unwrap();
    bus.publish(vec![message("a", 1)]).await.unwrap();
    until("the first", || lock(&sink.0).len() == 1).await;
    // Past the gate, in one piece: more than the router's log holds.
    let together = (1..COUNT).map(|_| ("m/a".to_owned(), message("a", 1))).collect();
    bus.push(together, 0).unwrap();
    bus.publish(vec![message("a", 1)]).await.unwrap();
    until("the last", || lock(&sink.0).back() == Some(&(COUNT as u64))).await;
    let came = lock(&sink.0).len() as u64;
    assert!(bus.lost() > 0, "{came} came");
    assert_eq!(came + bus.lost(), COUNT as u64 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_come_and_go_under_load_without_a_mark_on_the_others() {
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let steady: Arc<Taken> = Arc::default();
    let link = bus.link(steady.clone()).await.unwrap();
    link.subscribe(&["#"]).await.unwrap();
    let load = {
        let bus = bus.clone();
        tokio::spawn(async move {
            for _ in 0..2_000 {
                bus.publish((0..10).map(|_| message("x/y", 100)).collect()).await.unwrap();
            }
        })
    };
    for _ in 0..100 {
        let passing = bus.link(Arc::new(Taken::default())).await.unwrap();
        passing.subscribe(&["x/#", "+/y"]).await.unwrap();
        passing.unsubscribe(&["x/#"]);
    }
    load.await.unwrap();
    until("all messages", || lock(&steady.0).len() == 20_000).await;
    assert!(!bus.is_dead());
    drop(link);
    assert!(!bus.has_subscribers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dollar_topics_and_other_alphabets_are_kept_apart_and_alive() {
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let (all, system): (Arc<Taken>, Arc<Taken>) = Default::default();
    let (link_all, link_system) = (bus.link(all.clone()).await.unwrap(), bus.link(system.clone()).await.unwrap());
    link_all.subscribe(&["#", "été/+"]).await.unwrap();
    link_system.subscribe(&["$SYS/#"]).await.unwrap();
    bus.publish(vec![message("$SYS/up", 1), message("été/x", 1), message("/", 1)]).await.unwrap();
    until("both", || lock(&all.0).len() == 3 && lock(&system.0).len() == 1).await;
    assert!(!lock(&all.0).contains(&0) && lock(&system.0).contains(&0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bounds_on_links_and_filters_are_errors_not_ends() {
    let bus = Bus::start(config(), bounds(1)).await.unwrap();
    let mut links = Vec::new();
    let error = loop {
        match bus.link(Arc::new(Taken::default())).await {
            Ok(link) => links.push(link),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, BusError::NoRoom), "{error}");
    links[0].subscribe(&["a"]).await.unwrap();
    assert!(matches!(links[1].subscribe(&["b"]).await, Err(BusError::TooManyFilters(1))));
    links[0].unsubscribe(&["a"]);
    links[1].subscribe(&["b"]).await.unwrap();
    drop(links);
    let start = Instant::now();
    while bus.link(Arc::new(Taken::default())).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "no room again");
    }
    assert!(!bus.has_subscribers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_topics_beyond_the_budget_of_names_still_find_each_other() {
    const COUNT: usize = 6_000;
    let bus = Bus::start(config(), bounds(COUNT)).await.unwrap();
    let sink: Arc<Taken> = Arc::default();
    let link = bus.link(sink.clone()).await.unwrap();
    let filters: Vec<String> = (0..COUNT).map(|number| format!("t/{number}")).collect();
    for filter in &filters {
        link.subscribe(&[filter.as_str()]).await.unwrap();
    }
    let last: Arc<Taken> = Arc::default();
    let link_of_last = bus.link(last.clone()).await.unwrap();
    link_of_last.subscribe(&[filters[COUNT - 1].as_str()]).await.unwrap_err();
    link.unsubscribe(&["t/0"]);
    link_of_last.subscribe(&[filters[COUNT - 1].as_str()]).await.unwrap();
    for filter in &filters {
        bus.publish(vec![message(filter, 1)]).await.unwrap();
    }
    let came = || lock(&sink.0).iter().copied().collect::<std::collections::HashSet<u64>>();
    until("every message but the unsubscribed", || came().len() >= COUNT - 1).await;
    until("the last topic's message", || lock(&last.0).contains(&(COUNT as u64 - 1))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_the_router_is_noticed() {
    let bus = Bus::start(config(), bounds(10)).await.unwrap();
    let link = bus.link(Arc::new(Taken::default())).await.unwrap();
    link.subscribe(&["a"]).await.unwrap();
    assert!(!bus.is_dead());
    // The router cuts a topic's first byte off: this one has two.
    bus.push(vec![("été".to_owned(), message("été", 1))], 1).unwrap();
    until("the end of the router", || bus.is_dead()).await;
    let error = bus.publish(vec![message("a", 1)]).await.unwrap_err();
    assert!(matches!(error, BusError::RouterEnded), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canary_comes_back() {
    let bus = Bus::start(config(), bounds(10)).await.unwrap();
    let canary = Canary::open(&bus).await.unwrap();
    for _ in 0..3 {
        canary.round_trip(Duration::from_secs(5)).await.unwrap();
    }
    assert!(!bus.has_subscribers());
}
