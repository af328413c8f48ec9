//! Tests of section `[bridge]`.

use std::fs;
use std::time::Duration;

use super::{Case, EXAMPLE, same};
use crate::config::{Password, Protocol};

/// Returns the section with an upstream and further lines.
fn section(lines: &str) -> Case {
    Case::new(&format!("[station]\nname = \"farm\"\n[bridge]\nurl = \"mqtt://up.example\"\n{lines}\n"))
}

/// Returns the only error of a section with an upstream and one further line.
fn error(line: &str) -> String {
    let errors = section(line).errors();
    assert_eq!(errors.len(), 1, "{line}: {errors:?}");
    errors[0].clone()
}

/// Returns the section with this upstream, and an authority for it where it wants TLS.
fn url(url: &str) -> Case {
    let ca = if url.starts_with("mqtts://") { "ca = \"ca.pem\"\n" } else { "" };
    let case = Case::new(&format!("[bridge]\nurl = {url:?}\n{ca}"));
    fs::write(case.path("ca.pem"), super::tls::certificate().0).unwrap();
    case
}

#[test]
fn without_a_url_there_is_no_bridge_and_the_other_keys_are_checked_all_the_same() {
    for hub in ["", "[bridge]\n", "[bridge]\nurl = \"\"\n", "[bridge]\npassword_file = \"missing\"\nwindow = 7\n"] {
        assert!(Case::new(hub).config().bridge.is_none(), "{hub}");
    }
    let errors = Case::new("[bridge]\nwindow = 0\nwindows = 1\nforward = [\"a#\"]\n").errors();
    assert_eq!(
        errors,
        [
            "hub.toml: bridge.forward: each must be an MQTT topic filter, not of a shared subscription, one is \"a#\"",
            "hub.toml: bridge.window: must be a whole number between 1 and 1000, is 0",
            "hub.toml: bridge.windows: unknown key; did you mean bridge.window?",
        ]
    );
}

#[test]
fn the_url_alone_is_enough_and_the_stations_name_is_filled_in() {
    let bridge = section("").config().bridge.unwrap();
    assert_eq!((bridge.host.as_str(), bridge.port, bridge.tls.is_some()), ("up.example", 1883, false));
    assert_eq!((bridge.protocol, bridge.client_id.as_str()), (Protocol::V5, "stationhub-farm"));
    assert_eq!(bridge.prefix, "stations/farm/{topic}");
    assert_eq!((bridge.forward, bridge.subscribe), (vec!["#".to_owned()], Vec::new()));
    assert_eq!((bridge.window, bridge.qos, bridge.outbox_bytes_max), (100, 1, 1 << 30));
    assert_eq!((bridge.outbox_age_max, bridge.rate_max), (None, None));
    assert_eq!(bridge.ack_wait_max, Duration::from_secs(30));
    let lines = "client_id = \"{station}-2\"\nsubscribe = [\"down/{station}/#\"]\nprefix = \"{topic}\"";
    let bridge = section(lines).config().bridge.unwrap();
    assert_eq!((bridge.client_id.as_str(), bridge.prefix.as_str()), ("farm-2", "{topic}"));
    assert_eq!(bridge.subscribe, ["down/farm/#"]);
}

#[test]
fn urls_name_a_host_and_perhaps_a_port() {
    for (text, host, port, again) in [
        ("mqtt://a", "a", 1883, "mqtt://a:1883"),
        ("mqtts://a.example", "a.example", 8883, "mqtts://a.example:8883"),
        ("mqtt://10.0.0.1:1", "10.0.0.1", 1, "mqtt://10.0.0.1:1"),
        ("mqtts://[::1]", "::1", 8883, "mqtts://[::1]:8883"),
        ("mqtt://[2001:db8:0::1]:65535", "2001:db8::1", 65535, "mqtt://[2001:db8::1]:65535"),
    ] {
        let bridge = url(text).config().bridge.unwrap();
        assert_eq!((bridge.host.as_str(), bridge.port), (host, port), "{text}");
        assert_eq!((bridge.tls.is_some(), bridge.url().as_str()), (text.starts_with("mqtts"), again), "{text}");
    }
    for text in [
        "a",
        "mqtt:a",
        "tcp://a",
        "MQTT://a",
        "mqtt://",
        "mqtt://:1",
        "mqtt://a:",
        "mqtt://a:0",
        "mqtt://a:65536",
        "mqtt://a:+1",
        "mqtt://::1",
        "mqtt://[::1",
        "mqtt://[::1]1",
        "mqtt://[a]",
        "mqtt://a b",
        "mqtt://a/",
        "mqtt://a/b",
        "mqtt://a?b",
        "mqtt://été",
    ] {
        let errors = url(text).errors();
        assert!(errors.len() == 1 && errors[0].starts_with("hub.toml: bridge.url: must "), "{text}: {errors:?}");
    }
}

#[test]
fn a_login_in_the_url_is_refused_with_what_to_do_and_not_shown() {
    for text in ["mqtt://me:secret@a", "mqtts://secret@a:1/b", "ws://me:secret@a"] {
        let errors = url(text).errors();
        assert!(errors[0].contains("set bridge.username") && !errors[0].contains("secret"), "{errors:?}");
    }
}

#[test]
fn a_prefix_ends_with_the_topic_and_has_no_wildcards() {
    for (prefix, filled) in
        [("{topic}", "{topic}"), ("/{topic}", "/{topic}"), ("a/{station}x//{topic}", "a/farmx//{topic}")]
    {
        let bridge = section(&format!("prefix = {prefix:?}")).config().bridge.unwrap();
        assert_eq!(bridge.prefix, filled);
    }
    let long = format!("{}/{{topic}}", "a".repeat(1_024));
    for prefix in [
        "",
        "a",
        "{topic}/a",
        "a{topic}",
        "{topic}/{topic}",
        "+/{topic}",
        "#/{topic}",
        "{staton}/{topic}",
        "a\0/{topic}",
        &long,
    ] {
        let told = error(&format!("prefix = {}", crate::config::quoted(prefix)));
        assert!(told.starts_with("hub.toml: bridge.prefix: must "), "{prefix:?}: {told}");
    }
    let case = Case::new("[station]\nname = \"{topic}\"\n[bridge]\nurl = \"mqtt://a\"\n");
    assert!(case.errors()[0].starts_with("hub.toml: bridge.prefix: takes no station's name with braces"));
    Case::new("[station]\nname = \"{topic}\"\n").config();
    Case::new("[station]\nname = \"{topic}\"\n[bridge]\nurl = \"mqtt://a\"\nprefix = \"b/{topic}\"\n").config();
}

#[test]
fn lists_come_from_the_file_and_with_commas_from_the_environment() {
    let case = section("forward = [\"a/#\", \"b,c\"]");
    assert_eq!(case.config().bridge.unwrap().forward, ["a/#", "b,c"]);
    let case = case.env("STATIONHUB_BRIDGE__FORWARD", "d/+, e/#").env("STATIONHUB_BRIDGE__SUBSCRIBE", "{station}/f");
    let bridge = case.config().bridge.unwrap();
    assert_eq!(
        (bridge.forward, bridge.subscribe),
        (vec!["d/+".to_owned(), "e/#".to_owned()], vec!["farm/f".to_owned()])
    );
    let nothing = section("").env("STATIONHUB_BRIDGE__FORWARD", "").config();
    assert!(nothing.bridge.unwrap().forward.is_empty());
    for line in ["forward = \"#\"", "forward = [1]", "forward = 1", "subscribe = [\"$share/a/b\"]", "forward = [\"\"]"]
    {
        assert!(error(line).contains("each "), "{line}");
    }
    let many = format!("forward = [{}]", "\"a\",".repeat(1_001));
    assert_eq!(error(&many), "hub.toml: bridge.forward: must be a list of at most 1000, has 1001");
}

#[test]
fn a_password_is_never_shown() {
    let case = section("username = \"me\"\npassword = \"secret\"");
    let config = case.config();
    assert_eq!(config.bridge.as_ref().unwrap().password, Some(Password::Text("secret".to_owned())));
    assert!(!format!("{config:?}").contains("secret"));
    let text = config.effective();
    assert!(text.contains("\n# password = \"***\"\n") && !text.contains("secret"), "{text}");
    Case::new(&text).config();
    for line in ["password = 12345", "password = \"12345\\u0000\"", "password = \"\""] {
        assert!(!error(line).contains("12345"), "{line}");
    }
}

#[test]
fn a_password_file_holds_the_password_in_its_first_line() {
    let case = section("password_file = \"pw\"");
    for (text, said) in [
        (Some("secret\nmore\n"), None),
        (Some("secret"), None),
        (Some(""), Some("is empty")),
        (Some("\nsecret\n"), Some("is empty")),
        (None, Some("cannot be used: No such file")),
    ] {
        match text {
            Some(text) => fs::write(case.path("pw"), text).unwrap(),
            None => fs::remove_file(case.path("pw")).unwrap(),
        }
        match said {
            None => assert_eq!(case.config().bridge.unwrap().password.unwrap().read().unwrap(), "secret"),
            Some(said) => {
                let errors = case.errors();
                assert!(
                    errors[0].starts_with("hub.toml: bridge.password_file: pw ") && errors.len() == 1,
                    "{errors:?}"
                );
                assert!(errors[0].contains(said) && !errors[0].contains("secret"), "{errors:?}");
            }
        }
    }
    fs::write(case.path("pw"), "secret").unwrap();
    let case = section("password_file = \"pw\"\npassword = \"b\"");
    fs::write(case.path("pw"), "secret").unwrap();
    assert!(case.errors()[0].starts_with("hub.toml: bridge.password_file: must not stand beside bridge.password"));
}

#[test]
fn what_does_not_go_together_is_told_under_its_key() {
    assert!(error("protocol = 4\npassword = \"b\"").starts_with("hub.toml: bridge.username: is missing"));
    section("password = \"b\"").config();
    assert!(error("ca = \"x\"").starts_with("hub.toml: bridge.ca: needs TLS"));
    assert_eq!(
        url("mqtts://a").env("STATIONHUB_BRIDGE__CLIENT_CERT", "x").errors(),
        ["environment STATIONHUB_BRIDGE__CLIENT_CERT: bridge.client_cert: needs bridge.client_key beside it"]
    );
    assert_eq!(
        error("outbox_age_s_max = 59"),
        "hub.toml: bridge.outbox_age_s_max: must be 0, for none, or between 60 and 316224000, is 59"
    );
    assert_eq!(
        error("outbox_bytes_max = 1048576\npayload_bytes_max = 1048577"),
        "hub.toml: bridge.payload_bytes_max: must not be above bridge.outbox_bytes_max, 1048576, is 1048577"
    );
    for line in ["qos = 0", "qos = 3", "protocol = 3", "client_id = \"\"", "local_user = \"\"", "keep_alive_s = 4"] {
        error(line);
    }
}

#[test]
fn subscribing_to_ones_own_messages_is_a_warning_where_the_protocol_brings_them_back() {
    let warnings = |lines: &str| {
        let config = section(lines).config();
        let warnings: Vec<String> = config.warnings().cloned().collect();
        assert!(warnings.iter().all(|warning| config.effective().contains(&format!("# warning: {warning}"))));
        warnings
    };
    let told = warnings("protocol = 4\nsubscribe = [\"down/#\", \"stations/+/#\", \"#\"]");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("\"stations/+/#\"") && told[1].contains("\"#\""), "{told:?}");
    assert!(warnings("subscribe = [\"#\"]").is_empty());
    assert!(warnings("protocol = 4\nforward = [\"a/#\"]\nsubscribe = [\"stations/farm/b/#\"]").is_empty());
    assert!(warnings("protocol = 4\nforward = []\nsubscribe = [\"#\"]").is_empty());
}

#[test]
fn the_effective_section_feeds_back_to_the_same() {
    let everything = r#"
        protocol = 4
        client_id = "x {station}"
        username = "y"
        password_file = "pw"
        forward = ["a/\"b\"/#", "c"]
        prefix = "d/{station}/{topic}"
        keep_retained = false
        subscribe = ["e/{station}", "f"]
        local_user = "g"
        window = 2
        qos = 2
        outbox_bytes_max = 1048577
        outbox_age_s_max = 61
        payload_bytes_max = 3
        rate_max = 4
        live_first = true
        keep_alive_s = 5
        ack_wait_s_max = 6
        reconnect_s_max = 7
    "#;
    let case = section(everything);
    fs::write(case.path("pw"), "secret\n").unwrap();
    let config = case.config();
    let printed = config.effective();
    same(&config, &Case::new(&printed).config());
    let keys = everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim());
    for key in keys.chain(["url"]) {
        assert!(printed.contains(&format!("\n{key} = ")), "{key}");
    }
    for key in ["url", "username", "password_file", "ca", "client_cert", "client_key", "window", "live_first"] {
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is not in deploy/hub.toml");
    }
}
