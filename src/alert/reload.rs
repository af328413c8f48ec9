//! Rules read anew while the hub serves, as SIGHUP asks for it.
//!
//! Owns what of the section that means: rules alone. A file that is wrong, or in which channels are others, leaves the rules
//! in force as they are.

use std::sync::Arc;

use super::Alerts;
use crate::reload::{Reload, Reloaded};
use crate::settings::Reread;

/// The rules, and where they are read.
pub struct RulesAnew {
    alerts: Arc<Alerts>,
    reread: Arc<Reread>,
}

impl RulesAnew {
    /// Makes what reads the rules of `alerts` anew.
    pub fn new(alerts: Arc<Alerts>, reread: Arc<Reread>) -> RulesAnew {
        RulesAnew { alerts, reread }
    }
}

impl Reload for RulesAnew {
    fn reload(&self) -> Result<Reloaded, String> {
        // What is wrong with it is told by those who own the file.
        let config = (self.reread)()
            .map_err(|_| "the rules of alerts are left alone while the configuration is wrong".to_owned())?;
        self.alerts.replace_rules(&config.alerts).map_err(|error| format!("rules of alerts: {error}"))?;
        let what = match config.alerts.rules.len() {
            1 => "1 rule of the alerts".to_owned(),
            count => format!("{count} rules of the alerts"),
        };
        Ok(Reloaded { what, warnings: Vec::new() })
    }
}
