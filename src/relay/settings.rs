//! What the configuration says about a connection, on the listener that accepts it.

use std::time::Duration;

/// `log.access`: which connections leave a line when they end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Every connection.
    All,
    /// Connections that did not end in order.
    Errors,
    /// None.
    Off,
}

/// Keys of `[[listeners]]` that shape its connections.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `preface_timeout`: from accept to the end of the CONNECT (TLS included), 100ms to 5m, default 10s.
    pub preface_timeout: Duration,
    /// `preface_bytes_max`: largest CONNECT, and CONNACK, 64 B to 1 MiB, default 64KiB.
    pub preface_bytes_max: usize,
    /// `join_timeout`: from the CONNECT to a broker's CONNACK over all attempts, 100ms to 5m, default 20s.
    pub join_timeout: Duration,
    /// `keep_alive_factor`: an MQTT connection is idle after keep-alive times this, 1.0 to 10.0, default 1.5
    /// (MQTT 5.0 §3.1.2.10 gives brokers one and a half).
    pub keep_alive_factor: f64,
    /// `keep_alive_slack`: and this on top, so that the broker, not we, speaks first; 0s to 10m, default 10s.
    pub keep_alive_slack: Duration,
    /// `idle_timeout`: for `tcp`, and for MQTT clients with keep-alive 0; 1s to 30d, default 2h; 0s = never.
    pub idle_timeout: Duration,
    /// `half_closed_timeout`: one side has closed, the other may finish for so long, 100ms to 1h, default 30s.
    pub half_closed_timeout: Duration,
    /// `tcp_keepalive`: idle time before the kernel probes both sides, 1s to 1d, default 60s; 0s = off.
    pub tcp_keepalive: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            preface_timeout: Duration::from_secs(10),
            preface_bytes_max: 64 * 1024,
            join_timeout: Duration::from_secs(20),
            keep_alive_factor: 1.5,
            keep_alive_slack: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(7200),
            half_closed_timeout: Duration::from_secs(30),
            tcp_keepalive: Duration::from_secs(60),
        }
    }
}
