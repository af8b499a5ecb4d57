//! The broker's first packet: CONNACK, or AUTH when the authentication takes more than one step.
//!
//! Checked is what is acted on: framing, flags, properties. What a code means to the client is the client's business,
//! so unknown codes pass, and so does a session that is present although the code refuses ([MQTT-3.2.2-6]): to close
//! the connection over it would turn a refused client into one that tries every broker.

use super::Version;
use super::connect_encode::EncodeError;
use super::fixed_header::{FixedHeader, write_packet};
use super::property::{Place, Properties};
use super::violation::{Field, Violation};
use crate::logic::reader::{Decoded, Reader};

const CONNACK: u8 = 2;
const AUTH: u8 = 15;

/// A client's orderly goodbye; 5.0 §3.14.2.1 lets the reason code 0x00 be left out, so the bytes are the same for all
/// versions.
pub const DISCONNECT: &[u8] = &[0xe0, 0x00];

/// What a broker answered to a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstReply<'a> {
    /// The verdict.
    Connack(Connack<'a>),
    /// 5.0 §4.12: the broker asks for another step; its content goes to the client unread.
    Auth,
}

/// A CONNACK (5.0 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack<'a> {
    /// The version that it was decoded for.
    pub version: Version,
    /// Session Present; MQTT 3.1 has no such flag.
    pub session_present: bool,
    /// 5.0: reason code (table 3-1). 3.x: return code. 0 = accepted.
    pub code: u8,
    /// 5.0 alone; else empty.
    pub properties: Properties<'a>,
}

impl Connack<'_> {
    /// The client is connected.
    pub const fn is_accepted(&self) -> bool {
        self.code == 0
    }

    /// The broker, not the client, is the problem: another one may take the same CONNECT. 5.0: 0x88 Server
    /// unavailable, 0x89 Server busy, 0x97 Quota exceeded, 0x9C Use another server, 0x9D Server moved. 3.x: return
    /// code 3, Server unavailable.
    pub const fn is_unavailable(&self) -> bool {
        match self.version {
            Version::V31 | Version::V311 => self.code == 3,
            Version::V5 => matches!(self.code, 0x88 | 0x89 | 0x97 | 0x9c | 0x9d),
        }
    }
}

/// Encoding, for brokers that tests play.
impl Connack<'_> {
    /// Appends the packet, in the format of its version.
    ///
    /// # Errors
    /// The properties have no room; `out` is unchanged then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let mut body = vec![u8::from(self.session_present), self.code];
        match self.version {
            Version::V31 | Version::V311 => {}
            Version::V5 => self.properties.write(&mut body)?,
        }
        write_packet(CONNACK << 4, &body, out)
    }
}

/// The broker's mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Another packet, AUTH to a 3.x client, or no MQTT at all.
    #[error("first byte 0x{0:02x} of the reply is not that of a CONNACK")]
    NotConnack(u8),
    /// The fixed header announces more than is accepted.
    #[error("reply of {length} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Bytes of the whole packet.
        length: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A broken rule.
    #[error("malformed reply")]
    Malformed(#[from] Violation),
}

/// Decodes the packet that `bytes` start with, for a client of `version`; what follows it is left alone.
///
/// # Errors
/// As soon as the first byte or the length are wrong; the rest when the packet is complete.
pub fn decode_first_reply(
    bytes: &[u8],
    version: Version,
    bytes_max: usize,
) -> Result<Decoded<FirstReply<'_>>, ReplyError> {
    if let Some(first) = bytes.first() {
        let packet_type = first >> 4;
        let expected = packet_type == CONNACK || (packet_type == AUTH && version == Version::V5);
        if !expected {
            return Err(ReplyError::NotConnack(*first));
        }
        if first & 0x0f != 0 {
            return Err(Violation::FixedHeaderFlags.into());
        }
    }
    let header = match FixedHeader::decode(bytes)? {
        Decoded::Complete { value, .. } => value,
        Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
    };
    if version == Version::V5 && !header.is_minimal() {
        return Err(Violation::NotMinimal.into());
    }
    let length = header.packet_length();
    if length > bytes_max {
        return Err(ReplyError::TooLarge { length, bytes_max });
    }
    let Some(packet) = bytes.get(..length) else {
        return Ok(Decoded::Incomplete {
            need: length.saturating_sub(bytes.len()),
        });
    };
    let body = packet
        .get(usize::from(header.header_length)..)
        .unwrap_or_default();
    let value = match header.packet_type {
        AUTH => FirstReply::Auth,
        _ => FirstReply::Connack(decode_connack(version, body)?),
    };
    Ok(Decoded::Complete {
        value,
        consumed: length,
    })
}

fn decode_connack(version: Version, body: &[u8]) -> Result<Connack<'_>, Violation> {
    let truncated = Violation::Truncated(Field::ConnackHeader);
    let mut reader = Reader::new(body);
    let flags = reader.u8().ok_or(truncated)?;
    let code = reader.u8().ok_or(truncated)?;
    // MQTT 3.1 §3.2 reserves the whole byte and says nothing about its value.
    if version != Version::V31 && flags & 0xfe != 0 {
        return Err(Violation::ConnackFlags);
    }
    let properties = match version {
        // A broker that knows 3.1.1 alone answers a 5.0 CONNECT in its own format: 3.1.1 [MQTT-3.1.2-2].
        Version::V5 if code == 1 && reader.is_empty() => Properties::EMPTY,
        Version::V5 => Properties::read(&mut reader, Place::Connack)?,
        Version::V31 | Version::V311 => Properties::EMPTY,
    };
    if !reader.is_empty() {
        return Err(Violation::TrailingBytes);
    }
    let session_present = flags & 1 != 0 && version != Version::V31;
    Ok(Connack {
        version,
        session_present,
        code,
        properties,
    })
}

/// The CONNACK for a client when no broker can take it: 5.0 0x88 Server unavailable, 3.x return code 3.
pub const fn connack_unavailable(version: Version) -> &'static [u8] {
    match version {
        Version::V31 | Version::V311 => &[0x20, 0x02, 0x00, 0x03],
        Version::V5 => &[0x20, 0x03, 0x00, 0x88, 0x00],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8], version: Version) -> Result<Decoded<FirstReply<'_>>, ReplyError> {
        decode_first_reply(bytes, version, 1024)
    }

    fn connack(bytes: &[u8], version: Version) -> Connack<'_> {
        match decode(bytes, version) {
            Ok(Decoded::Complete {
                value: FirstReply::Connack(connack),
                consumed,
            }) => {
                assert_eq!(consumed, bytes.len());
                connack
            }
            other => panic!("{bytes:02x?}: {other:?}"),
        }
    }

    fn refuse(bytes: &[u8], version: Version, expected: Violation) {
        assert_eq!(
            decode(bytes, version),
            Err(expected.into()),
            "{bytes:02x?} for {version:?}"
        );
    }

    #[test]
    fn section_3_2_flags_and_code_are_read() {
        for version in [Version::V31, Version::V311] {
            let accepted = connack(b"\x20\x02\x00\x00", version);
            assert!(accepted.is_accepted() && !accepted.session_present);
            assert_eq!(connack(b"\x20\x02\x00\x05", version).code, 5);
        }
        assert!(connack(b"\x20\x02\x01\x00", Version::V311).session_present);
        assert!(!connack(b"\x20\x02\x01\x00", Version::V31).session_present);
        assert!(connack(b"\x20\x03\x01\x00\x00", Version::V5).session_present);
        assert_eq!(connack(b"\x20\x03\x00\x87\x00", Version::V5).code, 0x87);
    }

    #[test]
    fn section_3_2_2_3_properties_are_read() {
        let packet = b"\x20\x24\x00\x00\x21\x13\0\x3c\x27\0\0\x10\0\x12\0\x02id\x1c\0\x06b:1883\x1f\0\x04busy\
            \x24\0\x25\0";
        let properties = connack(packet, Version::V5).properties;
        assert_eq!(properties.server_keep_alive(), Some(60));
        assert_eq!(properties.maximum_packet_size(), Some(4096));
        assert_eq!(properties.assigned_client_identifier(), Some("id"));
        assert_eq!(properties.server_reference(), Some("b:1883"));
        assert_eq!(properties.reason_string(), Some("busy"));
        assert_eq!(properties.session_expiry_interval(), None);
    }

    #[test]
    fn only_codes_that_blame_the_broker_are_unavailable() {
        for code in 0..=u8::MAX {
            let v5 = connack(&[0x20, 3, 0, code, 0], Version::V5).is_unavailable();
            assert_eq!(
                v5,
                [0x88, 0x89, 0x97, 0x9c, 0x9d].contains(&code),
                "{code:02x}"
            );
            for version in [Version::V31, Version::V311] {
                let v3 = connack(&[0x20, 2, 0, code], version).is_unavailable();
                assert_eq!(v3, code == 3, "{code:02x}");
            }
        }
    }

    #[test]
    fn our_own_refusal_is_a_connack_that_says_unavailable() {
        for version in [Version::V31, Version::V311, Version::V5] {
            assert!(connack(connack_unavailable(version), version).is_unavailable());
        }
    }

    #[test]
    fn section_4_12_auth_comes_first_for_5_0_alone() {
        let packet = b"\xf0\x0d\x18\x0b\x15\0\x05SCRAM\x16\0\0";
        let complete = Decoded::Complete {
            value: FirstReply::Auth,
            consumed: packet.len(),
        };
        assert_eq!(decode(packet, Version::V5), Ok(complete));
        assert_eq!(
            decode(packet, Version::V311),
            Err(ReplyError::NotConnack(0xf0))
        );
        refuse(b"\xf1", Version::V5, Violation::FixedHeaderFlags);
    }

    #[test]
    fn a_3_1_1_broker_may_refuse_a_5_0_client_in_its_own_format() {
        let refused = connack(b"\x20\x02\x00\x01", Version::V5);
        assert_eq!((refused.code, refused.is_unavailable()), (1, false));
        let error = Violation::Truncated(Field::PropertyLength);
        refuse(b"\x20\x02\x00\x00", Version::V5, error);
        refuse(b"\x20\x02\x00\x88", Version::V5, error);
    }

    #[test]
    fn strangers_are_recognised_by_their_first_byte() {
        for byte in [0x00, 0x10, 0x15, 0x30, 0xe0, b'H'] {
            assert_eq!(
                decode(&[byte], Version::V5),
                Err(ReplyError::NotConnack(byte))
            );
        }
        refuse(b"\x21", Version::V311, Violation::FixedHeaderFlags);
    }

    #[test]
    fn the_length_is_judged_before_the_packet_is_there() {
        let error = ReplyError::TooLarge {
            length: 1025,
            bytes_max: 1024,
        };
        assert_eq!(decode(b"\x20\xfe\x07", Version::V5), Err(error));
        assert_eq!(
            decode(b"\x20\xfd\x07", Version::V5),
            Ok(Decoded::Incomplete { need: 1021 })
        );
        refuse(
            b"\x20\x80\x80\x80\x80",
            Version::V5,
            Violation::VariableByteInteger,
        );
        refuse(b"\x20\x83\x00", Version::V5, Violation::NotMinimal);
        assert!(connack(b"\x20\x82\x00\x00\x00", Version::V311).is_accepted());
    }

    #[test]
    fn mqtt_3_2_2_1_reserved_flags_are_zero() {
        refuse(b"\x20\x02\x02\x00", Version::V311, Violation::ConnackFlags);
        refuse(
            b"\x20\x03\x80\x00\x00",
            Version::V5,
            Violation::ConnackFlags,
        );
        assert!(connack(b"\x20\x02\x02\x00", Version::V31).is_accepted());
    }

    #[test]
    fn the_packet_ends_where_its_fields_end() {
        refuse(
            b"\x20\x00",
            Version::V311,
            Violation::Truncated(Field::ConnackHeader),
        );
        refuse(
            b"\x20\x01\x00",
            Version::V311,
            Violation::Truncated(Field::ConnackHeader),
        );
        refuse(
            b"\x20\x03\x00\x00\x00",
            Version::V311,
            Violation::TrailingBytes,
        );
        refuse(
            b"\x20\x04\x00\x00\x00\x00",
            Version::V5,
            Violation::TrailingBytes,
        );
        refuse(
            b"\x20\x05\x00\x00\x02\x17\x01",
            Version::V5,
            Violation::PropertyMisplaced(0x17),
        );
    }
}
