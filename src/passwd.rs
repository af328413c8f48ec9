//! `stationhub passwd`: users added, changed, listed, removed.
//!
//! Owns the writing of the hub's file of users, and the asking for a password. The file's format and the hashes are
//! `broker::auth`'s. It never prints a password, and never leaves half a file behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::broker::auth::own_users;
use crate::broker::auth::passwords::{Hash, HashError};
use crate::broker::auth::users::{Users, check_name};
use crate::place::{beside, directory};

/// Longest password, bytes: what MQTT's length of a password allows.
const PASSWORD_BYTES_MAX: usize = 65_535;
/// Only the owner may read and write the file.
const MODE: u32 = 0o600;
/// What Ctrl-C sends.
const INTERRUPT: u8 = 3;

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PasswdError {
    /// It is not known which file is meant.
    #[error(
        "no file of users is configured; name one with --file, or with users = \"FILE\" under [broker] in hub.toml"
    )]
    NoFile,
    /// The name cannot stand in the file.
    #[error("{0}")]
    Name(&'static str),
    /// There is no such user.
    #[error("{path} has no user {name:?}; `stationhub passwd list` shows who there is")]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A line of the file is wrong.
    #[error("{path}:{line}: {text}; correct it first")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        text: String,
    },
    /// The password is none.
    #[error("{0}; nothing was changed")]
    Password(&'static str),
    /// The hash cannot be made.
    #[error(transparent)]
    Hash(#[from] HashError),
    /// The system refuses something.
    #[error("{doing}: {source}; nothing was changed")]
    System {
        /// What was being done.
        doing: String,
        /// The system's words.
        source: io::Error,
    },
}

/// Adds a user, or changes one's password; returns the line to print.
///
/// # Errors
/// [`PasswdError`]; the file is as it was.
pub fn add(path: Option<PathBuf>, name: &str) -> Result<String, PasswdError> {
    check_name(name).map_err(PasswdError::Name)?;
    let path = path.ok_or(PasswdError::NoFile)?;
    read(&path)?;
    let password = ask()?;
    let hash = Hash::make(&password)?;
    // Read again: asking may have taken minutes, and another may have been added meanwhile.
    let mut users = read(&path)?;
    let done = if users.set(name, hash) { "changed" } else { "added" };
    write(&path, &users)?;
    Ok(format!(
        "{name:?} was {done} in {}; a running hub reads it on SIGHUP (systemctl reload stationhub)",
        path.display()
    ))
}

/// Removes a user; returns the line to print.
///
/// # Errors
/// [`PasswdError`]; the file is as it was.
pub fn remove(path: Option<PathBuf>, name: &str) -> Result<String, PasswdError> {
    let path = path.ok_or(PasswdError::NoFile)?;
    let mut users = read(&path)?;
    if !users.remove(name) {
        return Err(PasswdError::Unknown { path, name: name.to_owned() });
    }
    write(&path, &users)?;
    Ok(format!(
        "{name:?} was removed from {}; a running hub reads it on SIGHUP (systemctl reload stationhub)",
        path.display()
    ))
}

/// Returns the users' names, one a line.
///
/// # Errors
/// [`PasswdError`].
pub fn list(path: Option<PathBuf>) -> Result<String, PasswdError> {
    let users = read(&path.ok_or(PasswdError::NoFile)?)?;
    let names: Vec<String> = users.names().map(ToString::to_string).collect();
    Ok(names.join("\n"))
}

/// Reads the file; a missing one has no users.
fn read(path: &Path) -> Result<Users, PasswdError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Users::default()),
        Err(source) => return Err(PasswdError::System { doing: format!("cannot read {}", path.display()), source }),
    };
    own_users(&text).map_err(|wrong| {
        let (line, text) = wrong.into_iter().next().unwrap_or_default();
        PasswdError::Line { path: path.to_owned(), line, text }
    })
}

/// Writes the file whole: to another beside it, synced, then renamed. It keeps its owner, as root may do this for the
/// user that the hub runs as.
fn write(path: &Path, users: &Users) -> Result<(), PasswdError> {
    let failed = |source| PasswdError::System { doing: format!("cannot write {}", path.display()), source };
    // Behind a link, the file is what is replaced, not the link.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let directory = directory(path);
    let owner = fs::metadata(path).or_else(|_| fs::metadata(directory)).map_err(failed)?;
    let unfinished = beside(path, ".new");
    let written = (|| {
        // What an interrupted run left may be anybody's to read; a new file is not.
        remove_if_there(&unfinished)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&unfinished)?;
        let mine = file.metadata()?;
        if (mine.uid(), mine.gid()) != (owner.uid(), owner.gid()) {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(users.text().as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(directory)?.sync_all()
    })();
    written.map_err(|error| {
        // The first error is the one to tell.
        remove_if_there(&unfinished).unwrap_or_default();
        failed(error)
    })
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Asks for a password twice on a terminal, and reads one line elsewhere.
fn ask() -> Result<Vec<u8>, PasswdError> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let quiet = Quiet::begin().map_err(|source| system("cannot turn the terminal's echo off", source))?;
        let (first, second) = (prompt("Password: ")?, prompt("The same again: ")?);
        drop(quiet);
        if first != second {
            return Err(PasswdError::Password("the two passwords differ"));
        }
        first
    } else {
        line()?
    };
    match password.len() {
        0 => Err(PasswdError::Password("the password is empty")),
        1..=PASSWORD_BYTES_MAX => Ok(password),
        _ => Err(PasswdError::Password("the password is longer than 65535 bytes")),
    }
}

fn prompt(text: &str) -> Result<Vec<u8>, PasswdError> {
    let mut stderr = io::stderr();
    let written = write!(stderr, "{text}").and_then(|()| stderr.flush());
    written.map_err(|source| system("cannot write to the terminal", source))?;
    let line = line()?;
    // The echo of the key that ended the line is off, too.
    writeln!(stderr).map_err(|source| system("cannot write to the terminal", source))?;
    if line.contains(&INTERRUPT) {
        return Err(PasswdError::Password("interrupted"));
    }
    Ok(line)
}

/// Reads a line of standard input without its end.
fn line() -> Result<Vec<u8>, PasswdError> {
    let mut bytes = Vec::new();
    let mut stdin = io::stdin().lock().take(PASSWORD_BYTES_MAX as u64 + 3);
    let is_end = |byte: u8| matches!(byte, b'\n' | INTERRUPT);
    loop {
        let buffer = stdin.fill_buf().map_err(|source| system("cannot read the password", source))?;
        let Some(&byte) = buffer.first() else { break };
        stdin.consume(1);
        bytes.push(byte);
        if is_end(byte) {
            break;
        }
    }
    for end in [b'\n', b'\r'] {
        bytes.pop_if(|byte| *byte == end);
    }
    Ok(bytes)
}

fn system(doing: &str, source: io::Error) -> PasswdError {
    PasswdError::System { doing: doing.to_owned(), source }
}

/// A terminal that does not show what is typed, until this is dropped. Ctrl-C ends the line meanwhile and not the
/// process, which would leave the terminal without its echo.
struct Quiet(Termios);

impl Quiet {
    fn begin() -> io::Result<Quiet> {
        let before = tcgetattr(io::stdin())?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        quiet.special_codes[SpecialCodeIndex::VEOL] = INTERRUPT;
        tcsetattr(io::stdin(), OptionalActions::Flush, &quiet)?;
        Ok(Quiet(before))
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // There is nothing left to be done about a terminal that is gone.
        tcsetattr(io::stdin(), OptionalActions::Now, &self.0).unwrap_or_default();
    }
}
