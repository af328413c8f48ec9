//! The page on fleets: a hub with its `hub.toml` against servers with the files of `deploy/upstream`, as they stand but for
//! their paths and ports.
//!
//! Owns the proof that these files work together, logins, certificates and access rules included.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::bridged::{wait_connected, wait_drained};
use support::feeder::readings;
use support::mqtt::Connect;
use support::tls::Authority;
use support::upstream::{Upstream, free_port};
use support::{PATIENTLY, Site, program, wait_for};

const PASSWORDS: [(&str, &str); 3] = [("north", "n0rth"), ("south", "s0uth"), ("collector", "c0llector")];

/// Returns a file of `deploy/upstream`.
fn deployed(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/upstream").join(name)).unwrap()
}

/// Returns the page's `hub.toml`, for an upstream at this address, in a site with the files that it names.
fn hub_of_the_page(upstream: SocketAddr, authority: &Authority, more: &str) -> Site {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scale-out.md")).unwrap();
    let block = page.split("```toml\n").nth(1).expect("a block").split("```").next().expect("its end");
    let text = block.replace("mqtts://fleet.example", &format!("mqtts://{upstream}"));
    assert_ne!(text, block, "the page names its upstream");
    let site = Site::with_config(&format!("{text}reconnect_s_max = 1\n{more}"));
    fs::write(site.file("ca.crt"), authority.pem()).unwrap();
    fs::write(site.file("north.password"), "n0rth\n").unwrap();
    site
}

/// Puts the server's certificate and the passwords where its configuration finds them.
fn keys(dir: &Path, authority: &Authority) {
    let identity = authority.issue("fleet");
    fs::write(dir.join("server.crt"), &identity.certificate).unwrap();
    fs::write(dir.join("server.key"), &identity.key).unwrap();
    fs::write(dir.join("ca.crt"), authority.pem()).unwrap();
    for (name, password) in PASSWORDS {
        fs::write(dir.join(format!("{name}.password")), format!("{password}\n")).unwrap();
    }
}

/// A real client of the fleet's, by TLS and with a login.
struct Client {
    child: Child,
    output: PathBuf,
}

impl Client {
    fn command(name: &str, upstream: &Upstream, version: &str) -> Option<Command> {
        let mut command = program(name)?;
        command.args(["-h", "127.0.0.1", "-p", &upstream.address.port().to_string(), "-V", version, "-q", "1"]);
        command.arg("--cafile").arg(upstream.file("ca.crt")).args(["-u", "collector", "-P", "c0llector"]);
        Some(command)
    }

    fn subscribe(upstream: &Upstream, version: &str) -> Option<Client> {
        let mut command = Client::command("mosquitto_sub", upstream, version)?;
        let output = upstream.file("collected");
        let file = fs::File::create(&output).unwrap();
        command.args(["-i", "collected", "-c", "-t", "stations/#", "-v"]).stdout(file).stdin(Stdio::null());
        Some(Client { child: command.spawn().unwrap(), output })
    }

    fn lines(&self) -> usize {
        fs::read_to_string(&self.output).unwrap().lines().filter(|line| line.starts_with("stations/north/")).count()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Sends readings up and a command down.
fn up_and_down(upstream: &Upstream, authority: &Authority, version: &str, more: &str) {
    let Some(client) = Client::subscribe(upstream, version) else { return };
    let site = hub_of_the_page(upstream.address, authority, more);
    let hub = site.start();
    wait_connected(&site);
    readings(hub.mqtt, 1, 0..100);
    wait_drained(&site, PATIENTLY);
    wait_for("the readings", PATIENTLY, || {
        // What came before the collector had subscribed went to nobody.
        readings(hub.mqtt, 2, 0..1);
        client.lines() >= 1
    });
    let before = client.lines();
    readings(hub.mqtt, 3, 0..100);
    wait_for("all readings", PATIENTLY, || client.lines() >= before + 100);

    let mut local = Connect::new(4, "valve").open(hub.mqtt);
    local.subscribe("commands/#", 0);
    let mut publish = Client::command("mosquitto_pub", upstream, version).unwrap();
    publish.args(["-t", "commands/north/valve", "-m", "open"]);
    assert!(publish.status().unwrap().success());
    let message = local.receive();
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("commands/north/valve", &b"open"[..]));
}

#[test]
fn mosquitto_as_the_page_sets_it_up_takes_readings_and_gives_commands() {
    let (Some(server), Some(passwd)) = (program("mosquitto"), program("mosquitto_passwd")) else { return };
    let authority = Authority::new("authority");
    let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
    keys(dir.path(), &authority);
    let home = dir.path().display().to_string();
    fs::write(dir.path().join("acl"), deployed("mosquitto.acl")).unwrap();
    fs::write(dir.path().join("passwd"), "").unwrap();
    for (name, password) in PASSWORDS {
        let mut add = Command::new(passwd.get_program());
        assert!(add.arg("-b").arg(dir.path().join("passwd")).args([name, password]).status().unwrap().success());
    }
    let text = deployed("mosquitto.conf")
        .replace("listener 8883", &format!("listener {port} 127.0.0.1"))
        .replace("/etc/mosquitto/certs/", &format!("{home}/"))
        .replace("/etc/mosquitto/", &format!("{home}/"))
        .replace("/var/lib/mosquitto/", &format!("{home}/"));
    // Started as root, it would become another user, who may not read this directory.
    fs::write(dir.path().join("server.conf"), format!("{text}\nuser root\n")).unwrap();
    let upstream = Upstream::of_files(dir, &server, "server.conf", port);
    up_and_down(&upstream, &authority, "mqttv5", "");
}

#[test]
fn nats_as_the_page_sets_it_up_takes_readings_and_gives_commands() {
    let Some(server) = program("nats-server") else { return };
    let authority = Authority::new("authority");
    let (dir, port, own) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    keys(dir.path(), &authority);
    let home = dir.path().display().to_string();
    fs::write(dir.path().join("nats-users.sh"), deployed("nats-users.sh")).unwrap();
    let mut users = Command::new("sh");
    users.args(["nats-users.sh", "north", "south"]).current_dir(dir.path()).env("PATH", "/usr/bin:/bin");
    let users = users.output().unwrap();
    if !users.status.success() && std::env::var_os("CI").is_none() {
        eprintln!("skipped: nats-users.sh needs Debian's python3");
        return;
    }
    assert!(users.status.success(), "{}", String::from_utf8_lossy(&users.stderr));
    fs::create_dir(dir.path().join("nats")).unwrap();
    fs::write(dir.path().join("nats/users.conf"), users.stdout).unwrap();
    let text = deployed("nats-server.conf")
        .replace("0.0.0.0:8883", &format!("127.0.0.1:{port}"))
        .replace("127.0.0.1:4222", &format!("127.0.0.1:{own}"))
        .replace("/etc/nats/", &format!("{home}/"))
        .replace("/var/lib/nats", &format!("{home}/store"));
    fs::write(dir.path().join("server.conf"), text).unwrap();
    let upstream = Upstream::of_files(dir, &server, "server.conf", port);
    up_and_down(&upstream, &authority, "mqttv311", "protocol = 4\n");
}
