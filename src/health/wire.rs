//! The bytes that probes send and read, as the probes need them.

use super::ProxyHeader;
use crate::logic::secret::Secret;
use std::net::SocketAddr;

/// The PROXY header of a probe from `local` to `remote`.
pub(super) fn proxy_header(header: ProxyHeader, local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
    match header {
        ProxyHeader::None => Vec::new(),
        ProxyHeader::V1 => {
            let family = if remote.is_ipv4() { "TCP4" } else { "TCP6" };
            let (from, to) = (local.ip(), remote.ip());
            format!(
                "PROXY {family} {from} {to} {} {}\r\n",
                local.port(),
                remote.port()
            )
            .into_bytes()
        }
        ProxyHeader::V2 => b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x03\x04\x00\x00".to_vec(),
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
    let mut flags = 0x02;
    let mut payload = Vec::new();
    put_string(&mut payload, connect.client_id)?;
    if let Some(username) = connect.username {
        flags |= 0x80;
        put_string(&mut payload, username)?;
    }
    if let Some(password) = connect.password {
        flags |= 0x40;
        put_string(&mut payload, password.expose())?;
    }
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', connect.version, flags];
    body.extend(connect.keep_alive_s.to_be_bytes());
    if connect.version == 5 {
        body.push(0);
    }
    body.append(&mut payload);
    let mut packet = vec![0x10];
    let mut length = body.len();
    while length > 0x7f {
        packet.push(u8::try_from(length & 0x7f).ok()? | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).ok()?);
    packet.append(&mut body);
    Some(packet)
}

fn put_string(into: &mut Vec<u8>, text: &str) -> Option<()> {
    into.extend(u16::try_from(text.len()).ok()?.to_be_bytes());
    into.extend(text.as_bytes());
    Some(())
}

/// The same in every version: normal disconnection.
pub(super) const DISCONNECT: &[u8] = &[0xe0, 0x00];

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

/// Reads the first packet as far as the code of the CONNACK; properties are nobody's business here.
pub(super) fn first_reply(bytes: &[u8]) -> Reply {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Reply::Incomplete;
    };
    if kind != 0x20 {
        return Reply::Other(kind);
    }
    let Some(length_bytes) = rest.iter().take(4).position(|byte| byte & 0x80 == 0) else {
        return if rest.len() < 4 {
            Reply::Incomplete
        } else {
            Reply::Other(kind)
        };
    };
    if length_bytes == 0 && rest[0] < 2 {
        return Reply::Other(kind);
    }
    match rest.get(length_bytes + 1..) {
        Some([flags, _, ..]) if *flags > 1 => Reply::Other(kind),
        Some([_, code, ..]) => Reply::Connack(*code),
        _ => Reply::Incomplete,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reply_is_told_at_the_earliest_byte() {
        for (bytes, expected) in [
            (&b""[..], Reply::Incomplete),
            (b"\x20", Reply::Incomplete),
            (b"\x20\x02", Reply::Incomplete),
            (b"\x20\x02\x00", Reply::Incomplete),
            (b"\x20\x02\x00\x03", Reply::Connack(3)),
            (b"\x20\x03\x00\x97\x00", Reply::Connack(0x97)),
            (b"\x20\x80\x01\x01\x00", Reply::Connack(0)),
            (b"\x20\x80\x80", Reply::Incomplete),
            (b"\x20\x80\x80\x80\x80", Reply::Other(0x20)),
            (b"\x20\x01", Reply::Other(0x20)),
            (b"\x20\x02\x02\x00", Reply::Other(0x20)),
            (b"HTTP/1.1", Reply::Other(b'H')),
            (b"\xf0\x02\x18\x00", Reply::Other(0xf0)),
        ] {
            assert_eq!(first_reply(bytes), expected, "{bytes:02x?}");
        }
    }
}
