//! One broker address and what the operator or DNS says about it.

use std::fmt;
use std::net::SocketAddr;

/// The identity of an endpoint: its socket address. Sorted the same way on every instance, which is what lets
/// instances compute the same order without talking about it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct EndpointId(pub SocketAddr);

impl EndpointId {
    /// The address to dial.
    pub const fn addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<SocketAddr> for EndpointId {
    fn from(addr: SocketAddr) -> Self {
        Self(addr)
    }
}

/// What discovery found: an endpoint that should be in the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub id: EndpointId,
    /// Share of the connections relative to the other endpoints, 1 to 65535.
    pub weight: u16,
    /// SRV priority (RFC 2782): the lowest value that has an eligible endpoint is used. 0 for everything else.
    pub priority: u16,
    /// Connections this endpoint may hold over the whole tier; `None` takes the pool's setting.
    pub max_connections: Option<u32>,
    /// The DNS name that led here, for the `Host` header of http probes and for people. Empty for fixed addresses.
    pub name: String,
}

impl Target {
    /// A target with weight 1, priority 0 and no limit of its own.
    pub fn plain(id: EndpointId) -> Self {
        Self {
            id,
            weight: 1,
            priority: 0,
            max_connections: None,
            name: String::new(),
        }
    }
}
