//! hub.toml on SIGHUP: what takes effect at once, what is named as waiting for a restart, and what a wrong file does.
//!
//! Certificates are in `tls.rs`, users and rights in `access.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;

use support::mqtt::Connect;
use support::{Hub, SOON, Signal, Site, wait_for};

/// Writes hub.toml anew, has it read, and returns where the log ended before.
fn reload(site: &Site, hub: &Hub, hub_toml: &str) -> usize {
    fs::write(site.file("hub.toml"), hub_toml).unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["SIGHUP", "configuration"], SOON);
    // What is read last is told last.
    hub.wait_said(mark, &["SIGHUP", "rules"], SOON);
    mark
}

/// Has a client come and go, which is told at level debug alone.
fn visit(hub: &Hub) {
    Connect::new(4, "visitor").open(hub.mqtt).disconnect();
}

#[test]
fn the_logs_level_is_changed_by_sighup_in_both_directions() {
    let site = Site::with_config("[log]\nlevel = \"info\"\n");
    let hub = site.start();
    visit(&hub);
    let mark = reload(&site, &hub, "[log]\nlevel = \"debug\"\n");
    assert_eq!(hub.said_since(mark, &["info", "read anew", "log.level is debug now"]).len(), 1);
    assert!(hub.said_since(0, &["debug", "visitor"]).is_empty());
    wait_for("a line at level debug", SOON, || {
        visit(&hub);
        !hub.said_since(mark, &["debug", "visitor"]).is_empty()
    });
    let mark = reload(&site, &hub, "[log]\nlevel = \"info\"\n");
    wait_for("no line at level debug any more", SOON, || {
        let mark = hub.log_end();
        visit(&hub);
        hub.said_since(mark, &["debug", "visitor"]).is_empty()
    });
    assert!(hub.said_since(mark, &["restart"]).is_empty());
}

#[test]
fn every_other_key_that_differs_is_named_as_waiting_for_a_restart() {
    let site = Site::with_config("[station]\nname = \"before\"\n");
    let mut hub = site.start();
    let route = "[[ingest.route]]\nkind = \"weather\"\nlevel = \"other\"\n";
    let mark = reload(&site, &hub, &format!("[station]\nname = \"after\"\n[store]\nbatch_max = 7\n{route}"));
    let words = ["warn", "restart", "station.name", "store.batch_max", "ingest.route"];
    hub.wait_said(mark, &words, SOON);
    let lines = hub.said_since(mark, &words);
    assert_eq!(lines.len(), 1);
    assert!(!lines[0].contains("level") && !lines[0].contains("broker"), "{lines:?}");
    let rumqttd = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/rumqttd.toml")).unwrap();
    fs::write(
        site.file("rumqttd.toml"),
        rumqttd.replace("connection_timeout_ms = 10000", "connection_timeout_ms = 4000"),
    )
    .unwrap();
    let mark = reload(&site, &hub, "[station]\nname = \"before\"\n[log]\nlevel = \"debug\"\n");
    hub.wait_said(mark, &["warn", "restart", "rumqttd.toml"], SOON);
    assert_eq!(hub.said_since(mark, &["read anew", "log.level is debug now"]).len(), 1, "all the same");
    assert!(hub.said_since(mark, &["station.name"]).is_empty(), "it is again as it was");
    Connect::new(4, "client").open(hub.mqtt).ping();
    assert!(hub.is_running());
    assert!(hub.stop().success());
}

#[test]
fn a_wrong_file_leaves_all_in_force_and_is_told_with_every_error() {
    let site = Site::with_config("[log]\nlevel = \"info\"\n");
    let mut hub = site.start();
    let mark = reload(&site, &hub, "[log]\nlevel = \"debug\"\n[store]\nbatch_max = -1\nnonsense = 1\n");
    let words = ["error", "SIGHUP", "store.batch_max", "store.nonsense", "stays in force"];
    assert_eq!(hub.said_since(mark, &words).len(), 1);
    let mark = reload(&site, &hub, "[log\n");
    assert_eq!(hub.said_since(mark, &["error", "SIGHUP", "hub.toml", "line 1", "stays in force"]).len(), 1);
    visit(&hub);
    let mark = reload(&site, &hub, "[log]\nlevel = \"info\"\n");
    assert_eq!(hub.said_since(mark, &["info", "nothing has changed"]).len(), 1);
    assert!(hub.said_since(0, &["debug"]).iter().all(|line| !line.contains("visitor")));
    assert!(hub.is_running());
    assert!(hub.stop().success());
}

#[test]
fn a_password_that_has_changed_is_named_and_not_shown() {
    let bridge =
        |password| format!("[bridge]\nurl = \"mqtt://127.0.0.1:1\"\nusername = \"hub\"\npassword = \"{password}\"\n");
    let site = Site::with_config(&bridge("before"));
    let hub = site.start();
    let mark = reload(&site, &hub, &bridge("behind"));
    hub.wait_said(mark, &["warn", "restart", "bridge.password"], SOON);
    assert!(!hub.log().contains("behind"));
}
