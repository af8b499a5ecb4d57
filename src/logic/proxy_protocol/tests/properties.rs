//! Identities that hold for any input.

use super::super::address::Pair;
use super::*;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn any_ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        // Long runs of zeros take the abbreviations of the text form.
        (any::<u16>(), any::<u16>())
            .prop_map(|(high, low)| { IpAddr::V6(Ipv6Addr::new(high, 0, 0, low, 0, 0, 0, low)) }),
    ]
}

fn any_addr() -> impl Strategy<Value = SocketAddr> {
    (any_ip(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

/// The facts of a TLS session, owned; values that always fit, so that nothing is dropped.
fn any_tls() -> impl Strategy<Value = Proxied> {
    (
        proptest::option::of(proptest::collection::vec(any::<u8>(), 1..40)),
        proptest::option::of("[a-z0-9.-]{1,60}"),
        proptest::option::of("[^\\p{Cc}]{1,40}"),
        any::<(bool, bool)>(),
        "[ -~]{1,10}",
        "[ -~]{1,40}",
    )
        .prop_map(
            |(alpn, authority, client_cn, (presented, verified), version, cipher)| {
                let tls = ProxiedTls {
                    over_tls: true,
                    cert_on_connection: presented,
                    cert_in_session: presented,
                    verified: presented && verified,
                    version: Some(version),
                    client_cn,
                    cipher: Some(cipher),
                };
                Proxied {
                    addresses: None,
                    alpn,
                    authority,
                    tls: Some(tls),
                }
            },
        )
}

fn any_proxied() -> impl Strategy<Value = Proxied> {
    (
        any_addr(),
        any_addr(),
        prop_oneof![Just(Proxied::default()), any_tls()],
    )
        .prop_map(|(source, destination, facts)| {
            let addresses = Some(ProxiedAddresses {
                source,
                destination,
            });
            Proxied { addresses, ..facts }
        })
}

fn header_of(value: &Proxied) -> Header<'_> {
    let ProxiedAddresses {
        source,
        destination,
    } = value.addresses.unwrap();
    let tls = value.tls.as_ref().map(|tls| TlsInfo {
        version: tls.version.as_deref().unwrap(),
        cipher: tls.cipher.as_deref().unwrap(),
        alpn: value.alpn.as_deref(),
        authority: value.authority.as_deref(),
        client_cn: tls.client_cn.as_deref(),
        client_cert_presented: tls.cert_in_session,
        verified: tls.verified,
    });
    Header {
        source,
        destination,
        tls,
    }
}

/// The addresses in the family that they are written in.
fn as_written(value: &Proxied) -> ProxiedAddresses {
    let ProxiedAddresses {
        source,
        destination,
    } = value.addresses.unwrap();
    let (source, destination) = match Pair::new(source, destination) {
        Pair::V4(source, destination) => (source.into(), destination.into()),
        Pair::V6(source, destination) => (source.into(), destination.into()),
    };
    ProxiedAddresses {
        source,
        destination,
    }
}

proptest! {
    #[test]
    fn v1_round_trips(value in any_proxied(), rest in any::<Vec<u8>>()) {
        let bytes = header_of(&value).encode_v1();
        prop_assert!(bytes.len() <= V1_BYTES_MAX);
        let expected = Proxied { addresses: Some(as_written(&value)), ..Proxied::default() };
        let complete = Decoded::Complete { value: expected, consumed: bytes.len() };
        prop_assert_eq!(decode(&[bytes, rest].concat(), V1_BYTES_MAX), Ok(complete));
    }

    #[test]
    fn v2_round_trips(value in any_proxied(), rest in any::<Vec<u8>>()) {
        let bytes = header_of(&value).encode_v2();
        prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
        let expected = Proxied { addresses: Some(as_written(&value)), ..value };
        let complete = Decoded::Complete { value: expected, consumed: bytes.len() };
        prop_assert_eq!(decode(&[bytes, rest].concat(), HEADER_BYTES_MAX), Ok(complete));
    }

    #[test]
    fn every_prefix_needs_no_more_than_the_rest(value in any_proxied()) {
        let header = header_of(&value);
        for bytes in [header.encode_v1(), header.encode_v2(), v1_unknown(), v2_local()] {
            for length in 0..bytes.len() {
                match decode(&bytes[..length], bytes.len()) {
                    Ok(Decoded::Incomplete { need }) => {
                        prop_assert!((1..=bytes.len() - length).contains(&need), "{length} {need}");
                    }
                    other => prop_assert!(false, "{length}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn no_facts_of_a_handshake_make_a_header_that_is_too_long_or_invalid(
        client_cn in ".{0,300}", authority in ".{0,300}", alpn in any::<Vec<u8>>(), word in ".{0,300}",
    ) {
        let info = TlsInfo {
            version: &word,
            cipher: &word,
            alpn: Some(&alpn),
            authority: Some(&authority),
            client_cn: Some(&client_cn),
            ..tls()
        };
        let bytes = with_tls(info).encode_v2();
        prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
        whole(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic_and_never_consume_more_than_there_is(
        start in prop_oneof![
            Just(Vec::new()),
            Just(SIGNATURE.to_vec()),
            Just([&SIGNATURE[..], &[0x21, 0x11, 0]].concat()),
            Just([&SIGNATURE[..], &[0x21, 0x21, 0]].concat()),
            Just(b"PROXY TCP4 ".to_vec()),
            Just(b"PROXY UNKNOWN".to_vec()),
        ],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
        bytes_max in 0_usize..400,
    ) {
        let bytes = [start, rest].concat();
        match decode(&bytes, bytes_max) {
            Ok(Decoded::Complete { value, consumed }) => {
                prop_assert!(consumed <= bytes.len().min(bytes_max));
                // What follows the header changes nothing.
                prop_assert_eq!(
                    decode(&bytes[..consumed], bytes_max),
                    Ok(Decoded::Complete { value, consumed })
                );
            }
            Ok(Decoded::Incomplete { need }) => {
                prop_assert!(need >= 1 && bytes.len() + need <= bytes_max.max(SHORTEST_BYTES));
            }
            Err(_) => {}
        }
    }
}
