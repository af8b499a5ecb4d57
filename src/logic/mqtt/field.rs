//! The data types of MQTT 5.0 §1.5 inside a packet that is completely there: strings, topics, binary data.

use super::violation::{Field, Violation};
use crate::logic::reader::Reader;

/// Binary data (§1.5.6): two bytes of length and anything.
pub(super) fn binary<'a>(reader: &mut Reader<'a>, field: Field) -> Result<&'a [u8], Violation> {
    reader.prefixed().ok_or(Violation::Truncated(field))
}

/// A UTF-8 encoded string (§1.5.4). Control and non-characters other than U+0000 are "SHOULD NOT" and pass.
pub(super) fn string<'a>(reader: &mut Reader<'a>, field: Field) -> Result<&'a str, Violation> {
    let text = std::str::from_utf8(binary(reader, field)?).map_err(|_| Violation::Utf8(field))?;
    if text.contains('\0') {
        return Err(Violation::NulCharacter(field));
    }
    Ok(text)
}

/// A topic name (§4.7): a string with a character and without a wildcard.
pub(super) fn topic<'a>(reader: &mut Reader<'a>, field: Field) -> Result<&'a str, Violation> {
    let text = string(reader, field)?;
    if text.is_empty() {
        return Err(Violation::TopicEmpty(field));
    }
    if text.contains(['+', '#']) {
        return Err(Violation::TopicWildcard(field));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Result<&str, Violation>) {
        assert_eq!(
            string(&mut Reader::new(bytes), Field::ClientId),
            expected,
            "{bytes:02x?}"
        );
    }

    #[test]
    fn mqtt_1_5_4_1_strings_are_well_formed_utf8() {
        let bad = Err(Violation::Utf8(Field::ClientId));
        check(b"\x00\x00", Ok(""));
        check(b"\x00\x02\xc3\xbc", Ok("ü"));
        // The example of MQTT 5.0 figure 1-2: A and U+2A6D4.
        check(b"\x00\x05A\xf0\xaa\x9b\x94", Ok("A\u{2a6d4}"));
        check(b"\x00\x01\xff", bad);
        check(b"\x00\x01\xc3", bad);
        // Overlong solidus, surrogate D800, beyond U+10FFFF.
        check(b"\x00\x02\xc0\xaf", bad);
        check(b"\x00\x03\xed\xa0\x80", bad);
        check(b"\x00\x04\xf4\x90\x80\x80", bad);
    }

    #[test]
    fn mqtt_1_5_4_2_strings_have_no_null_character() {
        check(
            b"\x00\x02a\0",
            Err(Violation::NulCharacter(Field::ClientId)),
        );
        // The overlong null of Java's modified UTF-8 is ill-formed.
        check(b"\x00\x02\xc0\x80", Err(Violation::Utf8(Field::ClientId)));
    }

    #[test]
    fn mqtt_1_5_4_3_a_byte_order_mark_stays() {
        check(b"\x00\x03\xef\xbb\xbf", Ok("\u{feff}"));
    }

    #[test]
    fn fields_end_with_the_packet() {
        check(b"", Err(Violation::Truncated(Field::ClientId)));
        check(b"\x00", Err(Violation::Truncated(Field::ClientId)));
        check(b"\x00\x02a", Err(Violation::Truncated(Field::ClientId)));
    }

    #[test]
    fn mqtt_4_7_topic_names_have_a_character_and_no_wildcard() {
        let field = Field::WillTopic;
        let read = |bytes: &'static [u8]| topic(&mut Reader::new(bytes), field);
        assert_eq!(read(b"\x00\x03a/b"), Ok("a/b"));
        assert_eq!(read(b"\x00\x01/"), Ok("/"));
        assert_eq!(read(b"\x00\x00"), Err(Violation::TopicEmpty(field)));
        assert_eq!(read(b"\x00\x03a/+"), Err(Violation::TopicWildcard(field)));
        assert_eq!(read(b"\x00\x01#"), Err(Violation::TopicWildcard(field)));
    }
}
