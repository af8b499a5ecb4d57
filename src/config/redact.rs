//! The effective configuration as JSON, in the file's words and units, without secrets.
//!
//! Every key that the file can have is there, defaults included, `null` where nothing is set. A test compares the words
//! with those that the code asks the file for.

use super::settings::{AccessLog, Config, LogFormat, PoolConfig};
use super::units::{format_duration, format_size};
use crate::discovery::{DnsSource, Source};
use crate::health::Probe;
use crate::listener::Settings as Listener;
use crate::logic::secret::Secret;
use crate::pool::OutlierSettings;
use crate::tls::{CipherOrder, ClientAuth, MinVersion, ServerSettings};
use crate::{cluster, health};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What stands for a secret.
const REDACTED: &str = "[redacted]";

impl Config {
    /// Every effective value in the words of the configuration file; secrets as `[redacted]`.
    pub fn redacted_json(&self) -> Value {
        let pools = self
            .pools
            .iter()
            .map(|config| (config.pool.name.clone(), pool(config)));
        json!({
            "instance": { "name": self.instance.name, "workers": self.instance.workers },
            "admin": { "bind": self.admin.bind, "token_file": secret(self.admin.token.as_ref()) },
            "log": {
                "level": self.log.level,
                "format": match self.log.format {
                    LogFormat::Text => "text",
                    LogFormat::Json => "json",
                },
                "access": match self.log.access {
                    AccessLog::All => "all",
                    AccessLog::Errors => "errors",
                    AccessLog::Off => "off",
                },
            },
            "limits": {
                "max_connections": self.limits.max_connections,
                "handshakes_max": self.limits.handshakes_max,
                "buffers_max": format_size(self.limits.buffers_max as u64),
            },
            "drain": {
                "delay": duration(self.drain.delay),
                "grace": duration(self.drain.grace),
                "rate": self.drain.rate,
                "timeout": duration(self.drain.timeout),
            },
            "dns": {
                "servers": self.dns.servers,
                "timeout": duration(self.dns.timeout),
                "ttl_floor": duration(self.dns.ttl_floor),
                "ttl_ceiling": duration(self.dns.ttl_ceiling),
                "retry": duration(self.dns.retry),
            },
            "cluster": self.cluster.as_ref().map(cluster),
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "pools": pools.collect::<Map<_, _>>(),
        })
    }
}

fn duration(duration: Duration) -> Value {
    format_duration(duration).into()
}

fn secret(secret: Option<&Secret>) -> Option<&'static str> {
    secret.map(|_| REDACTED)
}

fn cluster(settings: &cluster::Settings) -> Value {
    let seed = |seed: &cluster::Seed| match seed {
        cluster::Seed::Host { host, port } if host.contains(':') => format!("[{host}]:{port}"),
        cluster::Seed::Host { host, port } => format!("{host}:{port}"),
        cluster::Seed::Srv(name) => format!("dns+srv://{name}"),
    };
    json!({
        "id": settings.id,
        "bind": settings.bind,
        "advertise": settings.advertise,
        "seeds": settings.seeds.iter().map(seed).collect::<Vec<_>>(),
        "keys_file": settings.keys_file.display().to_string(),
        "interval": duration(settings.interval),
    })
}

fn listener(settings: &Listener) -> Value {
    let relay = &settings.relay;
    json!({
        "name": settings.name,
        "bind": settings.bind,
        "protocol": settings.protocol,
        "pool": settings.pool,
        "tls": settings.tls.as_ref().map(tls),
        "backlog": settings.backlog,
        "max_connections": settings.max_connections,
        "max_connections_per_address": settings.max_connections_per_address,
        "preface_timeout": duration(relay.preface_timeout),
        "preface_bytes_max": format_size(relay.preface_bytes_max as u64),
        "join_timeout": duration(relay.join_timeout),
        "keep_alive_factor": relay.keep_alive_factor,
        "keep_alive_slack": duration(relay.keep_alive_slack),
        "idle_timeout": duration(relay.idle_timeout),
        "half_closed_timeout": duration(relay.half_closed_timeout),
        "tcp_keepalive": duration(relay.tcp_keepalive),
    })
}

fn tls(settings: &ServerSettings) -> Value {
    json!({
        "cert": settings.cert.display().to_string(),
        "key": settings.key.display().to_string(),
        "client_ca": settings.client_ca.as_ref().map(|path| path.display().to_string()),
        "client_auth": match settings.client_auth {
            ClientAuth::Required => "required",
            ClientAuth::Optional => "optional",
        },
        "min_version": match settings.min_version {
            MinVersion::Tls12 => "1.2",
            MinVersion::Tls13 => "1.3",
        },
        "cipher_order": match settings.cipher_order {
            CipherOrder::Server => "server",
            CipherOrder::Client => "client",
        },
        "alpn": settings.alpn,
    })
}

fn pool(config: &PoolConfig) -> Value {
    let settings = &config.pool;
    let (discover, endpoints) = source(&config.source);
    json!({
        "discover": discover,
        "endpoints": endpoints,
        "policy": settings.policy,
        "affinity": settings.affinity,
        "proxy_protocol": settings.proxy_protocol,
        "connect_timeout": duration(settings.connect_timeout),
        "connack_timeout": duration(settings.connack_timeout),
        "attempts_max": settings.attempts_max,
        "max_connections": settings.max_connections,
        "pending_max": settings.pending_max,
        "join_rate": settings.join_rate,
        "outlier": outlier(&settings.outlier),
        "health": health(&config.health),
    })
}

fn source(source: &Source) -> (Option<String>, Option<Vec<Value>>) {
    match source {
        Source::Dns(DnsSource::Srv { name }) => (Some(format!("dns+srv://{name}")), None),
        Source::Dns(DnsSource::Addresses {
            name, port, ipv4, ..
        }) => {
            let scheme = if *ipv4 { "dns+a" } else { "dns+aaaa" };
            (Some(format!("{scheme}://{name}:{port}")), None)
        }
        Source::Fixed(endpoints) => {
            let endpoints = endpoints.iter().map(|endpoint| {
                json!({
                    "address": endpoint.addr,
                    "weight": endpoint.weight,
                    "max_connections": endpoint.max_connections,
                })
            });
            (None, Some(endpoints.collect()))
        }
    }
}

fn outlier(settings: &OutlierSettings) -> Value {
    json!({
        "enabled": settings.enabled,
        "failures": settings.failures,
        "window": duration(settings.window),
        "ejection": duration(settings.ejection),
        "ejection_max": duration(settings.ejection_max),
        "ejected_share_max": settings.ejected_share_max,
    })
}

fn health(settings: &health::Settings) -> Value {
    let mut common = json!({
        "interval": duration(settings.interval),
        "fast_interval": duration(settings.fast_interval),
        "timeout": duration(settings.timeout),
        "rise": settings.rise,
        "fall": settings.fall,
        "shared": settings.shared,
        "probers": settings.probers,
    });
    let own = match &settings.probe {
        Probe::Tcp => json!({ "probe": "tcp" }),
        Probe::Http {
            path,
            port,
            expected_status,
            drain_status,
            fallback_path,
        } => json!({
            "probe": "http",
            "path": path,
            "port": port.unwrap_or(0),
            "expected_status": expected_status,
            "drain_status": drain_status.unwrap_or(0),
            "fallback_path": fallback_path.as_deref().unwrap_or_default(),
        }),
        Probe::Mqtt {
            version,
            client_id,
            username,
            password,
        } => json!({
            "probe": "mqtt",
            "version": version,
            "client_id": client_id,
            "username": username,
            "password": secret(password.as_ref()),
        }),
    };
    if let (Value::Object(common), Value::Object(own)) = (&mut common, own) {
        common.extend(own);
    }
    common
}
