//! Tests of the listeners with TLS and WebSocket in `rumqttd.toml`.

use std::fs;

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};

use super::{BUILT_IN, Case, same};

/// Returns a certificate of the hub's and its key, PEM.
pub(super) fn certificate() -> (String, String) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

fn listener(table: &str, name: &str, address: &str) -> String {
    let text = BUILT_IN[BUILT_IN.find("[v4.1]").unwrap()..].replace("v4.1", table);
    text.replace("v4-1", name).replace("127.0.0.1:1883", address)
}

/// Returns a listener with TLS, whose files are named by `tls`.
fn case(tls: &str) -> Case {
    let case = Case::new("").rumqttd(&format!("{BUILT_IN}\n[v4.1.tls]\n{tls}"));
    let (certificate, key) = certificate();
    fs::write(case.path("hub.pem"), certificate).unwrap();
    fs::write(case.path("hub.key"), key).unwrap();
    case
}

const FILES: &str = "certpath = \"hub.pem\"\nkeypath = \"hub.key\"\n";

#[test]
fn files_of_tls_are_taken_from_where_rumqttd_toml_stands() {
    let case = case(&format!("{FILES}capath = \"hub.pem\"\n"));
    let config = case.config();
    let listener = &config.broker.listeners[0];
    let files = listener.tls.as_ref().unwrap().files();
    assert_eq!(files.certificate, case.path("hub.pem"));
    assert_eq!(files.client_ca, Some(case.path("hub.pem")));
    assert_eq!((listener.kind(), config.broker.warnings.as_slice()), ("TLS", &[][..]));
    let text = config.effective();
    assert!(text.contains("# listener \"v4-1\": TLS, 127.0.0.1:1883"), "{text}");
    assert!(text.contains("clients need a certificate by"), "{text}");
}

#[test]
fn every_file_of_tls_that_is_missing_or_broken_is_told_with_its_key_and_its_reason() {
    let missing = case("certpath = \"a.pem\"\nkeypath = \"b.key\"\ncapath = \"c.pem\"\n").errors().join("\n");
    for (key, file) in [("certpath", "a.pem"), ("keypath", "b.key"), ("capath", "c.pem")] {
        assert!(missing.contains(&format!("rumqttd.toml: v4.1.tls.{key}: ")), "{missing}");
        assert!(missing.contains(&format!("{file} cannot be read: ")), "{missing}");
    }
    let broken = |name: &str, text: &str| {
        let case = case(FILES);
        fs::write(case.path(name), text).unwrap();
        let errors = case.errors();
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors[0].clone()
    };
    let (certificate, key) = certificate();
    assert!(broken("hub.pem", "").contains("certpath: "));
    assert!(broken("hub.pem", &key).contains("hub.pem holds no certificate in PEM form"));
    assert!(broken("hub.key", &certificate).contains("hub.key holds no private key without a password in PEM form"));
    assert!(broken("hub.key", &key).contains("hub.key is not the key of the certificate in"));
    assert!(broken("hub.pem", &certificate).contains("hub.key is not the key of the certificate in"));
    let nonsense = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert!(broken("hub.pem", nonsense).contains("it is no X.509 certificate"));
    let secret = "-----BEGIN PRIVATE KEY-----\nc2VjcmV0IQ==\n-----END PRIVATE KEY-----\n";
    let told = broken("hub.key", secret);
    assert!(told.contains("private key that cannot be used") && !told.contains("c2VjcmV0"), "{told}");
    assert!(broken("hub.key", &" ".repeat(1024 * 1024 + 1)).contains("is larger than 1048576 bytes"));
}

#[test]
fn a_certificate_out_of_its_time_is_a_warning_and_no_error() {
    let case = case(FILES);
    let key = KeyPair::generate().unwrap();
    for (from, to, said) in [(2001, 2002, "expired on 2002-01-01T00:00:00Z"), (2300, 2301, "valid only from 2300-")] {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        (params.not_before, params.not_after) = (rcgen::date_time_ymd(from, 1, 1), rcgen::date_time_ymd(to, 1, 1));
        fs::write(case.path("hub.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(case.path("hub.key"), key.serialize_pem()).unwrap();
        let text = case.config().effective();
        assert!(text.lines().any(|line| line.starts_with("# warning: ") && line.contains(said)), "{text}");
    }
}

#[test]
fn certificates_for_the_upstream_are_read_and_each_fault_is_told_under_its_key() {
    let case = Case::new(
        "[bridge]\nurl = \"mqtts://up.example\"\nca = \"ca.pem\"\nclient_cert = \"hub.pem\"\nclient_key = \"hub.key\"\n",
    );
    let errors = case.errors();
    assert_eq!(errors.len(), 3, "{errors:?}");
    for (error, (key, file)) in
        errors.iter().zip([("ca", "ca.pem"), ("client_cert", "hub.pem"), ("client_key", "hub.key")])
    {
        assert!(error.starts_with(&format!("hub.toml: bridge.{key}: {file} cannot be read: ")), "{error}");
    }
    let (pem, key) = certificate();
    for (name, text) in [("ca.pem", &pem), ("hub.pem", &pem), ("hub.key", &certificate().1)] {
        fs::write(case.path(name), text).unwrap();
    }
    let errors = case.errors();
    assert_eq!(errors, ["hub.toml: bridge.client_key: hub.key is not the key of the certificate in hub.pem"]);
    fs::write(case.path("hub.key"), key).unwrap();
    let config = case.config();
    let files = config.bridge.as_ref().unwrap().tls.clone().unwrap();
    assert_eq!(files.ca, Some(case.path("ca.pem")));
    same(&config, &Case::new(&config.effective()).config());
    assert_eq!(config.warnings().count(), 0);

    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let key = KeyPair::generate().unwrap();
    fs::write(case.path("hub.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(case.path("hub.key"), key.serialize_pem()).unwrap();
    let warnings: Vec<String> = case.config().warnings().cloned().collect();
    assert!(warnings[0].starts_with("bridge.client_cert: ") && warnings[0].contains("expired on"), "{warnings:?}");
}

#[test]
fn websocket_listeners_count_behind_the_others_and_need_the_same_keys() {
    let text = format!("{BUILT_IN}\n{}", listener("ws.1", "browser", "127.0.0.1:8083"));
    // Where a table stands in the file does not matter.
    let first = text.find("[v4.1]").unwrap();
    let (head, tables) = text.split_at(first);
    let (tcp, browser) = tables.split_at(tables.find("[ws.1]").unwrap());
    let text = format!("{head}{browser}{tcp}");
    let config = Case::new("").rumqttd(&text).flags(|flags| flags.listen = Some("127.0.0.1:7".into())).config();
    let listeners = &config.broker.listeners;
    let seen: Vec<_> = listeners.iter().map(|listener| (listener.kind(), listener.address.port())).collect();
    assert_eq!(seen, [("TCP", 7), ("WebSocket", 8083)]);
    let errors = Case::new("").rumqttd(&format!("{BUILT_IN}\n[ws.1]\nname = \"w\"\n")).errors().join("\n");
    assert!(errors.contains("ws.1.listen: is missing"), "{errors}");
}

#[test]
fn listeners_of_different_kinds_on_one_address_are_an_error() {
    let text = format!("{BUILT_IN}\n{}", listener("ws.1", "browser", "127.0.0.1:1883"));
    let errors = Case::new("").rumqttd(&text).errors();
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains("\"v4-1\" and \"browser\" share 127.0.0.1:1883"), "{}", errors[0]);
    assert!(errors[0].contains("one speaks TCP and the other WebSocket"), "{}", errors[0]);
    let case = case(&format!("{FILES}\n{}", listener("v5.1", "second", "127.0.0.1:1883")));
    assert!(case.errors()[0].contains("one speaks TLS and the other TCP"));
}
