//! Durations and sizes as an operator writes them, and back.
//!
//! Absent on purpose: fractions (`1.5s` is `1500ms`) and decimal sizes (`64KB` would mean 64000 to some and 65536 to
//! others).

use std::fmt::Write as _;
use std::time::Duration;

/// Units of a duration in milliseconds, largest first.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Units of a size in bytes, largest first.
const SIZE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Parses `250ms`, `2s`, `1m30s`, `1h`, `1d`: numbers with units, the larger unit first. `None` for everything else,
/// a number without a unit included.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut milliseconds = 0_u64;
    let mut unit_before = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let (number, unit, tail) = split(rest)?;
        let (_, scale) = DURATION_UNITS.into_iter().find(|(name, _)| *name == unit)?;
        if scale >= unit_before {
            return None;
        }
        unit_before = scale;
        milliseconds = milliseconds.checked_add(number.checked_mul(scale)?)?;
        rest = tail;
    }
    (unit_before != u64::MAX).then(|| Duration::from_millis(milliseconds))
}

/// The shortest text that parses to the same duration; below a millisecond it is cut off.
pub(super) fn format_duration(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (unit, scale) in DURATION_UNITS {
        let count = rest / scale;
        rest %= scale;
        if count > 0 {
            write!(text, "{count}{unit}").expect("a string takes every write");
        }
    }
    text
}

/// Parses `100B`, `64KiB`, `1MiB`, `1GiB`, into bytes. A number alone is bytes too.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let (number, unit, tail) = split(text)?;
    if !tail.is_empty() {
        return None;
    }
    let scale = match unit {
        "" => 1,
        unit => SIZE_UNITS.into_iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(scale)
}

/// The size in the largest unit that leaves no rest.
pub(super) fn format_size(bytes: u64) -> String {
    let (unit, scale) = SIZE_UNITS
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / scale)
}

/// Splits `90s500ms` into 90, `s` and `500ms`.
fn split(text: &str) -> Option<(u64, &str, &str)> {
    let unit_start = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(unit_start);
    let unit_end = rest
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(rest.len());
    let (unit, tail) = rest.split_at(unit_end);
    Some((number.parse().ok()?, unit, tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_need_a_number_and_a_unit() {
        for (text, milliseconds) in [
            ("0s", Some(0)),
            ("250ms", Some(250)),
            ("2s", Some(2000)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("", None),
            ("2", None),
            ("s", None),
            ("2 s", None),
            (" 2s", None),
            ("-2s", None),
            ("1.5s", None),
            ("2sec", None),
            ("2S", None),
            ("30s1m", None),
            ("1s1s", None),
            ("1m30", None),
            ("99999999999999999999s", None),
            ("18446744073709551615s", None),
            ("2µs", None),
        ] {
            assert_eq!(
                parse_duration(text),
                milliseconds.map(Duration::from_millis),
                "{text}"
            );
        }
    }

    #[test]
    fn sizes_are_binary_or_plain_bytes() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("100", Some(100)),
            ("100B", Some(100)),
            ("64KiB", Some(65_536)),
            ("1MiB", Some(1_048_576)),
            ("2GiB", Some(2_147_483_648)),
            ("", None),
            ("KiB", None),
            ("64KB", None),
            ("64k", None),
            ("64 KiB", None),
            ("1MiB1KiB", None),
            ("18446744073709551615GiB", None),
        ] {
            assert_eq!(parse_size(text), bytes, "{text}");
        }
    }

    #[test]
    fn durations_and_sizes_are_shown_in_their_largest_units() {
        assert_eq!(format_duration(Duration::from_millis(90_250)), "1m30s250ms");
        assert_eq!(format_duration(Duration::from_secs(7200)), "2h");
        assert_eq!(format_duration(Duration::ZERO), "0s");
        assert_eq!(format_size(65_536), "64KiB");
        assert_eq!(format_size(1000), "1000B");
        assert_eq!(format_size(0), "0B");
    }

    proptest! {
        #[test]
        fn what_is_shown_parses_to_the_same(milliseconds in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_millis(milliseconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Some(duration));
            prop_assert_eq!(parse_size(&format_size(bytes)), Some(bytes));
        }

        #[test]
        fn any_text_is_refused_or_read_without_a_panic(text: String) {
            parse_duration(&text);
            parse_size(&text);
        }
    }
}
