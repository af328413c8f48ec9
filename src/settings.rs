//! hub.toml, read anew while the hub serves.
//!
//! Owns which of its keys take effect then: the level of the log. All others are compared with what is in force, and named
//! as waiting for a restart, but for the rules of alerts, which their room reads. A file that is wrong changes nothing. What files of their own hold (users, rights,
//! certificates) is read anew by those who use it.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::{Config, ConfigErrors, Problem};
use crate::log::{LevelSwitch, one_line};
use crate::reload::{Reload, Reloaded};

/// The key that takes effect at once.
const LEVEL: &str = "log.level";
/// The keys that the room of alerts reads itself.
const OF_RULES: [&str; 2] = ["alerts.rule", "alerts.repeat_s"];

/// Reads the configuration from where it was read at the start.
pub type Reread = dyn Fn() -> Result<Config, ConfigErrors> + Send + Sync;

/// The configuration in force.
pub struct HubToml {
    reread: Arc<Reread>,
    in_force: Mutex<Config>,
    level: LevelSwitch,
}

impl HubToml {
    /// Remembers what is in force, and how it is read.
    pub fn new(in_force: Config, reread: Arc<Reread>, level: LevelSwitch) -> HubToml {
        HubToml { reread, in_force: Mutex::new(in_force), level }
    }

    /// Returns how it is read.
    pub fn reread(&self) -> Arc<Reread> {
        self.reread.clone()
    }
}

impl Reload for HubToml {
    fn reload(&self) -> Result<Reloaded, String> {
        let new = (self.reread)().map_err(|errors| in_words(&errors))?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = in_force.changes(&new).into_iter();
        let (now, later): (Vec<String>, Vec<String>) =
            changed.filter(|key| !OF_RULES.contains(&key.as_str())).partition(|key| key.as_str() == LEVEL);
        let mut what = "the configuration, in which nothing has changed".to_owned();
        if !now.is_empty() {
            self.level.set(new.log.level).map_err(|error| error.to_string())?;
            in_force.log.level = new.log.level;
            what = format!("the configuration: {LEVEL} is {} now", new.log.level.as_str().to_lowercase());
        } else if !later.is_empty() {
            what = "the configuration: nothing of it changes before a restart".to_owned();
        }
        let keys = later.join(", ");
        let restart =
            format!("{keys}: the value that is written there now needs a restart; until then the old one holds");
        Ok(Reloaded { what, warnings: if later.is_empty() { Vec::new() } else { vec![restart] } })
    }
}

/// Says what is wrong; certificates that cannot be used are told by their listeners.
fn in_words(errors: &ConfigErrors) -> String {
    let of_listeners = |problem: &&Problem| problem.key.contains(".tls.");
    let texts: Vec<String> = errors
        .problems()
        .iter()
        .filter(|problem| !of_listeners(problem))
        .map(|problem| one_line(&problem.to_string()))
        .collect();
    if texts.is_empty() {
        return "the configuration is left alone while certificates that it names cannot be used".to_owned();
    }
    format!("the configuration is wrong: {}", texts.join("; "))
}
