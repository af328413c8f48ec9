//! What can be wrong with a configuration, as values.
//!
//! Owns the one-line form of a configuration error: where it stands, which key, what is wrong and what is allowed.
//! It never decides what is wrong.

use std::fmt;

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands: a file, `environment STATIONHUB_…`, or a flag.
    pub source: String,
    /// The key, such as `ingest.queue_bytes`; empty where the whole source is meant.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub text: String,
}

impl Problem {
    pub(super) fn new(source: impl Into<String>, key: impl Into<String>, text: impl Into<String>) -> Problem {
        Problem { source: source.into(), key: key.into(), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => write!(f, "{}: {}", self.source, self.text),
            key => write!(f, "{}: {key}: {}", self.source, self.text),
        }
    }
}

/// Everything that is wrong with the configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// Returns every problem, in the order of the sections.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl From<Vec<Problem>> for ConfigErrors {
    fn from(problems: Vec<Problem>) -> ConfigErrors {
        ConfigErrors(problems)
    }
}

impl From<Problem> for ConfigErrors {
    fn from(problem: Problem) -> ConfigErrors {
        ConfigErrors(vec![problem])
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
