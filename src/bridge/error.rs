//! Why there is no connection upstream, in words that say what to do.
//!
//! Owns the sorting of rumqttc's errors. It never logs: `mod` does, once for each loss.

use std::time::Duration;

/// Why a connection upstream did not come about, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Loss {
    /// No connection, or it broke.
    #[error("{0}")]
    Network(String),
    /// The upstream took too long to accept the connection.
    #[error("no answer within {0:?}")]
    NoAnswer(Duration),
    /// The upstream does not want the hub.
    #[error("it refuses the connection: {reason}{advice}")]
    Refused {
        /// Its reason.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// The TLS handshake failed.
    #[error("TLS failed: {0}; see bridge.ca, bridge.client_cert and bridge.client_key")]
    Tls(String),
    /// A file that the connection needs cannot be read.
    #[error("{0}")]
    File(String),
    /// The upstream closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// The upstream closed the connection and said why.
    #[error("it ended the connection: {0}")]
    Goodbye(String),
    /// The upstream does not answer pings.
    #[error("it does not answer any more")]
    Silent,
    /// The upstream takes messages, and does not acknowledge them.
    #[error("it has acknowledged none of {messages} messages for {} s", waited.as_secs())]
    Unacknowledged {
        /// How many wait for it.
        messages: usize,
        /// For how long.
        waited: Duration,
    },
    /// The upstream has not answered a subscription.
    #[error("it has not answered the subscriptions for {} s", .0.as_secs())]
    Unsubscribed(Duration),
    /// The upstream sent what it should not.
    #[error("it breaks the protocol: {0}{1}")]
    Protocol(String, &'static str),
    /// The upstream takes messages without acknowledgement only.
    #[error("it takes QoS {0} at most, and bridge.qos is {1}")]
    QosTooHigh(u8, u8),
    /// The MQTT library failed.
    #[error("the MQTT library failed on what it sent")]
    Library,
    /// The hub has settled what an earlier run left in the session; the connection is begun again.
    #[error("an earlier run's packet ids are released")]
    Released,
}

/// What to do about a login that is refused.
pub(super) const SEE_LOGIN: &str = "; see bridge.username, bridge.password and the upstream's access rules";
/// What to do about a protocol that the upstream does not speak.
pub(super) const SEE_PROTOCOL: &str = "; if it speaks only MQTT 3.1.1, set bridge.protocol = 4";
/// What to do about a client id that the upstream does not want.
pub(super) const SEE_CLIENT_ID: &str = "; see bridge.client_id";
