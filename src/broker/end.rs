//! How a connection ends.
//!
//! Owns the reasons, MQTT 5's code for each, and the log line.

use std::net::SocketAddr;

use bytes::BytesMut;

use super::counters::Counters;
use super::pen::Outlet;
use super::wire::{self, Version, WireError};

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client said goodbye.
    Goodbye,
    /// The client said goodbye and wants its will published.
    GoodbyeWithWill,
    /// The socket is closed or broken.
    Gone(String),
    /// The client was silent for longer than one and a half times its keep alive.
    Silent,
    /// The client broke the protocol.
    Violation { code: u8, text: String },
    /// The client does not take what it is sent, and others need the room.
    Stuck,
    /// Another connection took the session over.
    TakenOver,
    /// The hub stops.
    Stopping,
    /// Serving the client made the hub panic; the log has it already.
    Panicked,
}

impl End {
    pub(super) fn violation(code: u8, text: &str) -> End {
        End::Violation { code, text: text.to_owned() }
    }

    /// The hub holds as many bytes of unfinished packets as it may, and this client's for longest.
    pub(super) fn unfinished() -> End {
        End::violation(0x97, "it has not ended a packet that it began, and broker.limits.partial_bytes is reached")
    }

    /// Tells an MQTT 5 client why, in words where it takes packets that large.
    pub(super) fn tell(&self, out: &mut BytesMut, outlet: Outlet) {
        let Some(code) = self.reason_code().filter(|_| outlet.version == Version::V5) else { return };
        let (words, start) = (self.words(), out.len());
        wire::disconnect(out, outlet.version, code, words);
        if out.len() - start > outlet.packet_bytes_max {
            out.truncate(start);
            wire::disconnect(out, outlet.version, code, None);
        }
    }

    fn words(&self) -> Option<&str> {
        match self {
            End::Violation { text, .. } => Some(text),
            _ => None,
        }
    }

    /// Sorts an error of reading: bytes that are not what they must be, below MQTT, are the peer's doing.
    pub(super) fn of_read(error: &std::io::Error) -> End {
        match error.kind() {
            std::io::ErrorKind::InvalidData => End::violation(0x81, &error.to_string()),
            _ => End::Gone(error.to_string()),
        }
    }

    /// Returns MQTT 5's reason code for a DISCONNECT, where one is sent.
    fn reason_code(&self) -> Option<u8> {
        match self {
            End::Goodbye | End::GoodbyeWithWill | End::Gone(_) | End::Stuck => None,
            End::Silent => Some(0x8D),
            End::Violation { code, .. } => Some(*code),
            End::TakenOver => Some(0x8E),
            End::Stopping => Some(0x8B),
            End::Panicked => Some(0x83),
        }
    }

    /// Says why the connection ended, at a bounded rate where a peer can cause it.
    pub(super) fn log(&self, peer: SocketAddr, client: &str, counters: &Counters) {
        let client = client.escape_debug();
        match self {
            End::Violation { text, .. } => {
                Counters::add(&counters.violations, 1);
                if counters.violation_lines.allows() {
                    tracing::warn!(%peer, %client, "a client was disconnected: {text}");
                }
            }
            End::Stuck if counters.violation_lines.allows() => {
                let text = "it does not take what it is sent, and broker.limits.partial_bytes is reached";
                tracing::warn!(%peer, %client, "a client was disconnected: {text}");
            }
            End::TakenOver if counters.violation_lines.allows() => {
                tracing::info!(%peer, %client, "a client connected again, its older connection is closed");
            }
            End::Silent if counters.violation_lines.allows() => {
                tracing::info!(%peer, %client, "a client was silent for longer than its keep alive allows");
            }
            End::Gone(why) => tracing::debug!(%peer, %client, "a client is gone: {why}"),
            _ => tracing::debug!(%peer, %client, "a client left"),
        }
    }
}

impl From<WireError> for End {
    fn from(error: WireError) -> End {
        End::Violation { code: error.reason_code(), text: error.to_string() }
    }
}
