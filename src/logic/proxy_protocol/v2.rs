//! Version 2: binary (PROXY spec 2.2 §2.2). All numbers are big-endian.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0..12 | signature |
//! | 12 | version 2 (high half), command: 0 LOCAL, 1 PROXY |
//! | 13 | family and protocol: 0x00 unspecified, 0x11 TCP over IPv4, 0x21 TCP over IPv6 |
//! | 14..16 | length of what follows |
//! | 16.. | source address, destination address, source port, destination port; TLVs |

use super::address::Pair;
use super::{HEADER_BYTES_MAX, Header, Proxied, ProxiedAddresses, ProxyError, tlv};
use crate::logic::decoded::Decoded;
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const FIXED_BYTES: usize = 16;
const IPV4_BYTES: usize = 12;
const IPV6_BYTES: usize = 36;
/// What TLVs may take beside the longer addresses.
const TLV_BYTES_MAX: usize = HEADER_BYTES_MAX - FIXED_BYTES - IPV6_BYTES;
const _: () = assert!(HEADER_BYTES_MAX <= 65_535, "the length field has 16 bits");

const VERSION: u8 = 2;
const VERSION_AND_LOCAL: u8 = 0x20;
const VERSION_AND_PROXY: u8 = 0x21;
const LOCAL: u8 = 0;
const PROXY: u8 = 1;
const UNSPECIFIED: u8 = 0x00;
const TCP_IPV4: u8 = 0x11;
const TCP_IPV6: u8 = 0x21;

/// A header for our own connections, such as health checks: no client stands behind them.
///
/// It carries an empty NOOP TLV, because EMQX 5.8.9 swallows the first bytes behind a header of length 0.
pub fn v2_local() -> Vec<u8> {
    assemble(VERSION_AND_LOCAL, UNSPECIFIED, &tlv::NOOP_EMPTY)
}

pub(super) fn encode(header: &Header<'_>) -> Vec<u8> {
    let mut body = Vec::with_capacity(HEADER_BYTES_MAX);
    let family = match Pair::new(header.source, header.destination) {
        Pair::V4(source, destination) => {
            body.extend_from_slice(&source.ip().octets());
            body.extend_from_slice(&destination.ip().octets());
            TCP_IPV4
        }
        Pair::V6(source, destination) => {
            body.extend_from_slice(&source.ip().octets());
            body.extend_from_slice(&destination.ip().octets());
            TCP_IPV6
        }
    };
    body.extend_from_slice(&header.source.port().to_be_bytes());
    body.extend_from_slice(&header.destination.port().to_be_bytes());
    if let Some(tls) = &header.tls {
        tlv::encode(tls, TLV_BYTES_MAX, &mut body);
    }
    let bytes = assemble(VERSION_AND_PROXY, family, &body);
    debug_assert!(bytes.len() <= HEADER_BYTES_MAX, "{}", bytes.len());
    bytes
}

fn assemble(version_and_command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("bodies are built within HEADER_BYTES_MAX");
    let [high, low] = length.to_be_bytes();
    [
        SIGNATURE.as_slice(),
        &[version_and_command, family, high, low],
        body,
    ]
    .concat()
}

pub(super) fn decode(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied>, ProxyError> {
    check_start(bytes)?;
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED_BYTES>() else {
        if FIXED_BYTES > bytes_max {
            return Err(ProxyError::TooLong { bytes_max });
        }
        return Ok(Decoded::Incomplete {
            need: FIXED_BYTES.saturating_sub(bytes.len()),
        });
    };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let total = FIXED_BYTES.saturating_add(length);
    if total > bytes_max {
        return Err(ProxyError::TooLong { bytes_max });
    }
    let command = version_and_command & 0x0f;
    check_length(command, family, length)?;
    let Some(body) = rest.get(..length) else {
        return Ok(Decoded::Incomplete {
            need: length.saturating_sub(rest.len()),
        });
    };
    // A LOCAL header's family and body are to be discarded, whatever they hold.
    let value = if command == LOCAL {
        Proxied::default()
    } else {
        proxied(family, body)?
    };
    Ok(Decoded::Complete {
        value,
        consumed: total,
    })
}

/// Refuses what is wrong already, however little has arrived.
fn check_start(bytes: &[u8]) -> Result<(), ProxyError> {
    if !bytes
        .iter()
        .zip(SIGNATURE)
        .all(|(byte, expected)| byte == expected)
    {
        return Err(ProxyError::Signature);
    }
    let Some(&version_and_command) = bytes.get(SIGNATURE.len()) else {
        return Ok(());
    };
    let (version, command) = (version_and_command >> 4, version_and_command & 0x0f);
    if version != VERSION {
        return Err(ProxyError::Version(version));
    }
    match command {
        LOCAL | PROXY => Ok(()),
        _ => Err(ProxyError::Command(command)),
    }
}

/// Refuses a family that is not served, and a length without room for its addresses.
fn check_length(command: u8, family: u8, length: usize) -> Result<(), ProxyError> {
    let least = match (command, family) {
        (LOCAL, _) | (_, UNSPECIFIED) => 0,
        (_, TCP_IPV4) => IPV4_BYTES,
        (_, TCP_IPV6) => IPV6_BYTES,
        _ => return Err(ProxyError::Family(family)),
    };
    if length < least {
        Err(ProxyError::Addresses)
    } else {
        Ok(())
    }
}

fn proxied(family: u8, body: &[u8]) -> Result<Proxied, ProxyError> {
    let (addresses, tlvs) = match family {
        // "Unspecified" has no addresses of a known length, so that TLVs can't be told from them: all is discarded.
        UNSPECIFIED => return Ok(Proxied::default()),
        TCP_IPV4 => addresses::<4>(body),
        _ => addresses::<16>(body),
    }
    .ok_or(ProxyError::Addresses)?;
    let mut value = Proxied {
        addresses: Some(addresses),
        ..Proxied::default()
    };
    tlv::decode(tlvs, &mut value)?;
    Ok(value)
}

/// Two addresses of `N` bytes and two ports from the start of `body`, and what follows them.
fn addresses<const N: usize>(body: &[u8]) -> Option<(ProxiedAddresses, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, rest) = rest.split_first_chunk::<2>()?;
    let addresses = ProxiedAddresses {
        source: SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes(*source_port)),
        destination: SocketAddr::new(
            IpAddr::from(*destination),
            u16::from_be_bytes(*destination_port),
        ),
    };
    Some((addresses, rest))
}
