#![allow(clippy::unwrap_used)]
use super::*;
use crate::broker::wire::QoS;
use crate::topic;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::Instant;

/// Takes the numbers of the messages that its filters match.
struct Taken(Mutex<VecDeque<u64>>, Mutex<Vec<String>>);

fn taken(filters: &[&str]) -> Arc<Taken> {
    Arc::new(Taken(Mutex::default(), Mutex::new(filters.iter().map(|filter| (*filter).to_owned()).collect())))
}

impl Sink for Taken {
    fn wants(&self, topic: &str) -> bool {
        lock(&self.1).iter().any(|filter| topic::matches(filter, topic))
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        let wanted = messages.iter().filter(|message| self.wants(&message.message.topic));
        lock(&self.0).extend(wanted.map(|message| message.number));
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
    let sinks: Vec<Arc<Taken>> = (0..5).map(|_| taken(&["a/+/c"])).collect();
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
    let sink = taken(&["a"]);
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
    let steady = taken(&["#"]);
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
        let passing = bus.link(taken(&["x/#", "+/y"])).await.unwrap();
        passing.subscribe(&["x/#", "+/y"]).await.unwrap();
        passing.unsubscribe(&["x/#"]);
    }
    load.await.unwrap();
    until("all messages", || lock(&steady.0).len() == 20_000).await;
    assert!(lock(&steady.0).iter().is_sorted(), "one topic, one order");
    assert!(!bus.is_dead());
    drop(link);
    assert!(!bus.has_subscribers());
}

/// Counts messages, and how often some came together and out of order.
#[derive(Default)]
struct Ordered(AtomicUsize, AtomicUsize);

impl Sink for Ordered {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        self.1.fetch_add(usize::from(!messages.iter().is_sorted_by_key(|message| message.number)), Ordering::Relaxed);
        self.0.fetch_add(messages.len(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_together_by_several_filters_comes_in_order() {
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let sink: Arc<Ordered> = Arc::default();
    let link = bus.link(sink.clone()).await.unwrap();
    link.subscribe(&["a", "b"]).await.unwrap();
    for round in 1..=50 {
        let topics = ["a", "b"].into_iter().cycle().take(20);
        bus.publish(topics.map(|topic| message(topic, 1)).collect()).await.unwrap();
        until("the burst", || sink.0.load(Ordering::Relaxed) == 20 * round).await;
    }
    assert_eq!(sink.1.load(Ordering::Relaxed), 0);
}

/// Holds its trunk for as long as it is locked.
struct Held(Mutex<usize>);

impl Sink for Held {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn take(&self, messages: &mut Vec<Numbered>) {
        *lock(&self.0) += messages.len();
    }
}

#[test]
fn publishing_that_is_given_up_leaves_what_was_not_published_and_no_more() {
    const COUNT: usize = 3_000;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).enable_all().build().unwrap();
    let sink = Arc::new(Held(Mutex::default()));
    let (bus, link) = runtime.block_on(async {
        let bus = Bus::start(config(), bounds(10)).await.unwrap();
        let link = bus.link(sink.clone()).await.unwrap();
        link.subscribe(&["a"]).await.unwrap();
        (bus, link)
    });
    let mut rest: VecDeque<_> = (0..COUNT).map(|_| message("a", 1)).collect();
    {
        let _held = lock(&sink.0);
        let publish =
            async { tokio::time::timeout(Duration::from_millis(300), bus.publish_from(&mut rest)).await.is_err() };
        assert!(runtime.block_on(publish), "it waits for room");
    }
    assert!(!rest.is_empty() && rest.len() < COUNT);
    runtime.block_on(until("what was published", || *lock(&sink.0) == COUNT - rest.len()));
    drop(link);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dollar_topics_and_other_alphabets_are_kept_apart_and_alive() {
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let (all, system) = (taken(&["#", "été/+"]), taken(&["$SYS/#"]));
    let (link_all, link_system) = (bus.link(all.clone()).await.unwrap(), bus.link(system.clone()).await.unwrap());
    link_all.subscribe(&["#", "été/+"]).await.unwrap();
    link_system.subscribe(&["$SYS/#"]).await.unwrap();
    bus.publish(vec![message("$SYS/up", 1), message("été/x", 1), message("/", 1)]).await.unwrap();
    until("both", || lock(&all.0).len() == 2 && lock(&system.0).len() == 1).await;
    assert!(lock(&all.0).iter().eq(&[1, 2]) && lock(&system.0).iter().eq(&[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_sinks_share_a_few_links_to_the_router() {
    let bus = Bus::start(config(), bounds(10_000)).await.unwrap();
    let mut riding = Vec::new();
    for number in 0..1_000 {
        let filters = ["all".to_owned(), format!("{number}")];
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let sink = taken(&filters);
        let link = bus.link(sink.clone()).await.unwrap();
        link.subscribe(&filters).await.unwrap();
        riding.push((sink, link));
    }
    bus.publish(vec![message("7", 1), message("all", 1), message("nobody", 1)]).await.unwrap();
    until("the message for all", || riding.iter().all(|(sink, _)| lock(&sink.0).contains(&1))).await;
    for (number, (sink, _)) in riding.iter().enumerate() {
        let expected: &[u64] = if number == 7 { &[0, 1] } else { &[1] };
        assert!(lock(&sink.0).iter().eq(expected), "{number}");
    }
    drop(riding);
    assert!(!bus.has_subscribers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bound_on_filters_is_an_error_and_not_the_end() {
    let bus = Bus::start(config(), bounds(1)).await.unwrap();
    let (first, second) = (bus.link(taken(&["a"])).await.unwrap(), bus.link(taken(&["b"])).await.unwrap());
    first.subscribe(&["a"]).await.unwrap();
    assert!(matches!(second.subscribe(&["b"]).await, Err(BusError::TooManyFilters(1))));
    first.unsubscribe(&["a"]);
    second.subscribe(&["b"]).await.unwrap();
    drop((first, second));
    assert!(!bus.has_subscribers());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn filters_and_topics_beyond_the_budget_of_names_still_find_each_other() {
    const COUNT: usize = 6_000;
    let bus = Bus::start(config(), bounds(COUNT)).await.unwrap();
    let sink = taken(&["t/+"]);
    let link = bus.link(sink.clone()).await.unwrap();
    let filters: Vec<String> = (0..COUNT).map(|number| format!("t/{number}")).collect();
    for filter in &filters {
        link.subscribe(&[filter.as_str()]).await.unwrap();
    }
    let last = taken(&[filters[COUNT - 1].as_str()]);
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
    let link = bus.link(taken(&["a"])).await.unwrap();
    link.subscribe(&["a"]).await.unwrap();
    assert!(!bus.is_dead());
    // The router cuts a topic's first byte off: this one has two.
    bus.push(vec![("été".to_owned(), message("été", 1))], 1).unwrap();
    until("the end of the router", || bus.is_dead()).await;
    let error = bus.publish(vec![message("a", 1)]).await.unwrap_err();
    assert!(matches!(error, BusError::RouterEnded), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trunk_that_ends_unasked_is_noticed() {
    let bus = Bus::start(config(), bounds(10)).await.unwrap();
    let link = bus.link(taken(&["a"])).await.unwrap();
    link.subscribe(&["a"]).await.unwrap();
    assert!(!bus.is_dead());
    // The router cuts off who subscribes to this.
    link.subscribe_names(vec!["$a".to_owned()]).await.unwrap_err();
    until("the end of the trunk", || bus.is_dead()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_with_the_sinks_once_all_is_read() {
    let bus = Bus::start(config(), bounds(100)).await.unwrap();
    let sinks: Vec<Arc<Taken>> = (0..4).map(|_| taken(&["#", "a"])).collect();
    let mut links = Vec::new();
    for sink in &sinks {
        let link = bus.link(sink.clone()).await.unwrap();
        link.subscribe(&["#", "a"]).await.unwrap();
        links.push(link);
    }
    for round in 1..=200 {
        bus.publish((0..50).map(|_| message("a", 1)).collect()).await.unwrap();
        bus.all_read().await;
        assert!(sinks.iter().all(|sink| lock(&sink.0).len() == 50 * round), "round {round}");
    }
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
