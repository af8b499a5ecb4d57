//! Identities over generated headers: splits, decoding what was encoded, arbitrary bytes.

use super::*;
use proptest::prelude::*;

fn address() -> impl Strategy<Value = SocketAddr> {
    let ip = prop_oneof![
        any::<Ipv4Addr>().prop_map(IpAddr::V4),
        any::<Ipv6Addr>().prop_map(IpAddr::V6),
        any::<Ipv4Addr>().prop_map(|ip| IpAddr::V6(ip.to_ipv6_mapped())),
        // The document knows no dots in an IPv6 address.
        any::<u32>().prop_map(|ip| IpAddr::V6(Ipv6Addr::from(u128::from(ip)))),
    ];
    (ip, any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

const STARTS: &[&[u8]] = &[b"", b"PROXY ", b"PROXY TCP4 ", V2_SIGNATURE];

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(any::<char>(), 0..300).prop_map(String::from_iter)
}

#[derive(Clone, Debug)]
struct OwnedTls {
    names: [String; 4],
    alpn: Vec<u8>,
    present: [bool; 6],
}

impl OwnedTls {
    fn borrowed(&self) -> TlsInfo<'_> {
        let [version, cipher, authority, client_cn] = &self.names;
        let [
            client_cert_presented,
            resumed,
            verified,
            alpn,
            has_authority,
            has_cn,
        ] = self.present;
        TlsInfo {
            version,
            cipher,
            alpn: alpn.then_some(&self.alpn),
            authority: has_authority.then_some(authority),
            client_cn: has_cn.then_some(client_cn),
            client_cert_presented,
            resumed,
            verified,
        }
    }
}

fn tls() -> impl Strategy<Value = OwnedTls> {
    let names = [name(), name(), name(), name()];
    let alpn = proptest::collection::vec(any::<u8>(), 0..300);
    (names, alpn, any::<[bool; 6]>()).prop_map(|(names, alpn, present)| OwnedTls {
        names,
        alpn,
        present,
    })
}

/// No prefix is an error or complete, and none asks for more than is missing.
fn check_prefixes(bytes: &[u8]) {
    for end in 0..bytes.len() {
        match decode(&bytes[..end], HEADER_BYTES_MAX) {
            Ok(Decoded::Incomplete { need }) => {
                assert!((1..=bytes.len() - end).contains(&need), "{need} at {end}");
            }
            other => panic!("{other:?} at {end} of {}", bytes.escape_ascii()),
        }
    }
}

/// What is decoded from both versions: canonical IPv4 pairs, else IPv6.
fn expected(source: SocketAddr, destination: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (from, to) = match Addresses::of(source, destination) {
        Addresses::V4(from, to) => (IpAddr::V4(from), IpAddr::V4(to)),
        Addresses::V6(from, to) => (IpAddr::V6(from), IpAddr::V6(to)),
    };
    (
        SocketAddr::new(from, source.port()),
        SocketAddr::new(to, destination.port()),
    )
}

proptest! {
    #[test]
    fn every_header_decodes_to_what_was_encoded(
        source in address(),
        destination in address(),
        tls in proptest::option::of(tls()),
    ) {
        let header = Header { source, destination, tls: tls.as_ref().map(OwnedTls::borrowed) };
        for bytes in [encode_v1(&header), encode_v2(&header)] {
            prop_assert!(bytes.len() <= HEADER_BYTES_MAX);
            let stream = [&bytes[..], b"\x10\x0c"].concat();
            let decoded = decode(&stream, HEADER_BYTES_MAX).unwrap();
            let Decoded::Complete { value, consumed } = decoded else {
                panic!("{decoded:?}");
            };
            prop_assert_eq!(consumed, bytes.len());
            prop_assert_eq!(value.addresses, Some(expected(source, destination)));
            prop_assert!(!(bytes.starts_with(b"PROXY TCP6") && bytes.contains(&b'.')));
            check_prefixes(&bytes);
        }
    }

    #[test]
    fn every_value_in_a_header_is_the_one_given_and_has_no_control_character(tls in tls()) {
        let tls = tls.borrowed();
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        let bytes = encode_v2(&Header { source: address, destination: address, tls: Some(tls) });
        let proxied = decode(&bytes, HEADER_BYTES_MAX).unwrap().value().unwrap();
        let ssl = proxied.tlvs.ssl().unwrap();
        let verified = tls.client_cert_presented && tls.verified;
        prop_assert_eq!(ssl.is_verified(), verified);
        for (kind, value) in proxied.tlvs.iter().chain(ssl.tlvs.iter()) {
            let given = match kind {
                tlv::ALPN => tls.alpn,
                tlv::AUTHORITY => tls.authority.map(str::as_bytes),
                tlv::SSL => continue,
                tlv::SSL_VERSION => Some(tls.version.as_bytes()),
                tlv::SSL_CN => tls.client_cn.filter(|_| verified).map(str::as_bytes),
                tlv::SSL_CIPHER => Some(tls.cipher.as_bytes()),
                other => panic!("{other:#x}"),
            };
            prop_assert_eq!(given, Some(value));
            prop_assert!(!std::str::from_utf8(value).unwrap().contains(char::is_control));
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        start in proptest::sample::select(STARTS),
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [start, &rest].concat();
        let whole = decode(&bytes, HEADER_BYTES_MAX);
        for end in 0..=bytes.len() {
            match decode(&bytes[..end], HEADER_BYTES_MAX) {
                Err(error) => prop_assert_eq!(whole, Err(error)),
                Ok(Decoded::Complete { value, consumed }) => {
                    prop_assert!(consumed <= end);
                    prop_assert_eq!(whole, Ok(Decoded::Complete { value, consumed }));
                }
                Ok(Decoded::Incomplete { need }) => prop_assert!(need > 0),
            }
        }
    }
}
