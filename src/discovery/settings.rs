//! What the configuration says about discovery.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a pool's endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `endpoints = [...]`
    Fixed(Vec<FixedEndpoint>),
    /// `discover = "dns+..."`
    Dns(DnsSource),
}

/// One entry of `endpoints = [...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedEndpoint {
    /// Where it is.
    pub addr: SocketAddr,
    /// Share of the connections, 1 to 65535, default 1.
    pub weight: u16,
    /// Connections it may hold over the whole tier; default: the pool's.
    pub max_connections: Option<u32>,
}

/// A DNS name to look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DnsSource {
    /// `dns+a://name:port` asks for A and AAAA, `dns+aaaa://name:port` for AAAA alone.
    Addresses {
        /// The name, without the trailing dot unless the operator wrote one.
        name: String,
        /// The port of every address.
        port: u16,
        /// Ask for A as well as AAAA.
        ipv4: bool,
        /// Ask for AAAA as well as A.
        ipv6: bool,
    },
    /// `dns+srv://_mqtt._tcp.name`: port, priority and weight from the records.
    Srv {
        /// The full record name.
        name: String,
    },
}

/// As the operator writes it.
impl fmt::Display for DnsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addresses {
                name,
                port,
                ipv4: true,
                ..
            } => write!(f, "dns+a://{name}:{port}"),
            Self::Addresses { name, port, .. } => write!(f, "dns+aaaa://{name}:{port}"),
            Self::Srv { name } => write!(f, "dns+srv://{name}"),
        }
    }
}

/// The `[dns]` table: how names are looked up, the same for brokers and seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsSettings {
    /// `servers`: name servers to ask; empty takes the system's resolv.conf, watched for changes.
    pub servers: Vec<SocketAddr>,
    /// `timeout`: one query, 50ms to 30s, default 2s.
    pub timeout: Duration,
    /// `ttl_floor`: never ask more often, 100ms to 1h, default 1s.
    pub ttl_floor: Duration,
    /// `ttl_ceiling`: never ask less often, 100ms to 1d, default 60s.
    pub ttl_ceiling: Duration,
    /// `retry`: first wait after a failed look-up; doubles up to `ttl_ceiling`, 100ms to 1h, default 1s.
    pub retry: Duration,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(2),
            ttl_floor: Duration::from_secs(1),
            ttl_ceiling: Duration::from_secs(60),
            retry: Duration::from_secs(1),
        }
    }
}
