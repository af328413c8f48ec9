//! Logins that were verified before.
//!
//! Owns a bounded memory of them, so that a hundred sensors that come back at once do not each pay for a slow hash. It
//! keeps digests under a random key that dies with the process, never a password.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use hmac::{Hmac, Mac};
use sha2::Sha512;

use super::error::AuthError;

/// Logins remembered, at most.
const KEPT_MAX: usize = 1024;
const DIGEST_BYTES: usize = 32;

/// A login's digest.
pub(super) type Proof = [u8; DIGEST_BYTES];

/// The logins that are remembered.
pub(super) struct Verified {
    key: Hmac<Sha512>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    proofs: HashSet<Proof>,
    order: VecDeque<Proof>,
}

impl fmt::Debug for Verified {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Verified")
    }
}

impl Verified {
    /// Makes an empty memory with a key of its own.
    ///
    /// # Errors
    /// [`AuthError::Random`].
    pub(super) fn new() -> Result<Verified, AuthError> {
        let mut key = [0; 64];
        getrandom::fill(&mut key).map_err(|error| AuthError::Random(error.to_string()))?;
        let key = Hmac::new_from_slice(&key).map_err(|error| AuthError::Random(error.to_string()))?;
        Ok(Verified { key, kept: Mutex::default() })
    }

    /// Returns the digest of a login.
    pub(super) fn proof(&self, name: &str, password: &[u8]) -> Proof {
        // The name's length keeps `a` + `bc` and `ab` + `c` apart.
        let mac = self.key.clone().chain_update(name.len().to_be_bytes()).chain_update(name).chain_update(password);
        let whole = mac.finalize().into_bytes();
        let mut proof = [0; DIGEST_BYTES];
        proof.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        proof
    }

    /// Tells whether the login is remembered.
    pub(super) fn knows(&self, proof: &Proof) -> bool {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).proofs.contains(proof)
    }

    /// Remembers a login, and forgets the oldest where there are too many.
    pub(super) fn remember(&self, proof: Proof) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.proofs.insert(proof) {
            return;
        }
        kept.order.push_back(proof);
        if kept.order.len() > KEPT_MAX
            && let Some(oldest) = kept.order.pop_front()
        {
            kept.proofs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_login_is_known_by_name_and_password_together() {
        let verified = Verified::new().unwrap();
        verified.remember(verified.proof("ab", b"c"));
        assert!(verified.knows(&verified.proof("ab", b"c")));
        for (name, password) in [("a", "bc"), ("ab", "d"), ("ab", ""), ("abc", "")] {
            assert!(!verified.knows(&verified.proof(name, password.as_bytes())), "{name} {password}");
        }
        let other = Verified::new().unwrap();
        assert_ne!(other.proof("ab", b"c"), verified.proof("ab", b"c"), "each has a key of its own");
    }

    #[test]
    fn the_memory_is_bounded() {
        let verified = Verified::new().unwrap();
        for number in 0..KEPT_MAX as u64 + 1 {
            verified.remember(verified.proof("a", &number.to_be_bytes()));
        }
        assert!(!verified.knows(&verified.proof("a", &0u64.to_be_bytes())));
        assert_eq!(verified.kept.lock().unwrap().proofs.len(), KEPT_MAX);
    }
}
