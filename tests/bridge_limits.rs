//! The outbox's limit while the upstream is away: what it drops is counted exactly, and forwarding goes on.
//!
//! Owns the promise that a loss is what the gap markers say, no more and no less, and stands where they stand.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::BTreeSet;

use support::bridged::{ALL, site, status, wait_connected, wait_drained};
use support::collector::{Collector, assert_in_order_by_id};
use support::feeder::{notes, number_of};
use support::proxy::{Link, Proxy};
use support::upstream::{UNLIMITED, Upstream, mosquitto};
use support::v5::Sent;
use support::{Dice, Hub, PATIENTLY, SOON, Site, holds_within, wait_for, wait_for_a_moment};

const TOPIC: &str = "farm/notes";
const GAP: &str = "stations/hill/stationhub/gap";
/// A note of this length makes a thousand of them a MiB, about.
const LENGTH: usize = 1000;
const SMALL: &str = "outbox_bytes_max = 1048576";

/// What the collector knows: the numbers that came, and how many the markers say are lost.
struct Account {
    came: BTreeSet<u64>,
    lost: u64,
    markers: u64,
}

/// Reads what came in its order, each message once: where numbers are left out, a marker says how many.
fn account(messages: &[Sent]) -> Account {
    let mut account = Account { came: BTreeSet::new(), lost: 0, markers: 0 };
    let mut next = 0;
    for message in messages {
        if message.topic == GAP {
            let lost = lost(message);
            (next, account.lost, account.markers) = (next + lost, account.lost + lost, account.markers + 1);
        } else {
            let number = number_of(&message.payload).unwrap();
            assert_eq!(number, next, "a number is left out, or comes twice, where no marker stands");
            account.came.insert(number);
            next += 1;
        }
    }
    account
}

/// Waits until all that was published has come or is told to be lost.
fn wait_accounted(collector: &Collector, published: u64) -> Account {
    let mut found = (0, 0);
    let all = holds_within(PATIENTLY, || {
        let seen = collector.seen_once();
        let (gaps, came): (Vec<_>, Vec<_>) = seen.iter().partition(|message| message.topic == GAP);
        found = (came.len() as u64, gaps.into_iter().map(lost).sum());
        found.0 + found.1 >= published
    });
    assert!(all, "{} came and {} are told to be lost, of {published}", found.0, found.1);
    let seen = collector.seen_once();
    assert_in_order_by_id(&seen);
    let account = account(&seen);
    assert_eq!(account.came.len() as u64 + account.lost, published);
    account
}

/// Returns how many messages a gap marker says are lost.
fn lost(marker: &Sent) -> u64 {
    let gap: serde_json::Value = serde_json::from_slice(&marker.payload).expect("a marker is JSON");
    let lost = gap["messages"].as_u64().expect("a marker has a count");
    assert!(lost > 0 && gap["bytes"].as_u64() >= Some(lost * LENGTH as u64), "{gap}");
    lost
}

fn dropped(site: &Site) -> u64 {
    status(site)["backlog"]["dropped"].as_u64().expect("the loss is counted")
}

/// A hub with a small outbox at a real server, through a proxy.
fn small(settings: &str, link: Link) -> Option<(Upstream, Collector, Proxy, Site, Hub)> {
    let upstream = mosquitto(UNLIMITED)?;
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, link);
    let site = site(&proxy.url(), &format!("{SMALL}\n{settings}"));
    let hub = site.start();
    Some((upstream, collector, proxy, site, hub))
}

#[test]
fn an_outbox_that_overflowed_goes_on_and_its_loss_is_what_it_says() {
    let Some((_upstream, collector, proxy, site, hub)) = small("", Link::Cut) else { return };
    let mark = hub.log_end();
    notes(hub.mqtt, TOPIC, 0..4000, LENGTH);
    let counted = dropped(&site);
    assert!(counted > 2000, "4 MB in an outbox of 1 MiB, and {counted} dropped");
    assert!(!hub.said_since(mark, &["drop"]).is_empty(), "a log line tells of the loss");
    let backlog = status(&site)["backlog"].clone();
    assert!(backlog["bytes"].as_u64().unwrap() <= 1_048_576, "{backlog}");
    proxy.set(Link::Open);
    let account = wait_accounted(&collector, 4000);
    assert_eq!((account.lost, account.markers), (counted, 1), "one gap");
    notes(hub.mqtt, TOPIC, 4000..5000, 100);
    assert_eq!(wait_accounted(&collector, 5000).lost, counted, "nothing more is lost");
    wait_drained(&site, SOON);
}

#[test]
fn an_outbox_that_overflows_on_both_sides_of_a_kill_loses_what_it_says() {
    let Some((_upstream, collector, proxy, site, hub)) = small("", Link::Cut) else { return };
    notes(hub.mqtt, TOPIC, 0..2500, LENGTH);
    hub.kill_9();
    let hub = site.start();
    assert_eq!(dropped(&site), 0, "counted since the start");
    notes(hub.mqtt, TOPIC, 2500..5000, LENGTH);
    proxy.set(Link::Open);
    let account = wait_accounted(&collector, 5000);
    println!("{} lost in {} gaps", account.lost, account.markers);
    assert!(account.lost > 2500);
    wait_drained(&site, SOON);
}

#[test]
fn an_overflow_with_a_window_in_flight_loses_what_it_says() {
    let Some((_upstream, collector, proxy, site, hub)) = small("", Link::Open) else { return };
    wait_connected(&site);
    notes(hub.mqtt, TOPIC, 0..100, LENGTH);
    collector.wait_count(100, PATIENTLY);
    proxy.set(Link::Stalled);
    notes(hub.mqtt, TOPIC, 100..4000, LENGTH);
    let counted = dropped(&site);
    assert!(counted > 1000, "{counted}");
    proxy.set(Link::Open);
    let account = wait_accounted(&collector, 4000);
    assert_eq!(account.lost, counted);
    wait_drained(&site, SOON);
}

#[test]
fn overflows_among_kills_and_stalls_lose_what_they_say() {
    let Some((_upstream, collector, proxy, site, mut hub)) = small("", Link::Open) else { return };
    let mut dice = Dice::new();
    let mut published = 0;
    for round in 0..6 {
        proxy.set([Link::Stalled, Link::Cut][dice.below(2) as usize]);
        notes(hub.mqtt, TOPIC, published..published + 1500, LENGTH);
        published += 1500;
        let before = collector.count();
        proxy.set(Link::Open);
        wait_for("some of it", PATIENTLY, || collector.count() > before);
        wait_for_a_moment(&mut dice, 50_000);
        if round % 2 == 0 {
            hub.kill_9();
            hub = site.start();
        }
    }
    let account = wait_accounted(&collector, published);
    println!("{} lost in {} gaps, {} repeats", account.lost, account.markers, collector.repeats());
    wait_drained(&site, SOON);
}

#[test]
fn messages_too_old_are_dropped_and_told() {
    let Some((_upstream, collector, proxy, site, hub)) = small("outbox_age_s_max = 60", Link::Cut) else { return };
    notes(hub.mqtt, TOPIC, 0..100, LENGTH);
    hub.kill_9();
    let aged = "UPDATE outbox SET received_ms = received_ms - 120000 WHERE id <= (SELECT min(id) + 49 FROM outbox)";
    rusqlite::Connection::open(site.db()).unwrap().execute(aged, []).unwrap();
    let hub = site.start();
    // What may have been on its way when the hub died is not dropped: a window and a batch of rows.
    notes(hub.mqtt, TOPIC, 100..110, LENGTH);
    proxy.set(Link::Open);
    let account = wait_accounted(&collector, 110);
    assert!(account.lost == 0 || account.lost == 50, "{} are lost", account.lost);
    wait_drained(&site, SOON);
}

#[test]
fn an_overflow_is_an_issue_of_health() {
    let Some((_upstream, _collector, proxy, site, hub)) = small("[health]\ninterval_s = 1", Link::Cut) else { return };
    let mark = hub.log_end();
    notes(hub.mqtt, TOPIC, 0..2000, LENGTH);
    hub.wait_said(mark, &["Health check issues:", "outbox", "dropped"], PATIENTLY);
    proxy.set(Link::Open);
    wait_drained(&site, PATIENTLY);
}
