//! One endpoint as the picker sees it, and whether it may take a connection.

use super::{Listing, PickerSettings, Refusal, Standing};
use crate::logic::endpoint::EndpointId;

/// Names a row for as long as connections are counted on it, whatever comes and goes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey(pub(super) u32);

/// Pending connections on an endpoint that failed more recently than it succeeded, or that was sent as many since its
/// last success. The second bounds the clients that a hung broker takes down with it before its first time-out: it
/// accepts, so nothing fails for seconds.
const PENDING_MAX_CAUTIOUS: u32 = 16;

/// A tier that nothing belongs to.
pub(super) const NO_TIER: u32 = u32::MAX;

/// One endpoint: what a pick reads.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: EndpointId,
    pub(super) key: SlotKey,
    pub(super) standing: Standing,
    pub(super) weight: f64,
    pub(super) weight_inverse: f64,
    /// Over the whole tier; infinite for none.
    pub(super) max_connections: f64,
    /// Own connections, pending and established.
    pub(super) own: u32,
    /// Those of `own` that wait for their CONNACK.
    pub(super) pending: u32,
    /// The most that may wait, as things stand: see [`Row::bound_pending`].
    pending_max: u32,
    /// The tier when nothing is in the way; [`NO_TIER`] when it is closed.
    tier_when_open: u32,
    /// Own dispatches ever. A float holds whole numbers exactly up to 2^53.
    pub(super) dispatched: f64,
    /// Sum over the live peers' records: S.
    pub(super) peers: f64,
    /// X of the echo: own dispatches since the peers' records were taken, in the peers' proportions, as of the last rebuild.
    pub(super) echo_base: f64,
    /// `dispatched` at the last rebuild: what came later is echoed in full.
    pub(super) dispatched_base: f64,
    /// The rank's offset on this row, 0 to 1.
    pub(super) theta: f64,
    /// Join cap tokens.
    pub(super) tokens: f64,
    /// Current value of smooth weighted round robin.
    pub(super) turn: f64,
    /// Of the id, for rendezvous.
    pub(super) hash: u64,
    /// Failed attempts since the last success.
    pub(super) failure_streak: u32,
    /// Dispatches since the last success.
    pub(super) unanswered: u32,
    /// The tier as things stand, [`NO_TIER`] = not eligible. Kept up to date by [`Row::regate`] at every change, so that
    /// a pick only looks.
    pub(super) gate: u32,
}

impl Row {
    /// Connections over the tier as far as records tell: T.
    pub(super) fn total(&self) -> f64 {
        f64::from(self.own) + self.peers
    }

    /// Eligible in the surveyed tier and within the join cap.
    pub(super) fn takes(&self, tier: u32) -> bool {
        self.gate == tier && self.tokens >= 1.0
    }

    /// Eligible in the surveyed tier, tokens or not.
    pub(super) const fn belongs(&self, tier: u32) -> bool {
        self.gate == tier
    }

    /// To be called when anything changes that the bound depends on.
    pub(super) fn bound_pending(&mut self, pending_max: u32) {
        self.pending_max = if self.standing == Standing::Trial {
            1
        } else if self.failure_streak > 0 {
            pending_max.min(PENDING_MAX_CAUTIOUS)
        } else {
            pending_max
        };
        self.regate();
    }

    /// To be called when anything changes that eligibility depends on, tokens and exclusions apart.
    pub(super) fn regate(&mut self) {
        self.gate = self.judge(&[]).unwrap_or(NO_TIER);
    }

    pub(super) fn judge(&self, excluded: &[EndpointId]) -> Result<u32, Refusal> {
        if self.tier_when_open == NO_TIER {
            Err(Refusal::NoEndpoint)
        } else if !excluded.is_empty() && excluded.contains(&self.id) {
            Err(Refusal::Excluded)
        } else if self.total() >= self.max_connections {
            Err(Refusal::Full)
        } else if self.pending >= self.pending_max || self.is_silent() {
            Err(Refusal::Pending)
        } else {
            Ok(self.tier_when_open)
        }
    }

    /// As many wait as an endpoint may have that has answered none of them.
    const fn is_silent(&self) -> bool {
        self.unanswered >= PENDING_MAX_CAUTIOUS && self.pending >= PENDING_MAX_CAUTIOUS
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let id = EndpointId(std::net::SocketAddr::from(([127, 0, 0, 1], 1883)));
        Self::new(id, SlotKey(0))
    }

    pub(super) fn new(id: EndpointId, key: SlotKey) -> Self {
        Self {
            id,
            key,
            standing: Standing::Closed,
            weight: 1.0,
            weight_inverse: 1.0,
            max_connections: f64::INFINITY,
            own: 0,
            pending: 0,
            pending_max: 0,
            tier_when_open: NO_TIER,
            dispatched: 0.0,
            peers: 0.0,
            echo_base: 0.0,
            dispatched_base: 0.0,
            theta: 0.0,
            tokens: f64::INFINITY,
            turn: 0.0,
            hash: super::rendezvous::hash_endpoint(id),
            failure_streak: 0,
            unanswered: 0,
            gate: NO_TIER,
        }
    }

    pub(super) fn list(&mut self, listing: &Listing, settings: &PickerSettings) {
        self.weight = f64::from(listing.weight.max(1));
        self.weight_inverse = self.weight.recip();
        let max = listing.max_connections.or(settings.max_connections);
        self.max_connections = max.map_or(f64::INFINITY, f64::from);
        self.standing = listing.standing;
        // Proven endpoints before unproven ones, then by priority.
        self.tier_when_open = match listing.standing {
            Standing::Closed => NO_TIER,
            Standing::Unproven => 1 << 16 | u32::from(listing.priority),
            Standing::Trial | Standing::Open => u32::from(listing.priority),
        };
        self.bound_pending(settings.pending_max);
    }
}
