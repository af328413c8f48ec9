//! Users and rights from outside: who is let in, what happens to those who are not, and what is never told.
//!
//! Owns logins and the promises about secrets. What each rule means is in `acl_table.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::mqtt::{Client, Connect, Packet};
use support::sensor::weather;
use support::users::{add, passwd};
use support::{Hub, SOON, Signal, Site, program, set_mode, wait_for};

const VERSIONS: [u8; 2] = [4, 5];
const SECRET: &str = "hunter2-Ωmega";
const WRONG: &str = "swordfish-wrong";

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A site with `users = "users"` and one user, `sensor`.
fn site_with_user(more: &str) -> Site {
    let site = Site::with_config(&format!("[broker]\nusers = \"users\"\n{more}"));
    add(&site, "sensor", SECRET);
    site
}

fn figure(site: &Site, name: &str) -> u64 {
    let output = site.command("status").arg("--json").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["figures"][name].as_u64().unwrap()
}

fn knows(hub: &Hub, version: u8, name: &str, password: &str) -> bool {
    Connect::new(version, "c").login(name, password).try_open(hub.mqtt).is_ok()
}

#[test]
fn only_the_right_name_and_password_get_in() {
    let site = site_with_user("");
    for version in VERSIONS {
        // Each a new hub, which does not remember the failures.
        let hub = site.start();
        let codes = if version == 5 { [0x86, 0x87] } else { [4, 5] };
        Connect::new(version, "good").login("sensor", SECRET).open(hub.mqtt).ping();
        for (name, password) in [("sensor", WRONG), ("Sensor", SECRET), ("", SECRET)] {
            assert_eq!(Connect::new(version, "bad").login(name, password).refused(hub.mqtt), codes[0], "{name:?}");
        }
        let mut without_password = Connect::new(version, "bad").login("sensor", "");
        without_password.password = None;
        assert_eq!(without_password.refused(hub.mqtt), codes[0]);
        assert_eq!(Connect::new(version, "nameless").refused(hub.mqtt), codes[1]);
        assert_eq!(figure(&site, "logins_refused"), 5);
        assert!(
            !hub.said_since(0, &["a client was refused: its password is wrong", "client bad, user sensor"]).is_empty()
        );
    }
}

#[test]
fn mosquittos_password_files_are_read_as_they_are() {
    let site = Site::with_config("[broker]\nusers = \"users\"\npassword_file = \"passwords\"\n");
    add(&site, "own", SECRET);
    fs::write(site.file("passwords"), "").unwrap();
    for (user, kind) in [("seven", "sha512-pbkdf2"), ("six", "sha512")] {
        let Some(mut command) = program("mosquitto_passwd") else { return };
        let status =
            command.args(["-H", kind, "-b"]).arg(site.file("passwords")).args([user, SECRET]).status().unwrap();
        assert!(status.success());
    }
    let text = fs::read_to_string(site.file("passwords")).unwrap();
    assert!(text.contains("seven:$7$") && text.contains("six:$6$"), "{text}");
    fs::write(site.file("passwords"), format!("# made by mosquitto_passwd\n\n{text}")).unwrap();
    let hub = site.start();
    for version in ["311", "5"] {
        for (user, password, works) in
            [("own", SECRET, true), ("seven", SECRET, true), ("six", SECRET, true), ("six", WRONG, false)]
        {
            let Some(mut publish) = program("mosquitto_pub") else { return };
            publish.args(["-h", "127.0.0.1", "-p", &hub.mqtt.port().to_string(), "-V", version]);
            publish.args(["-u", user, "-P", password, "-t", "weathermeters", "-q", "1", "-m", "{}"]);
            let output = publish.output().unwrap();
            assert_eq!(output.status.success(), works, "{user} {version}: {output:?}");
        }
    }
    assert_eq!(site.number("SELECT count(*) FROM weather_data"), 6);
}

#[test]
fn clients_without_a_name_are_let_in_where_it_is_allowed() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        Connect::new(version, "a").open(hub.mqtt).ping();
        // Without users nobody is asked, whatever a client says.
        Connect::new(version, "b").login("anybody", WRONG).open(hub.mqtt).ping();
    }
    drop(hub);
    let site = site_with_user("allow_anonymous = true\n");
    let hub = site.start();
    for version in VERSIONS {
        Connect::new(version, "a").open(hub.mqtt).ping();
        assert!(knows(&hub, version, "sensor", SECRET) && !knows(&hub, version, "sensor", WRONG));
    }
}

#[test]
fn users_permit_a_listener_that_others_can_reach() {
    let site = site_with_user("");
    let mut command = site.command("check");
    command.args(["--listen", "0.0.0.0:1883"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let effective = String::from_utf8_lossy(&output.stdout);
    assert!(effective.contains(&format!("users = \"{}\"", site.file("users").display())), "{effective}");
}

#[test]
fn wrong_files_are_configuration_errors_with_their_line_and_without_their_hashes() {
    let site = Site::with_config("[broker]\nusers = \"users\"\npassword_file = \"passwords\"\nacl_file = \"acl\"\n");
    fs::write(site.file("passwords"), format!("# ours\nplain:{SECRET}\n")).unwrap();
    fs::write(site.file("acl"), "topic read a\ntopic read a/#/b\n").unwrap();
    for command in [site.command("check"), site.run_command()] {
        let output = site.refused(command, SOON);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for words in
            ["users: broker.users: cannot be read", "passwords:2: broker.password_file", "acl:2: broker.acl_file"]
        {
            assert!(text.contains(words), "{words} is not in:\n{text}");
        }
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[test]
fn a_denied_reading_is_neither_stored_nor_quarantined_but_counted_and_told() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic write garden/weathermeters\ntopic read #\n").unwrap();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "c").login("sensor", SECRET).open(hub.mqtt);
        assert_eq!(client.subscribe("#", 1), 1);
        for (qos, id) in [(0, 0), (1, 1), (2, 2)] {
            client.publish("house/weathermeters", &weather(1, id.into()), qos, id, false);
            client.publish("house/weathermeters", b"garbage", qos, id + u16::from(qos > 0) * 2, false);
        }
        let reason = if version == 5 { 0x87 } else { 0 };
        for id in [1, 3] {
            assert_eq!(client.read(SOON).unwrap(), Packet::PubAck { id, reason });
        }
        for id in [2, 4] {
            assert_eq!(client.read(SOON).unwrap(), Packet::PubRec { id, reason });
        }
        if version == 4 {
            client.pubrel(2);
            client.pubrel(4);
        }
        // The session is not harmed, and what is allowed is stored.
        client.publish_through("garden/weathermeters", &weather(1, version.into()), 2);
        assert_eq!(client.receive().topic, "garden/weathermeters");
    }
    assert_eq!(site.weather_count(), 2);
    assert_eq!(site.number("SELECT count(*) FROM quarantine"), 0);
    assert_eq!(figure(&site, "denied"), 12);
    hub.wait_said(0, &["a publish was denied", "user=sensor", "house/weathermeters"], SOON);
    assert!(hub.said_since(0, &["a publish was denied"]).len() <= 5, "the lines are limited");
}

#[test]
fn a_denied_subscription_says_so_and_the_others_of_its_packet_stand() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic read garden/#\ntopic write #\n").unwrap();
    let hub = site.start();
    for version in VERSIONS {
        let mut client = Connect::new(version, "c").login("sensor", SECRET).open(hub.mqtt);
        let denied = if version == 5 { 0x87 } else { 0x80 };
        assert_eq!(client.subscribe("house/#", 0), denied);
        assert_eq!(client.subscribe("+/lamp", 1), 1);
        client.publish_through("house/lamp", b"secret", 1);
        client.publish_through("garden/lamp", b"mine", 1);
        assert_eq!(client.receive().topic, "garden/lamp", "a wider subscription leaks nothing");
    }
}

#[test]
fn retained_messages_are_not_leaked_by_a_wider_subscription() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic read garden/#\nuser cook\ntopic readwrite #\n").unwrap();
    add(&site, "cook", SECRET);
    let hub = site.start();
    let mut cook = Connect::new(4, "cook").login("cook", SECRET).open(hub.mqtt);
    for topic in ["garden/a", "house/b"] {
        let mut packet = support::mqtt::publish(4, topic.as_bytes(), b"kept", 1, 1, false);
        packet[0] |= 1;
        cook.send(&packet).unwrap();
        cook.expect_puback(1);
    }
    let mut sensor = Connect::new(4, "sensor").login("sensor", SECRET).open(hub.mqtt);
    assert_eq!(sensor.subscribe("#", 1), 1);
    assert_eq!(sensor.receive().topic, "garden/a");
    cook.publish_through("garden/end", b"", 1);
    assert_eq!(sensor.receive().topic, "garden/end");
}

#[test]
fn a_session_that_another_user_takes_up_hands_out_nothing_that_the_user_may_not_read() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic readwrite #\nuser guest\ntopic read public/#\n").unwrap();
    add(&site, "guest", SECRET);
    let hub = site.start();
    for version in VERSIONS {
        let id = format!("shared-{version}");
        let session = |user: &str| Connect::new(version, &id).persistent().login(user, SECRET).open(hub.mqtt);
        let mut first = session("sensor");
        assert_eq!(first.subscribe("#", 1), 1);
        first.publish("private/a", b"in flight", 1, 9, false);
        // Delivered, and not acknowledged by the time the other comes.
        wait_for("the delivery", SOON, || matches!(first.read(SOON), Ok(Packet::Publish(_))));
        first.cut();
        let mut other = Connect::new(version, "other").login("sensor", SECRET).open(hub.mqtt);
        other.publish_through("private/b", b"waiting", 1);
        other.publish_through("public/c", b"for all", 1);
        let mut guest = session("guest");
        assert!(guest.session_present);
        assert_eq!(guest.receive().topic, "public/c");
        other.publish_through("private/d", b"live", 1);
        other.publish_through("public/e", b"for all", 1);
        assert_eq!(guest.receive().topic, "public/e");
    }
}

#[test]
fn a_will_that_may_not_be_published_is_refused_in_mqtt_5_and_dropped_before() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic readwrite a/#\n").unwrap();
    let hub = site.start();
    let will = |version, topic| Connect::new(version, "c").login("sensor", SECRET).will(topic, b"gone", 0);
    let mut watcher = Connect::new(4, "watcher").login("sensor", SECRET).open(hub.mqtt);
    assert_eq!(watcher.subscribe("#", 0), 0);
    assert_eq!(will(5, "b/weathermeters").refused(hub.mqtt), 0x87);
    will(4, "b/weathermeters").open(hub.mqtt).cut();
    will(4, "a/weathermeters").open(hub.mqtt).cut();
    assert_eq!(watcher.receive().topic, "a/weathermeters");
    assert_eq!(figure(&site, "denied"), 2);
    wait_for("the allowed will in quarantine", SOON, || site.number("SELECT count(*) FROM quarantine") == 1);
}

#[test]
fn a_hundred_sensors_that_come_back_at_once_do_not_each_pay_for_a_slow_hash() {
    let site = site_with_user("");
    add(&site, "all", SECRET);
    let hub = site.start();
    let began = Instant::now();
    drop(Connect::new(4, "first").login("sensor", SECRET).open(hub.mqtt));
    let alone = began.elapsed();
    for round in 0..2 {
        let sensors: Vec<Client> = (0..100)
            .map(|number| {
                let mut client = Client::raw(hub.mqtt, 4).unwrap();
                let connect = Connect::new(4, &format!("s-{round}-{number}")).login("all", SECRET);
                client.send(&connect.bytes()).unwrap();
                client
            })
            .collect();
        let began = Instant::now();
        for mut sensor in sensors {
            assert_eq!(sensor.read(SOON).unwrap(), Packet::ConnAck { session_present: false, code: 0 });
        }
        assert!(began.elapsed() < alone * 10 + Duration::from_secs(1), "{:?}, one alone {alone:?}", began.elapsed());
    }
}

#[test]
fn whoever_guesses_waits_longer_each_time_and_others_do_not_wait() {
    let site = site_with_user("");
    let hub = site.start();
    let mut last = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        assert_eq!(Connect::new(4, "guesser").login("sensor", WRONG).refused(hub.mqtt), 4);
        last = began.elapsed();
    }
    assert!(last >= Duration::from_secs(1), "{last:?}");
    // The next refusal takes two seconds; meanwhile the right password gets in, from there and from elsewhere.
    let mut guesser = Client::raw(hub.mqtt, 4).unwrap();
    guesser.send(&Connect::new(4, "guesser").login("sensor", WRONG).bytes()).unwrap();
    assert!(knows(&hub, 5, "sensor", SECRET));
    guesser.assert_silent_for(Duration::from_millis(1));
    if let Some(mut publish) = program("mosquitto_pub") {
        publish.args(["-h", "127.0.0.1", "-A", "127.0.0.2", "-p", &hub.mqtt.port().to_string()]);
        publish.args(["-u", "sensor", "-P", SECRET, "-t", "t", "-m", "x", "-q", "1"]);
        assert!(publish.status().unwrap().success());
    }
    assert_eq!(guesser.read(SOON).unwrap(), Packet::ConnAck { session_present: false, code: 4 });
}

#[test]
fn guesses_in_parallel_are_refused_at_once_beyond_a_few() {
    let site = site_with_user("");
    let hub = site.start();
    let wrong = || Connect::new(4, "guesser").login("sensor", WRONG);
    for _ in 0..3 {
        wrong().refused(hub.mqtt);
    }
    let mut guessers: Vec<Client> = (0..20)
        .map(|_| {
            let mut client = Client::raw(hub.mqtt, 4).unwrap();
            client.send(&wrong().bytes()).unwrap();
            client
        })
        .collect();
    let mut codes = Vec::new();
    for guesser in &mut guessers {
        if let Packet::ConnAck { code, .. } = guesser.read(SOON).unwrap() {
            codes.push(code);
        }
    }
    codes.sort_unstable();
    assert_eq!(codes[..16], [3; 16], "server unavailable");
    assert_eq!(codes[16..], [4; 4]);
}

#[test]
fn no_secret_reaches_a_log_an_output_or_an_error() {
    let site = site_with_user("acl_file = \"acl\"\n[log]\nlevel = \"trace\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic a\n").unwrap();
    let hash = fs::read_to_string(site.file("users")).unwrap();
    let hash = hash.trim().split_once(':').unwrap().1;
    let hub = site.start();
    for version in VERSIONS {
        Connect::new(version, "c").login("sensor", SECRET).open(hub.mqtt).publish_through("b", b"", 0);
        // The second has the password where the name should be. Each refusal takes longer than the last, so they are few.
        let wrong =
            if version == 4 { [("sensor", WRONG), (SECRET, "sensor")] } else { [("nobody", WRONG), ("", SECRET)] };
        for (name, password) in wrong {
            Connect::new(version, "c").login(name, password).refused(hub.mqtt);
        }
        // A CONNECT that is broken after the password.
        let mut broken = Connect::new(version, "c").login("sensor", SECRET).bytes();
        broken[1] += 1;
        broken.push(0);
        let mut client = Client::raw(hub.mqtt, version).unwrap();
        client.send(&broken).unwrap();
        client.expect_closed();
    }
    hub.wait_said(0, &["closed before it began"], SOON);
    let mut told = hub.log() + &said(&site.command("check").output().unwrap());
    told += &said(&site.command("status").output().unwrap());
    told += &said(&passwd(&site, &["list"], ""));
    told += &said(&passwd(&site, &["set", "sensor"], &format!("{SECRET}\n")));
    assert!(hub.stop().success());
    told += &fs::read_to_string(site.file("output")).unwrap();
    for secret in [SECRET, WRONG, hash] {
        assert!(!told.contains(secret), "{secret} was told:\n{told}");
    }
}

#[test]
fn the_simulated_station_logs_in() {
    let site = site_with_user("");
    let hub = site.start();
    fs::write(site.file("password"), format!("{SECRET}\n")).unwrap();
    let mut simulate = site.bare();
    simulate.args([
        "simulate",
        "--broker",
        &hub.mqtt.to_string(),
        "--qos",
        "1",
        "--count",
        "3",
        "--interval-s",
        "0.01",
    ]);
    simulate.args(["--username", "sensor", "--password-file", "password"]);
    let output = simulate.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(site.weather_count(), 3);
}

#[test]
fn a_file_of_users_that_others_can_read_is_told() {
    let site = site_with_user("");
    set_mode(&site.file("users"), 0o644);
    let hub = site.start();
    hub.wait_said(0, &["WARN", "users: broker.users: everybody on this machine can read it"], SOON);
}

#[test]
fn sighup_reads_users_and_rights_anew_and_a_bad_file_changes_nothing() {
    let site = site_with_user("acl_file = \"acl\"\n");
    fs::write(site.file("acl"), "user sensor\ntopic write open/#\ntopic read #\n").unwrap();
    let hub = site.start();
    let mut sensor = Connect::new(5, "sensor").login("sensor", SECRET).open(hub.mqtt);
    let code = |sensor: &mut Client, topic: &str| {
        let id = sensor.fresh_id();
        sensor.publish(topic, b"x", 1, id, false);
        match sensor.read(SOON).unwrap() {
            Packet::PubAck { reason, .. } => reason & 0x80,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!((code(&mut sensor, "open/x"), code(&mut sensor, "closed/x")), (0, 0x80));

    add(&site, "late", WRONG);
    fs::write(site.file("acl"), "user sensor\ntopic write closed/#\n").unwrap();
    assert!(!knows(&hub, 5, "late", WRONG), "not before it is told to");
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &["users and rights"], SOON);
    assert!(knows(&hub, 5, "late", WRONG));
    assert_eq!(
        (code(&mut sensor, "open/x"), code(&mut sensor, "closed/x")),
        (0x80, 0),
        "of a client that is connected"
    );

    fs::write(site.file("acl"), "nonsense\n").unwrap();
    let mark = hub.log_end();
    hub.signal(Signal::HUP);
    hub.wait_said(mark, &[" error ", "acl"], SOON);
    assert_eq!((code(&mut sensor, "open/x"), code(&mut sensor, "closed/x")), (0x80, 0));
}
