//! Owns the ways in which a client's bytes can be wrong, and the reason code each one is answered with. Never decides
//! whether an answer is sent, and never logs.

/// Says what is wrong with the bytes a client sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The connection does not open with an MQTT CONNECT packet.
    #[error("the connection does not open with an MQTT CONNECT packet")]
    NotMqtt,
    /// The CONNECT asks for a protocol level that is not 3 (MQIsdp), 4 or 5 (MQTT).
    ///
    /// MQTT 3.1.1 wants this one answered, with return code 1; bridges that try a private level first fall back on it.
    #[error("protocol level {0} is not supported")]
    UnsupportedVersion(u8),
    /// The packet, its header included, is larger than the caller accepts.
    #[error("a packet of {bytes} bytes is larger than the limit of {max}")]
    PacketTooLarge {
        /// The size of the whole packet in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A variable byte integer is longer than four bytes.
    #[error("a variable byte integer is longer than four bytes")]
    MalformedLength,
    /// A field runs past the end of its packet or property section.
    #[error("a field runs past the end of its packet")]
    Truncated,
    /// Bytes are left over behind the last field.
    #[error("bytes are left over behind the packet's last field")]
    TrailingBytes,
    /// The packet type is reserved, or one that only a server sends.
    #[error("packet type {0} is not one that a client sends")]
    UnexpectedPacket(u8),
    /// The reserved flags of the fixed header have the wrong value.
    #[error("the reserved flags in header byte {0:#04x} are wrong")]
    ReservedFlags(u8),
    /// The CONNECT flags contradict each other or set the reserved bit.
    #[error("the CONNECT flags {0:#04x} contradict each other")]
    ConnectFlags(u8),
    /// A password comes without a user name, which only MQTT 5 allows.
    #[error("a password comes without a user name")]
    PasswordWithoutUsername,
    /// A publication or will has QoS 3.
    #[error("QoS 3 does not exist")]
    InvalidQos,
    /// A QoS 0 publication says that it is a duplicate.
    #[error("a QoS 0 publication says that it is a duplicate")]
    DupAtQosZero,
    /// The packet identifier is 0.
    #[error("packet identifier 0 is not allowed")]
    PacketIdZero,
    /// A string is not UTF-8.
    #[error("a string is not valid UTF-8")]
    NotUtf8,
    /// A string holds the character U+0000.
    #[error("a string holds the character U+0000")]
    NulInString,
    /// A topic name is empty or holds a wildcard or U+0000.
    #[error("a topic name is empty or holds '+', '#' or U+0000")]
    TopicNameInvalid,
    /// An MQTT 5 publication has neither a topic nor a topic alias.
    #[error("a publication has neither a topic nor a topic alias")]
    TopicMissing,
    /// The topic alias is 0.
    #[error("topic alias 0 is not allowed")]
    TopicAliasZero,
    /// A SUBSCRIBE or UNSUBSCRIBE names no filter.
    #[error("a SUBSCRIBE or UNSUBSCRIBE names no topic filter")]
    EmptySubscribe,
    /// A topic filter is empty.
    #[error("a topic filter is empty")]
    EmptyFilter,
    /// A subscription sets reserved option bits.
    #[error("subscription options {0:#04x} set reserved bits")]
    SubscriptionOptions(u8),
    /// A subscription asks for QoS 3.
    #[error("a subscription asks for QoS 3, which does not exist")]
    RequestedQos,
    /// A subscription asks for retain handling 3.
    #[error("a subscription asks for retain handling 3, which does not exist")]
    RetainHandling,
    /// A shared subscription sets No Local.
    #[error("a shared subscription sets No Local")]
    NoLocalOnShared,
    /// A property is unknown or has no place in this packet.
    #[error("property {0:#04x} has no place in this packet")]
    PropertyNotAllowed(u32),
    /// A property comes twice that may come once.
    #[error("property {0:#04x} comes more than once")]
    DuplicateProperty(u8),
    /// There are more user properties than the server takes.
    #[error("a packet has more than {0} user properties")]
    TooManyUserProperties(usize),
    /// A property has a value that the standard rules out.
    #[error("property {0:#04x} has a value that is not allowed")]
    InvalidProperty(u8),
    /// A client's publication carries a subscription identifier.
    #[error("a client's publication carries a subscription identifier")]
    SubscriptionIdentifierInPublish,
    /// Authentication data comes without an authentication method.
    #[error("authentication data comes without an authentication method")]
    AuthenticationDataWithoutMethod,
    /// The reason code is not one that a client may send in this packet.
    #[error("reason code {0:#04x} is not one that a client sends in this packet")]
    InvalidReason(u8),
}

impl WireError {
    /// Returns the MQTT 5 reason code for the CONNACK or DISCONNECT that answers this error.
    pub fn reason_code(&self) -> u8 {
        const MALFORMED: u8 = 0x81;
        const PROTOCOL: u8 = 0x82;
        match self {
            Self::UnsupportedVersion(_) => 0x84,
            Self::EmptyFilter => 0x8F,
            Self::TopicNameInvalid => 0x90,
            Self::TopicAliasZero => 0x94,
            Self::PacketTooLarge { .. } => 0x95,
            Self::TooManyUserProperties(_) => 0x97,
            Self::NotMqtt
            | Self::UnexpectedPacket(_)
            | Self::PacketIdZero
            | Self::TopicMissing
            | Self::EmptySubscribe
            | Self::RequestedQos
            | Self::RetainHandling
            | Self::NoLocalOnShared
            | Self::DuplicateProperty(_)
            | Self::InvalidProperty(_)
            | Self::SubscriptionIdentifierInPublish
            | Self::AuthenticationDataWithoutMethod
            | Self::InvalidReason(_) => PROTOCOL,
            Self::MalformedLength
            | Self::Truncated
            | Self::TrailingBytes
            | Self::ReservedFlags(_)
            | Self::ConnectFlags(_)
            | Self::PasswordWithoutUsername
            | Self::InvalidQos
            | Self::DupAtQosZero
            | Self::NotUtf8
            | Self::NulInString
            | Self::SubscriptionOptions(_)
            | Self::PropertyNotAllowed(_) => MALFORMED,
        }
    }
}
