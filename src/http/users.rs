//! The users of the page, who log in where it can be reached from other machines.
//!
//! Owns which file they come from. Names and passwords are `broker::auth`'s, as those of the broker are.

use std::path::PathBuf;
use std::sync::Arc;

use crate::broker::auth::{Access, Auth, AuthErrors};
use crate::config;
use crate::reload::{Reload, Reloaded};

const KEY: &str = "http.users";

/// Reads the users of the page; `None` where there are none.
///
/// # Errors
/// Everything that is wrong with their file.
pub fn access(settings: &config::Http) -> Result<Option<Auth>, AuthErrors> {
    settings.users.as_deref().map(|path| Auth::of_users(path, KEY)).transpose()
}

/// The users in force, with the file that they are read from.
pub struct PageUsers {
    access: Arc<Access>,
    path: PathBuf,
}

impl PageUsers {
    /// Puts users in force and remembers where they come from; `None` where there are none.
    ///
    /// # Errors
    /// Everything that is wrong with their file.
    pub fn load(settings: &config::Http) -> Result<Option<PageUsers>, AuthErrors> {
        let users = access(settings)?.map(Access::new);
        Ok(users.zip(settings.users.clone()).map(|(access, path)| PageUsers { access, path }))
    }

    /// Returns the users in force.
    pub fn access(&self) -> Arc<Access> {
        self.access.clone()
    }
}

impl Reload for PageUsers {
    fn reload(&self) -> Result<Reloaded, String> {
        let auth = Auth::of_users(&self.path, KEY).map_err(|errors| errors.to_string().replace('\n', "; "))?;
        let warnings = auth.warnings().to_vec();
        self.access.replace(auth);
        Ok(Reloaded { what: "the page's users".to_owned(), warnings })
    }
}
