//! CONNECT, clause by clause.

use super::*;
use crate::logic::mqtt::property::id;

const MAX: usize = 1024;

/// A CONNECT with the right length around a body.
fn packet(body: &[u8]) -> Vec<u8> {
    assert!(body.len() < 128, "one byte of length");
    [&[0x10, u8::try_from(body.len()).unwrap()], body].concat()
}

/// A body: name and level of the version, flags, keep alive 60, then the rest.
fn body(version: Version, flags: u8, rest: &[u8]) -> Vec<u8> {
    let start: &[u8] = match version {
        Version::V31 => b"\x00\x06MQIsdp\x03",
        Version::V311 => b"\x00\x04MQTT\x04",
        Version::V5 => b"\x00\x04MQTT\x05",
    };
    [start, &[flags, 0, 60], rest].concat()
}

fn accept(bytes: &[u8]) -> Connect<'_> {
    match decode_connect(bytes, MAX) {
        Ok(Decoded::Complete { value, consumed }) => {
            assert_eq!(consumed, bytes.len());
            value
        }
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

#[track_caller]
fn refuse(version: Version, flags: u8, rest: &[u8], violation: Violation) {
    let bytes = packet(&body(version, flags, rest));
    let error = ConnectError::Malformed {
        version: Some(version),
        violation,
    };
    assert_eq!(decode_connect(&bytes, MAX), Err(error), "{bytes:02x?}");
}

#[track_caller]
fn early_error(bytes: &[u8], expected: ConnectError) {
    assert_eq!(decode_connect(bytes, MAX), Err(expected), "{bytes:02x?}");
}

#[test]
fn mqtt_3_1_0_1_the_first_byte_tells_a_stranger() {
    for first in (0..=u8::MAX).filter(|first| first >> 4 != 1) {
        early_error(&[first], ConnectError::NotConnect(first));
    }
    early_error(b"GET / HTTP/1.1\r\n", ConnectError::NotConnect(b'G'));
    early_error(b"PROXY TCP4", ConnectError::NotConnect(b'P'));
}

#[test]
fn a_tls_record_is_told_by_two_bytes() {
    assert_eq!(
        decode_connect(b"\x16", MAX),
        Ok(Decoded::Incomplete { need: 1 })
    );
    early_error(b"\x16\x03", ConnectError::TlsRecord);
    early_error(b"\x16\x03\x01\x02\x00\x01", ConnectError::TlsRecord);
    let violation = Violation::FixedHeaderFlags;
    early_error(
        b"\x16\x04",
        ConnectError::Malformed {
            version: None,
            violation,
        },
    );
}

#[test]
fn mqtt_2_1_3_1_reserved_bits_of_the_fixed_header_are_zero() {
    let violation = Violation::FixedHeaderFlags;
    for first in (0x11..=0x1f).filter(|first| *first != 0x16) {
        early_error(
            &[first],
            ConnectError::Malformed {
                version: None,
                violation,
            },
        );
    }
}

#[test]
fn section_1_5_5_the_length_has_four_bytes() {
    let violation = Violation::VariableByteInteger;
    let bytes = b"\x10\xff\xff\xff\xff";
    early_error(
        bytes,
        ConnectError::Malformed {
            version: None,
            violation,
        },
    );
}

#[test]
fn a_large_packet_is_refused_by_its_announcement() {
    let error = ConnectError::TooLarge {
        length: 1025,
        bytes_max: MAX,
    };
    early_error(b"\x10\xfe\x07", error);
    assert_eq!(
        decode_connect(b"\x10\xfd\x07", MAX),
        Ok(Decoded::Incomplete { need: 1021 })
    );
    let huge = ConnectError::TooLarge {
        length: 268_435_460,
        bytes_max: MAX,
    };
    early_error(b"\x10\xff\xff\xff\x7f", huge);
}

#[test]
fn mqtt_3_1_2_1_a_wrong_name_is_refused_at_its_first_wrong_byte() {
    for start in [
        &b"\x01"[..],
        b"\x00\x05",
        b"\x00\x04m",
        b"\x00\x04MQI",
        b"\x00\x06MQT",
    ] {
        early_error(&[b"\x10\x40", start].concat(), ConnectError::ProtocolName);
        let before = &start[..start.len() - 1];
        let need = 0x40 - before.len();
        let bytes = [b"\x10\x40", before].concat();
        assert_eq!(
            decode_connect(&bytes, MAX),
            Ok(Decoded::Incomplete { need }),
            "{start:02x?}"
        );
    }
}

#[test]
fn mqtt_3_1_2_2_a_wrong_level_is_refused_when_it_is_visible() {
    for level in (0..=u8::MAX).filter(|level| ![4, 5].contains(level)) {
        let bytes = [b"\x10\x40\x00\x04MQTT", &[level][..]].concat();
        early_error(&bytes, ConnectError::UnsupportedVersion(level));
    }
    for level in (0..=u8::MAX).filter(|level| *level != 3) {
        let bytes = [b"\x10\x40\x00\x06MQIsdp", &[level][..]].concat();
        early_error(&bytes, ConnectError::UnsupportedVersion(level));
    }
}

#[test]
fn mqtt_3_1_2_3_the_reserved_flag_is_zero() {
    refuse(Version::V311, 0x03, b"\0\0", Violation::ReservedConnectFlag);
    refuse(Version::V5, 0x01, b"\0\0\0", Violation::ReservedConnectFlag);
    // MQTT 3.1 §3.1: "Bit 0 of this byte is not used".
    accept(&packet(&body(Version::V31, 0x03, b"\0\x01a")));
}

#[test]
fn flags_are_judged_before_the_packet_is_complete() {
    let bytes = b"\x10\x40\x00\x04MQTT\x05\x01";
    let violation = Violation::ReservedConnectFlag;
    early_error(
        bytes,
        ConnectError::Malformed {
            version: Some(Version::V5),
            violation,
        },
    );
}

#[test]
fn mqtt_3_1_2_12_will_qos_is_not_3() {
    for version in [Version::V31, Version::V311, Version::V5] {
        refuse(version, 0x1e, b"\0\x01a\0\x01t\0\0", Violation::WillQos);
    }
}

#[test]
fn mqtt_3_1_2_11_and_13_without_a_will_its_bits_are_zero() {
    for version in [Version::V311, Version::V5] {
        for qos in [0x08, 0x10, 0x18] {
            refuse(version, qos, b"\0\0\0", Violation::WillQosWithoutWill);
        }
        refuse(version, 0x20, b"\0\0\0", Violation::WillRetainWithoutWill);
    }
    // MQTT 3.1 §3.1: disregarded.
    let bytes = packet(&body(Version::V31, 0x3a, b"\0\x01a"));
    assert_eq!(accept(&bytes).will, None);
}

#[test]
fn mqtt_3_1_1_3_1_2_22_a_password_needs_a_user_name_before_5_0() {
    refuse(
        Version::V311,
        0x42,
        b"\0\x01a\0\x01p",
        Violation::PasswordWithoutUsername,
    );
    refuse(
        Version::V31,
        0x42,
        b"\0\x01a\0\x01p",
        Violation::PasswordWithoutUsername,
    );
    let bytes = packet(&body(Version::V5, 0x42, b"\0\0\x01a\0\x01p"));
    let connect = accept(&bytes);
    assert_eq!(
        (connect.username, connect.password),
        (None, Some(&b"p"[..]))
    );
}

#[test]
fn mqtt_1_5_5_1_the_length_of_a_5_0_packet_is_minimal() {
    let plain = body(Version::V311, 0x02, b"\0\0");
    let long = [
        &[0x10, 0x80 | u8::try_from(plain.len()).unwrap(), 0][..],
        &plain,
    ]
    .concat();
    assert_eq!(accept(&long).client_id, "");
    let plain = body(Version::V5, 0x02, b"\0\0\0");
    let long = [
        &[0x10, 0x80 | u8::try_from(plain.len()).unwrap(), 0][..],
        &plain,
    ]
    .concat();
    let violation = Violation::NotMinimal;
    let error = ConnectError::Malformed {
        version: Some(Version::V5),
        violation,
    };
    early_error(&long, error);
    // Seen as soon as the level is.
    early_error(&long[..10], error);
}

#[test]
fn mqtt_3_1_3_1_the_packet_ends_with_its_last_field() {
    refuse(Version::V31, 0x02, b"\0\x01a\0", Violation::TrailingBytes);
    refuse(Version::V311, 0x02, b"\0\x01a\0", Violation::TrailingBytes);
    refuse(
        Version::V5,
        0x02,
        b"\0\0\x01a\0\x01u",
        Violation::TrailingBytes,
    );
}

#[test]
fn section_4_13_every_field_ends_within_the_packet() {
    let rest = b"\0\x01c\0\x01t\0\x01w\0\x01u\0\x01p";
    let fields = [
        (0..3, Field::ClientId),
        (3..6, Field::WillTopic),
        (6..9, Field::WillPayload),
        (9..12, Field::Username),
        (12..15, Field::Password),
    ];
    for (range, field) in fields {
        for end in range {
            refuse(
                Version::V311,
                0xc6,
                &rest[..end],
                Violation::Truncated(field),
            );
        }
    }
    accept(&packet(&body(Version::V311, 0xc6, rest)));
    for end in 0..10 {
        let start = &body(Version::V311, 2, b"")[..end];
        let version = (end > 6).then_some(Version::V311);
        let violation = Violation::Truncated(Field::ConnectHeader);
        early_error(
            &packet(start),
            ConnectError::Malformed { version, violation },
        );
    }
    refuse(
        Version::V5,
        0x02,
        b"",
        Violation::Truncated(Field::PropertyLength),
    );
    refuse(
        Version::V5,
        0x02,
        b"\x09\x11\0\0\0\0",
        Violation::Truncated(Field::PropertyLength),
    );
}

#[test]
fn mqtt_3_1_flags_yield_to_the_remaining_length() {
    // MQTT 3.1 §3.1: user name and password may be missing although their flags are set.
    let bytes = packet(&body(Version::V31, 0xc2, b"\0\x01a"));
    let connect = accept(&bytes);
    assert_eq!((connect.username, connect.password), (None, None));
    let bytes = packet(&body(Version::V31, 0xc2, b"\0\x01a\0\x01u"));
    let connect = accept(&bytes);
    assert_eq!((connect.username, connect.password), (Some("u"), None));
    refuse(
        Version::V31,
        0xc2,
        b"\0\x01a\0",
        Violation::Truncated(Field::Username),
    );
}

#[test]
fn mqtt_1_5_4_strings_of_the_payload_are_utf8_without_null() {
    for (flags, before, field) in [
        (0x02, &b""[..], Field::ClientId),
        (0x06, b"\0\x01c", Field::WillTopic),
        (0x82, b"\0\x01c", Field::Username),
    ] {
        for (text, violation) in [
            (&b"\0\x01\xff"[..], Violation::Utf8(field)),
            (b"\0\x03\xed\xa0\x80", Violation::Utf8(field)),
            (b"\0\x01\0", Violation::NulCharacter(field)),
        ] {
            refuse(
                Version::V311,
                flags,
                &[before, text, b"\0\0"].concat(),
                violation,
            );
        }
    }
    // Password and will payload are binary (§3.1.3.4, §3.1.3.6).
    accept(&packet(&body(
        Version::V311,
        0xc6,
        b"\0\x01c\0\x01t\0\x01\xff\0\0\0\x02\0\xff",
    )));
}

#[test]
fn mqtt_4_7_a_will_topic_is_a_topic_name() {
    for topic in [&b"\0\x01#"[..], b"\0\x03a/+"] {
        let rest = [b"\0\x01c", topic, b"\0\0"].concat();
        refuse(
            Version::V311,
            0x06,
            &rest,
            Violation::TopicWildcard(Field::WillTopic),
        );
    }
    refuse(
        Version::V311,
        0x06,
        b"\0\x01c\0\0\0\0",
        Violation::TopicEmpty(Field::WillTopic),
    );
}

#[test]
fn mqtt_3_1_3_8_the_broker_answers_for_client_ids_that_it_does_not_take() {
    // 3.1.1: empty with clean session 0 gets return code 2, from the broker.
    assert_eq!(
        accept(&packet(&body(Version::V311, 0x00, b"\0\0"))).client_id,
        ""
    );
    // 3.1: 1 to 23 characters by the book.
    assert_eq!(
        accept(&packet(&body(Version::V31, 0x02, b"\0\0"))).client_id,
        ""
    );
    let id = "abcdefghijklmnopqrstuvwxyz";
    let rest = [b"\0\x1a", id.as_bytes()].concat();
    assert_eq!(
        accept(&packet(&body(Version::V31, 0x02, &rest))).client_id,
        id
    );
}

#[test]
fn the_example_of_3_1_1_figure_3_6_is_read() {
    let bytes = packet(&[
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        4,
        0b1100_1110,
        0,
        10,
        0,
        1,
        b'c',
        0,
        1,
        b't',
        0,
        1,
        b'w',
        0,
        1,
        b'u',
        0,
        1,
        b'p',
    ]);
    let connect = accept(&bytes);
    assert_eq!((connect.version, connect.keep_alive), (Version::V311, 10));
    assert!(connect.clean_start);
    let will = connect.will.unwrap();
    assert_eq!((will.topic, will.payload), ("t", &b"w"[..]));
    assert_eq!(
        (will.qos, will.retain),
        (QualityOfService::AtLeastOnce, false)
    );
    assert_eq!(
        (connect.username, connect.password),
        (Some("u"), Some(&b"p"[..]))
    );
}

#[test]
fn a_5_0_packet_has_properties_of_its_own_and_of_its_will() {
    let rest = b"\x08\x21\0\x0a\x11\0\0\0\x3c\0\x01c\x05\x18\0\0\0\x05\0\x01t\0\x01w";
    let bytes = packet(&body(Version::V5, 0x34 | 0x02, rest));
    let connect = accept(&bytes);
    assert_eq!(connect.properties.receive_maximum(), Some(10));
    assert_eq!(connect.properties.session_expiry_interval(), Some(60));
    let will = connect.will.unwrap();
    assert_eq!(will.properties.will_delay_interval(), Some(5));
    assert_eq!(
        (will.qos, will.retain),
        (QualityOfService::ExactlyOnce, true)
    );
}

#[test]
fn section_2_2_2_2_properties_stay_in_their_place() {
    let misplaced = Violation::PropertyMisplaced;
    refuse(
        Version::V5,
        2,
        b"\x05\x18\0\0\0\x05\0\0",
        misplaced(id::WILL_DELAY_INTERVAL),
    );
    refuse(
        Version::V5,
        2,
        b"\x03\x13\0\x05\0\0",
        misplaced(id::SERVER_KEEP_ALIVE),
    );
    let rest = b"\0\0\0\x03\x21\0\x01\0\x01t\0\0";
    refuse(Version::V5, 6, rest, misplaced(id::RECEIVE_MAXIMUM));
    refuse(
        Version::V5,
        2,
        b"\x04\x17\0\x17\0\0\0",
        Violation::PropertyDuplicate(0x17),
    );
}

#[test]
fn bytes_after_the_packet_are_left_alone() {
    let mut bytes = packet(&body(Version::V311, 2, b"\0\x01a"));
    let consumed = bytes.len();
    bytes.extend(b"\x30\x00");
    let decoded = decode_connect(&bytes, MAX).unwrap();
    assert!(matches!(decoded, Decoded::Complete { consumed: length, .. } if length == consumed));
}

#[test]
fn debug_shows_no_password() {
    let bytes = packet(&body(Version::V311, 0xc2, b"\0\x01a\0\x01u\0\x07hunter2"));
    let shown = format!("{:?}", accept(&bytes));
    assert!(shown.contains("[redacted]"), "{shown}");
    assert!(
        !shown.contains("hunter2") && !shown.contains("104, 117"),
        "{shown}"
    );
}
