//! What a handshake negotiated, in the words of the PROXY protocol.

use rustls::{CipherSuite, CommonState, ProtocolVersion};

/// Facts of one TLS connection that go into the PROXY header and the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// "TLSv1.2" or "TLSv1.3", as the PROXY specification writes it.
    pub version: &'static str,
    /// OpenSSL's name of the cipher suite, as the PROXY specification's example writes it.
    pub cipher: &'static str,
    /// The protocol that ALPN settled on.
    pub alpn: Option<Box<[u8]>>,
    /// The server name that the client asked for.
    pub server_name: Option<Box<str>>,
    /// The client sent a certificate; rustls has verified it, or the handshake had failed.
    pub client_certificate: bool,
    /// The common name of that certificate's subject.
    pub client_common_name: Option<Box<str>>,
    /// The handshake resumed an earlier session.
    pub resumed: bool,
}

impl TlsFacts {
    pub(super) fn read(state: &CommonState, server_name: Option<Box<str>>) -> Self {
        let leaf = state.peer_certificates().and_then(<[_]>::first);
        Self {
            version: match state.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            cipher: state
                .negotiated_cipher_suite()
                .map_or("", |suite| openssl_name(suite.suite())),
            alpn: state.alpn_protocol().map(Box::from),
            server_name,
            client_certificate: leaf.is_some(),
            client_common_name: leaf.and_then(|der| common_name(der)),
            resumed: state.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
        }
    }
}

/// The nine suites of rustls' aws-lc-rs provider.
const fn openssl_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => "ECDHE-ECDSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => "ECDHE-ECDSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
            "ECDHE-ECDSA-CHACHA20-POLY1305"
        }
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => "ECDHE-RSA-AES256-GCM-SHA384",
        CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => "ECDHE-RSA-AES128-GCM-SHA256",
        CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => "ECDHE-RSA-CHACHA20-POLY1305",
        _ => "unknown",
    }
}

/// The first common name of the subject, when it is a string at all.
fn common_name(der: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_of_the_provider_has_an_openssl_name() {
        for suite in rustls::crypto::aws_lc_rs::DEFAULT_CIPHER_SUITES {
            assert_ne!(openssl_name(suite.suite()), "unknown", "{suite:?}");
        }
    }

    #[test]
    fn common_name_of_a_certificate_is_found_and_garbage_has_none() {
        let mut params = rcgen::CertificateParams::new(vec!["device.example".to_owned()]).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "device-17");
        let key = rcgen::KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap();
        assert_eq!(common_name(der.der()).as_deref(), Some("device-17"));
        assert_eq!(common_name(b"\x30\x03garbage"), None);
    }
}
