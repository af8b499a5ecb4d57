//! The rows of the picker: one per endpoint, the listed ones first and sorted by id, then the vanished ones that
//! still hold connections. The position among the listed is the index `b` of the echo policy: every instance with
//! the same discovery answer computes the same.

use super::{Listing, PickRequest, PickerSettings, Refusal, Standing};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use std::time::Instant;

/// Names a row for as long as connections are counted on it, whatever comes and goes beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey(pub(super) u32);

/// Pending connections on an endpoint that failed more recently than it succeeded, or that has been silent while as
/// many were sent to it. The second is what bounds the clients that a hung broker takes down with it before its first
/// time-out: it accepts, so nothing fails for seconds.
const PENDING_MAX_CAUTIOUS: u32 = 16;

/// A tier that nothing belongs to.
const NO_TIER: u32 = u32::MAX;

/// One endpoint: what a pick reads.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: EndpointId,
    pub(super) key: SlotKey,
    pub(super) standing: Standing,
    pub(super) weight: f64,
    pub(super) weight_inverse: f64,
    pub(super) priority: u16,
    /// Over the whole tier; `u32::MAX` for none.
    pub(super) max_connections: u32,
    /// Own connections, pending and established.
    pub(super) own: u32,
    /// Those of `own` that wait for their CONNACK.
    pub(super) pending: u32,
    /// Own dispatches ever. A float holds whole numbers exactly up to 2^53.
    pub(super) dispatched: f64,
    /// Sum over the live peers' records: S.
    pub(super) peers: f64,
    /// X of the echo: minus what was dispatched before the peers' records were taken, in their proportions.
    pub(super) echo_base: f64,
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
    unanswered: u32,
    /// Result of the last survey; [`NO_TIER`] = not eligible.
    tier: u32,
}

impl Row {
    /// Connections over the tier as far as records tell: T.
    pub(super) fn total(&self) -> f64 {
        f64::from(self.own) + self.peers
    }

    /// Eligible in the surveyed tier and within the join cap.
    pub(super) fn takes(&self, tier: u32) -> bool {
        self.tier == tier && self.tokens >= 1.0
    }

    /// Eligible in the surveyed tier, tokens or not.
    pub(super) const fn belongs(&self, tier: u32) -> bool {
        self.tier == tier
    }

    fn pending_max(&self, pending_max: u32) -> u32 {
        if matches!(self.standing, Standing::Trial) {
            1
        } else if self.failure_streak > 0 || self.unanswered >= PENDING_MAX_CAUTIOUS {
            pending_max.min(PENDING_MAX_CAUTIOUS)
        } else {
            pending_max
        }
    }

    /// A client was accepted. True if the endpoint is on trial.
    pub(super) fn succeed(&mut self) -> bool {
        debug_assert!(self.pending > 0, "a connection is established once");
        self.pending = self.pending.saturating_sub(1);
        self.failure_streak = 0;
        self.unanswered = 0;
        self.standing == Standing::Trial
    }

    /// Proven endpoints before unproven ones, then by priority.
    fn tier_when_open(&self) -> u32 {
        u32::from(self.standing == Standing::Unproven) << 16 | u32::from(self.priority)
    }

    fn judge(&self, request: &PickRequest<'_>, pending_max: u32) -> Result<u32, Refusal> {
        if self.standing == Standing::Closed {
            Err(Refusal::NoEndpoint)
        } else if !request.excluded.is_empty() && request.excluded.contains(&self.id) {
            Err(Refusal::Excluded)
        } else if self.max_connections != u32::MAX
            && self.total() >= f64::from(self.max_connections)
        {
            Err(Refusal::Full)
        } else if self.pending >= self.pending_max(pending_max) {
            Err(Refusal::Pending)
        } else {
            Ok(self.tier_when_open())
        }
    }

    #[cfg(test)]
    pub(super) fn for_test() -> Self {
        let id = EndpointId(std::net::SocketAddr::from(([127, 0, 0, 1], 1883)));
        Self::new(id, SlotKey(0))
    }

    fn new(id: EndpointId, key: SlotKey) -> Self {
        Self {
            id,
            key,
            standing: Standing::Closed,
            weight: 1.0,
            weight_inverse: 1.0,
            priority: 0,
            max_connections: u32::MAX,
            own: 0,
            pending: 0,
            dispatched: 0.0,
            peers: 0.0,
            echo_base: 0.0,
            theta: 0.0,
            tokens: f64::INFINITY,
            turn: 0.0,
            hash: super::rendezvous::hash_endpoint(id),
            failure_streak: 0,
            unanswered: 0,
            tier: NO_TIER,
        }
    }

    fn list(&mut self, listing: &Listing, settings: &PickerSettings) {
        self.weight = f64::from(listing.weight.max(1));
        self.weight_inverse = self.weight.recip();
        self.priority = listing.priority;
        self.max_connections = listing
            .max_connections
            .or(settings.max_connections)
            .unwrap_or(u32::MAX);
        self.standing = listing.standing;
    }
}

/// Totals of an endpoint that no pick reads.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) picks_total: u64,
    pub(super) ejections_total: u64,
    pub(super) failures_total: [u64; ConnectFailure::LABELS.len()],
    pub(super) last_success: Option<Instant>,
}

/// What the picker counted on one endpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointTraffic {
    /// Which endpoint.
    pub id: EndpointId,
    /// In discovery's answer.
    pub listed: bool,
    /// Own connections, pending and established.
    pub own: u32,
    /// Those of `own` that wait for their CONNACK.
    pub pending: u32,
    /// The peers' connections, by their last records.
    pub peers: u64,
    /// Dispatches since the endpoint came.
    pub picks_total: u64,
    /// Ejections since the endpoint came.
    pub ejections_total: u64,
    /// Failed attempts by [`ConnectFailure::index`].
    pub failures_total: [u64; ConnectFailure::LABELS.len()],
    /// Failed attempts since the last success, `ConnectFailure::Local` left out.
    pub failures_in_row: u32,
    /// The last time that a connection was established.
    pub last_success: Option<Instant>,
}

/// What a survey found: somebody is eligible.
#[derive(Clone, Copy, Debug)]
pub(super) struct Survey {
    /// The tier that is used.
    pub(super) tier: u32,
    /// Eligible endpoints in it.
    pub(super) eligible: u32,
    /// At least one of them is within the join cap.
    pub(super) within_cap: bool,
}

/// All rows.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    listed: usize,
    /// By key.
    ledgers: Vec<Ledger>,
    /// Key to row; `usize::MAX` for a free key.
    row_of: Vec<usize>,
    free: Vec<SlotKey>,
    /// Sum of `own` over the listed rows.
    own_sum: u64,
    /// Sum of `dispatched` over the listed rows.
    dispatched_sum: f64,
}

impl Table {
    pub(super) fn listed(&self) -> &[Row] {
        &self.rows[..self.listed]
    }

    pub(super) fn listed_mut(&mut self) -> &mut [Row] {
        &mut self.rows[..self.listed]
    }

    pub(super) const fn dispatched_sum(&self) -> f64 {
        self.dispatched_sum
    }

    pub(super) const fn own_sum(&self) -> u64 {
        self.own_sum
    }

    /// Takes over a new list. If it names the same endpoints as before, `None`: rows stay where they are, which is the
    /// common case (a verdict changed) and cheap. Else, per listed row, the listed row that it was before.
    pub(super) fn list(
        &mut self,
        listings: &[Listing],
        settings: &PickerSettings,
    ) -> Option<Vec<Option<usize>>> {
        let mut sorted: Vec<&Listing> = listings.iter().collect();
        sorted.sort_by_key(|listing| listing.id);
        sorted.dedup_by_key(|listing| listing.id);
        if sorted
            .iter()
            .map(|listing| listing.id)
            .eq(self.listed().iter().map(|row| row.id))
        {
            for (row, listing) in self.listed_mut().iter_mut().zip(sorted) {
                row.list(listing, settings);
            }
            return None;
        }
        let ids: Vec<EndpointId> = self.listed().iter().map(|row| row.id).collect();
        let mut before: Vec<Option<Row>> = std::mem::take(&mut self.rows)
            .into_iter()
            .map(Some)
            .collect();
        let mut vanished = before.split_off(ids.len());
        let mut origins = Vec::with_capacity(sorted.len());
        let mut rows = Vec::with_capacity(sorted.len());
        for listing in sorted {
            let origin = ids.binary_search(&listing.id).ok();
            let known = match origin {
                Some(index) => before[index].take(),
                None => vanished
                    .iter_mut()
                    .find(|row| row.as_ref().is_some_and(|row| row.id == listing.id))
                    .and_then(Option::take),
            };
            let mut row = known.unwrap_or_else(|| Row::new(listing.id, self.new_key()));
            row.list(listing, settings);
            origins.push(origin);
            rows.push(row);
        }
        self.listed = rows.len();
        for row in before.into_iter().chain(vanished).flatten() {
            self.keep_if_used(row, &mut rows);
        }
        self.rows = rows;
        for (index, row) in self.rows.iter().enumerate() {
            self.row_of[row.key.0 as usize] = index;
        }
        self.own_sum = self.listed().iter().map(|row| u64::from(row.own)).sum();
        self.dispatched_sum = self.listed().iter().map(|row| row.dispatched).sum();
        self.check_invariants();
        Some(origins)
    }

    /// A row that is listed no more.
    fn keep_if_used(&mut self, mut row: Row, rows: &mut Vec<Row>) {
        if row.own == 0 {
            self.free_key(row.key);
            return;
        }
        row.standing = Standing::Closed;
        row.peers = 0.0;
        rows.push(row);
    }

    /// Who is eligible: marks the rows with their tier.
    pub(super) fn survey(
        &mut self,
        request: &PickRequest<'_>,
        pending_max: u32,
    ) -> Result<Survey, Refusal> {
        let mut survey = Survey {
            tier: NO_TIER,
            eligible: 0,
            within_cap: false,
        };
        let mut refusal = Refusal::NoEndpoint;
        for row in &mut self.rows[..self.listed] {
            row.tier = NO_TIER;
            match row.judge(request, pending_max) {
                Ok(tier) => {
                    row.tier = tier;
                    if tier < survey.tier {
                        survey = Survey {
                            tier,
                            eligible: 0,
                            within_cap: false,
                        };
                    }
                    if tier == survey.tier {
                        survey.eligible += 1;
                        survey.within_cap |= row.tokens >= 1.0;
                    }
                }
                Err(cause) => refusal = refusal.max(cause),
            }
        }
        if survey.eligible == 0 {
            Err(refusal)
        } else {
            Ok(survey)
        }
    }

    /// Counts a dispatch on a listed row.
    pub(super) fn dispatch(&mut self, index: usize) -> &Row {
        let row = &mut self.rows[index];
        row.own += 1;
        row.pending += 1;
        row.unanswered = row.unanswered.saturating_add(1);
        row.dispatched += 1.0;
        row.tokens -= 1.0;
        self.own_sum += 1;
        self.dispatched_sum += 1.0;
        self.ledgers[row.key.0 as usize].picks_total += 1;
        row
    }

    pub(super) fn ledger_mut(&mut self, key: SlotKey) -> &mut Ledger {
        &mut self.ledgers[key.0 as usize]
    }

    pub(super) fn row(&self, key: SlotKey) -> &Row {
        &self.rows[self.row_of[key.0 as usize]]
    }

    pub(super) fn row_mut(&mut self, key: SlotKey) -> &mut Row {
        &mut self.rows[self.row_of[key.0 as usize]]
    }

    /// The key of a known endpoint.
    pub(super) fn key_of(&self, id: EndpointId) -> Option<SlotKey> {
        self.rows.iter().find(|row| row.id == id).map(|row| row.key)
    }

    /// One connection less. True if it was the last one of a vanished endpoint.
    pub(super) fn release(&mut self, key: SlotKey, pending: bool) -> bool {
        let index = self.row_of[key.0 as usize];
        let row = &mut self.rows[index];
        debug_assert!(row.own >= u32::from(pending), "a connection ends once");
        row.own = row.own.saturating_sub(1);
        row.pending = row.pending.saturating_sub(u32::from(pending));
        let emptied = row.own == 0;
        if index < self.listed {
            self.own_sum = self.own_sum.saturating_sub(1);
            return false;
        }
        if emptied {
            self.rows.swap_remove(index);
            if let Some(moved) = self.rows.get(index) {
                self.row_of[moved.key.0 as usize] = index;
            }
            self.free_key(key);
        }
        emptied
    }

    /// Appends what was counted, the listed endpoints first.
    pub(super) fn traffic(&self, into: &mut Vec<EndpointTraffic>) {
        into.extend(self.rows.iter().enumerate().map(|(index, row)| {
            let ledger = &self.ledgers[row.key.0 as usize];
            EndpointTraffic {
                id: row.id,
                listed: index < self.listed,
                own: row.own,
                pending: row.pending,
                peers: super::whole(row.peers),
                picks_total: ledger.picks_total,
                ejections_total: ledger.ejections_total,
                failures_total: ledger.failures_total,
                failures_in_row: row.failure_streak,
                last_success: ledger.last_success,
            }
        }));
    }

    /// All rows, the vanished ones too.
    pub(super) fn all(&self) -> &[Row] {
        &self.rows
    }

    fn new_key(&mut self) -> SlotKey {
        self.free.pop().unwrap_or_else(|| {
            let key = u32::try_from(self.row_of.len()).expect("fewer than 2^32 endpoints");
            self.row_of.push(usize::MAX);
            self.ledgers.push(Ledger::default());
            SlotKey(key)
        })
    }

    fn free_key(&mut self, key: SlotKey) {
        self.row_of[key.0 as usize] = usize::MAX;
        self.ledgers[key.0 as usize] = Ledger::default();
        self.free.push(key);
    }

    /// Asserts what must hold between two calls; for debug builds and the simulation.
    pub(super) fn check_invariants(&self) {
        debug_assert!(
            self.listed().is_sorted_by(|a, b| a.id < b.id),
            "listed rows are sorted"
        );
        debug_assert!(
            self.rows.iter().all(|row| row.pending <= row.own),
            "pending is a part of own"
        );
        debug_assert!(
            self.rows
                .iter()
                .enumerate()
                .all(|(at, row)| self.row_of[row.key.0 as usize] == at),
            "every key leads to its row"
        );
        debug_assert!(
            self.own_sum
                == self
                    .listed()
                    .iter()
                    .map(|row| u64::from(row.own))
                    .sum::<u64>(),
            "the sum is the sum"
        );
    }
}
