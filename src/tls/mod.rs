//! TLS towards clients: certificates from files, swapped without a restart, on caller-supplied buffers.
//!
//! Reading order: `store` builds what a handshake needs from the files, `stream` runs one connection, `info` says
//! what was negotiated. Absent on purpose: session logic of MQTT, and any buffer that outlives a read.

mod info;
mod settings;
mod sni;
mod store;
mod stream;

pub use info::TlsFacts;
pub use settings::{CipherOrder, ClientAuth, MinVersion, ServerSettings};
pub use store::{CertificateError, Collector, Prepared, Store};
pub use stream::{Scratch, ServerStream, TlsError};
