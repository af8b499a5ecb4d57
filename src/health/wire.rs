//! The bytes that probes send and read, by the same codecs as the relay's.

use super::ProxyHeader;
use crate::logic::mqtt::{
    self, Connack, Decoded, FirstReply, Properties, Version, decode_first_reply, encode_connect,
};
use crate::logic::proxy_protocol::{Header, encode_v1, v2_local};
use crate::logic::secret::Secret;
use std::net::SocketAddr;

pub(super) use crate::logic::mqtt::DISCONNECT;

/// The PROXY header of a probe from `local` to `remote`. v1 knows no LOCAL, and its UNKNOWN is refused by some parsers:
/// it carries the probe's own addresses.
pub(super) fn proxy_header(header: ProxyHeader, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    match header {
        ProxyHeader::None => Vec::new(),
        ProxyHeader::V1 => encode_v1(&Header {
            source: local,
            destination: remote,
            tls: None,
        }),
        ProxyHeader::V2 => v2_local().to_vec(),
    }
}

/// A CONNECT with clean start and nothing else.
pub(super) struct Connect<'a> {
    /// 4 (3.1.1) or 5.
    pub(super) version: u8,
    pub(super) client_id: &'a str,
    pub(super) username: Option<&'a str>,
    pub(super) password: Option<&'a Secret>,
    pub(super) keep_alive_s: u16,
}

/// The CONNECT as bytes; `None` when a field is longer than MQTT can say (65535 bytes).
pub(super) fn connect(connect: &Connect<'_>) -> Option<Vec<u8>> {
    let packet = mqtt::Connect {
        version: version(connect.version),
        client_id: connect.client_id,
        clean_start: true,
        keep_alive: connect.keep_alive_s,
        username: connect.username,
        password: connect
            .password
            .map(|password| password.expose().as_bytes()),
        will: None,
        properties: Properties::EMPTY,
    };
    let mut bytes = Vec::new();
    encode_connect(&packet, &mut bytes).ok()?;
    Some(bytes)
}

/// What the first bytes from an endpoint are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Not decided yet.
    Incomplete,
    /// A CONNACK with this code.
    Connack(u8),
    /// Something else, with this first byte.
    Other(u8),
}

/// Reads the first packet, of at most `bytes_max`.
pub(super) fn first_reply(bytes: &[u8], protocol_level: u8, bytes_max: usize) -> Reply {
    match decode_first_reply(bytes, version(protocol_level), bytes_max) {
        Ok(Decoded::Incomplete { .. }) => Reply::Incomplete,
        Ok(Decoded::Complete {
            value: FirstReply::Connack(Connack { code, .. }),
            ..
        }) => Reply::Connack(code),
        // A probe offers no enhanced authentication, so AUTH is as wrong as anything.
        Ok(Decoded::Complete { .. }) | Err(_) => {
            Reply::Other(bytes.first().copied().unwrap_or_default())
        }
    }
}

const fn version(protocol_level: u8) -> Version {
    match protocol_level {
        5 => Version::V5,
        _ => Version::V311,
    }
}
