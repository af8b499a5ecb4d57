//! What the configuration says about a listener.

use crate::relay;
use crate::tls;
use std::net::SocketAddr;

/// `[[listeners]]`
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `name`, unique.
    pub name: String,
    /// `bind`: IPv4 or IPv6 address and port. `[::]` takes IPv6 alone, so that it can stand beside `0.0.0.0`.
    pub bind: SocketAddr,
    /// `protocol`
    pub protocol: Protocol,
    /// `pool`: a key of `[pools]`.
    pub pool: String,
    /// `tls`
    pub tls: Option<tls::ServerSettings>,
    /// `backlog`: connections that wait for accept, 1 to 65535, default 4096 (the kernel caps it at somaxconn).
    pub backlog: u32,
    /// `max_connections`: of this listener on this instance, default none.
    pub max_connections: Option<u32>,
    /// `max_connections_per_address`: of one client address on this listener and instance, default none.
    pub max_connections_per_address: Option<u32>,
    /// Time-outs and caps of its connections.
    pub relay: relay::Settings,
}

/// `listeners.protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// The CONNECT is read before a broker is picked.
    Mqtt,
    /// The same inside WebSocket frames; a later release.
    MqttWs,
    /// Bytes, no parsing.
    Tcp,
}

/// `[limits]`: of the whole instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `max_connections`: 0 (default) takes what the file descriptor limit allows: (nofile - 256) / 2.
    pub max_connections: u32,
    /// `handshakes_max`: TLS handshakes under way per worker, 1 to 100000, default 256; the rest wait.
    pub handshakes_max: u32,
    /// `buffers_max`: bytes kept for peers that do not take them, over all connections, 64 KiB to 64 GiB, default 256MiB.
    pub buffers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 0,
            handshakes_max: 256,
            buffers_max: 256 << 20,
        }
    }
}
