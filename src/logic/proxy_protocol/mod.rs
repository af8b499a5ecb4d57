//! Stub.
#![allow(missing_docs)]
use std::net::SocketAddr;
pub struct TlsInfo<'a> {
    pub version: &'a str,
    pub cipher: &'a str,
    pub alpn: Option<&'a [u8]>,
    pub authority: Option<&'a str>,
    pub client_cn: Option<&'a str>,
    pub client_cert_presented: bool,
    pub verified: bool,
}
pub struct Header<'a> {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub tls: Option<TlsInfo<'a>>,
}
impl Header<'_> {
    pub fn encode_v1(&self) -> Vec<u8> {
        vec![]
    }
    pub fn encode_v2(&self) -> Vec<u8> {
        vec![]
    }
}
