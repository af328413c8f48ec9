//! Configuration from outside: `check`, wrong files, wrong flags, the environment, and who may be let in.
//!
//! Owns the exit codes 0 and 2 of `check` and `run`. How keys are parsed is tested beside the parser.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::process::{Command, Output};

use support::mqtt::Connect;
use support::tls::Authority;
use support::{SOON, Site};

const SEVERAL_ERRORS: &str = r#"
colour = "blue"
[store]
synchronous = "sometimes"
batch_max = "many"
[health]
interval_s = -1
[stats]
intervall_s = 3
[[ingest.route]]
kind = "seismic"
level = "a/b"
"#;

fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    format!("{stdout}{}", String::from_utf8_lossy(&output.stderr))
}

/// Runs both `check` and `run`, which must end alike.
fn both(site: &Site, change: impl Fn(&mut Command)) -> [(i32, String); 2] {
    [site.command("check"), site.run_command()].map(|mut command| {
        change(&mut command);
        let output = site.refused(command, SOON);
        (output.status.code().unwrap(), said(&output))
    })
}

#[test]
fn all_errors_of_a_file_are_told_at_once_with_their_keys() {
    let site = Site::with_config(SEVERAL_ERRORS);
    for (code, said) in both(&site, |_| {}) {
        assert_eq!(code, 2, "{said}");
        for key in [
            "colour",
            "store.synchronous",
            "store.batch_max",
            "health.interval_s",
            "stats.intervall_s",
            "kind",
            "level",
        ] {
            assert!(said.contains(key), "{key} is not in:\n{said}");
        }
    }
    assert!(!site.db().exists() && !site.file("hub.pid").exists(), "nothing was touched");
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_name() {
    let site = Site::with_config("[store\npath = ");
    for (code, said) in both(&site, |_| {}) {
        assert_eq!(code, 2, "{said}");
        assert!(said.contains("hub.toml"), "{said}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_name() {
    let site = Site::new();
    fs::create_dir(site.file("folder.toml")).unwrap();
    fs::write(site.file("latin1.toml"), b"[station]\nname = \"\xe9t\xe9\"\n").unwrap();
    for name in ["folder.toml", "latin1.toml", "missing.toml"] {
        for (code, said) in both(&site, |command| {
            command.arg("--config").arg(site.file(name));
        }) {
            assert_eq!(code, 2, "{said}");
            assert!(said.contains(name), "{said}");
        }
    }
}

#[test]
fn check_prints_the_effective_configuration() {
    let site = Site::with_config("[stats]\ninterval_s = 77\n");
    let output = site.refused(site.command("check"), SOON);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let effective = String::from_utf8_lossy(&output.stdout);
    for word in ["77", "synchronous = \"full\"", "weather_data.db"] {
        assert!(effective.contains(word), "{word} is not in:\n{effective}");
    }
    assert!(!site.db().exists(), "check touches nothing");

    // What it prints is itself a configuration, and means the same.
    fs::write(site.file("again.toml"), effective.as_bytes()).unwrap();
    let mut again = site.bare();
    again.args(["check", "--config"]).arg(site.file("again.toml"));
    let output = site.refused(again, SOON);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8_lossy(&output.stdout), effective);
}

#[test]
fn the_environment_overrides_the_file_and_flags_override_both() {
    let site = Site::with_config("[store]\npath = \"from-file.db\"\n[stats]\ninterval_s = 77\n");
    let check = |flags: &[&str]| {
        let mut command = site.bare();
        command.arg("check").env("STATIONHUB_STORE__PATH", "from-environment.db").args(flags);
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = check(&[]);
    assert!(text.contains("from-environment.db") && text.contains("77"), "{text}");
    assert!(!text.contains("from-file.db"), "{text}");
    let text = check(&["--db", "from-flag.db"]);
    assert!(text.contains("from-flag.db") && !text.contains("from-environment.db"), "{text}");
}

#[test]
fn an_unknown_variable_of_the_hubs_is_an_error() {
    let site = Site::new();
    for (code, said) in both(&site, |command| {
        command.env("STATIONHUB_STORE__COLOUR", "blue");
    }) {
        assert_eq!(code, 2, "{said}");
        assert!(said.to_lowercase().contains("colour"), "{said}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let site = Site::new();
    let wrong: [&[&str]; 7] = [
        &["--nonsense"],
        &["run", "--nonsense"],
        &["nonsense"],
        &["run", "--listen", "nonsense"],
        &["run", "--listen"],
        &["simulate", "--qos", "3"],
        &["quarantine"],
    ];
    for arguments in wrong {
        let mut command = site.bare();
        command.args(arguments);
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
    let mut help = site.bare();
    help.arg("--help");
    let output = site.refused(help, SOON);
    assert_eq!(output.status.code(), Some(0));
    assert!(said(&output).contains("simulate"));
}

#[test]
fn a_listener_that_others_can_reach_needs_users_or_a_word_of_consent() {
    let site = Site::new();
    for name in ["check", "run"] {
        let mut command = site.command(name);
        command.args(["--listen", "0.0.0.0:0", "--http", "127.0.0.1:0"]);
        let output = site.refused(command, SOON);
        assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
        assert!(said(&output).contains("allow_anonymous"), "{name}: {output:?}");
    }
    let site = Site::with_config("[broker]\nallow_anonymous = true\n");
    let mut command = site.command("run");
    command.args(["--listen", "0.0.0.0:0", "--http", "127.0.0.1:0"]);
    command.arg("--pid").arg(site.file("hub.pid"));
    command.arg("--ready-file").arg(site.file("ready.json"));
    let hub = site.start_with(command);
    let address = ([127, 0, 0, 1], hub.mqtt.port()).into();
    Connect::new(4, "welcome").open(address).ping();
}

#[test]
fn relative_paths_are_relative_to_the_file_and_run_is_the_default_command() {
    let site = Site::new();
    fs::create_dir(site.file("etc")).unwrap();
    fs::write(site.file("etc/hub.toml"), "[store]\npath = \"../data.db\"\n").unwrap();
    let mut command = site.bare();
    command.arg("--config").arg(site.file("etc/hub.toml"));
    command.args(["--listen", "127.0.0.1:0", "--http", ""]);
    command.arg("--pid").arg(site.file("hub.pid"));
    command.arg("--ready-file").arg(site.file("ready.json"));
    let hub = site.start_with(command);
    assert!(site.file("data.db").exists());
    assert!(hub.stop().success());
}

#[test]
fn the_payload_limit_is_the_configured_one() {
    let site = Site::with_config("[ingest]\npayload_bytes_max = 256\n");
    let hub = site.start();
    let mut client = Connect::new(4, "sensor").open(hub.mqtt);
    let reading = |length: usize| format!("{:<length$}", r#"{"utc":1759479845}"#).into_bytes();
    client.publish_through("weathermeters", &reading(256), 1);
    client.publish_through("weathermeters", &reading(257), 1);
    assert_eq!(site.weather_count(), 1);
    assert_eq!(site.number("SELECT length(payload) FROM quarantine"), 257);
}

#[test]
fn check_shows_the_bridge_with_its_password_masked_and_tells_of_its_own_messages_coming_back() {
    let site = Site::with_config("[bridge]\nurl = \"mqtt://up.example\"\nprotocol = 4\nusername = \"me\"\n");
    let check = |subscribe: &str| {
        let mut command = site.command("check");
        command.env("STATIONHUB_BRIDGE__PASSWORD", "secret-word").env("STATIONHUB_BRIDGE__SUBSCRIBE", subscribe);
        said(&site.refused(command, SOON))
    };
    let text = check("down/#,stations/#");
    for word in
        ["url = \"mqtt://up.example:1883\"", "# password = \"***\"", "warning: bridge.subscribe: \"stations/#\""]
    {
        assert!(text.contains(word), "{word} is not in:\n{text}");
    }
    assert!(!text.contains("secret-word"), "{text}");
    let text = check("a#");
    assert!(text.contains("environment STATIONHUB_BRIDGE__SUBSCRIBE: bridge.subscribe: each must be"), "{text}");
}

#[test]
fn without_a_ca_the_upstream_is_trusted_as_the_system_says_and_a_system_without_any_is_told() {
    let site = Site::with_config("[bridge]\nurl = \"mqtts://up.example\"\n");
    fs::write(site.file("ca.pem"), Authority::new("the system's").pem()).unwrap();
    let check = |file: &str| {
        let mut command = site.command("check");
        command.env("SSL_CERT_FILE", site.file(file)).env("SSL_CERT_DIR", site.file("nowhere"));
        let output = site.refused(command, SOON);
        (output.status.code(), said(&output))
    };
    let (code, text) = check("ca.pem");
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = check("missing.pem");
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("bridge.ca: the system has no trusted certificate authorities"), "{text}");
}
