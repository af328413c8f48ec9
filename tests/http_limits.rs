//! The page's port under peers that do not behave: they cost the sensors nothing, and others are answered again.
//!
//! Owns the bounds of HTTP. What it answers is tested in `metrics.rs` and `operations.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use support::health::get;
use support::mqtt::Connect;
use support::sensor::{weather, weather_topic};
use support::{PATIENTLY, SOON, Site, wait_for};

#[test]
fn a_crowd_that_asks_for_nothing_is_bounded_and_dropped_and_sensors_are_served() {
    let site = Site::new();
    let hub = site.start();
    let address = hub.ready["http"].as_str().unwrap();
    let mut crowd: Vec<TcpStream> = (0..300).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut crowd {
        // Those that were closed at once do not take it.
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-").unwrap_or_default();
    }
    hub.wait_said(0, &[" warn ", "http", "as many as there may be"], SOON);
    let files = || fs::read_dir(format!("/proc/{}/fd", hub.pid())).unwrap().count();
    wait_for("the files of the crowd", SOON, || files() < 150);
    Connect::new(4, "sensor").open(hub.mqtt).publish_through(&weather_topic(1), &weather(1, 0), 1);
    for stream in &mut crowd {
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap_or_default();
    }
    let (code, _) = get(&hub, "/healthz");
    assert_eq!(code, 200);
}

#[test]
fn the_owners_socket_is_made_again_where_somebody_removed_it() {
    let site = Site::new();
    let hub = site.start();
    fs::remove_file(site.beside_db(".sock")).unwrap();
    wait_for("another socket", PATIENTLY, || site.beside_db(".sock").exists());
    hub.wait_said(0, &[" warn ", "socket was removed"], SOON);
    assert_eq!(site.status()["status"], "ok");
    assert!(hub.stop().success());
    assert!(!site.beside_db(".sock").exists());
}
