//! CONNECT, encoded: for the health probe, and the other half of the decoder's identity.

use super::connect::{
    Connect, FLAG_CLEAN_START, FLAG_PASSWORD, FLAG_USERNAME, FLAG_WILL, FLAG_WILL_RETAIN,
    WILL_QOS_SHIFT, Will,
};
use super::fixed_header::write_packet;
use super::property::write_prefixed;
use super::{Properties, Version};

/// A value that has no room in the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A string or binary field.
    #[error("field of {0} bytes is longer than 65535")]
    FieldTooLong(usize),
    /// The packet or its properties.
    #[error("packet or properties of {0} bytes are longer than 268435455")]
    PacketTooLong(usize),
}

/// Appends the packet. Whether a broker would take it (user name, client id, topics) is not judged; properties are
/// written for 5.0 alone.
///
/// What [`decode_connect`](super::decode_connect) accepted comes out as the same bytes, except for what MQTT 3.x lets
/// a client write in two ways: a longer remaining length, and in 3.1 flags without meaning.
///
/// # Errors
/// A value has no room; `out` is unchanged then.
pub fn encode_connect(connect: &Connect<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut body = Vec::with_capacity(64);
    write_prefixed(connect.version.name().as_bytes(), &mut body)?;
    body.push(connect.version.level());
    body.push(flags(connect));
    body.extend(connect.keep_alive.to_be_bytes());
    write_properties(connect.version, &connect.properties, &mut body)?;
    write_prefixed(connect.client_id.as_bytes(), &mut body)?;
    if let Some(will) = &connect.will {
        write_properties(connect.version, &will.properties, &mut body)?;
        write_prefixed(will.topic.as_bytes(), &mut body)?;
        write_prefixed(will.payload, &mut body)?;
    }
    if let Some(username) = connect.username {
        write_prefixed(username.as_bytes(), &mut body)?;
    }
    if let Some(password) = connect.password {
        write_prefixed(password, &mut body)?;
    }
    write_packet(0x10, &body, out)
}

fn flags(connect: &Connect<'_>) -> u8 {
    let set = |condition: bool, flag: u8| if condition { flag } else { 0 };
    let will = |will: &Will<'_>| {
        FLAG_WILL | (will.qos.bits() << WILL_QOS_SHIFT) | set(will.retain, FLAG_WILL_RETAIN)
    };
    set(connect.clean_start, FLAG_CLEAN_START)
        | connect.will.as_ref().map_or(0, will)
        | set(connect.password.is_some(), FLAG_PASSWORD)
        | set(connect.username.is_some(), FLAG_USERNAME)
}

fn write_properties(
    version: Version,
    properties: &Properties<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match version {
        Version::V31 | Version::V311 => Ok(()),
        Version::V5 => properties.write(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logic::mqtt::{Decoded, decode_connect};

    const PROBE: Connect<'_> = Connect {
        version: Version::V311,
        client_id: "tidegate-probe",
        clean_start: true,
        keep_alive: 5,
        username: None,
        password: None,
        will: None,
        properties: Properties::EMPTY,
    };

    #[test]
    fn the_probe_is_the_packet_of_the_specification() {
        let mut out = vec![0xaa];
        encode_connect(&PROBE, &mut out).unwrap();
        assert_eq!(
            out,
            b"\xaa\x10\x1a\x00\x04MQTT\x04\x02\x00\x05\x00\x0etidegate-probe"
        );
    }

    #[test]
    fn every_version_decodes_again() {
        for version in [Version::V31, Version::V311, Version::V5] {
            let connect = Connect {
                version,
                username: Some("u"),
                password: Some(b"p"),
                ..PROBE
            };
            let mut out = Vec::new();
            encode_connect(&connect, &mut out).unwrap();
            let expected = Decoded::Complete {
                value: connect,
                consumed: out.len(),
            };
            assert_eq!(decode_connect(&out, 64), Ok(expected));
        }
    }

    #[test]
    fn an_overlong_field_appends_nothing() {
        let client_id = "x".repeat(65_536);
        let mut out = vec![1];
        let error = encode_connect(
            &Connect {
                client_id: &client_id,
                ..PROBE
            },
            &mut out,
        );
        assert_eq!(error, Err(EncodeError::FieldTooLong(65_536)));
        assert_eq!(out, [1]);
    }
}
