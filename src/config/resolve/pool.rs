//! `[pools.NAME]`: policy, limits, outlier ejection.

use super::instance::CONNECTIONS_MAX;
use super::words::{self, DAY, HOUR, ms, s};
use super::{health, source};
use crate::config::settings::PoolConfig;
use crate::config::table::Table;
use crate::pool::{Affinity, OutlierSettings, Policy, ProxyProtocol, Settings};

const POLICIES: [(&str, Policy); 4] = [
    ("least-connections", Policy::LeastConnections),
    ("round-robin", Policy::RoundRobin),
    ("random-two", Policy::RandomTwo),
    ("source-hash", Policy::SourceHash),
];

/// The words of `affinity`.
pub(super) const AFFINITIES: [(&str, Affinity); 4] = [
    ("none", Affinity::None),
    ("client-id", Affinity::ClientId),
    ("username", Affinity::Username),
    ("source", Affinity::Source),
];

const PROXY_PROTOCOLS: [(&str, ProxyProtocol); 3] = [
    ("off", ProxyProtocol::Off),
    ("v1", ProxyProtocol::V1),
    ("v2", ProxyProtocol::V2),
];

/// Reads one pool. `None` when it has no endpoints, which has been noted.
pub(super) fn pool(table: &Table<'_>, name: &str, instance_name: &str) -> Option<PoolConfig> {
    if !words::is_name(name) {
        let message = format!("not a name for a pool; {}", words::NAME_ALLOWED);
        table.context().mistake_at(table.path(), message);
    }
    let default = Settings::named(name);
    let duration = |key, low, high, default| {
        table
            .get(key, words::duration(low..=high))
            .unwrap_or(default)
    };
    let count = |key, range, default| table.get(key, words::integer(range)).unwrap_or(default);
    let policy = table.get("policy", words::word(&POLICIES));
    let affinity = table.get("affinity", words::word(&AFFINITIES));
    let proxy_protocol = table.get("proxy_protocol", words::word(&PROXY_PROTOCOLS));
    let pool = Settings {
        policy: policy.unwrap_or(default.policy),
        affinity: affinity.unwrap_or(default.affinity),
        proxy_protocol: proxy_protocol.unwrap_or(default.proxy_protocol),
        connect_timeout: duration("connect_timeout", ms(10), s(60), default.connect_timeout),
        connack_timeout: duration("connack_timeout", ms(10), s(60), default.connack_timeout),
        attempts_max: count("attempts_max", 1..=16, default.attempts_max),
        max_connections: table.get("max_connections", words::integer(1..=CONNECTIONS_MAX)),
        pending_max: count("pending_max", 1..=65_535, default.pending_max),
        join_rate: count("join_rate", 0..=1_000_000, default.join_rate),
        outlier: table.table("outlier", outlier),
        name: default.name,
    };
    let source = source::source(table);
    let proxy_protocol = pool.proxy_protocol;
    let health = table.table("health", |table| {
        health::health(table, proxy_protocol, instance_name)
    });
    Some(PoolConfig {
        pool,
        source: source?,
        health,
    })
}

fn outlier(table: &Table<'_>) -> OutlierSettings {
    let default = OutlierSettings::default();
    let duration = |key, low, high, default| {
        table
            .get(key, words::duration(low..=high))
            .unwrap_or(default)
    };
    let failures = table.get("failures", words::integer(1..=1000));
    let ejected_share_max = table.get("ejected_share_max", words::number(0.0..=1.0));
    let settings = OutlierSettings {
        enabled: table
            .get("enabled", words::boolean)
            .unwrap_or(default.enabled),
        failures: failures.unwrap_or(default.failures),
        window: duration("window", s(1), s(HOUR), default.window),
        ejection: duration("ejection", ms(100), s(HOUR), default.ejection),
        ejection_max: duration("ejection_max", ms(100), s(DAY), default.ejection_max),
        ejected_share_max: ejected_share_max.unwrap_or(default.ejected_share_max),
    };
    if settings.ejection > settings.ejection_max {
        let message = "below ejection; write an ejection_max that is at least the first ejection";
        table
            .context()
            .mistake_at(&table.path_of("ejection_max"), message);
    }
    settings
}
