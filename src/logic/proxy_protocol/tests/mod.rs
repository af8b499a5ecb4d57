//! Byte layouts from the specification and the negative space; `properties.rs` has what holds for any input.

use super::*;

mod properties;

const SIGNATURE: [u8; 12] = [
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
];

fn header(source: &str, destination: &str) -> Header<'static> {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Header {
        source,
        destination,
        tls: None,
    }
}

fn tls() -> TlsInfo<'static> {
    TlsInfo {
        version: "TLSv1.3",
        cipher: "TLS_AES_128_GCM_SHA256",
        alpn: Some(b"mqtt"),
        authority: Some("mqtt.example"),
        client_cn: Some("sensor-7"),
        client_cert_presented: true,
        verified: true,
    }
}

fn with_tls(tls: TlsInfo<'_>) -> Header<'_> {
    Header {
        tls: Some(tls),
        ..header("192.0.2.1:40000", "192.0.2.2:8883")
    }
}

fn whole(bytes: &[u8]) -> Proxied {
    match decode(bytes, usize::MAX) {
        Ok(Decoded::Complete { value, consumed }) if consumed == bytes.len() => value,
        other => panic!("{other:?} for {bytes:?}"),
    }
}

fn ends(source: &str, destination: &str) -> Proxied {
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    Proxied {
        addresses: Some(ProxiedAddresses {
            source,
            destination,
        }),
        ..Proxied::default()
    }
}

/// A v2 header around `body`, with a length that may lie.
fn v2(version_and_command: u8, family: u8, length: u16, body: &[u8]) -> Vec<u8> {
    [
        &SIGNATURE[..],
        &[version_and_command, family],
        &length.to_be_bytes(),
        body,
    ]
    .concat()
}

/// A v2 PROXY header over IPv4 with `tlvs` behind the addresses.
fn with_tlvs(tlvs: &[u8]) -> Vec<u8> {
    let body = [&[192, 0, 2, 1, 192, 0, 2, 2, 0x9c, 0x40, 0x22, 0xb3], tlvs].concat();
    v2(0x21, 0x11, u16::try_from(body.len()).unwrap(), &body)
}

#[test]
fn v1_is_the_line_of_the_specification() {
    for (source, destination, expected) in [
        (
            "255.255.255.255:65535",
            "255.255.255.255:65535",
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ),
        (
            "192.0.2.1:0",
            "192.0.2.2:1",
            "PROXY TCP4 192.0.2.1 192.0.2.2 0 1\r\n",
        ),
        (
            "[2001:db8::1]:5",
            "[2001:db8::2]:6",
            "PROXY TCP6 2001:db8::1 2001:db8::2 5 6\r\n",
        ),
        (
            "[::ffff:192.0.2.1]:5",
            "192.0.2.2:6",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6\r\n",
        ),
        (
            "192.0.2.1:5",
            "[2001:db8::2]:6",
            "PROXY TCP6 ::ffff:c000:201 2001:db8::2 5 6\r\n",
        ),
    ] {
        let bytes = header(source, destination).encode_v1();
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }
    assert_eq!(whole(&v1_unknown()), Proxied::default());
}

#[test]
fn v1_takes_what_the_specification_allows() {
    let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    let padded = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 16));
    assert_eq!(padded.len(), V1_BYTES_MAX);
    for (line, expected) in [
        ("PROXY UNKNOWN\r\n", Proxied::default()),
        ("PROXY UNKNOWN \r\n", Proxied::default()),
        (longest, Proxied::default()),
        (&padded, Proxied::default()),
        (
            "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n",
            ends("0.0.0.0:0", "0.0.0.0:0"),
        ),
        (
            "PROXY TCP6 FFFF::A ::1 7 65535\r\n",
            ends("[ffff::a]:7", "[::1]:65535"),
        ),
        (
            "PROXY TCP6 2001:0db8:0:0:0:0:0:1 :: 7 8\r\n",
            ends("[2001:db8::1]:7", "[::]:8"),
        ),
    ] {
        assert_eq!(whole(line.as_bytes()), expected, "{line:?}");
    }
}

#[test]
fn v1_refuses_every_other_line() {
    for line in ["GET / HTTP/1.1\r\n", "PROXX", "PROXY\tTCP4", "\r\n\r\nQUIT"] {
        assert_eq!(
            decode(line.as_bytes(), 1024),
            Err(ProxyError::Signature),
            "{line:?}"
        );
    }
    for (line, part) in [
        ("PROXY UDP4", "protocol"),
        ("PROXY tcp4 ", "protocol"),
        ("PROXY  TCP4 ", "protocol"),
        ("PROXY \r\n", "protocol"),
        ("PROXY TCP4\r\n", "source address"),
        ("PROXY UNKNOWNS\r\n", "protocol"),
        ("PROXY UNKNOWN\n", "line ending"),
        ("PROXY UNKNOWN\rx", "line ending"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 5\r", "destination port"),
        ("PROXY TCP4 192.0.2.1\r\n", "destination address"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2\r\n", "source port"),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 5 6\r\n", "source address"),
        ("PROXY TCP4 192.0.2 192.0.2.2 5 6\r\n", "source address"),
        ("PROXY TCP4 ::1 ::2 5 6\r\n", "source address"),
        (
            "PROXY TCP4 192.0.2.1  192.0.2.2 5 6\r\n",
            "destination address",
        ),
        ("PROXY TCP6 ::1 192.0.2.2 5 6\r\n", "destination address"),
        ("PROXY TCP6 ::ffff:192.0.2.1 ::2 5 6\r\n", "source address"),
        ("PROXY TCP6 fe80::1%1 ::2 5 6\r\n", "source address"),
        ("PROXY TCP6 ::1::2 ::2 5 6\r\n", "source address"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 05 6\r\n", "source port"),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +5 6\r\n", "source port"),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 65536\r\n",
            "destination port",
        ),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 -1\r\n",
            "destination port",
        ),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6 \r\n",
            "words after the ports",
        ),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 6 7\r\n",
            "words after the ports",
        ),
        ("PROXY TCP4 192.0.2.1\0 192.0.2.2 5 6\r\n", "source address"),
    ] {
        assert_eq!(
            decode(line.as_bytes(), 1024),
            Err(ProxyError::Line { part }),
            "{line:?}"
        );
    }
    let not_utf8 = b"PROXY TCP4 \xff\r\n";
    assert_eq!(
        decode(not_utf8, 1024),
        Err(ProxyError::Line { part: "characters" })
    );
}

#[test]
fn v1_ends_within_107_bytes_or_within_a_lower_limit() {
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
    assert_eq!(long.len(), V1_BYTES_MAX + 1);
    let too_long = Err(ProxyError::TooLong {
        bytes_max: V1_BYTES_MAX,
    });
    for length in [V1_BYTES_MAX - 1, V1_BYTES_MAX, long.len()] {
        assert_eq!(
            decode(&long.as_bytes()[..length], 4096),
            too_long,
            "{length}"
        );
    }
    assert_eq!(
        decode(&v1_unknown(), 14),
        Err(ProxyError::TooLong { bytes_max: 14 })
    );
    assert!(matches!(
        decode(&v1_unknown(), 15),
        Ok(Decoded::Complete { consumed: 15, .. })
    ));
}

#[test]
fn v2_has_the_layout_of_the_specification() {
    let ipv4 = header("192.0.2.1:40000", "192.0.2.2:8883").encode_v2();
    assert_eq!(ipv4, with_tlvs(&[]));
    assert_eq!(ipv4[12..16], [0x21, 0x11, 0, 12]);

    let ipv6 = header("[2001:db8::1]:258", "192.0.2.2:772").encode_v2();
    let mut expected = [&SIGNATURE[..], &[0x21, 0x21, 0, 36]].concat();
    expected.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 2]);
    expected.extend([1, 2, 3, 4]);
    assert_eq!(ipv6, expected);
}

#[test]
fn v2_local_has_a_body_that_emqx_can_swallow() {
    assert_eq!(v2_local(), v2(0x20, 0x00, 3, &[0x04, 0, 0]));
    assert_eq!(whole(&v2_local()), Proxied::default());
}

#[test]
fn v2_tells_the_broker_about_tls() {
    let info = TlsInfo {
        version: "TLSv1.3",
        cipher: "C",
        ..tls()
    };
    let mut expected = vec![0x01, 0, 4];
    expected.extend(b"mqtt");
    expected.extend([0x02, 0, 12]);
    expected.extend(b"mqtt.example");
    expected.extend([0x20, 0, 30, 0x07, 0, 0, 0, 0, 0x21, 0, 7]);
    expected.extend(b"TLSv1.3");
    expected.extend([0x22, 0, 8]);
    expected.extend(b"sensor-7");
    expected.extend([0x23, 0, 1, b'C']);
    assert_eq!(with_tls(info).encode_v2(), with_tlvs(&expected));
}

#[test]
fn only_a_presented_certificate_is_called_verified() {
    for (client_cert_presented, verified, flags, verify) in [
        (true, true, 7, 0),
        (true, false, 7, 1),
        (false, true, 1, 1),
        (false, false, 1, 1),
    ] {
        let info = TlsInfo {
            client_cert_presented,
            verified,
            alpn: None,
            authority: None,
            client_cn: None,
            version: "",
            cipher: "",
        };
        let expected = with_tlvs(&[0x20, 0, 5, flags, 0, 0, 0, verify]);
        assert_eq!(with_tls(info).encode_v2(), expected);
    }
}

#[test]
fn a_name_that_would_close_the_connection_is_left_out() {
    let (longest, longer) = ("n".repeat(255), "n".repeat(256));
    for (name, written) in [
        (longest.as_str(), true),
        (longer.as_str(), false),
        ("", false),
        ("Gerät 7", true),
        ("line\nbreak", false),
        ("nul\0", false),
        ("delete\u{7f}", false),
        ("next line\u{85}", false),
    ] {
        let cn = TlsInfo {
            client_cn: Some(name),
            ..tls()
        };
        let got = whole(&with_tls(cn).encode_v2()).tls.unwrap().client_cn;
        assert_eq!(got.as_deref(), written.then_some(name));
        let authority = TlsInfo {
            authority: Some(name),
            ..tls()
        };
        let got = whole(&with_tls(authority).encode_v2()).authority;
        assert_eq!(got.as_deref(), written.then_some(name));
    }
}

#[test]
fn what_does_not_fit_is_dropped_least_important_first() {
    let long = "n".repeat(255);
    let info = TlsInfo {
        client_cn: Some(&long),
        authority: Some(&long),
        ..tls()
    };
    let bytes = with_tls(info).encode_v2();
    assert!(bytes.len() <= HEADER_BYTES_MAX);
    let value = whole(&bytes);
    let ssl = value.tls.unwrap();
    assert_eq!(ssl.client_cn, Some(long.clone()));
    assert_eq!(
        (value.authority, value.alpn.as_deref()),
        (None, Some(&b"mqtt"[..]))
    );

    let shorter = "n".repeat(190);
    let info = TlsInfo {
        client_cn: Some(&long),
        authority: Some(&shorter),
        ..tls()
    };
    let value = whole(&with_tls(info).encode_v2());
    let ssl = value.tls.unwrap();
    assert_eq!(
        (value.authority, value.alpn.as_deref()),
        (Some(shorter), Some(&b"mqtt"[..]))
    );
    assert_eq!(
        (ssl.version.as_deref(), ssl.cipher),
        (Some("TLSv1.3"), None)
    );
}

#[test]
fn v2_refuses_what_the_specification_does_not_know() {
    let body = [0; 36];
    for (bytes, expected) in [
        (b"\x10\x0c\0\x04MQTT".to_vec(), ProxyError::Signature),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), ProxyError::Signature),
        (v2(0x11, 0x11, 12, &body), ProxyError::Version(1)),
        (v2(0x31, 0x11, 12, &body), ProxyError::Version(3)),
        (v2(0x22, 0x11, 12, &body), ProxyError::Command(2)),
        (v2(0x2f, 0x11, 12, &body), ProxyError::Command(15)),
        (v2(0x21, 0x12, 12, &body), ProxyError::Family(0x12)),
        (v2(0x21, 0x22, 36, &body), ProxyError::Family(0x22)),
        (v2(0x21, 0x31, 216, &body), ProxyError::Family(0x31)),
        (v2(0x21, 0x10, 12, &body), ProxyError::Family(0x10)),
        (v2(0x21, 0x41, 12, &body), ProxyError::Family(0x41)),
        (v2(0x21, 0x11, 11, &body), ProxyError::Addresses),
        (v2(0x21, 0x21, 35, &[]), ProxyError::Addresses),
        (
            v2(0x21, 0x11, 1009, &[]),
            ProxyError::TooLong { bytes_max: 1024 },
        ),
    ] {
        assert_eq!(decode(&bytes, 1024), Err(expected), "{bytes:02x?}");
    }
    let least = decode(&SIGNATURE, 15);
    assert_eq!(least, Err(ProxyError::TooLong { bytes_max: 15 }));
}

#[test]
fn v2_discards_the_body_of_local_and_unspecified_headers() {
    for bytes in [
        v2(0x20, 0x00, 0, &[]),
        v2(0x20, 0x11, 3, &[1, 2, 3]),
        v2(0x20, 0xff, 1, &[1]),
        v2(0x21, 0x00, 5, &[2, 0xff, 0xff, 0, 0]),
    ] {
        assert_eq!(whole(&bytes), Proxied::default(), "{bytes:02x?}");
    }
}

#[test]
fn unknown_tlvs_are_skipped_and_malformed_ones_refused() {
    let skipped = with_tlvs(&[0xea, 0, 2, 1, 2, 0x04, 0, 1, 0, 0x03, 0, 4, 0, 0, 0, 0]);
    assert_eq!(whole(&skipped), ends("192.0.2.1:40000", "192.0.2.2:8883"));
    let cases: &[(&[u8], u8)] = &[
        (&[0x02], 0),
        (&[0x02, 0], 0),
        (&[0x02, 0, 2, b'a'], 0x02),
        (&[0xea, 0xff, 0xff], 0xea),
        (&[0x02, 0, 1, 0xff], 0x02),
        (&[0x02, 0, 1, b'\n'], 0x02),
        (&[0x02, 0, 1, b'a', 0x02, 0, 1, b'b'], 0x02),
        (&[0x01, 0, 1, b'a', 0x01, 0, 1, b'a'], 0x01),
        (&[0x20, 0, 4, 1, 0, 0, 0], 0x20),
        (&[0x20, 0, 6, 1, 0, 0, 0, 0, 0x22], 0),
        (&[0x20, 0, 8, 1, 0, 0, 0, 0, 0x22, 0, 1, b'a'], 0x22),
        (&[0x20, 0, 9, 1, 0, 0, 0, 0, 0x22, 0, 1, 0], 0x22),
        (&[0x20, 0, 10, 1, 0, 0, 0, 0, 0x21, 0, 2, 0xc3, 0xa9], 0x21),
    ];
    for &(tlvs, kind) in cases {
        assert_eq!(
            decode(&with_tlvs(tlvs), 1024),
            Err(ProxyError::Tlv { kind }),
            "{tlvs:02x?}"
        );
    }
}

#[test]
fn verify_zero_without_a_certificate_verifies_nothing() {
    for (flags, verify, verified) in [(1, 0, false), (3, 0, true), (5, 0, true), (7, 1, false)] {
        let value = whole(&with_tlvs(&[0x20, 0, 5, flags, 0, 0, 0, verify]));
        assert_eq!(value.tls.unwrap().verified, verified, "{flags} {verify}");
    }
}
