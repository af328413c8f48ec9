//! Owns the packets as the rest of the broker sees them: plain data, already checked. Never encodes or decodes.

use bytes::Bytes;
use bytestring::ByteString;

use super::error::WireError;
use super::secret::Secret;

/// Names the protocol version that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1: protocol name `MQIsdp`, level 3.
    V3,
    /// MQTT 3.1.1: protocol name `MQTT`, level 4.
    V4,
    /// MQTT 5: protocol name `MQTT`, level 5.
    V5,
}

/// Names how surely a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent once, not acknowledged.
    AtMostOnce = 0,
    /// QoS 1: sent until acknowledged.
    AtLeastOnce = 1,
    /// QoS 2: delivered once, in two round trips.
    ExactlyOnce = 2,
}

impl TryFrom<u8> for QoS {
    type Error = WireError;

    fn try_from(value: u8) -> Result<Self, WireError> {
        match value {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(WireError::InvalidQos),
        }
    }
}

/// Holds a packet that a client sent after its CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// A message for the server to take.
    Publish(Publish),
    /// The end of a QoS 1 delivery to the client.
    PubAck(Ack),
    /// The first answer in a QoS 2 delivery to the client.
    PubRec(Ack),
    /// The client's release of a QoS 2 message it published.
    PubRel(Ack),
    /// The end of a QoS 2 delivery to the client.
    PubComp(Ack),
    /// A request for messages.
    Subscribe(Subscribe),
    /// The end of a request for messages.
    Unsubscribe(Unsubscribe),
    /// A sign of life.
    PingReq,
    /// A goodbye.
    Disconnect(Disconnect),
    /// An MQTT 5 authentication exchange, its body not decoded.
    Auth,
    /// A second CONNECT, which is a protocol error in every version, its body not decoded.
    Connect,
}

/// Holds a client's request to open a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The protocol version of everything that follows.
    pub version: Version,
    /// The longest silence the client intends, in seconds; 0 turns the check off.
    pub keep_alive: u16,
    /// The client's name, possibly empty.
    pub client_id: ByteString,
    /// Whether an earlier session is to be forgotten ("clean session" before MQTT 5).
    pub clean_start: bool,
    /// The message to publish when the client is lost.
    pub will: Option<Box<Will>>,
    /// The user name.
    pub username: Option<ByteString>,
    /// The password.
    pub password: Option<Secret>,
    /// The MQTT 5 properties; the defaults in earlier versions.
    pub properties: ConnectProperties,
}

/// Holds the MQTT 5 properties of a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectProperties {
    /// How long the session outlives its connection, in seconds; `u32::MAX` is for ever.
    pub session_expiry_s: Option<u32>,
    /// How many QoS 1 and 2 messages the client takes at a time, at least 1.
    pub receive_maximum: Option<u16>,
    /// The largest packet the client takes, in bytes, at least 1.
    pub maximum_packet_size: Option<u32>,
    /// The highest topic alias the client takes from the server.
    pub topic_alias_maximum: Option<u16>,
    /// Whether the client asks for response information in the CONNACK.
    pub request_response_information: bool,
    /// Whether reason strings and user properties may accompany failures; true unless the client says no.
    pub request_problem_information: bool,
    /// Name and value pairs in the order sent.
    pub user_properties: Vec<(ByteString, ByteString)>,
    /// The extended authentication method asked for.
    pub authentication_method: Option<ByteString>,
    /// The method's first data, present only with a method.
    pub authentication_data: Option<Secret>,
}

impl Default for ConnectProperties {
    fn default() -> Self {
        Self {
            session_expiry_s: None,
            receive_maximum: None,
            maximum_packet_size: None,
            topic_alias_maximum: None,
            request_response_information: false,
            request_problem_information: true,
            user_properties: Vec::new(),
            authentication_method: None,
            authentication_data: None,
        }
    }
}

/// Holds the message that the server publishes when the client is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Will {
    /// The topic name, not empty, without wildcards.
    pub topic: ByteString,
    /// The payload.
    pub payload: Bytes,
    /// The QoS to publish at.
    pub qos: QoS,
    /// Whether to publish it retained.
    pub retain: bool,
    /// How long to wait for the client to come back, in seconds.
    pub delay_s: u32,
    /// The MQTT 5 properties of the message; `None` when there are none.
    pub properties: Option<Box<PublishProperties>>,
}

/// Holds a message from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publish {
    /// Whether the client says that it sent this before.
    pub dup: bool,
    /// The delivery that the client asks for.
    pub qos: QoS,
    /// Whether the message is to be kept for later subscribers.
    pub retain: bool,
    /// The packet identifier; 0 exactly at QoS 0.
    pub id: u16,
    /// The topic name, without wildcards; empty only together with a topic alias.
    pub topic: ByteString,
    /// The payload.
    pub payload: Bytes,
    /// The MQTT 5 topic alias, not 0.
    pub topic_alias: Option<u16>,
    /// The other MQTT 5 properties; `None` when there are none.
    pub properties: Option<Box<PublishProperties>>,
}

/// Holds the MQTT 5 properties that travel with a message from its publisher to its subscribers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishProperties {
    /// 0: bytes; 1: the payload calls itself UTF-8 (which is not checked here).
    pub payload_format: Option<u8>,
    /// How long the message is good for, in seconds.
    pub message_expiry_s: Option<u32>,
    /// The topic name for answers, not empty, without wildcards.
    pub response_topic: Option<ByteString>,
    /// What an answer has to carry along.
    pub correlation_data: Option<Bytes>,
    /// The payload's media type, or whatever both ends agree on.
    pub content_type: Option<ByteString>,
    /// Name and value pairs in the order sent.
    pub user_properties: Vec<(ByteString, ByteString)>,
}

/// Holds an acknowledgement's packet identifier and reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// The identifier of the packet acknowledged, not 0.
    pub id: u16,
    /// The MQTT 5 reason code; 0 when left out and before MQTT 5.
    pub reason: u8,
}

/// Holds a request for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscribe {
    /// The packet identifier, not 0.
    pub id: u16,
    /// The MQTT 5 number to send along with every message that matches, 1 to 268 435 455.
    pub subscription_identifier: Option<u32>,
    /// The filters in the order sent, at least one.
    pub filters: Vec<SubscribeFilter>,
}

/// Holds one topic filter with its options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeFilter {
    /// The topic filter, not empty; its wildcards are not checked.
    pub filter: ByteString,
    /// The highest QoS that the client wants.
    pub qos: QoS,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether messages keep their retain flag.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

/// Names when a subscription brings the retained messages with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// Each time the client subscribes, as before MQTT 5.
    Send,
    /// Only if the subscription did not exist.
    SendIfNew,
    /// Never.
    DoNotSend,
}

/// Holds the end of a request for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsubscribe {
    /// The packet identifier, not 0.
    pub id: u16,
    /// The filters in the order sent, at least one, none of them empty.
    pub filters: Vec<ByteString>,
}

/// Holds a client's goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    /// The MQTT 5 reason code: 0 drops the will, 4 asks for it; 0 before MQTT 5.
    pub reason: u8,
    /// The MQTT 5 session expiry, in seconds, that replaces the CONNECT's.
    pub session_expiry_s: Option<u32>,
}
