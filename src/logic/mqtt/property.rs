//! The properties of MQTT 5.0 (§2.2.2) in a CONNECT, its will and a CONNACK.
//!
//! A block is validated once, as a whole, and stays the bytes that it was: 64 KiB of two-word user properties would
//! otherwise become megabytes of vectors. Values are read again when somebody asks.

pub use super::property_id as id;

use super::connect_encode::EncodeError;
use super::field;
use super::fixed_header::{variable_byte_integer, write_variable_byte_integer};
use super::violation::{Field, Violation};
use crate::logic::reader::{Decoded, Reader};

/// Which packet, or part of one, a block of properties belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// CONNECT: §3.1.2.11.
    Connect,
    /// Will properties in the payload of CONNECT: §3.1.3.2.
    Will,
    /// CONNACK: §3.2.2.3.
    Connack,
}

/// One property, with its identifier from [`id`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// See [`id`].
    pub id: u8,
    /// What it says.
    pub value: PropertyValue<'a>,
}

/// The value of a property, by data type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyValue<'a> {
    /// Byte.
    Byte(u8),
    /// Two byte integer.
    Two(u16),
    /// Four byte integer.
    Four(u32),
    /// UTF-8 encoded string.
    Text(&'a str),
    /// Binary data.
    Binary(&'a [u8]),
    /// UTF-8 string pair.
    Pair(&'a str, &'a str),
}

/// Data type and value rule of a property.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// 0 or 1.
    Flag,
    Two,
    TwoNonZero,
    Four,
    FourNonZero,
    Text,
    /// A topic name: [MQTT-3.3.2-14] for the response topic.
    Topic,
    Binary,
    Pair,
    /// Known from table 2-4, and in none of our packets.
    Elsewhere,
}

/// MQTT 5.0 table 2-4, cut to our places. `None`: no such property.
const fn describe(id: u8) -> Option<(Kind, &'static [Place])> {
    use Place::{Connack, Connect, Will};
    Some(match id {
        id::PAYLOAD_FORMAT_INDICATOR => (Kind::Flag, &[Will]),
        id::MESSAGE_EXPIRY_INTERVAL | id::WILL_DELAY_INTERVAL => (Kind::Four, &[Will]),
        id::CONTENT_TYPE => (Kind::Text, &[Will]),
        id::RESPONSE_TOPIC => (Kind::Topic, &[Will]),
        id::CORRELATION_DATA => (Kind::Binary, &[Will]),
        id::SESSION_EXPIRY_INTERVAL => (Kind::Four, &[Connect, Connack]),
        id::AUTHENTICATION_METHOD => (Kind::Text, &[Connect, Connack]),
        id::AUTHENTICATION_DATA => (Kind::Binary, &[Connect, Connack]),
        id::RECEIVE_MAXIMUM => (Kind::TwoNonZero, &[Connect, Connack]),
        id::TOPIC_ALIAS_MAXIMUM => (Kind::Two, &[Connect, Connack]),
        id::MAXIMUM_PACKET_SIZE => (Kind::FourNonZero, &[Connect, Connack]),
        id::USER_PROPERTY => (Kind::Pair, &[Connect, Will, Connack]),
        id::REQUEST_PROBLEM_INFORMATION | id::REQUEST_RESPONSE_INFORMATION => {
            (Kind::Flag, &[Connect])
        }
        id::ASSIGNED_CLIENT_IDENTIFIER
        | id::RESPONSE_INFORMATION
        | id::SERVER_REFERENCE
        | id::REASON_STRING => (Kind::Text, &[Connack]),
        id::SERVER_KEEP_ALIVE => (Kind::Two, &[Connack]),
        id::MAXIMUM_QOS
        | id::RETAIN_AVAILABLE
        | id::WILDCARD_SUBSCRIPTION_AVAILABLE
        | id::SUBSCRIPTION_IDENTIFIERS_AVAILABLE
        | id::SHARED_SUBSCRIPTION_AVAILABLE => (Kind::Flag, &[Connack]),
        id::SUBSCRIPTION_IDENTIFIER | id::TOPIC_ALIAS => (Kind::Elsewhere, &[]),
        _ => return None,
    })
}

impl<'a> Property<'a> {
    /// Reads one property of any place.
    fn read(reader: &mut Reader<'a>) -> Result<(Self, &'static [Place]), Violation> {
        // §2.2.2.2: the identifier is a variable byte integer, and all of them fit one byte. Its minimal form is a
        // must, so a first byte with bit 7 names no property.
        let id = reader
            .u8()
            .ok_or(Violation::Truncated(Field::PropertyLength))?;
        let (kind, places) = describe(id).ok_or(Violation::PropertyUnknown(id))?;
        let field = Field::Property(id);
        let truncated = Violation::Truncated(field);
        let value = match kind {
            Kind::Flag => PropertyValue::Byte(reader.u8().ok_or(truncated)?),
            Kind::Two | Kind::TwoNonZero => PropertyValue::Two(reader.u16().ok_or(truncated)?),
            Kind::Four | Kind::FourNonZero => PropertyValue::Four(reader.u32().ok_or(truncated)?),
            Kind::Text => PropertyValue::Text(field::string(reader, field)?),
            Kind::Topic => PropertyValue::Text(field::topic(reader, field)?),
            Kind::Binary => PropertyValue::Binary(field::binary(reader, field)?),
            Kind::Pair => {
                PropertyValue::Pair(field::string(reader, field)?, field::string(reader, field)?)
            }
            Kind::Elsewhere => return Err(Violation::PropertyMisplaced(id)),
        };
        let forbidden = match value {
            PropertyValue::Byte(value) => value > 1,
            PropertyValue::Two(value) => value == 0 && kind == Kind::TwoNonZero,
            PropertyValue::Four(value) => value == 0 && kind == Kind::FourNonZero,
            _ => false,
        };
        if forbidden {
            return Err(Violation::PropertyValue(id));
        }
        Ok((Self { id, value }, places))
    }

    /// Appends the property. What it says is not judged: [`Properties::parse`] does that to the block.
    ///
    /// # Errors
    /// A text or binary value over 65535 bytes; nothing is appended then.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = out.len();
        out.push(self.id);
        let written = match self.value {
            PropertyValue::Byte(value) => {
                out.push(value);
                Ok(())
            }
            PropertyValue::Two(value) => {
                out.extend(value.to_be_bytes());
                Ok(())
            }
            PropertyValue::Four(value) => {
                out.extend(value.to_be_bytes());
                Ok(())
            }
            PropertyValue::Text(text) => write_prefixed(text.as_bytes(), out),
            PropertyValue::Binary(bytes) => write_prefixed(bytes, out),
            PropertyValue::Pair(name, value) => write_prefixed(name.as_bytes(), out)
                .and_then(|()| write_prefixed(value.as_bytes(), out)),
        };
        if written.is_err() {
            out.truncate(start);
        }
        written
    }
}

/// Appends two bytes of length and the bytes.
pub(super) fn write_prefixed(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let length = u16::try_from(bytes.len()).map_err(|_| EncodeError::FieldTooLong(bytes.len()))?;
    out.extend(length.to_be_bytes());
    out.extend(bytes);
    Ok(())
}

/// A valid block of properties, in the order of the packet. Empty for MQTT 3.x.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    bytes: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No property.
    pub const EMPTY: Self = Self { bytes: &[] };

    /// Validates a block without its length.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(bytes: &'a [u8], place: Place) -> Result<Self, Violation> {
        let mut reader = Reader::new(bytes);
        // One bit per identifier: the largest is 0x2a.
        let mut seen = 0_u64;
        while !reader.is_empty() {
            let (Property { id, .. }, places) = Property::read(&mut reader)?;
            if !places.contains(&place) {
                return Err(Violation::PropertyMisplaced(id));
            }
            let bit = 1_u64.checked_shl(u32::from(id)).unwrap_or_default();
            if seen & bit != 0 && id != id::USER_PROPERTY {
                return Err(Violation::PropertyDuplicate(id));
            }
            seen |= bit;
        }
        let data = seen & (1 << id::AUTHENTICATION_DATA) != 0;
        let method = seen & (1 << id::AUTHENTICATION_METHOD) != 0;
        if data && !method {
            return Err(Violation::AuthenticationDataAlone);
        }
        Ok(Self { bytes })
    }

    /// Reads a block with its length in front.
    pub(super) fn read(reader: &mut Reader<'a>, place: Place) -> Result<Self, Violation> {
        let truncated = Violation::Truncated(Field::PropertyLength);
        let before = reader.rest();
        let Decoded::Complete { value, consumed } = variable_byte_integer(before)? else {
            return Err(truncated);
        };
        // The last byte of a minimal integer is 0 only when it is the only one.
        let written = reader.take(consumed).ok_or(truncated)?;
        if consumed > 1 && written.last() == Some(&0) {
            return Err(Violation::NotMinimal);
        }
        let length = usize::try_from(value).map_err(|_| truncated)?;
        Self::parse(reader.take(length).ok_or(truncated)?, place)
    }

    /// Appends the block with its length in front.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let length = self.bytes.len();
        let fits =
            u32::try_from(length).is_ok_and(|length| write_variable_byte_integer(length, out));
        if !fits {
            return Err(EncodeError::PacketTooLong(length));
        }
        out.extend(self.bytes);
        Ok(())
    }

    /// The block as it is in the packet, without its length.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        // The block was validated: the reader fails at its end alone.
        std::iter::from_fn(move || {
            Property::read(&mut reader)
                .ok()
                .map(|(property, _)| property)
        })
    }

    /// The user properties, in order (§3.1.2.11.8).
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|property| match property.value {
            PropertyValue::Pair(name, value) => Some((name, value)),
            _ => None,
        })
    }

    fn find(&self, id: u8) -> Option<PropertyValue<'a>> {
        self.iter()
            .find(|property| property.id == id)
            .map(|property| property.value)
    }

    fn flag(&self, id: u8) -> Option<bool> {
        match self.find(id)? {
            PropertyValue::Byte(value) => Some(value == 1),
            _ => None,
        }
    }

    fn two(&self, id: u8) -> Option<u16> {
        match self.find(id)? {
            PropertyValue::Two(value) => Some(value),
            _ => None,
        }
    }

    fn four(&self, id: u8) -> Option<u32> {
        match self.find(id)? {
            PropertyValue::Four(value) => Some(value),
            _ => None,
        }
    }

    fn text(&self, id: u8) -> Option<&'a str> {
        match self.find(id)? {
            PropertyValue::Text(value) => Some(value),
            _ => None,
        }
    }

    fn binary(&self, id: u8) -> Option<&'a [u8]> {
        match self.find(id)? {
            PropertyValue::Binary(value) => Some(value),
            _ => None,
        }
    }
}

/// The values by name; `None` where the block does not have one. Each look-up scans the block.
impl<'a> Properties<'a> {
    /// Seconds; `u32::MAX` = never. §3.1.2.11.2, §3.2.2.3.2.
    pub fn session_expiry_interval(&self) -> Option<u32> {
        self.four(id::SESSION_EXPIRY_INTERVAL)
    }

    /// 1 to 65535 messages. §3.1.2.11.3, §3.2.2.3.3.
    pub fn receive_maximum(&self) -> Option<u16> {
        self.two(id::RECEIVE_MAXIMUM)
    }

    /// Bytes, at least 1. §3.1.2.11.4, §3.2.2.3.6.
    pub fn maximum_packet_size(&self) -> Option<u32> {
        self.four(id::MAXIMUM_PACKET_SIZE)
    }

    /// Number of aliases. §3.1.2.11.5, §3.2.2.3.8.
    pub fn topic_alias_maximum(&self) -> Option<u16> {
        self.two(id::TOPIC_ALIAS_MAXIMUM)
    }

    /// §3.1.2.11.6.
    pub fn request_response_information(&self) -> Option<bool> {
        self.flag(id::REQUEST_RESPONSE_INFORMATION)
    }

    /// §3.1.2.11.7.
    pub fn request_problem_information(&self) -> Option<bool> {
        self.flag(id::REQUEST_PROBLEM_INFORMATION)
    }

    /// §3.1.2.11.9, §3.2.2.3.17.
    pub fn authentication_method(&self) -> Option<&'a str> {
        self.text(id::AUTHENTICATION_METHOD)
    }

    /// §3.1.2.11.10, §3.2.2.3.18.
    pub fn authentication_data(&self) -> Option<&'a [u8]> {
        self.binary(id::AUTHENTICATION_DATA)
    }

    /// Will: seconds. §3.1.3.2.2.
    pub fn will_delay_interval(&self) -> Option<u32> {
        self.four(id::WILL_DELAY_INTERVAL)
    }

    /// Will: whether the payload calls itself UTF-8. §3.1.3.2.3.
    pub fn payload_format_indicator(&self) -> Option<bool> {
        self.flag(id::PAYLOAD_FORMAT_INDICATOR)
    }

    /// Will: seconds. §3.1.3.2.4.
    pub fn message_expiry_interval(&self) -> Option<u32> {
        self.four(id::MESSAGE_EXPIRY_INTERVAL)
    }

    /// Will. §3.1.3.2.5.
    pub fn content_type(&self) -> Option<&'a str> {
        self.text(id::CONTENT_TYPE)
    }

    /// Will. §3.1.3.2.6.
    pub fn response_topic(&self) -> Option<&'a str> {
        self.text(id::RESPONSE_TOPIC)
    }

    /// Will. §3.1.3.2.7.
    pub fn correlation_data(&self) -> Option<&'a [u8]> {
        self.binary(id::CORRELATION_DATA)
    }

    /// CONNACK. §3.2.2.3.7.
    pub fn assigned_client_identifier(&self) -> Option<&'a str> {
        self.text(id::ASSIGNED_CLIENT_IDENTIFIER)
    }

    /// CONNACK: for people. §3.2.2.3.9.
    pub fn reason_string(&self) -> Option<&'a str> {
        self.text(id::REASON_STRING)
    }

    /// CONNACK: seconds, 0 = off; replaces the client's own. §3.2.2.3.14.
    pub fn server_keep_alive(&self) -> Option<u16> {
        self.two(id::SERVER_KEEP_ALIVE)
    }

    /// CONNACK: another server to use. §3.2.2.3.16.
    pub fn server_reference(&self) -> Option<&'a str> {
        self.text(id::SERVER_REFERENCE)
    }
}

#[cfg(test)]
#[path = "property_tests.rs"]
mod tests;
