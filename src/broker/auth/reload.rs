//! Users and rights read anew while the hub runs.
//!
//! Owns which files they came from. A file that cannot be used leaves those in force that are.

use std::sync::Arc;

use super::{Access, Auth};
use crate::config;
use crate::reload::{Reload, Reloaded};

/// The users and rights in force, with what they are read from.
pub struct AccessFiles {
    access: Arc<Access>,
    settings: config::Broker,
}

impl AccessFiles {
    /// Remembers where users and rights come from; `None` where they come from no file.
    pub fn of(access: Arc<Access>, settings: &config::Broker) -> Option<AccessFiles> {
        let files = [&settings.users, &settings.password_file, &settings.acl_file];
        let has_files = files.iter().any(|file| file.is_some());
        has_files.then(|| AccessFiles { access, settings: settings.clone() })
    }
}

impl Reload for AccessFiles {
    fn reload(&self) -> Result<Reloaded, String> {
        let auth = Auth::load(&self.settings).map_err(|errors| errors.to_string().replace('\n', "; "))?;
        let warnings = auth.warnings().to_vec();
        self.access.replace(auth);
        Ok(Reloaded { what: "users and rights".to_owned(), warnings })
    }
}
