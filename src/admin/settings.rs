//! What the configuration says about the admin API.

use crate::logic::secret::Secret;
use std::net::SocketAddr;

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `bind`, default 127.0.0.1:9090.
    pub bind: SocketAddr,
    /// `token_file`: bearer token for everything but /healthz and /readyz; required when `bind` is not loopback.
    pub token: Option<Secret>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bind: SocketAddr::from(([127, 0, 0, 1], 9090)),
            token: None,
        }
    }
}
