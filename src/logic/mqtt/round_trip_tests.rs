//! Identities over generated packets: splits, re-encoding, and arbitrary bytes.

use super::property::{PropertyValue, id};
use super::*;
use proptest::prelude::*;

const MAX: usize = 1 << 20;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::collection::vec(proptest::char::range('\u{1}', '\u{10ffff}'), 0..12)
            .prop_map(String::from_iter),
        1 => proptest::char::range('\u{1}', '\u{7ff}')
            .prop_map(|character| String::from_iter([character; 300])),
    ]
}

fn topic() -> impl Strategy<Value = String> {
    text().prop_map(|text| {
        let topic: String = text.chars().filter(|c| !['+', '#'].contains(c)).collect();
        if topic.is_empty() {
            "t".to_owned()
        } else {
            topic
        }
    })
}

fn binary() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..200)
}

/// A property that owns its value.
#[derive(Clone, Debug)]
enum Owned {
    Byte(u8, bool),
    Two(u8, u16),
    Four(u8, u32),
    Text(u8, String),
    Binary(u8, Vec<u8>),
    Pair(String, String),
}

impl Owned {
    fn id(&self) -> u8 {
        match self {
            Self::Byte(id, _)
            | Self::Two(id, _)
            | Self::Four(id, _)
            | Self::Text(id, _)
            | Self::Binary(id, _) => *id,
            Self::Pair(..) => id::USER_PROPERTY,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let value = match self {
            Self::Byte(_, value) => PropertyValue::Byte(u8::from(*value)),
            Self::Two(_, value) => PropertyValue::Two(*value),
            Self::Four(_, value) => PropertyValue::Four(*value),
            Self::Text(_, value) => PropertyValue::Text(value),
            Self::Binary(_, value) => PropertyValue::Binary(value),
            Self::Pair(name, value) => PropertyValue::Pair(name, value),
        };
        Property {
            id: self.id(),
            value,
        }
        .write(out)
        .unwrap();
    }
}

fn pick(ids: &'static [u8]) -> impl Strategy<Value = u8> {
    proptest::sample::select(ids)
}

/// A valid block: distinct identifiers except for user properties, in any order.
fn block(one: BoxedStrategy<Owned>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(one, 0..8).prop_map(|properties| {
        let mut seen = Vec::new();
        let mut out = Vec::new();
        let method = properties
            .iter()
            .any(|one| one.id() == id::AUTHENTICATION_METHOD);
        for property in properties {
            let id = property.id();
            let alone = id == id::AUTHENTICATION_DATA && !method;
            if alone || (seen.contains(&id) && id != id::USER_PROPERTY) {
                continue;
            }
            seen.push(id);
            property.write(&mut out);
        }
        out
    })
}

fn connect_property() -> BoxedStrategy<Owned> {
    prop_oneof![
        (pick(&[0x17, 0x19]), any::<bool>()).prop_map(|(id, value)| Owned::Byte(id, value)),
        (pick(&[0x21, 0x22]), 1..=u16::MAX).prop_map(|(id, value)| Owned::Two(id, value)),
        (pick(&[0x11, 0x27]), 1..=u32::MAX).prop_map(|(id, value)| Owned::Four(id, value)),
        (pick(&[0x15]), text()).prop_map(|(id, value)| Owned::Text(id, value)),
        (pick(&[0x16]), binary()).prop_map(|(id, value)| Owned::Binary(id, value)),
        (text(), text()).prop_map(|(name, value)| Owned::Pair(name, value)),
    ]
    .boxed()
}

fn will_property() -> BoxedStrategy<Owned> {
    prop_oneof![
        any::<bool>().prop_map(|value| Owned::Byte(0x01, value)),
        (pick(&[0x02, 0x18]), any::<u32>()).prop_map(|(id, value)| Owned::Four(id, value)),
        text().prop_map(|value| Owned::Text(0x03, value)),
        topic().prop_map(|value| Owned::Text(0x08, value)),
        binary().prop_map(|value| Owned::Binary(0x09, value)),
        (text(), text()).prop_map(|(name, value)| Owned::Pair(name, value)),
    ]
    .boxed()
}

fn connack_property() -> BoxedStrategy<Owned> {
    const FLAGS: &[u8] = &[0x24, 0x25, 0x28, 0x29, 0x2a];
    prop_oneof![
        (pick(FLAGS), any::<bool>()).prop_map(|(id, value)| Owned::Byte(id, value)),
        (pick(&[0x13, 0x21, 0x22]), 1..=u16::MAX).prop_map(|(id, value)| Owned::Two(id, value)),
        (pick(&[0x11, 0x27]), 1..=u32::MAX).prop_map(|(id, value)| Owned::Four(id, value)),
        (pick(&[0x12, 0x15, 0x1a, 0x1c, 0x1f]), text())
            .prop_map(|(id, value)| Owned::Text(id, value)),
        binary().prop_map(|value| Owned::Binary(0x16, value)),
        (text(), text()).prop_map(|(name, value)| Owned::Pair(name, value)),
    ]
    .boxed()
}

fn version() -> impl Strategy<Value = Version> {
    proptest::sample::select(&[Version::V31, Version::V311, Version::V5][..])
}

type OwnedWill = (String, Vec<u8>, u8, bool, Vec<u8>);

fn will() -> impl Strategy<Value = OwnedWill> {
    (
        topic(),
        binary(),
        0..3_u8,
        any::<bool>(),
        block(will_property()),
    )
}

prop_compose! {
    /// The bytes of a valid, canonical CONNECT.
    fn connect_bytes()(
        version in version(),
        client_id in text(),
        clean_start in any::<bool>(),
        keep_alive in any::<u16>(),
        username in proptest::option::of(text()),
        password in proptest::option::of(binary()),
        will in proptest::option::of(will()),
        properties in block(connect_property()),
    ) -> Vec<u8> {
        let v5 = version == Version::V5;
        let parse = |bytes, place| {
            if v5 { Properties::parse(bytes, place).unwrap() } else { Properties::EMPTY }
        };
        let qos = |bits| match bits {
            0 => QualityOfService::AtMostOnce,
            1 => QualityOfService::AtLeastOnce,
            _ => QualityOfService::ExactlyOnce,
        };
        let connect = Connect {
            version,
            client_id: &client_id,
            clean_start,
            keep_alive,
            username: username.as_deref(),
            password: password.as_deref().filter(|_| v5 || username.is_some()),
            will: will.as_ref().map(|(topic, payload, bits, retain, properties)| Will {
                topic,
                payload,
                qos: qos(*bits),
                retain: *retain,
                properties: parse(properties, Place::Will),
            }),
            properties: parse(&properties, Place::Connect),
        };
        let mut out = Vec::new();
        encode_connect(&connect, &mut out).unwrap();
        let decoded = decode_connect(&out, MAX).unwrap();
        assert_eq!(decoded, Decoded::Complete { value: connect, consumed: out.len() });
        out
    }
}

prop_compose! {
    /// The bytes of a valid CONNACK and its version.
    fn connack_bytes()(
        version in version(),
        flag in 0..2_u8,
        code in any::<u8>(),
        block in block(connack_property()),
    ) -> (Version, Vec<u8>) {
        let properties = match version {
            Version::V5 => Properties::parse(&block, Place::Connack).unwrap(),
            Version::V31 | Version::V311 => Properties::EMPTY,
        };
        let session_present = flag == 1 && version != Version::V31;
        let mut out = Vec::new();
        Connack { version, session_present, code, properties }.encode(&mut out).unwrap();
        (version, out)
    }
}

/// The block, written again property by property.
fn rewritten(properties: &Properties<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for property in properties.iter() {
        property.write(&mut out).unwrap();
    }
    out
}

/// No prefix is an error or complete, and none asks for more than is missing.
fn check_prefixes<'a, T: std::fmt::Debug, E: std::fmt::Debug>(
    bytes: &'a [u8],
    decode: impl Fn(&'a [u8]) -> Result<Decoded<T>, E>,
) {
    for end in 0..bytes.len() {
        match decode(&bytes[..end]) {
            Ok(Decoded::Incomplete { need }) => {
                assert!((1..=bytes.len() - end).contains(&need), "{need} at {end}");
            }
            other => panic!("{other:?} at {end} of {bytes:02x?}"),
        }
    }
}

proptest! {
    #[test]
    fn connect_prefixes_are_incomplete(bytes in connect_bytes()) {
        check_prefixes(&bytes, |prefix| decode_connect(prefix, MAX));
    }

    #[test]
    fn connect_encodes_to_what_was_decoded(bytes in connect_bytes(), after in binary()) {
        let stream = [&bytes[..], &after].concat();
        let Decoded::Complete { value, consumed } = decode_connect(&stream, MAX).unwrap() else {
            panic!("incomplete");
        };
        prop_assert_eq!(consumed, bytes.len());
        prop_assert_eq!(rewritten(&value.properties), value.properties.as_bytes());
        if let Some(will) = value.will {
            prop_assert_eq!(rewritten(&will.properties), will.properties.as_bytes());
        }
        let mut again = Vec::new();
        encode_connect(&value, &mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn a_connect_with_one_changed_byte_never_panics(
        bytes in connect_bytes(),
        at in any::<proptest::sample::Index>(),
        to in any::<u8>(),
    ) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] = to;
        let whole = decode_connect(&bytes, MAX);
        // What a prefix refuses, the whole refuses.
        for end in 0..bytes.len() {
            if let Err(error) = decode_connect(&bytes[..end], MAX) {
                prop_assert_eq!(whole, Err(error), "at {}", end);
            }
        }
    }

    #[test]
    fn first_reply_prefixes_are_incomplete((version, bytes) in connack_bytes()) {
        check_prefixes(&bytes, |prefix| decode_first_reply(prefix, version, MAX));
    }

    #[test]
    fn connack_encodes_to_what_was_decoded((version, bytes) in connack_bytes()) {
        let decoded = decode_first_reply(&bytes, version, MAX).unwrap();
        let Decoded::Complete { value: FirstReply::Connack(connack), consumed } = decoded else {
            panic!("{decoded:?}");
        };
        prop_assert_eq!(consumed, bytes.len());
        prop_assert_eq!(rewritten(&connack.properties), connack.properties.as_bytes());
        let mut again = Vec::new();
        connack.encode(&mut again).unwrap();
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in binary(),
        version in version(),
        start in proptest::option::of(pick(&[0x10, 0x20, 0xf0])),
    ) {
        if let (Some(start), Some(first)) = (start, bytes.first_mut()) {
            *first = start;
        }
        for end in 0..=bytes.len() {
            if let Ok(Decoded::Complete { consumed, .. }) = decode_connect(&bytes[..end], MAX) {
                prop_assert!(consumed <= end);
            }
            let reply = decode_first_reply(&bytes[..end], version, MAX);
            if let Ok(Decoded::Complete { consumed, .. }) = reply {
                prop_assert!(consumed <= end);
            }
            if let Ok(Decoded::Incomplete { need }) = packet_length(&bytes[..end]) {
                prop_assert!(need > 0);
            }
        }
    }
}
