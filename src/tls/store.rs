//! Certificates and keys from PEM files, as a rustls configuration that can be swapped while connections run.

use super::settings::{CipherOrder, ClientAuth, MinVersion, ServerSettings};
use super::sni::NotingResolver;
use crate::metrics::{self, DescriptorEncoder, Families};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a certificate set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is missing, unreadable or not PEM.
    #[error("{what} {path}: {cause}", path = path.display())]
    File {
        /// "certificate", "private key", "client CA".
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// In words; the PEM reader's error types differ by call.
        cause: String,
    },
    /// The file has no PEM section of the kind.
    #[error("{what} {path}: no PEM section found; it starts with -----BEGIN", path = path.display())]
    Empty {
        /// "certificate", "client CA".
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that the provider does not know, or does not fit the certificate.
    #[error("certificate {} and private key {} do not make a pair", cert.display(), key.display())]
    Pair {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls says.
        source: rustls::Error,
    },
    /// The client CA bundle cannot verify anybody.
    #[error("client CA {}: {cause}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// In words.
        cause: String,
    },
}

/// The TLS identity of one listener. Handshakes take the current one; [`Store::commit`] swaps it.
#[derive(Debug)]
pub struct Store {
    name: String,
    settings: ServerSettings,
    current: ArcSwap<Identity>,
}

/// Files that were read and are good.
#[derive(Debug)]
pub struct Prepared(Identity);

#[derive(Debug)]
struct Identity {
    config: Arc<ServerConfig>,
    /// Seconds since the epoch after which the leaf is refused by clients.
    not_after: i64,
}

impl Store {
    /// Reads the files for the listener `name`.
    pub fn load(name: &str, settings: &ServerSettings) -> Result<Self, CertificateError> {
        let identity = Identity::read(settings)?;
        Ok(Self {
            name: name.to_owned(),
            settings: settings.clone(),
            current: ArcSwap::from_pointee(identity),
        })
    }

    /// Reads the files again; nothing changes before [`Store::commit`].
    pub fn prepare(&self) -> Result<Prepared, CertificateError> {
        Identity::read(&self.settings).map(Prepared)
    }

    /// Takes what was prepared: the next handshake uses it.
    pub fn commit(&self, prepared: Prepared) {
        self.current.store(Arc::new(prepared.0));
    }

    /// What the next handshake uses.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }
}

impl Identity {
    fn read(settings: &ServerSettings) -> Result<Self, CertificateError> {
        let provider = Arc::new(provider());
        let chain = read_certificates("certificate", &settings.cert)?;
        let key = PrivateKeyDer::from_pem_file(&settings.key).map_err(|error| {
            CertificateError::File {
                what: "private key",
                path: settings.key.clone(),
                cause: error.to_string(),
            }
        })?;
        let not_after = not_after(&chain);
        let pair = CertifiedKey::from_der(chain, key, &provider).map_err(|source| {
            CertificateError::Pair {
                cert: settings.cert.clone(),
                key: settings.key.clone(),
                source,
            }
        })?;
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.min_version {
            MinVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            MinVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .expect("the provider has suites for TLS 1.2 and 1.3");
        let builder = match client_verifier(settings, &provider)? {
            None => builder.with_no_client_auth(),
            Some(verifier) => builder.with_client_cert_verifier(verifier),
        };
        let mut config = builder.with_cert_resolver(Arc::new(NotingResolver::new(Arc::new(pair))));
        config.alpn_protocols = settings
            .alpn
            .iter()
            .map(|name| name.clone().into_bytes())
            .collect();
        config.ignore_client_order = settings.cipher_order == CipherOrder::Server;
        // One ticket is what a client needs to resume; rustls' default of two costs a write and 200 bytes more.
        config.send_tls13_tickets = 1;
        config.ticketer =
            aws_lc_rs::Ticketer::new().expect("the system has randomness for ticket keys");
        Ok(Self {
            config: Arc::new(config),
            not_after,
        })
    }
}

/// rustls' suites, those with SHA-256 first; among them AES before `ChaCha20`, as rustls has them.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let name = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite());
    provider
        .cipher_suites
        .sort_by_key(|suite| name(suite).ends_with("SHA384"));
    provider
}

fn read_certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let failed = |error: rustls::pki_types::pem::Error| CertificateError::File {
        what,
        path: path.to_owned(),
        cause: error.to_string(),
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if chain.is_empty() {
        return Err(CertificateError::Empty {
            what,
            path: path.to_owned(),
        });
    }
    Ok(chain)
}

fn client_verifier(
    settings: &ServerSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, CertificateError> {
    let Some(path) = &settings.client_ca else {
        return Ok(None);
    };
    let failed = |cause: String| CertificateError::ClientCa {
        path: path.clone(),
        cause,
    };
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates("client CA", path)? {
        roots
            .add(certificate)
            .map_err(|error| failed(error.to_string()))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.client_auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder
        .build()
        .map(Some)
        .map_err(|error| failed(error.to_string()))
}

/// Expiry of the leaf, seconds since the epoch; 0 when it cannot be read, which alerts as expired.
fn not_after(chain: &[CertificateDer<'_>]) -> i64 {
    chain
        .first()
        .and_then(|der| x509_parser::parse_x509_certificate(der).ok())
        .map_or(0, |(_, certificate)| {
            certificate.validity().not_after.timestamp()
        })
}

/// `tidegate_certificate_expiry_timestamp_seconds{listener}` for all stores.
#[derive(Debug)]
pub struct Collector(pub Vec<Arc<Store>>);

impl metrics::Collector for Collector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        Families::new(encoder).gauge(
            "tidegate_certificate_expiry_timestamp_seconds",
            "When the certificate of the listener expires, seconds since the epoch",
            self.0.iter().map(|store| {
                (
                    [("listener", store.name.as_str())],
                    store.current.load().not_after,
                )
            }),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> ServerSettings {
        ServerSettings {
            cert: dir.join("server.crt"),
            key: dir.join("server.key"),
            client_ca: None,
            client_auth: ClientAuth::Required,
            min_version: MinVersion::Tls12,
            cipher_order: CipherOrder::Server,
            alpn: vec!["mqtt".into()],
        }
    }

    fn write_pair(dir: &Path) {
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        std::fs::write(dir.join("server.crt"), pair.cert.pem()).unwrap();
        std::fs::write(dir.join("server.key"), pair.signing_key.serialize_pem()).unwrap();
    }

    fn scratch_dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tidegate-tls-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn the_cheapest_suites_come_first_and_none_is_lost() {
        let suites = provider().cipher_suites;
        assert_eq!(
            suites.len(),
            aws_lc_rs::default_provider().cipher_suites.len()
        );
        let first = |version| {
            let mut of_version = suites.iter().filter(|suite| suite.version() == version);
            format!("{:?}", of_version.next().unwrap().suite())
        };
        assert_eq!(first(&rustls::version::TLS13), "TLS13_AES_128_GCM_SHA256");
        assert!(first(&rustls::version::TLS12).ends_with("AES_128_GCM_SHA256"));
    }

    #[test]
    fn a_good_pair_loads_and_knows_its_expiry() {
        let dir = scratch_dir("good");
        write_pair(&dir);
        let store = Store::load("mqtts", &settings(&dir)).unwrap();
        assert!(store.current.load().not_after > 1_700_000_000);
        store.commit(store.prepare().unwrap());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_failed_reload_keeps_the_identity() {
        let dir = scratch_dir("reload");
        write_pair(&dir);
        let store = Store::load("mqtts", &settings(&dir)).unwrap();
        let before = store.server_config();
        std::fs::write(dir.join("server.crt"), "no certificate").unwrap();
        assert!(matches!(
            store.prepare(),
            Err(CertificateError::Empty { .. })
        ));
        assert!(Arc::ptr_eq(&before, &store.server_config()));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_foreign_key_and_a_missing_file_are_named() {
        let dir = scratch_dir("bad");
        write_pair(&dir);
        let other = rcgen::KeyPair::generate().unwrap();
        std::fs::write(dir.join("server.key"), other.serialize_pem()).unwrap();
        assert!(matches!(
            Store::load("x", &settings(&dir)),
            Err(CertificateError::Pair { .. })
        ));
        std::fs::remove_file(dir.join("server.key")).unwrap();
        let message = Store::load("x", &settings(&dir)).unwrap_err().to_string();
        assert!(
            message.starts_with("private key") && message.contains("server.key"),
            "{message}"
        );
        std::fs::remove_dir_all(dir).unwrap();
    }
}
