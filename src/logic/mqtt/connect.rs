//! The CONNECT packet: MQTT 5.0 §3.1, MQTT 3.1.1 §3.1, MQTT V3.1 §3.1.
//!
//! What the broker must judge itself is let through: an empty client id with a session to keep (3.1.1 §3.1.3.1 has a
//! CONNACK of its own for it), ids longer than 3.1's 23 characters (every broker takes them), credentials.

use super::fault::{ConnectError, Fault};
use super::packet::{PacketLength, packet_length};
use super::property::{self, Place, Property};
use super::reader::{Reader, Stop};
use crate::logic::decoded::Decoded;

/// The version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1, level 3.
    V31,
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// The protocol level in the CONNECT.
    pub const fn level(self) -> u8 {
        match self {
            Self::V31 => 3,
            Self::V311 => 4,
            Self::V5 => 5,
        }
    }
}

/// A CONNECT. Properties keep their order, so that encoding gives back the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version.
    pub version: Version,
    /// The level had its highest bit set: a mosquitto bridge says so, and brokers then spare it its own messages. Not in
    /// the specification; refusing it would cut off every mosquitto bridge.
    pub bridge: bool,
    /// Clean Start (5.0), Clean Session (3.x).
    pub clean_start: bool,
    /// Keep Alive in seconds, 0 = off.
    pub keep_alive: u16,
    /// CONNECT properties; none in 3.x.
    pub properties: Vec<Property<'a>>,
    /// The client id, possibly empty.
    pub client_id: &'a str,
    /// What to publish when the client vanishes.
    pub will: Option<Will<'a>>,
    /// The user name.
    pub username: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
}

/// The will of a CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// 0, 1 or 2.
    pub qos: u8,
    /// Whether it is retained.
    pub retain: bool,
    /// Will properties; none in 3.x.
    pub properties: Vec<Property<'a>>,
    /// Its topic.
    pub topic: &'a str,
    /// Its payload.
    pub payload: &'a [u8],
}

pub(super) mod flag {
    pub(in super::super) const RESERVED: u8 = 0x01;
    pub(in super::super) const CLEAN_START: u8 = 0x02;
    pub(in super::super) const WILL: u8 = 0x04;
    pub(in super::super) const WILL_QOS_SHIFT: u8 = 3;
    pub(in super::super) const WILL_RETAIN: u8 = 0x20;
    pub(in super::super) const PASSWORD: u8 = 0x40;
    pub(in super::super) const USERNAME: u8 = 0x80;
}

pub(super) const BRIDGE_BIT: u8 = 0x80;

/// Decodes the CONNECT at the front of `bytes`, which may be incomplete; packets over `bytes_max` are refused by their
/// fixed header. Every fault is found at its byte, whether or not the rest has arrived.
///
/// # Errors
/// What is wrong, with the version when it was known: [`ConnectError::answer`] needs it.
pub fn decode_connect(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Decoded<Connect<'_>>, ConnectError> {
    let Some(frame) = frame(bytes, bytes_max).map_err(Fault::without_version)? else {
        return Ok(Decoded::Incomplete { need: 1 });
    };
    let body = bytes.get(frame.header..).unwrap_or_default();
    let mut reader = Reader::new(body, frame.remaining);
    let mut version = None;
    match read(&mut reader, &frame, &mut version) {
        Ok(value) => Ok(Decoded::Complete {
            value,
            consumed: frame.total(),
        }),
        Err(Stop::More) => Ok(Decoded::Incomplete {
            need: frame.total().saturating_sub(bytes.len()).max(1),
        }),
        Err(Stop::Fault(fault)) => Err(ConnectError { version, fault }),
    }
}

/// The fixed header of a CONNECT; `None` when it is not all there.
fn frame(bytes: &[u8], bytes_max: usize) -> Result<Option<PacketLength>, Fault> {
    const CONNECT: u8 = 0x10;
    const TLS_HANDSHAKE: u8 = 0x16;
    match bytes {
        [] | [TLS_HANDSHAKE] => return Ok(None),
        // A TLS record: type 22, major version 3 (RFC 8446 §5.1).
        [TLS_HANDSHAKE, 3, ..] => return Err(Fault::TlsRecord),
        [CONNECT, ..] => {}
        [first, ..] if first & 0xf0 == CONNECT => {
            return Err(Fault::ReservedHeaderFlags(first & 0x0f));
        }
        [first, ..] => return Err(Fault::NotConnect(*first)),
    }
    let Some(frame) = packet_length(bytes)? else {
        return Ok(None);
    };
    if frame.total() > bytes_max {
        return Err(Fault::TooLarge {
            announced: frame.total(),
            max: bytes_max,
        });
    }
    Ok(Some(frame))
}

fn read<'a>(
    reader: &mut Reader<'a>,
    frame: &PacketLength,
    seen: &mut Option<Version>,
) -> Result<Connect<'a>, Stop> {
    let (version, bridge) = read_version(reader)?;
    *seen = Some(version);
    if version == Version::V5 && !frame.minimal {
        return Err(Fault::VariableInteger.into());
    }
    let flags = reader.byte()?;
    check_flags(flags, version)?;
    let keep_alive = reader.two()?;
    let properties = read_properties(reader, version, Place::Connect)?;
    let client_id = reader.text()?;
    let will = if flags & flag::WILL == 0 {
        None
    } else {
        Some(read_will(reader, flags, version)?)
    };
    let username = if flags & flag::USERNAME == 0 {
        None
    } else {
        Some(reader.text()?)
    };
    let password = if flags & flag::PASSWORD == 0 {
        None
    } else {
        Some(reader.binary()?)
    };
    if reader.remaining() > 0 {
        return Err(Fault::TrailingBytes(reader.remaining()).into());
    }
    let clean_start = flags & flag::CLEAN_START != 0;
    Ok(Connect {
        version,
        bridge,
        clean_start,
        keep_alive,
        properties,
        client_id,
        will,
        username,
        password,
    })
}

fn read_version(reader: &mut Reader<'_>) -> Result<(Version, bool), Stop> {
    let length = reader.two()?;
    let name: &[u8] = match length {
        4 => b"MQTT",
        6 => b"MQIsdp",
        _ => return Err(Fault::ProtocolName.into()),
    };
    // Byte by byte: a foreign protocol is refused before the rest of its name arrives.
    for expected in name {
        if reader.byte()? != *expected {
            return Err(Fault::ProtocolName.into());
        }
    }
    let level = reader.byte()?;
    match (length, level & !BRIDGE_BIT) {
        (6, 3) => Ok((Version::V31, level & BRIDGE_BIT != 0)),
        (4, 4) => Ok((Version::V311, level & BRIDGE_BIT != 0)),
        (4, 5) if level & BRIDGE_BIT == 0 => Ok((Version::V5, false)),
        _ => Err(Fault::UnsupportedVersion(level).into()),
    }
}

fn check_flags(flags: u8, version: Version) -> Result<(), Fault> {
    let will_qos = (flags >> flag::WILL_QOS_SHIFT) & 3;
    if flags & flag::RESERVED != 0 {
        return Err(Fault::ReservedConnectFlag);
    }
    if will_qos == 3
        || (flags & flag::WILL == 0 && (will_qos != 0 || flags & flag::WILL_RETAIN != 0))
    {
        return Err(Fault::WillFlags);
    }
    if version != Version::V5 && flags & flag::PASSWORD != 0 && flags & flag::USERNAME == 0 {
        return Err(Fault::PasswordWithoutUsername);
    }
    Ok(())
}

fn read_will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Result<Will<'a>, Stop> {
    Ok(Will {
        qos: (flags >> flag::WILL_QOS_SHIFT) & 3,
        retain: flags & flag::WILL_RETAIN != 0,
        properties: read_properties(reader, version, Place::Will)?,
        topic: reader.topic()?,
        payload: reader.binary()?,
    })
}

fn read_properties<'a>(
    reader: &mut Reader<'a>,
    version: Version,
    place: Place,
) -> Result<Vec<Property<'a>>, Stop> {
    if version == Version::V5 {
        property::read(reader, place)
    } else {
        Ok(Vec::new())
    }
}
