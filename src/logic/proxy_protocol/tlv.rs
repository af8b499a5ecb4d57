//! The extensions of a version 2 header (section 2.2): type, two bytes of length, value.

use super::checksum::crc32c;
use super::decode::ProxyError;
use crate::logic::reader::Reader;

/// ALPN (2.2.1).
pub const ALPN: u8 = 0x01;
/// The host name that the client asked for, SNI (2.2.2).
pub const AUTHORITY: u8 = 0x02;
/// CRC-32C of the whole header (2.2.3).
pub const CRC32C: u8 = 0x03;
/// Padding (2.2.4).
pub const NOOP: u8 = 0x04;
/// Up to 128 opaque bytes (2.2.5).
pub const UNIQUE_ID: u8 = 0x05;
/// Client flags, verify result, and TLVs of its own (2.2.6).
pub const SSL: u8 = 0x20;
/// Inside [`SSL`].
pub const SSL_VERSION: u8 = 0x21;
/// Inside [`SSL`].
pub const SSL_CN: u8 = 0x22;
/// Inside [`SSL`].
pub const SSL_CIPHER: u8 = 0x23;

/// The client came over TLS.
pub const CLIENT_SSL: u8 = 0x01;
/// The client showed a certificate in this connection.
pub const CLIENT_CERT_CONN: u8 = 0x02;
/// The client showed a certificate at least once in this TLS session.
pub const CLIENT_CERT_SESS: u8 = 0x04;

/// A sequence of well-formed TLVs; unknown types are in it, and values are as the sender wrote them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a> {
    bytes: &'a [u8],
}

impl<'a> Tlvs<'a> {
    /// None.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// Validates the framing, here and inside of [`SSL`], and the lengths that the document fixes. Checksums need
    /// the header in front: [`Tlvs::check_sum`].
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, ProxyError> {
        let mut reader = Reader::new(bytes);
        while !reader.is_empty() {
            let (kind, value) = read(&mut reader).ok_or(ProxyError::Tlv)?;
            let right = match kind {
                CRC32C => value.len() == 4,
                UNIQUE_ID => value.len() <= 128,
                SSL => Ssl::parse(value).is_some(),
                _ => true,
            };
            if !right {
                return Err(ProxyError::Tlv);
            }
        }
        Ok(Self { bytes })
    }

    /// Verifies every [`CRC32C`] against `header`, which ends with these TLVs (2.2.3).
    pub(super) fn check_sum(&self, header: &[u8]) -> Result<(), ProxyError> {
        let mut reader = Reader::new(self.bytes);
        while let Some((kind, value)) = read(&mut reader) {
            if kind != CRC32C {
                continue;
            }
            let after = reader.rest();
            let before = after
                .len()
                .checked_add(value.len())
                .and_then(|tail| header.len().checked_sub(tail))
                .and_then(|length| header.get(..length))
                .ok_or(ProxyError::Checksum)?;
            if crc32c(&[before, &[0; 4], after]).to_be_bytes() != value {
                return Err(ProxyError::Checksum);
            }
        }
        Ok(())
    }

    /// As in the header.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Type and value, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        std::iter::from_fn(move || read(&mut reader))
    }

    /// The first value of a type.
    pub fn find(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    /// The SSL block, when there is one.
    pub fn ssl(&self) -> Option<Ssl<'a>> {
        self.find(SSL).and_then(Ssl::parse)
    }
}

/// The value of [`SSL`] (2.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ssl<'a> {
    /// [`CLIENT_SSL`], [`CLIENT_CERT_CONN`], [`CLIENT_CERT_SESS`].
    pub client: u8,
    /// 0 = the client showed a certificate and it was verified.
    pub verify: u32,
    /// [`SSL_VERSION`], [`SSL_CN`], [`SSL_CIPHER`] ...
    pub tlvs: Tlvs<'a>,
}

impl<'a> Ssl<'a> {
    fn parse(value: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(value);
        let client = reader.u8()?;
        let verify = reader.u32()?;
        let bytes = reader.rest();
        while !reader.is_empty() {
            read(&mut reader)?;
        }
        Some(Self {
            client,
            verify,
            tlvs: Tlvs { bytes },
        })
    }

    /// Whether the client showed a certificate that the sender verified: the flag as well as the result.
    pub const fn is_verified(&self) -> bool {
        self.verify == 0 && self.client & (CLIENT_CERT_CONN | CLIENT_CERT_SESS) != 0
    }
}

fn read<'a>(reader: &mut Reader<'a>) -> Option<(u8, &'a [u8])> {
    let mut ahead = *reader;
    let found = (ahead.u8()?, ahead.prefixed()?);
    *reader = ahead;
    Some(found)
}

/// Bytes that a TLV takes with a value of this length.
pub(super) const fn tlv_length(value_length: usize) -> usize {
    value_length.saturating_add(3)
}

/// Appends one TLV. The value is at most 65535 bytes; a longer one appends nothing.
pub(super) fn write(kind: u8, value: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(value.len()) {
        out.push(kind);
        out.extend(length.to_be_bytes());
        out.extend(value);
    }
}
