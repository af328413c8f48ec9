//! How the bridge gets in: certificates, passwords, QoS, protocol; and how fast it goes, and what goes first.
//!
//! Owns the connection's settings against real servers. What fails on the way is in `bridge_faults.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::bridged::{
    ALL, assert_complete, counter, site, status, wait_connected, wait_drained, wait_recovered, wait_told,
};
use support::collector::Collector;
use support::feeder::{notes, number_of, readings};
use support::mqtt::Connect;
use support::proxy::{Link, Proxy};
use support::tls::{Authority, Identity};
use support::upstream::{UNLIMITED, Upstream, free_port, mosquitto, mosquitto_prepared};
use support::{Hub, PATIENTLY, SOON, Site, program, wait_for};

/// A Mosquitto with a second listener, for TLS, on the port that is returned.
fn mosquitto_with_tls(authority: &Authority, wants_certificate: bool) -> Option<(Upstream, u16)> {
    let port = free_port();
    let upstream = mosquitto_prepared(|dir| {
        let Identity { certificate, key } = authority.issue("upstream");
        let files = [("ca.pem", authority.pem()), ("server.pem", certificate), ("server.key", key)];
        files.iter().for_each(|(name, text)| fs::write(dir.join(name), text).unwrap());
        let file = |name: &str| dir.join(name).display().to_string();
        format!(
            "{UNLIMITED}listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate {wants_certificate}\n\
             allow_anonymous true\nlistener {} 127.0.0.1",
            file("ca.pem"),
            file("server.pem"),
            file("server.key"),
            free_port(),
        )
    })?;
    Some((upstream, port))
}

/// Writes files beside `hub.toml`, and starts a hub that goes to the TLS port under the name of its certificate.
fn secured(port: u16, settings: &str, files: &[(&str, String)]) -> (Site, Hub) {
    let site = site(&format!("mqtts://localhost:{port}"), settings);
    files.iter().for_each(|(name, text)| fs::write(site.file(name), text).unwrap());
    let hub = site.start();
    (site, hub)
}

#[test]
fn readings_go_through_tls_with_an_authority_of_ones_own() {
    for version in [4, 5] {
        let authority = Authority::new("fleet");
        let Some((upstream, port)) = mosquitto_with_tls(&authority, false) else { return };
        let collector = Collector::start(upstream.address, version, ALL);
        let settings = format!("protocol = {version}\nca = \"fleet.pem\"");
        let (site, hub) = secured(port, &settings, &[("fleet.pem", authority.pem())]);
        readings(hub.mqtt, 1, 0..1000);
        collector.wait_count(1000, PATIENTLY);
        wait_drained(&site, SOON);
        assert_complete(&collector.arrived(), 1000);
    }
}

#[test]
fn an_upstream_of_a_strange_authority_gets_nothing_and_is_told() {
    let Some((upstream, port)) = mosquitto_with_tls(&Authority::new("strange"), false) else { return };
    let collector = Collector::start(upstream.address, 5, "#");
    for (settings, files) in [("ca = \"fleet.pem\"", vec![("fleet.pem", Authority::new("fleet").pem())]), ("", vec![])]
    {
        let (site, hub) = secured(port, settings, &files);
        readings(hub.mqtt, 1, 0..10);
        wait_told(&site, &hub, 0, &["TLS", "certificate"]);
        assert_eq!(status(&site)["connected"], false);
        assert_eq!(collector.count(), 0);
    }
}

#[test]
fn an_upstream_under_another_name_than_its_certificates_gets_nothing() {
    let authority = Authority::new("fleet");
    let Some((_upstream, port)) = mosquitto_with_tls(&authority, false) else { return };
    let Ok(name) = fs::read_to_string("/etc/hostname") else { return };
    if (name.trim(), port).to_socket_addrs().is_err() {
        return support::skip("this machine's name does not lead to it", false);
    }
    let site = site(&format!("mqtts://{}:{port}", name.trim()), "ca = \"fleet.pem\"");
    fs::write(site.file("fleet.pem"), authority.pem()).unwrap();
    let hub = site.start();
    wait_told(&site, &hub, 0, &["away"]);
    assert_eq!(counter(&site, "connects"), 0);
}

#[test]
fn an_upstream_that_wants_a_certificate_gets_it() {
    for version in [4, 5] {
        let authority = Authority::new("fleet");
        let Some((upstream, port)) = mosquitto_with_tls(&authority, true) else { return };
        let collector = Collector::start(upstream.address, version, ALL);
        let ca = ("fleet.pem", authority.pem());
        let (without, hub) =
            secured(port, &format!("protocol = {version}\nca = \"fleet.pem\""), std::slice::from_ref(&ca));
        wait_told(&without, &hub, 0, &["away"]);
        assert_eq!(counter(&without, "connects"), 0);
        drop(hub);
        let Identity { certificate, key } = authority.issue("hill");
        let files = [ca, ("hub.pem", certificate), ("hub.key", key)];
        let settings = "ca = \"fleet.pem\"\nclient_cert = \"hub.pem\"\nclient_key = \"hub.key\"";
        let (site, hub) = secured(port, &format!("protocol = {version}\n{settings}"), &files);
        readings(hub.mqtt, 1, 0..100);
        collector.wait_count(100, PATIENTLY);
        wait_drained(&site, SOON);
    }
}

/// Makes a password file of Mosquitto's; false where its program is missing.
fn write_passwords(dir: &Path, users: &[(&str, &str)]) -> bool {
    let file = dir.join("passwords");
    fs::write(&file, "").unwrap();
    users.iter().all(|(user, password)| {
        let Some(mut passwd) = program("mosquitto_passwd") else { return false };
        passwd.arg("-b").arg(&file).args([user, password]).output().unwrap().status.success()
    })
}

/// A Mosquitto that lets in two users.
fn mosquitto_with_passwords() -> Option<(Upstream, Collector)> {
    program("mosquitto_passwd")?;
    let upstream = mosquitto_prepared(|dir| {
        assert!(write_passwords(dir, &[("hill", "secret of the hill"), ("collector", "c")]));
        format!("{UNLIMITED}allow_anonymous false\npassword_file {}", dir.join("passwords").display())
    })?;
    let collector = Connect::new(5, "collector").persistent().login("collector", "c");
    let collector = Collector::start_as(collector, upstream.address, ALL);
    Some((upstream, collector))
}

/// Starts a hub whose password comes as `how` has it, and waits until a reading is upstream.
fn goes_in(upstream: &Upstream, collector: &Collector, settings: &str, how: impl FnOnce(&Site, &mut Command)) {
    let before = collector.count();
    let site = site(&upstream.url(), &format!("username = \"hill\"\n{settings}"));
    let mut command = site.run_command();
    how(&site, &mut command);
    let hub = site.start_with(command);
    readings(hub.mqtt, 1, 0..1);
    wait_for("a reading upstream", PATIENTLY, || collector.arrived().len() > before);
    assert!(!hub.log().contains("secret of"), "a password in the log");
}

#[test]
fn the_password_comes_from_the_configuration_a_file_or_the_environment() {
    let Some((upstream, collector)) = mosquitto_with_passwords() else { return };
    for version in [4, 5] {
        let settings = |more: &str| format!("protocol = {version}\n{more}");
        goes_in(&upstream, &collector, &settings("password = \"secret of the hill\""), |_, _| {});
        goes_in(&upstream, &collector, &settings(""), |_, command| {
            command.env("STATIONHUB_BRIDGE__PASSWORD", "secret of the hill");
        });
        goes_in(&upstream, &collector, &settings("password_file = \"password\""), |site, _| {
            fs::write(site.file("password"), "secret of the hill\n").unwrap();
        });
    }
}

#[test]
fn a_password_file_that_is_mended_lets_the_running_hub_in() {
    let Some((upstream, collector)) = mosquitto_with_passwords() else { return };
    for version in [4u8, 5] {
        let before = collector.arrived().len();
        let settings = format!("protocol = {version}\nusername = \"hill\"\npassword_file = \"password\"");
        let site = site(&upstream.url(), &settings);
        fs::write(site.file("password"), "wrong\n").unwrap();
        let hub = site.start();
        readings(hub.mqtt, u64::from(version), 0..100);
        wait_told(&site, &hub, 0, &["away", "refuse", "bridge.password"]);
        assert_eq!(collector.arrived().len(), before);
        fs::write(site.file("password"), "secret of the hill\n").unwrap();
        wait_for("the readings upstream", PATIENTLY, || collector.arrived().len() >= before + 100);
        wait_recovered(&site, &hub, 0);
        wait_drained(&site, SOON);
    }
}

#[test]
fn qos_2_brings_each_message_once_though_the_link_is_cut() {
    for version in [4, 5] {
        // Mosquitto's default is 20 in flight, below the bridge's window.
        let Some(upstream) = mosquitto("max_queued_messages 0\n") else { return };
        let collector = Collector::start(upstream.address, version, ALL);
        let proxy = Proxy::start(upstream.address, Link::Open);
        let site = site(&proxy.url(), &format!("protocol = {version}\nqos = 2"));
        let hub = site.start();
        for round in 0..5 {
            readings(hub.mqtt, 1, round * 400..(round + 1) * 400);
            wait_for("some of it", PATIENTLY, || collector.count() as u64 > round * 400);
            proxy.cut_once();
        }
        collector.wait_count(2000, PATIENTLY);
        wait_drained(&site, SOON);
        assert_complete(&collector.arrived(), 2000);
    }
}

#[test]
fn qos_2_loses_nothing_though_the_hub_is_killed() {
    let Some(upstream) = mosquitto(UNLIMITED) else { return };
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, Link::Cut);
    let site = site(&proxy.url(), "qos = 2");
    let mut hub = site.start();
    readings(hub.mqtt, 1, 0..5000);
    proxy.set(Link::Open);
    for round in 1..=4 {
        wait_for("some of it", PATIENTLY, || collector.count() > round * 700);
        hub.kill_9();
        hub = site.start();
    }
    collector.wait_count(5000, PATIENTLY);
    wait_drained(&site, PATIENTLY);
    println!("{} repeats", collector.repeats());
    // What the killed hub had not released goes out by packet id when it is back, which may not be the order it was sent.
    let mut numbers: Vec<u64> = of(&collector, "weathermeters/");
    numbers.sort_unstable();
    assert_eq!(numbers, (0..5000).collect::<Vec<u64>>());
}

#[test]
fn an_upstream_with_a_smaller_window_than_the_bridges_gets_all_in_order() {
    for version in [4, 5] {
        let Some(mut upstream) = mosquitto("max_queued_messages 0\nmax_inflight_messages 5\n") else { return };
        let collector = Collector::start(upstream.address, version, ALL);
        upstream.stop();
        let site = site(&upstream.url(), &format!("protocol = {version}\nwindow = 1000"));
        let hub = site.start();
        readings(hub.mqtt, 1, 0..2000);
        upstream.start();
        collector.wait_count(2000, PATIENTLY);
        wait_drained(&site, SOON);
        assert_complete(&collector.arrived(), 2000);
    }
}

/// A hub with 2,000 notes in its outbox and an upstream that is about to be let in.
fn with_a_backlog(settings: &str) -> Option<(Upstream, Collector, Proxy, Site, Hub)> {
    let upstream = mosquitto(UNLIMITED)?;
    let collector = Collector::start(upstream.address, 5, ALL);
    let proxy = Proxy::start(upstream.address, Link::Cut);
    let site = site(&proxy.url(), settings);
    let hub = site.start();
    notes(hub.mqtt, "farm/backlog", 0..2000, 100);
    Some((upstream, collector, proxy, site, hub))
}

#[test]
fn a_backlog_drains_at_the_rate_that_is_set() {
    let Some((_upstream, collector, proxy, site, _hub)) = with_a_backlog("rate_max = 400") else { return };
    proxy.set(Link::Open);
    wait_for("the first", PATIENTLY, || collector.count() > 0);
    let begun = Instant::now();
    collector.wait_count(2000, PATIENTLY);
    let took = begun.elapsed();
    assert!((Duration::from_millis(3500)..Duration::from_secs(15)).contains(&took), "2,000 at 400 a second: {took:?}");
    wait_drained(&site, SOON);
    assert_complete(&collector.arrived(), 2000);
}

#[test]
fn what_is_live_goes_first_where_that_is_wanted() {
    let settings = "rate_max = 200\nlive_first = true";
    let Some((_upstream, collector, proxy, site, mut hub)) = with_a_backlog(settings) else { return };
    proxy.set(Link::Open);
    wait_connected(&site);
    wait_for("the drain to begin", PATIENTLY, || collector.count() > 50);
    notes(hub.mqtt, "farm/live", 0..20, 100);
    wait_for("what is live", PATIENTLY, || of(&collector, "farm/live").len() == 20);
    let drained = of(&collector, "farm/backlog").len();
    assert!(drained < 1500, "{drained} of the backlog went before what is live");
    // A kill in the middle makes backlog of both.
    hub.kill_9();
    hub = site.start();
    wait_connected(&site);
    notes(hub.mqtt, "farm/live", 20..40, 100);
    collector.wait_count(2040, PATIENTLY);
    wait_drained(&site, SOON);
    assert_eq!(of(&collector, "farm/backlog"), (0..2000).collect::<Vec<u64>>());
    assert_eq!(of(&collector, "farm/live"), (0..40).collect::<Vec<u64>>());
}

/// Returns the numbers that came on a topic, each once, in order.
fn of(collector: &Collector, topic: &str) -> Vec<u64> {
    let seen = collector.seen_once();
    let of_topic = seen.iter().filter(|message| message.topic.ends_with(topic));
    of_topic.filter_map(|message| number_of(&message.payload)).collect()
}
