//! Headers byte by byte.

use super::*;
use crate::logic::proxy_protocol::{Decoded, Tlvs, decode};

const TLS: TlsInfo<'_> = TlsInfo {
    version: "TLSv1.3",
    cipher: "TLS13_AES_128_GCM_SHA256",
    alpn: Some(b"mqtt"),
    authority: Some("mqtt.example"),
    client_cn: Some("device-1"),
    client_cert_presented: true,
    resumed: false,
    verified: true,
};

fn header<'a>(source: &str, destination: &str, tls: Option<TlsInfo<'a>>) -> Header<'a> {
    Header {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        tls,
    }
}

/// The TLVs of the header with this TLS.
fn tlvs<T>(tls: TlsInfo<'_>, read: impl FnOnce(Tlvs<'_>) -> T) -> T {
    let bytes = encode_v2(&header("[2001:db8::1]:1", "[2001:db8::2]:2", Some(tls)));
    assert!(bytes.len() <= HEADER_BYTES_MAX, "{}", bytes.len());
    match decode(&bytes, HEADER_BYTES_MAX) {
        Ok(Decoded::Complete { value, consumed }) => {
            assert_eq!(consumed, bytes.len());
            read(value.tlvs)
        }
        other => panic!("{other:?}"),
    }
}

fn find(tls: TlsInfo<'_>, kind: u8) -> Option<Vec<u8>> {
    tlvs(tls, |tlvs| tlvs.find(kind).map(<[u8]>::to_vec))
}

fn find_ssl(tls: TlsInfo<'_>, kind: u8) -> Option<Vec<u8>> {
    tlvs(tls, |tlvs| {
        tlvs.ssl().unwrap().tlvs.find(kind).map(<[u8]>::to_vec)
    })
}

#[test]
fn section_2_1_lines() {
    for (source, destination, line) in [
        (
            "192.168.0.1:56324",
            "192.168.0.11:443",
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        ),
        (
            "[2001:db8::1]:1",
            "[2001:db8::2]:65535",
            "PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n",
        ),
        // A dual-stack socket's view of IPv4 is IPv4.
        (
            "[::ffff:192.0.2.1]:5",
            "[::ffff:192.0.2.2]:6",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
        ),
        (
            "[::ffff:192.0.2.1]:5",
            "192.0.2.2:6",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
        ),
        // Mixed families are IPv6, in hexadecimal groups.
        (
            "192.0.2.1:5",
            "[2001:db8::2]:6",
            "PROXY TCP6 ::ffff:c000:201 2001:db8::2 5 6\r\n",
        ),
        (
            "[2001:db8::1]:5",
            "192.0.2.2:6",
            "PROXY TCP6 2001:db8::1 ::ffff:c000:202 5 6\r\n",
        ),
        ("[::1]:5", "[::]:6", "PROXY TCP6 ::1 :: 5 6\r\n"),
    ] {
        let bytes = encode_v1(&header(source, destination, None));
        assert_eq!(String::from_utf8(bytes).unwrap(), line);
    }
}

#[test]
fn section_2_1_the_longest_line_is_104_bytes() {
    let longest = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    assert_eq!(encode_v1(&header(longest, longest, None)).len(), 104);
    assert_eq!(V1_UNKNOWN.len(), 15);
}

#[test]
fn section_2_2_ipv4_is_28_bytes() {
    let bytes = encode_v2(&header("192.0.2.1:4660", "198.51.100.2:1883", None));
    let expected = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c\
        \xc0\x00\x02\x01\xc6\x33\x64\x02\x12\x34\x07\x5b";
    assert_eq!(bytes, expected);
}

#[test]
fn section_2_2_ipv6_is_52_bytes() {
    let bytes = encode_v2(&header("[2001:db8::1]:4660", "[2001:db8::2]:1883", None));
    let expected = b"\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x21\x00\x24\
        \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\
        \x12\x34\x07\x5b";
    assert_eq!(bytes, expected);
}

#[test]
fn section_2_2_mixed_families_are_mapped_into_ipv6() {
    let bytes = encode_v2(&header("192.0.2.1:1", "[2001:db8::2]:2", None));
    assert_eq!(bytes[13], 0x21);
    assert_eq!(
        bytes[16..32],
        *b"\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\x00\x02\x01"
    );
    let bytes = encode_v2(&header("[::ffff:192.0.2.1]:1", "192.0.2.2:2", None));
    assert_eq!(bytes[13], 0x11);
}

#[test]
fn a_local_header_has_a_noop_in_it() {
    assert_eq!(v2_local().len(), 19);
    assert_eq!(v2_local()[..12], V2_SIGNATURE[..]);
    assert_eq!(v2_local()[12..], *b"\x20\x00\x00\x03\x04\x00\x00");
}

#[test]
fn section_2_2_6_tls_is_told_in_order() {
    let bytes = encode_v2(&header("192.0.2.1:1", "192.0.2.2:2", Some(TLS)));
    let expected = b"\x01\x00\x04mqtt\x02\x00\x0cmqtt.example\
        \x20\x00\x35\x07\0\0\0\0\x21\x00\x07TLSv1.3\x22\x00\x08device-1\
        \x23\x00\x18TLS13_AES_128_GCM_SHA256";
    let length = 12 + expected.len();
    assert_eq!(bytes[28..], *expected, "{:02x?}", &bytes[28..]);
    assert_eq!(bytes[14..16], [0, u8::try_from(length).unwrap()]);
}

#[test]
fn section_2_2_6_verify_is_zero_only_for_a_verified_certificate() {
    for (client_cert_presented, resumed, verified, client, verify) in [
        (true, false, true, 7, 0),
        (true, true, true, 5, 0),
        (true, false, false, 7, 1),
        (false, false, false, 1, 1),
        (false, true, true, 1, 1),
    ] {
        let tls = TlsInfo {
            client_cert_presented,
            resumed,
            verified,
            ..TLS
        };
        let ssl = tlvs(tls, |tlvs| {
            tlvs.ssl()
                .map(|ssl| (ssl.client, ssl.verify, ssl.is_verified()))
        });
        assert_eq!(ssl, Some((client, verify, verify == 0)));
        let expected = (verify == 0).then(|| b"device-1".to_vec());
        assert_eq!(
            find_ssl(tls, tlv::SSL_CN),
            expected,
            "the name of a verified certificate alone"
        );
    }
}

#[test]
fn doubtful_names_are_left_out() {
    let long = "x".repeat(256);
    for name in ["", "a\nb", "a\0", "\u{7f}", "\u{85}", &long] {
        assert_eq!(
            find_ssl(
                TlsInfo {
                    client_cn: Some(name),
                    ..TLS
                },
                tlv::SSL_CN
            ),
            None
        );
        assert_eq!(
            find(
                TlsInfo {
                    authority: Some(name),
                    ..TLS
                },
                tlv::AUTHORITY
            ),
            None
        );
        assert_eq!(
            find(
                TlsInfo {
                    alpn: Some(name.as_bytes()),
                    ..TLS
                },
                tlv::ALPN
            ),
            None
        );
        assert_eq!(
            find_ssl(
                TlsInfo {
                    version: name,
                    ..TLS
                },
                tlv::SSL_VERSION
            ),
            None
        );
        assert_eq!(
            find_ssl(
                TlsInfo {
                    cipher: name,
                    ..TLS
                },
                tlv::SSL_CIPHER
            ),
            None
        );
    }
    let name = "Gerät 1";
    let tls = TlsInfo {
        client_cn: Some(name),
        cipher: name,
        ..TLS
    };
    assert_eq!(find_ssl(tls, tlv::SSL_CN).as_deref(), Some(name.as_bytes()));
    assert_eq!(find_ssl(tls, tlv::SSL_CIPHER), None, "US-ASCII alone");
}

#[test]
fn what_does_not_fit_goes_in_the_order_of_least_importance() {
    let long = "x".repeat(255);
    let tls = TlsInfo {
        client_cn: Some(&long),
        authority: Some(&long),
        ..TLS
    };
    assert_eq!(find_ssl(tls, tlv::SSL_CN).as_deref(), Some(long.as_bytes()));
    assert!(find_ssl(tls, tlv::SSL_VERSION).is_some());
    assert_eq!(find(tls, tlv::AUTHORITY), None);
    assert!(find(tls, tlv::ALPN).is_some());
    assert!(find_ssl(tls, tlv::SSL_CIPHER).is_some());

    let tls = TlsInfo {
        authority: Some(&long),
        alpn: Some(long.as_bytes()),
        ..TLS
    };
    assert_eq!(find(tls, tlv::AUTHORITY).as_deref(), Some(long.as_bytes()));
    assert_eq!(find(tls, tlv::ALPN), None);
}
