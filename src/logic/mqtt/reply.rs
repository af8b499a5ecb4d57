//! The first packet that a broker answers a CONNECT with: CONNACK (MQTT 5.0 §3.2) or AUTH (§3.15).

use super::connect::Version;
use super::fault::Fault;
use super::packet::packet_length;
use super::property::{self, Place, Value};
use super::reader::{Reader, Stop};
use crate::logic::decoded::Decoded;

/// A broker's first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstReply {
    /// Accepted or refused.
    Connack(Connack),
    /// Enhanced authentication goes on (5.0 only).
    Auth,
}

/// What a CONNACK says that concerns a balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack {
    /// The version whose codes these are.
    pub version: Version,
    /// The broker had a session of this client.
    pub session_present: bool,
    /// Return code (3.x) or reason code (5.0).
    pub code: u8,
    /// §3.2.2.3.14, in seconds.
    pub server_keep_alive: Option<u16>,
}

impl Connack {
    /// The client is connected.
    pub const fn is_accepted(&self) -> bool {
        self.code == 0
    }

    /// The broker cannot serve now and another one may: server unavailable, busy, quota exceeded, use another server,
    /// server moved; in 3.x server unavailable.
    pub const fn is_unavailable(&self) -> bool {
        match self.version {
            Version::V5 => matches!(self.code, 0x88 | 0x89 | 0x97 | 0x9c | 0x9d),
            Version::V31 | Version::V311 => self.code == 3,
        }
    }
}

/// Why a reply is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Neither CONNACK nor (in 5.0) AUTH.
    #[error("first byte {0:#04x} is no CONNACK")]
    NotReply(u8),
    /// Larger than we are willing to hold.
    #[error("a reply of {announced} bytes, more than {max}")]
    TooLarge {
        /// Bytes of the packet.
        announced: usize,
        /// The cap.
        max: usize,
    },
    /// It breaks the specification.
    #[error("malformed reply")]
    Malformed(#[source] Fault),
}

/// Decodes the broker's first packet at the front of `bytes`.
///
/// # Errors
/// The bytes are no reply to a CONNECT of `version`, or over `bytes_max`.
pub fn decode_first_reply(
    bytes: &[u8],
    version: Version,
    bytes_max: usize,
) -> Result<Decoded<FirstReply>, ReplyError> {
    const CONNACK: u8 = 0x20;
    const AUTH: u8 = 0xf0;
    match (bytes.first(), version) {
        (None, _) => return Ok(Decoded::Incomplete { need: 1 }),
        (Some(&CONNACK), _) | (Some(&AUTH), Version::V5) => {}
        (Some(&first), _) => return Err(ReplyError::NotReply(first)),
    }
    let Some(frame) = packet_length(bytes).map_err(ReplyError::Malformed)? else {
        return Ok(Decoded::Incomplete { need: 1 });
    };
    if frame.total() > bytes_max {
        return Err(ReplyError::TooLarge {
            announced: frame.total(),
            max: bytes_max,
        });
    }
    let mut reader = Reader::new(
        bytes.get(frame.header..).unwrap_or_default(),
        frame.remaining,
    );
    let read = if frame.first == AUTH {
        // Whose content is between client and broker.
        reader.take(frame.remaining).map(|_body| FirstReply::Auth)
    } else {
        read_connack(&mut reader, version).map(FirstReply::Connack)
    };
    match read {
        Ok(value) => Ok(Decoded::Complete {
            value,
            consumed: frame.total(),
        }),
        Err(Stop::More) => Ok(Decoded::Incomplete {
            need: frame.total().saturating_sub(bytes.len()).max(1),
        }),
        Err(Stop::Fault(fault)) => Err(ReplyError::Malformed(fault)),
    }
}

fn read_connack(reader: &mut Reader<'_>, version: Version) -> Result<Connack, Stop> {
    let flags = reader.byte()?;
    if flags & !1 != 0 {
        return Err(Fault::ReservedConnectFlag.into());
    }
    let code = reader.byte()?;
    let mut server_keep_alive = None;
    // A broker that does not speak 5.0 refuses it in the form of 3.1.1, without properties.
    if version == Version::V5 && reader.remaining() > 0 {
        for property in property::read(reader, Place::Connack)? {
            if let (property::SERVER_KEEP_ALIVE, Value::Two(seconds)) =
                (property.id, property.value)
            {
                server_keep_alive = Some(seconds);
            }
        }
    }
    if reader.remaining() > 0 {
        return Err(Fault::TrailingBytes(reader.remaining()).into());
    }
    Ok(Connack {
        version,
        session_present: flags == 1,
        code,
        server_keep_alive,
    })
}

/// The CONNACK that says "server unavailable": 0x88 in 5.0, 3 in 3.x.
pub fn connack_unavailable(version: Version) -> Vec<u8> {
    match version {
        Version::V5 => vec![0x20, 3, 0, 0x88, 0],
        Version::V31 | Version::V311 => vec![0x20, 2, 0, 3],
    }
}

/// A DISCONNECT without a reason: a normal end in every version.
pub const fn disconnect() -> [u8; 2] {
    [0xe0, 0]
}
