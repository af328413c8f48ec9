//! Password hashes: argon2id of the hub's own, and Mosquitto's two, PBKDF2-SHA512 (`$7$`) and salted SHA-512 (`$6$`).
//!
//! Owns their text, their verification and the making of new ones. A hash and a password never get into an error or a
//! debug print. It never knows whose hash it is.

use std::fmt;

use argon2::password_hash::{Output, ParamsString, PasswordHash, PasswordVerifier, Salt};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

/// What a new hash costs: 7 MiB, five rounds, one lane, as OWASP's cheat sheet on password storage has it for little
/// memory. Two at a time are no burden for a machine with 512 MB.
const MEMORY_KIB: u32 = 7 * 1024;
const ROUNDS: u32 = 5;
const LANES: u32 = 1;
/// What a hash in a file may ask for: beyond it, a login would be an attack on the hub.
const MEMORY_KIB_MAX: u32 = 64 * 1024;
const ROUNDS_MAX: u32 = 64;
const LANES_MAX: u32 = 8;
const ITERATIONS_MAX: u32 = 2_000_000;
const SALT_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 64;
const SHA512_BYTES: usize = 64;

/// Why a new hash could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a password hash: {0}")]
pub struct HashError(String);

/// A password's hash.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// argon2id, in PHC form.
    Argon2id(String),
    /// PBKDF2 with HMAC-SHA-512.
    Pbkdf2 {
        /// Rounds.
        iterations: u32,
        /// The salt.
        salt: Vec<u8>,
        /// The result.
        digest: Vec<u8>,
    },
    /// SHA-512 of password and salt.
    Sha512 {
        /// The salt.
        salt: Vec<u8>,
        /// The result.
        digest: Vec<u8>,
    },
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Hash::Argon2id(_) => "argon2id ***",
            Hash::Pbkdf2 { .. } => "PBKDF2-SHA512 ***",
            Hash::Sha512 { .. } => "SHA512 ***",
        })
    }
}

impl Hash {
    /// Reads a hash.
    ///
    /// # Errors
    /// What is wrong with it, in words that do not repeat it.
    pub fn parse(text: &str) -> Result<Hash, &'static str> {
        let mut fields = text.split('$').skip(1);
        match fields.next() {
            Some("argon2id") => argon2id(text),
            Some("7") => {
                let iterations = fields.next().and_then(|field| field.parse().ok());
                let iterations = iterations
                    .filter(|iterations| (1..=ITERATIONS_MAX).contains(iterations))
                    .ok_or("the hash's number of rounds is not between 1 and 2000000")?;
                let (salt, digest) = salt_and_digest(fields)?;
                Ok(Hash::Pbkdf2 { iterations, salt, digest })
            }
            Some("6") => {
                let (salt, digest) = salt_and_digest(fields)?;
                Ok(Hash::Sha512 { salt, digest })
            }
            Some(_) => Err("the hash is of a kind that the hub does not know; it knows $argon2id$, $7$ and $6$"),
            None => Err("after the name and ':' must stand a hash, such as `stationhub passwd` makes, not a password"),
        }
    }

    /// Makes a new argon2id hash with a random salt.
    ///
    /// # Errors
    /// [`HashError`], where the system gives no random bytes.
    pub fn make(password: &[u8]) -> Result<Hash, HashError> {
        let failed = |error: &dyn fmt::Display| HashError(error.to_string());
        let mut bytes = [0; SALT_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
        let mut buffer = [0; Salt::MAX_LENGTH];
        let salt = argon2::password_hash::Encoding::B64.encode(&bytes, &mut buffer).map_err(|error| failed(&error))?;
        let salt = Salt::from_b64(salt).map_err(|error| failed(&error))?;
        let params = Params::new(MEMORY_KIB, ROUNDS, LANES, None).map_err(|error| failed(&error))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = argon2.hash_password(password, salt).map_err(|error| failed(&error))?;
        Ok(Hash::Argon2id(hash.to_string()))
    }

    /// Tells whether `password` is the right one, in the time that its kind of hash takes.
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Hash::Argon2id(text) => {
                PasswordHash::new(text).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
            }
            Hash::Pbkdf2 { iterations, salt, digest } => {
                let mut found = [0; SHA512_BYTES];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, &mut found);
                found.ct_eq(digest).into()
            }
            Hash::Sha512 { salt, digest } => {
                let found = Sha512::new().chain_update(password).chain_update(salt).finalize();
                found.ct_eq(digest).into()
            }
        }
    }

    /// Returns the hash as it stands in the hub's users file; `None` for Mosquitto's.
    pub fn text(&self) -> Option<&str> {
        match self {
            Hash::Argon2id(text) => Some(text),
            Hash::Pbkdf2 { .. } | Hash::Sha512 { .. } => None,
        }
    }
}

fn argon2id(text: &str) -> Result<Hash, &'static str> {
    const BROKEN: &str = "the argon2id hash is not whole";
    let hash = PasswordHash::new(text).map_err(|_| BROKEN)?;
    let params = Params::try_from(&hash).map_err(|_| BROKEN)?;
    let is_whole = hash.salt.is_some() && hash.hash.as_ref().is_some_and(|output: &Output| output.len() >= 16);
    if !is_whole || hash.params == ParamsString::new() {
        return Err(BROKEN);
    }
    if params.m_cost() > MEMORY_KIB_MAX || params.t_cost() > ROUNDS_MAX || params.p_cost() > LANES_MAX {
        return Err("the argon2id hash asks for more than 64 MiB, 64 rounds or 8 lanes; make it anew");
    }
    Ok(Hash::Argon2id(text.to_owned()))
}

fn salt_and_digest<'a>(mut fields: impl Iterator<Item = &'a str>) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let mut bytes = || fields.next().and_then(|field| STANDARD.decode(field).ok());
    let salt = bytes().filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
    let digest = bytes().filter(|digest| digest.len() == SHA512_BYTES);
    match (salt, digest, fields.next()) {
        (Some(salt), Some(digest), None) => Ok((salt, digest)),
        _ => Err("the hash is not whole: salt or digest is missing, cut off or not base64"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Both made by mosquitto_passwd 2.0.11 for the password `wetter`.
    const PBKDF2: &str = "$7$101$ULcXBP+ouir9XZ7A$aQoVrXEcEcd3AFAWqL7rbKegEIZwaTTzKJTH2qqGPBq5Jy\
                          uFhZwzknU0RvwMKpD9v4oBDcITcchpgYLTTRbt9g==";
    const SHA512: &str = "$6$qR1AFfCvl4hoE8VN$UzzoJ/sqwit+TsGTOIyEzdwHKS/C0wSkOMFEf2DDxstM8zirqi\
                          7oQcI0AeEHbj/DaLAKNL4d9ZsYILnUVLK1pQ==";

    #[test]
    fn each_kind_of_hash_knows_its_password_and_no_other() {
        let made = Hash::make(b"wetter").unwrap();
        let again = Hash::parse(made.text().unwrap()).unwrap();
        for hash in [made, again, Hash::parse(PBKDF2).unwrap(), Hash::parse(SHA512).unwrap()] {
            assert!(hash.verify(b"wetter"), "{hash:?}");
            for wrong in ["", "Wetter", "wetter ", "wette"] {
                assert!(!hash.verify(wrong.as_bytes()), "{hash:?} {wrong:?}");
            }
        }
    }

    #[test]
    fn two_hashes_of_one_password_differ_and_cost_what_they_should() {
        let (first, second) = (Hash::make(b"x").unwrap(), Hash::make(b"x").unwrap());
        assert_ne!(first, second);
        assert!(first.text().unwrap().starts_with("$argon2id$v=19$m=7168,t=5,p=1$"));
    }

    #[test]
    fn what_is_no_hash_or_asks_too_much_is_refused_without_being_repeated() {
        let greedy = "$argon2id$v=19$m=4194304,t=5,p=1$c29tZXNhbHQ$dGhpc2lzbm90YXJlYWxoYXNoMTIzNA";
        for text in [
            "",
            "plain",
            "$",
            "$1$abc$def",
            "$argon2id$",
            "$argon2i$v=19$m=7168,t=5,p=1$c29tZXNhbHQ$dGhpc2lzbm90YXJlYWxoYXNoMTIzNA",
            greedy,
            "$7$0$c2FsdHNhbHRzYWx0$AAAA",
            "$7$2000000000$c2FsdHNhbHRzYWx0$AAAA",
            "$7$101$c2FsdHNhbHRzYWx0",
            "$6$c2FsdA==$short",
            &format!("{SHA512}$more"),
        ] {
            let error = Hash::parse(text).unwrap_err();
            assert!(text.len() < 4 || !error.contains(text), "{error}");
        }
    }

    #[test]
    fn a_debug_print_shows_no_hash() {
        for text in [PBKDF2, SHA512] {
            let shown = format!("{:?}", Hash::parse(text).unwrap());
            assert!(shown.ends_with("***") && shown.len() < 20, "{shown}");
        }
    }
}
