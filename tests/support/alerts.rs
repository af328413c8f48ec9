//! A hub that tells of frost over a webhook, and the sensor that makes it.
//!
//! Owns what the tests of alerts share. It never judges a message beyond its id.

use super::mqtt::{Client, Connect};
use super::webhook::Webhook;
use super::{Hub, PATIENTLY, Site, wait_for};

pub const TOPIC: &str = "garden/weathermeters";

/// A site with a webhook, and a rule that tells of frost at once.
pub fn site(hook: &Webhook, more: &str) -> Site {
    Site::with_config(&format!(
        "[station]\nname = \"farm\"\n[alerts]\ngroup_s = 0\n\
         [[alerts.channel]]\nname = \"hook\"\nkind = \"webhook\"\nurl = \"{}\"\ntimeout_s = 1\n\
         [[alerts.rule]]\nname = \"frost\"\nwhen = \"temperature < 0\"\n{more}",
        hook.url()
    ))
}

pub struct Sensor(Client);

impl Sensor {
    pub fn new(hub: &Hub) -> Sensor {
        Sensor(Connect::new(4, "sensor").open(hub.mqtt))
    }

    /// Publishes a temperature, and returns once it is stored.
    pub fn says(&mut self, temperature: f64) {
        self.0.publish_through(TOPIC, format!("{{\"temperature\":{temperature}}}").as_bytes(), 1);
    }
}

/// Waits until the hook has taken messages that end with these words, in this order, and no others.
pub fn expect(hook: &Webhook, ends: &[&str]) -> Vec<String> {
    wait_for(&format!("messages {ends:?}, are {:?}", hook.ids()), PATIENTLY, || hook.ids().len() >= ends.len());
    let ids = hook.ids();
    let are_those = ids.len() == ends.len() && ids.iter().zip(ends).all(|(id, end)| id.ends_with(end));
    assert!(are_those, "{ids:?} should end with {ends:?}");
    ids
}

pub fn done(site: &Site) -> i64 {
    site.number("SELECT count(*) FROM alert_notice WHERE outcome = 'sent'")
}
