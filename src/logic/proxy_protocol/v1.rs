//! Version 1: one line of US-ASCII (PROXY spec 2.2 §2.1).
//!
//! `PROXY SP (TCP4 | TCP6) SP source SP destination SP source-port SP destination-port CRLF`, or `PROXY UNKNOWN` and
//! anything up to CRLF.

use super::address::{Pair, hexadecimal, parse_v4, parse_v6};
use super::{Header, Proxied, ProxiedAddresses, ProxyError, SHORTEST_BYTES, V1_BYTES_MAX};
use crate::logic::decoded::Decoded;
use std::net::{IpAddr, SocketAddr};

const SIGNATURE: &[u8] = b"PROXY ";

/// A header that says nothing about the client: for our own connections, such as health checks.
pub fn v1_unknown() -> Vec<u8> {
    b"PROXY UNKNOWN\r\n".to_vec()
}

pub(super) fn encode(header: &Header<'_>) -> Vec<u8> {
    let (family, source, destination) = match Pair::new(header.source, header.destination) {
        Pair::V4(source, destination) => (
            "TCP4",
            source.ip().to_string(),
            destination.ip().to_string(),
        ),
        Pair::V6(source, destination) => (
            "TCP6",
            hexadecimal(*source.ip()),
            hexadecimal(*destination.ip()),
        ),
    };
    let (source_port, destination_port) = (header.source.port(), header.destination.port());
    let line =
        format!("PROXY {family} {source} {destination} {source_port} {destination_port}\r\n");
    debug_assert!(line.len() <= V1_BYTES_MAX, "{line:?}");
    line.into_bytes()
}

pub(super) fn decode(bytes: &[u8], bytes_max: usize) -> Result<Decoded<Proxied>, ProxyError> {
    if !bytes
        .iter()
        .zip(SIGNATURE)
        .all(|(byte, expected)| byte == expected)
    {
        return Err(ProxyError::Signature);
    }
    let bytes_max = bytes_max.min(V1_BYTES_MAX);
    let window = bytes.get(..bytes_max).unwrap_or(bytes);
    let Some(end) = window
        .iter()
        .position(|&byte| matches!(byte, b'\r' | b'\n'))
    else {
        check_start(window)?;
        return more(window, 2, bytes_max);
    };
    let (line, ending) = window.split_at_checked(end).ok_or(ProxyError::Signature)?;
    match ending {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => {
            // The line is whole: what is wrong with it is wrong without its LF too.
            proxied(line)?;
            return more(window, 1, bytes_max);
        }
        _ => {
            return Err(ProxyError::Line {
                part: "line ending",
            });
        }
    }
    let value = proxied(line)?;
    Ok(Decoded::Complete {
        value,
        consumed: end.saturating_add(2),
    })
}

/// At least `at_least` bytes are missing, unless the limit has no room for them.
fn more(window: &[u8], at_least: usize, bytes_max: usize) -> Result<Decoded<Proxied>, ProxyError> {
    let need = SHORTEST_BYTES.saturating_sub(window.len()).max(at_least);
    if window.len().saturating_add(need) > bytes_max {
        return Err(ProxyError::TooLong { bytes_max });
    }
    Ok(Decoded::Incomplete { need })
}

/// Refuses an unfinished line whose protocol can't become a known one: a sender that is no proxy is told at once.
fn check_start(window: &[u8]) -> Result<(), ProxyError> {
    let Some(rest) = window.get(SIGNATURE.len()..) else {
        return Ok(());
    };
    let agrees = |family: &[u8]| {
        rest.iter()
            .zip(family)
            .all(|(byte, expected)| byte == expected)
    };
    if [&b"TCP4 "[..], b"TCP6 ", b"UNKNOWN "]
        .into_iter()
        .any(agrees)
    {
        return Ok(());
    }
    Err(ProxyError::Line { part: "protocol" })
}

/// What a line says; `line` is without its CRLF.
fn proxied(line: &[u8]) -> Result<Proxied, ProxyError> {
    let words = line.strip_prefix(SIGNATURE).ok_or(ProxyError::Signature)?;
    match words.strip_prefix(b"UNKNOWN") {
        // The receiver must ignore all that follows.
        Some([] | [b' ', ..]) => return Ok(Proxied::default()),
        Some(_) => return Err(ProxyError::Line { part: "protocol" }),
        None => {}
    }
    let words =
        std::str::from_utf8(words).map_err(|_error| ProxyError::Line { part: "characters" })?;
    let mut words = words.split(' ');
    let parse_ip: fn(&str) -> Option<IpAddr> = match words.next() {
        Some("TCP4") => |word| parse_v4(word).map(IpAddr::V4),
        Some("TCP6") => |word| parse_v6(word).map(IpAddr::V6),
        _ => return Err(ProxyError::Line { part: "protocol" }),
    };
    let mut next = |part| {
        words
            .next()
            .ok_or(ProxyError::Line { part })
            .map(|word| (word, part))
    };
    let ip = |(word, part)| parse_ip(word).ok_or(ProxyError::Line { part });
    let port = |(word, part)| parse_port(word).ok_or(ProxyError::Line { part });
    let source = ip(next("source address")?)?;
    let destination = ip(next("destination address")?)?;
    let source = SocketAddr::new(source, port(next("source port")?)?);
    let destination = SocketAddr::new(destination, port(next("destination port")?)?);
    if words.next().is_some() {
        return Err(ProxyError::Line {
            part: "words after the ports",
        });
    }
    let addresses = Some(ProxiedAddresses {
        source,
        destination,
    });
    Ok(Proxied {
        addresses,
        ..Proxied::default()
    })
}

/// Decimal digits only, no leading zero (`u16::from_str` takes both `+1` and `01`).
fn parse_port(word: &str) -> Option<u16> {
    let digits_only = word.bytes().all(|byte| byte.is_ascii_digit());
    let leading_zero = word.len() > 1 && word.starts_with('0');
    if !digits_only || leading_zero {
        return None;
    }
    word.parse().ok()
}
