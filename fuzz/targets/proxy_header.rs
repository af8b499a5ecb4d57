//! PROXY protocol headers: what is decoded is sent again, and the new header says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::net::SocketAddr;
use tidegate_fuzz::logic::proxy_protocol::{
    Decoded, HEADER_BYTES_MAX, Header, Proxied, decode, encode_v1, encode_v2, tlv,
};
use tidegate_fuzz::logic::proxy_protocol::{TlsInfo, Tlvs};
use tidegate_fuzz::{BYTES_MAX, check_prefixes};

fuzz_target!(|bytes: &[u8]| {
    check_prefixes(bytes, |prefix| decode(prefix, BYTES_MAX));
    if let Ok(Decoded::Complete { value, consumed }) = decode(bytes, BYTES_MAX) {
        let Some((source, destination)) = value.addresses else {
            assert_eq!(value.tlvs, Tlvs::EMPTY);
            return;
        };
        check_identity(source, destination, &value, &bytes[..consumed]);
        check_tls(source, destination, &value);
    }
});

/// Addresses and TLVs make the header again, as long as the sender did not write IPv4 in IPv6.
fn check_identity(
    source: SocketAddr,
    destination: SocketAddr,
    proxied: &Proxied<'_>,
    packet: &[u8],
) {
    let header = Header {
        source,
        destination,
        tls: None,
    };
    let canonical = |addr: SocketAddr| SocketAddr::new(addr.ip().to_canonical(), addr.port());
    let both = (canonical(source), canonical(destination));
    let one_form = both == (source, destination) || both.0.is_ipv4() != both.1.is_ipv4();
    let plain = encode_v2(&header);
    if one_form && packet.starts_with(b"\r\n") {
        assert_eq!(plain[..14], packet[..14]);
        assert_eq!(
            [&plain[16..], proxied.tlvs.as_bytes()].concat(),
            packet[16..]
        );
    }
    for again in [encode_v1(&header), plain] {
        let decoded = decode(&again, BYTES_MAX)
            .expect("we wrote it")
            .value()
            .expect("complete");
        let (from, to) = decoded.addresses.expect("a header with addresses");
        assert_eq!((canonical(from), canonical(to)), both);
    }
}

/// Names out of the header go into ours, or are left out; never anything that a broker would choke on.
fn check_tls(source: SocketAddr, destination: SocketAddr, proxied: &Proxied<'_>) {
    let Some(ssl) = proxied.tlvs.ssl() else {
        return;
    };
    let text = |tlvs: Tlvs<'_>, kind| {
        let value = tlvs.find(kind).unwrap_or_default();
        String::from_utf8_lossy(value).into_owned()
    };
    let (version, cipher) = (
        text(ssl.tlvs, tlv::SSL_VERSION),
        text(ssl.tlvs, tlv::SSL_CIPHER),
    );
    let (authority, cn) = (
        text(proxied.tlvs, tlv::AUTHORITY),
        text(ssl.tlvs, tlv::SSL_CN),
    );
    let tls = TlsInfo {
        version: &version,
        cipher: &cipher,
        alpn: proxied.tlvs.find(tlv::ALPN),
        authority: Some(&authority),
        client_cn: Some(&cn),
        client_cert_presented: ssl.client & tlv::CLIENT_CERT_SESS != 0,
        resumed: ssl.client & tlv::CLIENT_CERT_CONN == 0,
        verified: ssl.verify == 0,
    };
    let bytes = encode_v2(&Header {
        source,
        destination,
        tls: Some(tls),
    });
    assert!(bytes.len() <= HEADER_BYTES_MAX);
    let decoded = decode(&bytes, HEADER_BYTES_MAX)
        .expect("we wrote it")
        .value()
        .expect("complete");
    let ours = decoded.tlvs.ssl().expect("written for every TLS client");
    assert_eq!(
        ours.is_verified(),
        tls.client_cert_presented && tls.verified
    );
    for (kind, value) in decoded.tlvs.iter().chain(ours.tlvs.iter()) {
        let name = || std::str::from_utf8(value).expect("names are UTF-8");
        assert!(kind == tlv::SSL || !name().contains(char::is_control));
    }
}
