//! A TLS client without buffers of its own: rustls' unbuffered API on buffers of the loop.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
    UnbufferedClientConnection,
};
use rustls::crypto::{self, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::unbuffered::ConnectionState;
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, NamedGroup, SignatureScheme};
use std::sync::{Arc, Mutex, PoisonError};

/// TLS 1.3 with one suite and one group, so that every contender computes the same: those that tidegate takes from clients
/// that have them, and that an expert sets for the others, because SHA-384 makes up an eighth of a handshake. Certificates are not looked at: that is this client's work, and it must not be the bottleneck.
pub(crate) fn config(resume: bool) -> anyhow::Result<Arc<ClientConfig>> {
    let provider = crypto::CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    config.resumption = if resume {
        Resumption::store(Arc::new(Tickets::default()))
    } else {
        Resumption::disabled()
    };
    Ok(Arc::new(config))
}

/// Every ticket that came, used once. rustls' own store keeps eight for one server, fewer than handshakes go on at once.
#[derive(Debug, Default)]
struct Tickets(Mutex<Vec<Tls13ClientSessionValue>>);

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _: ServerName<'static>, _: NamedGroup) {}

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

pub(crate) struct Tls {
    tls: UnbufferedClientConnection,
    /// Bytes that are not a whole record yet, or a handshake message that is not.
    partial: Vec<u8>,
}

/// What a pass over received bytes led to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    pub(crate) established: bool,
    pub(crate) closed: bool,
}

impl Tls {
    pub(crate) fn new(config: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let name = ServerName::try_from("bench.example")?;
        Ok(Self {
            tls: UnbufferedClientConnection::new(Arc::clone(config), name)?,
            partial: Vec::new(),
        })
    }

    pub(crate) fn resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Bytes that have to stand in front of what is received next.
    pub(crate) fn partial(&mut self) -> &mut Vec<u8> {
        &mut self.partial
    }

    /// Feeds bytes, `partial` first; decrypted ones are appended to `plain`, what has to be sent to `out`.
    pub(crate) fn feed(
        &mut self,
        wire: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> anyhow::Result<Progress> {
        let mut progress = Progress::default();
        let mut at = 0;
        loop {
            let status = self.tls.process_tls_records(&mut wire[at..]);
            let mut discard = status.discard;
            let mut wants_more = false;
            match status.state? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record?;
                        discard += record.discard;
                        plain.extend_from_slice(record.payload);
                    }
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = out.len();
                    out.resize(start + 4096, 0);
                    let length = data.encode(&mut out[start..])?;
                    out.truncate(start + length);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                ConnectionState::WriteTraffic(_) => {
                    progress.established = true;
                    wants_more = true;
                }
                ConnectionState::PeerClosed | ConnectionState::Closed => {
                    progress.closed = true;
                    wants_more = true;
                }
                _ => wants_more = true,
            }
            at += discard;
            if wants_more {
                break;
            }
        }
        self.partial.clear();
        self.partial.extend_from_slice(&wire[at..]);
        Ok(progress)
    }

    /// Appends `data`, sealed, to `out`.
    pub(crate) fn seal(&mut self, data: &[u8], out: &mut Vec<u8>) -> anyhow::Result<()> {
        loop {
            let status = self.tls.process_tls_records(&mut self.partial);
            anyhow::ensure!(status.discard == 0, "an unread record");
            match status.state? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let start = out.len();
                    // 16 KiB and 22 bytes around them per record.
                    out.resize(start + data.len() + (data.len() / 16384 + 1) * 64, 0);
                    let length = traffic.encrypt(data, &mut out[start..])?;
                    out.truncate(start + length);
                    return Ok(());
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    let start = out.len();
                    out.resize(start + 4096, 0);
                    let length = data.encode(&mut out[start..])?;
                    out.truncate(start + length);
                }
                ConnectionState::TransmitTlsData(data) => data.done(),
                _ => anyhow::bail!("not ready to send"),
            }
        }
    }

    /// Appends a `close_notify` to `out`.
    pub(crate) fn farewell(&mut self, out: &mut Vec<u8>) {
        let state = self.tls.process_tls_records(&mut self.partial).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state {
            let start = out.len();
            out.resize(start + 64, 0);
            let length = traffic.queue_close_notify(&mut out[start..]).unwrap_or(0);
            out.truncate(start + length);
        }
    }
}
