//! What the configuration says about the cluster.

use crate::logic::secret::Secret;
use std::net::SocketAddr;
use std::time::Duration;

/// `[cluster]`
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `id`: members of another id are not heard, default "tidegate".
    pub id: String,
    /// `bind`: UDP.
    pub bind: SocketAddr,
    /// `advertise`: what peers send to; default `bind`, or the local address that routes to the first seed.
    pub advertise: Option<SocketAddr>,
    /// `seeds`
    pub seeds: Vec<Seed>,
    /// `keys_file`: the keys as base64, first seals, all open. Never empty.
    pub keys: Vec<Secret>,
    /// `keys_file` itself, for reload.
    pub keys_file: std::path::PathBuf,
    /// `interval`: gossip rounds, 20ms to 10s, default 100ms.
    pub interval: Duration,
}

/// One entry of `cluster.seeds`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// `host:port`, an address or a name of A/AAAA records.
    Host {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// `dns+srv://_gossip._udp.name`
    Srv(String),
}
