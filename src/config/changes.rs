//! Which keys differ between two configurations.
//!
//! It compares what they would print, so that whoever adds a key there need not think of it here. It never judges what a
//! difference means.

use std::collections::BTreeMap;

use super::Config;

/// Stands for all that `rumqttd.toml` says.
const RUMQTTD: &str = "rumqttd.toml";

impl Config {
    /// Returns the keys whose values differ in `new`, in the order of their names.
    pub fn changes(&self, new: &Config) -> Vec<String> {
        let (before, after) = (values(&self.effective()), values(&new.effective()));
        let mut keys: Vec<String> =
            before.keys().chain(after.keys()).filter(|key| before.get(*key) != after.get(*key)).cloned().collect();
        keys.sort();
        keys.dedup();
        if self.bridge != new.bridge && !keys.iter().any(|key| key.starts_with("bridge")) {
            // What is masked where it is printed.
            keys.push("bridge.password".to_owned());
        }
        if self.uploads != new.uploads && !keys.iter().any(|key| key.starts_with("upload")) {
            keys.push("upload.password".to_owned());
        }
        keys
    }
}

/// Takes a printed configuration apart: for each key all its values, one below the other.
fn values(text: &str) -> BTreeMap<String, String> {
    let (mut section, mut values) = (String::new(), BTreeMap::<String, String>::new());
    for line in text.lines() {
        let key = if line.starts_with("[[") {
            // Tables of a list have no name of their own.
            section = line.trim_matches(['[', ']']).to_owned();
            section.clone()
        } else if line.starts_with('[') {
            section = format!("{}.", line.trim_matches(['[', ']']));
            continue;
        } else if line.starts_with("# listener ") || line.starts_with("# router: ") {
            RUMQTTD.to_owned()
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            if section.ends_with('.') { format!("{section}{key}") } else { section.clone() }
        } else {
            continue;
        };
        let value = values.entry(key).or_default();
        value.push_str(line);
        value.push('\n');
    }
    values
}
