//! PROXY protocol (HAProxy's specification 2.2), both versions, both ways: the header that tells a broker who the client
//! is, and the one that a balancer in front of us sends.
//!
//! Read in this order: `mod.rs` (what goes in and comes out), `address.rs` (which family a pair of addresses is written
//! in), `v1.rs` (a line of text), `v2.rs` (binary), `tlv.rs` (what v2 carries besides addresses).
//!
//! Absent on purpose: UDP and UNIX sockets (no MQTT over them here), the CRC32C and `UNIQUE_ID` TLVs (skipped when they
//! arrive, never sent), and any waiting: a shell reads bytes under its own deadline and calls [`decode`] again.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod address;
mod tlv;
mod v1;
mod v2;

pub use tlv::ProxiedTls;
pub use v1::v1_unknown;
pub use v2::v2_local;

use crate::logic::decoded::Decoded;
use std::net::SocketAddr;

/// The longest v2 header that is written, bytes: the smallest segment that every IPv4 path carries, so that the header
/// arrives whole at receivers that read it once. TLVs that don't fit are left out, the least important first.
pub const HEADER_BYTES_MAX: usize = 536;

/// The longest v1 header, bytes, CRLF included (PROXY spec 2.2 §2.1: the receiver's 108 byte buffer minus a zero).
pub const V1_BYTES_MAX: usize = 107;

/// The shortest header of either version: `PROXY UNKNOWN\r\n`.
const SHORTEST_BYTES: usize = 15;

/// What a broker is told about a client's connection.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    /// The client's address, as we see it (or as the balancer before us said).
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// What the TLS handshake with the client said; `None` for a plain connection. Version 1 cannot carry it.
    pub tls: Option<TlsInfo<'a>>,
}

/// What the TLS handshake with the client said.
#[derive(Clone, Debug)]
pub struct TlsInfo<'a> {
    /// Protocol version as OpenSSL names it: `TLSv1.3`.
    pub version: &'a str,
    /// Cipher suite.
    pub cipher: &'a str,
    /// Protocol agreed on by ALPN.
    pub alpn: Option<&'a [u8]>,
    /// Host name that the client asked for (SNI).
    pub authority: Option<&'a str>,
    /// Common name of the client certificate's subject. A name that is empty, longer than 255 bytes or has control
    /// characters is not written: EMQX closes the connection over it.
    pub client_cn: Option<&'a str>,
    /// The client presented a certificate in this TLS session.
    pub client_cert_presented: bool,
    /// The presented certificate was verified. Without a certificate it is not said.
    pub verified: bool,
}

impl Header<'_> {
    /// The header in version 1, at most [`V1_BYTES_MAX`].
    pub fn encode_v1(&self) -> Vec<u8> {
        v1::encode(self)
    }

    /// The header in version 2, at most [`HEADER_BYTES_MAX`].
    pub fn encode_v2(&self) -> Vec<u8> {
        v2::encode(self)
    }
}

/// What a header says about the connection behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxied {
    /// Source and destination, one family, as written. `None` when the connection's own addresses hold: LOCAL, UNKNOWN,
    /// unspecified family.
    pub addresses: Option<ProxiedAddresses>,
    /// ALPN protocol (TLV 0x01).
    pub alpn: Option<Vec<u8>>,
    /// Host name that the client asked for (TLV 0x02): UTF-8 without control characters.
    pub authority: Option<String>,
    /// TLS between client and sender (TLV 0x20).
    pub tls: Option<ProxiedTls>,
}

/// The two ends of a proxied connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// Why bytes are not a PROXY header. Every one ends the connection: to guess would let a client name its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The sender does not speak the protocol at all.
    #[error("no PROXY protocol signature")]
    Signature,
    /// The header is, or says that it is, longer than allowed.
    #[error("header longer than {bytes_max} bytes")]
    TooLong {
        /// The limit that it exceeds.
        bytes_max: usize,
    },
    /// A v1 line with a bad part.
    #[error("malformed version 1 line: {part}")]
    Line {
        /// Which part.
        part: &'static str,
    },
    /// A v2 header of a version other than 2.
    #[error("unknown version {0}")]
    Version(u8),
    /// A v2 command other than LOCAL and PROXY.
    #[error("unknown command {0}")]
    Command(u8),
    /// A v2 family and protocol other than unspecified, TCP over IPv4 and TCP over IPv6.
    #[error("unsupported address family and protocol {0:#04x}")]
    Family(u8),
    /// The length has no room for the addresses that the family asks for.
    #[error("header too short for its addresses")]
    Addresses,
    /// A TLV that reaches beyond its container, comes twice, or holds what its type forbids.
    #[error("malformed TLV {kind:#04x}")]
    Tlv {
        /// Type of the TLV; 0 when not even that could be read whole.
        kind: u8,
    },
}

/// Decodes the PROXY header at the start of `bytes`. `bytes_max` caps its length in either version; v1 has its own cap
/// of [`V1_BYTES_MAX`] too.
///
/// # Errors
/// Signature, version, command, family and lengths are refused as soon as they are there; what else is wrong with a v1 line
/// or in TLVs, once the header is whole.
pub fn decode(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied>, ProxyError> {
    match bytes.first() {
        None => Ok(Decoded::Incomplete {
            need: SHORTEST_BYTES,
        }),
        Some(b'P') => v1::decode(bytes, bytes_max),
        Some(_) => v2::decode(bytes, bytes_max),
    }
}

#[cfg(test)]
mod tests;
