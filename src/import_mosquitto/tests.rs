//! Tests of what settings of Mosquitto's become, without files.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use super::parse::settings;
use super::translate::{Listener, Plan, Tls, translate};

fn plan(text: &str) -> Plan {
    translate(&settings(Path::new("m.conf"), text))
}

fn addresses(text: &str) -> Vec<String> {
    plan(text).listeners.iter().map(|listener| listener.address.to_string()).collect()
}

#[test]
fn listeners_are_where_mosquitto_has_them() {
    assert_eq!(addresses(""), ["127.0.0.1:1883"], "without a listener Mosquitto serves its own machine alone");
    assert_eq!(addresses("listener 1883"), ["[::]:1883"]);
    assert_eq!(addresses("port 1884"), ["[::]:1884"]);
    assert_eq!(addresses("bind_address 192.0.2.1"), ["192.0.2.1:1883"]);
    assert_eq!(addresses("port 1\nbind_address ::1\nlistener 2 localhost"), ["[::1]:1", "127.0.0.1:2"]);
    assert_eq!(addresses("allow_anonymous true\nlistener 1883 0.0.0.0\nlistener 9001"), ["0.0.0.0:1883", "[::]:9001"]);
}

#[test]
fn a_listener_of_one_family_of_addresses_stays_one_or_is_told() {
    assert_eq!(addresses("listener 1883\nsocket_domain ipv4"), ["0.0.0.0:1883"]);
    for text in ["listener 1883\nsocket_domain ipv6", "listener 1883 ::", "bind_address ::"] {
        let plan = plan(text);
        assert_eq!(plan.listeners[0].address.to_string(), "[::]:1883");
        assert!(plan.notes[0].contains("takes IPv4 as well"), "{:?}", plan.notes);
    }
    assert!(plan("listener 1883 ::1").notes.is_empty() && plan("listener 1883").notes.is_empty());
}

#[test]
fn protocol_and_certificates_belong_to_their_listener() {
    let plan = plan(
        "listener 8883\ncertfile /c\nkeyfile /k\ncafile /ca\nrequire_certificate true\nlistener 9001\nprotocol websockets\n",
    );
    let tls = Tls { cert: "/c".into(), key: "/k".into(), client_ca: Some("/ca".into()) };
    let expected = [
        Listener { address: "[::]:8883".parse().unwrap(), websockets: false, tls: Some(tls) },
        Listener { address: "[::]:9001".parse().unwrap(), websockets: true, tls: None },
    ];
    assert_eq!(plan.listeners, expected);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
}

#[test]
fn a_listener_whose_restriction_has_no_counterpart_is_left_out() {
    for (restriction, line) in [
        ("psk_hint home", 2),
        ("bind_interface eth0", 2),
        ("certfile /c", 2),
        ("protocol mqttsn", 2),
        ("certfile /c\nkeyfile /k\nrequire_certificate true\ncapath /ca", 4),
        ("certfile /c\nkeyfile /k\nrequire_certificate true\ncafile /ca\ncrlfile /crl", 6),
    ] {
        let plan = plan(&format!("listener 8883\n{restriction}\n"));
        let addresses: Vec<_> = plan.listeners.iter().map(|listener| listener.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:1883"], "{restriction}");
        assert!(plan.notes[0].starts_with(&format!("m.conf:{line}: ")), "{:?}", plan.notes);
        assert!(plan.notes[0].contains("left out"), "{:?}", plan.notes);
    }
    for listener in ["listener 0 /run/mosquitto.sock", "listener 1883 my-host"] {
        assert!(plan(listener).notes[0].starts_with("m.conf:1: listener: "), "{listener}");
    }
}

#[test]
fn who_may_come_in_is_taken_over_and_never_widened() {
    let plan_of = |text: &str| {
        let plan = plan(text);
        (plan.allow_anonymous, plan.password_file, plan.acl_file, plan.notes.len())
    };
    let file = |name: &str| Some(PathBuf::from(name));
    assert_eq!(plan_of("listener 1883"), (false, None, None, 0));
    assert_eq!(plan_of("listener 1883\nallow_anonymous true\nacl_file /a"), (true, None, file("/a"), 0));
    assert_eq!(plan_of("password_file /p"), (true, file("/p"), None, 0), "its own machine needs no name");
    assert_eq!(plan_of("listener 1883\npassword_file /p"), (false, file("/p"), None, 0));
    let two =
        "per_listener_settings true\nlistener 1\nallow_anonymous true\nlistener 2\npassword_file /p\nacl_file /a\n";
    assert_eq!(plan_of(two), (false, file("/p"), file("/a"), 3), "the narrower of both");
    let alike = "per_listener_settings true\nlistener 1\npassword_file /p\nlistener 2\npassword_file /p\n";
    assert_eq!(plan_of(alike), (false, file("/p"), None, 0));
}

#[test]
fn limits_are_carried_over_within_the_hubs_ranges() {
    let limits = plan(
        "listener 1\nmax_connections 10\nlistener 2\nmax_connections 20\nmax_queued_messages 50\nmax_queued_bytes 100\n\
         max_inflight_messages 0\npersistent_client_expiration 2w\nretain_available false\n",
    )
    .limits;
    let expected = [
        ("connections", 30),
        ("session_queue_messages", 50),
        ("session_queue_bytes", 1024),
        ("inflight", 65_535),
        ("session_expiry_s_max", 1_209_600),
        ("retained_messages", 0),
    ];
    assert_eq!(limits, expected);
    assert_eq!(plan("message_size_limit 5000\nmax_packet_size 4000").payload_bytes_max, Some(4000));
    assert_eq!(plan("message_size_limit 0").payload_bytes_max, Some(268_365_823));
    for unlimited in ["max_connections -1", "max_queued_messages 0", "max_queued_bytes 0", "message_size_limit x"] {
        let plan = plan(unlimited);
        assert!(plan.limits.is_empty() && plan.notes.len() == 1, "{unlimited}: {:?}", plan.notes);
    }
}

#[test]
fn every_other_setting_is_told_with_its_line_and_without_its_value() {
    let text = "persistence true\npersistence_location /var/lib/mosquitto/\nuser mosquitto\npid_file /run/m.pid\n\
                log_dest syslog\nlog_type subscribe\nplugin /lib/x.so\nplugin_opt_password hunter2\nmax_keepalive 60\n\
                connection office\naddress example.org\nremote_password hunter2\nlistener 1883\nnonsense hunter2\n";
    let notes = plan(text).notes;
    let lines: Vec<&str> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
    let expected = [10, 1, 3, 4, 5, 6, 7, 8, 9, 14].map(|line| format!("m.conf:{line}"));
    assert_eq!(lines, expected);
    assert!(!notes.join("\n").contains("hunter2"), "{notes:?}");
    assert!(notes[9].contains("is not known to the hub"), "{notes:?}");
}

#[test]
fn the_log_is_as_talkative_as_the_most_talkative_type() {
    let plan = plan(
        "log_dest file /var/log/mosquitto/mosquitto.log\nlog_dest stderr\nlog_type error\nlog_type debug\nlog_type warning\n",
    );
    assert_eq!(plan.log_level, Some("debug"));
    assert_eq!(plan.notes.len(), 1, "{:?}", plan.notes);
}
