//! The PROXY protocol of HAProxy (`doc/proxy-protocol.txt`), versions 1 and 2: the client's address in front of the
//! first byte that a broker sees. Sections named in the comments are those of that document.
//!
//! Absent on purpose: guessing. Whether a header is there is configuration (section 5), never detection.

#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

mod checksum;
pub mod decode;
pub mod encode;
pub mod tlv;

#[cfg(test)]
mod round_trip_tests;

pub use crate::logic::reader::Decoded;
pub use decode::{Proxied, ProxyError, decode};
pub use encode::{HEADER_BYTES_MAX, V1_UNKNOWN, encode_v1, encode_v2, v2_local};
pub use tlv::{Ssl, Tlvs};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The first twelve bytes of a version 2 header (section 2.2).
pub(crate) const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What a broker is told about a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// Version 2 alone; `None` for a client without TLS.
    pub tls: Option<TlsInfo<'a>>,
}

/// What TLS said about a client. A string that the format or a receiver does not take is left out of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsInfo<'a> {
    /// Like `TLSv1.3`; US-ASCII.
    pub version: &'a str,
    /// The cipher suite's name; US-ASCII.
    pub cipher: &'a str,
    /// The protocol that was agreed on.
    pub alpn: Option<&'a [u8]>,
    /// The server name (SNI) that the client asked for.
    pub authority: Option<&'a str>,
    /// The common name of the client's certificate. Written only when the certificate was verified: brokers take it
    /// for who the client is.
    pub client_cn: Option<&'a str>,
    /// The client showed a certificate in this connection or in the session that it resumes.
    pub client_cert_presented: bool,
    /// The connection resumes a session, so the certificate was shown before and not on this connection.
    pub resumed: bool,
    /// And it was verified.
    pub verified: bool,
}

/// A source and a destination of the same family, as on the wire.
#[derive(Clone, Copy)]
enum Addresses {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

impl Addresses {
    /// IPv4 when both are, IPv4-mapped IPv6 (a dual-stack socket's view of IPv4) included; else the IPv4 one of a
    /// mixed pair is mapped into IPv6.
    const fn of(source: SocketAddr, destination: SocketAddr) -> Self {
        match (source.ip().to_canonical(), destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Self::V4(source, destination),
            (source, destination) => Self::V6(mapped(source), mapped(destination)),
        }
    }
}

const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}
