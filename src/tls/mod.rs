//! TLS towards clients: certificates from files, swapped without a restart, on caller-supplied buffers.

mod settings;

pub use settings::{ClientAuth, MinVersion, ServerSettings};
