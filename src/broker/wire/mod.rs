//! The MQTT wire: decodes what clients send and encodes what the server sends, in 3.1, 3.1.1 and 5.
//!
//! Owns the byte layout and every rule that one packet alone can break: reserved bits, lengths, UTF-8, properties,
//! reason codes. Never does I/O, reads a clock, remembers an earlier packet or judges a topic filter's wildcards; what
//! takes a session to know (topic aliases, packet ids in flight, limits agreed on) is the session's.
//!
//! Decoding copies nothing: topics and payloads are slices of the caller's read buffer. A long-lived small payload
//! therefore keeps its whole read buffer alive, so whoever keeps one for long should copy it. After an error the stream
//! has no known packet boundary any more: the connection has to end.
//!
//! The rules are those of the OASIS standards *MQTT 3.1.1* and *MQTT 5.0*. For 3.1, which calls many bits "unused"
//! rather than reserved, those bits are not looked at.

mod body;
mod connect;
mod decode;
mod encode;
mod error;
mod field;
mod packet;
mod properties;
mod secret;
#[cfg(test)]
mod tests;

pub use connect::{decode_connect, peek_version};
pub use decode::decode;
pub use encode::{
    AckKind, ConnAckProperties, PublishOut, ack, connack, disconnect, pingresp, publish, publish_len, suback, unsuback,
};
pub use error::WireError;
pub use packet::{
    Ack, Connect, ConnectProperties, Disconnect, Packet, Publish, PublishProperties, QoS, RetainHandling, Subscribe,
    SubscribeFilter, Unsubscribe, Version, Will,
};
pub use secret::Secret;
