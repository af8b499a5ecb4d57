//! Headers of others, good and bad.

use super::*;
use crate::logic::proxy_protocol::checksum::crc32c;
use crate::logic::proxy_protocol::encode::v2_local;
use crate::logic::proxy_protocol::tlv;

const MAX: usize = 1024;

fn check(bytes: &[u8], expected: Result<Option<(&str, &str)>, ProxyError>) {
    let decoded = decode(bytes, MAX).map(|decoded| match decoded {
        Decoded::Complete { value, consumed } => {
            assert_eq!(consumed, bytes.len());
            value.addresses
        }
        Decoded::Incomplete { need } => panic!("{need} more for {}", bytes.escape_ascii()),
    });
    let parse = |(source, destination): (&str, &str)| {
        (source.parse().unwrap(), destination.parse().unwrap())
    };
    let expected = expected.map(|addresses| addresses.map(parse));
    assert_eq!(decoded, expected, "{}", bytes.escape_ascii());
}

/// A version 2 header with the right length.
fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&V2_SIGNATURE[..], &[command, family], &length, payload].concat()
}

const IPV4: &[u8] = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x07\x5b";
const IPV4_TEXT: (&str, &str) = ("192.0.2.1:4660", "198.51.100.2:1883");

#[test]
fn section_2_1_lines_are_read() {
    check(
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        Ok(Some(("192.168.0.1:56324", "192.168.0.11:443"))),
    );
    check(
        b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
        Ok(Some(("255.255.255.255:65535", "0.0.0.0:0"))),
    );
    check(
        b"PROXY TCP6 2001:DB8::1 ::1 1 2\r\n",
        Ok(Some(("[2001:db8::1]:1", "[::1]:2"))),
    );
    check(b"PROXY UNKNOWN\r\n", Ok(None));
    check(b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", Ok(None));
}

#[test]
fn section_2_1_anything_else_is_refused() {
    for line in [
        &b"PROXY \r\n"[..],
        b"PROXY TCP4\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2.256 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 192.0.2 192.0.2.2 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        b"PROXY TCP6 ::1%lo ::2 1 2\r\n",
        b"PROXY TCP6 [::1] [::2] 1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 00 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 -1 2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\rx",
        b"PROXY TCP4 192.0.2.1\n192.0.2.2 1 2\r\n",
        b"PROXY UNKNOWN \xff\r\n",
    ] {
        check(line, Err(ProxyError::Line));
    }
}

#[test]
fn section_2_1_a_line_has_at_most_107_bytes() {
    let line =
        |length: usize| format!("PROXY UNKNOWN {}\r\n", "x".repeat(length - 16)).into_bytes();
    check(&line(107), Ok(None));
    check(&line(108), Err(ProxyError::Line));
    assert_eq!(
        decode(&line(107)[..106], MAX),
        Ok(Decoded::Incomplete { need: 1 })
    );
    assert_eq!(
        decode(&line(108)[..106], MAX),
        Ok(Decoded::Incomplete { need: 1 })
    );
    assert_eq!(decode(&line(107), 106), Err(ProxyError::Line));
}

#[test]
fn section_2_2_tcp_is_read() {
    check(&v2(0x21, 0x11, IPV4), Ok(Some(IPV4_TEXT)));
    let ipv6 = b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\x12\x34\x07\x5b";
    check(
        &v2(0x21, 0x21, ipv6),
        Ok(Some(("[2001:db8::1]:4660", "[2001:db8::2]:1883"))),
    );
}

#[test]
fn section_2_2_local_and_other_families_leave_the_sockets_addresses() {
    check(v2_local(), Ok(None));
    for payload in [&b""[..], IPV4, b"\x01"] {
        check(&v2(0x20, 0x00, payload), Ok(None));
        check(&v2(0x20, 0x11, payload), Ok(None));
        check(&v2(0x20, 0xff, payload), Ok(None));
        check(&v2(0x21, 0x00, payload), Ok(None));
        check(&v2(0x21, 0x12, payload), Ok(None));
        check(&v2(0x21, 0x31, payload), Ok(None));
    }
}

#[test]
fn section_2_2_unassigned_values_are_refused_when_they_are_visible() {
    for byte in (0..=u8::MAX).filter(|byte| ![0x20, 0x21].contains(byte)) {
        check(
            &[&V2_SIGNATURE[..], &[byte]].concat(),
            Err(ProxyError::Unassigned(byte)),
        );
    }
    for byte in [0x13, 0x03, 0x40, 0x41, 0xff] {
        check(
            &[&V2_SIGNATURE[..], &[0x21, byte]].concat(),
            Err(ProxyError::Unassigned(byte)),
        );
    }
}

#[test]
fn section_2_2_addresses_are_complete() {
    for length in 0..IPV4.len() {
        check(&v2(0x21, 0x11, &IPV4[..length]), Err(ProxyError::Addresses));
    }
    check(&v2(0x21, 0x21, IPV4), Err(ProxyError::Addresses));
}

#[test]
fn a_large_header_is_refused_by_its_announcement() {
    let start = [&V2_SIGNATURE[..], b"\x21\x11\x03\xf1"].concat();
    check(
        &start,
        Err(ProxyError::TooLarge {
            length: 1025,
            bytes_max: MAX,
        }),
    );
}

#[test]
fn strangers_are_told_at_the_first_wrong_byte() {
    for bytes in [
        &b"\x10"[..],
        b"G",
        b"\x16\x03\x01",
        b"PRI",
        b"\r\n\r\n\r",
        b"PROXY\t",
    ] {
        check(bytes, Err(ProxyError::NotProxy));
        let before =
            decode(&bytes[..bytes.len() - 1], MAX).is_ok_and(|decoded| decoded.value().is_none());
        assert_eq!(before, bytes != b"\x16\x03\x01", "{}", bytes.escape_ascii());
    }
}

#[test]
fn section_2_2_tlvs_are_framed() {
    let with = |tlvs: &[u8]| v2(0x21, 0x11, &[IPV4, tlvs].concat());
    for good in [
        &b"\x04\x00\x00"[..],
        b"\x01\x00\x04mqtt\xe0\x00\x01x",
        b"\x20\x00\x05\x01\0\0\0\x01",
        b"\x20\x00\x08\x01\0\0\0\x01\x21\x00\x00",
    ] {
        check(&with(good), Ok(Some(IPV4_TEXT)));
    }
    let unique_id = [b"\x05\x00\x81", &[b'x'; 129][..]].concat();
    for bad in [
        &b"\x04"[..],
        b"\x04\x00",
        b"\x04\x00\x01",
        b"\x04\x00\x00\x01",
        b"\x03\x00\x03\0\0\0",
        b"\x20\x00\x04\x01\0\0\0",
        b"\x20\x00\x06\x01\0\0\0\x01\x21",
        b"\x20\x00\x08\x01\0\0\0\x01\x21\x00\x01",
        &unique_id,
    ] {
        check(&with(bad), Err(ProxyError::Tlv));
    }
}

#[test]
fn section_2_2_3_a_checksum_covers_the_header() {
    let mut bytes = v2(
        0x21,
        0x11,
        &[IPV4, b"\x04\0\x01a\x03\0\x04\0\0\0\0\x04\0\x01b"].concat(),
    );
    check(&bytes, Err(ProxyError::Checksum));
    let sum = crc32c(&[&bytes]).to_be_bytes();
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&sum);
    check(&bytes, Ok(Some(IPV4_TEXT)));
    for index in [16, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[index] ^= 1;
        check(&changed, Err(ProxyError::Checksum));
    }
}

#[test]
fn only_a_flag_and_a_result_together_are_verified() {
    for (ssl, expected) in [
        (&b"\x20\x00\x05\x07\0\0\0\0"[..], true),
        (b"\x20\x00\x05\x05\0\0\0\0", true),
        (b"\x20\x00\x05\x01\0\0\0\0", false),
        (b"\x20\x00\x05\x07\0\0\0\x01", false),
    ] {
        let ssl = Tlvs::parse(ssl).unwrap().ssl().unwrap();
        assert_eq!(ssl.is_verified(), expected, "{ssl:?}");
        assert_eq!(ssl.tlvs.find(tlv::SSL_CN), None);
    }
}
