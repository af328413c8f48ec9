//! Who may connect, and what each may do.
//!
//! Owns users and rights: reading their files (`users`, `passwords`, `acl`), the verdict over a login (here, with
//! `throttle` and `verified`), and what a client may do (`rights`). What is in force can be replaced while clients are
//! connected. It never touches a socket, and never lets a secret into a log line, an error or a debug print.

pub mod acl;
mod error;
pub mod passwords;
mod reload;
mod rights;
#[cfg(test)]
mod tests;
mod throttle;
pub mod users;
mod verified;

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::time::timeout_at;

pub use self::error::{AuthError, AuthErrors};
pub use self::reload::AccessFiles;
pub use self::rights::Rights;

use self::acl::{Acl, Rules};
use self::throttle::Throttle;
use self::users::Users;
use self::verified::Verified;
use crate::config;
use crate::tasks::{self, Name};

/// Largest file of users or rules, bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Passwords verified at a time: each takes memory and a core.
const VERIFIED_AT_A_TIME: usize = 2;
/// Logins that wait for that, at most.
const WAITING_MAX: usize = 256;
const USERS: &str = "broker.users";
const PASSWORD_FILE: &str = "broker.password_file";
const ACL_FILE: &str = "broker.acl_file";

/// Users and rights, read and valid.
#[derive(Debug)]
pub struct Auth {
    /// `None` where no users are configured: everybody is anonymous.
    users: Option<Users>,
    acl: Option<Acl>,
    allow_anonymous: bool,
    verified: Verified,
    /// Chooses the stand-ins for names that nobody has.
    lots: RandomState,
    warnings: Vec<String>,
}

/// The users and rights in force, and the door at which logins are judged.
#[derive(Debug)]
pub struct Access {
    current: RwLock<Arc<Auth>>,
    generation: AtomicU64,
    workers: Arc<Semaphore>,
    waiting: AtomicUsize,
    throttle: Arc<Throttle>,
}

/// What a client says of itself.
#[derive(Clone, Copy)]
pub struct Login<'l> {
    /// The user name.
    pub name: Option<&'l str>,
    /// The password.
    pub password: Option<&'l [u8]>,
}

/// Why a client is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It brings no name, and must.
    Anonymous,
    /// Nobody has its name.
    Unknown,
    /// Its password is wrong.
    Wrong,
    /// Too many logins are under way.
    Busy,
}

impl Auth {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(settings: &config::Broker) -> Result<Auth, AuthErrors> {
        let mut loading = Loading { warnings: Vec::new(), errors: Vec::new() };
        let users = settings.users.as_deref().map(|path| (path, loading.own_users(path)));
        let theirs = settings.password_file.as_deref().map(|path| loading.read(path, PASSWORD_FILE, Users::parse));
        let acl = settings.acl_file.as_deref().map(|path| loading.read(path, ACL_FILE, Acl::parse));
        if let (Some((path, users)), Some(theirs)) = (&users, &theirs) {
            for name in users.names().filter(|name| theirs.has(name)) {
                loading.errors.push(AuthError::Twice { path: path.to_path_buf(), name: name.to_string() });
            }
        }
        let mut all = None;
        for users in users.map(|(_, users)| users).into_iter().chain(theirs) {
            all.get_or_insert_with(Users::default).join(users);
        }
        if let Some(acl) = &acl {
            loading.warn_of_idle_rules(acl, all.as_ref(), settings);
        }
        let verified = Verified::new().map_err(|error| loading.errors.push(error)).ok();
        match verified {
            Some(verified) if loading.errors.is_empty() => Ok(Auth {
                users: all,
                acl,
                allow_anonymous: settings.allow_anonymous,
                verified,
                lots: RandomState::new(),
                warnings: loading.warnings,
            }),
            _ => Err(AuthErrors::from(loading.errors)),
        }
    }

    /// Reads a file of the hub's own users, who all may do the same, and nobody else anything; `key` names it in errors.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn of_users(path: &Path, key: &'static str) -> Result<Auth, AuthErrors> {
        let mut loading = Loading { warnings: Vec::new(), errors: Vec::new() };
        let users = loading.read(path, key, own_users);
        match Verified::new() {
            Ok(verified) if loading.errors.is_empty() => Ok(Auth {
                users: Some(users),
                acl: None,
                allow_anonymous: false,
                verified,
                lots: RandomState::new(),
                warnings: loading.warnings,
            }),
            Ok(_) => Err(AuthErrors::from(loading.errors)),
            Err(error) => Err(AuthErrors::from(vec![error])),
        }
    }

    /// Returns what the owner should know, though it stops nothing.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Returns the rules for a client; `None` where everything is allowed.
    fn rules(&self, user: Option<&str>, client_id: &str) -> Option<Rules> {
        let is_gone = user.is_some_and(|name| self.users.as_ref().is_none_or(|users| !users.has(name)))
            || (user.is_none() && self.users.is_some() && !self.allow_anonymous);
        if is_gone {
            // Users and rights were replaced since it logged in.
            return Some(Rules::default());
        }
        self.rules_inside(user, client_id)
    }

    /// Returns the rules for a part of the hub that has a user's rights and never logs in; `None` where there are none.
    fn rules_inside(&self, user: Option<&str>, name: &str) -> Option<Rules> {
        self.acl.as_ref().map(|acl| acl.rules(user, name))
    }
}

impl Access {
    /// Puts users and rights in force.
    pub fn new(auth: Auth) -> Arc<Access> {
        Arc::new(Access {
            current: RwLock::new(Arc::new(auth)),
            generation: AtomicU64::new(1),
            workers: Arc::new(Semaphore::new(VERIFIED_AT_A_TIME)),
            waiting: AtomicUsize::new(0),
            throttle: Arc::default(),
        })
    }

    /// Puts others in force: from now on for logins, and for what connected clients do. Who is no user any more may do
    /// nothing any more.
    pub fn replace(&self, auth: Auth) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(auth);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn current(&self) -> (u64, Arc<Auth>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (self.generation(), current.clone())
    }

    /// Judges a login within `deadline`; returns the user, or `None` for an anonymous client. A refusal for a wrong
    /// password comes late on purpose.
    ///
    /// # Errors
    /// [`Refusal`].
    pub async fn admit(
        &self,
        login: Login<'_>,
        peer: IpAddr,
        deadline: tokio::time::Instant,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let (_, auth) = self.current();
        let Some(users) = &auth.users else { return Ok(None) };
        let Some(name) = login.name else {
            return if auth.allow_anonymous { Ok(None) } else { Err(Refusal::Anonymous) };
        };
        let password = login.password.unwrap_or_default();
        let proof = auth.verified.proof(name, password);
        if auth.verified.knows(&proof)
            && let Some((_, Some(name))) = users.hash(name, 0)
        {
            return Ok(Some(name.clone()));
        }
        let attempt = self.throttle.begin(peer, Instant::now()).ok_or(Refusal::Busy)?;
        let verdict = self.verify(&auth, name, password, deadline).await;
        match verdict {
            Ok(Some(_)) => auth.verified.remember(proof),
            Ok(None) => {
                tokio::time::sleep(attempt.failed(Instant::now())).await;
                return Err(if users.has(name) { Refusal::Wrong } else { Refusal::Unknown });
            }
            Err(_) => {}
        }
        verdict
    }

    /// Verifies a password on a thread where it holds nobody up; `None` where it is wrong.
    async fn verify(
        &self,
        auth: &Arc<Auth>,
        name: &str,
        password: &[u8],
        deadline: tokio::time::Instant,
    ) -> Result<Option<Arc<str>>, Refusal> {
        let _waiting = Waiting::enter(&self.waiting).ok_or(Refusal::Busy)?;
        let worker = timeout_at(deadline, self.workers.clone().acquire_owned()).await;
        let Ok(Ok(worker)) = worker else { return Err(Refusal::Busy) };
        let proof = auth.verified.proof(name, password);
        let Some(users) = &auth.users else { return Ok(None) };
        if auth.verified.knows(&proof)
            && let Some((_, Some(name))) = users.hash(name, 0)
        {
            // Another client with the same login was verified meanwhile.
            return Ok(Some(name.clone()));
        }
        let Some((hash, known)) = users.hash(name, auth.lots.hash_one(name)) else { return Ok(None) };
        let (hash, known, password) = (hash.clone(), known.cloned(), password.to_vec());
        let verified = tasks::blocking(Name::Client("login", None), move || {
            // It counts as busy until it is done, though its client may be gone.
            let _worker = worker;
            hash.verify(&password)
        });
        match timeout_at(deadline, verified).await {
            Ok(Ok(right)) => Ok(known.filter(|_| right)),
            _ => Err(Refusal::Busy),
        }
    }
}

impl Refusal {
    /// Returns the CONNACK's code in MQTT 3.1.1.
    pub fn code_v4(self) -> u8 {
        match self {
            Refusal::Anonymous => 5,
            Refusal::Unknown | Refusal::Wrong => 4,
            Refusal::Busy => 3,
        }
    }

    /// Returns the CONNACK's reason code in MQTT 5.
    pub fn code_v5(self) -> u8 {
        match self {
            Refusal::Anonymous => 0x87,
            Refusal::Unknown | Refusal::Wrong => 0x86,
            Refusal::Busy => 0x89,
        }
    }

    /// Returns the reason for a log line.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Anonymous => "it brings no user name, and broker.allow_anonymous is false",
            Refusal::Unknown => "nobody has its user name",
            Refusal::Wrong => "its password is wrong",
            Refusal::Busy => "too many logins are under way, or this one took too long",
        }
    }
}

/// A place among those who wait for their password to be verified.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn enter(count: &'w AtomicUsize) -> Option<Waiting<'w>> {
        let place = Waiting(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What comes of reading the files.
struct Loading {
    warnings: Vec<String>,
    errors: Vec<AuthError>,
}

impl Loading {
    /// Reads a file; where that fails, the error is noted and an empty value stands in.
    fn read<T: Default>(
        &mut self,
        path: &Path,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Vec<(usize, String)>>,
    ) -> T {
        let text = match read_file(path) {
            Ok((text, mode)) => {
                if mode & 0o004 != 0 && key != ACL_FILE {
                    let path = path.display();
                    self.warnings.push(format!("{path}: {key}: everybody on this machine can read it; chmod 600 it"));
                }
                text
            }
            Err(source) => {
                self.errors.push(AuthError::Unreadable { path: path.to_owned(), key, source });
                return T::default();
            }
        };
        parse(&text).unwrap_or_else(|wrong| {
            let error = |(line, text)| AuthError::Line { path: path.to_owned(), line, key, text };
            self.errors.extend(wrong.into_iter().map(error));
            T::default()
        })
    }

    /// Reads the hub's own file, in which only the hub's own hashes may stand.
    fn own_users(&mut self, path: &Path) -> Users {
        self.read(path, USERS, own_users)
    }

    /// Says which rules can never apply.
    fn warn_of_idle_rules(&mut self, acl: &Acl, users: Option<&Users>, settings: &config::Broker) {
        if users.is_none() && acl.names_users() {
            let path = settings.acl_file.as_deref().unwrap_or(Path::new("")).display();
            self.warnings.push(format!(
                "{path}: broker.acl_file: has rules for users, but neither broker.users nor broker.password_file is \
                 set: everybody is anonymous, and these rules apply to nobody"
            ));
        }
    }
}

/// Reads the text of the hub's own file of users.
///
/// # Errors
/// Every wrong line with its number, counted from 1.
pub fn own_users(text: &str) -> Result<Users, Vec<(usize, String)>> {
    let users = Users::parse(text)?;
    let foreign: Vec<(usize, String)> = users
        .foreign()
        .map(|name| {
            let line = text.lines().position(|line| line.starts_with(&format!("{name}:"))).unwrap_or_default();
            let text = "the hash is Mosquitto's; name a file with such hashes in broker.password_file".to_owned();
            (line + 1, text)
        })
        .collect();
    if foreign.is_empty() { Ok(users) } else { Err(foreign) }
}

/// Reads a file of bounded size; returns its text and its mode.
fn read_file(path: &Path) -> io::Result<(String, u32)> {
    let file = File::open(path)?;
    let mode = file.metadata()?.mode();
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok((text, mode))
}
