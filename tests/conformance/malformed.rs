//! Packets that break a rule after a good CONNECT: each ends its own connection, with the standard's reason in MQTT 5.
//!
//! Owns the table of what is malformed on a running connection. The decoder's own tests have more of each kind.

use super::VERSIONS;
use super::raw::{Connect, Raw, publish, section, subscribe, unsubscribe, user_property};
use crate::support::Site;
use crate::support::packet::{packet, text};

/// Bytes that end a connection: what is wrong with them, the bytes, and the reason code in MQTT 5.
type Faulty = (&'static str, Vec<u8>, u8);

/// What is wrong in both versions.
fn faulty(version: u8) -> Vec<Faulty> {
    let strange = |first: u8, bytes: &[u8]| {
        let name = [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
        match first {
            0x30 => packet(0x30, &[&name[..], &section(version, &[])].concat()),
            0x82 => packet(0x82, &[&[0, 1][..], &section(version, &[]), &name, &[0]].concat()),
            _ => packet(first, &[&[0, 1][..], &section(version, &[]), &name].concat()),
        }
    };
    let mut table = vec![
        ("QoS 3", publish(version, 0x36, "a", 1, &[], b""), 0x81),
        ("DUP at QoS 0", publish(version, 0x38, "a", 0, &[], b""), 0x81),
        ("a + in a topic", publish(version, 0x30, "a/+", 0, &[], b""), 0x90),
        ("a # in a topic", publish(version, 0x30, "#", 0, &[], b""), 0x90),
        ("no topic", publish(version, 0x30, "", 0, &[], b""), if version == 5 { 0x82 } else { 0 }),
        ("a topic cut short", packet(0x30, &[0, 9, b'a']), 0x81),
        ("no packet id in a PUBLISH", packet(0x32, &text("a")), 0x81),
        ("packet id 0 in a PUBLISH", publish(version, 0x32, "a", 0, &[], b""), 0x82),
        ("packet id 0 at QoS 2", publish(version, 0x34, "a", 0, &[], b""), 0x82),
        ("packet id 0 in a SUBSCRIBE", subscribe(version, 0, "a", 0), 0x82),
        ("packet id 0 in an UNSUBSCRIBE", unsubscribe(version, 0, &["a"]), 0x82),
        ("packet id 0 in a PUBACK", vec![0x40, 2, 0, 0], 0x82),
        ("no filter in a SUBSCRIBE", packet(0x82, &[&[0, 1][..], &section(version, &[])].concat()), 0x82),
        ("no filter in an UNSUBSCRIBE", unsubscribe(version, 1, &[]), 0x82),
        ("no options behind a filter", packet(0x82, &[&[0, 1][..], &section(version, &[]), &text("a")].concat()), 0x81),
        ("an empty filter to subscribe to", subscribe(version, 1, "", 0), 0x8F),
        ("an empty filter to leave", unsubscribe(version, 1, &[""]), 0x8F),
        ("a subscription at QoS 3", subscribe(version, 1, "a", 3), 0x82),
        ("a reserved bit in a subscription", subscribe(version, 1, "a", 0x40), 0x81),
        ("the highest bit in a subscription", subscribe(version, 1, "a", 0x81), 0x81),
        ("a PUBACK without an id", vec![0x40, 0], 0x81),
        ("half an id", vec![0x62, 1, 0], 0x81),
        ("a PINGREQ with a body", vec![0xC0, 1, 0], 0x81),
        ("a length of five bytes", vec![0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1], 0x81),
    ];
    let flags = [0x41, 0x42, 0x51, 0x60, 0x63, 0x66, 0x71, 0x80, 0x83, 0x86, 0xA0, 0xA3, 0xC1, 0xC2, 0xE1, 0xE8];
    table.extend(flags.map(|first| ("reserved flags", vec![first, 2, 0, 1], 0x81)));
    let servers_own = [0x00, 0x20, 0x90, 0xB0, 0xD0];
    table.extend(servers_own.map(|first| ("a packet that no client sends", vec![first, 2, 0, 1], 0x82)));
    let ill: [&[u8]; 6] = [b"\xFF", b"a\xC3", b"\xC0\xAF", b"\xED\xA0\x80", b"\xED\xBF\xBF", b"\xF4\x90\x80\x80"];
    for first in [0x30, 0x82, 0xA2] {
        table.extend(ill.map(|bytes| ("a name that is not UTF-8", strange(first, bytes), 0x81)));
        table.push(("U+0000 in a name", strange(first, b"a\0b"), if first == 0x30 { 0x90 } else { 0x81 }));
    }
    table
}

/// What only one version knows.
fn faulty_in(version: u8) -> Vec<Faulty> {
    if version == 4 {
        return vec![
            ("an ack with a reason", vec![0x40, 3, 0, 1, 0], 0),
            ("a goodbye with a reason", vec![0xE0, 1, 0], 0),
            ("No Local", subscribe(4, 1, "a", 0x04), 0),
            ("an AUTH", vec![0xF0, 0], 0),
        ];
    }
    let with = |properties: &[u8]| publish(5, 0x30, "a", 0, properties, b"");
    let named = |id: u8, value: &[u8]| [&[id][..], &(value.len() as u16).to_be_bytes(), value].concat();
    let subscribing =
        |properties: &[u8]| packet(0x82, &[&[0, 1][..], &section(5, properties), &text("a"), &[0]].concat());
    let leaving = |properties: &[u8]| packet(0xA2, &[&[0, 1][..], &section(5, properties), &text("a")].concat());
    let acking = |properties: &[u8]| packet(0x40, &[&[0, 1, 0][..], &section(5, properties)].concat());
    let parting = |properties: &[u8]| packet(0xE0, &[&[0][..], &section(5, properties)].concat());
    let ill = [&[0x26][..], &text("k"), &[0, 1, 0xFF]].concat();
    let twice = |property: &[u8]| [property, property].concat();
    vec![
        ("retain handling 3", subscribe(5, 1, "a", 0x30), 0x82),
        ("No Local on a shared subscription", subscribe(5, 1, "$share/g/a", 0x04), 0x82),
        ("a property that is not there", with(&[0x7E, 0]), 0x81),
        ("a property of another packet", with(&[0x21, 0, 1]), 0x81),
        ("a property twice", with(&twice(&[0x01, 0])), 0x82),
        ("properties longer than the packet", packet(0x30, &[&text("a")[..], &[9, 0x01]].concat()), 0x81),
        ("a property cut short", with(&[0x02, 0, 0]), 0x81),
        ("a payload format that is not there", with(&[0x01, 2]), 0x82),
        ("a subscription identifier from a client", with(&[0x0B, 1]), 0x82),
        ("a wildcard in the response topic", with(&named(0x08, b"a/#")), 0x90),
        ("an empty response topic", with(&named(0x08, b"")), 0x90),
        ("a response topic that is not UTF-8", with(&named(0x08, b"\xFF")), 0x81),
        ("a content type that is not UTF-8", with(&named(0x03, b"\xFF")), 0x81),
        ("a topic alias of 0", with(&[0x23, 0, 0]), 0x94),
        ("a user property that is not UTF-8", with(&ill), 0x81),
        ("a user property with U+0000", with(&user_property("k\0", "v")), 0x81),
        ("… in a SUBSCRIBE", subscribing(&ill), 0x81),
        ("… in an UNSUBSCRIBE", leaving(&ill), 0x81),
        ("… in an ack", acking(&ill), 0x81),
        ("… in a goodbye", parting(&ill), 0x81),
        ("a subscription identifier of 0", subscribing(&[0x0B, 0]), 0x82),
        ("two subscription identifiers", subscribing(&twice(&[0x0B, 1])), 0x82),
        ("a reason string that is not UTF-8", acking(&named(0x1F, b"\xFF")), 0x81),
        ("a reason string twice", acking(&twice(&named(0x1F, b"a"))), 0x82),
        ("a reason that PUBACK does not have", vec![0x40, 3, 0, 1, 0x92], 0x82),
        ("a reason that PUBREC does not have", vec![0x50, 3, 0, 1, 0x01], 0x82),
        ("a reason that PUBREL does not have", vec![0x62, 3, 0, 1, 0x10], 0x82),
        ("a reason that PUBCOMP does not have", vec![0x70, 3, 0, 1, 0x80], 0x82),
        ("a reason that DISCONNECT does not have", vec![0xE0, 1, 0x03], 0x82),
        ("a server's reason from a client", vec![0xE0, 1, 0x8E], 0x82),
        ("more behind a goodbye", vec![0xE0, 3, 0, 0, 0], 0x81),
        ("flags in an AUTH", vec![0xF1, 0], 0x81),
    ]
}

#[test]
fn every_rule_that_a_packet_breaks_ends_its_connection_alone() {
    let site = Site::new();
    let hub = site.start();
    let mut bystander = Raw::connected(&hub, 4, "bystander");
    for version in VERSIONS {
        for (name, bytes, code) in faulty(version).into_iter().chain(faulty_in(version)) {
            println!("{name}, MQTT level {version}: {bytes:02X?}");
            let mut raw = Raw::connected(&hub, version, "faulty");
            raw.send(&bytes);
            assert_eq!(raw.ended_with(), (version == 5).then_some(code), "{name}");
            bystander.ping();
        }
    }
}

#[test]
fn a_packet_above_the_limit_is_refused_by_its_header() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "large");
        raw.send(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
        assert_eq!(raw.ended_with(), (version == 5).then_some(0x95));
    }
}

#[test]
fn connect_properties_that_break_a_rule_are_refused() {
    let site = Site::new();
    let hub = site.start();
    let pair = [&[0x26][..], &text("k"), &[0, 1, 0xFF]].concat();
    let table: &[(&str, &[u8], u8)] = &[
        ("a receive maximum of 0", &[0x21, 0, 0], 0x82),
        ("a maximum packet size of 0", &[0x27, 0, 0, 0, 0], 0x82),
        ("a session expiry twice", &[0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], 0x82),
        ("problem information 2", &[0x17, 2], 0x82),
        ("response information 2", &[0x19, 2], 0x82),
        ("authentication data without a method", &[0x16, 0, 1, 1], 0x82),
        ("a property of PUBLISH", &[0x01, 1], 0x81),
        ("a property of the server", &[0x13, 0, 1], 0x81),
        ("a user property that is not UTF-8", &pair, 0x81),
        ("a property cut short", &[0x21, 0], 0x81),
    ];
    for (name, properties, code) in table {
        let mut raw = Raw::new(&hub, 5);
        raw.send(&Connect::new(5, "c").properties(properties).bytes());
        assert_eq!(raw.closed(), [[0x20, 3, 0, *code, 0]], "{name}");
        let mut raw = Raw::new(&hub, 5);
        if !properties.starts_with(&[0x01]) && properties[0] != 0x26 {
            // Whatever belongs into CONNECT does not belong into a will.
            raw.send(&Connect::new(5, "c").will(0, properties, "w", "m").bytes());
            assert_eq!(raw.closed(), [[0x20, 3, 0, 0x81, 0]], "{name}, in a will");
        }
    }
}

#[test]
fn a_byte_order_mark_stays_where_it_stands() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "\u{FEFF}client");
        raw.subscribe("\u{FEFF}a/\u{FEFF}", 0);
        raw.send(&publish(version, 0x30, "\u{FEFF}a/\u{FEFF}", 0, &[], b"x"));
        assert_eq!(raw.delivery().topic, "\u{FEFF}a/\u{FEFF}");
        let (mut raw, connack) = Connect::kept(version, "client").open(&hub);
        assert_eq!(connack[2], 0, "another client");
        raw.ping();
        Connect::new(version, "client").open(&hub);
    }
}
