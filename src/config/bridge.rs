//! The types of section `[bridge]`: how the upstream is reached, what goes there and what comes from it.
//!
//! Owns these types, and the reading of what stands in files that they name. It never knows a default or a range.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::tls::{self, Faults};

/// Longest password, bytes, as MQTT has it.
pub(super) const PASSWORD_BYTES_MAX: usize = 65_535;

/// Section `[bridge]`, where it names an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// The upstream's host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Certificates for TLS; `None` for plain TCP.
    pub tls: Option<BridgeTls>,
    /// MQTT 3.1.1 or 5.
    pub protocol: Protocol,
    /// The client id that the hub has upstream.
    pub client_id: String,
    /// The user name that the hub has upstream.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<Password>,
    /// Which local topics are forwarded.
    pub forward: Vec<String>,
    /// What a forwarded topic becomes upstream, `{topic}` standing for the topic; the station's name is filled in.
    pub prefix: String,
    /// Whether a message that was published to be retained is to be retained upstream, too.
    pub keep_retained: bool,
    /// Which upstream topics are published locally; the station's name is filled in.
    pub subscribe: Vec<String>,
    /// Whose access rules say what may be published locally.
    pub local_user: String,
    /// 1 or 2.
    pub qos: u8,
    /// Messages on their way upstream at a time.
    pub window: u16,
    /// Bytes that wait for the upstream.
    pub outbox_bytes_max: u64,
    /// How long a message waits for the upstream; `None` for ever.
    pub outbox_age_max: Option<Duration>,
    /// Largest payload that is forwarded, bytes.
    pub payload_bytes_max: usize,
    /// Messages of the backlog sent a second, beside as many as come in; `None` as many as the upstream takes.
    pub rate_max: Option<u32>,
    /// Whether what comes in now goes before the backlog.
    pub live_first: bool,
    /// MQTT's keep alive.
    pub keep_alive: Duration,
    /// How long the upstream may leave messages unacknowledged before the connection is begun again.
    pub ack_wait_max: Duration,
    /// Longest pause between two attempts to connect.
    pub reconnect_max: Duration,
    /// What is not wrong, but should be known.
    pub warnings: Vec<String>,
}

impl Bridge {
    /// Returns host and port as a URL has them: an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let Bridge { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Returns the URL.
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}", self.address())
    }
}

/// Certificates for a TLS connection upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeTls {
    /// The authorities that the upstream's certificate may come from, PEM; `None`: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// The hub's own certificate and its private key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl BridgeTls {
    /// Reads the files anew, and returns the settings of a connection.
    ///
    /// # Errors
    /// [`Faults`].
    pub fn settings(&self) -> Result<Arc<ClientConfig>, Faults> {
        let identity = self.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        tls::client(self.ca.as_deref(), identity)
    }
}

/// The protocol spoken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// MQTT 3.1.1.
    V4,
    /// MQTT 5.
    V5,
}

/// Where a password comes from. Its text is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Password {
    /// It stands in the configuration.
    Text(String),
    /// It is the first line of a file, read at each connection.
    File(PathBuf),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Password::Text(_) => f.write_str("Text(…)"),
            Password::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

impl Password {
    /// Returns the password; one in a file is read anew.
    ///
    /// # Errors
    /// The system's, where the file cannot be read, and of the kind `InvalidData` where its first line is no password.
    pub fn read(&self) -> io::Result<String> {
        match self {
            Password::Text(text) => Ok(text.clone()),
            Password::File(path) => first_line(path),
        }
    }
}

fn first_line(path: &Path) -> io::Result<String> {
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let mut bytes = Vec::new();
    let read_max = PASSWORD_BYTES_MAX as u64 + 2; // a line break at its end, and one byte more than may be
    std::fs::File::open(path)?.take(read_max).read_to_end(&mut bytes)?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("it holds no UTF-8 text"))?;
    match text.lines().next() {
        None | Some("") => Err(invalid("its first line, which is the password, is empty")),
        Some(line) if line.len() > PASSWORD_BYTES_MAX => Err(invalid("its first line is too long for a password")),
        Some(line) => Ok(line.to_owned()),
    }
}
