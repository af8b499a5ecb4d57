//! The echo policy: least connections over the tier without a leader.
//!
//! A peer's record is old when it arrives. Naive argmin over old counts herds: all instances send to the same endpoint
//! until the next record. Here each instance adds to the peers' counts what they will have dispatched since, taking
//! its own dispatches since that instant, scaled by the ratio of the rates, as the estimate. A rank-staggered offset
//! (theta) makes the instances' integer roundings interleave, and a bounded term (shape) keeps each instance's own
//! connections distributed as the global ones are, so that the death of an instance does not tilt the rest.
//!
//! Names as in the design: S, X, rho, U, amp, P, f, T, V. With no peer rho, U and amp are 0, f is 1, the echo, theta and
//! shape terms vanish and V orders by (own + 0.5) / weight: exact weighted least connections.

use super::history::{History, Look};
use super::rate::Rate;
use super::row::Row;
use super::table::Table;
use crate::logic::endpoint::EndpointId;
use crate::logic::peer::Counts;
use crate::logic::push_schedule;
use std::sync::Arc;

/// Estimates are taken afresh when older than this.
const REBUILD_S: f64 = 0.005;

/// Added to the push gap: the way of a record and the peer's scheduling.
const PUSH_SLACK_S: f64 = 0.005;

/// Values closer than this are equal. Sums of fractions leave noise in the last digits, and noise must not choose:
/// instances whose choices are equal to the bit interleave, by the place where each begins to look.
const EQUAL: f64 = 1e-9;

/// Weight of what only decides between equals: more than the smallest stagger, far below one connection.
const TIE: f64 = 2e-3;

/// A peer's rate relative to the own one counts up to this.
const RATIO_MAX: f64 = 200.0;

/// A rate that no record may exceed: what comes from the network enters no formula unbounded.
const RATE_MAX: f64 = 1e6;

/// A live peer's last record.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) id: Arc<str>,
    /// On the picker's clock.
    pub(super) taken_at: f64,
    pub(super) rate: f64,
    pub(super) counts: Counts,
}

/// What is known of the peers, and the estimates made of it.
#[derive(Debug, Default)]
pub(super) struct Echo {
    peers: Vec<Peer>,
    /// Live peers with a smaller id.
    rank: u32,
    /// Where the scan begins: ties go to another endpoint at every rank.
    start: usize,
    /// Sum of S.
    peers_sum: f64,
    rho: f64,
    /// U: the peers' dispatches that cannot have been seen.
    unseen: f64,
    /// Sum of the peers' rates.
    rates: f64,
    /// `None` after a change: the next pick rebuilds.
    rebuilt_at: Option<f64>,
    /// Kept for its memory.
    looks: Vec<Look>,
}

impl Echo {
    /// Takes the records of all live peers; who is missing is gone. Adds up what changed in the rows, or all of it when
    /// members came or went.
    pub(super) fn set_peers(&mut self, own_id: &str, mut peers: Vec<Peer>, rows: &mut [Row]) {
        // The newest record of a member stands; a record of our own id is an echo of an earlier generation of us.
        peers.retain(|peer| *peer.id != *own_id);
        peers.sort_by(|a, b| a.id.cmp(&b.id).then(b.taken_at.total_cmp(&a.taken_at)));
        peers.dedup_by(|b, a| a.id == b.id);
        for peer in &mut peers {
            peer.rate = if peer.rate.is_finite() {
                peer.rate.clamp(0.0, RATE_MAX)
            } else {
                0.0
            };
        }
        let rank = peers.iter().filter(|peer| *peer.id < *own_id).count();
        self.rank = u32::try_from(rank).unwrap_or(0);
        let before = std::mem::replace(&mut self.peers, peers);
        let same = |(old, new): (&Peer, &Peer)| old.id == new.id;
        if before.len() != self.peers.len() || !before.iter().zip(&self.peers).all(same) {
            self.sum(rows);
            return;
        }
        self.rebuilt_at = None;
        for (old, new) in before.iter().zip(&self.peers) {
            if !Arc::ptr_eq(&old.counts, &new.counts) {
                add(rows, &old.counts, -1.0);
                add(rows, &new.counts, 1.0);
            }
        }
        self.settle(rows);
    }

    /// Live members, this one included.
    pub(super) fn members(&self) -> u32 {
        u32::try_from(self.peers.len()).unwrap_or(u32::MAX - 1) + 1
    }

    pub(super) const fn rates(&self) -> f64 {
        self.rates
    }

    pub(super) const fn unseen(&self) -> f64 {
        self.unseen
    }

    /// Sums the records over the listed endpoints: after a change of either.
    pub(super) fn sum(&mut self, rows: &mut [Row]) {
        self.rebuilt_at = None;
        let (members, rank) = (u64::from(self.members()), u64::from(self.rank));
        let endpoints = rows.len().max(1) as u64;
        self.start = (self.rank as usize * rows.len()) / self.members() as usize;
        for (index, row) in rows.iter_mut().enumerate() {
            let index = index as u64;
            // Integer arithmetic, so that all instances agree to the bit.
            let step = (rank + members - (index * members / endpoints) % members + index) % members;
            row.theta = f64::from(u32::try_from(step).unwrap_or(0)) / f64::from(self.members());
            row.peers = 0.0;
            row.echo_base = 0.0;
            row.dispatched_base = row.dispatched;
        }
        for peer in &self.peers {
            add(rows, &peer.counts, 1.0);
        }
        self.settle(rows);
    }

    fn settle(&mut self, rows: &mut [Row]) {
        rows.iter_mut().for_each(Row::regate);
        self.peers_sum = rows.iter().map(|row| row.peers).sum();
    }

    /// True if estimates were made anew.
    pub(super) fn rebuild_if_due(
        &mut self,
        now: f64,
        table: &mut Table,
        history: &History,
        rate: &Rate,
    ) -> bool {
        if self
            .rebuilt_at
            .is_some_and(|at| self.peers.is_empty() || now - at <= REBUILD_S)
        {
            return false;
        }
        self.rebuilt_at = Some(now);
        self.unseen = 0.0;
        self.rates = 0.0;
        self.looks.clear();
        let members = self.peers.len() + 1;
        for peer in &self.peers {
            // Peers push what changes: silence for longer than they may take to say it means that nothing changed.
            let silence = push_schedule::silence(members, peer.rate).as_secs_f64();
            let silent_since = now - silence - PUSH_SLACK_S;
            let taken_at = peer.taken_at.max(silent_since).min(now);
            self.looks.push(Look::new(taken_at, peer.rate));
            self.unseen += peer.rate * (now - taken_at);
            self.rates += peer.rate;
        }
        self.looks.sort_unstable_by(Look::newest_first);
        let ratio = |peer, own| f64::min(RATIO_MAX, (peer + 0.5) / (own + 0.5));
        self.rho = history.echo(now, rate, &mut self.looks, table.listed_mut(), ratio);
        true
    }

    /// The endpoint with the least V among the eligible.
    pub(super) fn choose(&self, table: &Table, tier: u32) -> Option<usize> {
        let rows = table.listed();
        let members = f64::from(self.members());
        let amp = (self.rho + 1.0).min(members).min(self.unseen);
        let bound = (amp / 2.0).max(0.45);
        let stagger = amp.max(1e-3);
        let own_sum = super::float(table.own_sum());
        let sum = own_sum + self.peers_sum;
        let own_share = if sum > 0.0 { own_sum / sum } else { 1.0 };
        // Nobody dispatches unseen: what is level is level, and ties would go to one endpoint for ever. They go to the one
        // that has had the fewest, so that clients which come and go one at a time are spread as well.
        let quiet = amp < TIE;
        let had = |row: &Row| row.dispatched * row.weight_inverse;
        let fewest = if quiet {
            let open = rows.iter().filter(|row| row.takes(tier));
            open.map(had).fold(f64::INFINITY, f64::min)
        } else {
            0.0
        };
        let tie = |row: &Row| {
            if quiet {
                TIE * (had(row) - fewest).min(1.0)
            } else {
                0.0
            }
        };
        let value = |row: &Row| {
            let total = row.total();
            let echo = row.echo_base + self.rho * (row.dispatched - row.dispatched_base);
            let shape = (0.5 * (f64::from(row.own) - own_share * total))
                .max(-bound)
                .min(bound);
            (total + 0.5 + echo + stagger * row.theta + shape + tie(row)) * row.weight_inverse
        };

        let start = self.start.min(rows.len());
        let mut best = None;
        let mut least = f64::INFINITY;
        for (index, row) in rows[start..].iter().enumerate() {
            if row.takes(tier) && value(row) < least - EQUAL {
                (best, least) = (Some(start + index), value(row));
            }
        }
        for (index, row) in rows[..start].iter().enumerate() {
            if row.takes(tier) && value(row) < least - EQUAL {
                (best, least) = (Some(index), value(row));
            }
        }
        best
    }
}

/// Adds a peer's counts to the rows, or takes them off again: whole numbers, so nothing is left over.
fn add(rows: &mut [Row], counts: &[(EndpointId, u32)], sign: f64) {
    // Records are sorted as the rows are, and mostly name the same endpoints: look at the next row first.
    let mut next = 0;
    for (id, count) in counts {
        if rows.get(next).is_none_or(|row| row.id != *id) {
            match rows.binary_search_by_key(id, |row| row.id) {
                Ok(index) => next = index,
                Err(_) => continue,
            }
        }
        rows[next].peers += sign * f64::from(*count);
        next += 1;
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "any instant does as a beginning")]
mod tests {
    use super::*;
    use crate::logic::balance::{
        Affinity, Listing, PickRequest, Picker, PickerSettings, Policy, Standing,
    };
    use crate::logic::peer::PeerCounts;
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    /// theta as the design writes it.
    fn theta(rank: u64, n: u64, b: u64, endpoints: u64) -> u64 {
        (rank + n - (b * n / endpoints) % n + b) % n
    }

    #[test]
    fn offsets_are_a_permutation_over_the_ranks_at_every_endpoint() {
        for (n, endpoints) in [(1, 3), (3, 3), (5, 10), (3, 7), (10, 4)] {
            for b in 0..endpoints {
                let mut offsets: Vec<u64> =
                    (0..n).map(|rank| theta(rank, n, b, endpoints)).collect();
                offsets.sort_unstable();
                assert_eq!(offsets, (0..n).collect::<Vec<_>>(), "n {n}, endpoint {b}");
            }
        }
    }

    fn endpoint(index: u8) -> EndpointId {
        EndpointId((Ipv4Addr::new(10, 0, 0, index), 1883).into())
    }

    fn pair(now: Instant) -> Picker {
        let settings = PickerSettings {
            policy: Policy::LeastConnections,
            affinity: Affinity::None,
            max_connections: None,
            pending_max: 1000,
            join_rate: 0,
        };
        let mut picker = Picker::new(settings, 1, now);
        let listing = |id, standing| Listing {
            id,
            weight: 1,
            priority: 0,
            max_connections: None,
            standing,
        };
        picker.set_endpoints(&[
            listing(endpoint(1), Standing::Open),
            listing(endpoint(2), Standing::Open),
        ]);
        picker
    }

    fn request() -> PickRequest<'static> {
        PickRequest {
            excluded: &[],
            source: IpAddr::V4(Ipv4Addr::LOCALHOST),
            route_key: None,
        }
    }

    fn record(id: &str, taken_at: Instant, rate: f64, counts: &[(u8, u32)]) -> PeerCounts {
        let counts = counts
            .iter()
            .map(|(index, count)| (endpoint(*index), *count))
            .collect();
        PeerCounts {
            id: id.into(),
            taken_at,
            rate,
            counts: Arc::new(counts),
        }
    }

    #[test]
    fn peers_connections_count_as_own() {
        let now = Instant::now();
        let mut picker = pair(now);
        picker.set_peers("b", vec![record("a", now, 0.0, &[(1, 10)])]);
        // Every own dispatch counts twice: the peer, of whom no rate is known, is taken to do the same.
        for _ in 0..5 {
            assert_eq!(picker.pick(now, &request()).unwrap().endpoint, endpoint(2));
        }
        assert_eq!(picker.pick(now, &request()).unwrap().endpoint, endpoint(1));
    }

    #[test]
    fn unknown_endpoints_of_a_peer_and_own_records_are_left_out() {
        let now = Instant::now();
        let mut picker = pair(now);
        let mine = record("b", now, 0.0, &[(1, 50)]);
        picker.set_peers("b", vec![mine, record("a", now, 0.0, &[(2, 3), (9, 1000)])]);
        assert_eq!(picker.pick(now, &request()).unwrap().endpoint, endpoint(1));
    }

    #[test]
    fn a_member_counts_once_by_its_newest_record() {
        let now = Instant::now();
        let mut picker = pair(now);
        let old = record("a", now, 0.0, &[(1, 9)]);
        let new = record("a", now + Duration::from_millis(1), 0.0, &[(2, 9)]);
        picker.set_peers("b", vec![old, new]);
        let mut traffic = Vec::new();
        picker.traffic(&mut traffic);
        assert_eq!(
            traffic
                .iter()
                .map(|endpoint| endpoint.peers)
                .collect::<Vec<_>>(),
            [0, 9]
        );
    }

    #[test]
    fn a_lost_peer_takes_its_counts_along() {
        let now = Instant::now();
        let mut picker = pair(now);
        picker.set_peers("b", vec![record("a", now, 5.0, &[(1, 10)])]);
        picker.set_peers("b", vec![]);
        assert_eq!(picker.pick(now, &request()).unwrap().endpoint, endpoint(1));
    }

    #[test]
    fn foreign_rates_that_are_no_numbers_change_nothing() {
        for rate in [f64::NAN, f64::INFINITY, -5.0] {
            let now = Instant::now();
            let mut picker = pair(now);
            picker.set_peers("b", vec![record("a", now, rate, &[(1, 2)])]);
            assert_eq!(
                picker.pick(now, &request()).unwrap().endpoint,
                endpoint(2),
                "{rate}"
            );
        }
    }
}
