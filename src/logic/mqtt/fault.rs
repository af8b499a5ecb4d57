//! What can be wrong with a CONNECT, and what the specification lets us answer.

use super::connect::Version;
use crate::logic::close_reason::CloseReason;

/// A CONNECT that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{fault}")]
pub struct ConnectError {
    /// The version, when it was read before the fault.
    pub version: Option<Version>,
    /// What is wrong.
    pub fault: Fault,
}

/// One way to break the specification. `5:` is MQTT 5.0, `3:` MQTT 3.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// 5: §3.1.0-1 the first packet must be a CONNECT.
    #[error("the first packet is no CONNECT: first byte {0:#04x}")]
    NotConnect(u8),
    /// A TLS handshake record on a plain listener.
    #[error("a TLS record on a plain listener")]
    TlsRecord,
    /// The announced length is over the cap.
    #[error("the CONNECT announces {announced} bytes, more than preface_bytes_max ({max})")]
    TooLarge {
        /// Bytes of the whole packet.
        announced: usize,
        /// The cap.
        max: usize,
    },
    /// 5: §2.1.3 the reserved flags of the fixed header are 0.
    #[error("reserved flags {0:#x} in the fixed header")]
    ReservedHeaderFlags(u8),
    /// 5: §1.5.5 a variable byte integer has at most four bytes and, in 5.0, no padding.
    #[error("malformed variable byte integer")]
    VariableInteger,
    /// 5: §3.1.2.1 the protocol name is "MQTT"; "`MQIsdp`" in 3.1.
    #[error("unknown protocol name")]
    ProtocolName,
    /// 5: §3.1.2.2 a level that is not 3, 4 or 5.
    #[error("unsupported protocol level {0}")]
    UnsupportedVersion(u8),
    /// 5: §3.1.2.3 the reserved flag is 0.
    #[error("the reserved connect flag is set")]
    ReservedConnectFlag,
    /// 5: §3.1.2.5, §3.1.2.6 without a will its QoS and retain flags are 0, and QoS 3 does not exist.
    #[error("will flags contradict each other")]
    WillFlags,
    /// 3: §3.1.2.9 no password without a user name (5.0 allows it).
    #[error("a password without a user name")]
    PasswordWithoutUsername,
    /// A field reaches over the end of the packet.
    #[error("a field reaches over the end of the packet")]
    Overrun,
    /// Bytes behind the last field.
    #[error("{0} bytes behind the last field")]
    TrailingBytes(usize),
    /// 5: §1.5.4 strings are well-formed UTF-8 without U+0000.
    #[error("a string is no valid UTF-8 or holds U+0000")]
    Utf8,
    /// 5: §4.7 a will or response topic has at least one character and no wildcards.
    #[error("a topic name is empty or holds a wildcard")]
    TopicName,
    /// 5: §2.2.2.2 a property that does not exist or does not belong here.
    #[error("property {0:#04x} does not belong here")]
    UnexpectedProperty(u8),
    /// 5: §3.1.2.11 a property stands twice.
    #[error("property {0:#04x} stands twice")]
    DuplicateProperty(u8),
    /// 5: §3.1.2.11 a value that the property does not allow (Receive Maximum 0, a boolean of 2 ...).
    #[error("property {0:#04x} has a value that is not allowed")]
    PropertyValue(u8),
    /// 5: §3.1.2.11.10 authentication data without a method.
    #[error("authentication data without a method")]
    AuthenticationData,
}

impl Fault {
    pub(super) const fn without_version(self) -> ConnectError {
        ConnectError {
            version: None,
            fault: self,
        }
    }
}

impl ConnectError {
    /// The reason to close for.
    pub const fn close_reason(&self) -> CloseReason {
        match self.fault {
            Fault::NotConnect(_) | Fault::ProtocolName => CloseReason::NotMqtt,
            Fault::TlsRecord => CloseReason::TlsOnPlainPort,
            Fault::TooLarge { .. } => CloseReason::PrefaceTooLarge,
            Fault::UnsupportedVersion(_) => CloseReason::UnsupportedVersion,
            _ => CloseReason::MalformedConnect,
        }
    }

    /// The CONNACK that the specification lets us send before we close; `None` = just close.
    ///
    /// 3.1.1 §3.1.2.2: 0x01 for an unknown level, nothing for a malformed packet. 5.0 §3.1.2.2: 0x84 for a level above 5
    /// (the client reads 5.0's form); §4.13: 0x81 Malformed Packet or 0x82 Protocol Error.
    pub fn answer(&self) -> Option<Vec<u8>> {
        match (self.fault, self.version) {
            (Fault::UnsupportedVersion(6..=0x7f), _) => Some(vec![0x20, 3, 0, 0x84, 0]),
            (Fault::UnsupportedVersion(_), _) => Some(vec![0x20, 2, 0, 1]),
            (fault, Some(Version::V5)) => Some(vec![0x20, 3, 0, fault.reason_code(), 0]),
            _ => None,
        }
    }

    /// Whether this is a connection that was never meant to be MQTT.
    pub const fn is_foreign(&self) -> bool {
        matches!(
            self.fault,
            Fault::NotConnect(_) | Fault::TlsRecord | Fault::ProtocolName
        )
    }
}

impl Fault {
    const fn reason_code(self) -> u8 {
        match self {
            Self::DuplicateProperty(_) | Self::PropertyValue(_) | Self::AuthenticationData => 0x82,
            Self::TopicName => 0x90,
            _ => 0x81,
        }
    }
}
