//! Topic names and filters: which are refused, and which meet.
//!
//! Owns the corners of section 4.7; the table of ordinary matches is in `broker.rs`.

use super::VERSIONS;
use super::raw::Raw;
use crate::support::Site;

#[test]
fn a_wildcard_out_of_its_place_makes_a_filter_that_is_refused() {
    let site = Site::new();
    let hub = site.start();
    for version in VERSIONS {
        let mut raw = Raw::connected(&hub, version, "client");
        for filter in ["a#", "a/b#", "#/a", "a/#/b", "#a", "##", "a+", "+a", "a/b+/c", "a/+b", "++", "/+#"] {
            let code = raw.subscribe(filter, 1);
            assert_eq!(code, if version == 5 { 0x8F } else { 0x80 }, "{filter}");
        }
        for filter in ["#", "+", "/", "+/+", "/#", "a/+/#", "+/a/+", "//", "$a/#", " ", "a b"] {
            assert_eq!(raw.subscribe(filter, 1), 1, "{filter}");
        }
    }
}

#[test]
fn no_name_or_filter_is_bent_into_another() {
    let site = Site::new();
    let hub = site.start();
    // A letter, the same letter of two characters, a mark that has no width, an unassigned and a private character.
    let names = ["é", "e\u{301}", "\u{FEFF}é", "É", "\u{FDD0}", "\u{E000}", "é ", "é/", "/é", "%C3%A9", "a//b", "a/b"];
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    for version in VERSIONS {
        for wanted in names {
            let mut raw = Raw::connected(&hub, version, "client");
            assert_eq!(raw.subscribe(wanted, 0), 0);
            for name in names {
                publisher.tell(0x30, name, name);
            }
            let delivery = raw.delivery();
            assert_eq!((delivery.topic.as_str(), delivery.text()), (wanted, wanted));
            raw.silent();
        }
    }
}

#[test]
fn names_that_begin_with_a_dollar_are_hidden_from_leading_wildcards() {
    let site = Site::new();
    let hub = site.start();
    let mut publisher = Raw::connected(&hub, 4, "publisher");
    for version in VERSIONS {
        publisher.publish(0x33, "$house/a", 1, "kept");
        let mut raw = Raw::connected(&hub, version, "client");
        for filter in ["#", "+/a", "+/#"] {
            raw.subscribe(filter, 0);
        }
        publisher.publish(0x32, "$house/a", 1, "live");
        publisher.publish(0x32, "end/a", 1, "end");
        assert_eq!(raw.delivery().text(), "end", "neither the retained nor the live one");
        assert_eq!(raw.subscribe("$house/+", 0), 0);
        assert_eq!(raw.delivery().text(), "kept");
        publisher.publish(0x32, "$house/a", 1, "live");
        assert_eq!(raw.delivery().text(), "live");
    }
}

#[test]
fn a_topic_may_be_as_long_as_a_string_can_be() {
    let site = Site::new();
    let hub = site.start();
    let long = "x".repeat(65_535);
    let deep = "/".repeat(65_535);
    for version in VERSIONS {
        for topic in [&long, &deep] {
            let mut raw = Raw::connected(&hub, version, "client");
            assert_eq!(raw.subscribe(topic, 1), 1);
            raw.send(&super::raw::publish(version, 0x30, topic, 0, &[], b"x"));
            assert_eq!(raw.delivery().topic, *topic);
        }
    }
}
