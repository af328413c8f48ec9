//! TLS listeners: who is let in, and certificates that change while the hub serves.
//!
//! Peers that stall, drip or send garbage are in `handshakes.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use rustls::ALL_VERSIONS;
use rustls::version::{TLS12, TLS13};
use support::mqtt::{Connect, publish};
use support::sensor::weather;
use support::tls::{Authority, address, connect, open, ping, site};
use support::{SOON, Signal, Site, paho, program, wait_for};

const TOPIC: &str = "backacres/house/weatherstation/weathermeters/";

/// Returns a mosquitto client that trusts the site's authority.
fn mosquitto(name: &str, site: &Site, port: u16) -> Option<Command> {
    let mut command = program(name)?;
    command.args(["-h", "localhost", "-p", &port.to_string(), "--cafile"]).arg(site.file("ca.pem"));
    command.stdin(Stdio::null());
    Some(command)
}

fn run(mut command: Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

#[test]
fn mosquitto_publishes_over_tls_and_returns_when_its_reading_is_stored() {
    let site = site(&Authority::new("authority"), 10_000);
    let hub = site.start();
    let port = address(&hub, "tls").port();
    for (rows, version) in [(1, "tlsv1.2"), (2, "tlsv1.3")] {
        let Some(mut publish) = mosquitto("mosquitto_pub", &site, port) else {
            return;
        };
        let reading = String::from_utf8(weather(1, rows)).unwrap();
        publish.args(["--tls-version", version, "-t", TOPIC, "-q", "2", "-m", &reading]);
        run(publish);
        assert_eq!(site.weather_count(), rows as i64, "{version}");
    }
    let mut publish = mosquitto("mosquitto_pub", &site, port).unwrap();
    publish.args(["-t", "house/lamp", "-q", "1", "-r", "-m", "on"]);
    run(publish);
    let mut subscribe = mosquitto("mosquitto_sub", &site, port).unwrap();
    subscribe.args(["-t", "house/#", "-q", "1", "-C", "1", "-W", "30"]);
    assert_eq!(run(subscribe).stdout, b"on\n");
}

#[test]
fn clients_that_know_tls_1_2_alone_and_1_3_alone_are_both_served() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let mut stream = open(address(&hub, "tls"), &authority.client(None, &[version]));
        connect(&mut stream, name).unwrap();
        assert_eq!(format!("{:?}", stream.conn.protocol_version().unwrap()), name);
        stream.write_all(&publish(4, TOPIC.as_bytes(), &weather(1, 1), 1, 7, false)).unwrap();
        let mut ack = [0; 4];
        stream.read_exact(&mut ack).unwrap();
        assert_eq!(ack, [0x40, 2, 0, 7]);
    }
}

#[test]
fn a_client_without_the_certificate_that_is_asked_for_is_not_let_in() {
    let (authority, stranger) = (Authority::new("authority"), Authority::new("stranger"));
    let site = site(&authority, 10_000);
    let hub = site.start();
    let place = address(&hub, "certified");
    for version in [&TLS12, &TLS13] {
        let known = authority.issue("sensor–1");
        let mut stream = open(place, &authority.client(Some(&known), &[version]));
        connect(&mut stream, "known").unwrap();
        ping(&mut stream);
        let unknown = stranger.issue("sensor-2");
        let old = authority.issue_with("sensor-3", |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
        for (identity, why) in [(None, "none"), (Some(&unknown), "another authority's"), (Some(&old), "expired")] {
            let mut stream = open(place, &authority.client(identity, &[version]));
            assert!(connect(&mut stream, "stranger").is_err(), "let in with {why}");
        }
    }
    hub.wait_said(0, &["has shown a certificate", "known", "sensor–1"], SOON);
    hub.wait_said(0, &["certified (TLS)", "the TLS handshake failed"], SOON);
    // Where no certificate is asked for, none is needed, and one that is shown all the same does no harm.
    let mut stream = open(address(&hub, "tls"), &authority.client(Some(&stranger.issue("x")), ALL_VERSIONS));
    connect(&mut stream, "anybody").unwrap();
}

#[test]
fn mosquitto_shows_its_certificate() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    let hub = site.start();
    let sensor = authority.issue("sensor");
    fs::write(site.file("sensor.pem"), &sensor.certificate).unwrap();
    fs::write(site.file("sensor.key"), &sensor.key).unwrap();
    let publish = || {
        let mut command = mosquitto("mosquitto_pub", &site, address(&hub, "certified").port())?;
        command.args(["-t", TOPIC, "-q", "1", "-m", &String::from_utf8(weather(1, 1)).unwrap()]);
        Some(command)
    };
    let Some(mut without) = publish() else {
        return;
    };
    assert!(!without.output().unwrap().status.success());
    let mut with = publish().unwrap();
    with.arg("--cert").arg(site.file("sensor.pem")).arg("--key").arg(site.file("sensor.key"));
    run(with);
    assert_eq!(site.weather_count(), 1);
}

#[test]
fn certificates_are_read_anew_on_sighup_under_running_connections() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let site = site(&before, 10_000);
    let mut hub = site.start();
    let place = address(&hub, "tls");
    let mut running = open(place, &before.client(None, ALL_VERSIONS));
    connect(&mut running, "running").unwrap();

    after.issue("hub").write(&site);
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    // "tls", "certified" and "wss" have certificates.
    wait_for("three lines", SOON, || hub.said_since(mark, &["INFO", "read anew", "certificates"]).len() == 3);
    let mut fresh = open(place, &after.client(None, ALL_VERSIONS));
    connect(&mut fresh, "fresh").unwrap();
    assert!(connect(&mut open(place, &before.client(None, ALL_VERSIONS)), "late").is_err(), "the old one is served");
    ping(&mut running);

    // A key that is not the certificate's, then a certificate that is half written: what was read before stays.
    fs::write(site.file("hub.key"), before.issue("other").key).unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    wait_for("an error for each listener", SOON, || {
        hub.said_since(mark, &["ERROR", "hub.key is not the key of", "stays in force"]).len() == 3
    });
    fs::write(site.file("hub.pem"), "-----BEGIN CERT").unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["ERROR", "\"wss\"", "hub.pem", "stays in force"], SOON);
    connect(&mut open(place, &after.client(None, ALL_VERSIONS)), "later").unwrap();
    ping(&mut running);
    ping(&mut fresh);
    assert!(hub.is_running());
    assert!(hub.stop().success());
}

#[test]
fn authorities_of_clients_are_read_anew_too() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let site = site(&before, 10_000);
    let hub = site.start();
    let place = address(&hub, "certified");
    let mut running = open(place, &before.client(Some(&before.issue("old")), ALL_VERSIONS));
    connect(&mut running, "old").unwrap();
    // The very settings of that client, which remembers its TLS session, too.
    let remembering = before.client(Some(&before.issue("old")), ALL_VERSIONS);
    connect(&mut open(place, &remembering), "old-2").unwrap();
    fs::write(site.file("ca.pem"), after.pem()).unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["read anew", "\"certified\""], SOON);
    assert!(connect(&mut open(place, &remembering), "old-3").is_err(), "a session by the old authority is resumed");
    connect(&mut open(place, &before.client(Some(&after.issue("new")), ALL_VERSIONS)), "new").unwrap();
    ping(&mut running);
}

#[test]
fn sighup_without_anything_to_read_anew_changes_nothing() {
    let site = Site::new();
    let mut hub = site.start();
    let mut client = Connect::new(4, "client").open(hub.mqtt);
    for _ in 0..3 {
        let mark = hub.log_end();
        hub.signal(Signal::HUP);
        hub.wait_said(mark, &["SIGHUP", "nothing"], SOON);
    }
    client.ping();
    assert!(hub.is_running());
}

#[test]
fn a_hub_whose_terminal_is_gone_serves_on() {
    let site = Site::new();
    let Some(mut command) = program("bash") else {
        return;
    };
    let run = site.run_command();
    // Nobody reads what it says on stderr.
    command.args(["-c", "exec \"$0\" \"$@\" 2> >(exit 0)"]).arg(run.get_program()).args(run.get_args());
    command.current_dir(site.dir()).stdin(Stdio::null());
    for (name, _) in run.get_envs() {
        command.env_remove(name);
    }
    let mut hub = site.start_with(command);
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["SIGHUP", "nothing"], SOON);
    Connect::new(4, "client").open(hub.mqtt).ping();
    assert!(hub.is_running());
    assert!(hub.stop().success());
}

#[test]
fn an_expired_certificate_is_served_with_a_warning() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    authority.issue_with("hub", |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1)).write(&site);
    let hub = site.start();
    hub.wait_said(0, &["WARN", "hub.pem", "expired on 2002-01-01"], SOON);
    let output = site.command("check").output().unwrap();
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("warning: "), "{output:?}");
}

#[test]
fn a_broken_certificate_ends_the_start_with_file_and_reason() {
    let authority = Authority::new("authority");
    let site = site(&authority, 10_000);
    fs::write(site.file("hub.key"), authority.issue("other").key).unwrap();
    for command in [site.command("check"), site.run_command()] {
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("v4.2.tls.keypath: ") && said.contains("hub.key is not the key of"), "{said}");
        assert!(said.contains("ws.2.tls.keypath: "), "all at once: {said}");
    }
}

#[test]
fn paho_for_python_speaks_over_tls() {
    if paho::is_there() {
        let site = site(&Authority::new("authority"), 10_000);
        let hub = site.start();
        let address = address(&hub, "tls");
        paho::run(&site, &paho::Way { address, transport: "tcp", authority: "ca.pem", size: 9_000 });
    }
}
