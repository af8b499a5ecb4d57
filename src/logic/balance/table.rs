//! The rows of the picker: one per endpoint, the listed ones first and sorted by id, then the vanished ones that
//! still hold connections. The position among the listed is the index `b` of the echo policy: every instance with
//! the same discovery answer computes the same.

use super::row::{NO_TIER, Row, SlotKey};
use super::{Listing, PickerSettings, Refusal, Standing};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use std::time::Instant;

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
}

impl Table {
    pub(super) fn listed(&self) -> &[Row] {
        &self.rows[..self.listed]
    }

    pub(super) fn listed_mut(&mut self) -> &mut [Row] {
        &mut self.rows[..self.listed]
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

    /// Who is eligible. Excluded rows are shut until [`Table::readmit`].
    pub(super) fn survey(&mut self, excluded: &[EndpointId]) -> Result<Survey, Refusal> {
        for id in excluded {
            if let Some(row) = self.find_listed(*id) {
                row.gate = NO_TIER;
            }
        }
        let mut survey = Survey {
            tier: NO_TIER,
            eligible: 0,
        };
        for row in self.listed() {
            if row.gate < survey.tier {
                survey = Survey {
                    tier: row.gate,
                    eligible: 1,
                };
            } else {
                survey.eligible += u32::from(row.gate == survey.tier);
            }
        }
        if survey.tier == NO_TIER {
            Err(self.refusal(excluded))
        } else {
            Ok(survey)
        }
    }

    /// Undoes what [`Table::survey`] did for this request.
    pub(super) fn readmit(&mut self, excluded: &[EndpointId]) {
        for id in excluded {
            if let Some(row) = self.find_listed(*id) {
                row.regate();
            }
        }
    }

    fn find_listed(&mut self, id: EndpointId) -> Option<&mut Row> {
        let index = self.listed().binary_search_by_key(&id, |row| row.id).ok()?;
        self.rows.get_mut(index)
    }

    fn refusal(&self, excluded: &[EndpointId]) -> Refusal {
        let refusals = self
            .listed()
            .iter()
            .filter_map(|row| row.judge(excluded).err());
        refusals.max().unwrap_or(Refusal::NoEndpoint)
    }

    /// A new bound on pending connections for every row.
    pub(super) fn bound_pending(&mut self, pending_max: u32) {
        for row in &mut self.rows {
            row.bound_pending(pending_max);
        }
    }

    /// An attempt on an endpoint failed.
    pub(super) fn stumbled(&mut self, key: SlotKey, pending_max: u32) {
        let row = self.row_mut(key);
        row.failure_streak = row.failure_streak.saturating_add(1);
        row.bound_pending(pending_max);
    }

    /// An attempt succeeded. True if the endpoint is on trial.
    pub(super) fn succeeded(&mut self, key: SlotKey, pending_max: u32) -> bool {
        let row = self.row_mut(key);
        debug_assert!(row.pending > 0, "a connection is established once");
        row.pending = row.pending.saturating_sub(1);
        row.failure_streak = 0;
        row.unanswered = 0;
        row.bound_pending(pending_max);
        row.standing == Standing::Trial
    }

    /// Counts a dispatch on a listed row.
    pub(super) fn dispatch(&mut self, index: usize) -> &Row {
        let row = &mut self.rows[index];
        row.own += 1;
        row.pending += 1;
        row.unanswered = row.unanswered.saturating_add(1);
        row.dispatched += 1.0;
        row.tokens -= 1.0;
        row.regate();
        self.own_sum += 1;
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
        row.regate();
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
