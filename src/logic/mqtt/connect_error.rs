//! Why a client's first bytes are no CONNECT that could be passed on, and what may be answered.

use super::Version;
use super::violation::Violation;
use crate::logic::close_reason::CloseReason;

/// MQTT 3.x: return code 1, unacceptable protocol level (3.1.1 table 3.1).
const UNSUPPORTED_V3: &[u8] = &[0x20, 0x02, 0x00, 0x01];
/// MQTT 5.0: reason code 0x84, Unsupported Protocol Version (§3.2.2.2).
const UNSUPPORTED_V5: &[u8] = &[0x20, 0x03, 0x00, 0x84, 0x00];
const MALFORMED_PACKET: &[u8] = &[0x20, 0x03, 0x00, 0x81, 0x00];
const PROTOCOL_ERROR: &[u8] = &[0x20, 0x03, 0x00, 0x82, 0x00];
const TOPIC_NAME_INVALID: &[u8] = &[0x20, 0x03, 0x00, 0x90, 0x00];

/// The client's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Another packet, or no MQTT at all: [MQTT-3.1.0-1].
    #[error("first byte 0x{0:02x} is not that of a CONNECT [MQTT-3.1.0-1]")]
    NotConnect(u8),
    /// A TLS handshake record.
    #[error("TLS record where MQTT was expected")]
    TlsRecord,
    /// The fixed header announces more than is accepted.
    #[error("CONNECT of {length} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Bytes of the whole packet.
        length: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A name that is neither `MQTT` nor `MQIsdp`: [MQTT-3.1.2-1].
    #[error("protocol name is neither MQTT nor MQIsdp [MQTT-3.1.2-1]")]
    ProtocolName,
    /// A level that does not go with its name, bridge bit (0x80) of mosquitto included: [MQTT-3.1.2-2].
    #[error("protocol level {0} is not supported [MQTT-3.1.2-2]")]
    UnsupportedVersion(u8),
    /// A broken rule.
    #[error("malformed CONNECT")]
    Malformed {
        /// `None` while the level had not been read.
        version: Option<Version>,
        /// Which rule.
        #[source]
        violation: Violation,
    },
}

impl ConnectError {
    /// What the connection's end is counted as.
    pub const fn close_reason(self) -> CloseReason {
        match self {
            Self::NotConnect(_) | Self::ProtocolName => CloseReason::NotMqtt,
            Self::TlsRecord => CloseReason::TlsOnPlainPort,
            Self::TooLarge { .. } => CloseReason::PrefaceTooLarge,
            Self::UnsupportedVersion(_) => CloseReason::UnsupportedVersion,
            Self::Malformed { .. } => CloseReason::MalformedConnect,
        }
    }

    /// The CONNACK that the specification allows before the close.
    ///
    /// - A level above 5: 5.0 §3.1.2.2 allows 0x84. Lower ones, and those with the bridge bit of a mosquitto bridge
    ///   that speaks 3.x (it tries again without the bit): 3.1.1 [MQTT-3.1.2-2] demands return code 1.
    /// - A malformed 5.0 CONNECT: §4.13 allows the reason code. 3.1.1 §4.8 knows the close alone.
    /// - A name or a size that is not ours: the sender's version, if any, is unknown.
    pub const fn answer(self) -> Option<&'static [u8]> {
        match self {
            Self::UnsupportedVersion(level) if level & 0x7f < 5 => Some(UNSUPPORTED_V3),
            Self::UnsupportedVersion(_) => Some(UNSUPPORTED_V5),
            Self::Malformed {
                version: Some(Version::V5),
                violation,
            } => Some(match violation.reason_code() {
                0x82 => PROTOCOL_ERROR,
                0x90 => TOPIC_NAME_INVALID,
                _ => MALFORMED_PACKET,
            }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mqtt::{Decoded, FirstReply, decode_first_reply};

    const fn malformed(version: Option<Version>) -> ConnectError {
        ConnectError::Malformed {
            version,
            violation: Violation::TrailingBytes,
        }
    }

    #[test]
    fn every_error_has_its_close_reason() {
        for (error, expected) in [
            (ConnectError::NotConnect(0x47), CloseReason::NotMqtt),
            (ConnectError::ProtocolName, CloseReason::NotMqtt),
            (ConnectError::TlsRecord, CloseReason::TlsOnPlainPort),
            (
                ConnectError::TooLarge {
                    length: 9,
                    bytes_max: 8,
                },
                CloseReason::PrefaceTooLarge,
            ),
            (
                ConnectError::UnsupportedVersion(6),
                CloseReason::UnsupportedVersion,
            ),
            (malformed(None), CloseReason::MalformedConnect),
        ] {
            assert_eq!(error.close_reason(), expected, "{error}");
        }
    }

    #[test]
    fn mqtt_3_1_2_2_an_unsupported_level_is_answered_in_the_format_nearest_to_it() {
        for level in [0, 1, 2, 3, 4, 0x83, 0x84] {
            let answer = ConnectError::UnsupportedVersion(level).answer();
            assert_eq!(answer, Some(&b"\x20\x02\x00\x01"[..]), "{level}");
        }
        for level in [5, 6, 0x7f, 0x85, 0xff] {
            let answer = ConnectError::UnsupportedVersion(level).answer();
            assert_eq!(answer, Some(&b"\x20\x03\x00\x84\x00"[..]), "{level}");
        }
    }

    #[test]
    fn section_4_13_only_a_5_0_client_is_told_what_was_malformed() {
        assert_eq!(malformed(None).answer(), None);
        assert_eq!(malformed(Some(Version::V31)).answer(), None);
        assert_eq!(malformed(Some(Version::V311)).answer(), None);
        for (violation, code) in [
            (Violation::TrailingBytes, 0x81),
            (Violation::PropertyDuplicate(0x11), 0x82),
            (
                Violation::TopicWildcard(crate::logic::mqtt::Field::WillTopic),
                0x90,
            ),
        ] {
            let error = ConnectError::Malformed {
                version: Some(Version::V5),
                violation,
            };
            let answer = error.answer().unwrap();
            let reply = decode_first_reply(answer, Version::V5, 64).unwrap();
            let Decoded::Complete {
                value: FirstReply::Connack(connack),
                consumed,
            } = reply
            else {
                panic!("{reply:?}");
            };
            assert_eq!((connack.code, consumed), (code, answer.len()));
        }
    }

    #[test]
    fn nothing_is_answered_to_what_may_not_be_mqtt() {
        for error in [
            ConnectError::NotConnect(0x47),
            ConnectError::TlsRecord,
            ConnectError::ProtocolName,
            ConnectError::TooLarge {
                length: 9,
                bytes_max: 8,
            },
        ] {
            assert_eq!(error.answer(), None, "{error}");
        }
    }
}
