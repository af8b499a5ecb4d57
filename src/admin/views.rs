//! What the admin API says, as plain values: the shapes of its JSON, and nothing of where they come from.

use crate::logic::endpoint::EndpointId;
use crate::logic::snapshot::EndpointState;
use crate::metrics::ListenerTotals;
use serde::Serialize;
use std::net::SocketAddr;

/// `GET /api/v1/status`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusView {
    /// The configured name of this instance.
    pub name: String,
    /// The version of the program.
    pub version: String,
    /// Where it is in its life: "starting", "serving", "draining" ...
    pub phase: String,
    /// Whether clients should be sent here, as `/readyz` says.
    pub ready: bool,
    /// Seconds since the start of the process.
    pub uptime_s: u64,
    /// Client connections open now.
    pub connections: u64,
    /// Client connections joined to an endpoint now.
    pub joined: u64,
    /// Live members of the tier, this instance included; 1 without a cluster.
    pub members: u32,
    /// Fingerprint of the pools' configuration, the same on instances that agree.
    pub config_fingerprint: String,
}

/// `GET /readyz`; shown without a token, so it holds names and no addresses.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Readiness {
    /// Whether clients should be sent here: 200 or 503.
    pub ready: bool,
    /// As in [`StatusView::phase`].
    pub phase: String,
    /// Pools without one eligible endpoint.
    pub pools_without_endpoint: Vec<String>,
    /// "off", "joined", or what is wrong ("alone: no seed answers"); being alone does not make unready.
    pub cluster: String,
}

/// One pool of `GET /api/v1/pools`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PoolView {
    /// The pool's name in the configuration.
    pub name: String,
    /// The balancing policy.
    pub policy: String,
    /// Number of the snapshot that this shows.
    pub snapshot: u64,
    /// Sum of the endpoints' own connections.
    pub own_connections: u64,
    /// Sum of the endpoints' connections over the tier.
    pub cluster_connections: u64,
    /// (max - min) / mean of the connections per weight over the tier's eligible endpoints; see [`spread`].
    pub spread: f64,
    /// Where the endpoints come from.
    pub discovery: DiscoveryView,
    /// The endpoints, sorted by address.
    pub endpoints: Vec<EndpointView>,
}

/// How the discovery of one pool goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DiscoveryView {
    /// What is asked: "fixed" or the `discover` key.
    pub source: String,
    /// Seconds since the last good answer; none for fixed endpoints and before the first one.
    pub last_success_age_s: Option<f64>,
    /// Whether the endpoints are older than they should be.
    pub stale: bool,
    /// The last error, while there is one.
    pub last_error: Option<String>,
}

/// One endpoint of a pool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EndpointView {
    /// Its address.
    pub address: EndpointId,
    /// The DNS name that led to it; empty for fixed addresses.
    pub name: String,
    /// Share of the connections relative to the others.
    pub weight: u16,
    /// SRV priority.
    pub priority: u16,
    /// The verdict.
    pub state: EndpointState,
    /// Whether probes and clients find it working.
    pub healthy: bool,
    /// Whether it takes new connections now.
    pub eligible: bool,
    /// Why, for people.
    pub why: String,
    /// Taken out by an operator.
    pub drain: bool,
    /// Connections of this instance, pending and established.
    pub own_connections: u64,
    /// Those of them that are not joined yet.
    pub own_pending: u64,
    /// Connections of all live members.
    pub cluster_connections: u64,
    /// Limit over the tier.
    pub max_connections: Option<u32>,
    /// Answer time of the last good probe, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Times that this instance chose it.
    pub picks_total: u64,
    /// Attempts that failed.
    pub failures_total: u64,
    /// Times that it was ejected.
    pub ejections_total: u64,
    /// What each member thinks of it; empty without a cluster.
    pub seen_by: Vec<SeenBy>,
}

/// One member's verdict on an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SeenBy {
    /// The member.
    pub member: String,
    /// Whether it finds the endpoint working.
    pub healthy: bool,
}

/// One member of `GET /api/v1/members`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its id: the configured name of the instance.
    pub id: String,
    /// Where it gossips; none without a cluster.
    pub address: Option<SocketAddr>,
    /// Its restart counter.
    pub generation: u64,
    /// Whether it counts.
    pub state: MemberState,
    /// Milliseconds since the origin wrote its last record; 0 for this instance.
    pub record_age_ms: u64,
    /// The version of its program; empty while unknown.
    pub version: String,
    /// Fingerprint of its pools' configuration; empty while unknown.
    pub config_fingerprint: String,
    /// Its client connections, over all pools.
    pub connections: u64,
    /// Whether this is the instance that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
}

/// Life of a member as its peers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberState {
    /// Counts.
    Alive,
    /// Said that it goes.
    Leaving,
    /// Not heard of any more; its counts are dropped.
    Dead,
}

/// One listener of `GET /api/v1/listeners`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListenerView {
    /// Where it accepts.
    pub bind: SocketAddr,
    /// What it reads before the pick: "mqtt", "tcp" ...
    pub protocol: String,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Its name, its pool and what it counted.
    #[serde(flatten)]
    pub totals: ListenerTotals,
}

/// How uneven a pool is: (max - min) / mean of connections per weight; 0 for fewer than two endpoints or no
/// connections.
pub fn spread(connections_per_weight: impl IntoIterator<Item = f64>) -> f64 {
    let (mut count, mut sum) = (0.0, 0.0);
    let (mut min, mut max) = (f64::INFINITY, 0.0_f64);
    for value in connections_per_weight {
        count += 1.0;
        sum += value;
        min = min.min(value);
        max = max.max(value);
    }
    if sum > 0.0 {
        (max - min) / (sum / count)
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_zero_for_level_and_empty_pools() {
        for (values, expected) in [
            (vec![], 0.0),
            (vec![0.0, 0.0], 0.0),
            (vec![7.0], 0.0),
            (vec![10.0, 10.0, 10.0], 0.0),
            (vec![9.0, 10.0, 11.0], 0.2),
            (vec![0.0, 2.0], 2.0),
        ] {
            assert!(
                (spread(values.clone()) - expected).abs() < 1e-9,
                "{values:?}"
            );
        }
    }

    #[test]
    fn member_says_self_and_words() {
        let member = MemberView {
            id: "lb-1".into(),
            address: None,
            generation: 3,
            state: MemberState::Alive,
            record_age_ms: 0,
            version: "1".into(),
            config_fingerprint: String::new(),
            connections: 0,
            is_self: true,
        };
        let json = serde_json::to_value(&member).unwrap();
        assert_eq!(
            (&json["self"], &json["state"]),
            (&true.into(), &"alive".into())
        );
    }
}
