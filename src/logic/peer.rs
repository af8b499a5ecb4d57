//! What one other member of the tier last said about one pool, as the picker needs it.

use crate::logic::endpoint::EndpointId;
use std::sync::Arc;
use std::time::Instant;

/// Connections per endpoint, sorted by endpoint. Shared: a record passes through the table of members, the view and the
/// picker, and who finds the same list again need not look into it.
pub type Counts = Arc<Vec<(EndpointId, u32)>>;

/// A peer's own connection counts at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerCounts {
    /// The peer's member id: its order among the live ids gives every instance its rank.
    pub id: Arc<str>,
    /// When the peer took the counts, on OUR clock: time of receipt minus the record's age. No clock is compared.
    pub taken_at: Instant,
    /// The peer's own dispatches per second (EWMA, tau 1 s).
    pub rate: f64,
    /// Pending + established connections that the peer itself holds, per endpoint.
    pub counts: Counts,
}

/// What this instance tells its peers about one pool: the outbound half of [`PeerCounts`] and of the health picture.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolFacts {
    /// Own pending + established connections per endpoint; zero counts included for known ones.
    pub counts: Counts,
    /// Own dispatches per second (EWMA, tau 1 s).
    pub rate: f64,
    /// Endpoints that this instance calls down or has ejected.
    pub down: Vec<EndpointId>,
    /// Endpoints that this instance's probes saw evacuating: drain for all.
    pub evacuating: Vec<EndpointId>,
}
