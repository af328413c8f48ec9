//! Tests of the listeners in `rumqttd.toml`, of who may reach them, and of the routes.

use std::time::Duration;

use super::{BUILT_IN, Case, address};

#[test]
fn a_listener_that_others_can_reach_is_refused_unless_anonymous_is_allowed() {
    let open = BUILT_IN.replace("127.0.0.1:1883", "0.0.0.0:1883");
    let errors = Case::new("").rumqttd(&open).errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].starts_with("rumqttd.toml: broker.allow_anonymous: listener \"v4-1\" on 0.0.0.0:1883 "));
    let case = Case::new("").flags(|flags| flags.listen = Some("[::]:0".into()));
    assert!(case.errors()[0].starts_with("--listen: broker.allow_anonymous: "));
    Case::new("[broker]\nallow_anonymous = true\n").rumqttd(&open).config();
    for loopback in ["127.0.0.2:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        Case::new("").flags(|flags| flags.listen = Some(loopback.into())).config();
    }
}

#[test]
fn users_of_either_sort_permit_a_listener_that_others_can_reach_and_rules_do_not() {
    let open = BUILT_IN.replace("127.0.0.1:1883", "0.0.0.0:1883");
    for key in ["users", "password_file"] {
        let case = Case::new(&format!("[broker]\n{key} = \"names\"\n")).rumqttd(&open);
        let broker = case.config().broker;
        let files = [broker.users, broker.password_file].into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(files, [case.path("names")], "relative to the file");
    }
    let errors = Case::new("[broker]\nacl_file = \"rules\"\n").rumqttd(&open).errors();
    assert!(errors[0].contains("there are no users") && errors[0].contains("users = \"FILE\""), "{}", errors[0]);
    assert_eq!(Case::new("[broker]\nusers = \"\"\n").errors(), ["hub.toml: broker.users: must be a file, is \"\""]);
}

#[test]
fn the_listen_flag_replaces_the_first_listener_and_may_ask_for_any_port() {
    let second = "[v5.1]\nname = \"second\"\nlisten = \"127.0.0.1:1884\"\nnext_connection_delay_ms = 1\n\
                  connections = { connection_timeout_ms = 500, max_payload_size = 1000, max_inflight_count = 1 }\n";
    let case = Case::new("").rumqttd(&format!("{BUILT_IN}\n{second}"));
    let case = case.flags(|flags| flags.listen = Some("127.0.0.1:0".into()));
    let config = case.config();
    let addresses: Vec<_> = config.broker.listeners.iter().map(|listener| listener.address).collect();
    assert_eq!(addresses, [address("127.0.0.1:0"), address("127.0.0.1:1884")]);
    assert_eq!(config.broker.config, Some(case.path("rumqttd.toml")));
    assert_eq!(config.broker.listeners[1].connect_timeout, Duration::from_millis(500));
}

#[test]
fn listeners_on_one_address_become_one_if_they_agree() {
    let twin = BUILT_IN[BUILT_IN.find("[v4.1]").unwrap()..].replace("v4", "v5");
    let config = Case::new("").rumqttd(&format!("{BUILT_IN}\n{twin}")).config();
    assert_eq!(config.broker.listeners.len(), 1);
    assert_eq!(config.broker.listeners[0].name, "v4-1");
    let other = twin.replace("1048576", "1000");
    let errors = Case::new("").rumqttd(&format!("{BUILT_IN}\n{other}")).errors();
    assert!(errors[0].contains("share 127.0.0.1:1883 but not"), "{}", errors[0]);
}

#[test]
fn what_the_hub_does_not_do_in_rumqttd_toml_is_refused_not_ignored() {
    let text = BUILT_IN.replace("max_segment_count = 4", "max_segment_count = 1\nmax_segments = 4")
        + "[v4.1.tls]\npkcs12path = \"a\"\npkcs12pass = \"secret\"\n[v4.1.connections.auth]\nme = \"secret\"\n\
           [console]\nlisten = \"0.0.0.0:3030\"\n[prometheus]\ninterval = 1\n\
           [cluster]\n[bridge]\nname = \"b\"\n[metrics.meters]\npush_interval = 1\n[v5.9]\nname = \"\"\n";
    let errors = Case::new("").rumqttd(&text).errors();
    let keys: Vec<_> = errors.iter().map(|line| line.split(": ").nth(1).unwrap()).collect();
    let expected = [
        "cluster",
        "bridge",
        "console",
        "prometheus",
        "metrics",
        "router.max_segment_count",
        "v4.1.tls.pkcs12path",
        "v4.1.tls.pkcs12pass",
        "v4.1.tls.certpath",
        "v4.1.tls.keypath",
        "v4.1.connections.auth",
        "v5.9.name",
        "v5.9.listen",
        "v5.9.next_connection_delay_ms",
        "v5.9.connections.connection_timeout_ms",
        "v5.9.connections.max_payload_size",
        "v5.9.connections.max_inflight_count",
        "router.max_segments",
    ];
    assert_eq!(keys, expected, "{}", errors.join("\n"));
    assert!(!errors.join("\n").contains("secret"));
    assert!(errors[10].contains("stationhub passwd add") && errors[10].contains("users = \"FILE\""), "{}", errors[10]);
}

#[test]
fn a_broker_without_listeners_is_refused() {
    let text = &BUILT_IN[..BUILT_IN.find("[v4.1]").unwrap()];
    let errors = Case::new("").rumqttd(text).errors();
    assert_eq!(errors, ["rumqttd.toml: v4: there must be at least one listener, such as [v4.1]"]);
}

#[test]
fn a_named_rumqttd_toml_that_is_missing_is_an_error() {
    let errors = Case::new("[broker]\nconfig = \"mine.toml\"\n").errors();
    assert!(errors[0].starts_with("mine.toml: broker.config: mine.toml cannot be read: "), "{}", errors[0]);
}

#[test]
fn routes_say_what_is_missing() {
    let route = |body: &str| Case::new(&format!("[[ingest.route]]\n{body}\n")).errors();
    assert_eq!(route("level = \"a\""), ["hub.toml: ingest.route[0]: needs kind = \"weather\" or \"magnetic\""]);
    let exactly_one = "hub.toml: ingest.route[0]: needs exactly one of level = \"…\" and filter = \"…\"";
    assert_eq!(route("kind = \"weather\""), [exactly_one]);
    assert_eq!(route("kind = \"weather\"\nlevel = \"a\"\nfilter = \"a\""), [exactly_one]);
    assert_eq!(
        route("kind = \"weather\"\nfilter = \"a/#/b\""),
        ["hub.toml: ingest.route[0].filter: must be an MQTT topic filter, is \"a/#/b\""]
    );
    assert_eq!(
        Case::new("[ingest.route]\nkind = \"weather\"\n").errors(),
        ["hub.toml: ingest.route: is a list of sections: write [[ingest.route]], with double brackets"]
    );
    assert_eq!(
        Case::new("[ingest]\nroute = []\n").errors(),
        ["hub.toml: ingest.route: must be at least one [[ingest.route]] section, is an empty list"]
    );
}
