//! Properties (MQTT 5.0 §2.2.2): one table of what exists, what it holds and where it may stand.

use super::fault::Fault;
use super::reader::{Reader, Stop};

/// One property as it stands in the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// The identifier of §2.2.2.2.
    pub id: u8,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// Byte.
    Byte(u8),
    /// Two byte integer.
    Two(u16),
    /// Four byte integer.
    Four(u32),
    /// UTF-8 string.
    Text(&'a str),
    /// Binary data.
    Binary(&'a [u8]),
    /// UTF-8 string pair.
    Pair(&'a str, &'a str),
}

pub(super) const SESSION_EXPIRY: u8 = 0x11;
pub(super) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(super) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(super) const AUTHENTICATION_DATA: u8 = 0x16;
pub(super) const USER: u8 = 0x26;

/// Where properties stand, as a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Connect = 1,
    Will = 2,
    Connack = 4,
}

impl Place {
    const fn bit(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Will => 2,
            Self::Connack => 4,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    /// 0 or 1.
    Boolean,
    Two,
    /// Not 0.
    TwoPositive,
    Four,
    /// Not 0.
    FourPositive,
    Text,
    Topic,
    Binary,
    Pair,
}

/// Table 2-4: kind, and the places (1 CONNECT, 2 will, 4 CONNACK) where it may stand.
const fn rule(id: u8) -> Option<(Kind, u8)> {
    Some(match id {
        0x01 => (Kind::Boolean, 2),
        0x02 | 0x18 => (Kind::Four, 2),
        0x03 => (Kind::Text, 2),
        0x08 => (Kind::Topic, 2),
        0x09 => (Kind::Binary, 2),
        SESSION_EXPIRY => (Kind::Four, 1 | 4),
        0x12 | 0x1a | 0x1c | 0x1f => (Kind::Text, 4),
        SERVER_KEEP_ALIVE => (Kind::Two, 4),
        AUTHENTICATION_METHOD => (Kind::Text, 1 | 4),
        AUTHENTICATION_DATA => (Kind::Binary, 1 | 4),
        0x17 | 0x19 => (Kind::Boolean, 1),
        0x21 => (Kind::TwoPositive, 1 | 4),
        0x22 => (Kind::Two, 1 | 4),
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => (Kind::Boolean, 4),
        USER => (Kind::Pair, 1 | 2 | 4),
        0x27 => (Kind::FourPositive, 1 | 4),
        _ => return None,
    })
}

/// Reads a length and that many bytes of properties.
pub(super) fn read<'a>(reader: &mut Reader<'a>, place: Place) -> Result<Vec<Property<'a>>, Stop> {
    let length = reader.variable()?;
    let mut window = reader.window(length)?;
    let mut seen = 0_u64;
    let mut properties = Vec::new();
    while window.remaining() > 0 {
        let id = window.byte()?;
        let (kind, places) = rule(id).ok_or(Fault::UnexpectedProperty(id))?;
        if places & place.bit() == 0 {
            return Err(Fault::UnexpectedProperty(id).into());
        }
        let bit = 1_u64 << (id & 63);
        if seen & bit != 0 && id != USER {
            return Err(Fault::DuplicateProperty(id).into());
        }
        seen |= bit;
        properties.push(Property {
            id,
            value: value(&mut window, kind, id)?,
        });
    }
    if seen & (1 << AUTHENTICATION_DATA) != 0 && seen & (1 << AUTHENTICATION_METHOD) == 0 {
        return Err(Fault::AuthenticationData.into());
    }
    Ok(properties)
}

fn value<'a>(window: &mut Reader<'a>, kind: Kind, id: u8) -> Result<Value<'a>, Stop> {
    let refused = || Stop::from(Fault::PropertyValue(id));
    Ok(match kind {
        Kind::Boolean => match window.byte()? {
            byte @ (0 | 1) => Value::Byte(byte),
            _ => return Err(refused()),
        },
        Kind::Two => Value::Two(window.two()?),
        Kind::TwoPositive => match window.two()? {
            0 => return Err(refused()),
            number => Value::Two(number),
        },
        Kind::Four => Value::Four(window.four()?),
        Kind::FourPositive => match window.four()? {
            0 => return Err(refused()),
            number => Value::Four(number),
        },
        Kind::Text => Value::Text(window.text()?),
        Kind::Topic => Value::Text(window.topic()?),
        Kind::Binary => Value::Binary(window.binary()?),
        Kind::Pair => Value::Pair(window.text()?, window.text()?),
    })
}
