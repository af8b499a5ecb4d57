//! The whole configuration after validation: the modules' own settings side by side.

pub use crate::relay::AccessLog;
use crate::{admin, cluster, discovery, health, listener, pool};
use std::time::Duration;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `[instance]`
    pub instance: InstanceSettings,
    /// `[admin]`
    pub admin: admin::Settings,
    /// `[log]`
    pub log: LogSettings,
    /// `[limits]`
    pub limits: listener::Limits,
    /// `[drain]`
    pub drain: DrainSettings,
    /// `[dns]`
    pub dns: discovery::DnsSettings,
    /// `[cluster]`; `None` = a lone instance.
    pub cluster: Option<cluster::Settings>,
    /// `[[listeners]]`, at least one.
    pub listeners: Vec<listener::Settings>,
    /// `[pools]`, sorted by name, at least one.
    pub pools: Vec<PoolConfig>,
}

/// `[instance]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSettings {
    /// `name`, default the host name.
    pub name: String,
    /// `workers`: data path threads, 0 (default) = one per core.
    pub workers: usize,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `level`: a tracing filter, default "info".
    pub level: String,
    /// `format`: "text" (default) or "json".
    pub format: LogFormat,
    /// `access`: one line per connection: "all" (default), "errors" (those that did not end in order), "off".
    pub access: AccessLog,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

/// `[drain]`: what SIGTERM does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainSettings {
    /// `delay`: readiness says 503 for so long before listeners close, 0s to 10m, default 2s.
    pub delay: Duration,
    /// `grace`: relays may end by themselves for so long after that, 0s to 1d, default 5s.
    pub grace: Duration,
    /// `rate`: connections closed per second after that, 1 to 1000000, default 500.
    pub rate: u32,
    /// `timeout`: from the signal to the exit, whatever is left, 1s to 1d, default 60s.
    pub timeout: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(2),
            grace: Duration::from_secs(5),
            rate: 500,
            timeout: Duration::from_secs(60),
        }
    }
}

/// `[pools.NAME]`
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// Policy, limits, time-outs.
    pub pool: pool::Settings,
    /// `discover` or `endpoints`.
    pub source: discovery::Source,
    /// `health`
    pub health: health::Settings,
}
