//! Whom a new connection goes to.
//!
//! [`Picker`] holds this instance's own counts, what the peers last said, and one policy. Own counts are exact; the
//! peers' counts are their last record *plus an echo*: every peer runs the same rule, so since its record it has
//! dispatched about as this instance has, scaled by its rate. Alone, the echo policy is weighted least connections.
//!
//! Reading order: `row` and `table` (who may take a connection), `echo` (the default policy) with `history` and `rate`,
//! `join_cap`, the other policies, and `picker`, which joins them.
//!
//! Absent on purpose: locks, clocks and queues (see `pool`), verdicts on endpoints (see `pool_state`: they arrive as
//! [`Standing`]), and pushing records to peers (see `cluster`).

mod echo;
mod history;
mod join_cap;
mod picker;
mod random_two;
mod rate;
mod rendezvous;
mod round_robin;
mod row;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
mod shadow;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
#[expect(clippy::similar_names, reason = "what a picker picked")]
mod simulation;
mod table;
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
#[expect(clippy::similar_names, reason = "what a picker picked")]
mod tests;

pub use picker::{Picked, Picker};
pub use row::SlotKey;
pub use table::EndpointTraffic;

use crate::logic::endpoint::EndpointId;
use std::net::IpAddr;

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

/// What of a pool's configuration the picker needs.
#[derive(Clone, Debug, PartialEq)]
pub struct PickerSettings {
    /// Which rule decides.
    pub policy: Policy,
    /// What is tried before the policy.
    pub affinity: Affinity,
    /// Connections per endpoint over the whole tier, unless the endpoint has its own limit. It is held by own counts
    /// and the peers' records, so it may be overshot by what the peers dispatch to the endpoint before their record
    /// arrives: their rate times the push gap (10 to 100 ms) and the delay of the network.
    pub max_connections: Option<u32>,
    /// Own connections per endpoint that wait for their CONNACK, at least 1. 16 where the last attempt failed, and where
    /// none of the last 16 was answered.
    pub pending_max: u32,
    /// New connections per second and endpoint over the whole tier; 0 = no cap.
    pub join_rate: u32,
}

/// May an endpoint take new connections?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Down, ejected, full or draining: none.
    Closed,
    /// Nobody has proven it yet: when nothing proven is eligible.
    Unproven,
    /// On trial: one pending connection at a time.
    Trial,
    /// Yes.
    Open,
}

/// One endpoint of discovery's answer with its verdict, as the pool tells the picker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Which endpoint.
    pub id: EndpointId,
    /// Share of the connections, 1 to 65535; 0 is read as 1.
    pub weight: u16,
    /// The lowest value with an eligible endpoint is used.
    pub priority: u16,
    /// Connections over the whole tier; `None` takes [`PickerSettings::max_connections`].
    pub max_connections: Option<u32>,
    /// The verdict.
    pub standing: Standing,
}

/// What is known of the client when an endpoint is picked for it.
#[derive(Clone, Copy, Debug)]
pub struct PickRequest<'a> {
    /// Endpoints that failed for this client already.
    pub excluded: &'a [EndpointId],
    /// The client's address.
    pub source: IpAddr,
    /// What affinity hashes (client id or user name); `None` or empty leaves the choice to the policy.
    pub route_key: Option<&'a [u8]>,
}

/// Why nothing was picked. The order is that of precedence: the cause that ends soonest is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// No endpoint takes connections.
    NoEndpoint,
    /// Only endpoints that the request excludes do.
    Excluded,
    /// Those that do hold their `max_connections`.
    Full,
    /// At least one would, once a pending connection of ours is answered.
    Pending,
}

/// Why an endpoint was picked: the word in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PickReason {
    /// Least connections per weight over the tier.
    LeastConnections,
    /// Its turn.
    RoundRobin,
    /// The better of two.
    RandomTwo,
    /// The hash of the client address.
    Hash,
    /// The hash of the route key, and it had room.
    Affinity,
    /// Nothing else was eligible.
    OnlyOne,
    /// All were beyond `join_rate`; this one the least.
    JoinCapped,
    /// Nothing proven was eligible.
    Unproven,
    /// On trial after an ejection.
    HalfOpen,
}

impl PickReason {
    /// The log word.
    pub const fn label(self) -> &'static str {
        match self {
            Self::LeastConnections => "least_connections",
            Self::RoundRobin => "round_robin",
            Self::RandomTwo => "random_two",
            Self::Hash => "hash",
            Self::Affinity => "affinity",
            Self::OnlyOne => "only_one",
            Self::JoinCapped => "join_capped",
            Self::Unproven => "unproven",
            Self::HalfOpen => "half_open",
        }
    }
}

/// A count as a float.
#[expect(
    clippy::cast_precision_loss,
    reason = "connection counts stay below 2^53"
)]
const fn float(count: u64) -> f64 {
    count as f64
}

/// A float that holds a count, back.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of counts; `as` saturates"
)]
const fn whole(count: f64) -> u64 {
    count as u64
}
