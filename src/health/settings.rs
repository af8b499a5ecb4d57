//! What the configuration says about health checks.

use std::time::Duration;

/// `pools.NAME.health`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `probe`: what is asked, default tcp.
    pub probe: Probe,
    /// `interval`: between two probes of a settled endpoint, plus or minus 10 % jitter; 50ms to 1h, default 2s.
    pub interval: Duration,
    /// `fast_interval`: between two probes while the verdict is changing; 50ms to `interval`, default interval / 4, at least 50ms.
    pub fast_interval: Duration,
    /// `timeout`: one probe as a whole, 10ms to 60s, default 1s.
    pub timeout: Duration,
    /// `rise`: good probes in a row that make a down endpoint up, 1 to 100, default 2. The first verdict of a new
    /// endpoint needs one probe.
    pub rise: u32,
    /// `fall`: bad probes in a row that make an up endpoint down, 1 to 100, default 3.
    pub fall: u32,
    /// `shared`: each endpoint is probed by `probers` members only, the others rely on them; default false.
    pub shared: bool,
    /// `probers`: how many members probe an endpoint when `shared`, 1 to 100, default 3.
    pub probers: u32,
    /// Taken from the pool's `proxy_protocol`: the header that every connection to an endpoint starts with.
    pub proxy_header: ProxyHeader,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            probe: Probe::Tcp,
            interval: Duration::from_secs(2),
            fast_interval: Duration::from_millis(500),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            shared: false,
            probers: 3,
            proxy_header: ProxyHeader::None,
        }
    }
}

/// What a probe sends before anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Nothing.
    #[default]
    None,
    /// A v1 header with the probe's own addresses (v1 knows no LOCAL; `UNKNOWN` is refused by some parsers).
    V1,
    /// A v2 LOCAL header with a NOOP TLV: with length 0 EMQX 5.8.9 swallows the bytes after it.
    V2,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// The TCP connect succeeds. With a PROXY header: the header is sent and the connection closed.
    Tcp,
    /// An HTTP GET; never behind a PROXY header unless `port` is the pool's own.
    Http {
        /// `path`, default `/api/v5/load_rebalance/availability_check`.
        path: String,
        /// `port`, default 18083; 0 in the file, `None` here = the endpoint's own port.
        port: Option<u16>,
        /// `expected_status`, default 200.
        expected_status: u16,
        /// `drain_status`: read as drain, default 503. 0 in the file, `None` here = every unexpected status is down.
        drain_status: Option<u16>,
        /// `fallback_path`: asked when `path` gives 404, default `/status` (there 200 = up, everything else = down).
        fallback_path: Option<String>,
    },
    /// CONNECT, CONNACK, DISCONNECT.
    Mqtt {
        /// `version`: 4 (3.1.1) or 5, default 5.
        version: u8,
        /// `client_id`, default `tidegate-probe-<instance>`; the config layer fills the default in.
        client_id: String,
        /// `username`
        username: Option<String>,
        /// `password`, `password_file` or `${ENV}`; never printed.
        password: Option<crate::logic::secret::Secret>,
    },
}
