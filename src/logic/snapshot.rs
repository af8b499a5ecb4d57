//! The published picture of one pool: immutable, numbered, for the admin API, metrics and the health checkers.

use crate::logic::endpoint::{EndpointId, Target};
use std::time::Duration;

/// A pool at one instant. Endpoints are sorted by id.
#[derive(Clone, Debug, Default)]
pub struct PoolSnapshot {
    /// Grows by one at every change.
    pub number: u64,
    /// The pool's name in the configuration.
    pub pool: String,
    /// All endpoints that are known or still hold connections.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint in a snapshot.
#[derive(Clone, Debug)]
pub struct EndpointView {
    /// What discovery said.
    pub target: Target,
    /// The verdict.
    pub state: EndpointState,
    /// Why, for people: "tcp probe: connection refused", "ejected: 5 refused in a row, back in 8 s".
    pub why: String,
    /// Taken out by an operator (here or, by gossip, elsewhere).
    pub drain: bool,
    /// The state is what other members see: told to people, and not told to other members as our own word.
    pub second_hand: bool,
    /// The last answer time of a good probe.
    pub latency: Option<Duration>,
}

impl EndpointView {
    /// The identity.
    pub fn id(&self) -> EndpointId {
        self.target.id
    }
}

/// Whether and why an endpoint takes new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// New in the pool, no probe has spoken yet; takes connections only when nothing proven does.
    Unproven,
    /// Healthy.
    Up,
    /// Healthy, on trial after an ejection: one pending connection at a time.
    HalfOpen,
    /// Takes no new connections, serves the old ones: operator, evacuation.
    Draining,
    /// Says of itself that it is full.
    Full,
    /// Ejected by its failures.
    Ejected,
    /// Probes failed `fall` times.
    Down,
    /// No longer in discovery's answer; serves the old ones.
    Vanished,
}

impl EndpointState {
    /// All states, in label order.
    pub const ALL: [Self; 8] = [
        Self::Unproven,
        Self::Up,
        Self::HalfOpen,
        Self::Draining,
        Self::Full,
        Self::Ejected,
        Self::Down,
        Self::Vanished,
    ];

    /// The word in API, metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Unproven => "unproven",
            Self::Up => "up",
            Self::HalfOpen => "half_open",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::Ejected => "ejected",
            Self::Down => "down",
            Self::Vanished => "vanished",
        }
    }
}
