//! CONNECT, decoded strictly (MQTT 5.0 §3.1, 3.1.1 §3.1).
//!
//! | part | bytes |
//! |---|---|
//! | fixed header | 0x10, remaining length |
//! | name, level | `MQTT` 4 or 5, `MQIsdp` 3 |
//! | flags | user name, password, will retain, will `QoS` (2 bits), will, clean start, 0 |
//! | keep alive | seconds |
//! | properties | 5.0 alone |
//! | payload | client id; by their flags: will properties, topic and payload; user name; password |
//!
//! While bytes are missing, only the fixed header, the name, the level and the flags are looked at: enough to refuse
//! a stranger at once, and a trickle of single bytes costs no more than a constant each.

use super::connect_error::ConnectError;
use super::field;
use super::fixed_header::FixedHeader;
use super::property::{Place, Properties};
use super::violation::{Field, Violation};
use super::{Decoded, Version};
use crate::logic::reader::Reader;

/// The packet type of CONNECT.
const CONNECT: u8 = 1;

pub(super) const FLAG_RESERVED: u8 = 0x01;
pub(super) const FLAG_CLEAN_START: u8 = 0x02;
pub(super) const FLAG_WILL: u8 = 0x04;
pub(super) const FLAG_WILL_RETAIN: u8 = 0x20;
pub(super) const FLAG_PASSWORD: u8 = 0x40;
pub(super) const FLAG_USERNAME: u8 = 0x80;
/// The will `QoS` is bits 4 and 3.
pub(super) const WILL_QOS_SHIFT: u8 = 3;

/// A client's CONNECT; everything borrows from its bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// From the name and the level.
    pub version: Version,
    /// May be empty: the broker then assigns one (5.0, 3.1.1 with clean session) or refuses.
    pub client_id: &'a str,
    /// Clean Start (5.0) or Clean Session (3.x).
    pub clean_start: bool,
    /// Seconds; 0 = the client promises nothing.
    pub keep_alive: u16,
    /// `None` is different from empty.
    pub username: Option<&'a str>,
    /// Never in logs: `Debug` leaves it out.
    pub password: Option<&'a [u8]>,
    /// What the broker publishes when the client is lost.
    pub will: Option<Will<'a>>,
    /// 5.0 alone; else empty.
    pub properties: Properties<'a>,
}

/// The will of a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Never empty, no wildcards.
    pub topic: &'a str,
    /// Anything.
    pub payload: &'a [u8],
    /// At which it is published.
    pub qos: QualityOfService,
    /// Whether it is retained.
    pub retain: bool,
    /// 5.0 alone; else empty.
    pub properties: Properties<'a>,
}

/// MQTT 5.0 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QualityOfService {
    /// 0.
    AtMostOnce,
    /// 1.
    AtLeastOnce,
    /// 2.
    ExactlyOnce,
}

impl QualityOfService {
    /// The two bits on the wire.
    pub const fn bits(self) -> u8 {
        match self {
            Self::AtMostOnce => 0,
            Self::AtLeastOnce => 1,
            Self::ExactlyOnce => 2,
        }
    }

    const fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Connect<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connect")
            .field("version", &self.version)
            .field("client_id", &self.client_id)
            .field("clean_start", &self.clean_start)
            .field("keep_alive", &self.keep_alive)
            .field("username", &self.username)
            .field("password", &self.password.map(|_| "[redacted]"))
            .field("will", &self.will)
            // Authentication data may be among them.
            .field(
                "properties",
                &format_args!("{} bytes", self.properties.as_bytes().len()),
            )
            .finish()
    }
}

/// Decodes the CONNECT that `bytes` start with; what follows it is left alone.
///
/// # Errors
/// As soon as the bytes so far can no longer become a CONNECT of at most `bytes_max` bytes. A rule in the payload or
/// in the properties is checked when the packet is complete.
pub fn decode_connect(
    bytes: &[u8],
    bytes_max: usize,
) -> Result<Decoded<Connect<'_>>, ConnectError> {
    match *bytes {
        [0x16, 0x03, ..] => return Err(ConnectError::TlsRecord),
        // Not yet clear whether this is TLS; an error it is in any case.
        [0x16] => return Ok(Decoded::Incomplete { need: 1 }),
        [first, ..] if first >> 4 != CONNECT => return Err(ConnectError::NotConnect(first)),
        [first, ..] if first & 0x0f != 0 => return Err(early(Violation::FixedHeaderFlags)),
        _ => {}
    }
    let header = match FixedHeader::decode(bytes).map_err(early)? {
        Decoded::Complete { value, .. } => value,
        Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
    };
    let length = header.packet_length();
    if length > bytes_max {
        return Err(ConnectError::TooLarge { length, bytes_max });
    }
    let missing = length.saturating_sub(bytes.len());
    let packet = bytes.get(..length).unwrap_or(bytes);
    let body = packet
        .get(usize::from(header.header_length)..)
        .unwrap_or_default();
    if missing > 0 {
        check_start(header, body)?;
        return Ok(Decoded::Incomplete { need: missing });
    }
    Ok(Decoded::Complete {
        value: decode_body(header, body)?,
        consumed: length,
    })
}

/// A violation before the level was read.
const fn early(violation: Violation) -> ConnectError {
    ConnectError::Malformed {
        version: None,
        violation,
    }
}

/// Checks the first bytes of an unfinished body: what is there is right so far.
fn check_start(header: FixedHeader, body: &[u8]) -> Result<(), ConnectError> {
    let mut reader = Reader::new(body);
    match read_version(&mut reader)? {
        Some(version) => {
            let fail = |violation| ConnectError::Malformed {
                version: Some(version),
                violation,
            };
            check_length(version, header).map_err(fail)?;
            reader
                .u8()
                .map_or(Ok(()), |flags| check_flags(version, flags))
                .map_err(fail)
        }
        None => Ok(()),
    }
}

/// Reads name and level. `None`: they end too early, and what is there is right.
fn read_version(reader: &mut Reader<'_>) -> Result<Option<Version>, ConnectError> {
    const NAMES: [&[u8]; 2] = [b"\x00\x04MQTT", b"\x00\x06MQIsdp"];
    let start = reader.rest();
    let Some(name) = NAMES.into_iter().find(|name| start.starts_with(name)) else {
        // 5.0 §3.1.2.1, [MQTT-3.1.2-1]
        let hopeful = NAMES.iter().any(|name| name.starts_with(start));
        return if hopeful {
            Ok(None)
        } else {
            Err(ConnectError::ProtocolName)
        };
    };
    let mut ahead = *reader;
    let Some(level) = ahead.take(name.len()).and_then(|_| ahead.u8()) else {
        return Ok(None);
    };
    *reader = ahead;
    match (name, level) {
        (b"\x00\x06MQIsdp", 3) => Ok(Some(Version::V31)),
        (b"\x00\x04MQTT", 4) => Ok(Some(Version::V311)),
        (b"\x00\x04MQTT", 5) => Ok(Some(Version::V5)),
        _ => Err(ConnectError::UnsupportedVersion(level)),
    }
}

/// [MQTT-1.5.5-1] holds for 5.0; 3.1.1 §2.2.3 does not ask for the shortest form.
const fn check_length(version: Version, header: FixedHeader) -> Result<(), Violation> {
    match version {
        Version::V5 if !header.is_minimal() => Err(Violation::NotMinimal),
        _ => Ok(()),
    }
}

/// Checks the connect flags (§3.1.2.3 to §3.1.2.9).
const fn check_flags(version: Version, flags: u8) -> Result<(), Violation> {
    let will = flags & FLAG_WILL != 0;
    let will_qos = (flags >> WILL_QOS_SHIFT) & 0x03;
    let password_alone = flags & (FLAG_PASSWORD | FLAG_USERNAME) == FLAG_PASSWORD;
    if password_alone && !matches!(version, Version::V5) {
        return Err(Violation::PasswordWithoutUsername);
    }
    if will && will_qos == 3 {
        return Err(Violation::WillQos);
    }
    if matches!(version, Version::V31) {
        // MQTT 3.1 §3.1: bit 0 is not used, and the will's bits are disregarded without a will.
        return Ok(());
    }
    if flags & FLAG_RESERVED != 0 {
        return Err(Violation::ReservedConnectFlag);
    }
    if !will && will_qos != 0 {
        return Err(Violation::WillQosWithoutWill);
    }
    if !will && flags & FLAG_WILL_RETAIN != 0 {
        return Err(Violation::WillRetainWithoutWill);
    }
    Ok(())
}

/// Decodes everything after the fixed header; all of it is there.
fn decode_body(header: FixedHeader, body: &[u8]) -> Result<Connect<'_>, ConnectError> {
    let mut reader = Reader::new(body);
    let version = read_version(&mut reader)?
        .ok_or_else(|| early(Violation::Truncated(Field::ConnectHeader)))?;
    check_length(version, header)
        .and_then(|()| decode_after_version(version, reader))
        .map_err(|violation| ConnectError::Malformed {
            version: Some(version),
            violation,
        })
}

fn decode_after_version(
    version: Version,
    mut reader: Reader<'_>,
) -> Result<Connect<'_>, Violation> {
    let truncated = Violation::Truncated(Field::ConnectHeader);
    let flags = reader.u8().ok_or(truncated)?;
    check_flags(version, flags)?;
    let keep_alive = reader.u16().ok_or(truncated)?;
    let properties = read_properties(version, &mut reader, Place::Connect)?;
    let client_id = field::string(&mut reader, Field::ClientId)?;
    let will = if flags & FLAG_WILL == 0 {
        None
    } else {
        Some(decode_will(version, flags, &mut reader)?)
    };
    let has = |flag, reader: &Reader<'_>| {
        // MQTT 3.1 §3.1: the remaining length takes precedence over the user name and password flags; a packet that
        // ends before them is valid.
        flags & flag != 0 && !(version == Version::V31 && reader.is_empty())
    };
    let username = if has(FLAG_USERNAME, &reader) {
        Some(field::string(&mut reader, Field::Username)?)
    } else {
        None
    };
    let password = if has(FLAG_PASSWORD, &reader) {
        Some(field::binary(&mut reader, Field::Password)?)
    } else {
        None
    };
    if !reader.is_empty() {
        return Err(Violation::TrailingBytes);
    }
    let clean_start = flags & FLAG_CLEAN_START != 0;
    Ok(Connect {
        version,
        client_id,
        clean_start,
        keep_alive,
        username,
        password,
        will,
        properties,
    })
}

fn decode_will<'a>(
    version: Version,
    flags: u8,
    reader: &mut Reader<'a>,
) -> Result<Will<'a>, Violation> {
    let qos =
        QualityOfService::from_bits((flags >> WILL_QOS_SHIFT) & 0x03).ok_or(Violation::WillQos)?;
    Ok(Will {
        properties: read_properties(version, reader, Place::Will)?,
        topic: field::topic(reader, Field::WillTopic)?,
        payload: field::binary(reader, Field::WillPayload)?,
        qos,
        retain: flags & FLAG_WILL_RETAIN != 0,
    })
}

fn read_properties<'a>(
    version: Version,
    reader: &mut Reader<'a>,
    place: Place,
) -> Result<Properties<'a>, Violation> {
    match version {
        Version::V31 | Version::V311 => Ok(Properties::default()),
        Version::V5 => Properties::read(reader, place),
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;
