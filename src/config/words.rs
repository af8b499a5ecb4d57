//! How single values are read: one function per kind of value, each noting what is wrong and what is allowed.
//!
//! Every function here returns a reader for [`Table::get`](super::table::Table::get).

use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::value::{Value, unknown_word};
use crate::logic::secret::Secret;
use std::fmt::Display;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Longest name of an instance, pool or listener: it becomes a metric label and a gossip key.
const NAME_CHARS_MAX: usize = 64;

/// What a readable file is, in messages.
const A_FILE: &str = "a file, relative to the folder of the configuration file";

/// `true` or `false`.
pub(super) fn boolean(value: &Value<'_>) -> Option<bool> {
    match value.raw() {
        DeValue::Boolean(yes) => Some(*yes),
        _ => value.wrong_type("write true or false"),
    }
}

/// A whole number within a range.
pub(super) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Value<'_>) -> Option<T>
where
    T: Copy + Display + TryFrom<i128> + Into<i128>,
{
    move |value| {
        let allowed = format!("{} to {}", range.start(), range.end());
        let DeValue::Integer(number) = value.raw() else {
            return value.wrong_type(format_args!("write an integer, {allowed}"));
        };
        let number = i128::from_str_radix(number.as_str(), number.radix()).unwrap_or(i128::MAX);
        let within = ((*range.start()).into()..=(*range.end()).into()).contains(&number);
        match T::try_from(number) {
            Ok(number) if within => Some(number),
            _ => value.wrong("out of range", allowed),
        }
    }
}

/// A number with or without a fraction, within a range.
pub(super) fn number(range: RangeInclusive<f64>) -> impl Fn(&Value<'_>) -> Option<f64> {
    move |value| {
        let allowed = format!("{:?} to {:?}", range.start(), range.end());
        let parsed = match value.raw() {
            DeValue::Float(number) => number.as_str().parse::<f64>(),
            DeValue::Integer(number) => number.as_str().parse::<f64>(),
            _ => return value.wrong_type(format_args!("write a number, {allowed}")),
        };
        match parsed {
            Ok(number) if range.contains(&number) => Some(number),
            _ => value.wrong("out of range", allowed),
        }
    }
}

/// A duration within a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Value<'_>) -> Option<Duration> {
    let allowed = format!(
        "{} to {}",
        format_duration(*range.start()),
        format_duration(*range.end())
    );
    move |value| read_duration(value, &allowed, |duration| range.contains(&duration))
}

/// A duration within a range, or 0s, which switches something off.
pub(super) fn duration_or_zero(
    range: RangeInclusive<Duration>,
) -> impl Fn(&Value<'_>) -> Option<Duration> {
    let allowed = format!(
        "0s, or {} to {}",
        format_duration(*range.start()),
        format_duration(*range.end())
    );
    move |value| {
        read_duration(value, &allowed, |duration| {
            duration.is_zero() || range.contains(&duration)
        })
    }
}

fn read_duration(
    value: &Value<'_>,
    allowed: &str,
    within: impl Fn(Duration) -> bool,
) -> Option<Duration> {
    if let DeValue::Integer(number) = value.raw() {
        let number = number.as_str();
        return value.wrong(
            "has no unit",
            format_args!("write \"{number}s\" or \"{number}ms\"; {allowed}"),
        );
    }
    let text = value.text(format_args!("write a duration such as \"2s\"; {allowed}"))?;
    match parse_duration(&text) {
        Some(duration) if within(duration) => Some(duration),
        Some(_) => value.wrong("out of range", allowed),
        None => value.wrong(
            "not a duration",
            format_args!(
                "whole numbers with ms, s, m, h, d, such as \"250ms\" or \"1m30s\"; {allowed}"
            ),
        ),
    }
}

/// A size in bytes within a range.
pub(super) fn size(range: RangeInclusive<usize>) -> impl Fn(&Value<'_>) -> Option<usize> {
    let [low, high] = [*range.start(), *range.end()].map(|bound| format_size(bound as u64));
    let allowed = format!("{low} to {high}");
    move |value| {
        let bytes = match value.raw() {
            DeValue::Integer(number) => parse_size(&number.to_string()),
            _ => {
                parse_size(&value.text(format_args!("write a size such as \"64KiB\"; {allowed}"))?)
            }
        };
        let Some(bytes) = bytes else {
            let how = "a whole number with B, KiB, MiB or GiB, such as \"64KiB\"";
            return value.wrong("not a size", format_args!("{how}; {allowed}"));
        };
        match usize::try_from(bytes) {
            Ok(bytes) if range.contains(&bytes) => Some(bytes),
            _ => value.wrong("out of range", &allowed),
        }
    }
}

/// One of a few words.
pub(super) fn word<T: Copy>(words: &[(&str, T)]) -> impl Fn(&Value<'_>) -> Option<T> {
    move |value| {
        let known = words.iter().map(|(word, _)| *word).collect::<Vec<_>>();
        let text = value.text(format_args!("one of {}", known.join(", ")))?;
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Some(*meaning),
            None => unknown_word(value, &text, &known),
        }
    }
}

/// A string that is not empty.
pub(super) fn text(value: &Value<'_>) -> Option<String> {
    let text = value.text("write a string")?;
    if text.is_empty() {
        value.wrong("is empty", "write something, or leave the key out")
    } else {
        Some(text)
    }
}

/// A string that is not empty and never shown.
pub(super) fn secret(value: &Value<'_>) -> Option<Secret> {
    text(&value.secret()).map(Secret::new)
}

/// The name of an instance, pool or listener.
pub(super) fn name(value: &Value<'_>) -> Option<String> {
    let text = value.text("write a string")?;
    if is_name(&text) {
        Some(text)
    } else {
        value.wrong("not a name", NAME_ALLOWED)
    }
}

/// What [`is_name`] takes, in messages.
pub(super) const NAME_ALLOWED: &str = "1 to 64 of a-z A-Z 0-9 . _ -";

/// Whether a text can name an instance, pool or listener.
pub(super) fn is_name(text: &str) -> bool {
    let letters = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    letters && (1..=NAME_CHARS_MAX).contains(&text.len())
}

/// An address to bind or to dial: `127.0.0.1:1883`, `[::1]:1883`.
pub(super) fn address(value: &Value<'_>) -> Option<SocketAddr> {
    let allowed = "an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\"";
    let text = value.text(allowed)?;
    text.parse()
        .map_or_else(|_| value.wrong("not an address", allowed), Some)
}

/// A path, relative to the folder of the configuration file, of a file that can be read.
pub(super) fn readable_file(value: &Value<'_>) -> Option<PathBuf> {
    file_content(value).map(|(path, _)| path)
}

/// The path and the content of a text file.
pub(super) fn file_text(value: &Value<'_>) -> Option<(PathBuf, String)> {
    let (path, content) = file_content(value)?;
    match String::from_utf8(content) {
        Ok(text) => Some((path, text)),
        Err(_) => value.wrong("the file is not UTF-8 text", "write a text file"),
    }
}

/// The content of a file that holds one secret, without the white space around it.
pub(super) fn secret_file(value: &Value<'_>) -> Option<Secret> {
    let (_, text) = file_text(value)?;
    match text.trim() {
        "" => value.wrong("the file is empty", "write the secret into it, on one line"),
        text if text.contains(['\r', '\n']) => value.wrong(
            "the file has more than one line",
            "write the secret alone into it",
        ),
        text => Some(Secret::new(text.to_owned())),
    }
}

fn file_content(value: &Value<'_>) -> Option<(PathBuf, Vec<u8>)> {
    let text = value.text(A_FILE)?;
    if text.is_empty() {
        return value.wrong("is empty", A_FILE);
    }
    let path = value.resolve(&text);
    match value.world().read(&path) {
        Ok(content) => Some((path, content)),
        // Who writes the token itself instead of a file, through a variable, must not find it in a log.
        Err(error) if value.shown() != format!("{text:?}") => {
            value.wrong(format_args!("cannot read the file: {error}"), A_FILE)
        }
        Err(error) => value.mistake(format_args!(
            "cannot read {}: {error}; {A_FILE}",
            path.display()
        )),
    }
}

/// An array whose items are read one by one; a wrong item does not hide the next.
pub(super) fn list<T>(
    item: impl Fn(&Value<'_>) -> Option<T>,
) -> impl Fn(&Value<'_>) -> Option<Vec<T>> {
    move |value| {
        Some(
            value
                .items("write an array, [...]")?
                .iter()
                .filter_map(&item)
                .collect(),
        )
    }
}

/// Seconds, for ranges.
pub(super) const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Milliseconds, for ranges.
pub(super) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// One minute, for ranges.
pub(super) const MINUTE: u64 = 60;
/// One hour in seconds, for ranges.
pub(super) const HOUR: u64 = 60 * MINUTE;
/// One day in seconds, for ranges.
pub(super) const DAY: u64 = 24 * HOUR;
