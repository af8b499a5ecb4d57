//! What a v2 header carries besides addresses (PROXY spec 2.2 §2.2.1 and on): type, 16 bit length, value.
//!
//! The SSL TLV is a container: one byte of client flags, 32 bits of verification result, then TLVs of its own.

use super::{Proxied, ProxyError, TlsInfo};

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const SSL: u8 = 0x20;
const SSL_VERSION: u8 = 0x21;
const SSL_CN: u8 = 0x22;
const SSL_CIPHER: u8 = 0x23;

/// A NOOP TLV without padding.
pub(super) const NOOP_EMPTY: [u8; 3] = [0x04, 0, 0];

const CLIENT_SSL: u8 = 0x01;
const CLIENT_CERT_CONN: u8 = 0x02;
const CLIENT_CERT_SESS: u8 = 0x04;

/// The longest value that is written. RFC 1035 bounds a host name so, and ALPN a protocol; X.520 a CN even tighter.
const VALUE_BYTES_MAX: usize = 255;
/// Type and length in front of a value.
const TLV_HEAD_BYTES: usize = 3;
/// The SSL TLV without TLVs inside.
const SSL_HEAD_BYTES: usize = TLV_HEAD_BYTES + 5;

/// TLS between the client and whoever wrote the header.
#[expect(
    clippy::struct_excessive_bools,
    reason = "one per flag on the wire, each independent of the others"
)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxiedTls {
    /// The client connected over TLS (`PP2_CLIENT_SSL`).
    pub over_tls: bool,
    /// The client presented a certificate on this very connection (`PP2_CLIENT_CERT_CONN`).
    pub cert_on_connection: bool,
    /// The client presented a certificate in this TLS session, maybe before it was resumed (`PP2_CLIENT_CERT_SESS`).
    pub cert_in_session: bool,
    /// A certificate was presented and verified: the `verify` field is 0.
    pub verified: bool,
    /// Protocol version: US-ASCII, `TLSv1.3`.
    pub version: Option<String>,
    /// Common name of the client's certificate: UTF-8 without control characters.
    pub client_cn: Option<String>,
    /// Cipher: US-ASCII.
    pub cipher: Option<String>,
}

/// Appends what is known of the TLS session to `body`, at most `bytes_max`.
pub(super) fn encode(tls: &TlsInfo<'_>, bytes_max: usize, body: &mut Vec<u8>) {
    let mut left = bytes_max.saturating_sub(SSL_HEAD_BYTES);
    let mut fitting = |value: &'_ [u8]| {
        let size = TLV_HEAD_BYTES.saturating_add(value.len());
        let fits = (1..=VALUE_BYTES_MAX).contains(&value.len()) && size <= left;
        if fits {
            left = left.saturating_sub(size);
        }
        fits
    };
    // The most important first: who the client is, then where it wanted to go, then how it got here.
    let client_cn = tls
        .client_cn
        .filter(|name| is_plain(name) && fitting(name.as_bytes()));
    let authority = tls
        .authority
        .filter(|name| is_plain(name) && fitting(name.as_bytes()));
    let alpn = tls.alpn.filter(|protocol| fitting(protocol));
    let version = Some(tls.version).filter(|word| is_word(word) && fitting(word.as_bytes()));
    let cipher = Some(tls.cipher).filter(|word| is_word(word) && fitting(word.as_bytes()));

    let mut ssl = vec![client_flags(tls)];
    let unverified = u32::from(!(tls.client_cert_presented && tls.verified));
    ssl.extend_from_slice(&unverified.to_be_bytes());
    append(SSL_VERSION, version.map(str::as_bytes), &mut ssl);
    append(SSL_CN, client_cn.map(str::as_bytes), &mut ssl);
    append(SSL_CIPHER, cipher.map(str::as_bytes), &mut ssl);

    append(ALPN, alpn, body);
    append(AUTHORITY, authority.map(str::as_bytes), body);
    append(SSL, Some(&ssl), body);
}

fn client_flags(tls: &TlsInfo<'_>) -> u8 {
    // A resumed session keeps its certificate, and the handshake does not tell us which it was: both flags, as for a full one.
    let cert = if tls.client_cert_presented {
        CLIENT_CERT_CONN | CLIENT_CERT_SESS
    } else {
        0
    };
    CLIENT_SSL | cert
}

fn append(kind: u8, value: Option<&[u8]>, into: &mut Vec<u8>) {
    let Some(value) = value else { return };
    let length = u16::try_from(value.len()).expect("values are chosen within HEADER_BYTES_MAX");
    into.push(kind);
    into.extend_from_slice(&length.to_be_bytes());
    into.extend_from_slice(value);
}

/// Reads the TLVs that are known into `value`; unknown ones are skipped (the specification's rule), known ones must
/// not come twice: which of two would hold is up to the reader, and two readers that differ are an attack.
pub(super) fn decode(mut bytes: &[u8], value: &mut Proxied) -> Result<(), ProxyError> {
    while let Some((kind, content)) = next(&mut bytes)? {
        match kind {
            ALPN => set_once(kind, &mut value.alpn, content.to_vec())?,
            AUTHORITY => set_once(kind, &mut value.authority, plain(kind, content)?)?,
            SSL => set_once(kind, &mut value.tls, decode_ssl(content)?)?,
            _ => {}
        }
    }
    Ok(())
}

fn decode_ssl(content: &[u8]) -> Result<ProxiedTls, ProxyError> {
    let (head, mut inner) = content
        .split_first_chunk::<5>()
        .ok_or(ProxyError::Tlv { kind: SSL })?;
    let [client, verify @ ..] = *head;
    let has = |flag| client & flag != 0;
    let mut tls = ProxiedTls {
        over_tls: has(CLIENT_SSL),
        cert_on_connection: has(CLIENT_CERT_CONN),
        cert_in_session: has(CLIENT_CERT_SESS),
        // HAProxy writes 0 for clients without a certificate too: only a presented one can have been verified.
        verified: verify == [0; 4] && has(CLIENT_CERT_CONN | CLIENT_CERT_SESS),
        ..ProxiedTls::default()
    };
    while let Some((kind, content)) = next(&mut inner)? {
        match kind {
            SSL_VERSION => set_once(kind, &mut tls.version, word(kind, content)?)?,
            SSL_CN => set_once(kind, &mut tls.client_cn, plain(kind, content)?)?,
            SSL_CIPHER => set_once(kind, &mut tls.cipher, word(kind, content)?)?,
            _ => {}
        }
    }
    Ok(tls)
}

/// Takes one TLV from the front; `None` at the end.
fn next<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u8, &'a [u8])>, ProxyError> {
    match *bytes {
        [] => Ok(None),
        [kind, high, low, rest @ ..] => {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let (content, rest) = rest
                .split_at_checked(length)
                .ok_or(ProxyError::Tlv { kind: *kind })?;
            *bytes = rest;
            Ok(Some((*kind, content)))
        }
        [..] => Err(ProxyError::Tlv { kind: 0 }),
    }
}

fn set_once<T>(kind: u8, slot: &mut Option<T>, content: T) -> Result<(), ProxyError> {
    match slot.replace(content) {
        None => Ok(()),
        Some(_) => Err(ProxyError::Tlv { kind }),
    }
}

fn plain(kind: u8, content: &[u8]) -> Result<String, ProxyError> {
    text(content, is_plain).ok_or(ProxyError::Tlv { kind })
}

fn word(kind: u8, content: &[u8]) -> Result<String, ProxyError> {
    text(content, is_word).ok_or(ProxyError::Tlv { kind })
}

fn text(content: &[u8], accept: fn(&str) -> bool) -> Option<String> {
    std::str::from_utf8(content)
        .ok()
        .filter(|text| accept(text))
        .map(str::to_owned)
}

/// Names may be in any script, but a control character in one is an injection into somebody's log.
fn is_plain(text: &str) -> bool {
    !text.chars().any(char::is_control)
}

/// Versions and ciphers are printable US-ASCII.
fn is_word(text: &str) -> bool {
    text.is_ascii() && is_plain(text)
}
