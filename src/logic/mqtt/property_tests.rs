//! What a block of properties may hold, place by place.

use super::*;

/// Every identifier with a valid property of it, and its places in table 2-4.
const VALID: [(&[u8], &[Place]); 25] = {
    use Place::{Connack, Connect, Will};
    [
        (b"\x01\x01", &[Will]),
        (b"\x02\0\0\0\0", &[Will]),
        (b"\x03\0\x04text", &[Will]),
        (b"\x08\0\x01t", &[Will]),
        (b"\x09\0\x01\xff", &[Will]),
        (b"\x11\xff\xff\xff\xff", &[Connect, Connack]),
        (b"\x12\0\x02id", &[Connack]),
        (b"\x13\0\x3c", &[Connack]),
        (b"\x15\0\x05SCRAM", &[Connect, Connack]),
        (b"\x17\0", &[Connect]),
        (b"\x18\0\0\0\x05", &[Will]),
        (b"\x19\x01", &[Connect]),
        (b"\x1a\0\x01r", &[Connack]),
        (b"\x1c\0\x06b:1883", &[Connack]),
        (b"\x1f\0\x04busy", &[Connack]),
        (b"\x21\0\x01", &[Connect, Connack]),
        (b"\x22\0\0", &[Connect, Connack]),
        (b"\x24\x01", &[Connack]),
        (b"\x25\0", &[Connack]),
        (b"\x26\0\x01k\0\x01v", &[Connect, Will, Connack]),
        (b"\x27\0\0\0\x01", &[Connect, Connack]),
        (b"\x28\x01", &[Connack]),
        (b"\x29\x01", &[Connack]),
        (b"\x2a\0", &[Connack]),
        // Not alone: authentication data needs its method.
        (b"\x16\0\x01d", &[]),
    ]
};

fn check(block: &[u8], place: Place, expected: Result<(), Violation>) {
    assert_eq!(
        Properties::parse(block, place).map(|_| ()),
        expected,
        "{block:02x?} in {place:?}"
    );
}

#[test]
fn table_2_4_every_property_belongs_to_its_places_alone() {
    for (block, places) in &VALID[..24] {
        for place in [Place::Connect, Place::Will, Place::Connack] {
            let expected = if places.contains(&place) {
                Ok(())
            } else {
                Err(Violation::PropertyMisplaced(block[0]))
            };
            check(block, place, expected);
        }
    }
}

#[test]
fn table_2_4_every_other_identifier_is_refused() {
    let known: Vec<u8> = VALID.iter().map(|(block, _)| block[0]).collect();
    for id in 0..=u8::MAX {
        if !known.contains(&id) {
            let error = Properties::parse(&[id, 0, 0, 0, 0, 0], Place::Connect).unwrap_err();
            let expected = match id {
                0x0b | 0x23 => Violation::PropertyMisplaced(id),
                _ => Violation::PropertyUnknown(id),
            };
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn section_3_1_2_11_only_user_properties_may_repeat() {
    for (block, places) in &VALID[..24] {
        for place in *places {
            let expected = match block[0] {
                id::USER_PROPERTY => Ok(()),
                id => Err(Violation::PropertyDuplicate(id)),
            };
            check(&block.repeat(2), *place, expected);
        }
    }
}

#[test]
fn section_1_5_no_property_runs_over_the_end_of_its_block() {
    for (block, places) in &VALID[..24] {
        for place in *places {
            for end in 1..block.len() {
                let error = Violation::Truncated(Field::Property(block[0]));
                check(&block[..end], *place, Err(error));
            }
        }
    }
}

#[test]
fn section_3_1_2_11_zero_is_no_maximum() {
    for place in [Place::Connect, Place::Connack] {
        check(
            b"\x21\0\0",
            place,
            Err(Violation::PropertyValue(id::RECEIVE_MAXIMUM)),
        );
        check(
            b"\x27\0\0\0\0",
            place,
            Err(Violation::PropertyValue(id::MAXIMUM_PACKET_SIZE)),
        );
        check(b"\x22\0\0", place, Ok(()));
        check(b"\x11\0\0\0\0", place, Ok(()));
    }
}

#[test]
fn section_3_1_2_11_flags_are_0_or_1() {
    for (id, place) in [
        (0x01, Place::Will),
        (0x17, Place::Connect),
        (0x19, Place::Connect),
        (0x24, Place::Connack),
        (0x25, Place::Connack),
        (0x28, Place::Connack),
        (0x29, Place::Connack),
        (0x2a, Place::Connack),
    ] {
        check(&[id, 0], place, Ok(()));
        check(&[id, 1], place, Ok(()));
        check(&[id, 2], place, Err(Violation::PropertyValue(id)));
        check(&[id, 255], place, Err(Violation::PropertyValue(id)));
    }
}

#[test]
fn section_3_1_2_11_10_authentication_data_needs_a_method() {
    for place in [Place::Connect, Place::Connack] {
        check(
            b"\x16\0\x01d",
            place,
            Err(Violation::AuthenticationDataAlone),
        );
        check(b"\x16\0\x01d\x15\0\x01m", place, Ok(()));
        check(b"\x15\0\x01m\x16\0\0", place, Ok(()));
    }
}

#[test]
fn mqtt_3_3_2_14_a_response_topic_has_no_wildcard() {
    let field = Field::Property(id::RESPONSE_TOPIC);
    check(
        b"\x08\0\x03a/#",
        Place::Will,
        Err(Violation::TopicWildcard(field)),
    );
    check(b"\x08\0\0", Place::Will, Err(Violation::TopicEmpty(field)));
}

#[test]
fn mqtt_1_5_4_both_halves_of_a_user_property_are_checked() {
    let field = Field::Property(id::USER_PROPERTY);
    check(
        b"\x26\0\x01\xff\0\0",
        Place::Connect,
        Err(Violation::Utf8(field)),
    );
    check(
        b"\x26\0\0\0\x01\xff",
        Place::Connect,
        Err(Violation::Utf8(field)),
    );
    check(
        b"\x26\0\0\0\x01\0",
        Place::Connect,
        Err(Violation::NulCharacter(field)),
    );
    check(b"\x26\0\0\0\0", Place::Connect, Ok(()));
}

#[test]
fn mqtt_1_5_5_1_the_length_is_minimal_and_within_the_packet() {
    let read = |bytes: &'static [u8]| Properties::read(&mut Reader::new(bytes), Place::Connect);
    assert_eq!(read(b"\0"), Ok(Properties::default()));
    assert_eq!(read(b"\x80\0"), Err(Violation::NotMinimal));
    assert_eq!(read(b"\x80\x80\0"), Err(Violation::NotMinimal));
    assert_eq!(
        read(b"\xff\xff\xff\xff\x01"),
        Err(Violation::VariableByteInteger)
    );
    for short in [&b""[..], b"\x80", b"\x02\x17"] {
        let error = Properties::read(&mut Reader::new(short), Place::Connect).unwrap_err();
        assert_eq!(error, Violation::Truncated(Field::PropertyLength));
    }
}

#[test]
fn values_come_back_by_name_and_in_order() {
    let block = b"\x26\0\x01a\0\x011\x21\0\x07\x11\0\0\0\x09\x26\0\x01a\0\x012\x19\x01";
    let properties = Properties::parse(block, Place::Connect).unwrap();
    assert_eq!(properties.receive_maximum(), Some(7));
    assert_eq!(properties.session_expiry_interval(), Some(9));
    assert_eq!(properties.request_response_information(), Some(true));
    assert_eq!(properties.request_problem_information(), None);
    assert_eq!(
        properties.user().collect::<Vec<_>>(),
        [("a", "1"), ("a", "2")]
    );
    let ids: Vec<u8> = properties.iter().map(|property| property.id).collect();
    assert_eq!(ids, [0x26, 0x21, 0x11, 0x26, 0x19]);
}

#[test]
fn an_overlong_value_appends_nothing() {
    let long = "x".repeat(65_536);
    let mut out = vec![1];
    for value in [PropertyValue::Text(&long), PropertyValue::Pair("a", &long)] {
        let property = Property {
            id: id::USER_PROPERTY,
            value,
        };
        assert_eq!(
            property.write(&mut out),
            Err(EncodeError::FieldTooLong(65_536))
        );
        assert_eq!(out, [1]);
    }
}
