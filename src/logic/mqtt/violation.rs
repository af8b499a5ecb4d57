//! The ways in which a packet can break the specification: one variant per rule, with its clauses.

use std::fmt;

/// Where in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The protocol name, level, flags and keep alive of a CONNECT.
    ConnectHeader,
    /// The flags and code of a CONNACK.
    ConnackHeader,
    /// The property length.
    PropertyLength,
    /// The value of a property, by its identifier.
    Property(u8),
    /// Payload of CONNECT.
    ClientId,
    /// Payload of CONNECT.
    WillTopic,
    /// Payload of CONNECT.
    WillPayload,
    /// Payload of CONNECT.
    Username,
    /// Payload of CONNECT.
    Password,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConnectHeader => "CONNECT variable header",
            Self::ConnackHeader => "CONNACK variable header",
            Self::PropertyLength => "property length",
            Self::Property(id) => return write!(f, "property 0x{id:02x}"),
            Self::ClientId => "client identifier",
            Self::WillTopic => "will topic",
            Self::WillPayload => "will payload",
            Self::Username => "user name",
            Self::Password => "password",
        })
    }
}

/// A rule of the specification that a packet breaks. Clauses without a version are of MQTT 5.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Violation {
    /// Reserved bits of the fixed header: [MQTT-2.1.3-1], 3.1.1 [MQTT-2.2.2-2].
    #[error("reserved bits of the fixed header are set [MQTT-2.1.3-1]")]
    FixedHeaderFlags,
    /// A variable byte integer goes on after its fourth byte: §1.5.5, 3.1.1 §2.2.3.
    #[error("variable byte integer is longer than 4 bytes (MQTT 5.0 §1.5.5)")]
    VariableByteInteger,
    /// A variable byte integer has more bytes than it needs: [MQTT-1.5.5-1]. MQTT 3.x has no such rule.
    #[error("variable byte integer is longer than it needs to be [MQTT-1.5.5-1]")]
    NotMinimal,
    /// A field runs over the end of its packet: §1.2 "Malformed Packet", 3.1.1 §4.8.
    #[error("{0} runs over the end of the packet (MQTT 5.0 §4.13.1)")]
    Truncated(Field),
    /// Bytes are left after the last field that the flags announce: [MQTT-3.1.3-1], 3.1.1 the same.
    #[error("bytes are left after the last field [MQTT-3.1.3-1]")]
    TrailingBytes,
    /// Bit 0 of the connect flags: [MQTT-3.1.2-3], 3.1.1 the same. MQTT 3.1 calls the bit unused.
    #[error("reserved connect flag is set [MQTT-3.1.2-3]")]
    ReservedConnectFlag,
    /// Will `QoS` 3: [MQTT-3.1.2-12], 3.1.1 [MQTT-3.1.2-14].
    #[error("will QoS is 3 [MQTT-3.1.2-12]")]
    WillQos,
    /// Will `QoS` without a will: [MQTT-3.1.2-11], 3.1.1 [MQTT-3.1.2-13]. MQTT 3.1 disregards it.
    #[error("will QoS without a will [MQTT-3.1.2-11]")]
    WillQosWithoutWill,
    /// Will retain without a will: [MQTT-3.1.2-13], 3.1.1 [MQTT-3.1.2-15]. MQTT 3.1 disregards it.
    #[error("will retain without a will [MQTT-3.1.2-13]")]
    WillRetainWithoutWill,
    /// A password and no user name: 3.1.1 [MQTT-3.1.2-22], MQTT 3.1 §3.1. Allowed in MQTT 5.0 (§3.1.2.9).
    #[error("password without a user name [MQTT 3.1.1: MQTT-3.1.2-22]")]
    PasswordWithoutUsername,
    /// Ill-formed UTF-8, surrogates included: [MQTT-1.5.4-1], 3.1.1 [MQTT-1.5.3-1].
    #[error("{0} is not well-formed UTF-8 [MQTT-1.5.4-1]")]
    Utf8(Field),
    /// U+0000 in a string: [MQTT-1.5.4-2], 3.1.1 [MQTT-1.5.3-2].
    #[error("{0} contains U+0000 [MQTT-1.5.4-2]")]
    NulCharacter(Field),
    /// A topic name without a character: [MQTT-4.7.3-1], 3.1.1 the same.
    #[error("{0} is an empty topic name [MQTT-4.7.3-1]")]
    TopicEmpty(Field),
    /// A topic name with `+` or `#`: [MQTT-4.7.0-1], 3.1.1 [MQTT-4.7.1-1]; response topic [MQTT-3.3.2-14].
    #[error("{0} contains a wildcard [MQTT-4.7.0-1]")]
    TopicWildcard(Field),
    /// An identifier that no table of §2.2.2.2 has.
    #[error("property 0x{0:02x} does not exist (MQTT 5.0 §2.2.2.2)")]
    PropertyUnknown(u8),
    /// An identifier that §2.2.2.2 gives to other packets.
    #[error("property 0x{0:02x} does not belong here (MQTT 5.0 §2.2.2.2)")]
    PropertyMisplaced(u8),
    /// A property that may be there once: §3.1.2.11, §3.1.3.2, §3.2.2.3.
    #[error("property 0x{0:02x} is there twice (MQTT 5.0 §3.1.2.11)")]
    PropertyDuplicate(u8),
    /// A value that the property's own section forbids: Receive Maximum 0 (§3.1.2.11.3), Maximum Packet Size 0
    /// (§3.1.2.11.4), a flag that is neither 0 nor 1, Maximum `QoS` 2 (§3.2.2.3.4).
    #[error("property 0x{0:02x} has a forbidden value (MQTT 5.0 §3.1.2.11)")]
    PropertyValue(u8),
    /// Authentication Data without an Authentication Method: §3.1.2.11.10, §3.2.2.3.18.
    #[error("authentication data without a method (MQTT 5.0 §3.1.2.11.10)")]
    AuthenticationDataAlone,
    /// Reserved bits of the CONNACK flags: [MQTT-3.2.2-1].
    #[error("reserved bits of the CONNACK flags are set [MQTT-3.2.2-1]")]
    ConnackFlags,
}

impl Violation {
    /// The reason code of MQTT 5.0 for it: 0x81 Malformed Packet, 0x82 Protocol Error or 0x90 Topic Name invalid
    /// (§3.2.2.2, §4.13).
    pub const fn reason_code(self) -> u8 {
        match self {
            Self::PropertyDuplicate(_) | Self::PropertyValue(_) | Self::AuthenticationDataAlone => {
                0x82
            }
            Self::TopicEmpty(_) | Self::TopicWildcard(_) => 0x90,
            _ => 0x81,
        }
    }
}
