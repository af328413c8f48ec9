//! A mosquitto.conf becomes the hub's configuration, which then lets in whom Mosquitto let in.
//!
//! Owns the command from outside. What each setting becomes is tested beside the translation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::process::{Child, Output, Stdio};

use support::mqtt::Connect;
use support::upstream::free_port;
use support::{SOON, Site, program, wait_for};

const SECRET: &str = "hunter2";

fn import(site: &Site, arguments: &[&str]) -> Output {
    site.bare().arg("import-mosquitto").args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A child that does not outlive its test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Writes a configuration as a Debian machine has it: a main file, and the owner's in a directory beside it.
fn write_conf(site: &Site, port: u16) -> bool {
    let path = |name: &str| site.file(name).display().to_string();
    fs::create_dir(site.file("conf.d")).unwrap();
    let main = format!(
        "# Place your local configuration in conf.d\n\npersistence true\npersistence_location {}/\n\
         log_dest file {}\nuser root\n\ninclude_dir {}\n",
        site.dir().display(),
        path("mosquitto.log"),
        path("conf.d")
    );
    fs::write(site.file("mosquitto.conf"), main).unwrap();
    let own = format!(
        "listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {}\nacl_file {}\nmax_queued_messages 50\n\
         max_inflight_messages 10\nmessage_size_limit 5000\npersistent_client_expiration 2d\nlog_type all\n",
        path("passwd"),
        path("acl")
    );
    fs::write(site.file("conf.d/own.conf"), own).unwrap();
    fs::write(site.file("conf.d/ignored.txt"), "listener 1\n").unwrap();
    let bridge = format!(
        "connection office\naddress 127.0.0.1:{}\nremote_username x\nremote_password {SECRET}\ntopic # out\n",
        free_port()
    );
    fs::write(site.file("conf.d/z-bridge.conf"), bridge).unwrap();
    fs::write(site.file("acl"), "user sensor\ntopic write garden/#\ntopic read garden/#\n").unwrap();
    fs::write(site.file("passwd"), "").unwrap();
    let Some(mut passwd) = program("mosquitto_passwd") else { return false };
    assert!(passwd.arg("-b").arg(site.file("passwd")).args(["sensor", SECRET]).status().unwrap().success());
    let mut text = fs::read_to_string(site.file("passwd")).unwrap();
    text += "broken:$7$101$x\n";
    fs::write(site.file("passwd"), text).unwrap();
    true
}

/// Tells how a broker treats the sensor, a stranger and a nameless one.
fn treatment(broker: SocketAddr) -> [bool; 5] {
    let connect = || Connect::new(5, "c");
    let mut sensor = connect().login("sensor", SECRET).open(broker);
    sensor.subscribe("#", 0);
    sensor.publish("house/a", b"x", 0, 0, false);
    sensor.publish("garden/a", b"x", 0, 0, false);
    [
        sensor.receive().topic == "garden/a",
        connect().try_open(broker).is_ok(),
        connect().login("sensor", "wrong").try_open(broker).is_ok(),
        connect().login("broken", "").try_open(broker).is_ok(),
        connect().login("sensor", SECRET).try_open(broker).is_ok(),
    ]
}

#[test]
fn the_hub_treats_clients_as_mosquitto_did_with_the_same_file() {
    let site = Site::new();
    let port = free_port();
    if !write_conf(&site, port) {
        return;
    }
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    if let Some(mut mosquitto) = program("mosquitto") {
        mosquitto.arg("-c").arg(site.file("mosquitto.conf")).stderr(Stdio::null());
        let _child = Guarded(mosquitto.spawn().unwrap());
        wait_for("mosquitto to listen", SOON, || TcpStream::connect(address).is_ok());
        assert_eq!(treatment(address), [true, false, false, false, true]);
    }

    let output = import(&site, &["mosquitto.conf", "--out", "etc"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    for words in [
        "Wrote etc/hub.toml",
        "Wrote etc/rumqttd.toml",
        "mosquitto.conf:3: persistence: ",
        "mosquitto.conf:5: log_dest: ",
        "mosquitto.conf:6: user: ",
        "z-bridge.conf:1: connection: bridges",
        "passwd:2: ",
    ] {
        assert!(text.contains(words), "{words} is not in:\n{text}");
    }
    assert!(!text.contains(SECRET) && !text.contains("$7$"), "{text}");
    assert_eq!(fs::metadata(site.file("etc/mosquitto.passwd")).unwrap().mode() & 0o777, 0o600);

    let mut check = site.bare();
    check.args(["check", "--config", "etc/hub.toml"]);
    let effective = said(&check.output().unwrap());
    for line in [
        "session_queue_messages = 50",
        "inflight = 10",
        "session_expiry_s_max = 172800",
        "allow_anonymous = false",
        "level = \"debug\"",
        &format!("listener \"v4-1\": TCP, 127.0.0.1:{port}, packets up to 74632 bytes"),
    ] {
        assert!(effective.contains(line), "{line} is not in:\n{effective}");
    }
    let mut run = site.bare();
    run.args(["run", "--config", "etc/hub.toml", "--http", "", "--pid", "hub.pid", "--ready-file", "ready.json"]);
    let hub = site.start_with(run);
    assert_eq!(hub.mqtt, address);
    assert_eq!(treatment(hub.mqtt), [true, false, false, false, true]);
}

#[test]
fn nothing_that_is_there_is_overwritten_unless_it_is_asked_for() {
    let site = Site::new();
    fs::write(site.file("m.conf"), "listener 1883 127.0.0.1\nallow_anonymous true\n").unwrap();
    fs::write(site.file("hub.toml"), "# mine\n").unwrap();
    let output = import(&site, &["m.conf"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("hub.toml is there already") && said(&output).contains("--force"));
    assert_eq!(fs::read_to_string(site.file("hub.toml")).unwrap(), "# mine\n");
    assert!(!site.file("rumqttd.toml").exists(), "nothing is written by halves");
    assert_eq!(import(&site, &["m.conf", "--force"]).status.code(), Some(0));
    assert!(fs::read_to_string(site.file("hub.toml")).unwrap().contains("allow_anonymous = true"));
}

#[test]
fn a_listener_that_let_nobody_in_lets_nobody_in() {
    let site = Site::new();
    fs::write(site.file("m.conf"), "listener 1883\nplugin /usr/lib/mosquitto_dynamic_security.so\n").unwrap();
    let output = import(&site, &["m.conf"]);
    let text = said(&output);
    assert!(text.contains("m.conf:2: plugin: the hub has no plug-ins") && text.contains("nobody can log in"), "{text}");
    let check = site.bare().arg("check").output().unwrap();
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    let mut run = site.bare();
    run.args(["run", "--listen", "127.0.0.1:0", "--http", "", "--pid", "hub.pid", "--ready-file", "ready.json"]);
    let hub = site.start_with(run);
    assert_eq!(Connect::new(4, "c").refused(hub.mqtt), 5);
    assert_eq!(Connect::new(5, "c").login("a", "b").refused(hub.mqtt), 0x86);
}

#[test]
fn what_cannot_be_read_is_told_with_its_name() {
    let site = Site::new();
    fs::write(site.file("m.conf"), "listener 1883\npassword_file /nowhere/passwd\n").unwrap();
    fs::write(site.file("d.conf"), "include_dir /nowhere\n").unwrap();
    for (conf, words) in [("missing.conf", "missing.conf"), ("m.conf", "/nowhere/passwd"), ("d.conf", "/nowhere")] {
        let output = import(&site, &[conf]);
        assert_eq!(output.status.code(), Some(1), "{conf}");
        assert!(said(&output).contains(&format!("cannot read {words}: ")), "{}", said(&output));
    }
    assert!(!site.file("hub.toml").exists());
}
