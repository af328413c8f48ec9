//! One quantity as Home Assistant knows it: class, unit, and the message that announces it.
//!
//! Owns Home Assistant's words and which of them go together: it ignores an entity whose unit is none of its device class.
//! Pure. Source: the documentation of its integrations MQTT, MQTT Sensor and Sensor.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::names::Names;
use crate::reading::Kind;
use crate::weather::quantity::Observed;
use crate::weather::units::Dimension;

/// Longest name of a source in an entity's name, characters.
const SOURCE_CHARS_MAX: usize = 64;

/// The payloads of the topic that says whether the hub runs.
pub const ONLINE: &str = "online";
/// The hub has stopped.
pub const OFFLINE: &str = "offline";

/// The state class of what adds up over a day. It would be `total_increasing`, were it not that the count of a day is made smaller where
/// a counter's glitch comes to light, which Home Assistant would take for a new day and count again.
const OF_THE_DAY: &str = "total";

/// What all entities of a station have in common.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its topics and ids.
    pub names: Names,
    /// Its name for people.
    pub name: String,
    /// Where it can be looked at with a browser.
    pub url: Option<String>,
}

/// One entity.
#[derive(Clone, Copy, Debug)]
pub struct Entity<'a> {
    /// What it shows.
    pub quantity: Observed,
    /// Of which source.
    pub source: &'a str,
    /// Whether its name says which source: another one has such readings, too.
    pub names_source: bool,
    /// Seconds after which a value is no longer one.
    pub expire_s: u64,
}

/// What a quantity is to Home Assistant.
struct Words {
    unit: &'static str,
    device_class: Option<&'static str>,
    state_class: &'static str,
    digits: u8,
    icon: Option<&'static str>,
}

impl Station {
    /// Returns the message that announces an entity, as JSON.
    pub fn announcement(&self, entity: Entity<'_>) -> String {
        let Entity { quantity, source, names_source, expire_s } = entity;
        let words = words(quantity);
        let mut name = label(quantity).to_owned();
        if names_source {
            let source = source.chars().take(SOURCE_CHARS_MAX);
            name.push_str(", ");
            name.extend(source.map(|letter| if letter.is_control() { '?' } else { letter }));
        }
        let mut message = json!({
            "name": name,
            "unique_id": self.names.entity(source, quantity.name()),
            "state_topic": self.names.state(source),
            "value_template": format!("{{{{ value_json.{} }}}}", quantity.name()),
            "unit_of_measurement": words.unit,
            "state_class": words.state_class,
            "suggested_display_precision": words.digits,
            "expire_after": expire_s,
            "availability_topic": self.names.status(),
            "payload_available": ONLINE,
            "payload_not_available": OFFLINE,
            "device": self.device(),
            "origin": { "name": "stationhub", "sw_version": env!("CARGO_PKG_VERSION") },
        });
        let optional = [("device_class", words.device_class), ("icon", words.icon)];
        for (key, word) in optional.into_iter().filter_map(|(key, word)| Some((key, word?))) {
            message[key] = word.into();
        }
        if words.state_class == OF_THE_DAY {
            message["last_reset_value_template"] = "{{ value_json.day_begins }}".into();
        }
        message.to_string()
    }

    fn device(&self) -> Value {
        let mut device = json!({
            "identifiers": [self.names.device()],
            "name": self.name,
            "manufacturer": "stationhub",
            "model": "Weather station",
            "sw_version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(url) = &self.url {
            device["configuration_url"] = url.as_str().into();
        }
        device
    }
}

/// Returns the message with the values of a source, as JSON: every quantity that it can have, `null` where it has none now. A key
/// that is missing would leave the last value in place for ever. `day_s` is when the station's day began, Unix seconds.
pub fn state(time_s: i64, day_s: i64, kinds: &[Kind], values: &[(Observed, f64)]) -> String {
    let mut message = Map::new();
    message.insert("time".to_owned(), time_s.into());
    message.insert("day_begins".to_owned(), json!(Timestamp::from_second(day_s).ok().map(|day| day.to_string())));
    for quantity in Observed::ALL.iter().filter(|quantity| kinds.contains(&quantity.kind())) {
        let value = values.iter().find(|(of, _)| of == quantity).map(|(_, value)| (value * 1_000.0).round() / 1_000.0);
        // What is no number becomes null, too.
        message.insert(quantity.name().to_owned(), json!(value));
    }
    Value::Object(message).to_string()
}

/// Returns a quantity's name for people; two of them are of the day, which their names alone do not say.
fn label(quantity: Observed) -> &'static str {
    match quantity {
        Observed::Rain => "Rain today",
        Observed::SolarEnergy => "Solar energy today",
        _ => quantity.label(),
    }
}

/// `measurement_angle` is for directions of a full circle alone, whose mean is no mean of numbers.
fn words(quantity: Observed) -> Words {
    let measured =
        |unit, device_class, digits| Words { unit, device_class, state_class: "measurement", digits, icon: None };
    match quantity.dimension() {
        Dimension::Temperature => measured("°C", Some("temperature"), 1),
        Dimension::Share => measured("%", Some("humidity"), 0),
        Dimension::Pressure => measured("hPa", Some("atmospheric_pressure"), 1),
        Dimension::Speed => measured("m/s", Some("wind_speed"), 1),
        Dimension::Angle if quantity == Observed::WindDirection => {
            Words { state_class: "measurement_angle", ..measured("°", Some("wind_direction"), 0) }
        }
        Dimension::Angle => Words { icon: Some("mdi:compass-outline"), ..measured("°", None, 1) },
        Dimension::Depth if quantity == Observed::RainHour => measured("mm", Some("precipitation"), 1),
        Dimension::Depth => Words { state_class: OF_THE_DAY, ..measured("mm", Some("precipitation"), 1) },
        Dimension::DepthRate => measured("mm/h", Some("precipitation_intensity"), 1),
        Dimension::Irradiance => measured("W/m²", Some("irradiance"), 0),
        Dimension::Energy => Words {
            state_class: OF_THE_DAY,
            icon: Some("mdi:solar-power"),
            // Its class "energy" knows no energy per area.
            ..measured("Wh/m²", None, 0)
        },
        Dimension::Flux => Words { icon: Some("mdi:magnet"), ..measured("µT", None, 2) },
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn announced(quantity: Observed, names_source: bool) -> Value {
        let names = Names::new("homeassistant", "stationhub", "farm");
        let station = Station { names, name: "farm".to_owned(), url: None };
        let entity = Entity { quantity, source: "a/weathermeters", names_source, expire_s: 120 };
        serde_json::from_str(&station.announcement(entity)).unwrap()
    }

    /// `DEVICE_CLASS_UNITS` and `DEVICE_CLASS_STATE_CLASSES` of Home Assistant 2026.11, for the classes that stand here.
    const ALLOWED: &[(&str, &[&str], &[&str])] = &[
        ("temperature", &["°C", "°F", "K"], &["measurement"]),
        ("humidity", &["%"], &["measurement"]),
        ("atmospheric_pressure", &["Pa", "hPa", "kPa", "bar", "cbar", "mbar", "mmHg", "inHg", "psi"], &["measurement"]),
        ("wind_speed", &["m/s", "km/h", "mph", "kn", "ft/s", "Beaufort"], &["measurement"]),
        ("wind_direction", &["°"], &["measurement_angle"]),
        ("precipitation", &["mm", "cm", "in"], &["measurement", "total", "total_increasing"]),
        ("precipitation_intensity", &["mm/h", "mm/d", "in/h", "in/d"], &["measurement"]),
        ("irradiance", &["W/m²", "BTU/(h⋅ft²)"], &["measurement"]),
    ];

    #[test]
    fn every_quantity_has_a_unit_and_a_state_class_that_go_with_its_device_class() {
        for quantity in Observed::ALL {
            let entity = announced(*quantity, false);
            let unit = entity["unit_of_measurement"].as_str().unwrap();
            let state_class = entity["state_class"].as_str().unwrap();
            if state_class == "measurement_angle" {
                assert_eq!(unit, "°");
            }
            let Some(class) = entity.get("device_class") else {
                assert!(entity["icon"].as_str().unwrap().starts_with("mdi:"), "{entity}");
                continue;
            };
            let found = ALLOWED.iter().find(|(name, ..)| class == name);
            let (_, units, state_classes) = found.unwrap_or_else(|| panic!("{class} is no device class"));
            assert!(units.contains(&unit) && state_classes.contains(&state_class), "{entity}");
        }
    }

    #[test]
    fn an_announcement_has_what_home_assistant_needs() {
        let entity = announced(Observed::Rain, false);
        assert_eq!(entity["name"], "Rain today");
        assert_eq!(entity["unique_id"], "stationhub--farm--a--weathermeters--rain");
        assert_eq!(entity["state_topic"], "stationhub/farm/a--weathermeters/state");
        assert_eq!(entity["value_template"], "{{ value_json.rain }}");
        assert_eq!(entity["state_class"], "total");
        assert_eq!(entity["last_reset_value_template"], "{{ value_json.day_begins }}");
        assert!(announced(Observed::RainRate, false).get("last_reset_value_template").is_none());
        assert_eq!(entity["availability_topic"], "stationhub/farm/status");
        assert_eq!(entity["expire_after"], 120);
        assert_eq!(entity["device"]["identifiers"], json!(["stationhub--farm"]));
        assert_eq!(entity["origin"]["name"], "stationhub");
        assert_eq!(announced(Observed::Rain, true)["name"], "Rain today, a/weathermeters");
    }

    #[test]
    fn a_state_has_every_quantity_of_its_kind() {
        let values = [(Observed::Temperature, 21.456_789), (Observed::Pressure, f64::NAN)];
        let message: Value =
            serde_json::from_str(&state(1_700_000_000, 1_699_920_000, &[Kind::Weather], &values)).unwrap();
        assert_eq!(message["temperature"], 21.457);
        assert!(message["pressure"].is_null() && message["heat_index"].is_null());
        assert!(message.get("heat_index").is_some() && message.get("flux_x").is_none());
        assert_eq!(message["time"], 1_700_000_000);
        assert_eq!(message["day_begins"], "2023-11-14T00:00:00Z");
    }
}
