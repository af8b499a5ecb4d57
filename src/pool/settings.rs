//! What the configuration says about a pool, without discovery and health, which have their own settings.

use std::time::Duration;

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

/// `policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// The echo policy: weighted least connections over the whole tier.
    LeastConnections,
    /// Smooth weighted round robin.
    RoundRobin,
    /// The better of two random endpoints.
    RandomTwo,
    /// Weighted rendezvous hash of the client address.
    SourceHash,
}

/// `affinity`
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// Every connection goes where there is most room.
    None,
    /// The same client id goes to the same endpoint while that keeps the load even.
    ClientId,
    /// The same user name.
    Username,
    /// The same source address.
    Source,
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

/// `pools.NAME.outlier`: passive ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierSettings {
    /// `enabled`, default true.
    pub enabled: bool,
    /// `failures`: in a row (no success between) that eject, 1 to 1000, default 5.
    pub failures: u32,
    /// `window`: failures older than this do not count, 1s to 1h, default 30s.
    pub window: Duration,
    /// `ejection`: first ejection; doubles with each one that follows, 100ms to 1h, default 5s.
    pub ejection: Duration,
    /// `ejection_max`: longest ejection, at least `ejection`, 100ms to 1d, default 5m.
    pub ejection_max: Duration,
    /// `ejected_share_max`: share of the endpoints that may be ejected at once, 0.0 to 1.0, default 0.5. The last
    /// eligible endpoint is never ejected.
    pub ejected_share_max: f64,
}

impl Default for OutlierSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            failures: 5,
            window: Duration::from_secs(30),
            ejection: Duration::from_secs(5),
            ejection_max: Duration::from_secs(300),
            ejected_share_max: 0.5,
        }
    }
}
