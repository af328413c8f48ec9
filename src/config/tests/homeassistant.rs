//! Tests of section `[homeassistant]`.

use std::time::Duration;

use super::{Case, same};

#[test]
fn it_is_off_and_its_defaults_are_home_assistants() {
    let homeassistant = Case::new("").config().homeassistant;
    assert!(!homeassistant.enabled);
    assert_eq!((&*homeassistant.prefix, &*homeassistant.topic), ("homeassistant", "stationhub"));
    assert_eq!(homeassistant.interval, Duration::from_secs(10));
}

#[test]
fn what_is_effective_is_the_same_again() {
    let text = "[homeassistant]\nenabled = true\nprefix = \"ha/discovery\"\ntopic = \"weather\"\ninterval_s = 60\n";
    let case = Case::new(text);
    let config = case.config();
    assert!(config.homeassistant.enabled);
    std::fs::write(case.path("hub.toml"), config.effective()).unwrap();
    same(&config, &case.config());
}

#[test]
fn every_wrong_key_is_told() {
    let errors =
        Case::new("[homeassistant]\nenabled = \"yes\"\nprefix = \"ha/#\"\ntopic = \"$SYS\"\ninterval_s = 0\nqos = 1\n")
            .errors();
    let words = "must be the beginning of a topic, without '+', '#', a '$' in front and a '/' at its end";
    let expected = [
        "hub.toml: homeassistant.enabled: must be true or false, is \"yes\"".to_owned(),
        format!("hub.toml: homeassistant.prefix: {words}, is \"ha/#\""),
        format!("hub.toml: homeassistant.topic: {words}, is \"$SYS\""),
        "hub.toml: homeassistant.interval_s: must be a whole number between 1 and 3600, is 0".to_owned(),
        "hub.toml: homeassistant.qos: unknown key".to_owned(),
    ];
    for line in &expected[..4] {
        assert!(errors.contains(line), "{line}\nnot in\n{}", errors.join("\n"));
    }
    assert!(errors.iter().any(|line| line.starts_with(&expected[4])), "{}", errors.join("\n"));
    assert_eq!(errors.len(), expected.len(), "{}", errors.join("\n"));
}

#[test]
fn a_route_that_would_take_what_the_hub_publishes_for_readings_is_refused() {
    let with = |station: &str, pattern: &str| {
        format!(
            "[station]\nname = \"{station}\"\n[homeassistant]\nenabled = true\n[[ingest.route]]\nkind = \"weather\"\n{pattern}\n"
        )
    };
    for (station, pattern) in [
        ("farm", "filter = \"#\""),
        ("farm", "filter = \"stationhub/#\""),
        ("farm", "filter = \"+/farm/+/state\""),
        ("farm", "filter = \"homeassistant/+/+/+/config\""),
        ("farm", "level = \"state\""),
        ("farm", "level = \"stationhub\""),
        ("weathermeters", "level = \"weathermeters\""),
    ] {
        let errors = Case::new(&with(station, pattern)).errors();
        let says = |error: &str| error.starts_with("hub.toml: homeassistant.enabled: the hub would publish on");
        assert!(errors.len() == 1 && says(&errors[0]), "{pattern}: {errors:?}");
        // Where nothing is published, it is no matter.
        Case::new(&with(station, pattern).replace("true", "false")).config();
    }
    for pattern in ["filter = \"farm/#\"", "filter = \"+/weathermeters\"", "level = \"weathermeters\""] {
        Case::new(&with("farm", pattern)).config();
    }
}
