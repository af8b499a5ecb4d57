//! Headers that we send.
//!
//! A broker closes the connection over a value that it does not like, so a doubtful value is left out: EMQX refuses
//! control characters, and nobody expects a name of more than 255 bytes.

use super::tlv::{self, tlv_length};
use super::{Addresses, Header, TlsInfo, V2_SIGNATURE};
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

/// The largest header that [`encode_v2`] makes: one TCP segment at the least MSS of IPv4 (576 - 40), so that it
/// arrives at once, which receivers may insist on (section 2.2). Names that do not fit are left out.
pub const HEADER_BYTES_MAX: usize = 536;

/// The longest name in a header.
const NAME_BYTES_MAX: usize = 255;

/// Version 1 without addresses. Section 2.1 advises against it for connections of our own, health checks for
/// instance: these put their socket's own addresses into [`encode_v1`].
pub const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN\r\n";

/// Version 2, command LOCAL, for connections of our own: the receiver uses the socket's addresses.
///
/// The document lets the length be 0. EMQX 5.8.9 then swallows the first bytes after the header, so there is an empty
/// NOOP in it.
pub const fn v2_local() -> &'static [u8] {
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x03\x04\x00\x00"
}

/// Version 1 (section 2.1): at most 104 bytes. What TLS said has no place in it.
pub fn encode_v1(header: &Header<'_>) -> Vec<u8> {
    let (source, destination) = (header.source.port(), header.destination.port());
    match Addresses::of(header.source, header.destination) {
        Addresses::V4(from, to) => {
            format!("PROXY TCP4 {from} {to} {source} {destination}\r\n").into_bytes()
        }
        Addresses::V6(from, to) => {
            let (from, to) = (HexGroups(from), HexGroups(to));
            format!("PROXY TCP6 {from} {to} {source} {destination}\r\n").into_bytes()
        }
    }
}

/// An IPv6 address in the form of section 2.1, which knows hexadecimal groups alone: `Display` writes the end of an
/// IPv4-mapped address with dots.
struct HexGroups(Ipv6Addr);

impl fmt::Display for HexGroups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.segments() {
            [0, 0, 0, 0, 0, 0xffff, high, low] => write!(f, "::ffff:{high:x}:{low:x}"),
            _ => self.0.fmt(f),
        }
    }
}

/// Version 2 (section 2.2): at most [`HEADER_BYTES_MAX`] bytes.
pub fn encode_v2(header: &Header<'_>) -> Vec<u8> {
    let mut payload = Vec::with_capacity(128);
    let family = write_addresses(header.source, header.destination, &mut payload);
    if let Some(tls) = &header.tls {
        let room = HEADER_BYTES_MAX
            .saturating_sub(payload.len())
            .saturating_sub(16);
        Chosen::of(tls, room).write(tls, &mut payload);
    }
    let length = u16::try_from(payload.len()).unwrap_or_default();
    debug_assert_eq!(
        usize::from(length),
        payload.len(),
        "HEADER_BYTES_MAX bounds the payload"
    );
    let mut out = Vec::with_capacity(payload.len().saturating_add(16));
    out.extend(V2_SIGNATURE);
    out.extend([0x21, family]);
    out.extend(length.to_be_bytes());
    out.extend(payload);
    out
}

/// Appends the address block and returns the byte for family and transport.
fn write_addresses(source: SocketAddr, destination: SocketAddr, out: &mut Vec<u8>) -> u8 {
    let family = match Addresses::of(source, destination) {
        Addresses::V4(from, to) => {
            out.extend(from.octets());
            out.extend(to.octets());
            0x11
        }
        Addresses::V6(from, to) => {
            out.extend(from.octets());
            out.extend(to.octets());
            0x21
        }
    };
    out.extend(source.port().to_be_bytes());
    out.extend(destination.port().to_be_bytes());
    family
}

/// The values that are good and fit.
struct Chosen<'a> {
    alpn: Option<&'a [u8]>,
    authority: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    client_cn: Option<&'a [u8]>,
    cipher: Option<&'a [u8]>,
}

impl<'a> Chosen<'a> {
    /// Chooses in the order of importance until the room is full: who the client is, then what the document
    /// demands (the version), then where it wanted to go, then the rest. The SSL block itself comes before all.
    fn of(tls: &TlsInfo<'a>, room: usize) -> Self {
        let mut room = room.saturating_sub(tlv_length(5));
        let mut choose = |value: Option<&'a [u8]>| {
            let value = value?;
            room = room.checked_sub(tlv_length(value.len()))?;
            Some(value)
        };
        let is_known = tls.client_cert_presented && tls.verified;
        Self {
            client_cn: choose(tls.client_cn.filter(|_| is_known).and_then(name)),
            version: choose(ascii(tls.version.as_bytes())),
            authority: choose(tls.authority.and_then(name)),
            alpn: choose(tls.alpn.and_then(ascii)),
            cipher: choose(ascii(tls.cipher.as_bytes())),
        }
    }

    fn write(&self, tls: &TlsInfo<'_>, out: &mut Vec<u8>) {
        let put = |kind, value: Option<&[u8]>, out: &mut Vec<u8>| {
            if let Some(value) = value {
                tlv::write(kind, value, out);
            }
        };
        let certificate = match (tls.client_cert_presented, tls.resumed) {
            (false, _) => 0,
            (true, false) => tlv::CLIENT_CERT_CONN | tlv::CLIENT_CERT_SESS,
            (true, true) => tlv::CLIENT_CERT_SESS,
        };
        // Zero means: a certificate was there, and it was verified.
        let verify = u32::from(!(tls.client_cert_presented && tls.verified));
        let mut ssl = Vec::with_capacity(64);
        ssl.push(tlv::CLIENT_SSL | certificate);
        ssl.extend(verify.to_be_bytes());
        put(tlv::SSL_VERSION, self.version, &mut ssl);
        put(tlv::SSL_CN, self.client_cn, &mut ssl);
        put(tlv::SSL_CIPHER, self.cipher, &mut ssl);
        put(tlv::ALPN, self.alpn, out);
        put(tlv::AUTHORITY, self.authority, out);
        tlv::write(tlv::SSL, &ssl, out);
    }
}

/// A name of people or hosts: UTF-8 without control characters.
fn name(text: &str) -> Option<&[u8]> {
    let good = (1..=NAME_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control);
    good.then_some(text.as_bytes())
}

/// A name of the protocol: US-ASCII that prints.
fn ascii(bytes: &[u8]) -> Option<&[u8]> {
    let printable = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let good = (1..=NAME_BYTES_MAX).contains(&bytes.len()) && bytes.iter().all(printable);
    good.then_some(bytes)
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
