//! Alerts over a restart, a crash, and other rules: nothing is told twice and nothing is lost.
//!
//! Owns promise 7 as far as an end of the hub or of a rule goes. What is told while it runs is `alerts_webhook.rs`'s.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use support::alerts::{Sensor, done, expect, site};
use support::mqtt::Connect;
use support::webhook::{Mood, Webhook};
use support::{Dice, PATIENTLY, SOON, Signal, wait_for};

#[test]
fn kill_9_in_the_middle_neither_loses_a_message_nor_sends_it_twice() {
    let hook = Webhook::start(Mood::Fails);
    let site = site(&hook, "");
    let hub = site.start();
    Sensor::new(&hub).says(-1.0);
    hook.wait_tried(1, SOON);
    hub.kill_9();

    // Told, but not delivered: the next run delivers it.
    hook.is_now(Mood::Takes);
    let hub = site.start();
    expect(&hook, &[":firing"]);
    wait_for("the mark", SOON, || done(&site) == 1);
    hub.kill_9();

    // Delivered: the next run does not tell it again, also where it is still cold.
    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    sensor.says(-2.0);
    sensor.says(1.0);
    let ids = expect(&hook, &[":firing", ":resolved"]);
    wait_for("the mark", SOON, || done(&site) == 2);
    hub.kill_9();

    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    sensor.says(1.0);
    sensor.says(-3.0);
    let next = expect(&hook, &[":firing", ":resolved", ":firing"]);
    assert_eq!(next[..2], ids[..]);
    assert_eq!(site.number("SELECT count(DISTINCT id) FROM alert_episode"), 2);
    assert!(hub.stop().success());
}

#[test]
fn kill_9_at_any_moment_loses_no_message_and_a_second_copy_has_the_same_id() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let mut dice = Dice::new();
    for round in 0..8 {
        let hub = site.start();
        let mut sensor = Sensor::new(&hub);
        for temperature in [-1.0, 1.0, -1.0, 1.0] {
            sensor.says(if round % 2 == 0 { temperature } else { -temperature });
        }
        support::wait_for_a_moment(&mut dice, 20_000);
        hub.kill_9();
    }
    let hub = site.start();
    Sensor::new(&hub).says(1.0);
    let untold = "SELECT count(*) FROM alert_notice WHERE outcome IS NULL";
    wait_for("the last marks", PATIENTLY, || site.number(untold) == 0);
    let open = "SELECT count(*) FROM alert_episode WHERE resolved_ms IS NULL";
    wait_for("the end of the last episode", SOON, || site.number(open) == 0);
    wait_for("the last marks", PATIENTLY, || site.number(untold) == 0);
    let told: HashSet<String> = hook.ids().into_iter().collect();
    let episodes = site.rows("SELECT id FROM alert_episode");
    assert!(!episodes.is_empty());
    for episode in &episodes {
        let rusqlite::types::Value::Integer(id) = episode[0] else { panic!("{episode:?}") };
        for what in ["firing", "resolved"] {
            assert!(told.contains(&format!("farm:frost:{id}:{what}")), "{id}:{what} is missing of {told:?}");
        }
    }
    assert_eq!(told.len(), 2 * episodes.len(), "an episode that nobody knows of was told");
    assert!(hook.ids().len() <= told.len() + 2 * 8, "{:?}", hook.ids());
}

#[test]
fn no_message_is_sent_before_it_would_survive_a_crash() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    for round in 0..5 {
        let mut command = site.run_command_on_a_bad_disk();
        command.env("SLOWSYNC_MS", "200");
        let hub = site.start_with(command);
        // The disk is busy with readings of another sensor, so that nothing gets there at once.
        let address = hub.mqtt;
        let other = std::thread::spawn(move || {
            let mut other = Connect::new(4, "other").open(address);
            let message = support::packet::publish(4, b"attic/weathermeters", b"{\"temperature\":20}", 0, 0, false);
            while other.send(&message).is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        // What the last crash left unmarked comes first.
        let unmarked = "SELECT count(*) FROM alert_notice WHERE done_ms IS NULL";
        wait_for("the marks", PATIENTLY, || site.number(unmarked) == 0);
        let told = hook.taken().len();
        let temperature = if round % 2 == 0 { -1.0 } else { 1.0 };
        Sensor::new(&hub).says(temperature);
        wait_for("the message", PATIENTLY, || hook.taken().len() > told);
        hub.kill_9();
        other.join().unwrap();
        let known: HashSet<i64> = site
            .rows("SELECT id FROM alert_episode")
            .into_iter()
            .map(|row| match row[0] {
                rusqlite::types::Value::Integer(id) => id,
                ref other => panic!("{other:?}"),
            })
            .collect();
        for id in hook.ids() {
            let episode = id.split(':').nth(2).unwrap().parse().unwrap();
            assert!(known.contains(&episode), "{id} was sent and is not in the database: {known:?}");
        }
    }
}

#[test]
fn what_a_rule_told_is_over_when_the_rule_is_gone() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let hub = site.start();
    Sensor::new(&hub).says(-1.0);
    expect(&hook, &[":firing"]);
    assert!(hub.stop().success());
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    fs::write(site.file("hub.toml"), config.replace("\"frost\"", "\"ice\"")).unwrap();
    let hub = site.start();
    let ids = expect(&hook, &[":firing", ":resolved"]);
    assert!(ids.iter().all(|id| id.starts_with("farm:frost:")), "{ids:?}");
    assert!(hook.taken()[1].body.contains("no rule tells of it any more"));
    Sensor::new(&hub).says(-1.0);
    let ids = expect(&hook, &[":firing", ":resolved", ":firing"]);
    assert!(ids[2].starts_with("farm:ice:"), "{ids:?}");
}

#[test]
fn rules_are_read_anew_on_sighup_and_a_wrong_file_leaves_the_old_ones_in_force() {
    let hook = Webhook::start(Mood::Takes);
    let site = site(&hook, "");
    let config = fs::read_to_string(site.file("hub.toml")).unwrap();
    let hub = site.start();
    let mut sensor = Sensor::new(&hub);
    sensor.says(-1.0);
    expect(&hook, &[":firing"]);
    let read_anew = |text: String, words: &[&str]| {
        fs::write(site.file("hub.toml"), text).unwrap();
        let mark = hub.log_end();
        hub.signal(Signal::HUP);
        hub.wait_said(mark, words, SOON);
    };

    // The same rule with another limit: what it told goes on, and ends by the new one.
    read_anew(config.replace("< 0", "< -10"), &["SIGHUP", "read anew: 1 rule of the alerts"]);
    sensor.says(-5.0);
    expect(&hook, &[":firing", ":resolved"]);

    read_anew(config.replace("temperature < 0", "cold < 0"), &["SIGHUP", "alerts.rule[0].when: must be a quantity"]);
    read_anew(config.replace("timeout_s = 1", "timeout_s = 2"), &["SIGHUP", "alerts.channel has changed"]);
    sensor.says(-11.0);
    expect(&hook, &[":firing", ":resolved", ":firing"]);

    // Another rule, and the old one is gone.
    read_anew(config.replace("\"frost\"", "\"ice\""), &["SIGHUP", "read anew: 1 rule of the alerts"]);
    expect(&hook, &[":firing", ":resolved", ":firing", ":resolved"]);
    sensor.says(-1.0);
    let ids = expect(&hook, &[":firing", ":resolved", ":firing", ":resolved", ":firing"]);
    assert!(ids[4].starts_with("farm:ice:"), "{ids:?}");
    assert!(hub.said_since(0, &["alerts.rule:", "needs a restart"]).is_empty(), "it took effect at once");
}
