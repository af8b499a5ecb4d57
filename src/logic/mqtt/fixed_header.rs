//! The first 2 to 5 bytes of every packet, and the integers of variable length (MQTT 5.0 §2.1, §1.5.5).
//!
//! | byte | bits 7-4 | bits 3-0 |
//! |---|---|---|
//! | 1 | packet type | flags |
//! | 2-5 | remaining length: 7 bits a byte, least significant first, bit 7 = more follow | |

use super::connect_encode::EncodeError;
use super::violation::Violation;
use crate::logic::reader::{Decoded, Reader};

/// The largest variable byte integer: 268 435 455.
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 0x0fff_ffff;

/// A packet's type, flags and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedHeader {
    /// 1 CONNECT, 2 CONNACK ... 15 AUTH.
    pub packet_type: u8,
    /// The low four bits of the first byte.
    pub flags: u8,
    /// Bytes after the fixed header, 0 to 268 435 455.
    pub remaining_length: u32,
    /// Bytes of the fixed header itself, 2 to 5.
    pub header_length: u8,
}

impl FixedHeader {
    /// Decodes the beginning of a packet. Whether the flags suit the type is not judged here.
    ///
    /// A length with needless bytes passes (MQTT 3.x allows it); [`FixedHeader::is_minimal`] tells.
    ///
    /// # Errors
    /// [`Violation::VariableByteInteger`] when the length does not end within four bytes.
    pub fn decode(bytes: &[u8]) -> Result<Decoded<Self>, Violation> {
        let mut reader = Reader::new(bytes);
        let Some(first) = reader.u8() else {
            return Ok(Decoded::Incomplete { need: 2 });
        };
        Ok(match variable_byte_integer(reader.rest())? {
            Decoded::Incomplete { need } => Decoded::Incomplete { need },
            Decoded::Complete {
                value: remaining_length,
                consumed,
            } => {
                let consumed = consumed.saturating_add(1);
                let value = Self {
                    packet_type: first >> 4,
                    flags: first & 0x0f,
                    remaining_length,
                    header_length: u8::try_from(consumed).unwrap_or(u8::MAX),
                };
                Decoded::Complete { value, consumed }
            }
        })
    }

    /// Bytes of the whole packet.
    pub fn packet_length(&self) -> usize {
        // A `usize` of 16 bits does not exist where tokio runs.
        let remaining_length = usize::try_from(self.remaining_length).unwrap_or(usize::MAX);
        remaining_length.saturating_add(usize::from(self.header_length))
    }

    /// Whether the length is written with as few bytes as possible: [MQTT-1.5.5-1].
    pub const fn is_minimal(&self) -> bool {
        let minimal = match self.remaining_length {
            0..=0x7f => 2,
            0x80..=0x3fff => 3,
            0x4000..=0x001f_ffff => 4,
            _ => 5,
        };
        self.header_length == minimal
    }
}

/// Bytes of the packet that starts here, fixed header included; for framing of packets that are not decoded.
/// `consumed` counts the fixed header alone.
///
/// # Errors
/// [`Violation::VariableByteInteger`], after which the stream cannot be framed any more.
pub fn packet_length(bytes: &[u8]) -> Result<Decoded<usize>, Violation> {
    Ok(match FixedHeader::decode(bytes)? {
        Decoded::Complete { value, consumed } => Decoded::Complete {
            value: value.packet_length(),
            consumed,
        },
        Decoded::Incomplete { need } => Decoded::Incomplete { need },
    })
}

/// Reads an integer of one to four bytes, whether minimal or not.
pub(super) fn variable_byte_integer(bytes: &[u8]) -> Result<Decoded<u32>, Violation> {
    let mut value = 0;
    for ((index, byte), shift) in bytes.iter().enumerate().zip([0, 7, 14, 21]) {
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(Decoded::Complete {
                value,
                consumed: index.saturating_add(1),
            });
        }
    }
    if bytes.len() >= 4 {
        return Err(Violation::VariableByteInteger);
    }
    Ok(Decoded::Incomplete { need: 1 })
}

/// Appends an integer of up to [`VARIABLE_BYTE_INTEGER_MAX`], minimally. Returns whether it fits; else nothing is
/// appended.
#[must_use]
pub(super) fn write_variable_byte_integer(value: u32, out: &mut Vec<u8>) -> bool {
    if value > VARIABLE_BYTE_INTEGER_MAX {
        return false;
    }
    let mut rest = value;
    loop {
        let [.., low] = (rest & 0x7f).to_be_bytes();
        rest >>= 7;
        if rest == 0 {
            out.push(low);
            return true;
        }
        out.push(low | 0x80);
    }
}

/// Appends a packet: first byte, length, body. Nothing is appended when the body is too long.
pub(super) fn write_packet(first: u8, body: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    out.push(first);
    let fits =
        u32::try_from(body.len()).is_ok_and(|length| write_variable_byte_integer(length, out));
    if !fits {
        out.truncate(start);
        return Err(EncodeError::PacketTooLong(body.len()));
    }
    out.extend(body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT 5.0 table 1-1: the first and last value of every size.
    const TABLE_1_1: [(u32, &[u8]); 8] = [
        (0, &[0x00]),
        (127, &[0x7f]),
        (128, &[0x80, 0x01]),
        (16_383, &[0xff, 0x7f]),
        (16_384, &[0x80, 0x80, 0x01]),
        (2_097_151, &[0xff, 0xff, 0x7f]),
        (2_097_152, &[0x80, 0x80, 0x80, 0x01]),
        (268_435_455, &[0xff, 0xff, 0xff, 0x7f]),
    ];

    #[test]
    fn table_1_1_reads_and_writes() {
        for (value, bytes) in TABLE_1_1 {
            let mut written = Vec::new();
            assert!(write_variable_byte_integer(value, &mut written));
            assert_eq!(written, bytes, "{value}");
            let expected = Decoded::Complete {
                value,
                consumed: bytes.len(),
            };
            assert_eq!(variable_byte_integer(bytes), Ok(expected), "{value}");
            for end in 0..bytes.len() {
                assert_eq!(
                    variable_byte_integer(&bytes[..end]),
                    Ok(Decoded::Incomplete { need: 1 })
                );
            }
        }
    }

    #[test]
    fn a_fifth_byte_is_refused_both_ways() {
        let error = Err(Violation::VariableByteInteger);
        assert_eq!(variable_byte_integer(&[0x80, 0x80, 0x80, 0x80]), error);
        assert_eq!(
            variable_byte_integer(&[0xff, 0xff, 0xff, 0xff, 0x7f]),
            error
        );
        let mut out = Vec::new();
        assert!(!write_variable_byte_integer(
            VARIABLE_BYTE_INTEGER_MAX + 1,
            &mut out
        ));
        assert!(out.is_empty());
    }

    #[test]
    fn mqtt_1_5_5_1_needless_bytes_are_seen() {
        let header = |bytes: &[u8]| FixedHeader::decode(bytes).unwrap().value().unwrap();
        assert!(header(&[0x10, 0x7f]).is_minimal());
        assert!(!header(&[0x10, 0xff, 0x00]).is_minimal());
        assert!(header(&[0x10, 0x80, 0x01]).is_minimal());
        assert!(!header(&[0x10, 0x80, 0x80, 0x80, 0x00]).is_minimal());
        for (_, bytes) in TABLE_1_1 {
            assert!(
                header(&[&[0x30], bytes].concat()).is_minimal(),
                "{bytes:02x?}"
            );
        }
    }

    #[test]
    fn packets_are_framed_by_their_header_alone() {
        let complete = |value, consumed| Ok(Decoded::Complete { value, consumed });
        assert_eq!(packet_length(&[]), Ok(Decoded::Incomplete { need: 2 }));
        assert_eq!(packet_length(&[0xc0]), Ok(Decoded::Incomplete { need: 1 }));
        assert_eq!(packet_length(&[0xc0, 0x00, 0xaa]), complete(2, 2));
        assert_eq!(packet_length(&[0x30, 0x80, 0x01]), complete(131, 3));
        assert_eq!(
            packet_length(&[0x30, 0xff, 0xff, 0xff, 0x7f]),
            complete(268_435_460, 5)
        );
        assert_eq!(
            packet_length(&[0x30, 0xff, 0xff, 0xff, 0xff]),
            Err(Violation::VariableByteInteger)
        );
    }
}
