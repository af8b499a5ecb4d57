//! Headers that others send: version 1 or 2, told by the first byte.

use super::V2_SIGNATURE;
use super::tlv::Tlvs;
use crate::logic::reader::{Decoded, Reader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest version 1 line, CRLF included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;
/// The shortest: `PROXY UNKNOWN` CRLF.
const V1_BYTES_MIN: usize = 15;
/// The fixed part of version 2.
const V2_BYTES_MIN: usize = 16;
const V1_START: &[u8] = b"PROXY ";

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied<'a> {
    /// Source and destination. `None`: the socket's own addresses hold (UNKNOWN, LOCAL, and families other than TCP
    /// over IP, which section 2.2 says to treat as unspecified).
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Version 2 with addresses alone; else empty.
    pub tlvs: Tlvs<'a>,
}

impl Proxied<'_> {
    const NOTHING: Self = Self {
        addresses: None,
        tlvs: Tlvs::EMPTY,
    };
}

/// The sender's mistake; the connection ends (section 2.1, 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The bytes start neither version.
    #[error("no PROXY protocol header")]
    NotProxy,
    /// A version 1 line that is not exactly as section 2.1 wants it.
    #[error("malformed PROXY line")]
    Line,
    /// Version, command, family or transport that section 2.2 does not assign.
    #[error("PROXY header with unassigned byte 0x{0:02x}")]
    Unassigned(u8),
    /// A version 2 header that announces more than is accepted.
    #[error("PROXY header of {length} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// Bytes of the whole header.
        length: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A version 2 header that is too short for the addresses of its family.
    #[error("PROXY header is too short for its addresses")]
    Addresses,
    /// A TLV that runs over the end or has a length that its type forbids.
    #[error("malformed TLV in the PROXY header")]
    Tlv,
    /// CRC-32C: section 2.2.3.
    #[error("wrong checksum in the PROXY header")]
    Checksum,
}

/// Decodes the header that `bytes` start with; what follows it is left alone.
///
/// # Errors
/// As soon as the bytes so far can no longer become a header of at most `bytes_max` bytes. The content is checked when
/// it is complete, as both sections demand.
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied<'_>>, ProxyError> {
    if starts_like(bytes, V1_START) {
        decode_v1(bytes, bytes_max)
    } else if starts_like(bytes, V2_SIGNATURE) {
        decode_v2(bytes, bytes_max)
    } else {
        Err(ProxyError::NotProxy)
    }
}

/// Whether the bytes begin with the pattern, as far as both go.
fn starts_like(bytes: &[u8], pattern: &[u8]) -> bool {
    bytes
        .iter()
        .zip(pattern)
        .all(|(byte, expected)| byte == expected)
}

fn decode_v1(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied<'_>>, ProxyError> {
    let line_max = bytes_max.min(V1_BYTES_MAX);
    let window = bytes.get(..line_max).unwrap_or(bytes);
    let Some(end) = window.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        if bytes.len() >= line_max {
            return Err(ProxyError::Line);
        }
        let need = V1_BYTES_MIN.saturating_sub(bytes.len()).max(1);
        return Ok(Decoded::Incomplete { need });
    };
    // Neither CR nor LF ends the line alone.
    let (line, ending) = window.split_at_checked(end).ok_or(ProxyError::Line)?;
    match ending {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if window.len() < line_max => return Ok(Decoded::Incomplete { need: 1 }),
        _ => return Err(ProxyError::Line),
    }
    let line = std::str::from_utf8(line).map_err(|_| ProxyError::Line)?;
    let value = decode_line(line).ok_or(ProxyError::Line)?;
    Ok(Decoded::Complete {
        value,
        consumed: end.saturating_add(2),
    })
}

fn decode_line(line: &str) -> Option<Proxied<'static>> {
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(Proxied::NOTHING);
    }
    let mut words = rest.split(' ');
    let family = words.next()?;
    let source = address(family, words.next()?)?;
    let destination = address(family, words.next()?)?;
    let source = SocketAddr::new(source, port(words.next()?)?);
    let destination = SocketAddr::new(destination, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    Some(Proxied {
        addresses: Some((source, destination)),
        tlvs: Tlvs::EMPTY,
    })
}

fn address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    }
}

/// Digits without leading zeros, 0 to 65535; `parse` alone takes `+1` and `01`.
fn port(text: &str) -> Option<u16> {
    let port = text.parse::<u16>().ok()?;
    (text == "0" || text.starts_with(|first: char| ('1'..='9').contains(&first))).then_some(port)
}

fn decode_v2(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied<'_>>, ProxyError> {
    let mut reader = Reader::new(bytes);
    let need = V2_BYTES_MIN.saturating_sub(bytes.len());
    // A failed read moves nothing, so what follows a short signature must not be read.
    if reader.take(V2_SIGNATURE.len()).is_none() {
        return Ok(Decoded::Incomplete { need });
    }
    let command = reader.u8();
    // Refused as soon as they are visible.
    if let Some(byte) = command.filter(|byte| !matches!(byte, 0x20 | 0x21)) {
        return Err(ProxyError::Unassigned(byte));
    }
    let family = reader.u8();
    // A LOCAL header's family is ignored.
    let assigned = |byte: u8| command == Some(0x20) || (byte >> 4 <= 3 && byte & 0x0f <= 2);
    if let Some(byte) = family.filter(|byte| !assigned(*byte)) {
        return Err(ProxyError::Unassigned(byte));
    }
    let (Some(command), Some(family), Some(length)) = (command, family, reader.u16()) else {
        return Ok(Decoded::Incomplete { need: need.max(1) });
    };
    let length = usize::from(length).saturating_add(V2_BYTES_MIN);
    if length > bytes_max {
        return Err(ProxyError::TooLarge { length, bytes_max });
    }
    let Some(header) = bytes.get(..length) else {
        return Ok(Decoded::Incomplete {
            need: length.saturating_sub(bytes.len()),
        });
    };
    let value = match (command, family) {
        (0x21, 0x11 | 0x21) => decode_addresses(header, family)?,
        _ => Proxied::NOTHING,
    };
    Ok(Decoded::Complete {
        value,
        consumed: length,
    })
}

/// Decodes addresses and TLVs of a complete header.
fn decode_addresses(header: &[u8], family: u8) -> Result<Proxied<'_>, ProxyError> {
    let mut reader = Reader::new(header);
    let block = |reader: &mut Reader<'_>| {
        reader.take(V2_BYTES_MIN)?;
        let mut ip = || match family {
            0x11 => reader.array::<4>().map(IpAddr::from),
            _ => reader.array::<16>().map(IpAddr::from),
        };
        let (source, destination) = (ip()?, ip()?);
        let (source_port, destination_port) = (reader.u16()?, reader.u16()?);
        Some((
            SocketAddr::new(source, source_port),
            SocketAddr::new(destination, destination_port),
        ))
    };
    let addresses = Some(block(&mut reader).ok_or(ProxyError::Addresses)?);
    let tlvs = Tlvs::parse(reader.rest())?;
    tlvs.check_sum(header)?;
    Ok(Proxied { addresses, tlvs })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
