//! Tests of section `[alerts]`.

use std::fs;
use std::time::Duration;

use super::{Case, EXAMPLE, same};
use crate::config::alerts::{ChannelKind, Comparison, Condition, MailTls, Severity};
use crate::reading::Quantity;

const LOG: &str = "[[alerts.channel]]\nname = \"log\"\nkind = \"log\"\n";

/// Returns the errors of a channel with these keys.
fn channel_errors(keys: &str) -> Vec<String> {
    let errors = Case::new(&format!("[[alerts.channel]]\nname = \"c\"\n{keys}")).errors();
    errors.into_iter().map(|line| line.replace("hub.toml: alerts.channel[0]", "")).collect()
}

/// Returns the errors of a rule with these keys.
fn rule_errors(keys: &str) -> Vec<String> {
    let errors = Case::new(&format!("{LOG}[[alerts.rule]]\nname = \"r\"\n{keys}")).errors();
    errors.into_iter().map(|line| line.replace("hub.toml: alerts.rule[0]", "")).collect()
}

#[test]
fn without_channels_and_rules_nothing_is_told_and_either_alone_has_what_it_needs() {
    let none = Case::new("").config().alerts;
    assert!(none.channels.is_empty() && none.rules.is_empty());

    let channel = Case::new(LOG).config().alerts;
    assert_eq!(channel.rules.len(), 1);
    assert_eq!(channel.rules[0].condition, Condition::Check(None));
    assert_eq!((channel.rules[0].severity, &channel.rules[0].channels[..]), (None, &[0][..]));

    let rule = Case::new("[[alerts.rule]]\nname = \"r\"\nwhen = \"x>=1.5\"\n").config().alerts;
    assert_eq!(rule.channels[0].kind, ChannelKind::Log);
    let Condition::Quantity(limit) = &rule.rules[0].condition else { panic!("{rule:?}") };
    assert_eq!((limit.quantity, limit.comparison, limit.number), (Quantity::X, Comparison::AtLeast, 1.5));
    assert_eq!((rule.rules[0].severity, &rule.rules[0].channels[..]), (Some(Severity::Warning), &[0][..]));
}

#[test]
fn every_wrong_key_of_a_rule_is_told() {
    let ids = "\"broker.round_trip\", \"store.write\"";
    assert!(
        rule_errors("check = \"disk\"\n")[0]
            .starts_with(&format!(".check: must be \"*\" for every check, or one of {ids}"))
    );
    for (keys, error) in [
        ("", ": needs exactly one of check = \"…\" and when = \"…\""),
        ("check = \"*\"\nwhen = \"x < 1\"\n", ": needs exactly one of check = \"…\" and when = \"…\""),
        ("check = \"*\"\nclear = 1\n", ".clear: goes with when = \"…\" only"),
        (
            "when = \"x < 1\"\nclear = 0\n",
            ".clear: must not lie beyond the limit, 1: the alert would end before it begins",
        ),
        ("when = \"x < 1\"\nrepeat_s = 59\n", ".repeat_s: must be 0 for never, or at least 60, is 59"),
        (
            "when = \"x < 1\"\nseverity = \"bad\"\n",
            ".severity: must be \"info\", \"warning\" or \"critical\", is \"bad\"",
        ),
        ("when = \"x < 1\"\nchannels = [\"mail\"]\n", ".channels: each must be the name of a channel, one is \"mail\""),
        ("when = \"x < 1\"\nsource = \"a#\"\n", ".source: must be an MQTT topic filter, is \"a#\""),
        ("when = \"x < 1\"\nfro_s = 1\n", ".fro_s: unknown key; did you mean alerts.rule[0].for_s?"),
    ] {
        assert_eq!(rule_errors(keys), [error], "{keys}");
    }
    for when in ["", "x", "x 1", "x = 1", "x << 1", "x < ", "x < one", "x < inf", "cold < 1", "x < NaN"] {
        let errors = rule_errors(&format!("when = \"{when}\"\n"));
        assert!(errors.len() == 1 && errors[0].starts_with(".when: must be a quantity, <, <=, > or >=,"), "{errors:?}");
    }
    let twins = Case::new(&format!("{LOG}{LOG}[[alerts.rule]]\nname = \"a b\"\ncheck = \"*\"\n")).errors();
    assert_eq!(
        twins,
        [
            "hub.toml: alerts.channel[1].name: \"log\" is the name of alerts.channel[0], too",
            "hub.toml: alerts.rule[0].name: must be 1 to 64 letters, digits, '-', '_' and '.', is \"a b\"",
        ]
    );
}

#[test]
fn every_wrong_key_of_a_channel_is_told_and_no_secret_with_it() {
    for (keys, error) in [
        ("", ".kind: is missing"),
        (
            "kind = \"sms\"\nto = \"me\"\n",
            ".kind: must be \"log\", \"mqtt\", \"webhook\", \"mail\" or \"command\", is \"sms\"",
        ),
        ("kind = \"log\"\nurl = \"http://x\"\n", ".url: unknown key; did you mean bridge.url?"),
        ("kind = \"webhook\"\n", ".url: is missing"),
        (
            "kind = \"webhook\"\nurl = \"http://h\"\nmethod = \"HEAD\"\n",
            ".method: must be \"POST\", \"PUT\" or \"GET\", is \"HEAD\"",
        ),
        (
            "kind = \"webhook\"\nurl = \"http://h\"\nheaders = [\"secret\"]\n",
            ".headers: number 1 must be \"Name: value\", and no header of the hub's own (content_type sets one)",
        ),
        (
            "kind = \"webhook\"\nurl = \"http://h\"\nheaders = [\"Content-Length: 3\"]\n",
            ".headers: number 1 must be \"Name: value\", and no header of the hub's own (content_type sets one)",
        ),
        ("kind = \"command\"\n", ".program: is missing"),
    ] {
        assert_eq!(channel_errors(keys), [error], "{keys}");
    }
    for url in ["h", "ftp://h/secret", "http://", "http://me:secret@h/", "http://{id}/secret", "http:///secret"] {
        let errors = channel_errors(&format!("kind = \"webhook\"\nurl = \"{url}\"\n"));
        assert!(errors.len() == 1 && errors[0].starts_with(".url: must be \"http://HOST/PATH\""), "{url}: {errors:?}");
    }
    let errors = channel_errors("kind = \"webhook\"\nurl = \"http://h\"\ntemplate = \"{txt}\"\n");
    assert!(errors[0].starts_with(".template: {txt} is no field; those are {id}, "), "{errors:?}");
    let errors = channel_errors("kind = \"mqtt\"\ntopic = \"a/#\"\n");
    assert!(errors[0].starts_with(".topic: must be the beginning of a topic"), "{errors:?}");
    assert_eq!(
        channel_errors(
            "kind = \"mail\"\nhost = \"h\"\nfrom = \"me\"\nto = [\"@\"]\nusername = \"u\"\npassword_file = \"no\"\n"
        ),
        [
            ".password_file: no cannot be used: No such file or directory (os error 2)",
            ".from: must be a mail address, is \"me\"",
            ".to: each must be a mail address, one is \"@\"",
        ]
    );
    let errors = channel_errors("kind = \"mail\"\nhost = \"h\"\nfrom = \"a@b\"\nto = []\npassword = \"secret\"\n");
    assert_eq!(
        errors,
        [": needs username and one of password and password_file together, or none of them", ".to: must name somebody"]
    );
}

#[test]
fn quiet_hours_need_times_and_a_zone_that_is_known() {
    for quiet in ["22:00", "22-07", "24:00-07:00", "7:00-8:00", "07:00-07:00"] {
        let errors = Case::new(&format!("[alerts]\nquiet = \"{quiet}\"\n")).errors();
        assert!(errors[0].contains("alerts.quiet: must be two times of day"), "{errors:?}");
    }
    let nowhere = "[station]\ntimezone = \"Nowhere/Land\"\n";
    Case::new(nowhere).config();
    let errors = Case::new(&format!("{nowhere}[alerts]\nquiet = \"22:00-07:00\"\n")).errors();
    assert!(errors[0].contains("station.timezone: \"Nowhere/Land\" is not known on this machine"), "{errors:?}");
}

#[test]
fn what_is_printed_brings_the_same_about_but_for_secrets() {
    let everything = r#"
        [alerts]
        repeat_s = 60
        group_s = 2
        quiet = "22:30-06:05"
        [[alerts.channel]]
        name = "states"
        kind = "mqtt"
        topic = "a/b"
        [[alerts.channel]]
        name = "post"
        kind = "mail"
        host = "mail.example"
        port = 2525
        tls = "tls"
        username = "hub"
        password_file = "pw"
        from = "Hub <hub@a.example>"
        to = ["a@b.example", "c@d.example"]
        timeout_s = 4
        [[alerts.channel]]
        name = "run"
        kind = "command"
        program = "wall"
        arguments = ["-n", "{text}"]
        [[alerts.rule]]
        name = "cold"
        when = "temperature <= -20.5"
        clear = -18.5
        source = "garden/+"
        for_s = 7
        repeat_s = 0
        severity = "info"
        channels = ["run", "post"]
        [[alerts.rule]]
        name = "any"
        check = "*"
    "#;
    let case = Case::new(everything);
    fs::write(case.path("pw"), "secret\n").unwrap();
    let config = case.config();
    let printed = config.effective();
    same(&config, &Case::new(&printed).config());
    for key in everything.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key.trim()) {
        assert!(printed.contains(&format!("\n{key} = ")), "{key}");
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is not in deploy/hub.toml");
    }
    let alerts = config.alerts;
    assert_eq!((alerts.repeat, alerts.group), (Some(Duration::from_secs(60)), Duration::from_secs(2)));
    assert_eq!((alerts.rules[0].repeat, &alerts.rules[0].channels[..]), (None, &[2, 1][..]));
    let ChannelKind::Mail(mail) = &alerts.channels[1].kind else { panic!("{alerts:?}") };
    assert_eq!((mail.tls, mail.port), (MailTls::Tls, 2525));

    let secret = Case::new(
        "[[alerts.channel]]\nname = \"w\"\nkind = \"webhook\"\nurl = \"https://h.example:8443/t0ken?t0ken={id}\"\n\
         headers = [\"X-Key: t0ken\"]\n\
         [[alerts.channel]]\nname = \"m\"\nkind = \"mail\"\nhost = \"h\"\nusername = \"u\"\npassword = \"t0ken\"\n\
         from = \"a@b\"\nto = [\"a@b\"]\n",
    );
    assert_eq!(secret.config().warnings().count(), 0);
    let open = "[[alerts.channel]]\nname = \"m\"\nkind = \"mail\"\nhost = \"h\"\nusername = \"u\"\npassword = \"p\"\n\
                from = \"a@b\"\nto = [\"a@b\"]\ntls = \"none\"\n";
    assert!(Case::new(open).config().warnings().any(|warning| warning.contains("for everybody to read")));
    let printed = secret.config().effective();
    assert!(printed.contains("url = \"https://h.example:8443/***\"") && !printed.contains("t0ken"), "{printed}");
    assert!(!format!("{:?}", secret.config()).contains("t0ken"));
    Case::new(&printed).config();
    for key in ["url", "method", "headers", "template", "content_type", "ca", "timeout_s", "password"] {
        assert!(EXAMPLE.contains(&format!("{key} = ")), "{key} is not in deploy/hub.toml");
    }
}
