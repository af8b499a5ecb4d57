//! What the configuration says about a pool, without discovery and health, which have their own settings.

use std::time::Duration;

pub use crate::logic::balance::{Affinity, Policy};
pub use crate::logic::outlier::OutlierSettings;

/// `pools.NAME`
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The table's name.
    pub name: String,
    /// `policy`, default least-connections.
    pub policy: Policy,
    /// `affinity`, default none. Only `none` and `source` work without the CONNECT of an `mqtt` listener.
    pub affinity: Affinity,
    /// `proxy_protocol`: the header that endpoints get, default off.
    pub proxy_protocol: ProxyProtocol,
    /// `connect_timeout`: one TCP connect, 10ms to 60s, default 2s.
    pub connect_timeout: Duration,
    /// `connack_timeout`: from the CONNECT sent to the CONNACK, 10ms to 60s, default 5s.
    pub connack_timeout: Duration,
    /// `attempts_max`: endpoints tried for one client, 1 to 16, default 5; the listener's deadline rules too.
    pub attempts_max: u32,
    /// `max_connections`: per endpoint over the whole tier, default none.
    pub max_connections: Option<u32>,
    /// `pending_max`: unanswered CONNECTs that this instance keeps on one endpoint, 1 to 65535, default 64.
    pub pending_max: u32,
    /// `join_rate`: new connections per second and endpoint over the whole tier, 1 to 1000000, default 1000;
    /// 0 switches it off.
    pub join_rate: u32,
    /// `outlier`
    pub outlier: OutlierSettings,
}

impl Settings {
    /// The defaults under a name.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            policy: Policy::LeastConnections,
            affinity: Affinity::None,
            proxy_protocol: ProxyProtocol::Off,
            connect_timeout: Duration::from_secs(2),
            connack_timeout: Duration::from_secs(5),
            attempts_max: 5,
            max_connections: None,
            pending_max: 64,
            join_rate: 1000,
            outlier: OutlierSettings::default(),
        }
    }
}

/// `proxy_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyProtocol {
    /// No header.
    Off,
    /// The text header.
    V1,
    /// The binary header, with TLVs for TLS clients.
    V2,
}
