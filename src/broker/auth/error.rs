//! What can be wrong with users and rights, as values.
//!
//! Owns their one-line form: file, line, key, what is wrong. No password and no hash ever gets into it.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why users or rights cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file cannot be read.
    #[error("{path}: {key}: cannot be read: {source}{}", hint(.key, .source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The key that names it.
        key: &'static str,
        /// The system's words.
        source: io::Error,
    },
    /// A line is wrong.
    #[error("{path}:{line}: {key}: {text}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The key that names the file.
        key: &'static str,
        /// What is wrong.
        text: String,
    },
    /// A name stands in both files of users.
    #[error("{path}: broker.users: user {name:?} stands in broker.password_file too; take it out of one of them")]
    Twice {
        /// The hub's own file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

fn hint(key: &str, error: &io::Error) -> &'static str {
    match (key, error.kind()) {
        ("broker.users", io::ErrorKind::NotFound) => "; make it with `stationhub passwd add NAME`",
        (_, io::ErrorKind::NotFound) => "; correct the path",
        (_, io::ErrorKind::PermissionDenied) => "; let the hub's user read it",
        _ => "",
    }
}

/// Everything that is wrong with users and rights, one line each.
#[derive(Debug)]
pub struct AuthErrors(Vec<AuthError>);

impl From<Vec<AuthError>> for AuthErrors {
    fn from(errors: Vec<AuthError>) -> AuthErrors {
        AuthErrors(errors)
    }
}

impl fmt::Display for AuthErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n")?;
            }
            write!(formatter, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for AuthErrors {}
