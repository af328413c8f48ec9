//! Access rules: one table of who may do what, held against the rules alone, the running hub and, where it is
//! installed, the real mosquitto with the same files.
//!
//! Owns the proof that an `acl_file` means here what it means there: each verb, each kind of rule, wills and wildcards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use stationhub::broker::auth::acl::Acl;
use support::mqtt::{Client, Connect, Packet};
use support::upstream::free_port;
use support::{SOON, Site, program, wait_for};

const RULES: &str = "\
# Before any user: clients without a name, and nobody else.
topic read public/#
topic deny public/secret
topic write drop/box

user reader
topic read house/#
topic deny house/safe/#
topic house/desk

user writer
topic write house/+/set
topic readwrite own/#

user late
topic read a/#
topic read a/b
topic deny a/b

user system
topic read $test/#
topic read #

user any
topic readwrite #

# The owner's own rule comes before the patterns, so this wins over their denial.
user owner
topic read home/owner/private

user reader
topic read annex/+/light

user god
topic readwrite #
topic readwrite $test/#

pattern read done/%c
pattern readwrite home/%u/#
pattern deny home/%u/private
pattern write clients/%c/state
pattern read mix/%c/%u
pattern write %u
";
const USERS: [&str; 9] = ["reader", "writer", "late", "system", "any", "owner", "god", "nobody", "wild+"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Publishes.
    Write,
    /// Is sent what another publishes, subscribed to the topic itself.
    Read,
    /// Is sent what another publishes, subscribed to `#` (or `$test/#`).
    ReadByWildcard,
    /// Leaves a will.
    Will,
    /// Subscribes; the hub alone, as mosquitto grants every subscription and looks at what it delivers.
    Subscribe,
}
use Act::{Read, ReadByWildcard, Subscribe, Will, Write};

/// Who (empty for no name), client id, what, topic or filter, whether it is allowed.
const TABLE: &[(&str, &str, Act, &str, bool)] = &[
    // Rules before the first user are for clients without a name.
    ("", "c", Read, "public/news", true),
    ("", "c", ReadByWildcard, "public/news", true),
    ("", "c", Read, "public", true),
    ("", "c", Write, "public/news", false),
    ("", "c", Read, "public/secret", false),
    ("", "c", ReadByWildcard, "public/secret", false),
    ("", "c", Write, "drop/box", true),
    ("", "c", Write, "drop/box/x", false),
    ("", "c", Read, "drop/box", false),
    ("", "c", Read, "house/x", false),
    ("reader", "c", Read, "public/news", false),
    ("god", "c", Read, "public/secret", true),
    // read, with a denial inside; readwrite without a word; the same user twice.
    ("reader", "c", Read, "house/x/y", true),
    ("reader", "c", Read, "house", true),
    ("reader", "c", Write, "house/x/y", false),
    ("reader", "c", Read, "house/safe/key", false),
    ("reader", "c", ReadByWildcard, "house/safe/key", false),
    ("reader", "c", Read, "house/safe", false),
    ("reader", "c", Read, "house/safer", true),
    ("reader", "c", Read, "house/desk", true),
    ("reader", "c", Write, "house/desk", true),
    ("reader", "c", Write, "house/safe/key", false),
    ("reader", "c", Read, "annex/hall/light", true),
    ("reader", "c", Read, "annex/light", false),
    ("reader", "c", Read, "House/x", false),
    // write alone, by a wildcard of one level.
    ("writer", "c", Write, "house/hall/set", true),
    ("writer", "c", Write, "house/set", false),
    ("writer", "c", Write, "house/hall/lamp/set", false),
    ("writer", "c", Read, "house/hall/set", false),
    ("writer", "c", ReadByWildcard, "house/hall/set", false),
    ("writer", "c", Write, "own/x", true),
    ("writer", "c", Read, "own/x", true),
    // A denial counts wherever it stands.
    ("late", "c", Read, "a/b", false),
    ("late", "c", Read, "a/c", true),
    // A leading wildcard means no topic that begins with $.
    ("system", "c", ReadByWildcard, "$test/x", true),
    ("any", "c", ReadByWildcard, "$test/x", false),
    ("any", "c", Write, "x/y/z", true),
    ("any", "c", Read, "/", true),
    // Patterns, for those with rules and without.
    ("nobody", "c1", Write, "home/nobody/x", true),
    ("nobody", "c1", Read, "home/nobody/x", true),
    ("nobody", "c1", Read, "home/nobody", true),
    ("nobody", "c1", Write, "home/reader/x", false),
    ("nobody", "c1", Read, "home/nobody/private", false),
    ("nobody", "c1", Write, "clients/c1/state", true),
    ("nobody", "c1", Write, "clients/c2/state", false),
    ("nobody", "c1", Read, "clients/c1/state", false),
    ("nobody", "c1", Read, "mix/c1/nobody", true),
    ("nobody", "c1", Read, "mix/nobody/c1", false),
    ("nobody", "c1", Write, "nobody", true),
    ("nobody", "c1", Write, "house/desk", false),
    ("reader", "c1", Write, "home/reader/x", true),
    ("owner", "c1", Read, "home/owner/private", true),
    ("owner", "c1", Write, "home/owner/private", false),
    // Without a name, patterns with %u do not apply, and %u stays no topic of anybody's.
    ("", "c1", Write, "clients/c1/state", true),
    ("", "c1", Write, "home//x", false),
    ("", "c1", Write, "home/%u/x", false),
    ("", "c1", Write, "%u", false),
    // Names and ids with wildcards would widen a pattern.
    ("nobody", "+", Write, "clients/c2/state", false),
    ("nobody", "+", Write, "home/nobody/x", false),
    ("nobody", "a#", Write, "home/nobody/x", false),
    ("wild+", "c1", Write, "home/wild/x", false),
    ("wild+", "c1", Write, "clients/c1/state", false),
    ("reader", "+", Read, "house/x", true),
    // Wills are publishes.
    ("writer", "c", Will, "house/hall/set", true),
    ("writer", "c", Will, "house/hall/lamp", false),
    ("", "c", Will, "drop/box", true),
    ("", "c", Will, "public/news", false),
    ("nobody", "c1", Will, "clients/c1/state", true),
    ("nobody", "c1", Will, "clients/c2/state", false),
    ("nobody", "c1", Will, "home/nobody/private", false),
    // Subscriptions: granted where something could come of it.
    ("reader", "c", Subscribe, "house/#", true),
    ("reader", "c", Subscribe, "#", true),
    ("reader", "c", Subscribe, "house/safe/#", false),
    ("reader", "c", Subscribe, "house/safe/+", false),
    ("reader", "c", Subscribe, "house/+/key", true),
    ("reader", "c", Subscribe, "garden/#", false),
    ("writer", "c", Subscribe, "house/+/set", false),
    ("writer", "c", Subscribe, "+/x", true),
    ("late", "c", Subscribe, "a/b", false),
    ("system", "c", Subscribe, "$test/+", true),
    ("any", "c", Subscribe, "$test/+", false),
    ("nobody", "c1", Subscribe, "home/+/x", true),
    ("nobody", "c1", Subscribe, "home/reader/x", false),
    ("", "c", Subscribe, "public/secret", false),
    ("", "c", Subscribe, "public/+", true),
    ("", "c", Subscribe, "home/+/x", false),
];

#[test]
fn the_rules_say_what_the_table_says() {
    let acl = Acl::parse(RULES).unwrap();
    for &(user, id, act, topic, allowed) in TABLE {
        let rules = acl.rules(Some(user).filter(|user| !user.is_empty()), id);
        let found = match act {
            Write | Will => rules.may_write(topic),
            Read | ReadByWildcard => rules.may_read(topic),
            Subscribe => rules.may_subscribe(topic),
        };
        assert_eq!(found, allowed, "{user:?} as {id:?}: {act:?} {topic:?}");
    }
}

/// Writes the files for both brokers; false where there is no mosquitto_passwd.
fn write_files(site: &Site) -> bool {
    fs::write(site.file("acl"), RULES).unwrap();
    fs::write(site.file("passwords"), "").unwrap();
    for user in USERS {
        let Some(mut passwd) = program("mosquitto_passwd") else { return false };
        let status = passwd.arg("-b").arg(site.file("passwords")).args([user, "secret"]).status().unwrap();
        assert!(status.success());
    }
    true
}

fn connect(version: u8, user: &str, id: &str) -> Connect {
    let connect = Connect::new(version, id);
    if user.is_empty() { connect } else { connect.login(user, "secret") }
}

/// Returns what a broker makes of a row.
fn outcome(broker: SocketAddr, version: u8, user: &str, id: &str, act: Act, topic: &str) -> bool {
    match act {
        Write => writes(broker, version, user, id, topic),
        Will => leaves_will(broker, version, user, id, topic),
        Read => reads(broker, version, user, id, topic, topic),
        ReadByWildcard if topic.starts_with('$') => reads(broker, version, user, id, topic, "$test/#"),
        ReadByWildcard => reads(broker, version, user, id, topic, "#"),
        Subscribe => connect(version, user, id).open(broker).subscribe(topic, 1) < 0x80,
    }
}

fn god(broker: SocketAddr, filter: &str) -> Client {
    let mut god = connect(5, "god", "god").open(broker);
    assert_eq!(god.subscribe(filter, 0), 0);
    god
}

/// Publishes at each QoS; the answer of MQTT 5 has to agree with what arrives.
fn writes(broker: SocketAddr, version: u8, user: &str, id: &str, topic: &str) -> bool {
    let mut god = god(broker, topic);
    let mut client = connect(version, user, id).open(broker);
    client.publish(topic, b"0", 0, 0, false);
    client.publish(topic, b"1", 1, 7, false);
    let Ok(Packet::PubAck { id: 7, reason: first }) = client.read(SOON) else { panic!("{user} {topic}: no PUBACK") };
    client.publish(topic, b"2", 2, 8, false);
    let Ok(Packet::PubRec { id: 8, reason: second }) = client.read(SOON) else { panic!("{user} {topic}: no PUBREC") };
    if second < 0x80 {
        client.pubrel(8);
    }
    god.publish(topic, b"end", 1, 9, false);
    let mut arrived = Vec::new();
    while arrived.last().is_none_or(|payload| payload != b"end") {
        match god.read(SOON).unwrap() {
            Packet::Publish(message) => arrived.push(message.payload),
            Packet::PubAck { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    let allowed = arrived.len() == 4;
    assert!(allowed || arrived.len() == 1, "all or none: {arrived:?}");
    let expected = if allowed || version < 5 { 0 } else { 0x87 };
    assert_eq!((first, second), (expected, expected), "{user} {topic}");
    allowed
}

fn leaves_will(broker: SocketAddr, version: u8, user: &str, id: &str, topic: &str) -> bool {
    let mut god = god(broker, topic);
    let will = connect(version, user, id).will(topic, b"will", 0);
    let client = match will.try_open(broker) {
        Ok(client) => client,
        Err(error) => {
            assert!(version == 5 && error.to_string().contains("code: 135"), "{user} {topic}: {error}");
            return false;
        }
    };
    // When its successor is let in, the will has been published.
    let successor = connect(version, user, id).open(broker);
    god.publish(topic, b"end", 0, 0, false);
    let first = god.receive().payload;
    drop((client, successor));
    first == b"will"
}

fn reads(broker: SocketAddr, version: u8, user: &str, id: &str, topic: &str, filter: &str) -> bool {
    let mut client = connect(version, user, id).open(broker);
    client.subscribe(filter, 1);
    let done = format!("done/{id}");
    let mut god = connect(5, "god", "god").open(broker);
    // Where the id has a wildcard no pattern is for it, so it waits for another sign.
    let sign = if id.contains(['+', '#']) { "house/end" } else { done.as_str() };
    client.subscribe(sign, 1);
    god.publish_through(topic, b"news", 1);
    god.publish_through(sign, b"end", 1);
    let first = client.receive();
    assert!(first.topic == topic || first.topic == sign, "{first:?}");
    first.topic == topic
}

fn hold_against(broker: SocketAddr, version: u8, skips: impl Fn(Act, u8) -> bool) {
    for &(user, id, act, topic, allowed) in TABLE {
        if !skips(act, version) {
            let found = outcome(broker, version, user, id, act, topic);
            assert_eq!(found, allowed, "MQTT level {version}, {user:?} as {id:?}: {act:?} {topic:?}");
        }
    }
}

#[test]
fn the_hub_does_what_the_table_says() {
    let site =
        Site::with_config("[broker]\nallow_anonymous = true\npassword_file = \"passwords\"\nacl_file = \"acl\"\n");
    if !write_files(&site) {
        return;
    }
    let hub = site.start();
    for version in [4, 5] {
        hold_against(hub.mqtt, version, |_, _| false);
    }
}

/// A child that does not outlive its test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

fn start_mosquitto(mut mosquitto: Command, conf: &Path, port: u16) -> (Guarded, SocketAddr) {
    mosquitto.arg("-c").arg(conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = Guarded(mosquitto.spawn().unwrap());
    let address = ([127, 0, 0, 1], port).into();
    wait_for("mosquitto to listen", SOON, || TcpStream::connect(address).is_ok());
    (child, address)
}

#[test]
fn mosquitto_does_what_the_table_says() {
    let Some(mosquitto) = program("mosquitto") else { return };
    let site = Site::new();
    if !write_files(&site) {
        return;
    }
    let port = free_port();
    let conf = format!(
        "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npassword_file {}\nacl_file {}\n",
        site.file("passwords").display(),
        site.file("acl").display()
    );
    fs::write(site.file("mosquitto.conf"), conf).unwrap();
    let (_child, address) = start_mosquitto(mosquitto, &site.file("mosquitto.conf"), port);
    // It grants every subscription.
    hold_against(address, 4, |act, _| act == Subscribe);
    hold_against(address, 5, |act, _| act == Subscribe);
}
