//! What the configuration says about TLS.

use std::path::PathBuf;

/// `listeners.tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// `cert`: PEM file, leaf first. Relative paths are relative to the configuration file; resolved by `config`.
    pub cert: PathBuf,
    /// `key`: PEM file, PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
    /// `client_ca`: PEM bundle; clients' certificates are verified against it.
    pub client_ca: Option<PathBuf>,
    /// `client_auth`: `required` (default with `client_ca`) or `optional`.
    pub client_auth: ClientAuth,
    /// `min_version`: "1.2" (default) or "1.3".
    pub min_version: MinVersion,
    /// `cipher_order`: whose order decides on the cipher suite, `server` (default) or `client`.
    pub cipher_order: CipherOrder,
    /// `alpn`: protocols offered, default `["mqtt"]`. A client without ALPN is served; one that offers only others is
    /// refused, as RFC 7301 §3.2 demands. An empty list serves everybody.
    pub alpn: Vec<String>,
}

/// `listeners.tls.client_auth`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No client certificate, no connection.
    Required,
    /// A certificate that is sent must verify; none is fine.
    Optional,
}

/// `listeners.tls.cipher_order`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CipherOrder {
    /// The cheapest first: AES-128-GCM with SHA-256, which processors have instructions for. Most clients ask for AES-256 and
    /// SHA-384 first, without needing them, and SHA-384 alone is an eighth of a handshake's CPU.
    Server,
    /// As the client asks: for devices without AES instructions, which put `ChaCha20` first.
    Client,
}

/// `listeners.tls.min_version`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}
