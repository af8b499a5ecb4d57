//! The picker of one pool: own counts, the peers' records, one decision at a time.
//!
//! Not thread safe and never waits: `pool` keeps it in a mutex that is held for a pick. Nothing here allocates in
//! [`Picker::pick`].

use super::echo::{Echo, Peer};
use super::history::History;
use super::join_cap::JoinCap;
use super::rate::Rate;
use super::row::SlotKey;
use super::table::{EndpointTraffic, Survey, Table};
use super::{
    Affinity, Listing, PickReason, PickRequest, PickerSettings, Policy, Refusal, Standing,
    random_two, rendezvous, round_robin,
};
use crate::logic::endpoint::EndpointId;
use crate::logic::event::ConnectFailure;
use crate::logic::peer::PeerCounts;
use std::time::Instant;

/// See the module.
#[derive(Debug)]
pub struct Picker {
    settings: PickerSettings,
    epoch: Instant,
    table: Table,
    echo: Echo,
    history: History,
    rate: Rate,
    join_cap: JoinCap,
    rng: fastrand::Rng,
}

/// A dispatch: counted as pending on its endpoint until it is established, failed or released.
#[derive(Clone, Copy, Debug)]
pub struct Picked {
    /// For the calls that follow.
    pub key: SlotKey,
    /// Where to connect.
    pub endpoint: EndpointId,
    /// Why there.
    pub why: PickReason,
}

impl Picker {
    /// A picker without endpoints. `now` is the beginning of its time; `seed` feeds the random policies.
    pub fn new(settings: PickerSettings, seed: u64, now: Instant) -> Self {
        let join_cap = JoinCap::new(settings.join_rate);
        Self {
            settings,
            epoch: now,
            table: Table::default(),
            echo: Echo::default(),
            history: History::new(),
            rate: Rate::default(),
            join_cap,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Takes new settings. The endpoints' own limits come with the next [`Picker::set_endpoints`].
    pub fn configure(&mut self, settings: PickerSettings) {
        if settings.join_rate != self.settings.join_rate {
            self.join_cap
                .configure(settings.join_rate, self.table.listed_mut());
        }
        self.table.bound_pending(settings.pending_max);
        self.settings = settings;
    }

    /// Takes discovery's answer with the verdicts. Endpoints that are missing take no new connections, and are
    /// counted until their last connection ends.
    pub fn set_endpoints(&mut self, listings: &[Listing]) {
        let Some(origins) = self.table.list(listings, &self.settings) else {
            return;
        };
        self.history.remap(&origins);
        for (row, origin) in self.table.listed_mut().iter_mut().zip(origins) {
            if origin.is_none() {
                self.join_cap.fill(row);
                row.turn = 0.0;
            }
        }
        self.echo.sum(self.table.listed_mut());
    }

    /// Takes the last records of all live peers. `own_id` is this member's id, which gives the rank.
    pub fn set_peers(&mut self, own_id: &str, peers: Vec<PeerCounts>) {
        let peers = peers.into_iter().map(|peer| Peer {
            taken_at: self.seconds(peer.taken_at),
            id: peer.id,
            rate: peer.rate,
            counts: peer.counts,
        });
        self.echo
            .set_peers(own_id, peers.collect(), self.table.listed_mut());
    }

    /// Chooses an endpoint and counts the connection as pending there.
    ///
    /// # Errors
    /// The [`Refusal`] that ends soonest.
    pub fn pick(&mut self, now: Instant, request: &PickRequest<'_>) -> Result<Picked, Refusal> {
        let now = self.seconds(now);
        if self
            .echo
            .rebuild_if_due(now, &mut self.table, &self.history, &self.rate)
        {
            let members = self.echo.members();
            self.join_cap
                .share_by_rate(self.rate.at(now), self.echo.rates(), members);
        }
        self.join_cap.refill(now, self.table.listed_mut());
        let chosen = self
            .table
            .survey(request.excluded)
            .map(|survey| self.choose(request, survey));
        self.table.readmit(request.excluded);
        let (index, why) = chosen?.ok_or(Refusal::NoEndpoint)?;
        self.rate.count(now);
        self.history.note(now, index);
        let row = self.table.dispatch(index);
        let why = match row.standing {
            Standing::Unproven => PickReason::Unproven,
            Standing::Trial => PickReason::HalfOpen,
            Standing::Open | Standing::Closed => why,
        };
        Ok(Picked {
            key: row.key,
            endpoint: row.id,
            why,
        })
    }

    fn choose(&mut self, request: &PickRequest<'_>, survey: Survey) -> Option<(usize, PickReason)> {
        let tier = survey.tier;
        if survey.eligible > 1
            && let Some(choice) = self.choose_within_cap(request, tier)
        {
            return Some(choice);
        }
        // One is eligible, or none of several is within the join cap.
        let index = JoinCap::overdraw(self.table.listed_mut(), tier)?;
        let only = survey.eligible == 1;
        Some((
            index,
            if only {
                PickReason::OnlyOne
            } else {
                PickReason::JoinCapped
            },
        ))
    }

    fn choose_within_cap(
        &mut self,
        request: &PickRequest<'_>,
        tier: u32,
    ) -> Option<(usize, PickReason)> {
        if let Some(key) = self.affinity_key(request) {
            let unseen = self.echo.unseen();
            let sticky = rendezvous::choose_bounded(self.table.listed(), tier, key, unseen);
            if let Some(index) = sticky {
                return Some((index, PickReason::Affinity));
            }
            let index = self.echo.choose(&self.table, tier)?;
            return Some((index, PickReason::LeastConnections));
        }
        let (index, why) = match self.settings.policy {
            Policy::LeastConnections => (
                self.echo.choose(&self.table, tier),
                PickReason::LeastConnections,
            ),
            Policy::RoundRobin => (
                round_robin::choose(self.table.listed_mut(), tier),
                PickReason::RoundRobin,
            ),
            Policy::RandomTwo => (
                random_two::choose(self.table.listed(), tier, &mut self.rng),
                PickReason::RandomTwo,
            ),
            Policy::SourceHash => {
                let key = rendezvous::hash_source(request.source);
                (
                    rendezvous::choose(self.table.listed(), tier, key),
                    PickReason::Hash,
                )
            }
        };
        index.map(|index| (index, why))
    }

    fn affinity_key(&self, request: &PickRequest<'_>) -> Option<u64> {
        match self.settings.affinity {
            Affinity::None => None,
            Affinity::Source => Some(rendezvous::hash_source(request.source)),
            Affinity::ClientId | Affinity::Username => request
                .route_key
                .filter(|key| !key.is_empty())
                .map(rendezvous::hash_key),
        }
    }

    /// The broker has accepted the client. True if the endpoint is on trial: the verdict's owner wants to know.
    pub fn established(&mut self, key: SlotKey, now: Instant) -> bool {
        self.table.ledger_mut(key).last_success = Some(now);
        self.table.succeeded(key, self.settings.pending_max)
    }

    /// A pending connection failed. True if it was the last one of a vanished endpoint.
    pub fn failed(&mut self, key: SlotKey, failure: ConnectFailure) -> bool {
        self.table.ledger_mut(key).failures_total[failure.index()] += 1;
        if failure != ConnectFailure::Local {
            self.table.stumbled(key, self.settings.pending_max);
        }
        self.table.release(key, true)
    }

    /// An attempt failed in a way that the client may have caused: counted, and not held against the endpoint until
    /// [`Picker::blame`]. True as for [`Picker::failed`].
    pub fn suspected(&mut self, key: SlotKey, failure: ConnectFailure) -> bool {
        self.table.ledger_mut(key).failures_total[failure.index()] += 1;
        self.table.release(key, true)
    }

    /// Another endpoint has accepted the same client: the suspected one was at fault.
    pub fn blame(&mut self, id: EndpointId) {
        if let Some(key) = self.table.key_of(id) {
            self.table.stumbled(key, self.settings.pending_max);
        }
    }

    /// A connection ended, or was given up while `pending`. True if it was the last one of a vanished endpoint.
    pub fn release(&mut self, key: SlotKey, pending: bool) -> bool {
        self.table.release(key, pending)
    }

    /// The endpoint that a live connection is counted on.
    pub fn endpoint(&self, key: SlotKey) -> EndpointId {
        self.table.row(key).id
    }

    /// Whether the endpoint of a live connection is on trial after an ejection.
    pub fn is_on_trial(&self, key: SlotKey) -> bool {
        self.table.row(key).standing == Standing::Trial
    }

    /// Notes that an endpoint was ejected, for [`EndpointTraffic::ejections_total`].
    pub fn count_ejection(&mut self, id: EndpointId) {
        if let Some(key) = self.table.key_of(id) {
            self.table.ledger_mut(key).ejections_total += 1;
        }
    }

    /// Appends what was counted per endpoint: the listed ones sorted by id, then the vanished ones.
    pub fn traffic(&self, into: &mut Vec<EndpointTraffic>) {
        self.table.traffic(into);
    }

    /// Own connections per endpoint, sorted by id, for the record that peers get.
    pub fn counts(&self) -> Vec<(EndpointId, u32)> {
        let mut counts: Vec<_> = self
            .table
            .all()
            .iter()
            .map(|row| (row.id, row.own))
            .collect();
        counts.sort_unstable_by_key(|(id, _)| *id);
        counts
    }

    /// Own dispatches per second.
    pub fn rate(&self, now: Instant) -> f64 {
        self.rate.at(self.seconds(now))
    }

    /// Asserts what must hold between two calls, in debug builds.
    pub fn check_invariants(&self) {
        self.table.check_invariants();
    }

    /// On the picker's own clock. Instants before its beginning are negative, which only old records are.
    fn seconds(&self, at: Instant) -> f64 {
        match at.checked_duration_since(self.epoch) {
            Some(after) => after.as_secs_f64(),
            None => -self.epoch.duration_since(at).as_secs_f64(),
        }
    }
}
