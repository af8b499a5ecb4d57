//! What the members of the tier tell each other: one packed record per member and pool, and the drains that all share.
//!
//! Order of truth: a higher generation beats everything of a lower one; within a generation the higher version of a
//! pool's record wins. A version is the origin's own monotonic clock in microseconds, so that it is the order and,
//! through [`ClockOffset`](super::clock_offset::ClockOffset), the age in one number.

use crate::logic::endpoint::EndpointId;
use crate::logic::peer::PoolFacts;
use std::net::SocketAddr;

/// One member's facts about one pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolRecord {
    /// Microseconds on the origin's monotonic clock when the facts were read; strictly growing within a generation.
    pub version: u64,
    /// Fingerprint of the pool's configuration: members that differ here balance different things.
    pub fingerprint: u64,
    /// What the member counts and sees. All lists sorted, without duplicates.
    pub facts: PoolFacts,
}

impl PoolRecord {
    /// Whether the record says something that a reader of `other` does not know. The rate alone does not count: it
    /// decays by itself, and every reader knows how.
    pub fn differs(&self, other: &Self) -> bool {
        self.facts.counts != other.facts.counts || self.differs_beside_counts(other)
    }

    /// Whether verdicts or configuration differ.
    pub fn differs_beside_counts(&self, other: &Self) -> bool {
        self.fingerprint != other.fingerprint
            || self.facts.down != other.facts.down
            || self.facts.evacuating != other.facts.evacuating
    }
}

/// How far a member is on its way out. Never goes back within a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// Takes connections.
    #[default]
    Serving,
    /// Takes no new ones; what it still holds is real load on the endpoints and is still counted.
    Leaving,
    /// Holds none any more: its counts are zero from now on.
    Gone,
}

/// An operator's word on one endpoint, shared by all members: the last writer wins, whoever is still alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainFact {
    /// Name of the pool.
    pub pool: String,
    /// Which endpoint.
    pub endpoint: EndpointId,
    /// Drained (`true`) or given back (`false`).
    pub drained: bool,
    /// Unix milliseconds of the writer, pushed forward where needed to beat what the writer had seen.
    pub stamp_ms: u64,
    /// The member where it was said; breaks ties.
    pub by: String,
}

/// One message of a member about itself. Pushed as it is; in gossip, cut into one message per pool.
#[derive(Clone, Debug, PartialEq)]
pub struct MemberUpdate {
    /// The member's name.
    pub id: String,
    /// Its restart counter.
    pub generation: u64,
    /// Where its peers send to.
    pub addr: SocketAddr,
    /// Release of the binary, for people.
    pub release: String,
    /// Serving, leaving, gone.
    pub phase: Phase,
    /// The list of pools is complete: what is missing no longer exists.
    pub complete: bool,
    /// The origin's monotonic clock at sending, microseconds.
    pub sent_us: u64,
    /// Records by pool name.
    pub pools: Vec<(String, PoolRecord)>,
    /// Drains that the member knows of, its own and others'.
    pub drains: Vec<DrainFact>,
}
