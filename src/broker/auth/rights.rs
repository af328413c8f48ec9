//! What one client may do.
//!
//! Owns the client's rules, made from the users and rights in force and made anew when others come into force. It
//! never decides who the client is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Access;
use super::acl::Rules;

/// One client's rights; they follow what is in force.
#[derive(Debug)]
pub struct Rights {
    access: Arc<Access>,
    user: Option<Arc<str>>,
    client_id: Box<str>,
    /// Whether they are those of a part of the hub, whose user is a name in the rules alone.
    are_inside: bool,
    /// The generation in which everything is allowed, as it is without rules; 0 for none.
    open_in: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    generation: u64,
    /// `None` where everything is allowed.
    rules: Option<Arc<Rules>>,
}

impl Rights {
    /// Makes the rights of a client that was let in.
    pub fn new(access: Arc<Access>, user: Option<Arc<str>>, client_id: &str) -> Arc<Rights> {
        let (open_in, known) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Rights { access, user, client_id: client_id.into(), are_inside: false, open_in, known })
    }

    /// Makes the rights of a part of the hub: those that the rules give to `user`, who need not be one that logs in.
    pub fn inside(access: Arc<Access>, user: &str, name: &str) -> Arc<Rights> {
        let (open_in, known) = (AtomicU64::new(0), Mutex::default());
        Arc::new(Rights { access, user: Some(user.into()), client_id: name.into(), are_inside: true, open_in, known })
    }

    /// Returns the user's name for a log line.
    pub fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("(anonymous)")
    }

    /// Tells whether a message on `topic` may be delivered to the client.
    pub fn may_read(&self, topic: &str) -> bool {
        self.rules().is_none_or(|rules| rules.may_read(topic))
    }

    /// Tells whether the client may publish on `topic`.
    pub fn may_write(&self, topic: &str) -> bool {
        self.rules().is_none_or(|rules| rules.may_write(topic))
    }

    /// Tells whether the client may subscribe to `filter`.
    pub fn may_subscribe(&self, filter: &str) -> bool {
        self.rules().is_none_or(|rules| rules.may_subscribe(filter))
    }

    /// Tells whether nothing is forbidden, so that nothing needs to be looked at.
    pub fn are_open(&self) -> bool {
        self.rules().is_none()
    }

    fn rules(&self) -> Option<Arc<Rules>> {
        let generation = self.access.generation();
        if self.open_in.load(Ordering::Relaxed) == generation {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.generation != generation {
            let (generation, auth) = self.access.current();
            let (user, client_id) = (self.user.as_deref(), &self.client_id);
            let rules = if self.are_inside { auth.rules_inside(user, client_id) } else { auth.rules(user, client_id) };
            let rules = rules.map(Arc::new);
            if rules.is_none() {
                self.open_in.store(generation, Ordering::Relaxed);
            }
            *known = Known { generation, rules };
        }
        known.rules.clone()
    }
}
